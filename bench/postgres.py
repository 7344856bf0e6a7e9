"""The same Keycloak on a PostgreSQL of its own, where PostgreSQL's programs are installed."""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from threading import Event

from bench.publish import say
from bench.services import Services
from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions
from keycloak_bridge.sandbox.detached import terminable
from keycloak_bridge.sandbox.distribution import (
    ADMIN_USERNAME,
    cache_dir,
    http_arguments,
    link_home,
    locked,
    prepared_folder,
    server_command,
    status_of,
)
from keycloak_bridge.sandbox.options import FAST_START
from keycloak_bridge.sandbox.processes import (
    LOOPBACK,
    ManagedProcess,
    accepts_connections,
    child_environment,
    find_java,
    loopback_port,
)
from keycloak_bridge.sandbox.services import Service
from keycloak_bridge.testing.realm_tools import RealmAdministrator

INDEX = "CREATE INDEX user_attribute_lower_value ON user_attribute (name, lower(value))"
"""What Keycloak's search by attribute needs in a large realm (docs/keycloak.md)."""
DATABASE_VARIABLE = "SANDBOX_TEST_DATABASE"
"""What is under the Keycloak of the tests: H2, or PostgreSQL (`make matrix`)."""
_OWNER = "keycloak"
_TIMEOUT_S = 400.0
_DEBIAN = "/usr/lib/postgresql"


def installed() -> bool:
    """Tell whether a PostgreSQL server can be started here."""
    found = all(_program(name) for name in ("initdb", "postgres", "psql"))
    return found and (os.getuid() != 0 or shutil.which("setpriv") is not None)


@contextlib.contextmanager
def keycloak_on_postgres(sandbox: Sandbox, java_options: Sequence[str]) -> Iterator[Services]:
    """Lend services whose Keycloak stands on a fresh PostgreSQL; Kafka and mail are the sandbox's."""
    with services_on_postgres(sandbox, java_options) as (services, _):
        yield services


@contextlib.contextmanager
def sandbox_on_postgres(
    java_options: Sequence[str],
) -> Iterator[tuple[Services, "PostgresServer"]]:
    """Lend services with their database, in a sandbox of its own; raises SandboxError."""
    options = SandboxOptions(keycloak_java_options=tuple(java_options))
    with terminable(), Sandbox(options) as sandbox:
        sandbox.keycloak.stop()
        say("starting Keycloak on PostgreSQL")
        with services_on_postgres(sandbox, java_options) as found:
            yield found


@contextlib.contextmanager
def services_on_postgres(
    sandbox: Sandbox, java_options: Sequence[str]
) -> Iterator[tuple[Services, "PostgresServer"]]:
    """Lend the same services with their database."""
    with tempfile.TemporaryDirectory(prefix="keycloak-bridge-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        database = PostgresServer(folder / "postgres")
        keycloak = KeycloakOnPostgres(folder / "keycloak", database.port, java_options)
        try:
            database.start()
            keycloak.build()
            keycloak.start()
            database.sql(INDEX)
            administrator = RealmAdministrator(
                keycloak.url, ADMIN_USERNAME, keycloak.admin_password
            )
            pid = keycloak.pid or 0
            services = Services(sandbox, keycloak.url, pid, administrator, database.tidy)
            yield services, database
        finally:
            keycloak.stop()
            database.stop()


class PostgresServer(Service):
    """A throw-away cluster on a loopback port, as safe with its data as it is by default."""

    def __init__(self, folder: Path) -> None:
        super().__init__("PostgreSQL", folder / "postgres.log", _TIMEOUT_S, Event())
        self.port = loopback_port(0, "PostgreSQL")
        self._folder = folder
        self._data = folder / "data"

    def is_ready(self) -> bool:
        """Tell whether it takes connections."""
        return accepts_connections(self.port)

    def sql(self, statements: str) -> str:
        """Run these statements in Keycloak's database and return what they print, without headings."""
        command = [_needed("psql"), "-h", LOOPBACK, "-p", str(self.port), "-U", _OWNER]
        choices = ["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-A", "-t", "-c", statements]
        done = subprocess.run(  # noqa: S603
            [*command, *choices], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SandboxError(f"PostgreSQL refuses: {done.stderr.strip()}")
        return done.stdout.strip()

    def tidy(self) -> None:
        """Remove dead rows, bring the statistics up to date, and write everything to the files.

        Plans that sessions keep are made again, for as many rows as there are now: empty tables would be read from end to end
        for each query, however many users come after that.
        """
        for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
            self.sql(statement)

    def _launch(self) -> None:
        self._data.mkdir(parents=True)
        if os.getuid() == 0:
            user = _unprivileged()
            for path in (self._folder, self._data):
                os.chown(path, user.pw_uid, user.pw_gid)
        initdb = ManagedProcess("PostgreSQL's initdb", self._folder / "initdb.log")
        choices = (f"--username={_OWNER}", "--auth=trust", "--encoding=UTF8", "--locale=C")
        command = [_needed("initdb"), f"--pgdata={self._data}", *choices]
        initdb.spawn(_as_nobody(command), child_environment())
        initdb.wait_for_end(Event(), _TIMEOUT_S, "make a cluster")
        server = [_needed("postgres"), "-D", str(self._data), "-h", LOOPBACK, "-p", str(self.port)]
        options = ["-k", str(self._data), "-c", "max_connections=200"]
        self.spawn(_as_nobody([*server, *options]), child_environment())


class KeycloakOnPostgres(Service):
    """The sandbox's Keycloak, built once more for PostgreSQL in a folder that goes away."""

    def __init__(self, folder: Path, database_port: int, java_options: Sequence[str]) -> None:
        super().__init__("Keycloak", folder / "keycloak.log", _TIMEOUT_S, Event())
        self.port = loopback_port(0, "Keycloak")
        self.admin_password = secrets.token_urlsafe(18)
        self._database_port = database_port
        self._folder = folder
        self._server = folder / "server"
        self._java_options = java_options

    @property
    def url(self) -> str:
        """Return the address programs call."""
        return f"http://{LOOPBACK}:{self.port}"

    def build(self) -> None:
        """Copy the prepared distribution and build it for the other database."""
        prepared = prepared_folder(cache_dir(), locked("keycloak"))
        build_for_postgres(prepared / "server", self._server, self._folder)

    def is_ready(self) -> bool:
        """Tell whether the master realm answers."""
        return status_of(f"{self.url}/realms/master") == HTTPStatus.OK

    def _launch(self) -> None:
        home = self._folder / "home"
        link_home(self._server, home)
        usual = http_arguments(f"http://localhost:{self.port}", self.port)
        arguments = arguments_on_postgres(usual, self._database_port)
        command = server_command(
            find_java(), self._server, home, arguments, tuple(self._java_options)
        )
        first = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN_USERNAME,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self.admin_password,
        }
        self.spawn(command, child_environment() | first)


def build_for_postgres(server: Path, target: Path, logs: Path) -> None:
    """Copy a distribution and build the copy for PostgreSQL."""
    shutil.copytree(server, target, symlinks=True)
    building = ManagedProcess("Keycloak's build", logs / "build.log")
    command = server_command(find_java(), target, target, ["build", "--db=postgres"], FAST_START)
    building.spawn(command, child_environment())
    try:
        building.wait_for_end(Event(), _TIMEOUT_S, "build the distribution")
    finally:
        building.kill()


def arguments_on_postgres(arguments: Sequence[str], database_port: int) -> list[str]:
    """Return the options of a start with the database of `PostgresServer` in the place of H2."""
    # the properties of the URL are H2's
    others = [one for one in arguments if not one.startswith("--db-url-properties")]
    url = f"jdbc:postgresql://{LOOPBACK}:{database_port}/postgres"
    return [*others, f"--db-url={url}", f"--db-username={_OWNER}", "--db-password=none"]


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found is None and (debian := Path(_DEBIAN)).is_dir():
        candidates = sorted(debian.glob(f"*/bin/{name}"))
        found = str(candidates[-1]) if candidates else None
    return found


def _needed(name: str) -> str:
    program = _program(name)
    if program is None:
        raise SandboxError(f"{name} is not installed.")
    return program


def _unprivileged() -> pwd.struct_passwd:
    """Return the account that PostgreSQL runs as where this process is root's, which it refuses."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise SandboxError("There is no account postgres or nobody for PostgreSQL to run as.")


def _as_nobody(command: list[str]) -> list[str]:
    if os.getuid() != 0:
        return command
    user = _unprivileged()
    # a change of the account unties a process from its parent: the kernel is asked once more
    account = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [_needed("setpriv"), *account, "--pdeathsig=KILL", *command]
