"""Kafka, Keycloak and a mail catcher as one thing that is up or down."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

from keycloak_bridge.sandbox.artifacts import cache_dir
from keycloak_bridge.sandbox.distribution import Provision
from keycloak_bridge.sandbox.java import find_java
from keycloak_bridge.sandbox.mail import MailCatcher
from keycloak_bridge.sandbox.options import (
    Downloads,
    Progress,
    SandboxCancelled,
    SandboxError,
    SandboxOptions,
    silent,
)
from keycloak_bridge.sandbox.realms import (
    FreshRealm,
    KeycloakRealms,
    default_config_dir,
    realm_file,
)
from keycloak_bridge.sandbox.services import KafkaBroker, KeycloakServer
from keycloak_bridge.sandbox.state import RUN_DIR_PREFIX

T = TypeVar("T")


class Sandbox:
    """A real Kafka, Keycloak and mail catcher on loopback ports.

    `with Sandbox() as sandbox:` returns when all of them answer and leaves nothing behind.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        progress: Progress = silent,
        downloads: Downloads | None = None,
    ) -> None:
        self.options = options or SandboxOptions()
        self._progress = progress
        self._cancelled = Event()
        self._provision = Provision(
            cache_dir(self.options.cache_dir), find_java, progress, downloads, self._cancelled
        )
        self._client_secret = self.options.client_secret or secrets.token_urlsafe(24)
        self._run_dir: Path | None = None
        self._config_dir: Path | None = None
        self._kafka: KafkaBroker | None = None
        self._keycloak: KeycloakServer | None = None
        self._mail: MailCatcher | None = None
        self._failed = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def run_dir(self) -> Path:
        """Return the folder with logs, data and mails of this run."""
        return _started(self._run_dir)

    @property
    def kafka(self) -> KafkaBroker:
        """Return the broker, to stop, kill or freeze it."""
        return _started(self._kafka)

    @property
    def keycloak(self) -> KeycloakServer:
        """Return the server, to stop, kill or freeze it."""
        return _started(self._keycloak)

    @property
    def mail(self) -> MailCatcher:
        """Return the mail catcher."""
        return _started(self._mail)

    @property
    def bootstrap_servers(self) -> str:
        """Return Kafka's address."""
        return self.kafka.bootstrap_servers

    @property
    def keycloak_url(self) -> str:
        """Return the address at which programs call Keycloak."""
        return self.keycloak.url

    @property
    def keycloak_public_url(self) -> str:
        """Return the address of Keycloak that stands in mails and tokens."""
        return self.keycloak.public_url

    @property
    def realm(self) -> str:
        """Return the name of the imported realm."""
        return self.options.realm

    @property
    def client_id(self) -> str:
        """Return the id of the bridge's client."""
        return self.options.client_id

    @property
    def client_secret(self) -> str:
        """Return the secret of the bridge's client."""
        return self._client_secret

    @property
    def admin_username(self) -> str:
        """Return the administrator of the master realm."""
        return self.keycloak.admin_username

    @property
    def admin_password(self) -> str:
        """Return the administrator's password."""
        return self.keycloak.admin_password

    @property
    def realms(self) -> KeycloakRealms:
        """Return the means to create and delete realms."""
        return KeycloakRealms(self.keycloak_url, self.admin_username, self.admin_password)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a bridge or a test finds everything."""
        return {
            "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KEYCLOAK_BRIDGE_KEYCLOAK_URL": self.keycloak_url,
            "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": self.realm,
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_ID": self.client_id,
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": self.client_secret,
            "SANDBOX_KEYCLOAK_PUBLIC_URL": self.keycloak_public_url,
            "SANDBOX_ADMIN_USERNAME": self.admin_username,
            "SANDBOX_ADMIN_PASSWORD": self.admin_password,
            "SANDBOX_SMTP_PORT": str(self.mail.port),
            "SANDBOX_MAIL_DIR": str(self.mail.folder),
            "SANDBOX_DEMO_APP_URL": self.options.demo_app_url,
            "SANDBOX_RUN_DIR": str(self.run_dir),
        }

    @contextmanager
    def fresh_realm(self) -> Iterator[FreshRealm]:
        """Lend a realm like the imported one that nobody else uses."""
        source = realm_file(_started(self._config_dir))
        with self.realms.fresh(source, self._realm_environment(), self.client_id) as realm:
            yield realm

    def prepare(self) -> None:
        """Fill the cache, so that a start needs no network and little time."""
        self._together(self._provision.kafka_jars, self._provision.keycloak)

    def start(self) -> None:
        """Start everything; when that fails, stop what was started and keep the logs."""
        try:
            self._start()
        except BaseException as error:
            self._failed = isinstance(error, Exception)  # Ctrl-C needs no logs
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and remove the run folder, unless it is to be kept."""
        self._cancelled.set()
        if self._mail is not None:
            self._mail.stop()
        services = [item for item in (self._kafka, self._keycloak) if item is not None]
        with ThreadPoolExecutor(2) as pool:
            try:
                list(pool.map(lambda service: service.stop(), services))
            except BaseException:  # a second Ctrl-C: no more patience
                for service in services:
                    service.kill()
                raise
        if self._run_dir is not None and not self._keeps(self._run_dir):
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def _keeps(self, run_dir: Path) -> bool:
        has_logs = any(run_dir.rglob("*.log"))
        return self.options.keep_run_dir or (self._failed and has_logs)

    def _start(self) -> None:
        self._cancelled.clear()
        self._config_dir = (self.options.config_dir or default_config_dir()).absolute()
        realm_file(self._config_dir)
        self._run_dir = self._make_run_dir()
        self._provision.logs = self._run_dir
        self._mail = MailCatcher(self._run_dir / "mail", self.options.smtp_port)
        self._mail.start()
        self._progress("mail", "ready", f"SMTP on {self._mail.host}:{self._mail.port}")
        self._together(self._start_kafka, self._start_keycloak)

    def _together(self, *tasks: Callable[[], object]) -> None:
        """Run tasks side by side; the first failure, or Ctrl-C, calls the others off."""
        with ThreadPoolExecutor(len(tasks), thread_name_prefix="sandbox") as pool:
            futures: list[Future[object]] = [pool.submit(task) for task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() and not future.exception() for future in futures):
                    self._cancelled.set()
        errors = [error for future in futures if (error := future.exception()) is not None]
        real = [error for error in errors if not isinstance(error, SandboxCancelled)]
        for error in [*real, *errors]:
            raise error

    def _start_kafka(self) -> None:
        jars = self._provision.kafka_jars()
        self._progress("kafka", "starting", "")
        self._kafka = KafkaBroker(
            self._provision.java(),
            jars,
            self.run_dir / "kafka",
            port=self.options.kafka_port,
            timeout_s=self.options.start_timeout_s,
            cancelled=self._cancelled,
        )
        self._kafka.start()
        self._progress("kafka", "ready", self._kafka.bootstrap_servers)

    def _start_keycloak(self) -> None:
        distribution = self._provision.keycloak()
        self._progress("keycloak", "starting", "")
        self._keycloak = KeycloakServer(
            self._provision.java(),
            distribution,
            self.run_dir / "keycloak",
            realm=self.realm,
            port=self.options.keycloak_port,
            java_options=self.options.keycloak_java_options,
            timeout_s=self.options.start_timeout_s,
            cancelled=self._cancelled,
        )
        self._keycloak.import_at_start(_started(self._config_dir), self._realm_environment())
        self._keycloak.start()
        self._progress("keycloak", "ready", self._keycloak.public_url)

    def _make_run_dir(self) -> Path:
        chosen = self.options.run_dir
        if chosen is None:
            return Path(tempfile.mkdtemp(prefix=RUN_DIR_PREFIX))
        if chosen.exists() and any(chosen.iterdir()):
            raise SandboxError(f"The run folder {chosen} is not empty: choose another one.")
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen.absolute()

    def _realm_environment(self) -> dict[str, str]:
        return {
            "KEYCLOAK_REALM": self.realm,
            "KEYCLOAK_BRIDGE_CLIENT_SECRET": self.client_secret,
            "DEMO_APP_URL": self.options.demo_app_url,
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_FROM": f"no-reply@{self.realm}.example",
        }


def _started(value: T | None) -> T:
    if value is None:
        raise SandboxError("The sandbox is not started.")
    return value
