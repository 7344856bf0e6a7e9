"""The realm file is its own export: what Keycloak imports is what the script writes back."""

import copy
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import FreshRealm

FOLDER = Path(__file__).parents[2] / "keycloak-config"
TEXT = (FOLDER / "acme-realm.json").read_text("utf-8")
REALM: dict[str, Any] = json.loads(TEXT)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def module(name: str) -> ModuleType:
    """Import one of the two scripts, which are no package."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return import_module(name)


form = module("normal_form")
script = module("export_realm")


def administration(sandbox: Sandbox) -> Any:
    """Log in as the script does."""
    return script.Administration(
        sandbox.keycloak_url, sandbox.admin_username, sandbox.admin_password
    )


def demo_environment(sandbox: Sandbox) -> dict[str, str]:
    """Return what the addresses of the demo client were filled with."""
    return {"DEMO_APP_URL": sandbox.options.demo_app_url}


def test_the_file_is_in_normal_form() -> None:
    """Keys and sets are sorted, and nothing generated stands in it."""
    assert form.dump(form._clean(REALM)) == TEXT
    assert UUID.search(TEXT) is None


def test_addresses_and_secrets_come_from_the_environment() -> None:
    """Every value of the mail server but its time-outs is a placeholder, and so is the secret."""
    smtp = {key: value for key, value in REALM["smtpServer"].items() if "imeout" not in key}
    secrets = [client["secret"] for client in REALM["clients"] if "secret" in client]

    assert all(form.PLACEHOLDER.fullmatch(value) for value in [*smtp.values(), *secrets])
    assert 9 == len(smtp)


def test_without_a_secret_nothing_is_imported() -> None:
    """The default of the secret says so and is longer than the 255 characters that Keycloak stores."""
    (secret,) = [client["secret"] for client in REALM["clients"] if "secret" in client]

    filled = form.resolve(secret, {})

    assert filled.startswith("KEYCLOAK_BRIDGE_CLIENT_SECRET is not set")
    assert len(filled) > 255


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${NAME}", "value"),
        ("${NAME:default}", "value"),
        ("${OTHER:http://localhost:8000}/*", "http://localhost:8000/*"),
        ("${OTHER:}", ""),
        ("${OTHER}", "${OTHER}"),
        ("${username}", "${username}"),
    ],
)
def test_placeholders_are_filled_as_keycloak_does(text: str, filled: str) -> None:
    """Environment first, then the default; what has neither stays as it is."""
    assert {"key": [filled]} == form.resolve({"key": [text]}, {"NAME": "value"})


def test_what_a_log_in_adds_is_left_out() -> None:
    """Keycloak notes in the mapper of the groups that its claim is a list, as soon as somebody has logged in."""
    realm = copy.deepcopy(REALM)
    mappers = [one for client in realm["clients"] for one in client.get("protocolMappers", ())]
    (groups,) = [one for one in mappers if one["name"] == "groups"]
    groups["config"]["multivalued"] = "true"

    assert form.dump(form._clean(realm)) == TEXT


@pytest.mark.integration
def test_the_file_equals_its_own_export(sandbox: Sandbox) -> None:
    """The realm that was imported at start-up exports to the very bytes of the file."""
    text = script.export(administration(sandbox), sandbox.realm, REALM, demo_environment(sandbox))

    assert text == TEXT


@pytest.mark.integration
@pytest.mark.parametrize("template", [REALM, {"realm": REALM["realm"]}], ids=["file", "nothing"])
def test_an_export_imports_to_the_same_realm(sandbox: Sandbox, template: dict[str, Any]) -> None:
    """Exported, imported under another name and exported again: equal, with or without a file to follow."""
    admin, environ = administration(sandbox), demo_environment(sandbox)
    first = script.export(admin, sandbox.realm, template, environ)
    names = {"KEYCLOAK_REALM": "round-trip", "KEYCLOAK_BRIDGE_CLIENT_SECRET": "another"}
    with admin.temporary(form.resolve(json.loads(first), names)):
        second = script.export(admin, "round-trip", template, environ)

    assert first == second
    assert form.MASKED not in first
    assert UUID.search(first) is None


@pytest.mark.integration
def test_a_change_in_keycloak_is_the_only_change_in_the_file(
    sandbox: Sandbox, fresh_realm: FreshRealm
) -> None:
    """A new role, group, redirect and setting arrive in the file, each where it belongs, and nothing else."""
    admin = administration(sandbox)
    path = f"/admin/realms/{fresh_realm.name}"
    (demo,) = admin._call("GET", f"{path}/clients", params={"clientId": "demo-app"}).json()
    admin._call("PUT", path, json={"rememberMe": True})
    admin._call("POST", f"{path}/roles", json={"name": "planner", "description": "Plans"})
    admin._call("POST", f"{path}/groups", json={"name": "partners"})
    admin._call(
        "PUT",
        f"{path}/clients/{demo['id']}",
        json=demo | {"redirectUris": [*demo["redirectUris"], "https://app.example/*"]},
    )
    expected = copy.deepcopy(REALM)
    expected["rememberMe"] = True
    expected["roles"]["realm"].insert(3, {"name": "planner", "description": "Plans"})
    expected["groups"].insert(1, {"name": "partners"})
    expected["clients"][0]["redirectUris"].append("https://app.example/*")

    text = script.export(admin, fresh_realm.name, REALM, demo_environment(sandbox))

    assert expected == json.loads(text)


def run_script(
    sandbox: Sandbox, password: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the script beside the sandbox as `make export-realm` does."""
    environ = os.environ | sandbox.environment()
    return subprocess.run(
        [sys.executable, FOLDER / "export_realm.py", *arguments],
        env=environ | {"KC_BOOTSTRAP_ADMIN_PASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
def test_the_command_writes_and_checks(sandbox: Sandbox, tmp_path: Path) -> None:
    """`--check` tells a stale file from a fresh one, and without it the file is written."""
    file = tmp_path / "realm.json"
    file.write_text(form.dump(REALM | {"displayName": "Stale"}), "utf-8")
    password = sandbox.admin_password

    stale = run_script(sandbox, password, "--file", str(file), "--check")
    written = run_script(sandbox, password, "--file", str(file))
    fresh = run_script(sandbox, password, "--file", str(file), "--check")

    assert (1, 0, 0) == (stale.returncode, written.returncode, fresh.returncode)
    assert TEXT == file.read_text("utf-8")


@pytest.mark.integration
def test_the_command_says_what_is_wrong(sandbox: Sandbox, tmp_path: Path) -> None:
    """A wrong password or address ends in one sentence with the remedy, and no traceback."""
    file = str(tmp_path / "realm.json")

    refused = run_script(sandbox, "wrong", "--file", file)
    absent = run_script(sandbox, "wrong", "--file", file, "--url", "http://127.0.0.1:9")

    assert (2, 2) == (refused.returncode, absent.returncode)
    assert "the password" in refused.stderr
    assert "--url" in absent.stderr
    assert 1 == refused.stderr.count("\n") == absent.stderr.count("\n")
