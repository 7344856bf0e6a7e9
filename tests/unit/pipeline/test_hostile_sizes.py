"""Records that cannot be read, or that are larger than what the bridge publishes may be."""

import json
import logging
from dataclasses import replace

import pytest
from stage_harness import EVENTS, RESULTS, Flow, event_of, record_of

from keycloak_bridge.domain.events import Record, Unreadable
from keycloak_bridge.messages.dead_letters import without_body

LARGE = 900_000
BY_REFERENCE = Record(
    EVENTS, 3, 42, -1, None, None, unreadable=Unreadable("its batch is corrupt", size_bytes=5)
)


def test_an_unreadable_record_is_a_dead_letter_by_reference(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Log, metric and `/ready` name it, and it says what it does not hold."""
    flow = Flow(tombstones="delete")

    with caplog.at_level(logging.WARNING):
        flow.settle(flow.provision.handle(BY_REFERENCE))

    ((_, reason),) = flow.letters
    assert ("decode", "unreadable-record") == (reason["stage"], reason["code"])
    assert "the record cannot be read: its batch is corrupt" == reason["message"]
    assert ("key, value, headers", "5") == (reason["omitted"], reason["size"])
    assert {("unreadable-record", "provision"): 1.0} == flow.counted("dead_letters_total")
    (line,) = (vars(one)["bridge_fields"] for one in caplog.records)
    assert ("record-unreadable", 3, 42) == (line["action"], line["partition"], line["offset"])
    (note,) = flow.provision._publisher.context.status.noted()
    assert note.startswith("provision: user-events/3@42 became a dead letter: the record cannot be")


def test_an_unreadable_record_with_its_bytes_is_a_dead_letter_with_them() -> None:
    """Its event is named, and its user's later events are parked as usual."""
    flow = Flow()
    whole = Unreadable("the name of a header is not UTF-8", is_whole=True)
    record = replace(record_of(event_of()), unreadable=whole)

    flow.settle(flow.provision.handle(record))

    ((letter, reason),) = flow.letters
    assert (record.key, record.value) == (letter.key, letter.value)
    assert ("unreadable-record", "event-1") == (reason["code"], reason["event-id"])
    assert "omitted" not in reason


def test_an_unreadable_invitation_is_a_dead_letter_too() -> None:
    """No mail goes out."""
    flow = Flow()

    flow.handle_invitation(BY_REFERENCE)

    assert [("invite", "unreadable-record")] == flow.reasons


@pytest.mark.parametrize("tombstones", ["ignore", "dead-letter"])
def test_a_large_key_is_not_repeated(tombstones: str) -> None:
    """The result of a tombstone names no user that nobody can have."""
    flow = Flow(tombstones=tombstones)

    flow.handle(None, key=b"k" * LARGE)

    (result,) = flow.broker.records(RESULTS)
    assert len(result.value or b"") < 2_000
    assert result.key is None
    assert "userId" not in json.loads(result.value or b"")["data"]


def test_a_result_is_bounded_whatever_the_event_holds() -> None:
    """The names in pointers are the event's own."""
    flow = Flow()
    extra = {f"{number}{'x' * 3000}": 1 for number in range(200)}

    flow.handle(event_of(data={**extra, "email": 5, "userId": 7}))

    (result,) = flow.broker.records(RESULTS)
    ((_, reason),) = flow.letters
    assert len(result.value or b"") < 100_000
    assert len(reason["errors"].encode()) <= 4096


def test_what_is_large_besides_the_value_is_left_out_as_well() -> None:
    """A tombstone with a large key, and headers that fill a record by themselves."""
    flow = Flow(tombstones="dead-letter")
    flow.handle(None, key=b"k" * LARGE, headers=(("trace", b"t" * LARGE),))
    ((letter, _),) = flow.letters

    shorter = without_body(letter)  # type: ignore[arg-type] # a record has all that a message has

    assert (None, None) == (shorter.key, shorter.value)
    headers = dict(shorter.headers)
    assert b"key, headers" == headers["kb-dlq-omitted"]
    assert str(LARGE).encode() == headers["kb-dlq-size"]
    assert "trace" not in headers
