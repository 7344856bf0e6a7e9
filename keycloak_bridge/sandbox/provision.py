"""From nothing to programs that can be started: downloads first, then one-time preparation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.artifacts import BytesListener, fetch, locked
from keycloak_bridge.sandbox.cache import exclusive
from keycloak_bridge.sandbox.distribution import Distribution, prepare, prepared_folder
from keycloak_bridge.sandbox.java import Java
from keycloak_bridge.sandbox.options import Downloads, Progress


class Provision:
    """Fills the cache with what the lock file pins, and hands it out."""

    def __init__(
        self,
        cache: Path,
        java: Callable[[], Java],
        progress: Progress,
        downloads: Downloads | None,
        cancelled: Event,
    ) -> None:
        self.logs = cache / "logs"
        self._cache = cache
        self._find_java = java
        self._java: Java | None = None
        self._progress = progress
        self._downloads = downloads
        self._cancelled = cancelled

    def java(self) -> Java:
        """Return the Java runtime, looked for once."""
        if self._java is None:
            self._java = self._find_java()
        return self._java

    def kafka_jars(self) -> list[Path]:
        """Return Kafka's jars, fetched and verified."""
        pinned = locked("kafka")
        with exclusive(self._cache, "kafka", self._cancelled):
            return fetch(pinned.artifacts, self._cache, self._listener("kafka"), self._cancelled)

    def keycloak(self) -> Distribution:
        """Return Keycloak, fetched, verified and prepared."""
        pinned = locked("keycloak")
        zipped = pinned.artifacts[0]
        target = prepared_folder(self._cache, pinned.version, zipped.sha256)
        with exclusive(self._cache, "keycloak", self._cancelled):
            if not target.exists():
                (archive,) = fetch(
                    [zipped], self._cache, self._listener("keycloak"), self._cancelled
                )
                prepare(archive, target, self.java(), self.logs, self._progress, self._cancelled)
        return Distribution(target)

    def _listener(self, component: str) -> BytesListener:
        if self._downloads is not None:
            return partial(self._downloads, component)
        return _Steps(component, self._progress)


class _Steps:
    """Reports a download in steps of ten percent, for those who want lines and not bars."""

    def __init__(self, component: str, progress: Progress) -> None:
        self._component = component
        self._progress = progress
        self._step = -1

    def __call__(self, done: int, total: int) -> None:
        """Take notice of some more bytes."""
        step = 10 * done // total
        if step > self._step:
            self._step = step
            detail = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
            self._progress(self._component, "fetching", detail)
