"""Write users to Keycloak: one by one, or in batches while a backlog stands."""
