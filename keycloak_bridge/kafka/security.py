"""Why a broker takes no connection: TLS, the login, or an outage.

kafka-python itself says of all of them that no broker answered in time. Here its connections are watched, so that each
has a sentence, and each new one logs in with the password as it is now. Certificates it reads again for each connection.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerRefusedError,
    BrokerUnavailableError,
    ConfigError,
    KeycloakUnavailableError,
)
from keycloak_bridge.settings.model import KafkaSettings
from keycloak_bridge.transport.tls import TlsNames, is_overdue, ssl_error, tls_problem

TLS, CREDENTIALS, MECHANISM, PROTOCOL, TOKEN = (
    "kafka-tls",
    "kafka-credentials",
    "kafka-mechanism",
    "kafka-protocol",
    "kafka-token",
)

NAMES = TlsNames(
    address="[kafka] bootstrap_servers",
    ca_file="[kafka] ssl_cafile",
    cert_file="[kafka] ssl_certfile",
    key_file="[kafka] ssl_keyfile",
    plain="write the port of TLS in [kafka] bootstrap_servers, or take SSL out of [kafka] security_protocol",
)

_PROBE_TIMEOUT_S = 3.0

_CHECK_LISTENER = (
    "check that the listener expects the issuer and the audience of the realm's tokens, and that the broker reaches "
    "the realm's keys (sasl.oauthbearer.* of the broker); its log says what it misses"
)
_CHECK_LOGIN = (
    "check [kafka] sasl_username and sasl_password (or sasl_password_file), and that the user exists for "
    "[kafka] sasl_mechanism"
)


class Watch:
    """The connections of one client: how they log in, and why the last ones failed. Safe to share between threads."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._failures: dict[tuple[str, int], tuple[BrokerUnavailableError | None, bool]] = {}

    def client(self, **configs: Any) -> KafkaNetClient:
        """Return what kafka-python takes as `kafka_client`."""
        net = NetworkSelector(**configs)
        return KafkaNetClient(net=net, manager=_Connections(net, self, **configs))

    def problem(self, *, ask: bool = False) -> BrokerUnavailableError | None:
        """Return why a broker takes no connection, None where nothing but an outage is known.

        With `ask`, a broker that closed the connection without a word is asked which protocol it speaks, for some seconds.
        """
        with self._lock:
            failures = dict(self._failures)
        known = [found for found, _ in failures.values() if found is not None]
        if known or not ask:
            return next(iter(known), None)
        asked = (self._ask(*broker, greeted=greeted) for broker, (_, greeted) in failures.items())
        return next((found for found in asked if found is not None), None)

    def refused_everywhere(self) -> bool:
        """Say whether each of the brokers to start from has refused; to try again at once would change nothing."""
        with self._lock:
            found = [one for one, _ in self._failures.values()]
        refused = sum(isinstance(one, BrokerRefusedError) for one in found)
        return refused >= len(self._settings.bootstrap_servers)

    def credentials(self) -> Mapping[str, str]:
        """Return what the next connection logs in with; raises BrokerRefusedError for a file that it could not use."""
        check_files(self._settings)
        password = self._settings.sasl_password
        return {} if password is None else {"sasl_plain_password": password.reveal()}

    def failed(self, host: str, port: int, error: Exception, *, greeted: bool) -> None:
        """Note why there is no connection; `greeted` says that the broker had answered before."""
        # not the error itself, whose traceback would keep the socket open
        found = self._explain(error, f"{host}:{port}")
        with self._lock:
            self._failures[host, port] = (found, greeted)

    def connected(self, host: str, port: int) -> None:
        """Note that there is a connection."""
        with self._lock:
            self._failures.pop((host, port), None)

    def _explain(self, error: Exception, broker: str) -> BrokerUnavailableError | None:
        mechanism = self._settings.sasl_mechanism
        if isinstance(error, KeycloakUnavailableError):
            return BrokerUnavailableError(
                f"there is no token to log in to Kafka with: {error.message}",
                code=TOKEN,
                remedy=error.remedy,
            )
        if isinstance(error, BrokerRefusedError):
            return BrokerRefusedError(error.message, code=error.code, remedy=error.remedy)
        if isinstance(error, BridgeError):
            return BrokerRefusedError(
                f"there is nothing to log in to Kafka with: {error.message}",
                code=error.code,
                remedy=error.remedy,
            )
        if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
            by_token = mechanism == "OAUTHBEARER"
            what = "the token" if by_token else "user or password"
            return BrokerRefusedError(
                f"the Kafka broker {broker} refuses {what} ({mechanism})",
                code=CREDENTIALS,
                remedy=_CHECK_LISTENER if by_token else _CHECK_LOGIN,
            )
        if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
            return BrokerRefusedError(
                f"the Kafka broker {broker} does not offer {mechanism}",
                code=MECHANISM,
                remedy="set [kafka] sasl_mechanism to one of the listener's sasl.enabled.mechanisms, or enable this one there",
            )
        if isinstance(error, kafka_errors.IllegalSaslStateError):
            return _wrong_protocol(broker, "asks for no login", "take SASL_ out of")
        found = ssl_error(error)
        if found is None or _ended_early(found):
            return None
        problem = tls_problem(found, NAMES)
        kind = BrokerUnavailableError if is_overdue(found) else BrokerRefusedError
        return kind(
            f"there is no TLS connection to the Kafka broker {broker}: {problem.text}",
            code=TLS,
            remedy=problem.solution,
        )

    def _ask(self, host: str, port: int, *, greeted: bool) -> BrokerRefusedError | None:
        """Find out whether the broker speaks another protocol than the one that is set."""
        protocol = self._settings.security_protocol
        broker, encrypted = f"{host}:{port}", protocol.endswith("SSL")
        if greeted:
            if not protocol.startswith("SASL_") and _asks_for_login(host, port, encrypted):
                return _wrong_protocol(
                    broker, "takes no client that does not log in", "write SASL_ into"
                )
        elif encrypted and _speaks_kafka(host, port):
            return _wrong_protocol(broker, "speaks no TLS", "take SSL out of")
        elif not encrypted and _speaks_tls(host, port):
            return _wrong_protocol(broker, "speaks TLS only", "write SSL into")
        return None


def _wrong_protocol(broker: str, what: str, change: str) -> BrokerRefusedError:
    return BrokerRefusedError(
        f"the Kafka broker {broker} {what}",
        code=PROTOCOL,
        remedy=f"{change} [kafka] security_protocol, or name another listener in [kafka] bootstrap_servers",
    )


class _Connections(KafkaConnectionManager):
    """kafka-python's connections, each told to the watch."""

    def __init__(self, net: NetworkSelector, watch: Watch, **configs: Any) -> None:
        self._watch = watch
        self._has_connected = False
        super().__init__(net, **configs)

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Return a connection as kafka-python does; at start, give up at once where every broker has refused."""
        if not self._has_connected and self._watch.refused_everywhere():
            raise kafka_errors.KafkaConnectionError
        return super().get_connection(*args, **kwargs)

    async def _connect(self, node: Any, conn: Any, *args: Any, **kwargs: Any) -> None:
        """Connect as kafka-python does (3.0.12), with the password as it is now."""
        try:
            conn.config.update(self._watch.credentials())
        except BridgeError as error:
            conn.connection_lost(error)
        else:
            await super()._connect(node, conn, *args, **kwargs)  # type: ignore[misc] # private there
        if conn.init_future.failed():
            self._watch.failed(node.host, node.port, conn.init_future.exception, greeted=False)
            # after a refused login kafka-python forgets its back-off, and would come back at once
            self.update_backoff(node.node_id)  # type: ignore[no-untyped-call]
        elif conn.init_future.succeeded():
            self._has_connected = True
            self._watch.connected(node.host, node.port)
            conn.close_future.add_errback(self._noting_end(node))

    async def _build_transport(self, *args: Any, **kwargs: Any) -> Any:
        """Return the transport with an answer not lost that comes together with the end of the connection.

        A broker that refuses a login says so and hangs up; kafka-python drops what it has read when it finds the end (3.0.12).
        """
        transport = await super()._build_transport(*args, **kwargs)  # type: ignore[misc] # private there
        receive = transport._sock_recv  # noqa: SLF001 # there is no public way

        def answer_first() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the end is found again by the next read

        transport._sock_recv = answer_first  # noqa: SLF001
        return transport

    def _noting_end(self, node: Any) -> Callable[[Exception], None]:
        return lambda error: self._watch.failed(node.host, node.port, error, greeted=True)


def _ended_early(error: ssl.SSLError) -> bool:
    """Say whether the other side only closed the connection, which an outage does too."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "UNEXPECTED_EOF" in (
        getattr(error, "reason", None) or ""
    )


def _open(host: str, port: int, *, encrypted: bool) -> socket.socket:
    """Connect only to learn what is spoken there: the certificate does not matter, and nothing secret is sent."""
    plain = socket.create_connection((host, port), _PROBE_TIMEOUT_S)
    if not encrypted:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _speaks_tls(host: str, port: int) -> bool:
    try:
        with _open(host, port, encrypted=True):
            return True
    except (OSError, ValueError):
        return False


_API_VERSIONS, _SASL_HANDSHAKE = 18, 17
_CORRELATION_ID = 7
_LOGIN_EXPECTED = (0, 33)
"""Kafka's codes for a mechanism that it offers, and one that it does not; where no login is expected, there is another."""


def _speaks_kafka(host: str, port: int) -> bool:
    """Say whether Kafka's protocol is spoken there without TLS."""
    return _answer(host, port, False, _API_VERSIONS, 0, b"") is not None


def _asks_for_login(host: str, port: int, encrypted: bool) -> bool:
    name = b"PLAIN"
    answer = _answer(host, port, encrypted, _SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
    return answer in _LOGIN_EXPECTED


def _answer(
    host: str, port: int, encrypted: bool, key: int, version: int, body: bytes
) -> int | None:
    """Return the error code in the answer to a request of Kafka's protocol, None where there is none."""
    message = struct.pack(">hhih", key, version, _CORRELATION_ID, -1) + body
    answer = b""
    try:
        with _open(host, port, encrypted=encrypted) as connection:
            connection.sendall(struct.pack(">i", len(message)) + message)
            while len(answer) < 10 and (part := connection.recv(10 - len(answer))):
                answer += part
    except (OSError, ValueError):
        return None
    if len(answer) < 10:
        return None
    _, correlation_id, code = struct.unpack(">iih", answer)
    return int(code) if correlation_id == _CORRELATION_ID else None


def passphrase(settings: KafkaSettings) -> Callable[[], str]:
    """Return what gives the passphrase of the client certificate's key, as it is now; empty where there is none."""
    secret = settings.ssl_password
    return lambda: "" if secret is None else secret.reveal()


def check_files(settings: KafkaSettings) -> None:
    """Raise BrokerRefusedError for a file of certificates, or a secret, that cannot be used; kafka-python would not say which."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.sasl_password is not None:
            settings.sasl_password.reveal()
        if settings.ssl_cafile is not None:
            remedy = "point it at a PEM file that the bridge may read"
            with _readable("ssl_cafile", "certificates", "kafka-ca-file", remedy):
                context.load_verify_locations(settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            keys, what = "ssl_certfile, ssl_keyfile and ssl_password", "a certificate with its key"
            remedy = "point them at PEM files that the bridge may read, and give the key's passphrase if it has one"
            with _readable(keys, what, "kafka-tls-cert", remedy):
                context.load_cert_chain(
                    settings.ssl_certfile, settings.ssl_keyfile, passphrase(settings)
                )
    except ConfigError as error:
        raise BrokerRefusedError(error.message, code=error.code, remedy=error.remedy) from error


@contextlib.contextmanager
def _readable(keys: str, what: str, code: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # an empty passphrase is a ValueError
        raise BrokerRefusedError(
            f"[kafka] {keys} cannot be read as {what}", code=code, remedy=remedy
        ) from error
