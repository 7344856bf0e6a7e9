"""The doctor: what can be checked in settings, Kafka, Keycloak and the realm."""
