"""`dead-letters list` and `show`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dead_letter_bench import DeadLetterBench
from dead_letter_cases import NOON, letter_of, letter_record, stored
from stage_harness import DEAD_LETTERS, INVITATIONS, PLANTED, STRUCTURED, event_of

from keycloak_bridge.cli import common as moments
from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.events import Record, Unreadable
from keycloak_bridge.messages.dead_letters import replay_mark, replay_message

BAD_MAIL = Violation("/data/email", "format", "must be an e-mail address")


def mark(record: Record, place: tuple[int, int]) -> Record:
    """Return the mark that the letter `record` was replayed."""
    return stored(replay_mark(letter_of(record), record, time=NOON), place)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetterBench:
    """An empty topic; no realm is needed for it."""
    monkeypatch.setattr(moments, "now", lambda: datetime(2026, 11, 2, 14, tzinfo=UTC))
    opened = DeadLetterBench(tmp_path, monkeypatch)
    monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM")
    monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET")
    return opened


def listed(bench: DeadLetterBench, *words: str) -> list[str]:
    """Return the places that `list` tells."""
    result = bench.run("dead-letters", "list", "--format", "json", *words)
    assert 0 == result.exit_code, result.output
    return [json.loads(line)["letter"] for line in result.stdout.splitlines()]


def test_open_letters_are_listed_with_codes_and_ids_only(bench: DeadLetterBench) -> None:
    """One row each, the oldest first, and the totals; nothing of the person."""
    replayed = letter_record((0, 0))
    bench.letters(
        replayed,
        letter_record((3, 42), event=event_of("u-2", "event-2"), code="conflict", minutes=2),
        letter_record((3, 41), minutes=1, origin=(2, 7)),
        mark(replayed, (0, 1)),
    )

    result = bench.run("dead-letters", "list", "--utc")

    heading, first, second, _, totals = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert ["letter", "time", "code", "state", "user", "event", "type", "attempts", "from"] == heading.split()  # fmt: skip
    assert ["3/41", "2026-11-02", "12:01:00Z", "schema-violation", "open", "u-1", "user.created", "1", "user-events/2@7"] == first.split()  # fmt: skip
    assert ["3/42", "conflict", "u-2"] == [second.split()[at] for at in (0, 3, 5)]
    assert "2 dead letters open: 1 conflict, 1 schema-violation" == totals
    assert not [one for one in PLANTED if one in result.output]
    assert 0 == bench.open_readers


def test_json_is_one_object_a_line(bench: DeadLetterBench) -> None:
    """Everything that the table says, and the stage and the event's id."""
    bench.letters(letter_record((3, 41)))

    told = json.loads(bench.run("dead-letters", "list", "--format", "json").stdout)

    assert {
        "letter": "3/41",
        "time": "2026-11-02T12:00:00.000000Z",
        "code": "schema-violation",
        "stage": "schema",
        "eventId": "event-1",
        "eventType": "user.created",
        "userId": "u-1",
        "attempts": 1,
        "topic": "user-events",
        "partition": 3,
        "offset": 4711,
        "state": "open",
    } == told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["0/0", "0/1", "0/2"]),
        (("--code", "conflict", "--code", "schema-violation", "--user", "u-2"), ["0/1"]),
        (("--type", "user.created"), ["0/0", "0/1"]),
        (("--stage", "invite"), ["0/2"]),
        (("--since", "2026-11-02T12:30:00Z"), ["0/1", "0/2"]),
        (("--since", "2026-11-02T13:30+01:00"), ["0/1", "0/2"]),
        (("--since", "2026-11-02T12:30"), ["0/1", "0/2"]),
        (("--since", "1 hour 30 minutes"), ["0/1", "0/2"]),
        (("--until", "2026-11-02T12:30:00Z"), ["0/0"]),
        (("--since", "PT1H30M", "--until", "30 minutes"), ["0/1"]),
    ],
)
def test_filters_say_which_letters_are_meant(
    bench: DeadLetterBench, words: tuple[str, ...], expected: list[str]
) -> None:
    """They stand together; times are ISO 8601 or ages."""
    invitation = event_of("u-3", "event-3", type="user.invitation.due")
    bench.letters(
        letter_record((0, 0)),
        letter_record((0, 1), event=event_of("u-2"), code="conflict", minutes=60),
        letter_record((0, 2), event=invitation, topic=INVITATIONS, step="invite", code="not-found", minutes=100),
    )  # fmt: skip

    assert expected == listed(bench, *words)


def test_show_marks_each_broken_rule(bench: DeadLetterBench) -> None:
    """Reasons, headers, key and the whole body, personal data included."""
    violations = (BAD_MAIL, Violation("/user/firstName", "length", "is too long"))
    headers = (*STRUCTURED, ("trace", b"\x00\xff"), ("none", None))
    event = event_of(data={"email": "nobody"})
    bench.letters(letter_record((3, 41), event=event, violations=violations, headers=headers))

    result = bench.run("dead-letters", "show", "3/41")

    assert 0 == result.exit_code
    assert '    "email": "nobody",   ← /data/email: must be an e-mail address (format)' in result.stdout.splitlines()  # fmt: skip
    assert "  /user/firstName: is too long (length)" in result.stdout.splitlines()
    words = " ".join(result.stdout.split())
    for fact in (
        "letter 3/41",
        "topic user-events",
        "partition 3",
        "offset 4711",
        "code schema-violation",
        "message the data breaks its schema",
        "attempts 1",
        "trace \\x00\\xff",
        "none null",
        "Key: u-1",
        PLANTED[1],
    ):
        assert fact in words
    assert "errors" not in words
    assert 0 == bench.open_readers


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\xff\x1b[2J", "\\xff\\x1b[2J"),
        (b"{" + b"x" * 3000, "… and 953 bytes more"),
        (b"\x00\x00\x00\x00\x07" + b'{"email":1}', '  "email": 1   ← /data/email'),
        (b"\x00" + bytes(7) + b"\x07" + b'{"email":1}', "20 bytes, 9 of them a serializer's frame"),
        (b"\x00\x00\x00\x00\x07\x08u-42", "(10 bytes)"),
        (b"", "Body: none"),
    ],
)
def test_show_shows_any_bytes(bench: DeadLetterBench, body: bytes, shown: str) -> None:
    """What is no JSON is an escaped excerpt, with the broken rules below it."""
    bench.letters(letter_record((0, 0), event=body, violations=(BAD_MAIL,)))

    result = bench.run("dead-letters", "show", "0/0")

    assert shown in result.stdout
    assert "\x1b" not in result.stdout
    assert "/data/email: must be an e-mail address (format)" in result.stdout


def test_show_tells_a_replay_that_failed_again(bench: DeadLetterBench) -> None:
    """From which letter it came stands apart from the record's own headers."""
    first = letter_record((3, 41))
    again = replay_message(letter_of(first), first, no_invite=False)
    bench.letters(letter_record((3, 50), headers=again.headers))

    lines = bench.run("dead-letters", "show", "3/50").stdout.splitlines()

    at = lines.index("Replay that failed again")
    assert ["kb-replay-of", "3/41"] == lines[at + 1].split()
    assert "  attempts        2" in lines


def test_replayed_ones_are_listed_on_demand(bench: DeadLetterBench) -> None:
    """Each with its state; a mark is not a dead letter, and `show` says so with exit code 2."""
    replayed = letter_record((0, 0))
    bench.letters(replayed, letter_record((0, 5), minutes=1), mark(replayed, (0, 9)))

    result = bench.run("dead-letters", "list", "--all")
    shown = bench.run("dead-letters", "show", "0/9")

    assert ["replayed", "open"] == [line.split()[4] for line in result.stdout.splitlines()[1:3]]
    assert "2 dead letters, 1 of them open: 2 schema-violation" == result.stdout.splitlines()[-1]
    assert (2, True) == (shown.exit_code, "0/9 is not a dead letter but the mark" in shown.stderr)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there is no open dead letter\n"),
        (("--all", "--code", "x"), "there is no dead letter that matches\n"),
        (("--format", "json"), ""),
    ],
)
def test_an_empty_topic_is_a_sentence(
    bench: DeadLetterBench, words: tuple[str, ...], says: str
) -> None:
    """Exit 0; JSON is empty."""
    result = bench.run("dead-letters", "list", *words)

    assert (0, says) == (result.exit_code, result.stdout)


def test_records_of_other_producers_are_shown_as_they_are(bench: DeadLetterBench) -> None:
    """They are counted apart from the output; no escape sequence reaches the terminal."""
    strange = Record(DEAD_LETTERS, 0, 1, 0, None, b"1", (("kb-dlq-errors", b'[{"x":1}]'),))
    bench.letters(strange, letter_record((0, 0), code="\x1b[2Jcleared"))

    listing = bench.run("dead-letters", "list")
    rows = bench.run("dead-letters", "list", "--format", "json")
    shown = bench.run("dead-letters", "show", "0/1")

    assert (False, True) == ("\x1b" in listing.stdout, "\\x1b[2Jcleared" in listing.stdout)
    assert 1 == len(rows.stdout.splitlines())
    assert "1 records of the topic are not dead letters" in rows.stderr
    assert (0, True) == (shown.exit_code, '[{"x":1}]' in shown.stdout)


@pytest.mark.parametrize(
    ("reason", "facts"),
    [
        (Unreadable("its structure is broken", size_bytes=12), ["its structure is broken", "12 bytes"]),
        (Unreadable("the name of a header is not UTF-8", is_whole=True), ["the name of a header is not UTF-8", "Key: u-1"]),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_has_its_reason(
    bench: DeadLetterBench, reason: Unreadable, facts: list[str]
) -> None:
    """With all that there is of it: its place and size, or its key and body."""
    key = b"u-1" if reason.is_whole else None
    bench.letters(Record(DEAD_LETTERS, 0, 1, 0, key, None, unreadable=reason))

    shown = bench.run("dead-letters", "show", "0/1")

    assert 0 == shown.exit_code
    assert [] == [one for one in ("No dead letter", "0/1", *facts) if one not in shown.stdout]
    assert reason.is_whole is ("Body" in shown.stdout)


def test_a_place_without_a_record_has_a_reason(bench: DeadLetterBench) -> None:
    """Exit code 2, and what the partition has instead."""
    shown = bench.run("dead-letters", "show", "3/41")

    assert 2 == shown.exit_code
    assert "no dead letter 3/41: partition 3 is empty" in shown.stderr
