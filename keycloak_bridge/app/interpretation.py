"""What turns bytes into a desired user, as the settings say: schemas, envelope rules, and mappings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from keycloak_bridge.app.connections import schema_registry
from keycloak_bridge.app.mapping_files import DEFAULT_ORIGIN, load_mappings
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import ConfigError, UnknownSchemaError
from keycloak_bridge.domain.events import USER_EVENTS, Record
from keycloak_bridge.domain.ports import Trace, no_trace
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.arrival import ArrivalRule
from keycloak_bridge.events.cloudevents import SizeLimits
from keycloak_bridge.events.custom_envelope import ATTRIBUTES, compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.pipeline.interpret import Interpreter, Prepared, Skipped
from keycloak_bridge.registry.client import ConfluentRegistry
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.catalog import SchemaCatalog

_MOST_NOTES = 20
_ON_NOTES = "correct the schema, or leave it; `keycloak-bridge schemas check` lists all such notes"


@dataclass(frozen=True)
class Interpretation:
    """What the settings say about reading events, each part loaded when first asked for.

    Nothing here asks the network, but for the schema that a record names in a registry.
    """

    settings: Settings

    @cached_property
    def catalog(self) -> SchemaCatalog:
        """The schemas; raises ConfigError."""
        schemas = self.settings.schemas
        return load_schemas(schemas.folders, unknown_formats=schemas.unknown_formats)

    @cached_property
    def rules(self) -> EnvelopeRules:
        """Where an event's attributes are; raises ConfigError."""
        events, envelope = self.settings.events, self.settings.envelope
        return EnvelopeRules(
            limits=SizeLimits(events.max_bytes, events.max_depth),
            match_key=events.match_key,
            nulls_absent=events.nulls == "absent",
            # first, since it says what is wrong with envelope.subject
            custom=compile_envelope({name: getattr(envelope, name) for name in ATTRIBUTES}),
            types=envelope.types,
            keys=compile_keys(envelope.key, envelope.subject),
            keys_name_users=envelope.key is not None or events.tombstones == "delete",
        )

    @cached_property
    def mapping(self) -> Mappings:
        """The mapping of every type of event, checked against the schemas; raises ConfigError."""
        loaded = load_mappings(self.settings, self.catalog, invitation_terms(self.settings))
        before_s = self.settings.invite.remind_before
        terms = [one.invitation for one in loaded.all if one.invitation is not None]
        if before_s is not None and any(one.lifespan_s <= before_s for one in terms):
            raise ConfigError(
                "an invitation does not live longer than invite.remind_before, so its first link would never be valid",
                remedy="set invite.remind_before to less than every lifespan: that of [invite] in the settings and in each mapping",
            )
        return loaded

    def type_of_data(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """Return the type that the producer calls `name` and its newest schema, for data without an event around it.

        Raises ConfigError, whose words are those for `--type`.
        """
        event_type = self.rules.types.get(name, name)
        try:
            return event_type, self.catalog.document(self.catalog.schema_id(event_type))
        except UnknownSchemaError as error:
            raise ConfigError(
                f"--type: {name} has no schema",
                remedy="`keycloak-bridge schemas list` shows the types",
            ) from error

    @property
    def warnings(self) -> tuple[ConfigError, ...]:
        """What will not work, though everything else does; raises ConfigError."""
        return (*self._schema_warnings(), *self._mapping_warnings())

    def _schema_warnings(self) -> Iterator[ConfigError]:
        notes = [str(note) for note in self.catalog.notes]
        if len(notes) > _MOST_NOTES:
            notes[_MOST_NOTES:] = [f"{len(notes) - _MOST_NOTES} more"]
        if notes:
            yield ConfigError("\n".join(notes), code="schema", remedy=_ON_NOTES)

    def _mapping_warnings(self) -> Iterator[ConfigError]:
        default, unmapped = self.mapping.default, self.mapping.unmapped
        if not unmapped:
            return
        listed = " or ".join(
            "data." + ".".join(path) for path in sorted(default.identifying_properties())
        )
        kinds = ", ".join(kind for kind in USER_EVENTS if kind in unmapped)
        key = f"{self.settings.mapping.file or DEFAULT_ORIGIN}: {default.rules.identity_key}"
        yield ConfigError(
            f"{key}: nothing says whose user it is: no {listed} in {kinds}; such events become dead letters",
            code="unmapped-type",
            remedy="name mappings for these types in [mapping.files], or the types in events.ignore_types",
        )

    @cached_property
    def registry(self) -> ConfluentRegistry | None:
        """The schema registry, where the settings name one; raises ConfigError."""
        return schema_registry(self.settings)

    @cached_property
    def interpreter(self) -> Interpreter:
        """What turns a record into a desired user; raises ConfigError."""
        events = self.settings.events
        return Interpreter(
            self.rules,
            self.catalog,
            self.mapping,
            frozenset(events.ignore_types),
            events.tombstones,
            ArrivalRule(events.max_ahead, events.ahead == "clamp", partial(datetime.now, UTC)),
            self.registry,
        )

    def check(self) -> None:
        """Load and check everything now; raises ConfigError."""
        _ = self.interpreter

    def close(self) -> None:
        """Close the connections to the registry."""
        if self.registry is not None:
            self.registry.close()

    def read(self, record: Record, trace: Trace = no_trace) -> Prepared | Skipped:
        """Return what becomes of `record`, as `run` does; raises EventError."""
        return self.interpreter.interpret(record, trace)


def invitation_terms(settings: Settings) -> InvitationTerms | None:
    """Return the terms of invitations, None where the bridge does not invite."""
    invite = settings.invite
    if invite.mode == "none":
        return None
    return InvitationTerms(
        actions=tuple(invite.actions),
        lifespan_s=int(invite.lifespan),
        client_id=invite.client_id,
        redirect_uri=invite.redirect_uri,
    )
