"""Kafka and Keycloak as local services: each can be started, stopped, killed, paused and started again.

Kafka is one node, broker and controller in one. Keycloak imports the project's realm when it starts.
"""

import contextlib
import json
import logging
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from keycloak_bridge.sandbox.distribution import (
    PreparedKeycloak,
    ServerTls,
    http_arguments,
    server_command,
    status_of,
)
from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.processes import (
    LOOPBACK,
    Java,
    ManagedProcess,
    accepts_connections,
    child_environment,
    loopback_port,
)

_FORMAT_TIMEOUT_S = 90.0
_ANSWER_MS = 3000
_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
_REALM_FILES = "*-realm.json"
_PLACEHOLDER = re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")


class Service(ManagedProcess, ABC):
    """A server that can be started, stopped, killed, paused and started again where it was."""

    def __init__(self, name: str, log_path: Path, timeout_s: float, cancelled: Event) -> None:
        super().__init__(name, log_path)
        self._timeout_s = timeout_s
        self._cancelled = cancelled

    def start(self) -> None:
        """Start on the same ports and data as before, and return once it answers."""
        self._launch()
        self.wait(self.is_ready, self._cancelled, self._timeout_s, "it answered")

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask over its own protocol whether it serves."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the process."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of a broker: its name, its protocol in Kafka's words, and what is set for it alone."""

    name: str
    protocol: str = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """How a broker is secured; `listeners` are beside the one that clients start from, which is `main`.

    The last of `listeners`, or `main` where there are none, is for the broker itself, and `login` is what kafka-python needs
    there to ask whether it serves.
    """

    main: Listener = Listener("PLAINTEXT")
    listeners: Sequence[Listener] = ()
    controller: Listener = Listener("CONTROLLER")
    properties: Mapping[str, str] = field(default_factory=dict)
    java_options: Sequence[str] = ()
    login: Mapping[str, Any] = field(default_factory=dict)


class KafkaBroker(Service):
    """A single KRaft node on loopback ports that keeps its data across restarts."""

    def __init__(
        self,
        java: Java,
        jars: Sequence[Path],
        folder: Path,
        *,
        port: int = 0,
        security: BrokerSecurity | None = None,
        timeout_s: float = 90.0,
        cancelled: Event | None = None,
    ) -> None:
        super().__init__("Kafka", folder / "kafka.log", timeout_s, cancelled or Event())
        self.port = loopback_port(port, "Kafka")
        self.security = security or BrokerSecurity()
        self.ports = {self.security.main.name: self.port} | {
            one.name: loopback_port(0, f"Kafka's listener {one.name}")
            for one in self.security.listeners
        }
        self._controller_port = loopback_port(0, "Kafka's controller")
        self._java = java
        self._class_path = ":".join(str(jar) for jar in jars)
        self._folder = folder

    @property
    def bootstrap_servers(self) -> str:
        """Return the address a client starts from."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def addresses(self) -> dict[str, str]:
        """Return the address of each listener by its name."""
        return {name: f"{LOOPBACK}:{port}" for name, port in self.ports.items()}

    def administrator(self) -> dict[str, Any]:
        """Return how a client of kafka-python connects as the broker's administrator."""
        return {"bootstrap_servers": self.addresses[self._own.name], **self.security.login}

    @property
    def _own(self) -> Listener:
        return [self.security.main, *self.security.listeners][-1]

    def wait_for(self, login: Mapping[str, Any], topics: Collection[str]) -> None:
        """Return once a client that logs in so sees these topics: rights and users take effect a moment after they are made."""
        sees = partial(_serves, login, topics)
        self.wait(sees, self._cancelled, self._timeout_s, "its users could do what they may")

    def is_ready(self) -> bool:
        """Tell whether the broker has joined its own cluster and answers."""
        return accepts_connections(self.port) and _serves(self.administrator())

    def _launch(self) -> None:
        settings = self._folder / "server.properties"
        if not settings.exists():
            self._format(settings)
        self.spawn(self._command("kafka.Kafka", str(settings)), child_environment())

    def _format(self, settings: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = settings.with_suffix(".draft")
        draft.write_text(self._settings(), encoding="utf-8")
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatting = ManagedProcess("Kafka's storage tool", self._folder / "format.log")
        # an id may begin with a dash, which would be taken for an option
        arguments = ("format", "--standalone", f"--cluster-id={cluster_id}", "-c", str(draft))
        formatting.spawn(self._command("kafka.tools.StorageTool", *arguments), child_environment())
        try:
            formatting.wait_for_end(self._cancelled, _FORMAT_TIMEOUT_S, "format the log folder")
        finally:
            formatting.kill()
        draft.rename(settings)

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        options = (*_JVM, *self.security.java_options)
        return [self._java.executable, *options, "-cp", self._class_path, main_class, *arguments]

    def _settings(self) -> str:
        security, controller = self.security, f"{LOOPBACK}:{self._controller_port}"
        all_listeners = [security.main, *security.listeners, security.controller]
        ports = {**self.ports, security.controller.name: self._controller_port}
        addresses = ",".join(f"{one.name}://{LOOPBACK}:{ports[one.name]}" for one in all_listeners)
        protocols = ",".join(f"{one.name}:{one.protocol}" for one in all_listeners)
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": addresses,
            "advertised.listeners": addresses,
            "listener.security.protocol.map": protocols,
            "inter.broker.listener.name": self._own.name,
            "controller.listener.names": security.controller.name,
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": self._folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 8,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # A broker that was killed is let in again when its old session is over.
            "broker.session.timeout.ms": 5000,
            "broker.heartbeat.interval.ms": 1000,
            "group.initial.rebalance.delay.ms": 0,
            # By default half of the heap above, which a restart with many topics no longer finds in one piece.
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
            **security.properties,
        }
        for one in all_listeners:
            prefix = f"listener.name.{one.name.lower()}."
            values |= {f"{prefix}{name}": value for name, value in one.properties.items()}
        return "".join(f"{name}={value}\n" for name, value in values.items())


def _serves(login: Mapping[str, Any], topics: Collection[str] = ()) -> bool:
    try:
        with _quiet("kafka"):
            client = KafkaAdminClient(
                **login,
                bootstrap_timeout_ms=_ANSWER_MS,
                request_timeout_ms=_ANSWER_MS,
            )
            try:
                serves = bool(client.describe_cluster().get("brokers"))
                return serves and (not topics or set(topics) <= set(client.list_topics()))
            finally:
                client.close()
    except (KafkaError, OSError):
        return False


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep the client from warning about a broker that is expected not to answer yet."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class KeycloakServer(Service):
    """A Keycloak with a database of its own, on a shared read-only distribution."""

    def __init__(
        self,
        java: Java,
        distribution: PreparedKeycloak,
        folder: Path,
        *,
        realm: str,
        port: int = 0,
        tls: ServerTls | None = None,
        java_options: Sequence[str] = (),
        timeout_s: float = 180.0,
        cancelled: Event | None = None,
    ) -> None:
        super().__init__("Keycloak", folder / "keycloak.log", timeout_s, cancelled or Event())
        self.port = loopback_port(port, "Keycloak")
        self.realm = realm
        self._tls = tls
        self._java = java
        self._java_options = tuple(java_options)
        self._distribution = distribution
        self._home = folder / "home"
        self._environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Return the address programs call; a certificate is for the public name only."""
        return self.public_url if self._tls else f"http://{LOOPBACK}:{self.port}"

    @property
    def public_url(self) -> str:
        """Return the address that stands in mails and tokens."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    @property
    def admin_password(self) -> str:
        """Return the password of the administrator of the master realm."""
        return self._distribution.admin_password

    def import_at_start(
        self,
        config_dir: Path,
        environment: Mapping[str, str],
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Lay out the data folder and say what `${NAME}` in the realm files stands for; `change` is done to each realm."""
        self._distribution.lay_out(self._home)
        target = self._home / "data" / "import"
        target.mkdir()
        for source in config_dir.glob(_REALM_FILES):
            # Keycloak refuses a file whose name disagrees with the realm in it.
            content = representation(source, environment)
            file = target / f"{content['realm']}-realm.json"
            if change is None:
                shutil.copy(source, file)
            else:
                change(content)
                file.write_text(json.dumps(content), encoding="utf-8")
        self._environment = dict(environment)

    def is_ready(self) -> bool:
        """Tell whether the imported realm answers."""
        authority = None if self._tls is None else self._tls.authority
        status = status_of(f"{self.url}/realms/{self.realm}", authority=authority)
        # on a busy machine it may answer 404 while it still imports
        if status == HTTPStatus.NOT_FOUND and self._has_started():
            raise SandboxError(
                f"Keycloak is up and has no realm {self.realm!r}: let the realm file say "
                '"realm": "${KEYCLOAK_REALM}", or name its realm with --realm. '
                f"Its log is {self.log_path}"
            )
        return status == HTTPStatus.OK

    def _has_started(self) -> bool:
        """Say whether Keycloak logged that it is up, which it does after the import."""
        return b" started in " in self.log_path.read_bytes()

    def _launch(self) -> None:
        command = server_command(
            self._java,
            self._distribution.server,
            self._home,
            [*self._arguments(), "--import-realm"],
            self._java_options,
        )
        self.spawn(command, child_environment() | self._environment)

    def _arguments(self) -> list[str]:
        return http_arguments(self.public_url, self.port, self._tls)


def realm_file(config_dir: Path) -> Path:
    """Return the realm export of a config folder."""
    found = sorted(config_dir.glob(_REALM_FILES)) if config_dir.is_dir() else []
    if not found:
        raise SandboxError(
            f"{config_dir} holds no realm export ({_REALM_FILES}): "
            "name the folder that does with --config-dir."
        )
    return found[0]


def representation(source: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return a realm file's content with its placeholders filled."""
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SandboxError(f"{source} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("realm"), str):
        raise SandboxError(f'{source} is no realm export: it has no "realm".')
    result: dict[str, Any] = filled(content, environment)
    return result


def default_config_dir() -> Path:
    """Return the `keycloak-config` folder beside the package, in the current folder, or inside the installed package."""
    module = Path(__file__)
    beside = module.parents[2] / "keycloak-config"
    here = Path.cwd() / "keycloak-config"
    installed = module.with_name("keycloak_config")
    return next((folder for folder in (beside, here) if folder.is_dir()), installed)


def filled(value: Any, environment: Mapping[str, str]) -> Any:
    """Return JSON with `${NAME}` and `${NAME:default}` filled the way Keycloak's import does."""
    if isinstance(value, dict):
        return {key: filled(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, environment) for item in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _fill(match, environment), value)
    return value


def _fill(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, fallback = match.group(1), match.group(2)
    if name in environment:
        return environment[name]
    return match.group(0) if fallback is None else fallback
