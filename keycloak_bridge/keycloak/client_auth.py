"""How the bridge's client authenticates when it asks for a token: by a secret, a certificate, a signed JWT or an assertion.

Each way is asked at every renewal, so that a file that was replaced takes effect without a restart.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.domain.errors import ConfigError, KeycloakAuthError
from keycloak_bridge.domain.ports import Clock

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE_S = 60
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """One way: the parameters of a request for a token, and what to check where Keycloak refuses them.

    `parameters` gets the realm's issuer to call; both raise KeycloakError for what cannot be had now.
    """

    parameters: Callable[[Callable[[], str]], Mapping[str, str]]
    check: str


def by_secret(client_id: str, secret: Callable[[], str]) -> ClientAuth:
    """Return the way "Client Id and Secret"."""
    return ClientAuth(
        lambda _: {"client_id": client_id, "client_secret": secret()},
        "[keycloak] client_id and client_secret (or client_secret_file)",
    )


def by_certificate(client_id: str) -> ClientAuth:
    """Return the way "X509 Certificate" (`tls_client_auth`): the connection itself has the certificate."""
    return ClientAuth(
        lambda _: {"client_id": client_id},
        "[keycloak] client_id and tls_cert_file, that the client's credentials are 'X509 Certificate' with its subject, that "
        "Keycloak asks for certificates (--https-client-auth=request)",
    )


def by_key(client_id: str, key: Callable[[], str], key_id: str | None, clock: Clock) -> ClientAuth:
    """Return the way "Signed JWT" (`private_key_jwt`): an assertion for each token, signed with the private `key` (PEM).

    Raises ConfigError where the library for it is not installed.
    """
    _require_jwt()

    def parameters(issuer: Callable[[], str]) -> Mapping[str, str]:
        assertion = signed_assertion(key(), key_id, client_id, issuer(), clock.now().timestamp())
        return {"client_id": client_id, **_assertion(assertion)}

    return ClientAuth(
        parameters,
        "[keycloak] client_id, client_key_file and client_key_id, that the client's credentials are 'Signed JWT' with the public "
        "half of this key, that the clocks agree",
    )


def by_assertion(assertion: Callable[[], str]) -> ClientAuth:
    """Return the way by a JWT that somebody else signs and renews, such as a Kubernetes service account's token.

    The assertion says which client it is for.
    """
    return ClientAuth(
        lambda _: _assertion(assertion()),
        "[keycloak] client_assertion_file: that the assertion has not expired, that it is for this realm (`aud`), and that the "
        "client's credentials name its issuer and subject",
    )


def _assertion(assertion: str) -> Mapping[str, str]:
    return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}


def signed_assertion(
    key: str, key_id: str | None, client_id: str, issuer: str, now_s: float
) -> str:
    """Return a JWT by which `client_id` authenticates at `issuer`; the kind of key decides about the algorithm.

    Raises KeycloakAuthError (`client-key-unusable`) for a key that cannot be used.
    """
    import jwt  # noqa: PLC0415 # an extra

    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": issuer,
        "jti": str(uuid.uuid4()),
        "iat": int(now_s),
        "exp": int(now_s) + _ASSERTION_LIFE_S,
    }
    private = _private_key(key)
    headers = {"kid": key_id} if key_id else None
    return jwt.encode(claims, private, _algorithm(private), headers)


def _private_key(key: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 # comes with the extra
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    try:
        return load_pem_private_key(key.encode(), None)
    except TypeError as error:
        raise _unusable("has a passphrase", "write it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable("is no private key in PEM", "write it in PEM") from error


def _algorithm(private: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    if isinstance(private, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    raise _unusable(
        "is of a kind that Keycloak does not know", "use RSA, EC (P-256, P-384, P-521) or Ed25519"
    )


def _unusable(problem: str, remedy: str) -> KeycloakAuthError:
    return KeycloakAuthError(
        f"[keycloak] client_key_file {problem}", code="client-key-unusable", remedy=remedy
    )


def _require_jwt() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415 # an extra
        import jwt  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(
            "[keycloak] client_key_file is set, and PyJWT is not installed",
            code="jwt-not-installed",
            remedy="pip install 'keycloak-bridge[jwt]', or let the client authenticate in another way",
        ) from error
