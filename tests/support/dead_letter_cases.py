"""Dead letters as the bridge writes them, and as their topic returns them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stage_harness import DEAD_LETTERS, EVENTS, STRUCTURED, event_of

from keycloak_bridge.domain.errors import BridgeError, EventValidationError, Violation
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.messages.dead_letters import DeadLetter, dead_letter_message, read_dead_letter

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def stored(message: Message, place: tuple[int, int] = (0, 7)) -> Record:
    """Return `message` as it is read at `place` of its topic."""
    partition, offset = place
    return Record(message.topic, partition, offset, 0, message.key, message.value, message.headers)


def dead_letter(
    record: Record,
    error: BridgeError,
    *,
    step: str = "schema",
    schema_id: str | None = None,
    event_id: str | None = None,
    minutes: int = 0,
    topic_id: str | None = None,
) -> Message:
    """Return the dead letter of `record`, written `minutes` after noon."""
    return dead_letter_message(
        record,
        error,
        topic=DEAD_LETTERS,
        step=step,
        group="keycloak-bridge",
        schema_id=schema_id,
        event_id=event_id,
        time=NOON + timedelta(minutes=minutes),
        bridge_version="0.1.0",
        topic_id=topic_id,
    )


def letter_of(record: Record) -> DeadLetter:
    """Return the dead letter that `record` is."""
    letter = read_dead_letter(record, EnvelopeRules())
    assert letter is not None
    return letter


def letter_record(
    place: tuple[int, int] = (3, 41),
    *,
    event: dict[str, Any] | bytes | None = None,
    origin: tuple[int, int] = (3, 4711),
    topic: str = EVENTS,
    code: str = "schema-violation",
    step: str = "schema",
    minutes: int = 0,
    violations: Sequence[Violation] = (),
    headers: tuple[tuple[str, bytes | None], ...] = STRUCTURED,
    key: bytes | None = b"u-1",
) -> Record:
    """Return the record of a dead letter that was written `minutes` after noon."""
    event = event_of() if event is None else event
    if isinstance(event, dict):
        key = str(event["subject"]).encode()
        event = json.dumps(event, ensure_ascii=False).encode()
    record = Record(topic, *origin, 1_793_577_600_000, key, event, headers)
    error = EventValidationError("the data breaks its schema", code=code, violations=violations)
    schema_id = "urn:keycloak-bridge:schema:user.created:1.0"
    return stored(
        dead_letter(record, error, step=step, schema_id=schema_id, minutes=minutes), place
    )
