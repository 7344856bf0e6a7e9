"""A dead letter is the untouched record and a reason; it is listed, chosen, and replayed as often as needed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from dead_letter_cases import NOON, dead_letter, letter_record, stored
from hypothesis import example, given
from hypothesis import strategies as st
from records import record as record_of
from stage_harness import DEAD_LETTERS, EVENTS, STRUCTURED, event_of

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import (
    BridgeError,
    EventDecodeError,
    EventError,
    EventValidationError,
    KeycloakRejectedError,
    MappingError,
    Violation,
)
from keycloak_bridge.domain.events import DEAD_LETTER, DEAD_LETTER_REPLAYED, Message, Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.bridge_headers import content_digest
from keycloak_bridge.messages.dead_letter_inventory import (
    DeadLetterFilter,
    DeadLetterInventory,
    counts_by_code,
    in_original_order,
)
from keycloak_bridge.messages.dead_letters import (
    DeadLetter,
    Place,
    dead_letter_headers,
    is_replay,
    is_replay_mark,
    original_record,
    place_header,
    read_dead_letter,
    replay_mark,
    replay_message,
    wants_no_invite,
)
from keycloak_bridge.messages.recommended_actions import recommended_action

RULES = EnvelopeRules()
CATALOG = load_schemas()
VIOLATION = Violation("/data/email", "format", "must be an e-mail address")


def reason_of(message: Message) -> Mapping[str, str]:
    headers = dead_letter_headers(stored(message))
    return {name.removeprefix("kb-dlq-"): text for name, text in headers.items()}


def letter_of(record: Record) -> DeadLetter:
    letter = read_dead_letter(record, RULES)
    assert letter is not None
    return letter


def mark_of(record: Record, place: tuple[int, int]) -> Record:
    return stored(replay_mark(letter_of(record), record, time=NOON), place)


def test_dead_letter_holds_the_untouched_record_of() -> None:
    """Key, value and headers, in their order, and then the reason."""
    headers = (("trace", b"\xff\x00"), ("empty", None), ("trace", b"2"))
    original = record_of(b"\xff broken", key=b"\xfe", headers=headers)
    error = KeycloakRejectedError("Keycloak refuses the user", code="rejected", status=400)

    message = dead_letter(original, error, step="keycloak", event_id="event-1")

    assert (message.topic, message.key, message.value) == (DEAD_LETTERS, b"\xfe", b"\xff broken")
    assert message.headers[:3] == headers
    assert reason_of(message) == {
        "topic": "user-events",
        "partition": "3",
        "offset": "42",
        "timestamp": "1793577600000",
        "digest": content_digest(original).hex(),
        "group": "keycloak-bridge",
        "stage": "keycloak",
        "code": "rejected",
        "message": "Keycloak refuses the user",
        "action": recommended_action("rejected"),
        "http-status": "400",
        "event-id": "event-1",
        "attempts": "1",
        "bridge-version": "0.1.0",
        "time": "2026-11-02T12:00:00.000000Z",
    }


@pytest.mark.parametrize(
    ("before", "after"), [(b"4", "5"), (b"", "1"), ("٣".encode(), "1"), (b"9" * 5000, "1")]
)
def test_second_life_as_a_dead_letter_replaces_the_first(before: bytes, after: str) -> None:
    """A replayed record that fails again counts on and keeps no old reason."""
    headers = (("kb-dlq-code", b"old"), ("kb-dlq-attempts", before), ("trace", b"1"))

    error = EventDecodeError("no", remedy="look")
    message = dead_letter(record_of(b"x", headers=headers), error)

    assert [name for name, _ in message.headers].count("kb-dlq-code") == 1
    assert message.headers[0] == ("trace", b"1")
    assert ("not-a-cloudevent", "look") == (
        reason_of(message)["code"],
        reason_of(message)["action"],
    )
    assert reason_of(message)["attempts"] == after


headers = st.lists(
    st.tuples(
        st.sampled_from(["trace", "ce_id", "kb-dlq-code", "kb-dlq-attempts", "kb-dlq-x"]),
        st.none() | st.binary(max_size=20) | st.sampled_from([b"1", b"41", b"-1", b"\xb2"]),
    ),
    max_size=6,
).map(tuple)
records = st.builds(
    Record,
    topic=st.sampled_from(["user-events", "user-events-dead-letters"]),
    partition=st.integers(0, 100),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**62),
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=200),
    headers=headers,
)
violations = st.lists(
    st.builds(
        Violation,
        pointer=st.text(st.characters(exclude_categories=["Cs"]), max_size=512),
        keyword=st.just("type"),
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    ),
    max_size=60,
).map(tuple)


@given(records, violations, st.sampled_from([EventError, EventDecodeError, KeycloakRejectedError]))
@example(record_of(b"x"), (VIOLATION,) * 500, EventValidationError)
def test_a_dead_letter_is_the_record_and_a_reason(
    record: Record, broken: tuple[Violation, ...], kind: type[BridgeError]
) -> None:
    """For any record and violations: bytes untouched, headers valid under their schema, at most 4 kB of errors."""
    message = dead_letter(record, kind("sentence", violations=broken))

    reason = dead_letter_headers(stored(message))
    own = tuple(one for one in record.headers if not one[0].startswith("kb-dlq-"))
    assert (record.key, record.value, own) == (
        message.key,
        message.value,
        message.headers[: len(own)],
    )
    assert () == CATALOG.violations(DEAD_LETTER, dict(reason))
    errors = reason.get("kb-dlq-errors", "[]")
    assert len(errors.encode()) <= 4096
    assert len(broken) < 500 or len(errors.encode()) > 3000
    listed = json.loads(errors)
    assert [asdict(one) for one in broken[: len(listed)]] == listed


def test_a_letter_has_its_origin_and_its_reason() -> None:
    """Everything that `list` shows, and no value of the event; the key names the user of an unreadable one."""
    expected = DeadLetter(
        place=Place(3, 41),
        time=NOON,
        code="schema-violation",
        step="schema",
        topic=EVENTS,
        position=Place(3, 4711),
        origin=Place(3, 4711),
        attempts=1,
        event_id="event-1",
        event_type="user.created",
        user_id="u-1",
        replay=b"",
    )
    unreadable = replace(expected, event_id=None, event_type=None)

    assert expected == replace(letter_of(letter_record()), replay=b"")
    assert unreadable == replace(letter_of(letter_record(event=b"\xff\x00")), replay=b"")


@pytest.mark.parametrize("missing", ["topic", "partition", "offset", "code"])
def test_a_record_without_reasons_is_no_letter(missing: str) -> None:
    """Records of other clients are ignored."""
    record = letter_record()
    headers = tuple(one for one in record.headers if one[0] != f"kb-dlq-{missing}")

    assert read_dead_letter(Record(DEAD_LETTERS, 0, 0, 0, None, b"", headers), RULES) is None


@pytest.mark.parametrize(
    ("header", "value"),
    [("attempts", b"many"), ("attempts", b"9" * 5000), ("attempts", b"-3"), ("time", b"noon")],
)
def test_an_unreadable_header_breaks_nothing(header: str, value: bytes) -> None:
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
        ({"step": "schema"}, True),
        ({"step": "map"}, False),
        ({"since": NOON}, True),
        ({"since": NOON + timedelta(seconds=1)}, False),
        ({"until": NOON + timedelta(seconds=1)}, True),
        ({"until": NOON}, False),
        ({"users": {"u-1"}, "codes": {"conflict"}}, False),
    ],
)
def test_a_filter_chooses_letters(conditions: dict[str, Any], matches: bool) -> None:
    """Every condition must hold; `since` is inclusive, `until` is not."""
    given: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, set) else value
        for name, value in conditions.items()
    }

    chosen = DeadLetterFilter(**given)

    assert matches is chosen.matches(letter_of(letter_record()))
    assert (not conditions) is chosen.is_empty


def test_an_inventory_knows_what_is_open() -> None:
    """A mark closes its letter, before or behind it, but none with another content at that place.

    Other records are only counted, a mark of no letter is not.
    """
    first, second, third = (letter_record((0, n), minutes=-n) for n in range(3))
    inventory = DeadLetterInventory(RULES)
    foreign = Record(DEAD_LETTERS, 0, 3, 0, None, b"")
    of_none = replace(foreign, headers=(("kb-dlq-replayed", b"all"),))
    of_another = mark_of(letter_record((0, 2), event=b"{}"), (0, 8))
    for record in (mark_of(second, (0, 9)), first, second, third, foreign, of_none, of_another):
        inventory.add(record)

    assert [Place(0, 2), Place(0, 0)] == [one.place for one in inventory.letters(replayed=False)]
    assert [2, 1, 0] == [one.place.offset for one in inventory.letters(replayed=True)]
    assert 1 == inventory.foreign
    assert [] == inventory.missing()


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
    """A record that failed again keeps its first position, before later ones."""
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
    letters = [letter_of(letter_record(code=code)) for code in ("b", "c", "b", "a")]

    assert [("b", 2), ("a", 1), ("c", 1)] == list(counts_by_code(letters).items())


def test_a_replay_is_the_original_record_with_three_headers_more() -> None:
    """Key, value and headers untouched; the reasons are gone, the count stays. The original has none of them.

    The wish for no mail is one more.
    """
    record = letter_record(headers=(*STRUCTURED, ("trace", b"\x00"), ("trace", b"2")))

    message = replay_message(letter_of(record), record, no_invite=False)
    original = original_record(letter_of(record), record)

    assert Record(EVENTS, 3, 4711, 0, b"u-1", record.value, message.headers[:3]) == original
    assert (EVENTS, record.key, record.value) == (message.topic, message.key, message.value)
    assert (
        *STRUCTURED,
        ("trace", b"\x00"),
        ("trace", b"2"),
        ("kb-dlq-attempts", b"1"),
        ("kb-replay-of", b"3/41"),
        ("kb-replay-origin", b"3/4711"),
    ) == message.headers
    quiet = replay_message(letter_of(record), record, no_invite=True)
    assert (*message.headers, ("kb-replay-invite", b"none")) == quiet.headers
    other = replace(record, headers=(("kb-replay-invite", b"yes"), ("kb-replay-invite", None)))
    assert not wants_no_invite(other)


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


fresh_records = records.filter(
    lambda record: not any(name.startswith("kb-dlq-") for name, _ in record.headers)
)
lives = st.lists(
    st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 2**62)), min_size=1, max_size=6
)


@given(fresh_records, lives)
def test_replays_count_on_and_never_nest(
    record: Record, replays: list[tuple[bool, int, int]]
) -> None:
    """After n failures the letter says n; key, value, headers and the first position are the record's own."""
    first = record
    assert (False, False) == (is_replay(record), wants_no_invite(record))
    for attempt, (no_invite, partition, offset) in enumerate(replays, start=1):
        letter_record = stored(
            dead_letter(record, MappingError("the mapping fails"), minutes=attempt),
            (partition, offset),
        )
        letter = read_dead_letter(letter_record, EnvelopeRules())
        assert letter is not None

        message = replay_message(letter, letter_record, no_invite=no_invite)
        record = stored(message, (partition, offset))

        assert attempt == letter.attempts
        assert Place(first.partition, first.offset) == letter.origin
        assert (first.key, first.value) == (message.key, message.value)
        assert first.headers == original_record(letter, letter_record).headers
        assert (True, no_invite) == (is_replay(record), wants_no_invite(record))
        added = [name for name, _ in message.headers[len(first.headers) :]]
        assert len(added) == len(set(added)) == 3 + no_invite


@pytest.mark.parametrize("text", ["", "3", "3/", "/41", "3/-1", "3/41/1", " 3/41", "٣/41", "3/41\n", "a/b"])  # fmt: skip
def test_what_is_no_place_is_refused(text: str) -> None:
    """The sentence says what to write."""
    with pytest.raises(ValueError, match="PARTITION/OFFSET"):
        Place.parse(text)


@pytest.mark.parametrize(
    ("value", "place"), [(b"3/41", Place(3, 41)), (None, None), (b"\xff", None), (b"x", None)]
)
def test_a_header_that_holds_no_place_is_none(value: bytes | None, place: Place | None) -> None:
    """Other clients may write headers."""
    assert place == place_header(record_of(headers=(("kb-replay-of", value),)), "kb-replay-of")
