import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from stage_harness import event_of, interpretation

from keycloak_bridge.backfill.inputs import FileEvents
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.event_files.json_events import Line
from keycloak_bridge.events.decode import decode

TIME = datetime(2026, 11, 6, 18, tzinfo=UTC)
EVENTS = FileEvents(interpretation(), "user.created", [TIME], [None], {})


def record_of(content: Any, number: int = 1, events: FileEvents = EVENTS) -> Record:
    """Return the record of a line that holds `content`."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return events.record(Line(0, number, text), number)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"userId": "u-1"}, b"u-1"),
        ({"userId": 1}, b"1"),
        ({"userId": ""}, None),
        ({"email": "x"}, None),
        (event_of("u-2"), b"u-2"),
        (event_of("u-2", subject=...), b"u-2"),
        (event_of("u-2", subject=..., type="user.unknown"), None),
        (event_of("u-2", subject=..., type=7), None),
        (event_of("u-2", subject=...) | {"data": 7}, None),
        ([], None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_key_is_the_user(content: Any, key: bytes | None) -> None:
    """So that its events stay in order; what names nobody is for the stage to refuse."""
    assert key == record_of(content).key


def test_data_becomes_an_event_whose_value_stays_as_it_is() -> None:
    """The same line is the same event, wherever it stands; another type or content is another."""
    data = {"userId": "ü-1", "email": "x"}
    record = record_of(data)
    event = decode(record, interpretation().rules)

    assert json.dumps(data).encode() == record.value
    assert ("ü-1", "user.created", TIME, data) == (
        event.subject,
        event.type,
        event.time,
        event.data,
    )
    ids = [
        decode(one, interpretation().rules).id
        for one in (
            record_of(data, 2),
            record_of({**data, "email": "y"}),
            record_of(data, events=replace(EVENTS, event_type="user.updated")),
        )
    ]
    assert [True, False, False] == [event.id == one for one in ids]


def test_an_event_keeps_its_own_time_and_id() -> None:
    """Only its key is new."""
    event = decode(record_of(event_of("u-1", "event-7")), interpretation().rules)

    assert ("event-7", datetime(2026, 11, 1, 8, tzinfo=UTC)) == (event.id, event.time)


def test_data_without_a_time_is_refused() -> None:
    """It would overwrite what is newer; events are not asked."""
    events = replace(EVENTS, times=[None])

    assert b"u-1" == record_of(event_of("u-1"), events=events).key
    with pytest.raises(ConfigError, match="of when"):
        record_of({"userId": "u-1"}, events=events)
