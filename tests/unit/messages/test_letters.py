"""What a dead letter tells, which are meant, and what a replay publishes."""

import json
from datetime import timedelta
from typing import Any

import pytest
from letter_cases import NOON, letter_record, stored
from stage_harness import DEAD_LETTERS, EVENTS, STRUCTURED, event_of

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import DEAD_LETTER_REPLAYED, Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterInventory,
    Place,
    counts_by_code,
    in_original_order,
    is_replay_mark,
    original_record,
    read_dead_letter,
    replay_mark,
    replay_message,
)

RULES = EnvelopeRules()


def letter_of(record: Record) -> DeadLetter:
    """Return the letter, which must be one."""
    letter = read_dead_letter(record, RULES)
    assert letter is not None
    return letter


def mark_of(record: Record, place: tuple[int, int]) -> Record:
    """Return the mark that the letter `record` was replayed, as it is read at `place`."""
    return stored(replay_mark(letter_of(record), record, time=NOON), place)


def test_a_letter_tells_where_it_came_from_and_why() -> None:
    """Everything that `list` shows, and no value of the event."""
    assert DeadLetter(
        place=Place(3, 41),
        time=NOON,
        code="schema-violation",
        stage="schema",
        topic=EVENTS,
        position=Place(3, 4711),
        origin=Place(3, 4711),
        attempts=1,
        event_id="event-1",
        event_type="user.created",
        user_id="u-1",
    ) == letter_of(letter_record())


def test_a_letter_that_cannot_be_decoded_tells_what_it_can() -> None:
    """The key stands in for the user."""
    letter = letter_of(letter_record(event=b"\xff\x00"))

    assert (None, None, "u-1") == (letter.event_id, letter.event_type, letter.user_id)


@pytest.mark.parametrize("missing", ["topic", "partition", "offset", "code"])
def test_a_record_without_reasons_is_no_letter(missing: str) -> None:
    """Whoever else writes to the topic is passed over."""
    record = letter_record()
    headers = tuple(one for one in record.headers if one[0] != f"kb-dlq-{missing}")

    assert read_dead_letter(Record(DEAD_LETTERS, 0, 0, 0, None, b"", headers), RULES) is None


@pytest.mark.parametrize(
    ("header", "value"),
    [("attempts", b"many"), ("attempts", b"9" * 5000), ("attempts", b"-3"), ("time", b"noon")],
)
def test_a_header_of_somebody_else_breaks_nothing(header: str, value: bytes) -> None:
    """What cannot be read counts as once, and as given up at the record's own time."""
    record = letter_record()
    headers = tuple(
        (name, value if name == f"kb-dlq-{header}" else old) for name, old in record.headers
    )
    letter = letter_of(Record(DEAD_LETTERS, 0, 0, 2**62, None, b"", headers))

    assert letter.attempts == 1


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"places": {Place(3, 41)}}, True),
        ({"places": {Place(3, 42)}}, False),
        ({"codes": {"schema-violation", "conflict"}}, True),
        ({"codes": {"conflict"}}, False),
        ({"types": {"user.created"}}, True),
        ({"types": {"user.moved"}}, False),
        ({"users": {"u-1"}}, True),
        ({"users": {"u-2"}}, False),
        ({"stage": "schema"}, True),
        ({"stage": "map"}, False),
        ({"since": NOON}, True),
        ({"since": NOON + timedelta(seconds=1)}, False),
        ({"until": NOON + timedelta(seconds=1)}, True),
        ({"until": NOON}, False),
        ({"users": {"u-1"}, "codes": {"conflict"}}, False),
    ],
)
def test_a_filter_means_letters(conditions: dict[str, Any], matches: bool) -> None:
    """Every condition must hold; `since` counts in, `until` does not."""
    given: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, set) else value
        for name, value in conditions.items()
    }

    chosen = DeadLetterFilter(**given)

    assert matches is chosen.matches(letter_of(letter_record()))
    assert (not conditions) is chosen.is_empty


def test_an_inventory_knows_what_is_open() -> None:
    """A mark closes its letter, before or behind it; records of others are counted only."""
    first, second, third = (letter_record((0, n), minutes=-n) for n in range(3))
    inventory = DeadLetterInventory(RULES)
    for record in (mark_of(second, (0, 9)), first, second, third, Record(DEAD_LETTERS, 0, 3, 0, None, b"")):  # fmt: skip
        inventory.add(record)

    assert [Place(0, 2), Place(0, 0)] == [one.place for one in inventory.letters(replayed=False)]
    assert [2, 1, 0] == [one.place.offset for one in inventory.letters(replayed=True)]
    assert 1 == inventory.foreign
    assert [] == inventory.missing()


def test_a_mark_that_names_no_letter_closes_none() -> None:
    """Nor is it a record of somebody else."""
    inventory = DeadLetterInventory(RULES)
    inventory.add(letter_record((0, 0)))
    inventory.add(Record(DEAD_LETTERS, 0, 1, 0, None, b"", (("kb-dlq-replayed", b"all"),)))

    assert (1, 0) == (len(inventory.letters(replayed=False)), inventory.foreign)


def test_an_inventory_keeps_only_what_is_meant() -> None:
    """Asked for letters that are not there, it names them; a mark is no letter."""
    record = letter_record((0, 0))
    places = frozenset({Place(0, 0), Place(0, 1), Place(5, 5)})
    inventory = DeadLetterInventory(RULES, DeadLetterFilter(places=places))
    for one in (record, mark_of(record, (0, 1)), letter_record((0, 2))):
        inventory.add(one)

    assert [Place(0, 0)] == [one.place for one in inventory.letters(replayed=True)]
    assert [Place(0, 1), Place(5, 5)] == inventory.missing()


def test_letters_of_a_user_keep_their_order_over_replays() -> None:
    """A record that failed again still stands where it was at first, before what came behind it."""
    early = letter_record((0, 0), origin=(3, 10))
    again = replay_message(letter_of(early), early, no_invite=False)
    failed_again = letter_record((0, 7), origin=(3, 900), headers=again.headers)
    late = letter_record((0, 1), origin=(3, 20))
    other = letter_record((0, 2), origin=(2, 30))

    ordered = in_original_order([letter_of(one) for one in (late, failed_again, other)])

    assert [Place(0, 2), Place(0, 7), Place(0, 1)] == [one.place for one in ordered]
    assert (2, Place(3, 900), Place(3, 10)) == (
        ordered[1].attempts,
        ordered[1].position,
        ordered[1].origin,
    )


def test_codes_are_counted_most_frequent_first() -> None:
    """Equal ones by name."""
    codes = ("conflict", "not-json", "conflict", "ambiguous")
    letters = [letter_of(letter_record((0, n), code=code)) for n, code in enumerate(codes)]

    assert [("conflict", 2), ("ambiguous", 1), ("not-json", 1)] == list(counts_by_code(letters).items())  # fmt: skip


def test_a_replay_is_the_original_record_with_three_headers_more() -> None:
    """Key, value and headers untouched; the reasons are gone, the count stays."""
    record = letter_record(headers=(*STRUCTURED, ("trace", b"\x00"), ("trace", b"2")))

    message = replay_message(letter_of(record), record, no_invite=False)

    assert (EVENTS, record.key, record.value) == (message.topic, message.key, message.value)
    assert (
        *STRUCTURED,
        ("trace", b"\x00"),
        ("trace", b"2"),
        ("kb-dlq-attempts", b"1"),
        ("kb-replay-of", b"3/41"),
        ("kb-replay-origin", b"3/4711"),
    ) == message.headers


def test_the_wish_for_no_mail_is_of_one_replay_only() -> None:
    """It is in the record, and not in the next replay of the same record."""
    record = letter_record()
    quiet = replay_message(letter_of(record), record, no_invite=True)
    failed_again = letter_record((0, 5), headers=quiet.headers)

    loud = replay_message(letter_of(failed_again), failed_again, no_invite=False)

    assert ("kb-replay-invite", b"none") in quiet.headers
    assert "kb-replay-invite" not in dict(loud.headers)


def test_the_original_record_is_what_the_bridge_had_read() -> None:
    """Where it stood, and without a header of the bridge."""
    record = letter_record()

    assert Record(EVENTS, 3, 4711, 0, b"u-1", record.value, STRUCTURED) == original_record(
        letter_of(record), record
    )


def test_a_mark_is_told_from_a_letter_and_keeps_its_schema() -> None:
    """It names its letter by place, carries its key, and holds nothing of the person."""
    record = letter_record(event=event_of(data={"email": "planted@acme.example"}))
    mark = mark_of(record, (3, 42))

    event = json.loads(mark.value or b"")

    assert (True, False) == (is_replay_mark(mark), is_replay_mark(record))
    assert ("kb-dlq-replayed", b"3/41") in mark.headers
    assert (DEAD_LETTERS, record.key) == (mark.topic, mark.key)
    assert (DEAD_LETTER_REPLAYED, "2026-11-02T12:00:00.000000Z") == (event["type"], event["time"])
    assert () == load_schemas().violations(DEAD_LETTER_REPLAYED, event["data"], event["dataschema"])
    assert b"planted" not in (mark.value or b"")
    assert read_dead_letter(mark, RULES) is None
