"""Bring users from Kafka into Keycloak: a sidecar beside the identity provider."""

__version__ = "0.2.0"
"""The one place of the version: the package's metadata, messages, metrics, headers and the man page read it."""
