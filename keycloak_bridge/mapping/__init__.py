"""From an event to the desired Keycloak user, as the mapping file says."""
