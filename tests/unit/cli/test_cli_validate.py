"""`validate` says what the bridge would make of events."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import an_event, call, smallest_mapping, write

SCHEMA = "urn:keycloak-bridge:schema:user.created:1.1"


ENVELOPE = (
    *("--set", "envelope.id=body.meta.id", "--set", "envelope.type=body.meta.kind"),
    *("--set", "envelope.data=body.payload", "--set", "envelope.subject=body.payload.userId"),
    *("--set", "envelope.types=UserCreated=user.created"),
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (an_event(), ()),
        (an_event()["data"], ("--type", "user.created")),
        ({"meta": {"id": "1", "kind": "UserCreated"}, "payload": an_event()["data"]}, ENVELOPE),
    ],
    ids=["CloudEvent", "data alone", "the producer's envelope"],
)
def test_one_valid_event(content: dict[str, Any], words: tuple[str, ...]) -> None:
    """One line with place and schema, exit code 0."""
    write(Path("event.json"), content)
    result = call("validate", *words, "event.json")

    assert (0, f"event.json:1: valid ({SCHEMA})\n") == (result.exit_code, result.output)


@pytest.mark.parametrize("words", [(), ("--type", "user.created")])
def test_a_file_that_is_cut_off_is_said_to_be(words: tuple[str, ...]) -> None:
    """The events that it still has are judged."""
    event = an_event()["data"] if words else an_event()
    Path("events.json").write_text(f"[{json.dumps(event)},", encoding="utf-8")
    result = call("validate", *words, "events.json")

    assert 1 == result.exit_code
    assert "the array does not end; the file is cut off" in result.output
    assert "2 events: 1 valid, 1 invalid" in result.output


def test_a_registry_is_not_asked_and_that_is_said() -> None:
    """Files name no schema of it; programs that read the output are not disturbed."""
    write(Path("event.json"), an_event())
    url = ("--set", "registry.url=http://registry.example:8081")
    result = call("validate", *url, "--format", "json", "event.json")

    assert (0, True) == (result.exit_code, json.loads(result.stdout)["valid"])
    assert "no registry is asked" in result.stderr


RELAXED = ("jd", "DOM\\jdoe", "maria lopez", "josé#1")


@pytest.mark.parametrize("username", RELAXED)
def test_the_rules_of_the_default_profile_are_warnings(username: str) -> None:
    """The realm is not asked, and may have other rules; no value is quoted."""
    write(Path("event.json"), an_event(username=username))
    result = call("validate", "event.json")
    first, warning, *more = result.output.splitlines()

    assert (0, []) == (result.exit_code, more)
    assert first.startswith("event.json:1: valid")
    assert warning.startswith("  warning: /user/username: Keycloak's default user profile refuses")
    assert "the realm's own profile, or its 'Email as username', decides" in warning
    assert username not in warning


def test_warnings_for_machines() -> None:
    """Beside `valid`, only where there are any; names of persons have rules too."""
    write(Path("events.ndjson"), an_event(), an_event(givenName="Ada<3"))
    rows = [
        json.loads(line)
        for line in call("validate", "--format", "json", "events.ndjson").stdout.splitlines()
    ]

    assert [True, True] == [row["valid"] for row in rows]
    assert "warnings" not in rows[0]
    assert ["/user/firstName"] == [one["pointer"] for one in rows[1]["warnings"]]
    assert ["person-name-prohibited-characters"] == [one["keyword"] for one in rows[1]["warnings"]]


def test_every_violation_is_told() -> None:
    """Pointer, reason and keyword, never the value; the remedy; exit code 1."""
    write(Path("event.json"), an_event(email="a b@acme.example", givenName=None, familyName=3))
    result = call("validate", "event.json")
    first, *lines = result.stdout.splitlines()

    assert 1 == result.exit_code
    assert first.startswith("event.json:1: invalid (schema-violation): the data breaks")
    assert [
        "  /data/email: must be an e-mail address (format)",
        "  /data/familyName: must be a string (type)",
        "  /data/givenName: is required (required)",
    ] == lines[:3]
    assert lines[3].startswith("  fix: ")
    assert "a b@acme" not in result.output


def test_many_events() -> None:
    """Only the invalid ones are printed, with their lines, and the totals of all files; `-` is standard input, here an array."""
    write(Path("events.ndjson"), an_event(), an_event(userId=""), an_event(), {"a": 1})
    result = call("validate", "events.ndjson", "-", stdin=json.dumps([an_event(), an_event()]))
    places = [line for line in result.stdout.splitlines() if line.startswith("events")]

    assert 1 == result.exit_code
    assert ["events.ndjson:2", "events.ndjson:4"] == [place.partition(": ")[0] for place in places]
    assert result.stdout.endswith("6 events: 4 valid, 2 invalid\n")


def test_json_for_programs() -> None:
    """One object an event, with everything that the text says."""
    write(Path("x.ndjson"), an_event(), an_event(email="x"))
    result = call("validate", "x.ndjson", "--format", "json")
    good, bad = map(json.loads, result.stdout.splitlines())

    assert {
        "file": "x.ndjson",
        "line": 1,
        "valid": True,
        "type": "user.created",
        "schema": SCHEMA,
    } == good
    assert ("schema-violation", 2) == (bad["code"], bad["line"])
    assert [
        {"pointer": "/data/email", "keyword": "format", "message": "must be an e-mail address"}
    ] == bad["violations"]


def test_show_mapped() -> None:
    """The user that Keycloak would get, normalised, with its groups and roles, and its invitation."""
    write(Path("x.json"), an_event(roles=["viewer"], groups=["staff"]))
    heading, *lines, mail = call("validate", "--show-mapped", "x.json").stdout.splitlines()
    text = "\n".join(lines)
    by_json = json.loads(call("validate", "--show-mapped", "--format=json", "x.json").stdout)

    assert f"x.json:1: valid ({SCHEMA})" == heading
    assert {
        "username": "ada@acme.example",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "attributes": {"userId": ["u-1"], "tenantId": ["tenant-1"]},
        "groups": ["/staff"],
        "realmRoles": ["viewer"],
    } == json.loads(text)
    assert json.loads(text) == by_json["mapped"]
    assert "invitation: UPDATE_PASSWORD, VERIFY_EMAIL; the link is valid for 3 days" == mail
    assert {
        "actions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"],
        "lifespan_s": 259200,
        "client_id": None,
        "redirect_uri": None,
    } == by_json["invitation"]


def test_what_is_passed_over_is_valid() -> None:
    """Ignored types and events out of scope get through, and say why nothing comes of them."""
    Path("m.toml").write_text(smallest_mapping("when = \"data.tenantId == 'x'\""))
    write(Path("x.json"), an_event())
    scoped = call("validate", "x.json", "--set", "mapping.file=m.toml")
    ignored = call("validate", "x.json", "--set", "events.ignore_types=user.created")

    assert f"x.json:1: valid ({SCHEMA}, the mapping's `when` says no)\n" == scoped.output
    assert "x.json:1: valid (its type is in events.ignore_types)\n" == ignored.output


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["nope.json"], "error: nope.json: cannot be read: No such file or directory"),
        (["empty.json"], "error: empty.json: contains no event"),
        (["empty.json", "--set", "a.b=c"], "error: --set a.b: unknown key"),
    ],
)
def test_wrong_configuration(words: list[str], printed: str) -> None:
    """Exit code 2 and a sentence."""
    Path("empty.json").touch()
    result = call("validate", *words)

    assert (2, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(printed)
    assert "fix:" in result.stderr
