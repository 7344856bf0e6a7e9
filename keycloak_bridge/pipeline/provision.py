"""What becomes of one record of the events topic, from its bytes to what is published about it.

A stage raises only what the delivery must decide about: wait and try again, stop, or abandon.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from keycloak_bridge.delivery.offsets import LostUsers
from keycloak_bridge.delivery.results import Outlets
from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakError,
    ParkedError,
    TombstoneError,
)
from keycloak_bridge.domain.events import (
    COMPLETE_TYPES,
    URGENT_TYPES,
    USER_UPDATED,
    CloudEvent,
    Outcome,
    Record,
    Result,
    TopicPartition,
)
from keycloak_bridge.domain.ports import Handled, Proof
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.events.decode import EnvelopeRules, decode, deletion_of, peek
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.messages.dead_letters import is_replay, wants_no_invite
from keycloak_bridge.messages.published import given_up, rejected
from keycloak_bridge.provisioning.bulk_writer import Bringing, Taken
from keycloak_bridge.provisioning.provisioner import Provisioned, is_final
from keycloak_bridge.validation.catalog import SchemaCatalog


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """What is done without looking at the user: types of other systems, records without a value, lost events.

    `tombstones` says what a record without a value is: nothing to do (`ignore`), the deletion of the user that its key
    names (`delete`), or a mistake (`dead-letter`).
    `after_dead_letter` says what becomes of later events of a user one of whose events became a dead letter: `park`,
    `continue` or `stop`. An event that says everything about its user depends on none before it and always goes on.
    """

    ignored_types: Collection[str] = frozenset()
    tombstones: str = "ignore"
    after_dead_letter: str = "park"


class ProvisionStage:
    """Takes a record of the events topic from bytes to a user in Keycloak."""

    def __init__(
        self,
        *,
        rules: EnvelopeRules,
        catalog: SchemaCatalog,
        mapping: Mappings,
        policy: EventPolicy,
        bringing: Bringing,
        outlets: Outlets,
        lost: LostUsers,
    ) -> None:
        self._rules = rules
        self._catalog = catalog
        self._mapping = mapping
        self._policy = policy
        self._bringing = bringing
        self._outlets = outlets
        self._lost = lost
        self._stopped_at: set[tuple[TopicPartition, int]] = set()

    def lane(self, record: Record) -> bytes:
        """Return the record key; without one, the subject, and without that, a lane of its own."""
        if record.key:
            return record.key
        _, _, subject = peek(record, self._rules)
        return subject.encode("utf-8", "surrogatepass") if subject else f"@{record.offset}".encode()

    def handle(self, record: Record) -> Handled:
        """Return what must be acknowledged before `record` counts as done.

        Raises BridgeError only with a disposition other than DEAD_LETTER and REPLAN.
        """
        since_s = self._outlets.clock.monotonic()
        known = Result(Outcome.REJECTED)
        step = "decode"
        try:
            cloud_event = self._decode(record)
            known = _known_from(cloud_event)
            if cloud_event.type in self._policy.ignored_types:
                return Handled()
            self._refuse_dependent(record, cloud_event)
            step = "schema"
            schema_id = self._catalog.schema_id(cloud_event.type, cloud_event.dataschema)
            known = replace(known, schema_id=schema_id)
            event = self._catalog.validate(cloud_event)
            step = "map"
            fingerprint = self._mapping.fingerprint_of(event)
            known = replace(known, mapping=fingerprint)
            desired = _without_mail(self._mapping.apply(event), record)
            step = "keycloak"
            taken = Taken(record, event, desired, known, since_s)
            return self._bringing.bring(taken, partial(self._conclude, taken))
        except TombstoneError as error:
            return self._tombstone(record, error, since_s)
        except BridgeError as error:
            if not is_final(error):
                raise
            return self._reject(record, error, known, step, since_s)

    def _conclude(self, taken: Taken, provision: Callable[[], Provisioned]) -> Handled:
        record = taken.record
        try:
            provisioned = provision()
        except BridgeError as error:
            if not is_final(error):
                raise
            return self._reject(record, error, taken.known, "keycloak", taken.since_s)
        if taken.event.type not in URGENT_TYPES:  # what was lost before it still is
            self._lost.forget(record.topic_partition, self.lane(record))
        reached = isinstance(taken.desired, DesiredUser)
        return Handled(
            (
                *provisioned.acknowledgements,
                self._outlets.tell(record, provisioned.result, taken.since_s),
            ),
            Proof.KEYCLOAK if reached else Proof.NONE,
        )

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Make a dead letter of a record that keeps failing while others succeed."""
        since_s = self._outlets.clock.monotonic()
        return self._reject(record, given_up(error), Result(Outcome.REJECTED), "keycloak", since_s)

    def _decode(self, record: Record) -> CloudEvent:
        try:
            return decode(record, self._rules)
        except TombstoneError:
            if self._policy.tombstones != "delete":
                raise
            return deletion_of(record)

    def _refuse_dependent(self, record: Record, event: CloudEvent) -> None:
        """Raise ParkedError for an event that may build on one that was lost; a replay brings the lost one itself."""
        if _says_everything(event) or event.type in URGENT_TYPES:
            return
        if self._policy.after_dead_letter == "continue":
            return
        if is_replay(record) or not self._lost.knows(record.topic_partition, self.lane(record)):
            return
        if self._policy.after_dead_letter == "stop":
            self._stop_at(record)
            return
        raise ParkedError(
            "an earlier event of this user became a dead letter, and this one may build on it",
            remedy="replay the user's earlier dead letter and this one; they keep their order",
        )

    def _stop_at(self, record: Record) -> None:
        """Engage the brake; the second time the event may go on, since somebody has looked and released it."""
        place = (record.topic_partition, record.offset)
        if place in self._stopped_at:
            return
        self._stopped_at.add(place)
        self._outlets.brake.engage(
            "an event follows one of the same user that became a dead letter"
        )
        raise HoldError("an earlier event of this user was lost", wait_s=0.1, code="brake")

    def _tombstone(self, record: Record, error: TombstoneError, since_s: float) -> Handled:
        if self._policy.tombstones != "ignore":
            return self._reject(record, error, Result(Outcome.REJECTED), "decode", since_s)
        result = Result(Outcome.SKIPPED, reason="tombstone", user_id=_text_key(record))
        return Handled((self._outlets.tell(record, result, since_s),))

    def _reject(
        self, record: Record, error: BridgeError, known: Result, step: str, since_s: float
    ) -> Handled:
        if known.event_id is None:
            event_id, event_type, subject = peek(record, self._rules)
            known = Result(
                Outcome.REJECTED, event_id=event_id, event_type=event_type, user_id=subject
            )
        acknowledgements = self._outlets.dead_letter(
            record, error, step=step, result=rejected(known, error), since_s=since_s
        )
        if record.key or known.user_id:  # else nobody knows whose event it was
            self._lost.note(record.topic_partition, self.lane(record))
        answered = isinstance(error, KeycloakError) and error.status is not None
        return Handled(acknowledgements, Proof.KEYCLOAK if answered else Proof.NONE)


def _without_mail(desired: DesiredUser | OutOfScope, record: Record) -> DesiredUser | OutOfScope:
    """Leave out the invitation where whoever replayed the record asked for that."""
    if isinstance(desired, DesiredUser) and wants_no_invite(record):
        return replace(desired, invitation=None)
    return desired


def _says_everything(event: CloudEvent) -> bool:
    """Say whether the event depends on none before it; no schema has seen its data yet."""
    data = event.data if isinstance(event.data, dict) else {}
    complete_update = event.type == USER_UPDATED and data.get("complete") is True
    return event.type in COMPLETE_TYPES or complete_update


def _known_from(event: CloudEvent) -> Result:
    return Result(Outcome.REJECTED, event_id=event.id, event_type=event.type, user_id=event.subject)


def _text_key(record: Record) -> str | None:
    return record.key.decode("utf-8", errors="replace") if record.key else None
