"""From a realm as Keycloak creates it to the first invited user, by `keycloak-bridge realm`."""

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import Bench, an_event

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.distribution import cache_dir, locked, prepared_folder
from keycloak_bridge.sandbox.processes import find_java
from keycloak_bridge.testing.realm_tools import FreshRealm, RealmAdministrator

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-the-bridge"
PASSWORD = "a-password-of-the-owner"
OTHERS: dict[str, Any] = {
    "passwordPolicy": "length(9)",
    "webAuthnPolicyRpEntityName": "Mine",
    "otpPolicyDigits": 8,
    "oauth2DeviceCodeLifespan": 300,
    "attributes": {"cibaInterval": "7", "parRequestUriLifespan": "77"},
    "loginTheme": "keycloak.v2",
    "accessTokenLifespan": 123,
    "eventsListeners": [],
    "groups": [{"name": "mine"}],
    "roles": {"realm": [{"name": "mine"}]},
    "users": [
        {
            "username": "owner",
            "email": "owner@acme.example",
            "firstName": "Olga",
            "lastName": "Owner",
            "enabled": True,
            "credentials": [{"type": "password", "value": PASSWORD}],
            "clientRoles": {"realm-management": ["realm-admin"]},
        }
    ],
}
"""What an owner has set, and the command must leave as it is; the owner is an administrator of this realm only."""

CHANGED = {
    *("adminEventsEnabled", "attributes", "clientScopeMappings", "clients", "components"),
    *("defaultLocale", "eventsEnabled", "eventsExpiration", "groups", "internationalizationEnabled"),
    *("roles", "supportedLocales", "users"),
}  # fmt: skip


@contextlib.contextmanager
def new_realm(sandbox: Sandbox, folder: Path, **representation: Any) -> Iterator[Bench]:
    """Create a realm with Keycloak's defaults, and point the bridge at it."""
    administrator = RealmAdministrator.of(sandbox)
    name = f"new-{uuid.uuid4().hex[:8]}"
    administrator.call("POST", "", json={"realm": name, "enabled": True, **representation})
    try:
        yield Bench(sandbox, FreshRealm(name, "keycloak-bridge", SECRET), name, folder)
    finally:
        administrator.delete(name)


def commanded(bench: Bench, *arguments: str, code: int = 0, owner: bool = False) -> str:
    """Return what `keycloak-bridge realm` prints to the server's administrator, or the realm's; no secret may be in it."""
    (bench.folder / "password").write_text(PASSWORD if owner else bench.sandbox.admin_password)
    name, place = ("owner", bench.realm.name) if owner else (bench.sandbox.admin_username, "master")
    login = ("--user", name, "--user-realm", place, "--password-file", "password")
    done = bench.run_command("realm", *arguments, *login)
    assert code == done.returncode, done.stderr
    for secret in (SECRET, PASSWORD, bench.sandbox.admin_password):
        assert secret not in done.stdout + done.stderr
    return done.stdout


def lacking(bench: Bench) -> list[Any]:
    """Return the steps that `realm plan` still sees."""
    found = json.loads(commanded(bench, "plan", "--exact", "--format", "json"))
    steps: list[Any] = found["steps"]
    return steps


def whole(bench: Bench) -> dict[str, Any]:
    """Return all of the realm, as Keycloak exports it."""
    administrator, query = (
        RealmAdministrator.of(bench.sandbox),
        "exportClients=true&exportGroupsAndRoles=true",
    )
    found: dict[str, Any] = administrator.call(
        "POST", f"/{bench.realm.name}/partial-export?{query}"
    )
    return found  # fmt: skip


def kept(before: Any, after: Any) -> bool:
    """Say whether all of `before` is in `after`; a list may have more items."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(kept(v, after.get(k)) for k, v in before.items())
    if isinstance(before, list):
        return all(any(kept(one, other) for other in after) for one in before)
    return bool(before == after)


def test_from_a_new_realm_to_the_first_invited_user(sandbox: Sandbox, tmp_path: Path) -> None:
    """Plan, apply, the owner's mail server, an event: the mail comes, the doctor is content, all else is as it was."""
    smtp = {
        "host": sandbox.mail.host,
        "port": str(sandbox.mail.port),
        "from": "no-reply@acme.example",
    }
    with new_realm(sandbox, tmp_path, **OTHERS) as bench:
        before = whole(bench)
        planned = commanded(bench, "plan", "--exit-code", code=4, owner=True)
        assert before == whole(bench)

        commanded(bench, "apply", "--yes", owner=True)
        after = whole(bench)
        again = commanded(bench, "apply", "--yes")
        written_again = whole(bench) != after
        RealmAdministrator.of(sandbox).call(
            "PUT", f"/{bench.realm.name}", json={"smtpServer": smtp}
        )
        bench.run_command("topics", "create", check=True)
        doctor = json.loads(bench.run_command("doctor", "--format", "json").stdout)
        bench.publish(
            an_event(f"ada-{bench.suffix}", roles=["viewer"], groups=["/staff/engineering"])
        )
        bench.catch_up()

        assert "the realm has no mail server" in planned
        assert "nothing to write" in again
        assert not written_again
        assert [] == [one for one in doctor["findings"] if one["light"] == "red"]
        (mail,) = sandbox.mail.sent_to(f"ada-{bench.suffix}@acme.example")
        assert f"/realms/{bench.realm.name}/" in mail.links[0]

    differing = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {} == {name: (before.get(name), after.get(name)) for name in differing - CHANGED}
    assert kept(
        {name: before[name] for name in ("attributes", "clients", "groups", "roles")}, after
    )


def test_a_realm_from_the_exported_representation_lacks_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """What `realm export` writes for Keycloak's import is all that is needed."""
    blank = Bench(sandbox, FreshRealm("nowhere", "keycloak-bridge", SECRET), "blank", tmp_path)
    text = blank.run_command("realm", "export", check=True).stdout
    representation = json.loads(text)
    del representation["realm"]
    representation["clients"][0]["secret"] = SECRET

    with new_realm(sandbox, tmp_path, **representation) as bench:
        assert [] == lacking(bench)


@pytest.mark.full
def test_a_realm_made_by_the_exported_commands_lacks_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The script runs with the kcadm.sh of the distribution, and leaves nothing to write."""
    pinned = prepared_folder(cache_dir(), locked("keycloak")) / "server" / "bin"
    java = Path(find_java().executable)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "JAVA_HOME": str(java.parent.parent),
        "JAVA": str(java),
        "KEYCLOAK_BRIDGE_CLIENT_SECRET": SECRET,
        "KC_CLI_PASSWORD": sandbox.admin_password,
    }

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)

    # the distribution is unpacked without the right to execute its scripts
    wrapper = tmp_path / "kcadm.sh"
    wrapper.write_text(f'#!/bin/sh\nexec sh "{pinned}/kcadm.sh" "$@"\n')
    wrapper.chmod(0o700)
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    login = (
        "--server",
        sandbox.keycloak_url,
        "--realm",
        "master",
        "--user",
        sandbox.admin_username,
    )
    with new_realm(sandbox, tmp_path) as bench:
        script = tmp_path / "commands.sh"
        script.write_text(commanded(bench, "export", "--format", "kcadm", "--against-realm"))
        run("kcadm.sh", "config", "credentials", *login)
        run("sh", str(script))

        assert [] == lacking(bench)
