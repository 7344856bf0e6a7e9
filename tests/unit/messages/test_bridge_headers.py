"""A record is known again by what it holds, whatever the bridge has added to it."""

from dataclasses import replace
from typing import Any

import pytest
from dead_letter_cases import dead_letter, letter_of, stored
from hypothesis import given
from hypothesis import strategies as st
from records import record as record_of

from keycloak_bridge.domain.errors import MappingError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.messages.bridge_headers import (
    content_digest,
    has_bridge_headers,
    record_digest,
    without_bridge_headers,
)
from keycloak_bridge.messages.dead_letters import (
    claimed_replay,
    dead_lettered_record,
    marked_replay,
    replay_mark,
    replay_message,
)

headers = st.lists(
    st.tuples(
        st.sampled_from(["trace", "ce_id", "kb-dlq-attempts", "kb-replay-of", "kb-confirm-only"]),
        st.none() | st.binary(max_size=8),
    ),
    max_size=4,
).map(tuple)
records = st.builds(
    record_of,
    st.none() | st.binary(max_size=40),
    key=st.none() | st.binary(max_size=8),
    headers=headers,
)


@given(records)
def test_a_dead_letter_and_a_replay_keep_the_content(record: Record) -> None:
    """As Kafka returns them: a null header, and a record without key and value, arrive empty."""
    letter = stored(dead_letter(record, MappingError("no"), topic_id="t-1"))
    letter = replace(letter, headers=tuple((name, value or b"") for name, value in letter.headers))
    if letter.key is None and letter.value is None:
        letter = replace(letter, value=b"")
    replay = stored(replay_message(letter_of(letter), letter, no_invite=True))
    mark = stored(replay_mark(letter_of(letter), letter, time=letter_of(letter).time))

    assert {content_digest(record)} == {content_digest(one) for one in (letter, replay)}
    assert record_digest(record, topic_id="t-1") == dead_lettered_record(letter)
    assert claimed_replay(replay) == marked_replay(mark) is not None
    assert None is dead_lettered_record(mark)
    assert None is marked_replay(letter)
    assert content_digest(record) == content_digest(without_bridge_headers(record))
    assert not has_bridge_headers(without_bridge_headers(record))


RECORD = record_of(b"v", key=b"k", headers=(("a", b"1"), ("b", b"2")))
OTHERS: list[dict[str, Any]] = [
    {"key": b"kv", "value": b""},
    {"key": None},
    {"key": b""},
    {"value": None},
    {"value": b""},
    {"headers": (("b", b"2"), ("a", b"1"))},
    {"headers": (("a", b"1b2"),)},
    {"headers": (("a1", b""), ("b", b"2"))},
    {"headers": ()},
]


def test_no_two_records_have_one_content() -> None:
    """Not where parts run together, are empty or missing."""
    digests = {content_digest(replace(RECORD, **other)) for other in [{}, *OTHERS]}

    assert 1 + len(OTHERS) == len(digests)


@pytest.mark.parametrize(
    "other", [{"topic": "t"}, {"partition": 9}, {"offset": 9}, {"timestamp_ms": 9}, {"value": b"w"}]
)
def test_a_record_is_its_content_at_its_place_and_time(other: dict[str, Any]) -> None:
    """In that topic, not in a later one of the same name."""
    assert record_digest(RECORD) != record_digest(replace(RECORD, **other))
    assert record_digest(RECORD) != record_digest(RECORD, topic_id="t-1")


@pytest.mark.parametrize("name", ["topic", "partition", "offset", "timestamp"])
@pytest.mark.parametrize("value", [None, b"", b"x", b"9" * 5000, "\u0663".encode()])
def test_a_letter_that_names_no_place_is_of_no_record(name: str, value: bytes | None) -> None:
    """Whatever another client has written there."""
    letter = stored(dead_letter(RECORD, MappingError("no")))
    found = [one for one in letter.headers if one[0] != f"kb-dlq-{name}"]
    if value is not None:
        found.append((f"kb-dlq-{name}", value))

    digest = dead_lettered_record(replace(letter, headers=tuple(found)))

    assert (digest is None) is (name != "topic" or not value)
