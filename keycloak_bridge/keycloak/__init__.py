"""The Admin REST API of Keycloak, and its rules for users."""
