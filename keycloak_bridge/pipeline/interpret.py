"""Turn one record into a desired user: decode, validate, map.

`run` and every preview (`validate`, `plan`, `apply`, `test-mapping`, `backfill`, `dead-letters replay --dry-run`) call
`Interpreter.interpret`, so a preview and `run` cannot disagree about a record. Nothing here reads a file; the clock is only asked
whether an event's time lies in the future, and a schema registry, where there is one, for the schemas that records name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from keycloak_bridge.domain.errors import (
    Dependency,
    EventContext,
    EventError,
    TombstoneError,
)
from keycloak_bridge.domain.events import (
    CloudEvent,
    Record,
    SchemaReference,
    UserEvent,
    event_identity,
)
from keycloak_bridge.domain.ports import SchemaRegistry, Trace, no_trace
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.events.arrival import ArrivalRule, record_time
from keycloak_bridge.events.cloudevents import parse_value
from keycloak_bridge.events.decode import (
    EnvelopeRules,
    EventHead,
    decode,
    deletion_of,
    peek,
    refuse_key_of_another,
    refused_type,
)
from keycloak_bridge.events.frames import schema_reference
from keycloak_bridge.events.nulls import without_nulls
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.messages.dead_letters import wants_no_invite
from keycloak_bridge.validation.catalog import SchemaCatalog, accepted


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid event and its desired user; `mapping` is the fingerprint of the mapping that was used."""

    event: UserEvent
    desired: DesiredUser | OutOfScope
    mapping: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is not for Keycloak: an ignored type (with what is known of its event), or an ignored tombstone."""

    reason: str
    event: EventHead | None = None

    @property
    def sentence(self) -> str:
        """The reason as a sentence."""
        return "its type is in events.ignore_types" if self.event is not None else self.reason


IGNORED = "events.ignore_types"
TOMBSTONE = "tombstone"


def _accept(_: CloudEvent) -> None:
    """Let every event pass."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Everything that decides about a record before Keycloak is asked.

    `tombstones` says what a record without a value means: nothing (`ignore`), the deletion of the user named by its key
    (`delete`), or an error (`dead-letter`). With a `registry`, the whole value of a record that names a schema of it is checked
    against that schema, as its producer's serializer does, and not against one of the catalog.
    """

    rules: EnvelopeRules
    catalog: SchemaCatalog
    mapping: Mappings
    ignored_types: frozenset[str] = frozenset()
    tombstones: str = "ignore"
    arrival: ArrivalRule | None = None
    registry: SchemaRegistry | None = None

    @property
    def known_to_work(self) -> Dependency:
        """What is known to work besides Keycloak and Kafka."""
        works = self.registry is not None and self.registry.works
        return Dependency.REGISTRY if works else Dependency.NONE

    def interpret(
        self,
        record: Record,
        trace: Trace = no_trace,
        accept: Callable[[CloudEvent], None] = _accept,
    ) -> Prepared | Skipped:
        """Return the desired user of `record`, or why it is skipped.

        A type that is ignored is so before anything else of the record is judged. `accept` may refuse a decoded event, by
        raising, before it is validated. Raises EventError, whose `context` says which step failed and what is known of the
        event, and RegistryUnavailableError.
        """
        if (ignored := self.ignores(record)) is not None:
            return ignored
        try:
            event = decode(record, self.rules)
        except TombstoneError:
            if self.tombstones == "ignore":
                return Skipped(TOMBSTONE)
            if self.tombstones != "delete":
                raise
            deletion = deletion_of(record, self.rules)
            return self._prepare(deletion, self._naming, trace, accept, record)
        prepared = self._prepare(event, self._validated, trace, accept, record)
        if isinstance(prepared, Prepared) and wants_no_invite(record):
            desired = prepared.desired
            if isinstance(desired, DesiredUser):
                return replace(prepared, desired=replace(desired, invitation=None))
        return prepared

    def ignores(self, record: Record) -> Skipped | None:
        """Say whether the type of the event in `record` is ignored; whatever else is in it does not count."""
        if not self.ignored_types:
            return None
        head = peek(record, self.rules)
        if head.type is None:
            head = head._replace(type=refused_type(record, self.rules))
        return Skipped(IGNORED, head) if head.type in self.ignored_types else None

    def prepare(
        self,
        event: CloudEvent,
        trace: Trace = no_trace,
        accept: Callable[[CloudEvent], None] = _accept,
    ) -> Prepared | Skipped:
        """Do the same for an event that is no record, such as a row of a table."""
        return self._prepare(event, self._validated, trace, accept, None)

    def _prepare(
        self,
        event: CloudEvent,
        validate: Callable[[CloudEvent], UserEvent],
        trace: Trace,
        accept: Callable[[CloudEvent], None],
        record: Record | None,
    ) -> Prepared | Skipped:
        """Validate and map a decoded event; `validate` takes one whose record names no schema of the registry."""
        step, schema_id, fingerprint = "decode", None, None
        try:
            trace("decoded", f"{event.type} {event.id}")
            if event.type in self.ignored_types:
                return Skipped(IGNORED, EventHead(event.id, event.type, event.subject))
            accept(event)
            time = event.time
            if self.arrival is not None:
                recorded_ms = None if record is None else record.timestamp_ms
                time = self.arrival.time_of(time, recorded_ms)

            step = "schema"
            if (
                (registry := self.registry) is not None
                and record is not None
                and (named := schema_reference(record, registry.frame_ids)) is not None
            ):
                schema_id = named.name
                user_event = self._validated_by(registry, named, event, record)
            else:
                schema_id = self.catalog.schema_id(event.type, event.dataschema)
                user_event = validate(event)
            trace("validated", user_event.schema_id)

            step = "map"
            fingerprint = self.mapping.serving(user_event).fingerprint
            desired = self.mapping.apply(user_event)
            if record is not None and event.subject is None and isinstance(desired, DesiredUser):
                refuse_key_of_another(record, desired.external_id.value, self.rules)
        except EventError as error:
            error.context = _context_of(event, step, schema_id, fingerprint)
            raise
        # the mapping has seen what the producer wrote
        user_event = self._completed(user_event, desired, time, record)
        targets = "" if isinstance(desired, OutOfScope) else ", ".join(desired.representation)
        trace("mapped", targets or desired)
        return Prepared(user_event, desired, fingerprint)

    def _completed(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        time: datetime | None,
        record: Record | None,
    ) -> UserEvent:
        """Return the event as it is applied: with its user's id, the time that counts, and when it was recorded."""
        known: dict[str, Any] = {}
        if isinstance(desired, DesiredUser):
            known["user_id"] = desired.external_id.value
        if time != event.time:
            clamped = self.arrival is not None and self.arrival.has_clamped(event.time, time)
            known |= {"time": time, "stated_time": event.time, "clamped": clamped}
        if record is not None:
            known["recorded"] = record_time(record.timestamp_ms)
        return replace(event, **known)

    def _validated_by(
        self, registry: SchemaRegistry, named: SchemaReference, event: CloudEvent, record: Record
    ) -> UserEvent:
        self.catalog.schema_id(event.type)  # of an unknown type nothing can be made
        schema = registry.schema(named)
        value = parse_value(record, self.rules.limits)
        if self.rules.nulls_absent:
            value = without_nulls(value)
        violations = schema.violations(value, "")
        if violations and value == event.data:
            violations = schema.violations(value, "/data")
        schema_id = schema.id if self.catalog.knows(event.type, schema.id) else named.name
        return accepted(event, schema_id, violations, name=str(named))

    def _validated(self, event: CloudEvent) -> UserEvent:
        self.mapping.refuse_unmapped(
            event.type, self.catalog.schema_id(event.type, event.dataschema)
        )
        return self.catalog.validate(event)

    def _naming(self, deletion: CloudEvent) -> UserEvent:
        """Return the event of a tombstone: it has no data to check, and gets what the mapping reads of the user's id."""
        event = UserEvent(
            id=deletion.id,
            source=deletion.source,
            type=deletion.type,
            subject=deletion.subject,
            time=deletion.time,
            schema_id=self.catalog.schema_id(deletion.type),
            data={},
        )
        return replace(event, data=self.mapping.serving(event).data_naming(deletion.subject or ""))


def _context_of(
    event: CloudEvent, step: str, schema_id: str | None, mapping: str | None
) -> EventContext:
    """Return what is known of an event that `step` refuses."""
    subject = event.subject
    identity = event_identity(event.id, event.source, event.type, subject) if subject else None
    return EventContext(step, event.id, event.type, subject, schema_id, mapping, identity)
