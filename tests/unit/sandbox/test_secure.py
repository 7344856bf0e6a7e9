"""What `sandbox up --secure` makes before anything starts."""

import ssl
import stat
from pathlib import Path

from acl_commands import rights
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keycloak_bridge.sandbox.secure import BRIDGE, RIGHTS, SecureParts
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS, read_settings

PAGE = Path(__file__).parents[3] / "docs" / "security.md"


def test_the_rights_are_those_of_the_page() -> None:
    """Whoever tries the sandbox has what a production cluster should give."""
    of_page = {(f"{one.principal}", *one[1:]) for one in rights(PAGE.read_text(encoding="utf-8"))}
    assert {(f"User:{one.user}", *one[1:]) for one in RIGHTS} == of_page


def test_only_the_owner_can_read_what_is_secret(tmp_path: Path) -> None:
    """Keys, passwords and the settings that hold one."""
    parts = SecureParts.made_in(tmp_path / "secure")
    parts.write_settings("127.0.0.1:9093", "https://127.0.0.1:8443", "acme")
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in parts.folder.iterdir()}
    modes.pop("ca.pem")

    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(parts.folder.stat().st_mode) == 0o700


def test_the_settings_files_are_right(tmp_path: Path) -> None:
    """Nothing is missing or unknown; the files of certificates and keys can be used."""
    parts = SecureParts.made_in(tmp_path / "secure")
    parts.write_settings("127.0.0.1:9093", "https://127.0.0.1:8443", "acme")
    for name in ("bridge", "operator"):
        loaded = read_settings(parts.folder / f"{name}.toml", environ={}, require=KEYCLOAK_ACCESS)
        assert loaded.problems == ()
    bridge = read_settings(parts.folder / "bridge.toml", environ={}).settings
    assert bridge.keycloak.authentication == "private_key_jwt"
    assert bridge.kafka.token_client == bridge.keycloak
    ssl.create_default_context(cafile=str(parts.ca_file))
    load_pem_private_key((parts.folder / "bridge-key.pem").read_bytes(), None)


def test_the_client_of_the_realm_has_no_secret(tmp_path: Path) -> None:
    """It authenticates by its key, and its tokens are for Kafka too."""
    parts = SecureParts.made_in(tmp_path / "secure")
    client = {"clientId": BRIDGE, "secret": "hush", "clientAuthenticatorType": "client-secret"}
    parts.change_realm({"clients": [client]})

    assert "secret" not in client
    assert client["clientAuthenticatorType"] == "client-jwt"
