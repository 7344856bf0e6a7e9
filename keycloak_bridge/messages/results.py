"""Results: what became of an event, as the bridge publishes it, and the history of one user as it is read back.

A result never holds a value of the user.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from sys import intern
from typing import Any

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import (
    RESULT,
    Message,
    Outcome,
    Record,
    Result,
    UserEvent,
)
from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    Effect,
    Plan,
    RequestInvitation,
    visible_changes,
)
from keycloak_bridge.events.cloudevents import cloud_event_message
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.messages.bounds import LONGEST_ID, LONGEST_TEXT, known_id, listed, shortened

_VERSION = "1.2"
_LARGEST_VIOLATIONS = 64 * 1024
_LARGEST_CHANGED = 16 * 1024
"""Characters of the names of targets that are kept of a result; any client may have written it."""
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_NOT_WRITTEN = ("sessions", "user", "actions")
"""Rows of a plan that name no field, attribute or membership of the user."""


def result_of(event: UserEvent, plan: Plan, user_id: str, keycloak_id: str | None) -> Result:
    """Return the result of an event whose plan was carried out on the user with these ids."""
    if plan.skipped:
        return replace(skipped(event, plan.skipped, keycloak_id), user_id=user_id)
    return Result(
        Outcome.PROVISIONED,
        action=action_of(plan),
        event_id=event.id,
        event_type=event.type,
        user_id=user_id,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
        changed=changed_by(plan),
        identity=event.identity_for_results,
    )


_EFFECTS = {
    Effect.SWITCHED: "Keycloak lets only the switches of this user be written (its directory is read-only, or the "
    "user profile refuses what it has), so the event is not recorded on it",
    Effect.RETURNED: "the deleted user came back from its directory and was disabled: delete it in the directory",
}

_UNMAILED = "; nor could the mail be recorded, so no mail is sent"


def with_effect(result: Result, effect: Effect, *, unmailed: bool = False) -> Result:
    """Return the result of a plan of which no more could be done; `unmailed` where its mail was not requested either."""
    message = _EFFECTS[effect] + (_UNMAILED if unmailed else "")
    told = replace(result, reason=effect.value, message=message)
    if effect is Effect.RETURNED:
        return replace(told, action="updated", changed=("enabled",))
    return told if result.changed else replace(told, action="unchanged")


def skipped(event: UserEvent, reason: str | None, keycloak_id: str | None = None) -> Result:
    """Return the result of an event that had nothing to do, and why."""
    return Result(
        Outcome.SKIPPED,
        reason=reason,
        event_id=event.id,
        event_type=event.type,
        user_id=event.subject,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
        identity=event.identity_for_results,
    )


def rejected(known: Result, error: BridgeError) -> Result:
    """Return the result of a record that became a dead letter with `error`, with all that was `known` of it."""
    return replace(
        known,
        outcome=Outcome.REJECTED,
        reason=error.code,
        message=error.message,
        violations=error.violations,
    )


def result_message(
    result: Result,
    *,
    topic: str,
    time: datetime,
    origin: Record | None = None,
) -> Message:
    """Return the message of one result, with the place of `origin`, the record it is about; `time` is that of what happened.

    Its id is the same for the same event and outcome, so that consumers recognise a repetition. Where it is not known which
    event of which user it is, the place (such as `user-events/3/42`) is used instead of its identity.
    """
    user_id = known_id(result.user_id)
    source, position = None, "unreadable"
    if origin is not None:
        source = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        position = f"{origin.topic}/{origin.partition}/{origin.offset}"
    data = {
        "outcome": result.outcome.value,
        "action": result.action,
        "reason": result.reason,
        "message": None if result.message is None else shortened(result.message),
        "eventId": result.event_id,
        "eventType": result.event_type,
        "userId": user_id,
        "keycloakId": result.keycloak_id,
        "schemaId": result.schema_id,
        "violations": listed(result.violations, _LARGEST_VIOLATIONS),
        "changed": list(result.changed),
        "mapping": result.mapping,
        "source": source,
    }
    present = {name: value for name, value in data.items() if value is not None and value != []}
    identity = f"{result.identity or position}/{result.outcome.value}"
    return cloud_event_message(
        RESULT, identity, user_id, present, topic=topic, time=time, version=_VERSION
    )


def without_details(result: Result) -> Result:
    """Return `result` for a topic that does not take all of it: what happened to whom, and why."""
    return replace(result, message=None, violations=(), changed=())


def action_of(plan: Plan) -> str:
    """Return what `plan` does to the user in one word: created, updated, deleted or unchanged."""
    writes = [one for one in plan.operations if not isinstance(one, RequestInvitation)]
    if any(isinstance(one, DeleteUser) for one in writes):
        return "deleted"
    if not writes:
        return "unchanged"
    return "created" if isinstance(writes[0], CreateUser) else "updated"


def changed_by(plan: Plan) -> tuple[str, ...]:
    """Return the targets that `plan` writes, each once: `email`, `attributes.department`, `groups`, `identities.corp`.

    What the bridge remembers on the user for itself is left out.
    """
    targets = (row.target for row in visible_changes(plan))
    return tuple(dict.fromkeys(target for target in targets if target not in _NOT_WRITTEN))


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
    id: str | None = None
    """The id of the result itself, by which a repetition is recognised."""


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
        changed=_names(data.get("changed")),
        mapping=_text(data, "mapping"),
        origin=_origin(data.get("source")),
        id=event.id,
    )


def outcomes_in_order(outcomes: Iterable[PastOutcome]) -> tuple[PastOutcome, ...]:
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
        if one.action in ("created", "deleted"):
            setters.clear()
        if one.action != "deleted":
            setters.update(dict.fromkeys(one.changed, one))
    return setters


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) and len(value) <= LONGEST_TEXT else None


def _names(changed: Any) -> tuple[str, ...]:
    """Return the texts in `changed`, as many as are kept; many results share a few of them."""
    names: list[str] = []
    left = _LARGEST_CHANGED
    for one in changed if isinstance(changed, list) else ():
        if isinstance(one, str) and len(one) <= left:
            left -= len(one)
            names.append(intern(one))
    return tuple(names)


def _origin(source: Any) -> str | None:
    if not isinstance(source, dict):
        return None
    topic, partition, offset = (source.get(name) for name in ("topic", "partition", "offset"))
    if not isinstance(topic, str) or not isinstance(partition, int) or not isinstance(offset, int):
        return None
    return f"{shortened(topic, LONGEST_ID)}/{partition}@{offset}"
