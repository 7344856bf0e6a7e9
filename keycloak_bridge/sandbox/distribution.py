"""Keycloak's distribution, unpacked and made ready once for all sandboxes.

From nothing to programs that can be started: downloads first, then one-time preparation.
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Event

import requests

from keycloak_bridge.sandbox.artifacts import BytesListener, exclusive, fetch, locked
from keycloak_bridge.sandbox.java import LOOPBACK, Java, child_environment, loopback_port
from keycloak_bridge.sandbox.options import FAST_START, Downloads, Progress
from keycloak_bridge.sandbox.processes import ManagedProcess

BUILD_OPTIONS = ("--db=dev-file",)
ADMIN_USERNAME = "admin"
_SHARED = ("lib", "conf", "providers", "themes")
_TIMEOUT_S = 300.0
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
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--enable-native-access=ALL-UNNAMED",
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A built Keycloak that is shared read-only, and a database to start from.

    The database holds Keycloak's schema and the master realm with one administrator, which would
    otherwise be made anew at every start and take as long as everything else together.
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


def http_arguments(public_url: str, port: int) -> list[str]:
    """Return the options of a start that listens on the loopback interface only."""
    return [
        "start",
        "--optimized",
        "--cache=local",
        "--http-enabled=true",
        f"--http-host={LOOPBACK}",
        f"--http-port={port}",
        f"--hostname={public_url}",
        # Links in mails carry the public host even when the caller used another name.
        "--hostname-backchannel-dynamic=true",
        # H2 writes up to half a second late by default: a kill would lose acknowledged users.
        "--db-url-properties=;WRITE_DELAY=0",
    ]


def status_of(url: str) -> int | None:
    """Return the status of a GET of the URL, or None when nothing answers."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business with a loopback address
        try:
            return session.get(url, timeout=5).status_code
        except requests.RequestException:
            return None


def prepared_folder(cache: Path, version: str, sha256: str) -> Path:
    """Return where the distribution stands once it is prepared in this very way."""
    recipe = hashlib.sha256("\n".join((sha256, *BUILD_OPTIONS)).encode()).hexdigest()
    return cache / f"keycloak-{version}-{recipe[:12]}"


def prepare(
    archive: Path, target: Path, java: Java, logs: Path, progress: Progress, cancelled: Event
) -> None:
    """Unpack, build and start the distribution once, so that each later start is short.

    The result appears in `target` as a whole or not at all.
    """
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=target.parent) as scratch:
        staging = Path(scratch) / "keycloak"
        progress("keycloak", "preparing", "unpacking (once)")
        _unpack(archive, staging)
        progress("keycloak", "preparing", "building (once, about half a minute)")
        _build(java, staging / "server", logs, cancelled)
        progress("keycloak", "preparing", "creating its database (once, about 20 s)")
        _create_database(java, staging, logs, cancelled)
        os.replace(staging, target)  # noqa: PTH105  (replaces an empty leftover too)


def _unpack(archive: Path, staging: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        content.extractall(staging)
    (unpacked,) = staging.iterdir()
    unpacked.rename(staging / "server")


def _build(java: Java, server: Path, logs: Path, cancelled: Event) -> None:
    process = ManagedProcess("Keycloak's build", logs / "keycloak-build.log")
    command = server_command(java, server, server, ["build", *BUILD_OPTIONS], FAST_START)
    process.start(command, child_environment())
    try:
        process.wait_for_end(cancelled, _TIMEOUT_S, "build the distribution")
    finally:
        process.kill()


def _create_database(java: Java, staging: Path, logs: Path, cancelled: Event) -> None:
    password, home = secrets.token_urlsafe(18), staging / "home"
    port = loopback_port(0, "Keycloak")
    link_home(staging / "server", home)
    arguments = http_arguments(f"http://localhost:{port}", port)
    process = ManagedProcess("Keycloak's first start", logs / "keycloak-first-start.log")
    process.start(
        server_command(java, staging / "server", home, arguments, FAST_START),
        child_environment()
        | {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN_USERNAME, "KC_BOOTSTRAP_ADMIN_PASSWORD": password},
    )
    try:
        url = f"http://{LOOPBACK}:{port}/realms/master"
        process.wait(lambda: status_of(url) == HTTPStatus.OK, cancelled, _TIMEOUT_S, "it answered")
    finally:
        process.stop()
    (home / "data" / "h2").rename(staging / "h2")
    shutil.rmtree(home)
    credentials = staging / "admin.json"
    credentials.touch(mode=0o600)
    credentials.write_text(json.dumps({"password": password}))


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
