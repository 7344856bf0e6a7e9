"""The schemas of events, results, invitations and dead letters; data only."""
