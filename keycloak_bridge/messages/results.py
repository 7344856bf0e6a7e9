"""Results: what became of an event, as the bridge publishes it; they never hold a value of the user."""

from dataclasses import asdict, replace
from datetime import datetime

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
    Plan,
    RequestInvitation,
    visible_changes,
)
from keycloak_bridge.events.cloudevents import cloud_event_message

_VERSION = "1.1"
_NOT_WRITTEN = ("sessions", "user", "actions")
"""Rows of a plan that name no field, attribute or membership of the user."""


def result_of(event: UserEvent, plan: Plan, keycloak_id: str | None) -> Result:
    """Return the result of an event whose plan was carried out on this user."""
    if plan.skipped:
        return skipped(event, plan.skipped, keycloak_id)
    return replace(
        skipped(event, None, keycloak_id),
        outcome=Outcome.PROVISIONED,
        action=action_of(plan),
        changed=changed_by(plan),
    )


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
    position: str = "unreadable",
    origin: Record | None = None,
) -> Message:
    """Return the message of one result, with the place of `origin`, the record it is about.

    Its id is the same for the same event and outcome, so that consumers recognise a repetition. For an event that could
    not be read the place, else `position` (such as `user-events/3/42`), is used instead of its id.
    """
    source = None
    if origin is not None:
        source = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        position = f"{origin.topic}/{origin.partition}/{origin.offset}"
    data = {
        "outcome": result.outcome.value,
        "action": result.action,
        "reason": result.reason,
        "message": result.message,
        "eventId": result.event_id,
        "eventType": result.event_type,
        "userId": result.user_id,
        "keycloakId": result.keycloak_id,
        "schemaId": result.schema_id,
        "violations": [asdict(one) for one in result.violations],
        "changed": list(result.changed),
        "mapping": result.mapping,
        "source": source,
    }
    present = {name: value for name, value in data.items() if value is not None and value != []}
    identity = f"{result.event_id or position}/{result.outcome.value}"
    return cloud_event_message(
        RESULT, identity, result.user_id, present, topic=topic, time=time, version=_VERSION
    )


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
