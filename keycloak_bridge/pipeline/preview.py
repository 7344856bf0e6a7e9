"""What `run` would do with one event, without doing it: interpret it, find its user in Keycloak, plan.

`plan`, `validate`, `test-mapping`, `backfill --dry-run` and `dead-letters replay --dry-run` print what `preview` returns.
It makes the same calls as `run` up to the first write. What depends on earlier events of the user (parked events) or on
Keycloak's answer to a write is not foreseen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.domain.errors import BridgeError, EventError
from keycloak_bridge.domain.operations import (
    CreateUser,
    Plan,
    RequestInvitation,
    UpdateUser,
    visible_changes,
)
from keycloak_bridge.domain.users import DesiredUser, FoundUser, OutOfScope
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.provisioning.provisioner import Provisioner

OUT_OF_SCOPE = "out-of-scope"


class PreviewOutcome(StrEnum):
    """What would become of an event; `accepted` means that Keycloak was not asked."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    SKIP = "skip"
    IGNORED = "ignored"
    REFUSED = "refused"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of one event.

    `reason` is the stable code of an outcome `skip`, `ignored` or `refused`. `prepared` is missing when the event is
    refused before it is mapped, `found` when Keycloak has no such user, `plan` when none was made. `error` is why the
    event would become a dead letter.
    """

    outcome: PreviewOutcome
    reason: str | None = None
    prepared: Prepared | Skipped | None = None
    found: FoundUser | None = None
    plan: Plan | None = None
    error: BridgeError | None = None

    @property
    def desired(self) -> DesiredUser | None:
        """What the mapping makes of an event that is in scope; None before that."""
        desired = self.prepared.desired if isinstance(self.prepared, Prepared) else None
        return desired if isinstance(desired, DesiredUser) else None

    @property
    def event_type(self) -> str | None:
        """The type of the event; None when it could not be decoded or is a tombstone."""
        if self.prepared is not None:
            return None if self.prepared.event is None else self.prepared.event.type
        context = self.error.context if isinstance(self.error, EventError) else None
        return None if context is None else context.event_type


def preview(
    interpret: Callable[[], Prepared | Skipped], provisioner: Provisioner | None = None
) -> Preview:
    """Return what would become of the event that `interpret` reads; writes nothing.

    `interpret` is a call of `Interpreter.interpret` or `prepare`, such as `partial(interpreter.interpret, record)`. Without
    a provisioner Keycloak is not asked. Raises BridgeError only for what would keep every event from being previewed.
    """
    prepared: Prepared | Skipped | None = None
    try:
        prepared = interpret()
        if isinstance(prepared, Skipped):
            return Preview(PreviewOutcome.IGNORED, prepared.reason, prepared)
        if isinstance(prepared.desired, OutOfScope):
            return Preview(PreviewOutcome.SKIP, OUT_OF_SCOPE, prepared)
        if provisioner is None:
            return Preview(PreviewOutcome.ACCEPTED, None, prepared)
        found, plan = provisioner.plan(prepared.event, prepared.desired)
    except BridgeError as error:
        if not error.is_final:
            raise
        return Preview(PreviewOutcome.REFUSED, error.code, prepared, error=error)
    return Preview(outcome_of(plan), plan.skipped, prepared, found, plan)


def outcome_of(plan: Plan) -> PreviewOutcome:
    """Return what carrying out `plan` does to the user; a change of the bridge's own bookkeeping alone is none."""
    kinds = {type(operation) for operation in plan.operations} - {RequestInvitation}
    if plan.skipped:
        return PreviewOutcome.SKIP
    if CreateUser in kinds:
        return PreviewOutcome.CREATE
    if not kinds or (kinds == {UpdateUser} and not visible_changes(plan)):
        return PreviewOutcome.UNCHANGED
    return PreviewOutcome.UPDATE
