"""Pinned artifacts: which files, with which checksums, and how they come into the cache.

The folder that outlives a sandbox: downloads and what is prepared from them.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from threading import Event, Lock

import requests

from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError

LOCK_FILE = "artifacts.lock.json"
_PARALLEL_DOWNLOADS = 6
_TIMEOUT_S = 20

BytesListener = Callable[[int, int], None]
"""Called with the bytes so far and in total, from any thread, one call at a time."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of Maven Central, named by its coordinates and held to its checksum."""

    group: str
    name: str
    version: str
    packaging: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """Return the name Maven gives the file."""
        return f"{self.name}-{self.version}.{self.packaging}"

    @property
    def path(self) -> Path:
        """Return the place in a Maven repository."""
        return Path(*self.group.split("."), self.name, self.version, self.file_name)


@dataclass(frozen=True, slots=True)
class ArtifactSet:
    """Everything one program needs, first the artifact that names it."""

    version: str
    artifacts: tuple[Artifact, ...]


def locked(program: str) -> ArtifactSet:
    """Return what the lock file pins for `keycloak` or `kafka`."""
    text = files("keycloak_bridge.sandbox").joinpath(LOCK_FILE).read_text(encoding="utf-8")
    entry = json.loads(text)[program]
    return ArtifactSet(entry["version"], tuple(Artifact(**item) for item in entry["artifacts"]))


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(
    artifacts: Sequence[Artifact],
    cache: Path,
    listener: BytesListener,
    cancelled: Event,
) -> list[Path]:
    """Return the verified files, downloading those that the cache lacks.

    A file enters the cache only whole and with the right checksum; one that was damaged there
    is deleted and fetched anew. Nothing is asked of the network when the cache is full.
    """
    repository = cache / "maven"
    missing = [artifact for artifact in artifacts if not _intact(repository, artifact)]
    if missing:
        tally = _Tally(sum(artifact.size for artifact in missing), listener, cancelled)
        _download_all(missing, repository, tally)
    return [repository / artifact.path for artifact in artifacts]


def _intact(repository: Path, artifact: Artifact) -> bool:
    path = repository / artifact.path
    if not path.exists():
        return False
    if sha256_of(path) == artifact.sha256:
        return True
    path.unlink()
    return False


class _Tally:
    """Adds up the bytes of several downloads, and stops them all when asked to."""

    def __init__(self, total: int, listener: BytesListener, cancelled: Event) -> None:
        self._total = total
        self._listener = listener
        self._cancelled = cancelled
        self._guard = Lock()
        self._done = 0

    @contextmanager
    def track(self, file_name: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        """Give jgo the function that it calls with each chunk."""
        yield self._advance

    def _advance(self, count: int) -> None:
        if self._cancelled.is_set():
            raise SandboxCancelled("The download was given up.")
        with self._guard:
            self._done += count
            self._listener(self._done, self._total)


def _download_all(missing: Sequence[Artifact], repository: Path, tally: _Tally) -> None:
    repository.mkdir(parents=True, exist_ok=True)
    # jgo writes straight to the final name and only warns of a wrong checksum: it is given a
    # scratch repository, and a file moves over only when it is whole and verified.
    with (
        tempfile.TemporaryDirectory(prefix=".incoming-", dir=repository.parent) as scratch,
        ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="download") as pool,
    ):
        downloads = [
            pool.submit(_download, artifact, Path(scratch), repository, tally)
            for artifact in missing
        ]
        try:
            for download in downloads:
                download.result()
        finally:
            for download in downloads:
                download.cancel()


def _download(artifact: Artifact, scratch: Path, repository: Path, tally: _Tally) -> None:
    incoming = _resolve(artifact, scratch, tally)
    found = sha256_of(incoming)
    if found != artifact.sha256:
        incoming.unlink()
        raise SandboxError(
            f"{artifact.file_name} from Maven Central has the SHA-256 {found} where {LOCK_FILE} "
            f"pins {artifact.sha256}: it was deleted and not run. Try again; if it stays so, "
            "something between Maven Central and here changes files."
        )
    target = repository / artifact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming.replace(target)


def _resolve(artifact: Artifact, scratch: Path, tally: _Tally) -> Path:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415  (the sandbox extra)

    context = MavenContext(
        resolver=PythonResolver(progress_callback=tally.track),
        repo_cache=scratch,
        timeout=_TIMEOUT_S,
    )
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        return Path(component.artifact(packaging=artifact.packaging).resolve())
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise SandboxError(
            f"{artifact.file_name} could not be fetched from Maven Central "
            f"({type(error).__name__}): check the network or the proxy settings and try again; "
            "what is already here is kept."
        ) from error


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
