from datetime import UTC, datetime
from typing import Any

import pytest

from keycloak_bridge.domain.events import Outcome, Record, Result
from keycloak_bridge.messages.history import PastOutcome, in_order, read_outcome, set_last_by
from keycloak_bridge.messages.results import result_message

TIME = datetime(2026, 11, 2, 8, tzinfo=UTC)


def record_of(result: Result, *, origin: Record | None = None) -> Record:
    """Return a result as it is read back from its topic."""
    message = result_message(result, topic="results", time=TIME, origin=origin)
    return Record("results", 0, 0, 0, message.key, message.value, message.headers)


def an_outcome(event_id: str, *changed: str, day: int = 1, **facts: Any) -> PastOutcome:
    """Return a past outcome, provisioned unless told otherwise."""
    told = {"outcome": "provisioned", "action": "updated", **facts}
    return PastOutcome(datetime(2026, 11, day, tzinfo=UTC), event_id=event_id, changed=changed, **told)  # fmt: skip


def test_a_result_is_read_back_whole() -> None:
    """Everything that says which event set what, from the very message that is published."""
    result = Result(
        Outcome.PROVISIONED,
        action="updated",
        event_id="event-1",
        event_type="user.updated",
        user_id="u-1",
        keycloak_id="kc-1",
        schema_id="urn:x:1.0",
        changed=("email", "attributes.department"),
        mapping="abc",
    )
    origin = Record("user-events", 3, 41, 0, b"u-1", b"{}")

    told = read_outcome(record_of(result, origin=origin))

    assert (
        PastOutcome(
            TIME,
            "provisioned",
            action="updated",
            event_id="event-1",
            event_type="user.updated",
            schema_id="urn:x:1.0",
            keycloak_id="kc-1",
            user_id="u-1",
            changed=("email", "attributes.department"),
            mapping="abc",
            origin="user-events/3@41",
        )
        == told
    )


def test_a_result_of_an_older_bridge_tells_less() -> None:
    """Without targets, mapping and place it still says what became of the event."""
    told = read_outcome(record_of(Result(Outcome.SKIPPED, reason="stale", event_id="event-1")))

    assert PastOutcome(TIME, "skipped", reason="stale", event_id="event-1") == told


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{oops",
        b"[]",
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.created","data":{"outcome":"invited"}}',
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result","data":[]}',
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result","data":{"outcome":1}}',
    ],
)
def test_what_is_no_result_is_passed_over(value: bytes | None) -> None:
    """Anybody can write to a topic."""
    assert read_outcome(Record("results", 0, 0, 0, b"u-1", value)) is None


def test_odd_parts_of_a_result_are_left_out() -> None:
    """Numbers where texts belong, and a place without an offset, are not believed."""
    value = (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result",'
        b'"data":{"outcome":"provisioned","eventId":7,"changed":["email",7],"source":{"topic":"t"}}}'
    )

    assert PastOutcome(None, "provisioned", changed=("email",)) == read_outcome(
        Record("results", 0, 0, 0, None, value)
    )


def test_the_last_event_that_wrote_a_target_set_it() -> None:
    """Target by target; what was skipped or mailed wrote nothing."""
    created = an_outcome("event-1", "email", "attributes.department", action="created")
    moved = an_outcome("event-2", "attributes.department")
    stale = an_outcome("event-3", "email", outcome="skipped", action=None)

    assert {"email": created, "attributes.department": moved} == set_last_by(
        (created, moved, stale)
    )


def test_a_user_created_anew_owes_nothing_to_earlier_events() -> None:
    """Deleting takes everything away; creating begins again."""
    first = an_outcome("event-1", "email", "attributes.department", action="created")
    gone = an_outcome("event-2", action="deleted")
    again = an_outcome("event-3", "email", action="created")

    assert {} == set_last_by((first, gone))
    assert {"email": again} == set_last_by((first, gone, again))
    assert {"email": again} == set_last_by((first, again))


def test_outcomes_are_put_in_order_of_time() -> None:
    """Results of one user from several partitions; one without a time comes first."""
    late, early = an_outcome("event-2", day=2), an_outcome("event-1", day=1)
    timeless = PastOutcome(None, "invited")

    assert (timeless, early, late) == in_order((late, timeless, early))
