"""The benchmark: how fast users come into Keycloak, by the bridge and by a client that does nothing else."""
