"""Bring users from Kafka into Keycloak: a sidecar beside the identity provider."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("keycloak-bridge")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
