"""`test-mapping` compares what schemas and mapping make of sample events with what is expected."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli_harness import an_event, call, smallest_mapping

ADA: dict[str, Any] = {
    "representation": {
        "username": "ada@acme.example",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "attributes": {"userId": ["u-1"], "tenantId": ["tenant-1"]},
    },
    "invitation": {"actions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"], "lifespan": "3 days"},
}
IN_STAFF = {**ADA, "groups": ["/staff"]}


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


def run(*words: str) -> tuple[int, list[str]]:
    """Return the exit code of `test-mapping cases` and the lines that it prints."""
    result = call("test-mapping", "cases", *words)
    return result.exit_code, result.stdout.splitlines()


def test_all_as_expected() -> None:
    """One line with the totals, exit code 0; folders below are looked into, other files left alone."""
    case("ada", an_event(), ADA)
    violations = [{"pointer": "/data/givenName", "keyword": "required"}]
    refused = {"rejected": {"code": "schema-violation", "violations": violations}}
    case("refused/no-name", an_event(givenName=None), refused)
    Path("cases/bridge.toml").touch()

    assert (0, ["2 cases: 2 as expected"]) == run()


def test_the_rules_of_the_default_profile_are_warnings() -> None:
    """The realm may have others: a case can be as expected all the same."""
    user = {**ADA["representation"], "username": "maria lopez"}
    case("maria", an_event(username="maria lopez"), {**ADA, "representation": user})

    code, (warning, totals) = run()
    machine = json.loads(call("test-mapping", "cases", "--format", "json").stdout)

    assert (0, "1 cases: 1 as expected") == (code, totals)
    assert warning.startswith("cases/maria.event.json: warning: /user/username: Keycloak's default")
    assert ["/user/username"] == [one["pointer"] for one in machine["warnings"]]


AUGUSTA = {
    "representation": {**ADA["representation"], "firstName": "Augusta"},
    "groups": ["/staff"],
}


@pytest.mark.parametrize(
    ("event", "content", "words", "code", "lines"),
    [
        (
            an_event(),
            AUGUSTA,
            (),
            1,
            [
                "cases/ada.event.json: differs from ada.expected.json",
                '  /representation/firstName: expected "Augusta", got "Ada"',
                '  /groups: expected ["/staff"], got nothing',
                '  /invitation: expected nothing, got {"actions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"], "lifespan": "3 days"}',
                "  fix: correct the mapping, or, where this is meant, write it with --update",
                "2 cases: 1 as expected, 1 different",
            ],
        ),
        (
            an_event(),
            ...,
            (),
            1,
            [
                "cases/ada.event.json: has no ada.expected.json",
                "  fix: write it with --update, and review it",
                "2 cases: 1 as expected, 1 without expected file",
            ],
        ),
        (
            ...,
            ADA,
            ("--update",),
            1,
            [
                "cases/ada.expected.json: has no event",
                "  fix: add the event as ada.event.json, or remove the file",
                "2 cases: 1 as expected, 1 without event",
            ],
        ),
        (
            an_event(),
            IN_STAFF,
            ("--update",),
            0,
            [
                "cases/ada.expected.json: rewritten",
                '  /groups: was ["/staff"], now nothing',
                "2 cases: 1 as expected, 1 rewritten",
            ],
        ),
    ],
    ids=["different", "no expectation", "no event", "updated"],
)
def test_what_is_not_as_expected_is_printed(
    event: Any, content: Any, words: tuple[str, ...], code: int, lines: list[str]
) -> None:
    """With places, both values and the remedy; nothing is written without --update, and nothing is ever deleted."""
    case("ada", event, content)
    case("bob", an_event(), ADA)
    before = {file.name: file.read_bytes() for file in Path("cases").iterdir()}

    assert (code, lines) == run(*words)
    after = {file.name: file.read_bytes() for file in Path("cases").iterdir()}
    assert ({"ada.expected.json"} if code == 0 else set()) == {
        name for name in after if before.get(name) != after[name]
    }
    assert code or expected("ada") == ADA


def test_an_unexpected_refusal_says_why() -> None:
    """Reason and violations, as `validate` prints them."""
    case("ada", an_event(email="nowhere"), ADA)
    _, lines = run()

    assert any(
        one.startswith("  the event is refused (schema-violation): the data") for one in lines
    )
    assert "    /data/email: must be an e-mail address (format)" in lines


@pytest.mark.parametrize(
    ("settings", "event", "outcome"),
    [
        ((), an_event(active=False), {"representation": {**ADA["representation"], "enabled": False}}),
        (("--set", "invite.mode=none"), an_event(), {"representation": ADA["representation"]}),
        (
            ("--set", "invite.client_id=app", "--set", "invite.redirect_uri=https://app.example/"),
            an_event(roles=["viewer"], groups=["staff"]),
            {
                **IN_STAFF,
                "realmRoles": ["viewer"],
                "invitation": {
                    **ADA["invitation"],
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
    """--update writes it, and the case passes from then on under the same settings."""
    Path("m.toml").write_text(smallest_mapping("when = \"data.tenantId == 'x'\""))
    case("one", event)
    code, lines = run("--update", *settings)

    assert (0, "1 cases: 1 written") == (code, lines[-1])
    assert outcome == expected("one")
    assert (0, ["1 cases: 1 as expected"]) == run(*settings)


def test_expected_files_are_for_people() -> None:
    """Indented, in the letters of the event, and with the attributes last."""
    case("zoe", an_event(givenName="Zoë"))
    run("--update")
    text = Path("cases/zoe.expected.json").read_text(encoding="utf-8")

    assert '    "firstName": "Zoë",\n' in text
    assert "attributes" == list(json.loads(text)["representation"])[-1]


@pytest.mark.parametrize(
    ("event", "content", "place", "message", "updated"),
    [
        (an_event(), "{", "ada.expected.json", "cannot be read: the value is not JSON", True),
        (an_event(), '{"a": 1, "a": 2}', "ada.expected.json", "cannot be read: ", True),
        ("", ADA, "ada.event.json", "contains no event", False),
        ("[{}, {}]", ADA, "ada.event.json", "contains more than one event", False),
    ],
)
def test_a_broken_file_is_one_broken_case(
    event: Any, content: Any, place: str, message: str, updated: bool
) -> None:
    """It is reported with a remedy, and the others are tested; --update repairs an expectation, but no event."""
    case("ada", event, content)
    case("bob", an_event(), ADA)
    code, (first, remedy, sums) = run()

    assert 1 == code
    assert first.startswith(f"cases/{place}: {message}")
    assert remedy.startswith("  fix: ")
    assert "2 cases: 1 as expected, 1 broken" == sums

    code, lines = run("--update")

    assert (not updated, ADA) == (code, expected("ada"))
    assert f"2 cases: 1 as expected, 1 {'rewritten' if updated else 'broken'}" == lines[-1]


def test_json_for_programs() -> None:
    """One object for each case, with everything that the text says, in the order of their names."""
    case("a", an_event(), ADA)
    case("b", an_event(), IN_STAFF)
    case("c", an_event(email="nowhere"), ADA)
    case("d", ..., ADA)
    equal, different, refused, orphan = map(json.loads, run("--format", "json")[1])

    assert {"case": "a", "state": "equal", "differences": []} == equal
    assert ("b", "different", [{"pointer": "/groups", "expected": ["/staff"]}]) == (
        different["case"],
        different["state"],
        different["differences"],
    )
    assert {"file", "message", "remedy"} <= different.keys()
    assert "schema-violation" == refused["refused"]["code"]
    assert ("orphan", "cases/d.expected.json") == (orphan["state"], orphan["file"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty"], "error: empty: contains no case"),
        (["empty", "-c", "nope.toml"], "error: there is no settings file nope.toml"),
        (["cases", "--update"], "ada.expected.json: is a symbolic link, and is not written to"),
    ],
)
def test_wrong_usage(words: list[str], message: str) -> None:
    """Exit code 2, a clear error and a remedy."""
    Path("empty").mkdir()
    case("ada", an_event())
    Path("cases/ada.expected.json").symlink_to("nowhere/ada.json")
    result = call("test-mapping", *words)

    assert (2, "") == (result.exit_code, result.stdout)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("failing", "place"), [("scandir", "cases/closed"), ("stat", "cases/closed/.")]
)
def test_a_folder_that_cannot_be_read_is_no_success(
    monkeypatch: pytest.MonkeyPatch, failing: str, place: str
) -> None:
    """Its cases are not tested: neither where it cannot be listed nor where its files cannot be reached."""
    case("ada", an_event(), ADA)
    case("closed/bob", an_event(), IN_STAFF)
    original = getattr(os, failing)

    def closed(name: Any, **options: Any) -> Any:
        if os.fspath(name) == place:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return original(name, **options)

    monkeypatch.setattr(os, failing, closed)
    result = call("test-mapping", "cases")

    assert (2, "") == (result.exit_code, result.stdout)
    assert "cases/closed: cannot be read: Permission denied" in result.stderr
