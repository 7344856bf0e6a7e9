"""What happens to one record of the invitations topic: a mail, or a result that says why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.domain.errors import BridgeError, Dependency, HoldError, KeycloakError
from keycloak_bridge.domain.events import Invitation, Outcome, Record, Result
from keycloak_bridge.domain.future import Future, completed
from keycloak_bridge.domain.ports import Acknowledgement, Handled
from keycloak_bridge.events.arrival import record_time
from keycloak_bridge.events.decode import EnvelopeRules, peek
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.messages.dead_letters import given_up
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.messages.results import rejected
from keycloak_bridge.validation.catalog import SchemaCatalog

TOO_OLD = "too-old"
"""Reason of an invitation beyond its greatest age."""

_CATCH_UP_S = 1.0


class InviteStage:
    """Takes a record of the invitations topic to a mail."""

    def __init__(
        self,
        *,
        catalog: SchemaCatalog,
        mappings: Mappings,
        inviter: Inviter,
        publisher: ResultPublisher,
        may_mail: Callable[[], bool] = lambda: True,
        max_age_s: float | None = None,
        on_terms: Callable[[Invitation], Invitation] = lambda invitation: invitation,
    ) -> None:
        """Create a stage.

        `may_mail` says whether the events are done that stood in their topic at the start. `max_age_s` is the greatest
        age of an invitation: of its event, or of the record where that is older. `on_terms` gives it the lifespan of its link.
        """
        self._catalog = catalog
        self._mappings = mappings
        self._inviter = inviter
        self._publisher = publisher
        self._may_mail = may_mail
        self._max_age_s = max_age_s
        self._on_terms = on_terms

    def ordering_key(self, record: Record) -> bytes:
        """Return the record key, which is the user's id; the bridge writes no invitation without one."""
        return record.key or f"@{record.offset}".encode()

    def handle(self, record: Record) -> Future[Handled]:
        """Mail the invitation and publish the result; return the future of what must be acknowledged, which is done.

        Raises HoldError (`catching-up`) while a later event of the user may be among those that stood in the topic at the
        start. Otherwise raises BridgeError only with a disposition other than DEAD_LETTER and REPLAN.
        """
        return completed(self._handle(record))

    def _handle(self, record: Record) -> Handled:
        if not self._may_mail():
            raise HoldError(
                "mails wait until the events are done that stood in the topic at the start",
                wait_s=_CATCH_UP_S,
                code="catching-up",
            )
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.without_forged_headers(record)
        known = Result(Outcome.REJECTED)
        try:
            invitation = self._on_terms(read_invitation(record, self._catalog, self._mappings))
            known = Result(
                Outcome.REJECTED,
                event_id=invitation.shown_event_id,
                user_id=invitation.user_id,
                keycloak_id=invitation.keycloak_id,
                identity=invitation.id,
            )
            if self._is_too_old(invitation, record):
                result = replace(known, outcome=Outcome.SKIPPED, reason=TOO_OLD)
                return Handled((self._publisher.publish(record, result, since_s),))
            owned_since_s = self._publisher.context.backlog.since_s(record.topic_partition)
            outcome = self._inviter.invite(invitation, owned_since_s)
        except BridgeError as error:
            if not error.is_final:
                raise
            answered = isinstance(error, KeycloakError)
            return Handled(
                self._dead_letter(record, error, known, since_s),
                Dependency.KEYCLOAK if answered else Dependency.NONE,
            )
        if outcome.mailed:
            self._publisher.context.metrics.mail()
            self._publisher.arrived(record, invitation.waiting_since)
        return Handled(
            (self._publisher.publish(record, outcome.result, since_s),),
            Dependency.KEYCLOAK | Dependency.MAIL if outcome.mailed else Dependency.KEYCLOAK,
        )

    def _is_too_old(self, invitation: Invitation, record: Record) -> bool:
        """Say whether nobody expects this mail any more; one that asks for a mark only never is."""
        if self._max_age_s is None or invitation.confirm_only:
            return False
        times = (invitation.time, invitation.event_time, record_time(record.timestamp_ms))
        oldest = min(time for time in times if time is not None)
        age = self._publisher.context.clock.now() - oldest
        return age.total_seconds() > self._max_age_s

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Publish a dead letter for a record that keeps failing while others succeed."""
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.without_forged_headers(record)
        event_id, event_type, subject = peek(record, EnvelopeRules())
        known = Result(Outcome.REJECTED, event_id=event_id, event_type=event_type, user_id=subject)
        return Handled(self._dead_letter(record, given_up(error), known, since_s))

    def _dead_letter(
        self, record: Record, error: BridgeError, known: Result, since_s: float
    ) -> Sequence[Acknowledgement]:
        return self._publisher.dead_letter(
            record, error, step="invite", result=rejected(known, error), since_s=since_s
        )
