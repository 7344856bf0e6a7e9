"""`test-mapping` holds schemas and mapping to sample events."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_harness import an_event, call, write

ADA: dict[str, Any] = {
    "representation": {
        "username": "ada@acme.example",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "attributes": {"userId": ["u-1"], "tenantId": ["tenant-1"]},
    },
    "invitation": {"actions": ["UPDATE_PASSWORD"], "lifespan": "3 days"},
}


def case(name: str, event: Any, expected: Any = ...) -> None:
    """Write a case below `cases`; `...` leaves a file out."""
    folder = Path("cases")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("event", event), ("expected", expected)):
        if content is not ...:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{name}.{suffix}.json").write_text(text, encoding="utf-8")


def expected(name: str) -> Any:
    return json.loads(Path(f"cases/{name}.expected.json").read_text(encoding="utf-8"))


def objects(*words: str) -> list[Any]:
    """Return what `--format json` tells."""
    result = call("test-mapping", "cases", "--format", "json", *words)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_all_as_expected() -> None:
    """One line with the sums, exit code 0; folders below are looked into, other files left alone."""
    case("ada", an_event(), ADA)
    case("refused/no-name", an_event(givenName=None), {"rejected": {
        "code": "schema-violation",
        "violations": [{"pointer": "/data/givenName", "keyword": "required"}],
    }})  # fmt: skip
    Path("cases/bridge.toml").touch()
    result = call("test-mapping", "cases")

    assert (0, "2 cases: 2 as expected\n") == (result.exit_code, result.output)


def test_each_difference_is_told() -> None:
    """Pointer into the expected file, what it holds and what came; exit code 1."""
    other = {
        "representation": {**ADA["representation"], "firstName": "Augusta"},
        "groups": ["/staff"],
    }
    case("ada", an_event(), other)
    case("bob", an_event(), ADA)
    result = call("test-mapping", "cases")

    assert 1 == result.exit_code
    assert [
        "cases/ada.event.json: differs from ada.expected.json",
        '  /representation/firstName: expected "Augusta", got "Ada"',
        '  /groups: expected ["/staff"], got nothing',
        '  /invitation: expected nothing, got {"actions": ["UPDATE_PASSWORD"], "lifespan": "3 days"}',
        "  fix: correct the mapping, or, where this is meant, write it with --update",
        "2 cases: 1 as expected, 1 different",
    ] == result.stdout.splitlines()


def test_an_unexpected_refusal_says_why() -> None:
    """Reason and violations, as `validate` tells them."""
    case("ada", an_event(email="nowhere"), ADA)
    output = call("test-mapping", "cases").stdout

    assert "  the event is refused (schema-violation): the data breaks" in output
    assert "    /data/email: must be an e-mail address (format)" in output


@pytest.mark.parametrize(
    ("settings", "event", "outcome"),
    [
        ((), an_event(active=False), {"representation": {**ADA["representation"], "enabled": False}}),
        (("--set", "invite.mode=none"), an_event(), {"representation": ADA["representation"]}),
        (
            ("--set", "invite.client_id=app", "--set", "invite.redirect_uri=https://app.example/"),
            an_event(roles=["viewer"], groups=["staff"]),
            {
                **ADA,
                "groups": ["/staff"],
                "realmRoles": ["viewer"],
                "invitation": {
                    "actions": ["UPDATE_PASSWORD"],
                    "lifespan": "3 days",
                    "client_id": "app",
                    "redirect_uri": "https://app.example/",
                },
            },
        ),
        (("--set", "events.ignore_types=user.created"), an_event(), {"ignored": True}),
        (("--set", "mapping.file=m.toml"), an_event(), {"outOfScope": True}),
        ((), "{", {"rejected": {"code": "not-json"}}),
    ],
)  # fmt: skip
def test_every_outcome_can_be_expected(
    settings: tuple[str, ...], event: Any, outcome: dict[str, Any]
) -> None:
    """--update writes it, and it holds from then on under the same settings."""
    Path("m.toml").write_text(
        'matching = ["attributes.userId"]\nwhen = "data.tenantId == \'x\'"\n'
        '[user]\nusername = "data.userId"\n[user.attributes]\nuserId = "data.userId"\n'
    )
    case("one", event)
    written = call("test-mapping", "cases", "--update", *settings)
    held = call("test-mapping", "cases", *settings)

    assert outcome == expected("one")
    assert (0, "1 cases: 1 written") == (written.exit_code, written.stdout.splitlines()[-1])
    assert (0, "1 cases: 1 as expected\n") == (held.exit_code, held.output)


def test_a_case_without_expectation() -> None:
    """An error with its remedy, and nothing is written without being asked for."""
    case("ada", an_event())
    result = call("test-mapping", "cases")

    assert (1, False) == (result.exit_code, Path("cases/ada.expected.json").exists())
    assert [
        "cases/ada.event.json: has no ada.expected.json",
        "  fix: write it with --update, and review it",
        "1 cases: 1 without expected file",
    ] == result.stdout.splitlines()


def test_an_expectation_without_event() -> None:
    """An error, with --update too: nothing is ever deleted."""
    case("ada", an_event(), ADA)
    case("old", ..., ADA)
    result = call("test-mapping", "cases", "--update")

    assert (1, ADA) == (result.exit_code, expected("old"))
    assert [
        "cases/old.expected.json: has no event",
        "  fix: add the event as old.event.json, or remove the file",
        "2 cases: 1 as expected, 1 without event",
    ] == result.stdout.splitlines()


def test_update_says_what_changed() -> None:
    """What differs is written anew and told with both values; what is as expected keeps its bytes."""
    case("ada", an_event(), {**ADA, "groups": ["/staff"]})
    case("bob", an_event(), ADA)
    before = Path("cases/bob.expected.json").read_bytes()
    result = call("test-mapping", "cases", "--update")

    assert (0, ADA, before) == (
        result.exit_code,
        expected("ada"),
        Path("cases/bob.expected.json").read_bytes(),
    )
    assert [
        "cases/ada.expected.json: rewritten",
        '  /groups: was ["/staff"], now nothing',
        "2 cases: 1 as expected, 1 rewritten",
    ] == result.stdout.splitlines()


def test_expected_files_are_for_people() -> None:
    """Indented, in the letters of the event, and with the attributes last."""
    case("zoe", an_event(givenName="Zoë"))
    call("test-mapping", "cases", "--update")
    text = Path("cases/zoe.expected.json").read_text(encoding="utf-8")

    assert '    "firstName": "Zoë",\n' in text
    assert "attributes" == list(json.loads(text)["representation"])[-1]


@pytest.mark.parametrize(
    ("event", "content", "place", "message"),
    [
        (an_event(), "{", "ada.expected.json", "cannot be read: the value is not JSON"),
        (an_event(), '{"a": 1, "a": 2}', "ada.expected.json", "cannot be read: "),
        ("", ADA, "ada.event.json", "holds no event"),
        ("[{}, {}]", ADA, "ada.event.json", "holds more than one event"),
    ],
)
def test_a_broken_file_is_one_broken_case(
    event: Any, content: Any, place: str, message: str
) -> None:
    """It is told with a remedy, and the others are held."""
    case("ada", event, content)
    case("bob", an_event(), ADA)
    result = call("test-mapping", "cases")
    first, remedy, sums = result.stdout.splitlines()

    assert 1 == result.exit_code
    assert first.startswith(f"cases/{place}: {message}")
    assert remedy.startswith("  fix: ")
    assert "2 cases: 1 as expected, 1 broken" == sums


def test_update_mends_a_broken_expectation_but_no_event() -> None:
    """Where there is an event, its outcome is written; where there is none, nothing is."""
    case("ada", an_event(), "{")
    case("bob", "", ADA)
    result = call("test-mapping", "cases", "--update")

    assert (1, ADA, ADA) == (result.exit_code, expected("ada"), expected("bob"))
    assert "2 cases: 1 broken, 1 rewritten" == result.stdout.splitlines()[-1]


def test_json_for_programs() -> None:
    """One object a case, with everything that the text says, in the order of their names."""
    case("a", an_event(), ADA)
    case("b", an_event(), {**ADA, "groups": ["/staff"]})
    case("c", an_event(email="nowhere"), ADA)
    case("d", ..., ADA)
    equal, different, refused, orphan = objects()

    assert {"case": "a", "state": "equal", "differences": []} == equal
    assert ("b", "different", [{"pointer": "/groups", "expected": ["/staff"]}]) == (
        different["case"],
        different["state"],
        different["differences"],
    )
    assert {"file", "message", "remedy"} <= different.keys()
    assert "schema-violation" == refused["refused"]["code"]
    assert ("orphan", "cases/d.expected.json") == (orphan["state"], orphan["file"])


def test_own_settings_schemas_and_mapping() -> None:
    """The settings' file is looked for as by every command; relative paths in it start where it stands."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:x:1",
        "type": "object",
        "properties": {"nr": {"type": "string"}},
    }
    Path("own/schemas/user.created").mkdir(parents=True)
    Path("own/schemas/user.created/2.0.json").write_text(json.dumps(schema))
    Path("own/m.toml").write_text(
        'matching = ["attributes.nr"]\n[user]\nusername = "data.nr"\n[user.attributes]\nnr = "data.nr || data.userId"\n'
    )
    Path("own/bridge.toml").write_text(
        '[schemas]\nfolders = ["schemas"]\n[mapping]\nfile = "m.toml"\n'
        '[envelope]\nid = "body.id"\ntype = "\'user.created\'"\nsource = "\'hr\'"\ndata = "body"\n'
    )
    case("one", {"id": "1", "nr": "n-17"})
    result = call("--config", "own/bridge.toml", "test-mapping", "cases", "--update")

    assert 0 == result.exit_code
    assert {
        "representation": {"username": "n-17", "enabled": True, "attributes": {"nr": ["n-17"]}}
    } == expected("one")


def test_a_file_that_cannot_be_written() -> None:
    """Exit code 2 and a sentence."""
    case("ada", an_event())
    Path("cases/ada.expected.json").symlink_to("nowhere/ada.json")
    result = call("test-mapping", "cases", "--update")

    assert (2, True) == (result.exit_code, "cannot be written" in result.stderr)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere"),
        (["x.json"], "x.json"),
        (["empty"], "error: empty: holds no case"),
        (["empty", "-c", "nope.toml"], "error: there is no settings file nope.toml"),
        (["empty", "--set", "mapping.file=bad.toml"], "error: "),
    ],
)
def test_wrong_usage(words: list[str], told: str) -> None:
    """Exit code 2, a sentence and a remedy."""
    Path("empty").mkdir()
    write(Path("x.json"), an_event())
    Path("bad.toml").write_text("matching = 3")
    result = call("test-mapping", *words)

    assert (2, "") == (result.exit_code, result.stdout)
    assert told in result.stderr
