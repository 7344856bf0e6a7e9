"""The bridge's client authenticates at the real Keycloak by a key, an assertion of somebody else, and a certificate."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from bridge_harness import free_port
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tls_server import pem_of, pem_of_authority

from keycloak_bridge.app.connections import SystemClock, keycloak_admin
from keycloak_bridge.domain.errors import KeycloakError
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.distribution import (
    BUILD_OPTIONS,
    http_arguments,
    link_home,
    server_command,
    status_of,
)
from keycloak_bridge.sandbox.options import FAST_START
from keycloak_bridge.sandbox.processes import ManagedProcess, child_environment
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings, Settings
from keycloak_bridge.testing.realm_tools import FreshRealm, RealmAdministrator, create_realm

pytestmark = pytest.mark.integration

KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SUBJECT = "system:serviceaccount:identity:keycloak-bridge"


def pem(key: rsa.RSAPrivateKey) -> str:
    """Return a key as the bridge reads it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_set(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """Return the public half, as a client's keys or a cluster's are published."""
    algorithm = jwt.algorithms.RSAAlgorithm
    public = json.loads(algorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": "k-1", "use": "sig", "alg": "RS256"}]}


def let_authenticate(
    administrator: RealmAdministrator, realm: FreshRealm, way: str, attributes: Mapping[str, str]
) -> None:
    """Set how the bridge's client authenticates."""
    clients = f"/{realm.name}/clients"
    (client,) = administrator.call("GET", f"{clients}?clientId={realm.client_id}")
    client["clientAuthenticatorType"] = way
    client["attributes"] |= attributes
    administrator.call("PUT", f"{clients}/{client['id']}", json=client)


def outcome(url: str, realm: FreshRealm, **settings: Any) -> str:
    """Return `ok` where the bridge can count the users of the realm, else what it says."""
    keycloak = KeycloakSettings(url=url, realm=realm.name, client_id=realm.client_id, **settings)
    admin = keycloak_admin(Settings(keycloak=keycloak), SystemClock())
    try:
        admin.count_users()
    except KeycloakError as error:
        return f"{error.code}: {error.message}"
    finally:
        admin.close()
    return "ok"


def test_a_key_of_its_own(sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path) -> None:
    """`private_key_jwt`: each token is asked for with an assertion that the bridge signs; another key is refused."""
    administrator = RealmAdministrator.of(sandbox)
    keys = json.dumps(key_set(KEY))
    attributes = {"use.jwks.string": "true", "jwks.string": keys}
    let_authenticate(administrator, fresh_realm, "client-jwt", attributes)
    file = tmp_path / "client.pem"
    answers = []
    for key in (KEY, OTHER_KEY):
        file.write_text(pem(key))
        secret = Secret(path=file)
        answers.append(
            outcome(sandbox.keycloak_url, fresh_realm, client_key=secret, client_key_id="k-1")
        )

    right, wrong = answers
    assert right == "ok"
    assert wrong.startswith("keycloak-credentials: Keycloak refuses the client credentials (POST")


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Publish keys as a Kubernetes cluster does for its service accounts; yields the issuer."""
    answers: dict[str, Any] = {"/jwks": key_set(KEY)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    answers["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_token_of_a_kubernetes_service_account(
    sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path
) -> None:
    """The cluster renews the file; no secret is stored anywhere. One that has expired, or for another audience, is refused."""
    administrator = RealmAdministrator.of(sandbox)
    audience = f"{sandbox.keycloak_public_url}/realms/{fresh_realm.name}"
    file = tmp_path / "token"

    def projected(issuer: str, lives_s: float, aud: str = audience) -> None:
        now_s = int(time.time())
        claims = {
            "iss": issuer,
            "sub": SUBJECT,
            "aud": [aud],
            "iat": now_s - 3600 + int(lives_s),
            "exp": now_s + int(lives_s),
            "jti": str(now_s + lives_s),
        }
        file.write_text(jwt.encode(claims, KEY, "RS256", {"kid": "k-1"}))

    with cluster() as issuer:
        provider = {
            "alias": "kubernetes",
            "providerId": "kubernetes",
            "enabled": True,
            "config": {"issuer": issuer},
        }
        administrator.call(
            "POST", f"/{fresh_realm.name}/identity-provider/instances", json=provider
        )
        attributes = {"jwt.credential.issuer": "kubernetes", "jwt.credential.sub": SUBJECT}
        let_authenticate(administrator, fresh_realm, "federated-jwt", attributes)
        ask = partial(
            outcome, sandbox.keycloak_url, fresh_realm, client_assertion=Secret(path=file)
        )
        answers = []
        for lives_s, aud in ((3600, audience), (-60, audience), (3600, "https://other.example")):
            projected(issuer, lives_s, aud)
            answers.append(ask())

    right, *wrong = answers
    assert right == "ok"
    assert {one.partition(":")[0] for one in wrong} == {"keycloak-credentials"}


@contextlib.contextmanager
def keycloak_with_tls(
    sandbox: Sandbox, folder: Path, authority: trustme.CA
) -> Iterator[tuple[str, RealmAdministrator]]:
    """Start a Keycloak that asks callers for certificates of `authority`; yields its https address.

    That is a build option of Keycloak, so it is built anew in a copy.
    """
    java, prepared = sandbox._distribution.java, sandbox._distribution.keycloak()
    server, home = folder / "server", folder / "home"
    shutil.copytree(prepared.server, server, symlinks=True)
    build = ManagedProcess("Keycloak's build", folder / "build.log")
    options = ["build", *BUILD_OPTIONS, "--https-client-auth=request"]
    build.spawn(server_command(java, server, server, options, FAST_START), child_environment())
    build.wait_for_end(threading.Event(), 600, "build")
    link_home(server, home)
    shutil.copytree(prepared.folder / "h2", home / "data" / "h2", dirs_exist_ok=True)
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    with (folder / "server.pem").open("wb") as chain:
        chain.writelines(one.bytes() for one in certificate.cert_chain_pems)
    plain, secure = free_port(), free_port()
    arguments = [
        *http_arguments(f"https://localhost:{secure}", plain),
        f"--https-port={secure}",
        f"--https-certificate-file={folder / 'server.pem'}",
        f"--https-certificate-key-file={folder / 'server.key'}",
        f"--https-trust-store-file={pem_of_authority(authority, folder / 'clients.pem')}",
    ]
    keycloak = ManagedProcess("Keycloak", folder / "keycloak.log")
    keycloak.spawn(server_command(java, server, home, arguments, FAST_START), child_environment())
    url = f"http://127.0.0.1:{plain}"
    try:
        answers = partial(status_of, f"{url}/realms/master")
        keycloak.wait(lambda: answers() == 200, threading.Event(), 600, "it answered")
        yield (
            f"https://localhost:{secure}",
            RealmAdministrator(url, sandbox.admin_username, prepared.admin_password),
        )
    finally:
        keycloak.stop()


@pytest.mark.full
def test_tls_mutual_tls_and_a_certificate_of_the_client(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each way that is right works; each that is wrong says why in a sentence."""
    authority, other = trustme.CA(), trustme.CA()
    ca_file = pem_of_authority(authority, tmp_path / "ca.pem")
    own = pem_of(authority.issue_cert("b", common_name="keycloak-bridge"), tmp_path / "own.pem")
    another = pem_of(authority.issue_cert("b", common_name="another"), tmp_path / "another.pem")
    foreign = pem_of(other.issue_cert("b", common_name="keycloak-bridge"), tmp_path / "foreign.pem")
    with keycloak_with_tls(sandbox, tmp_path, authority) as (url, administrator):
        realm = create_realm(sandbox, administrator, "acme-tls")
        ask = partial(outcome, realm=realm, ca_file=ca_file)
        secret = Secret(realm.client_secret)
        by_secret = [
            ask(url, client_secret=secret),
            ask(url, client_secret=secret, tls_cert_file=own),
            ask(url, client_secret=secret, tls_cert_file=foreign),
            ask(url, client_secret=secret, ca_file=pem_of_authority(other, tmp_path / "other.pem")),
            ask(url.replace("localhost", "127.0.0.1"), client_secret=secret),
        ]
        subject = {
            "x509.subjectdn": ".*CN=keycloak-bridge.*",
            "x509.allow.regex.pattern.comparison": "true",
        }
        let_authenticate(administrator, realm, "client-x509", subject)
        by_certificate = [ask(url, tls_cert_file=own), ask(url, tls_cert_file=another)]

    call = "(POST /protocol/openid-connect/token)"
    tls = "keycloak-tls: there is no TLS connection to Keycloak:"
    assert by_secret[:2] == ["ok", "ok"]
    assert by_secret[2].startswith(tls)
    assert by_secret[3:] == [
        f"{tls} no authority that the bridge trusts has signed its certificate {call}",
        f"{tls} its certificate is for another host name than that of [keycloak] url {call}",
    ]
    assert by_certificate[0] == "ok"
    assert by_certificate[1].startswith("keycloak-credentials")
