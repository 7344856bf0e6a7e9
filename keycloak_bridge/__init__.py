"""Bring users from Kafka into Keycloak: a sidecar beside the identity provider."""

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`, which takes long to find; raises AttributeError for any other name."""
    if name != "__version__":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        found = version("keycloak-bridge")
    except PackageNotFoundError:  # a source tree that was never installed
        found = "0.0.0"
    globals()[name] = found
    return found
