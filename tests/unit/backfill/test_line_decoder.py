import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from stage_harness import event_of, interpretation

from keycloak_bridge.backfill.files import LineDecoder
from keycloak_bridge.domain.errors import ConfigError, EventError
from keycloak_bridge.domain.events import CloudEvent, Unreadable
from keycloak_bridge.event_files.csv_rows import Line
from keycloak_bridge.event_files.file_records import FileInterpreter, FileRecord
from keycloak_bridge.pipeline.interpret import Skipped

TIME = datetime(2026, 11, 6, 18, tzinfo=UTC)
DECODER = LineDecoder(interpretation(), "user.created", [TIME], [None], {})


def record_of(content: Any, number: int = 1, decoder: LineDecoder = DECODER) -> FileRecord:
    """Return the record of a line that holds `content`."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return decoder.record(Line(0, number, text), number)


def event_in(content: Any, number: int = 1, decoder: LineDecoder = DECODER) -> CloudEvent:
    """Return the event of a line that holds `content`."""
    event = record_of(content, number, decoder).event
    assert isinstance(event, CloudEvent)
    return event


@pytest.mark.parametrize(
    ("content", "key", "code"),
    [
        ({"userId": "u-1"}, b"u-1", None),
        ({"userId": 1}, b"1", None),
        ({"userId": ""}, None, None),
        ({"email": "x"}, None, None),
        ({"userId": "u\x01"}, None, None),
        (event_of("u-2"), b"u-2", None),
        (event_of("u-2", subject=...), b"u-2", None),
        (event_of("u-2", subject=..., time="now"), b"u-2", "invalid-envelope"),
        (event_of("u-2", subject=..., type="user.unknown"), None, None),
        (event_of("u-2", subject=..., type=7), None, "invalid-envelope"),
        (event_of("u-2", subject=...) | {"data": 7}, None, None),
        ([], None, "not-a-cloudevent"),
        (b"{", None, "not-json"),
        (b'{"userId": "u-1", "userId": "u-3"}', b"u-3", "duplicate-key"),
        (b'{"specversion": "1.0", "subject": "u-1", "a": 1, "a": 2}', b"u-1", "duplicate-key"),
        (b"[" * 100_000, None, "too-deep"),
        (b"\xff", None, "wrong-encoding"),
    ],
)
def test_the_key_is_the_user(content: Any, key: bytes | None, code: str | None) -> None:
    """So the events of a user stay in order, those that will be refused too."""
    record = record_of(content)

    assert key == record.key
    assert code == (record.event.code if isinstance(record.event, EventError) else None)


def test_what_a_file_lacks_that_is_cut_off_is_refused() -> None:
    """In an envelope of the producer's and without one."""
    cut = Unreadable("the array does not end; the file is cut off")
    for decoder in (DECODER, replace(DECODER, enveloped=True)):
        event = decoder.record(Line(0, 7, b"", unreadable=cut), 7).event

        assert isinstance(event, EventError)
        assert cut.reason in event.message


def test_data_becomes_an_event() -> None:
    """The same line is the same event, wherever it is; another type or content is another one."""
    data = {"userId": "ü-1", "email": "x"}
    event = event_in(data)

    assert ("ü-1", "user.created", TIME, data) == (
        event.subject,
        event.type,
        event.time,
        event.data,
    )
    other_type = replace(DECODER, event_type="user.updated")
    others = (event_in(data, 2), event_in({**data, "email": "y"}), event_in(data, 1, other_type))
    assert [True, False, False] == [event.id == one.id for one in others]


def test_undecodable_data_is_named_too() -> None:
    """By the id that its content gives, its type and its user, for the report."""
    event = record_of(b'{"userId": "u-1", "email": "x", "email": "y"}').event

    assert isinstance(event, EventError)
    assert event.context is not None
    assert ("user.created", "u-1") == (event.context.event_type, event.context.user_id)
    assert str(event.context.event_id).startswith("backfill-")


def test_a_line_of_an_ignored_type_is_ignored_whatever_else_is_in_it() -> None:
    """As a record of the topic is."""
    line = record_of(event_of(type="order.placed", time="2026-11-28 10:01"))
    ignoring = replace(
        DECODER.interpretation.interpreter, ignored_types=frozenset({"order.placed"})
    )

    assert isinstance(line.event, EventError)
    found = FileInterpreter.of(ignoring).interpret(line)
    assert isinstance(found, Skipped)
    assert "events.ignore_types" == found.reason


def test_an_event_keeps_its_own_time_and_id() -> None:
    """Whatever the time of its file is."""
    event = event_in(event_of("u-1", "event-7"))

    assert ("event-7", datetime(2026, 11, 1, 8, tzinfo=UTC)) == (event.id, event.time)


def test_data_without_a_time_is_refused() -> None:
    """It would overwrite what is newer; an event has a time of its own."""
    decoder = replace(DECODER, times=[None])

    assert b"u-1" == record_of(event_of("u-1"), decoder=decoder).key
    with pytest.raises(ConfigError, match="no time"):
        record_of({"userId": "u-1"}, decoder=decoder)
