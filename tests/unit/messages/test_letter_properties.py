"""However often a record is replayed and fails, nothing of it is lost and nothing piles up."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from letter_cases import NOON, stored
from stage_harness import DEAD_LETTERS, EVENTS

from keycloak_bridge.domain.errors import MappingError
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.dead_letters import (
    Place,
    dead_letter_message,
    is_replay,
    original_record,
    read_dead_letter,
    replay_message,
    wants_no_invite,
)

names = st.sampled_from(["trace", "ce_id", "content-type", "kb-other"])
records = st.builds(
    Record,
    topic=st.just(EVENTS),
    partition=st.integers(0, 100),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(-1, 2**62),
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=100),
    headers=st.lists(st.tuples(names, st.none() | st.binary(max_size=20)), max_size=5).map(tuple),
)
lives = st.lists(
    st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 2**62)), min_size=1, max_size=6
)


@given(records, lives)
def test_replays_count_on_and_never_nest(
    record: Record, replays: list[tuple[bool, int, int]]
) -> None:
    """After n failures the letter says n; key, value, headers and the first position are the record's own."""
    first = record
    for attempt, (no_invite, partition, offset) in enumerate(replays, start=1):
        letter_record = stored(_given_up(record, attempt), (partition, offset))
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


def _given_up(record: Record, minutes: int) -> Message:
    return dead_letter_message(
        record,
        MappingError("the mapping fails"),
        topic=DEAD_LETTERS,
        stage="map",
        group="keycloak-bridge",
        schema_id=None,
        event_id=None,
        time=NOON + timedelta(minutes=minutes),
        bridge_version="0.1.0",
    )
