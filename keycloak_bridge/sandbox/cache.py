"""The folder that outlives a sandbox: downloads and what is prepared from them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.errors import SandboxCancelled, SandboxError

CACHE_VARIABLE = "KEYCLOAK_BRIDGE_CACHE"


def cache_dir(chosen: Path | None = None) -> Path:
    """Return the cache folder: `chosen`, else KEYCLOAK_BRIDGE_CACHE, else the user's cache."""
    if chosen is not None:
        return chosen.absolute()
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path  # noqa: PLC0415  (only with the sandbox extra)

    return user_cache_path("keycloak-bridge")


@contextmanager
def exclusive(cache: Path, part: str, cancelled: Event) -> Iterator[None]:
    """Hold a part of the cache alone, so that two sandboxes never fill it at once."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = (cache / f".{part}.lock").open("w")
    except OSError as error:
        raise SandboxError(
            f"The cache {cache} cannot be written ({error.strerror}): "
            f"name another folder in {CACHE_VARIABLE}."
        ) from error
    with handle:
        while not _locked(handle.fileno()):
            if cancelled.wait(0.2):
                raise SandboxCancelled("The start was given up.")
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
