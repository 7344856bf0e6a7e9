"""The history of one user, read from the results topic: the outcome of each event, and which one last set what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import RESULT, Outcome, Record
from keycloak_bridge.events.decode import EnvelopeRules, decode

_CREATED = "created"
_DELETED = "deleted"
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """The outcome of one event; `origin` is the place of its record, `topic/partition@offset`.

    `changed` names the targets that were written, and `mapping` is the fingerprint of the mapping. Both are empty in
    results that an older bridge wrote.
    """

    time: datetime | None
    outcome: str
    action: str | None = None
    reason: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    schema_id: str | None = None
    keycloak_id: str | None = None
    user_id: str | None = None
    changed: tuple[str, ...] = ()
    mapping: str | None = None
    origin: str | None = None


def read_outcome(record: Record) -> PastOutcome | None:
    """Return the outcome in `record` of the results topic, None when it is no result; never raises."""
    try:
        event = decode(record, EnvelopeRules(match_key=False))
    except BridgeError:
        return None
    data = event.data
    if event.type != RESULT or not isinstance(data, dict):
        return None
    outcome = _text(data, "outcome")
    if outcome is None:
        return None
    return PastOutcome(
        time=event.time,
        outcome=outcome,
        action=_text(data, "action"),
        reason=_text(data, "reason"),
        event_id=_text(data, "eventId"),
        event_type=_text(data, "eventType"),
        schema_id=_text(data, "schemaId"),
        keycloak_id=_text(data, "keycloakId"),
        user_id=_text(data, "userId"),
        changed=_texts(data.get("changed")),
        mapping=_text(data, "mapping"),
        origin=_origin(data.get("source")),
    )


def in_order(outcomes: Iterable[PastOutcome]) -> tuple[PastOutcome, ...]:
    """Return `outcomes` by time; the order of those of one moment is kept."""
    return tuple(sorted(outcomes, key=lambda one: one.time or _BEGINNING))


def set_last_by(outcomes: Iterable[PastOutcome]) -> Mapping[str, PastOutcome]:
    """Return which of `outcomes`, given in order, wrote each target last.

    A user that was created or deleted has nothing left of what was set before.
    """
    setters: dict[str, PastOutcome] = {}
    for one in outcomes:
        if one.outcome != Outcome.PROVISIONED:
            continue
        if one.action in (_CREATED, _DELETED):
            setters.clear()
        if one.action != _DELETED:
            setters.update(dict.fromkeys(one.changed, one))
    return setters


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _origin(source: Any) -> str | None:
    if not isinstance(source, dict) or not {"topic", "partition", "offset"} <= source.keys():
        return None
    return f"{source['topic']}/{source['partition']}@{source['offset']}"
