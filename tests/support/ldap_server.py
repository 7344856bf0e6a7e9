"""An LDAP server in memory, started from a pinned jar, for realms that take users from a directory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import Artifact, cache_dir, fetch
from keycloak_bridge.sandbox.processes import (
    LOOPBACK,
    ManagedProcess,
    child_environment,
    find_java,
    loopback_port,
)

SERVER = Artifact(
    "com.unboundid",
    "unboundid-ldapsdk",
    "7.0.3",
    "jar",
    "7f1b9141f2c955d3a03b3f5da2c450bd616826e921a87fc19264a3f22b35e2fb",
    5895907,
)
BASE = "dc=acme,dc=example"
BIND_DN = "cn=admin"
BIND_PASSWORD = "secret"


@contextmanager
def ldap_server(entries: str) -> Iterator[str]:
    """Serve `entries` (LDIF) below BASE meanwhile; yield the server's URL."""
    (jar,) = fetch([SERVER], cache_dir(), lambda *_: None, Event())
    port = loopback_port(0, "LDAP")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "people.ldif").write_text(entries, encoding="utf-8")
        command = [
            *(str(find_java().home / "bin" / "java"), "-jar", str(jar)),
            "in-memory-directory-server",
            *("--baseDN", BASE, "--port", str(port), "--ldifFile", "people.ldif"),
            *("--additionalBindDN", BIND_DN, "--additionalBindPassword", BIND_PASSWORD),
        ]
        server = ManagedProcess("LDAP", folder / "ldap.log")
        server.spawn(command, child_environment())
        try:
            server.wait(
                lambda: "Listening" in server.log_path.read_text(), Event(), 60.0, "it listened"
            )
            yield f"ldap://{LOOPBACK}:{port}"
        finally:
            server.stop()
