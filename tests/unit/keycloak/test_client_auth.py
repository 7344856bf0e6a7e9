"""How the client authenticates: what each way puts into the request for a token, and what is said where it is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from stub_adapter import StubAdapter

from keycloak_bridge.domain.errors import BridgeError, ConfigError, KeycloakAuthError
from keycloak_bridge.keycloak.access import client_auth
from keycloak_bridge.keycloak.client_auth import by_key
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.settings.model import KeycloakSettings
from keycloak_bridge.testing.fake_clock import FakeClock

ISSUER = "https://id.example.com/realms/acme"
RSA = rsa.generate_private_key(65537, 2048)


def pem(key: object, passphrase: bytes | None = None) -> str:
    """Return a private key in PEM."""
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)  # type: ignore[attr-defined]
    return encoded.decode()


class Bench:
    """A token source by some settings, over a script."""

    def __init__(self, **settings: object) -> None:
        self.stub = StubAdapter(scripted_tokens=True)
        self.clock = FakeClock()
        keycloak = KeycloakSettings(realm="acme", **settings)  # type: ignore[arg-type]
        http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), self.stub)
        self.tokens = TokenSource(http, client_auth(keycloak, self.clock), self.clock)

    def grant(self) -> None:
        self.stub.answer(200, {"access_token": "a", "expires_in": 0})

    def asked(self) -> dict[str, str]:
        """Return the form of a renewal."""
        self.grant()
        self.tokens.token()
        return dict(parse_qsl(self.stub.requests[-1].body))


def test_a_secret() -> None:
    """As the form's parameters, since a secret with a colon or an umlaut has many spellings in a header."""
    asked = Bench(client_secret=Secret("planted:sécret")).asked()
    assert {
        "grant_type": "client_credentials",
        "client_id": "keycloak-bridge",
        "client_secret": "planted:sécret",
    } == asked


def test_a_certificate(tmp_path: Path) -> None:
    """Only the client is named: the connection has the certificate."""
    asked = Bench(tls_cert_file=tmp_path / "own.pem").asked()
    assert {"grant_type": "client_credentials", "client_id": "keycloak-bridge"} == asked


def test_an_assertion_is_read_at_each_renewal(tmp_path: Path) -> None:
    """Kubernetes replaces the file long before the token in it expires; which client it is for is its own word."""
    file = tmp_path / "token"
    file.write_text("first\n")
    bench = Bench(client_assertion=Secret(path=file))
    first = bench.asked()
    file.write_text("second\n")

    assert {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "first",
    } == first
    assert "second" == bench.asked()["client_assertion"]
    file.unlink()
    with pytest.raises(KeycloakAuthError, match="cannot be read"):
        bench.tokens.token()


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_a_key_signs_an_assertion_for_the_issuer(key: rsa.RSAPrivateKey, algorithm: str) -> None:
    """Keycloak wants the issuer as the only audience; it may have another name than the one that the bridge calls.

    Each assertion is valid for a minute and has an id of its own.
    """
    bench = Bench(client_key=Secret(pem(key)), client_key_id="2026-11")
    bench.stub.answer(200, {"issuer": ISSUER})
    first, second = bench.asked(), bench.asked()

    header = jwt.get_unverified_header(first["client_assertion"])
    assert (algorithm, "2026-11") == (header["alg"], header["kid"])
    claims = [
        jwt.decode(
            one["client_assertion"],
            key.public_key(),
            [algorithm],
            audience=ISSUER,
            options={"verify_exp": False, "verify_iat": False},
        )
        for one in (first, second)
    ]
    now_s = int(bench.clock.now().timestamp())
    assert {"iss", "sub", "aud", "jti", "iat", "exp"} == claims[0].keys()
    assert ("keycloak-bridge", "keycloak-bridge", now_s, now_s + 60) == (
        claims[0]["iss"],
        claims[0]["sub"],
        claims[0]["iat"],
        claims[0]["exp"],
    )
    assert claims[0]["jti"] != claims[1]["jti"]
    assert "keycloak-bridge" == first["client_id"]
    paths = [one.path for one in bench.stub.requests]
    assert 1 == sum(path.endswith("/.well-known/openid-configuration") for path in paths)


def test_the_issuer_is_asked_again_after_a_refusal() -> None:
    """Keycloak may have got another host name since."""
    bench = Bench(client_key=Secret(pem(RSA)))
    for issuer in (ISSUER, "https://new.example/realms/acme"):
        bench.stub.answer(200, {"issuer": issuer})
        bench.stub.answer(401, {"error": "invalid_client"})
        with pytest.raises(KeycloakAuthError):
            bench.tokens.token()
    last = dict(parse_qsl(bench.stub.requests[-1].body))["client_assertion"]
    claims = jwt.decode(last, options={"verify_signature": False})
    assert "https://new.example/realms/acme" == claims["aud"]


@pytest.mark.parametrize("answer", [{}, {"issuer": 3}, [], None])
def test_an_issuer_that_is_none_is_no_keycloak(answer: object) -> None:
    """Another server answers at the address."""
    bench = Bench(client_key=Secret(pem(RSA)))
    bench.stub.answer(200, answer)
    with pytest.raises(BridgeError) as caught:
        bench.tokens.token()
    assert "not-keycloak" == caught.value.code


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (lambda: "planted", "is no private key in PEM"),
        (lambda: pem(RSA, b"planted"), "has a passphrase"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "of a kind"),
        (lambda: pem(dsa.generate_private_key(2048)), "of a kind"),
    ],
)
def test_a_key_that_cannot_be_used(key: Callable[[], str], problem: str) -> None:
    """It says why, and never what is in the file; the bridge waits for another one."""
    bench = Bench(client_key=Secret(key()))
    bench.stub.answer(200, {"issuer": ISSUER})
    with pytest.raises(KeycloakAuthError, match=problem) as caught:
        bench.tokens.token()
    assert "client-key-unusable" == caught.value.code
    assert "planted" not in f"{caught.value.message} {caught.value.remedy}"


def test_a_key_without_the_extra_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, with what to install."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError, match="PyJWT is not installed") as caught:
        by_key("bridge", lambda: "", None, FakeClock())
    assert "keycloak-bridge[jwt]" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"client_secret": Secret("x")}, "client_secret_file"),
        ({"client_key": Secret(pem(RSA))}, "client_key_file"),
        ({"client_assertion": Secret("x")}, "client_assertion_file"),
        ({"tls_cert_file": Path("own.pem")}, "tls_cert_file"),
    ],
)
def test_a_refusal_names_what_was_tried(settings: dict[str, object], named: str) -> None:
    """Of all ways the one that is set."""
    bench = Bench(**settings)
    if "client_key" in settings:
        bench.stub.answer(200, {"issuer": ISSUER})
    bench.stub.answer(401, {"error": "unauthorized_client"})
    with pytest.raises(KeycloakAuthError) as caught:
        bench.tokens.token()
    assert "keycloak-credentials" == caught.value.code
    assert named in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "keycloak.client_secret: is needed"),
        ({"CLIENT_KEY": "x"}, None),
        ({"CLIENT_ASSERTION": "x"}, None),
        ({"TLS_CERT_FILE": "own.pem", "URL": "https://id.example"}, None),
        ({"TLS_CERT_FILE": "own.pem"}, "needs an https address"),
        ({"CLIENT_SECRET": "x", "TLS_KEY_FILE": "own.key"}, "needs `keycloak.tls_cert_file`"),
        ({"CLIENT_SECRET": "x", "CLIENT_KEY": "x"}, "must not be given with"),
        ({"CLIENT_KEY": "x", "CLIENT_ASSERTION": "x"}, "must not be given with"),
        ({"CLIENT_SECRET": "x", "CLIENT_KEY_ID": "x"}, "needs `keycloak.client_key_file`"),
    ],
)
def test_one_way_is_needed_and_no_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], problem: str | None
) -> None:
    """A certificate may go with any of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("own.pem", "own.key"):
        (tmp_path / name).write_text("x")
    environ = {f"KEYCLOAK_BRIDGE_KEYCLOAK_{name}": text for name, text in given.items()}
    loaded = read_settings(environ=environ, require=("keycloak.client_secret",))
    assert (problem is None, 1 if problem else 0) == (not loaded.problems, len(loaded.problems))
    assert (problem or "") in "".join(loaded.problems)
