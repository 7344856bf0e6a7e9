"""TLS to Keycloak: right, and what is said of each thing that is wrong."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import requests
import trustme
import urllib3
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pytest_socket import enable_socket
from tls_server import PAST, pem_of, serving

from keycloak_bridge.domain.errors import ConfigError, KeycloakError, KeycloakUnavailableError
from keycloak_bridge.keycloak.calls import Call
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.sandbox.security import authority_file
from keycloak_bridge.transport.http import ClientCertificate
from keycloak_bridge.transport.tls import TlsNames, tls_problem

AUTHORITY, OTHER = trustme.CA(), trustme.CA()
NAMES = TlsNames.of_section("keycloak")
CALL = Call("GET", "/users")


@pytest.fixture(autouse=True)
def _network() -> None:
    enable_socket()


def keycloak(
    port: int, ca_file: Path | None, certificate: ClientCertificate | None = None
) -> KeycloakHttp:
    """Return what calls the server on this port."""
    connection = KeycloakConnection(
        f"https://localhost:{port}",
        "acme",
        60,
        60,
        ca_file=ca_file,
        client_certificate=certificate,
    )
    return KeycloakHttp(connection)


def status(port: int, ca_file: Path | None, certificate: ClientCertificate | None = None) -> int:
    """Return the status of a call."""
    http = keycloak(port, ca_file, certificate)
    try:
        return http.send(CALL, f"{http.admin_url}/users").status_code
    finally:
        http.close()


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Return what is said of a connection that cannot be made, and what to do."""
    with pytest.raises(KeycloakError) as caught:
        call()
    assert caught.value.code == "keycloak-tls"
    return caught.value.message, caught.value.remedy or ""


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 5_000_000])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_messages_of_every_size(scheme: str, size: int, tmp_path: Path) -> None:
    """More than the buffers of either side hold, and more than TLS decrypts at once, comes and goes whole."""
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    certificate = AUTHORITY.issue_cert("localhost") if scheme == "https" else None
    with serving(certificate) as port:
        connection = KeycloakConnection(f"{scheme}://localhost:{port}", "acme", 60, 60, 1, ca_file)
        http = KeycloakHttp(connection)
        sent = ["é" * size]
        answers = [
            http.send(Call("POST", "/users"), f"{http.admin_url}/users", json=sent)
            for _ in range(2)
        ]
        http.close()

    assert [sent] * 2 == [answer.json() for answer in answers]


def test_a_certificate_of_an_authority_of_ones_own(tmp_path: Path) -> None:
    """It is trusted by `ca_file`, which is read again for each connection."""
    ca_file = authority_file(OTHER, tmp_path / "ca.pem")
    with serving(AUTHORITY.issue_cert("localhost")) as port:
        message, remedy = refused(lambda: status(port, ca_file))
        http = keycloak(port, ca_file)
        with pytest.raises(KeycloakError):
            http.send(CALL, f"{http.admin_url}/users")
        authority_file(AUTHORITY, ca_file)
        assert http.send(CALL, f"{http.admin_url}/users").status_code == 200
        http.close()

    assert (
        "there is no TLS connection to Keycloak: no authority that the bridge trusts has signed its certificate (GET /users)"
        == message
    )
    assert "[keycloak] ca_file" in remedy


@pytest.mark.parametrize(
    ("certificate", "problem", "remedy"),
    [
        (lambda: AUTHORITY.issue_cert("localhost", not_after=PAST), "has expired", "renew"),
        (lambda: AUTHORITY.issue_cert("other.example"), "another host name", "[keycloak] url"),
        (lambda: OTHER.issue_cert("localhost"), "no authority that the bridge trusts", "ca_file"),
        (lambda: None, "speaks no TLS", "http://"),
    ],
)
def test_what_is_wrong_with_the_server(
    tmp_path: Path,
    certificate: Callable[[], trustme.LeafCert | None],
    problem: str,
    remedy: str,
) -> None:
    """One sentence for each, and what to do."""
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    with serving(certificate()) as port:
        said, advice = refused(lambda: status(port, ca_file))
    assert problem in said
    assert remedy in advice


def test_mutual_tls(tmp_path: Path) -> None:
    """With the bridge's certificate, which may be replaced; without one, or with one that is not trusted, it says so."""
    ca_file = authority_file(AUTHORITY, tmp_path / "ca.pem")
    own = ClientCertificate(pem_of(OTHER.issue_cert("bridge"), tmp_path / "own.pem"))
    with serving(AUTHORITY.issue_cert("localhost"), clients_of=AUTHORITY) as port:
        without, _ = refused(lambda: status(port, ca_file))
        untrusted, _ = refused(lambda: status(port, ca_file, own))
        pem_of(AUTHORITY.issue_cert("bridge"), tmp_path / "own.pem")
        assert status(port, ca_file, own) == 200

    assert "it asks for a client certificate" in without
    assert "it does not trust the authority that signed the bridge's certificate" in untrusted


def test_a_file_that_is_spoilt_while_it_runs_is_named(tmp_path: Path) -> None:
    """It is waited for, since it may be just being replaced: no file, no certificate, a key with a passphrase."""
    ca_file, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    leaf = AUTHORITY.issue_cert("bridge")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush"))
    chain = b"".join(one.bytes() for one in leaf.cert_chain_pems)
    spoilt = [
        (ca_file, None, "keycloak-ca-file"),
        (ca_file, b"", "keycloak-ca-file"),
        (own, None, "keycloak-tls-cert"),
        (own, b"planted", "keycloak-tls-cert"),
        (own, locked + chain, "keycloak-tls-cert"),
    ]
    with serving(AUTHORITY.issue_cert("localhost"), clients_of=AUTHORITY) as port:
        for file, content, code in spoilt:
            authority_file(AUTHORITY, ca_file)
            pem_of(leaf, own)
            http = keycloak(port, ca_file, ClientCertificate(own))
            call = partial(http.send, CALL, f"{http.admin_url}/users")
            file.unlink() if content is None else file.write_bytes(content)
            with pytest.raises(KeycloakUnavailableError) as caught:
                call()
            assert caught.value.code == code
            authority_file(AUTHORITY, ca_file)
            pem_of(leaf, own)
            assert call().status_code == 200
            http.close()


def test_a_certificate_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    """Found at start: no file, another's key, no certificate."""
    own = pem_of(AUTHORITY.issue_cert("bridge"), tmp_path / "own.pem")
    other = AUTHORITY.issue_cert("other")
    other.private_key_pem.write_to_path(str(tmp_path / "other.key"))
    (tmp_path / "empty.pem").write_text("")
    for certificate in (
        ClientCertificate(tmp_path / "missing.pem"),
        ClientCertificate(own, tmp_path / "other.key"),
        ClientCertificate(tmp_path / "empty.pem"),
    ):
        with pytest.raises(ConfigError, match="tls_cert_file") as caught:
            status(1, None, certificate)
        assert caught.value.code == "keycloak-tls-cert"


def test_errors_of_tls_are_found_wherever_they_are_wrapped() -> None:
    """As `requests`, urllib3 or Python do; what is none has no special words."""
    inner = ssl.SSLCertVerificationError(1, "planted")
    inner.verify_code = 10
    wrapped = [
        requests.exceptions.SSLError(inner),
        requests.exceptions.SSLError(urllib3.exceptions.SSLError(inner)),
        requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(None, "/", inner)),  # type: ignore[arg-type]
    ]
    assert {"its certificate has expired"} == {tls_problem(one, NAMES).text for one in wrapped}
    for error in (ValueError("planted"), requests.exceptions.SSLError()):
        assert tls_problem(error, NAMES).text == "the handshake failed"
