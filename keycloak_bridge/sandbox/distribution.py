"""From nothing to programs that can be started: pinned downloads, their cache, and a prepared Keycloak.

`artifacts.lock.json` pins every file of several versions by its checksum. A file enters the cache only whole and verified. Keycloak's
distribution is unpacked and built once, and started once for its database, so that each later start is short.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from threading import Event, Lock
from types import MappingProxyType
from typing import Any

import requests

from keycloak_bridge.ops.private_files import replace_file
from keycloak_bridge.sandbox.options import (
    FAST_START,
    Downloads,
    Progress,
    SandboxCancelled,
    SandboxError,
)
from keycloak_bridge.sandbox.processes import (
    LOOPBACK,
    Java,
    ManagedProcess,
    child_environment,
    find_java,
    loopback_port,
)

LOCK_FILE = "artifacts.lock.json"
CACHE_VARIABLE = "KEYCLOAK_BRIDGE_CACHE"
VERSION_VARIABLES = {"keycloak": "SANDBOX_KEYCLOAK_VERSION", "kafka": "SANDBOX_KAFKA_VERSION"}
BUILD_OPTIONS = ("--db=dev-file", "--https-client-auth=request")
ADMIN_USERNAME = "admin"
_PARALLEL_DOWNLOADS = 6
_DOWNLOAD_TIMEOUT_S = 20
_PREPARE_TIMEOUT_S = 300.0
_SHARED = ("lib", "conf", "providers", "themes")
_OPENED = ("java.util", "java.util.concurrent", "java.security", "java.lang")
_THREAD_FACTORY = "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory"
_JVM = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MetaspaceSize=96M",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
    f"-Djava.util.concurrent.ForkJoinPool.common.threadFactory={_THREAD_FACTORY}",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
    # Keycloak 26.0 builds on a newer Java than its Byte Buddy knows only when told to try
    "-Dnet.bytebuddy.experimental=true",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--enable-native-access=ALL-UNNAMED",
)


class Distribution:
    """Fills the cache with what the lock file pins, and hands out the programs."""

    def __init__(
        self,
        cache: Path,
        progress: Progress,
        downloads: Downloads,
        cancelled: Event,
        versions: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        self.logs = cache / "logs"
        self._versions = versions
        self._cache = cache
        self._progress = progress
        self._downloads = downloads
        self._cancelled = cancelled

    @cached_property
    def java(self) -> Java:
        """Return the Java runtime, looked for once."""
        return find_java()

    def kafka_jars(self) -> list[Path]:
        """Return Kafka's jars, fetched and verified."""
        with exclusive(self._cache, "kafka", self._cancelled):
            return self._fetch("kafka", self._locked("kafka").artifacts)

    def keycloak(self) -> "PreparedKeycloak":
        """Return Keycloak, fetched, verified and prepared."""
        pinned = self._locked("keycloak")
        target = prepared_folder(self._cache, pinned)
        with exclusive(self._cache, "keycloak", self._cancelled):
            if not target.exists():
                (archive,) = self._fetch("keycloak", pinned.artifacts)
                prepare(archive, target, self.java, self.logs, self._progress, self._cancelled)
        return PreparedKeycloak(target)

    @property
    def keycloak_version(self) -> tuple[int, ...]:
        """Return the version of Keycloak, such as (26, 7, 5)."""
        return tuple(int(part) for part in self._locked("keycloak").version.split("."))

    def _locked(self, program: str) -> "ArtifactSet":
        return locked(program, self._versions.get(program))

    def _fetch(self, program: str, artifacts: Sequence["Artifact"]) -> list[Path]:
        return fetch(artifacts, self._cache, partial(self._downloads, program), self._cancelled)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of Maven Central, named by its coordinates and pinned by its checksum."""

    group: str
    name: str
    version: str
    packaging: str
    sha256: str
    size: int
    classifier: str = ""

    @property
    def file_name(self) -> str:
        """Return the name Maven gives the file."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"

    @property
    def path(self) -> Path:
        """Return the place in a Maven repository."""
        return Path(*self.group.split("."), self.name, self.version, self.file_name)


@dataclass(frozen=True, slots=True)
class ArtifactSet:
    """Everything one program needs, first the artifact that names it."""

    version: str
    artifacts: tuple[Artifact, ...]


def locked(program: str, version: str | None = None) -> ArtifactSet:
    """Return what the lock file pins for `keycloak` or `kafka`; raises SandboxError for a version it does not have.

    Without a version the variable of VERSION_VARIABLES chooses, else the lock file's default.
    """
    entry = lock_file()[program]
    variable = VERSION_VARIABLES[program]
    chosen = version or os.environ.get(variable) or entry["default"]
    if chosen not in entry["versions"]:
        raise SandboxError(
            f"The sandbox has no {program.capitalize()} {chosen}: choose one of {', '.join(entry['versions'])} "
            f"with --{program} or {variable}."
        )
    return ArtifactSet(chosen, tuple(Artifact(**item) for item in entry["versions"][chosen]))


def lock_file() -> dict[str, Any]:
    """Return the content of the lock file: of each program the default and its versions, oldest first."""
    text = files("keycloak_bridge.sandbox").joinpath(LOCK_FILE).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


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
    """Lock a part of the cache, so that two sandboxes never fill it at the same time."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = (cache / f".{part}.lock").open("w")
    except OSError as error:
        raise SandboxError(
            f"The cache {cache} cannot be written ({error.strerror}): "
            f"name another folder in {CACHE_VARIABLE}."
        ) from error
    with handle:
        while True:
            try:
                fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled.wait(0.2):
                    raise SandboxCancelled("The start was given up.") from None
        yield


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(
    artifacts: Sequence[Artifact],
    cache: Path,
    listener: Callable[[int, int], None],
    cancelled: Event,
) -> list[Path]:
    """Return the verified files, downloading those that the cache lacks.

    A file that was damaged in the cache is deleted and downloaded again. With a full cache nothing is asked of the
    network. `listener` is called with the bytes so far and in total, from any thread, one call at a time.
    """
    repository = cache / "maven"
    missing = [artifact for artifact in artifacts if not _intact(repository, artifact)]
    if missing:
        total = _DownloadProgress(sum(artifact.size for artifact in missing), listener, cancelled)
        _download_all(missing, repository, total)
    return [repository / artifact.path for artifact in artifacts]


def _intact(repository: Path, artifact: Artifact) -> bool:
    path = repository / artifact.path
    if path.exists() and sha256_of(path) != artifact.sha256:
        path.unlink()
    return path.exists()


class _DownloadProgress:
    """Adds up the bytes of several downloads, and stops them all when asked to."""

    def __init__(self, total: int, listener: Callable[[int, int], None], cancelled: Event) -> None:
        self._total = total
        self._listener = listener
        self._cancelled = cancelled
        self._lock = Lock()
        self._done = 0

    @contextmanager
    def track(self, file_name: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        """Give jgo the function that it calls with each chunk."""
        yield self._advance

    def _advance(self, count: int) -> None:
        if self._cancelled.is_set():
            raise SandboxCancelled("The download was given up.")
        with self._lock:
            self._done += count
            self._listener(self._done, self._total)


def _download_all(
    missing: Sequence[Artifact], repository: Path, progress: _DownloadProgress
) -> None:
    repository.mkdir(parents=True, exist_ok=True)
    # jgo writes straight to the final name and only warns of a wrong checksum: it is given a
    # scratch repository, and a file moves over only when it is whole and verified.
    with (
        tempfile.TemporaryDirectory(prefix=".incoming-", dir=repository.parent) as scratch,
        ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="download") as pool,
    ):
        downloads = [
            pool.submit(_download, artifact, Path(scratch), repository, progress)
            for artifact in missing
        ]
        try:
            for download in downloads:
                download.result()
        finally:
            for download in downloads:
                download.cancel()


def _download(
    artifact: Artifact, scratch: Path, repository: Path, progress: _DownloadProgress
) -> None:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415  (the sandbox extra)

    context = MavenContext(
        resolver=PythonResolver(progress_callback=progress.track),
        repo_cache=scratch,
        timeout=_DOWNLOAD_TIMEOUT_S,
    )
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        chosen = component.artifact(artifact.classifier, artifact.packaging)
        incoming = Path(chosen.resolve())
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise SandboxError(
            f"{artifact.file_name} could not be fetched from Maven Central "
            f"({type(error).__name__}): check the network or the proxy settings and try again; "
            "what is already here is kept."
        ) from error
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


@dataclass(frozen=True, slots=True)
class PreparedKeycloak:
    """A built Keycloak that is shared read-only, and a database to start from.

    The database holds Keycloak's schema and the master realm with one administrator. Creating these at every start
    would take as long as everything else together.
    """

    folder: Path

    @property
    def server(self) -> Path:
        """Return the folder of the unpacked distribution."""
        return self.folder / "server"

    @property
    def admin_password(self) -> str:
        """Return the password of the administrator in the prepared database."""
        password: str = json.loads((self.folder / "admin.json").read_text())["password"]
        return password

    def lay_out(self, home: Path) -> None:
        """Make a home folder of its own for one server, with a fresh copy of the database."""
        link_home(self.server, home)
        shutil.copytree(self.folder / "h2", home / "data" / "h2", dirs_exist_ok=True)


def prepared_folder(cache: Path, pinned: ArtifactSet) -> Path:
    """Return where Keycloak is once this very archive is prepared with these build options."""
    recipe = "\n".join((pinned.artifacts[0].sha256, *BUILD_OPTIONS))
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    return cache / f"keycloak-{pinned.version}-{digest[:12]}"


def link_home(server: Path, home: Path) -> None:
    """Make a home folder that shares everything with the distribution but its data."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        (home / name).symlink_to(server / name)


def server_command(
    java: Java, server: Path, home: Path, arguments: Sequence[str], extra: Sequence[str] = ()
) -> list[str]:
    """Return the command line that `kc.sh` would build, without the shell around it."""
    return [
        java.executable,
        *_JVM,
        *extra,
        f"-Dkc.home.dir={home}",
        f"-Djboss.server.config.dir={home / 'conf'}",
        "-cp",
        str(server / "lib" / "quarkus-run.jar"),
        "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        *arguments,
    ]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The certificate of a server with its chain, its key, and the authority that signed it and those of clients (PEM)."""

    certificate: Path
    key: Path
    authority: Path


def http_arguments(public_url: str, port: int, tls: ServerTls | None = None) -> list[str]:
    """Return the options of a start that listens on the loopback interface only, with `tls` for nothing but https."""
    if tls is None:
        listens = ["--http-enabled=true", f"--http-port={port}"]
    else:
        listens = [
            "--http-enabled=false",
            f"--https-port={port}",
            f"--https-certificate-file={tls.certificate}",
            f"--https-certificate-key-file={tls.key}",
            f"--https-trust-store-file={tls.authority}",
        ]
    return [
        "start",
        "--optimized",
        "--cache=local",
        *listens,
        f"--http-host={LOOPBACK}",
        f"--hostname={public_url}",
        # Links in mails carry the public host even when the caller used another name.
        "--hostname-backchannel-dynamic=true",
        # H2 writes up to half a second late by default: a kill would lose acknowledged users.
        "--db-url-properties=;WRITE_DELAY=0",
    ]


def status_of(url: str, timeout_s: float = 5, *, authority: Path | None = None) -> int | None:
    """Return the status of a GET of the URL, or None when nothing answers in that time or `authority` has not signed its certificate."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy between this machine and its own loopback address
        try:
            verify = True if authority is None else str(authority)
            return session.get(url, timeout=timeout_s, verify=verify).status_code
        except requests.RequestException:
            return None


def prepare(
    archive: Path, target: Path, java: Java, logs: Path, progress: Progress, cancelled: Event
) -> None:
    """Unpack, build and start the distribution once, so that each later start is short.

    The result appears in `target` as a whole or not at all.
    """
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=target.parent) as scratch:
        staging = Path(scratch) / "keycloak"
        progress("keycloak", "preparing", "unpacking (once)")
        with zipfile.ZipFile(archive) as content:
            content.extractall(staging)
        (unpacked,) = staging.iterdir()
        unpacked.rename(staging / "server")
        progress("keycloak", "preparing", "building (once, about half a minute)")
        _build(java, staging / "server", logs, cancelled)
        progress("keycloak", "preparing", "creating its database (once, about 20 s)")
        _create_database(java, staging, logs, cancelled)
        os.replace(staging, target)  # noqa: PTH105  (replaces an empty leftover too)


def _build(java: Java, server: Path, logs: Path, cancelled: Event) -> None:
    process = ManagedProcess("Keycloak's build", logs / "keycloak-build.log")
    command = server_command(java, server, server, ["build", *BUILD_OPTIONS], FAST_START)
    process.spawn(command, child_environment())
    try:
        process.wait_for_end(cancelled, _PREPARE_TIMEOUT_S, "build the distribution")
    finally:
        process.kill()


def _create_database(java: Java, staging: Path, logs: Path, cancelled: Event) -> None:
    password, home = secrets.token_urlsafe(18), staging / "home"
    port = loopback_port(0, "Keycloak")
    link_home(staging / "server", home)
    arguments = http_arguments(f"http://localhost:{port}", port)
    process = ManagedProcess("Keycloak's first start", logs / "keycloak-first-start.log")
    process.spawn(
        server_command(java, staging / "server", home, arguments, FAST_START),
        child_environment()
        | {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN_USERNAME, "KC_BOOTSTRAP_ADMIN_PASSWORD": password},
    )
    url = f"http://{LOOPBACK}:{port}/realms/master"
    try:
        process.wait(
            lambda: status_of(url) == HTTPStatus.OK, cancelled, _PREPARE_TIMEOUT_S, "it answered"
        )
    finally:
        process.stop()
    (home / "data" / "h2").rename(staging / "h2")
    shutil.rmtree(home)
    credentials = staging / "admin.json"
    replace_file(credentials, json.dumps({"password": password}).encode())
