"""Tokens as a Kubernetes cluster issues them to its service accounts, so that a Keycloak without a cluster can check some."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from keycloak_bridge.ops.private_files import replace_file
from keycloak_bridge.sandbox.processes import LOOPBACK

SUBJECT = "system:serviceaccount:identity:keycloak-bridge"
LIFE_S = 600.0
_KEY_ID = "cluster"
_PROVIDER = "kubernetes"
_ALGORITHM = "RS256"
_DISCOVERY, _KEYS = "/.well-known/openid-configuration", "/jwks"
_POLL_S, _STOP_S = 0.05, 10.0


CLIENT_ATTRIBUTES = {"jwt.credential.issuer": _PROVIDER, "jwt.credential.sub": SUBJECT}
"""Those of a client that authenticates by such a token (`federated-jwt`)."""


def key_set(key: rsa.RSAPrivateKey, key_id: str) -> dict[str, Any]:
    """Return the public half of a key, as a client's keys or a cluster's are published (JWKS)."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": key_id, "use": "sig", "alg": _ALGORITHM}]}


class ServiceAccounts:
    """Publishes its keys on a loopback port, and keeps the token in a file fresh, as a projected volume does."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _Answering)
        self.issuer = f"http://{LOOPBACK}:{self._server.server_port}"
        documents = {
            _DISCOVERY: {"issuer": self.issuer, "jwks_uri": f"{self.issuer}{_KEYS}"},
            _KEYS: key_set(self._key, _KEY_ID),
        }
        self._server.documents = documents  # type: ignore[attr-defined] # for its handlers
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True)]  # fmt: skip
        self._threads[0].start()

    def stop(self) -> None:
        """Stop publishing and renewing."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(_STOP_S)

    def provider(self) -> dict[str, Any]:
        """Return the identity provider of a realm that takes these tokens."""
        return {
            "alias": _PROVIDER,
            "providerId": "kubernetes",
            "enabled": True,
            "config": {"issuer": self.issuer},
        }

    def token(self, audience: str, life_s: float = LIFE_S) -> str:
        """Return a token for this audience that was issued now; with a `life_s` below zero, one that has expired."""
        issued_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": SUBJECT,
            "aud": [audience],
            "iat": issued_s - int(max(0.0, -2 * life_s)),
            "exp": issued_s + int(life_s),
        }
        return jwt.encode(claims, self._key, _ALGORITHM, {"kid": _KEY_ID})

    def project(self, audience: str, file: Path) -> None:
        """Write a token into a file, and another one each time that half of its life is over."""

        def renew() -> None:
            while not self._stopped.wait(LIFE_S / 2):
                replace_file(file, self.token(audience).encode())

        replace_file(file, self.token(audience).encode())
        self._threads.append(threading.Thread(target=renew, daemon=True))
        self._threads[-1].start()


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # its name in the standard library
        document = self.server.documents.get(self.path)  # type: ignore[attr-defined]
        body = json.dumps(document).encode()
        self.send_response(404 if document is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
