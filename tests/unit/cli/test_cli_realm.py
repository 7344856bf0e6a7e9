"""`keycloak-bridge realm`: what it asks, prints and returns; the password is in none of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_harness import call
from click.testing import Result
from realm_rest import RealmRest

from keycloak_bridge.cli import realm
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp

PASSWORD = "planted-password"
ENVIRONMENT = {
    "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": "acme",
    "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "planted-client-secret",
}


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealmRest]:
    """A realm with Keycloak's defaults behind the command."""
    found = RealmRest()
    connection = KeycloakConnection("https://keycloak.example", "acme")
    monkeypatch.setattr(realm, "keycloak_http", lambda _: KeycloakHttp(connection, found))
    monkeypatch.setattr("keycloak_bridge.ops.logs.configure_logging", lambda **_: None)
    yield found
    assert not [body for body in found.bodies if PASSWORD in json.dumps(body)]


def said(*words: str, stdin: str | None = None, password: str = PASSWORD) -> Result:
    """Return what the command prints; no secret may be in it."""
    done = call("realm", *words, stdin=stdin, KC_CLI_PASSWORD=password, **ENVIRONMENT)
    assert "planted" not in done.output
    return done


def test_plan_prints_the_difference_and_changes_nothing(rest: RealmRest) -> None:
    """By the place in the Admin console, with what is the owner's."""
    text, as_json = said("plan"), said("plan", "--format", "json", "--exit-code")

    assert (0, 4, []) == (text.exit_code, as_json.exit_code, rest.writes)
    assert (
        "Realm settings > User profile\n  + department: edit: admin; view: admin, user; length: 255"
        in text.output
    )
    assert "~ internationalizationEnabled: false → true" in text.output
    assert "the realm has no mail server" in text.output
    found = json.loads(as_json.output)
    assert "Clients > keycloak-bridge" == found["steps"][0]["page"]
    assert ["acme", 1] == [found["realm"], len(found["notes"])]


def test_apply_asks_and_writes_once(rest: RealmRest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No is no; yes writes; again there is nothing to write."""
    # click's runner replaces standard input, which then is no terminal
    monkeypatch.setattr(realm, "_is_terminal", lambda: True)

    refused = said("apply", stdin="n\n")
    assert [] == rest.writes
    confirmed = said("apply", stdin="y\n")
    written = len(rest.writes)
    again = said("apply", "--yes")

    assert [0, 0, 0] == [one.exit_code for one in (refused, confirmed, again)]
    assert "nothing was written" in refused.output
    assert "done: Groups" in confirmed.output
    assert "nothing to write" in again.output
    assert written == len(rest.writes)


def test_a_realm_that_changes_before_the_answer_is_not_written_to(
    rest: RealmRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not shown is not written."""

    def answered(*_: object, **__: object) -> bool:
        rest.state["groups"].append("/staff")
        return True

    monkeypatch.setattr(realm, "_is_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", answered)

    done = said("apply")

    assert (2, []) == (done.exit_code, rest.writes)
    assert "the realm has changed meanwhile" in done.output


def test_apply_writes_nothing_without_an_answer(rest: RealmRest) -> None:
    """Where nobody can be asked, --yes is needed."""
    done = said("apply")

    assert (2, []) == (done.exit_code, rest.writes)
    assert "--yes" in done.output


def test_what_keycloak_does_not_keep_is_said(rest: RealmRest) -> None:
    """A setting that is dropped silently is an error, not success."""
    rest.forgets.add("eventsEnabled")

    done = said("apply", "--yes")

    assert 3 == done.exit_code
    assert "Keycloak did not keep all of it" in done.output
    assert "~ eventsEnabled: false → true" in done.output.rpartition("did not keep")[2]


def test_the_password_comes_from_a_file_or_is_asked_for(
    rest: RealmRest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without one and without a terminal, the message names both ways."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")

    from_file = said("plan", "--password-file", str(file), password="")
    (empty := file.with_name("empty")).touch()
    nothing = said("plan", "--password-file", str(empty), password="")
    missing = said("plan", "--client", "automation", password="")
    monkeypatch.setattr(realm, "_is_terminal", lambda: True)
    asked = said("plan", password="", stdin=f"{PASSWORD}\n")

    assert [0, 2, 0] == [one.exit_code for one in (from_file, missing, asked)]
    assert "KC_CLI_CLIENT_SECRET" in missing.output
    assert (2, True) == (nothing.exit_code, f"{empty} is empty" in nothing.output)
    assert "Password of admin" in asked.output
