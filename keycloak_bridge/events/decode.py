"""From a Kafka record to an event whose envelope is valid; a record without a value may stand for a deletion."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import (
    EventDecodeError,
    KeyMismatchError,
    TombstoneError,
    Violation,
)
from keycloak_bridge.domain.events import USER_DELETED, CloudEvent, Record
from keycloak_bridge.events.arrival import record_time
from keycloak_bridge.events.cloudevents import (
    LONGEST_ID,
    SOURCE,
    RawEnvelope,
    SizeLimits,
    envelope_error,
    read_cloudevent,
    read_head,
    read_refused_type,
    text_problem,
)
from keycloak_bridge.events.custom_envelope import CustomEnvelope
from keycloak_bridge.events.formats import FORMATS, parse_timestamp
from keycloak_bridge.events.nulls import with_nulls, without_nulls
from keycloak_bridge.events.record_key import RecordKeys

_LONGEST_URI = 2048


@dataclass(frozen=True, slots=True)
class EnvelopeRules:
    """How to read a record: limits, the producer's envelope (None: CloudEvents) and its names of types.

    `match_key` says that the user whom a record key names, where there is one, must be the event's subject, or without a
    subject the user whom the mapping finds in its data; `keys_name_users` that keys name users even if that is not asked of every event; `nulls_absent` that a property of the
    data that is null counts as absent.
    """

    limits: SizeLimits = field(default_factory=SizeLimits)
    match_key: bool = True
    custom: CustomEnvelope | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    keys: RecordKeys = field(default_factory=RecordKeys)
    keys_name_users: bool = False
    nulls_absent: bool = False

    def user_of_key(self, record: Record) -> str | None:
        """Return the user whom the record's key names; None where it names none, or need not name one."""
        if not (self.match_key or self.keys_name_users):
            return None
        with suppress(EventDecodeError):
            return self.keys.user(record)
        return None


class EventHead(NamedTuple):
    """What is known of an event even if its record cannot be decoded."""

    id: str | None
    type: str | None
    subject: str | None


def decode(record: Record, rules: EnvelopeRules) -> CloudEvent:
    """Return the event in `record`; its data is not validated yet.

    Without a subject, whom its key names is not compared: see `refuse_key_of_another`. Raises TombstoneError, EventDecodeError
    with every wrong attribute, or KeyMismatchError.
    """
    if record.unreadable is not None:
        raise EventDecodeError(
            f"the record cannot be read: {record.unreadable.reason}", code="unreadable-record"
        )
    event = event_of(_read(record, rules), rules)
    if rules.match_key:
        _check_key(record, event.subject, rules)
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
        data=_data(envelope, rules),
    )


def _data(envelope: RawEnvelope, rules: EnvelopeRules) -> Any:
    data, names = envelope.data, envelope.cleared
    if rules.nulls_absent:
        data = without_nulls(data)
    if names is None:
        return data
    problem = "must be a list of names of properties"
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        try:
            return with_nulls(data, names, rules.limits.max_depth)
        except ValueError:
            problem = "must name properties of the data"
    raise envelope_error(Violation("/cleared", "expression", problem))


def peek(record: Record, rules: EnvelopeRules) -> EventHead:
    """Return what is known of the event in `record`, decodable or not; never raises.

    The key replaces a missing subject if the rules say that it names the user.
    """
    if rules.custom is not None:
        attributes = rules.custom.read_head(record, rules.limits)
    else:
        attributes = read_head(record, rules.limits)
    event_id, event_type, subject = (
        attributes.get(name) if text_problem(attributes.get(name), LONGEST_ID) is None else None
        for name in ("id", "type", "subject")
    )
    if subject is None:
        subject = rules.user_of_key(record)
    return EventHead(event_id, rules.types.get(event_type or "", event_type), subject)


def refused_type(record: Record, rules: EnvelopeRules) -> str | None:
    """Return the type of the event in `record` where its JSON is refused for what is in it, and `peek` sees none; never raises."""
    if rules.custom is not None:
        found = rules.custom.read_refused_type(record, rules.limits)
    else:
        found = read_refused_type(record, rules.limits)
    return rules.types.get(found or "", found)


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
            problem = text_problem(value, longest)
        if problem is not None:
            found.append(Violation(envelope.prefix + name, *problem))
    return tuple(found)


_REQUIRED = ("id", "source", "type")
_LONGEST: Mapping[str, int] = {
    "id": LONGEST_ID,
    "source": _LONGEST_URI,
    "type": LONGEST_ID,
    "subject": LONGEST_ID,
    "time": LONGEST_ID,
    "dataschema": _LONGEST_URI,
}
_NO_TIME = (
    "format",
    f"must be {FORMATS['date-time'][1]}; timestamp() in [envelope] reads other forms",
)


def _check_key(record: Record, subject: str | None, rules: EnvelopeRules) -> None:
    reason = "is not the event's subject"
    try:
        user = rules.keys.user(record)
        if user is None or subject in (None, user):
            return
    except EventDecodeError as error:
        reason = error.message.removeprefix("the record key ")
    raise _mismatch(reason, Violation("/subject", "key", "must be the record key"))


def refuse_key_of_another(record: Record, user_id: str, rules: EnvelopeRules) -> None:
    """Raise KeyMismatchError where the record's key names another user than `user_id`, and must not.

    It is for events without a subject, which `decode` can compare with nothing.
    """
    if rules.match_key and rules.user_of_key(record) not in (None, user_id):
        raise _mismatch("is not the user's id", Violation("/key", "key", "must be the user's id"))


def _mismatch(reason: str, violation: Violation) -> KeyMismatchError:
    return KeyMismatchError(
        f"the record key {reason}",
        remedy="publish with the user's id as key, say in envelope.key where in the key it is, or set events.match_key "
        "to false",
        violations=(violation,),
    )


def deletion_of(record: Record, rules: EnvelopeRules) -> CloudEvent:
    """Return the deletion that the tombstone `record` means; it has no data, and its key names the user.

    Its id is made of the record's place and its time is the record's, so that redelivery gives the same event. Raises
    TombstoneError without a key, and EventDecodeError (`unreadable-key`) for a key that names nobody.
    """
    user_id = rules.keys.user(record)
    if user_id is None:
        raise TombstoneError(
            "the record has neither key nor value, so the user to delete is unknown",
            remedy="publish tombstones with the user's id as key",
        )
    return CloudEvent(
        id=f"tombstone/{record.topic}/{record.partition}/{record.offset}",
        source=SOURCE,
        type=USER_DELETED,
        subject=user_id,
        time=record_time(record.timestamp_ms),
        dataschema=None,
        data=None,
    )
