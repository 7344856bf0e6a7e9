"""What happens to one record of the invitations topic: a mail, or a result that says why there is none."""

from collections.abc import Sequence

from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.domain.errors import BridgeError, Dependency, KeycloakError
from keycloak_bridge.domain.events import Outcome, Record, Result
from keycloak_bridge.domain.ports import Acknowledgement, Handled
from keycloak_bridge.events.decode import EnvelopeRules, peek
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.messages.dead_letters import given_up
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.messages.results import rejected
from keycloak_bridge.validation.catalog import SchemaCatalog


class InviteStage:
    """Takes a record of the invitations topic to a mail."""

    def __init__(
        self,
        *,
        catalog: SchemaCatalog,
        mappings: Mappings,
        inviter: Inviter,
        publisher: ResultPublisher,
    ) -> None:
        self._catalog = catalog
        self._mappings = mappings
        self._inviter = inviter
        self._publisher = publisher

    def ordering_key(self, record: Record) -> bytes:
        """Return the record key, which is the user's id; the bridge writes no invitation without one."""
        return record.key or f"@{record.offset}".encode()

    def handle(self, record: Record) -> Handled:
        """Mail the invitation and publish the result; return what must be acknowledged.

        Raises BridgeError only with a disposition other than DEAD_LETTER and REPLAN.
        """
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.believed(record)
        known = Result(Outcome.REJECTED)
        try:
            invitation = read_invitation(record, self._catalog, self._mappings)
            known = Result(
                Outcome.REJECTED,
                event_id=invitation.shown_event_id,
                user_id=invitation.user_id,
                keycloak_id=invitation.keycloak_id,
                identity=invitation.id,
            )
            outcome = self._inviter.invite(invitation)
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
        return Handled(
            (self._publisher.publish(record, outcome.result, since_s),),
            Dependency.KEYCLOAK | Dependency.MAIL if outcome.mailed else Dependency.KEYCLOAK,
        )

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Publish a dead letter for a record that keeps failing while others succeed."""
        since_s = self._publisher.context.clock.monotonic()
        record = self._publisher.believed(record)
        event_id, event_type, subject = peek(record, EnvelopeRules())
        known = Result(Outcome.REJECTED, event_id=event_id, event_type=event_type, user_id=subject)
        return Handled(self._dead_letter(record, given_up(error), known, since_s))

    def _dead_letter(
        self, record: Record, error: BridgeError, known: Result, since_s: float
    ) -> Sequence[Acknowledgement]:
        return self._publisher.dead_letter(
            record, error, step="invite", result=rejected(known, error), since_s=since_s
        )
