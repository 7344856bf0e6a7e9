"""What became of an event, told without values."""

from collections.abc import Iterator

from keycloak_bridge.core.errors import BridgeError, GivenUpError, KeycloakError
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.model import BOOKKEEPING_ATTRIBUTES, Outcome, Result, UserEvent
from keycloak_bridge.core.operations import (
    CreateUser,
    DeleteUser,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
)

_BOOKKEEPING = frozenset(ATTRIBUTE_PREFIX + name for name in BOOKKEEPING_ATTRIBUTES)


def result_of(event: UserEvent, plan: Plan, keycloak_id: str | None) -> Result:
    """Return the news of an event whose plan was carried out on this user."""
    if plan.skipped:
        return skipped(event, plan.skipped, keycloak_id)
    return Result(
        Outcome.PROVISIONED,
        action=action_of(plan),
        event_id=event.id,
        event_type=event.type,
        user_id=event.subject,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
        changed=changed_by(plan),
    )


def skipped(event: UserEvent, reason: str, keycloak_id: str | None = None) -> Result:
    """Return the news of an event that had nothing to do, and why."""
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
    """Return the news of a record that became a dead letter with `error`, with all that was `known` of it."""
    return Result(
        Outcome.REJECTED,
        reason=error.code,
        message=error.message,
        event_id=known.event_id,
        event_type=known.event_type,
        user_id=known.user_id,
        keycloak_id=known.keycloak_id,
        schema_id=known.schema_id,
        violations=error.violations,
        mapping=known.mapping,
    )


def given_up(error: BridgeError) -> GivenUpError:
    """Return the reason of a dead letter for a record that kept failing with `error`."""
    return GivenUpError(
        f"it kept failing while others succeeded; at last: {error.message}",
        remedy=error.remedy,
        status=error.status if isinstance(error, KeycloakError) else None,
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
    targets = (target for operation in plan.operations for target in _targets(operation))
    return tuple(dict.fromkeys(target for target in targets if target not in _BOOKKEEPING))


def _targets(operation: Operation) -> Iterator[str]:
    match operation:
        case CreateUser(representation):
            for name in representation:
                if name != "attributes":
                    yield name
            for name in representation.get("attributes", {}):
                yield ATTRIBUTE_PREFIX + name
        case UpdateUser(_, changes):
            yield from (change.target for change in changes)
        case Join(kind, _) | Leave(kind, _):
            yield kind
        case LinkIdentity(link, _):
            yield f"identities.{link.alias}"
        case UnlinkIdentity(before):
            yield f"identities.{before.alias}"
        case _:
            pass
