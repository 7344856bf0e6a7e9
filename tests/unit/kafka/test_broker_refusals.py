"""Why a broker takes no connection, and what each client of Kafka logs in with."""

import ast
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from pytest_socket import enable_socket
from source_calls import source_calls
from tls_server import PAST, pem_of, serving

import keycloak_bridge
from keycloak_bridge.cli.common import exit_code_of
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerRefusedError,
    BrokerUnavailableError,
    KeycloakAuthError,
    KeycloakUnavailableError,
)
from keycloak_bridge.kafka.client import connect, connection_options
from keycloak_bridge.kafka.security import Watch, check_files
from keycloak_bridge.sandbox.security import authority_file
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KafkaSettings, KeycloakSettings, Settings

AUTHORITY, OTHER = trustme.CA(), trustme.CA()
PACKAGE = Path(keycloak_bridge.__file__).parent
SCRAM = KafkaSettings(
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="bridge",
    sasl_password=Secret("kafka-hush"),
)


def expired() -> ssl.SSLCertVerificationError:
    """Return what OpenSSL says of a broker's certificate that has expired."""
    error = ssl.SSLCertVerificationError(1, "planted")
    error.verify_code = 10
    return error


def alert(reason: str) -> ssl.SSLError:
    """Return what OpenSSL makes of an alert."""
    error = ssl.SSLError(1, "planted")
    error.reason = reason
    return error


def handshake(error: Exception) -> Exception:
    """Return how kafka-python wraps an error of the handshake."""
    wrapped = kafka_errors.KafkaConnectionError("Handshake failed")
    wrapped.__context__ = error
    return wrapped


@pytest.mark.parametrize(
    ("error", "kind", "code", "words", "remedy"),
    [
        (kafka_errors.SaslAuthenticationFailedError("planted"), BrokerRefusedError, "kafka-credentials", "refuses user or password (SCRAM-SHA-512)", "sasl_password_file"),
        (kafka_errors.UnsupportedSaslMechanismError("planted"), BrokerRefusedError, "kafka-mechanism", "does not offer SCRAM-SHA-512", "sasl.enabled.mechanisms"),
        (kafka_errors.IllegalSaslStateError("planted"), BrokerRefusedError, "kafka-protocol", "asks for no login", "security_protocol"),
        (handshake(expired()), BrokerUnavailableError, "kafka-tls", "its certificate has expired", "renew"),
        (kafka_errors.KafkaConnectionError(alert("TLSV13_ALERT_CERTIFICATE_REQUIRED")), BrokerRefusedError, "kafka-tls", "asks for a client certificate", "[kafka] ssl_certfile"),
        (KeycloakUnavailableError("Keycloak is away", remedy="start it"), BrokerUnavailableError, "kafka-token", "no token to log in to Kafka with: Keycloak is away", "start it"),
        (KeycloakAuthError("refused", code="keycloak-credentials", remedy="check"), BrokerRefusedError, "keycloak-credentials", "nothing to log in to Kafka with: refused", "check"),
    ],
)  # fmt: skip
def test_what_each_failure_means(
    error: Exception, kind: type[BridgeError], code: str, words: str, remedy: str
) -> None:
    """One sentence with the broker, a code, and what to change; what a human has to change is no outage."""
    watch = Watch(SCRAM)
    watch.failed("kafka.example", 9093, error, greeted=False)

    found = watch.problem()

    assert found is not None
    assert (type(found), found.code) == (kind, code)
    assert words in found.message
    assert remedy in str(found.remedy)
    assert "planted" not in f"{found.message}{found.remedy}"
    assert exit_code_of(found) == (2 if kind is BrokerRefusedError else 3)


def test_an_outage_is_no_refusal() -> None:
    """A broker that is away, or goes away, says nothing about settings; one that is back is forgotten."""
    watch = Watch(SCRAM)
    for error in (
        kafka_errors.KafkaConnectionError("unable to connect"),
        kafka_errors.KafkaConnectionError(ConnectionResetError("planted")),
        handshake(ssl.SSLEOFError(8, "planted")),
        handshake(alert("UNEXPECTED_EOF_WHILE_READING")),
    ):
        watch.failed("kafka.example", 9093, error, greeted=False)
        assert watch.problem() is None
        assert not watch.refused_everywhere()
    watch.failed("kafka.example", 9093, kafka_errors.IllegalSaslStateError(), greeted=False)
    assert watch.refused_everywhere()
    watch.connected("kafka.example", 9093)
    assert watch.problem() is None


def refusal(port: int, **settings: Any) -> BrokerUnavailableError:
    """Return what is said of a connection that cannot be made."""
    kafka = KafkaSettings(bootstrap_servers=(f"localhost:{port}",), **settings)
    with pytest.raises(BrokerUnavailableError) as caught:
        connect(KafkaAdminClient, kafka)
    return caught.value


@pytest.mark.parametrize(
    ("certificate", "words", "remedy", "kind"),
    [
        (lambda: AUTHORITY.issue_cert("localhost", not_after=PAST), "its certificate has expired", "renew", BrokerUnavailableError),
        (lambda: AUTHORITY.issue_cert("other.example"), "for another host name than that of [kafka] bootstrap_servers", "bootstrap_servers", BrokerRefusedError),
        (lambda: OTHER.issue_cert("localhost"), "no authority that the bridge trusts", "[kafka] ssl_cafile", BrokerRefusedError),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_broker(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Callable[[], trustme.LeafCert],
    words: str,
    remedy: str,
    kind: type[BridgeError],
) -> None:
    """kafka-python itself says in each case that no broker answered."""
    enable_socket()
    brief(monkeypatch)
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    with serving(certificate()) as port:
        found = refusal(port, security_protocol="SSL", ssl_cafile=ca_file)
    assert (type(found), found.code) == (kind, "kafka-tls")
    assert f"there is no TLS connection to the Kafka broker localhost:{port}: " in found.message
    assert words in found.message
    assert remedy in str(found.remedy)


def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client give up soon; what refuses at once is waited for no longer than that anyway."""
    options = connection_options

    def hurried(settings: KafkaSettings) -> dict[str, Any]:
        return {**options(settings), "bootstrap_timeout_ms": 1000}

    monkeypatch.setattr("keycloak_bridge.kafka.client.connection_options", hurried)


def test_another_protocol_than_the_set_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker closes such a connection without a word, so it is asked what it speaks."""
    enable_socket()
    brief(monkeypatch)
    with serving(AUTHORITY.issue_cert("localhost")) as port:
        plain = refusal(port)
    with answering_kafka(0) as port:
        ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
        tls = refusal(port, security_protocol="SSL", ssl_cafile=ca_file)

    assert (plain.code, tls.code) == ("kafka-protocol", "kafka-protocol")
    assert "speaks TLS only" in plain.message
    assert "write SSL into [kafka] security_protocol" in str(plain.remedy)
    assert "speaks no TLS" in tls.message


@pytest.mark.parametrize(("code", "asks"), [(0, True), (33, True), (34, False)])
def test_whether_a_listener_asks_for_a_login(code: int, asks: bool) -> None:
    """It answers the first request of any client, and closes the connection at the second one, as in an outage."""
    enable_socket()
    watch = Watch(KafkaSettings())
    with answering_kafka(code) as port:
        watch.failed("localhost", port, kafka_errors.KafkaConnectionError("gone"), greeted=True)
        found = watch.problem(ask=True)

    assert (found is not None) is asks
    assert found is None or "takes no client that does not log in" in found.message


@contextmanager
def answering_kafka(code: int) -> Iterator[int]:
    """Answer each request of Kafka's protocol with an error code, and close a connection that is none; yields the port."""
    with socket.create_server(("localhost", 0)) as server:
        server.settimeout(60)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(60)
                    head = connection.recv(12)
                    if head[:2] == b"\0\0":  # a length below 64 KB
                        connection.sendall(b"\0\0\0\6" + head[8:12] + code.to_bytes(2, "big"))
                        connection.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Before anything is asked of Kafka, and without a question for the passphrase at the terminal."""
    own = pem_of(AUTHORITY.issue_cert("bridge"), tmp_path / "own.pem")
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    locked = tmp_path / "locked.key"
    locked.write_bytes(encrypted_key(AUTHORITY.issue_cert("bridge"), b"key-hush"))
    empty = tmp_path / "empty"
    empty.write_text("")
    check_files(KafkaSettings(ssl_cafile=ca_file, ssl_certfile=own))
    wrong = {
        "kafka-ca-file": KafkaSettings(ssl_cafile=empty),
        "kafka-tls-cert": KafkaSettings(ssl_certfile=own, ssl_keyfile=locked),
        "secret-unreadable": KafkaSettings(sasl_password=Secret(path=tmp_path / "missing")),
    }
    for code, settings in wrong.items():
        with pytest.raises(BrokerRefusedError) as caught:
            check_files(settings)
        assert caught.value.code == code


def encrypted_key(leaf: trustme.LeafCert, password: bytes) -> bytes:
    """Return the key of a certificate, locked."""
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    locked = BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def test_a_locked_key_is_opened_with_the_passphrase_as_it_is_now(tmp_path: Path) -> None:
    """`ssl_password_file` is read again for each connection."""
    leaf = AUTHORITY.issue_cert("bridge")
    certificate, key, file = (tmp_path / name for name in ("cert.pem", "key.pem", "password"))
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    settings = KafkaSettings(
        ssl_certfile=certificate, ssl_keyfile=key, ssl_password=Secret(path=file)
    )
    for password in ("first-hush", "second-hush"):
        key.write_bytes(encrypted_key(leaf, password.encode()))
        file.write_text(password)
        check_files(settings)
        assert connection_options(settings)["ssl_password"]() == password


def test_a_password_file_is_read_for_each_connection(tmp_path: Path) -> None:
    """kafka-python would keep what it was given at first."""
    file = tmp_path / "password"
    watch = Watch(KafkaSettings(sasl_password=Secret(path=file)))
    for password in ("first-hush", "second-hush"):
        file.write_text(password)
        assert watch.credentials() == {"sasl_plain_password": password}
    file.unlink()
    with pytest.raises(BrokerRefusedError):
        watch.credentials()


def test_a_file_that_is_spoilt_while_it_runs_is_named(tmp_path: Path) -> None:
    """It is waited for, since it may be just being replaced; kafka-python would say that no broker answers."""
    ca_file, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    for file, code in ((ca_file, "kafka-ca-file"), (own, "kafka-tls-cert")):
        authority_file(AUTHORITY, ca_file)
        pem_of(AUTHORITY.issue_cert("bridge"), own)
        watch = Watch(KafkaSettings(ssl_cafile=ca_file, ssl_certfile=own))
        assert watch.credentials() == {}
        file.unlink()
        with pytest.raises(BrokerRefusedError) as caught:
            watch.credentials()
        watch.failed("kafka.example", 9093, caught.value, greeted=False)
        found = watch.problem()
        assert found is not None
        assert (found.code, found.message) == (code, caught.value.message)


def test_every_client_of_kafka_gets_the_same_security() -> None:
    """Each is built by `connect` from `[kafka]`: nothing in the package but the sandbox calls kafka-python's classes itself."""
    kinds = ("KafkaConsumer", "KafkaProducer", "KafkaAdminClient")
    built: dict[str, list[str]] = {}
    for place, call in source_calls("sandbox/"):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        assert name not in kinds, f"{place}:{call.lineno} builds a {name} without `connect`"
        if name == "connect" and isinstance(call.func, ast.Name) and call.args:
            what, settings = map(ast.unparse, call.args[:2])
            assert settings == "settings", f"{place}:{call.lineno}"
            built.setdefault(what, []).append(place)

    assert {kind: sorted(places) for kind, places in built.items()} == {
        "KafkaAdminClient": ["kafka/topics.py"],
        "KafkaConsumer": ["kafka/consumer.py", "kafka/reader.py"],
        "KafkaProducer": ["kafka/dead_letter_topic.py", "kafka/producer.py"],
    }


def test_kafka_knows_whose_tokens_it_takes() -> None:
    """Those of the bridge's own client in `[keycloak]`, with OAUTHBEARER only."""
    keycloak = KeycloakSettings(realm="acme", client_secret=Secret("keycloak-hush"))
    oauth = KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER")

    assert Settings(kafka=oauth, keycloak=keycloak).kafka.token_client == keycloak
    assert Settings(kafka=SCRAM, keycloak=keycloak).kafka.token_client is None
    tokens = Settings(kafka=oauth, keycloak=keycloak).kafka
    first, second = (connection_options(tokens)["sasl_oauth_token_provider"] for _ in range(2))
    assert first is second
