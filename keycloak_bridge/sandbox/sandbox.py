"""Kafka, Keycloak and a mail catcher as one thing that is up or down."""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from keycloak_bridge.sandbox.distribution import (
    ADMIN_USERNAME,
    Distribution,
    PreparedKeycloak,
    cache_dir,
)
from keycloak_bridge.sandbox.mail import MailCatcher
from keycloak_bridge.sandbox.options import (
    Downloads,
    Progress,
    SandboxCancelled,
    SandboxError,
    SandboxOptions,
    silent,
)
from keycloak_bridge.sandbox.services import (
    KafkaBroker,
    KeycloakServer,
    default_config_dir,
    realm_file,
)
from keycloak_bridge.settings.fields import environment_name

if TYPE_CHECKING:
    from keycloak_bridge.sandbox.secure import SecureParts

CLIENT_ID = "keycloak-bridge"
RUN_DIR_PREFIX = "keycloak-bridge-sandbox-"
_START_TIMEOUT_S = 240.0

T = TypeVar("T")


class Sandbox:
    """A real Kafka, Keycloak and mail catcher on loopback ports.

    `with Sandbox() as sandbox:` returns when all of them answer and leaves nothing behind.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        progress: Progress = silent,
        downloads: Downloads = silent,
    ) -> None:
        self.options = options or SandboxOptions()
        self.realm = self.options.realm
        self.client_id = CLIENT_ID
        self.admin_username = ADMIN_USERNAME
        self.client_secret = secrets.token_urlsafe(24)
        self._progress = progress
        self._cancelled = Event()
        self._distribution = Distribution(
            cache_dir(self.options.cache_dir),
            progress,
            downloads,
            self._cancelled,
            {"keycloak": self.options.keycloak_version, "kafka": self.options.kafka_version},
        )
        self._run_dir: Path | None = None
        self._config_dir: Path | None = None
        self._kafka: KafkaBroker | None = None
        self._keycloak: KeycloakServer | None = None
        self._mail: MailCatcher | None = None
        self._secure: SecureParts | None = None
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
    def realm_file(self) -> Path:
        """Return the realm export that was imported."""
        return realm_file(_started(self._config_dir))

    @property
    def kafka(self) -> KafkaBroker:
        """Return the broker, to stop, kill or pause it."""
        return _started(self._kafka)

    @property
    def keycloak(self) -> KeycloakServer:
        """Return the server, to stop, kill or pause it."""
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
        """Return the address of Keycloak in mails and tokens."""
        return self.keycloak.public_url

    @property
    def admin_password(self) -> str:
        """Return the administrator's password."""
        return self.keycloak.admin_password

    def environment(self) -> dict[str, str]:
        """Return the variables with which a bridge or a test finds everything."""
        return {
            **self._settings(),
            "SANDBOX_KEYCLOAK_PUBLIC_URL": self.keycloak_public_url,
            "SANDBOX_ADMIN_USERNAME": ADMIN_USERNAME,
            "SANDBOX_ADMIN_PASSWORD": self.admin_password,
            "SANDBOX_SMTP_PORT": str(self.mail.port),
            "SANDBOX_MAIL_DIR": str(self.mail.folder),
            "SANDBOX_DEMO_APP_URL": self.options.demo_app_url,
            "SANDBOX_RUN_DIR": str(self.run_dir),
        }

    def _settings(self) -> dict[str, str]:
        """Return the bridge's settings as variables."""
        if self._secure is None:
            return {
                "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
                "KEYCLOAK_BRIDGE_KEYCLOAK_URL": self.keycloak_url,
                "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": self.realm,
                "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_ID": self.client_id,
                "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": self.client_secret,
            }
        found = self._secure.settings(self.kafka.addresses, self.keycloak_url, self.realm)
        named = {environment_name(name): value for name, value in found.items()}
        return {**named, "SANDBOX_SECURE_DIR": str(self._secure.folder)}

    def realm_environment(self) -> dict[str, str]:
        """Return what the placeholders of a realm export are filled with."""
        return {
            "KEYCLOAK_REALM": self.realm,
            "KEYCLOAK_BRIDGE_CLIENT_SECRET": self.client_secret,
            "DEMO_APP_URL": self.options.demo_app_url,
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_FROM": f"no-reply@{self.realm}.example",
        }

    def prepare(self) -> None:
        """Fill the cache, so that a start needs no network and little time."""
        self._together(self._distribution.kafka_jars, self._distribution.keycloak)

    def start(self) -> None:
        """Start everything; when that fails, stop what was started and keep the logs."""
        try:
            self._start()
        except BaseException as error:
            self._failed = isinstance(error, Exception)  # Ctrl-C needs no logs
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and remove the run folder, except after a failed start that left logs."""
        self._cancelled.set()
        if self._mail is not None:
            self._mail.stop()
        if self._secure is not None:
            self._secure.stop()
        services = [item for item in (self._kafka, self._keycloak) if item is not None]
        with ThreadPoolExecutor(2) as pool:
            try:
                list(pool.map(lambda service: service.stop(), services))
            except BaseException:  # a second Ctrl-C: do not wait any longer
                for service in services:
                    service.kill()
                raise
        keeps_logs = self._failed and self._run_dir and any(self._run_dir.rglob("*.log"))
        if self._run_dir is not None and not keeps_logs:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def _start(self) -> None:
        self._cancelled.clear()
        self._config_dir = (self.options.config_dir or default_config_dir()).absolute()
        realm_file(self._config_dir)
        self._run_dir = self._make_run_dir()
        self._distribution.logs = self._run_dir
        self._mail = MailCatcher(self._run_dir / "mail", self.options.smtp_port)
        self._mail.start()
        self._progress("mail", "ready", f"SMTP on {self._mail.host}:{self._mail.port}")
        if self.options.secure:
            self._start_secure()
        else:
            self._together(self._start_kafka, self._start_keycloak)

    def _start_secure(self) -> None:
        """Start Keycloak first: Kafka fetches the keys of the realm when it starts."""
        # cryptography loads slowly
        from keycloak_bridge.sandbox.secure import FEDERATED_SINCE, SecureParts  # noqa: PLC0415

        federated = self._distribution.keycloak_version >= FEDERATED_SINCE
        secure = self._secure = SecureParts.made_in(self.run_dir / "secure", federated=federated)
        self._together(self._distribution.kafka_jars, self._start_keycloak)
        self._start_kafka()
        secure.set_up(self.kafka)
        secure.write_settings(
            self.kafka.addresses, self.keycloak_url, self.keycloak_public_url, self.realm
        )

    def _make_run_dir(self) -> Path:
        chosen = self.options.run_dir
        if chosen is None:
            return Path(tempfile.mkdtemp(prefix=RUN_DIR_PREFIX))
        if chosen.exists() and any(chosen.iterdir()):
            raise SandboxError(f"The run folder {chosen} is not empty: choose another one.")
        # mails with links, logs, and Keycloak's database with its secrets
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        return chosen.absolute()

    def _start_kafka(self) -> None:
        jars = self._distribution.kafka_jars()
        self._progress("kafka", "starting", "")
        self._kafka = KafkaBroker(
            self._distribution.java,
            jars,
            self.run_dir / "kafka",
            port=self.options.kafka_port,
            security=None
            if self._secure is None
            else self._secure.kafka(self.keycloak_url, self.keycloak_public_url, self.realm),
            timeout_s=_START_TIMEOUT_S,
            cancelled=self._cancelled,
        )
        self._kafka.start()
        self._progress("kafka", "ready", self._kafka.bootstrap_servers)

    def _start_keycloak(self) -> None:
        prepared = self._distribution.keycloak()
        self._progress("keycloak", "starting", "")
        self._keycloak = self._keycloak_server(prepared)
        self._keycloak.import_at_start(
            _started(self._config_dir),
            self.realm_environment(),
            None if self._secure is None else self._secure.change_realm,
        )
        self._keycloak.start()
        self._progress("keycloak", "ready", self._keycloak.public_url)

    def _keycloak_server(self, prepared: PreparedKeycloak) -> KeycloakServer:
        return KeycloakServer(
            self._distribution.java,
            prepared,
            self.run_dir / "keycloak",
            realm=self.realm,
            port=self.options.keycloak_port,
            tls=None if self._secure is None else self._secure.keycloak,
            java_options=self.options.keycloak_java_options,
            timeout_s=_START_TIMEOUT_S,
            cancelled=self._cancelled,
        )

    def _together(self, *tasks: Callable[[], object]) -> None:
        """Run tasks at the same time; the first failure, or Ctrl-C, cancels the others."""
        with ThreadPoolExecutor(len(tasks), thread_name_prefix="sandbox") as pool:
            futures: list[Future[object]] = [pool.submit(task) for task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() and not future.exception() for future in futures):
                    self._cancelled.set()
        errors = [error for future in futures if (error := future.exception()) is not None]
        causes = [error for error in errors if not isinstance(error, SandboxCancelled)]
        for error in [*causes, *errors]:
            raise error


def _started(value: T | None) -> T:
    if value is None:
        raise SandboxError("The sandbox is not started.")
    return value
