"""The records that the bridge publishes: results, invitations and dead letters."""
