"""Write users to Keycloak: one by one, or in batches while there is a backlog."""
