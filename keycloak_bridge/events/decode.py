"""From a Kafka record to an event whose envelope is valid; a record without a value may stand for a deletion."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import (
    EventDecodeError,
    KeyMismatchError,
    TombstoneError,
    Violation,
)
from keycloak_bridge.domain.events import USER_DELETED, CloudEvent, Record
from keycloak_bridge.events.cloudevents import (
    SOURCE,
    Limits,
    RawEnvelope,
    envelope_error,
    read_cloudevent,
    read_head,
)
from keycloak_bridge.events.custom_envelope import CustomEnvelope
from keycloak_bridge.events.formats import FORMATS, parse_timestamp

LONGEST_ID = 255
"""Characters of an id, a type or a subject; what Keycloak stores in a column."""

_LONGEST_URI = 2048
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class EnvelopeRules:
    """How to read a record: limits, the producer's envelope (None: CloudEvents) and its names of types.

    `match_key` says that a record key, where there is one, must be the event's subject.
    """

    limits: Limits = field(default_factory=Limits)
    match_key: bool = True
    custom: CustomEnvelope | None = None
    types: Mapping[str, str] = field(default_factory=dict)


class EventHead(NamedTuple):
    """What is known of an event even if its record cannot be decoded."""

    id: str | None
    type: str | None
    subject: str | None


def decode(record: Record, rules: EnvelopeRules) -> CloudEvent:
    """Return the event in `record`; its data is not validated yet.

    Raises TombstoneError, EventDecodeError with every wrong attribute, or KeyMismatchError.
    """
    event = event_of(_read(record, rules), rules)
    if rules.match_key:
        _check_key(record.key, event.subject)
    return event


def event_of(envelope: RawEnvelope, rules: EnvelopeRules) -> CloudEvent:
    """Return the event that `envelope` describes; raises EventDecodeError with every wrong attribute."""
    attributes = envelope.attributes
    given = attributes.get("time")
    time = parse_timestamp(given) if isinstance(given, str) else None
    violations = _violations(envelope, time)
    if violations:
        raise envelope_error(*violations)
    return CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=rules.types.get(attributes["type"], attributes["type"]),
        subject=attributes.get("subject"),
        time=time,
        dataschema=attributes.get("dataschema"),
        data=envelope.data,
    )


def peek(record: Record, rules: EnvelopeRules) -> EventHead:
    """Return what is known of the event in `record`, decodable or not; never raises.

    The key replaces a missing subject if the rules say that it names the user.
    """
    if rules.custom is not None:
        attributes = rules.custom.read_head(record, rules.limits)
    else:
        attributes = read_head(record, rules.limits)
    event_id, event_type, subject = (
        attributes.get(name) if _text_problem(attributes.get(name), LONGEST_ID) is None else None
        for name in ("id", "type", "subject")
    )
    if subject is None and rules.match_key and record.key is not None:
        key = _key_text(record.key)
        subject = key if _text_problem(key, LONGEST_ID) is None else None
    return EventHead(event_id, rules.types.get(event_type or "", event_type), subject)


def _read(record: Record, rules: EnvelopeRules) -> RawEnvelope:
    if rules.custom is not None:
        return rules.custom.read(record, rules.limits)
    if record.value is None and peek(record, rules).type not in (None, USER_DELETED):
        # its headers say that it is another event, which has no data; no tombstone says anything else
        record = replace(record, value=b"null")
    return read_cloudevent(record, rules.limits)


def _violations(envelope: RawEnvelope, time: datetime | None) -> tuple[Violation, ...]:
    """Return what is wrong with the attributes; `time` is the point in time that the one of that name gives."""
    found: list[Violation] = []
    for name, longest in _LONGEST.items():
        value = envelope.attributes.get(name)
        if value is None and name not in _REQUIRED:
            continue
        if name == "time":
            problem = None if time is not None else _NO_TIME
        else:
            problem = _text_problem(value, longest)
        if problem is not None:
            found.append(Violation(envelope.prefix + name, *problem))
    return tuple(found)


def _text_problem(value: Any, longest: int) -> tuple[str, str] | None:
    if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
        return None  # as nearly all are
    if value is None:
        return "required", "is required"
    if not isinstance(value, str):
        return "type", "must be text in UTF-8"
    if not value:
        return "minLength", "must be at least 1 character long"
    if len(value) > longest:
        return "maxLength", f"must be at most {longest} characters long"
    if _CONTROL.search(value):
        return "pattern", "must not hold control characters"
    return None


_REQUIRED = ("id", "source", "type")
_LONGEST: Mapping[str, int] = {
    "id": LONGEST_ID,
    "source": _LONGEST_URI,
    "type": LONGEST_ID,
    "subject": LONGEST_ID,
    "time": LONGEST_ID,
    "dataschema": _LONGEST_URI,
}
_NO_TIME = ("format", f"must be {FORMATS['date-time'][1]}")


def _check_key(key: bytes | None, subject: str | None) -> None:
    if key is None:
        return
    text = _key_text(key)
    if text is not None and (subject is None or text == subject):
        return
    reason = "is not UTF-8" if text is None else "is not the event's subject"
    raise KeyMismatchError(
        f"the record key {reason}",
        remedy="publish with the user's id as key, or set events.match_key to false",
        violations=(Violation("/subject", "key", "must be the record key"),),
    )


def _key_text(key: bytes) -> str | None:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        return None


def deletion_of(record: Record) -> CloudEvent:
    """Return the deletion that the tombstone `record` means; its data is not validated yet.

    Its id is made of the record's place and its time is the record's, so that redelivery gives the same event. Raises TombstoneError
    without a key, and EventDecodeError for a key that is no text.
    """
    if not record.key:
        raise TombstoneError(
            "the record has neither key nor value, so the user to delete is unknown",
            remedy="publish tombstones with the user's id as key",
        )
    user_id = _key_text(record.key)
    if user_id is None:
        raise EventDecodeError(
            "the key of a record without a value is not UTF-8",
            code="wrong-encoding",
            violations=(Violation("/subject", "type", "must be text in UTF-8"),),
        )
    time = None
    if record.timestamp_ms >= 0:  # Kafka writes -1 where there is none
        with suppress(ValueError, OverflowError, OSError):  # out of range
            time = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    return CloudEvent(
        id=f"tombstone/{record.topic}/{record.partition}/{record.offset}",
        source=SOURCE,
        type=USER_DELETED,
        subject=user_id,
        time=time,
        dataschema=None,
        data={"userId": user_id},
    )
