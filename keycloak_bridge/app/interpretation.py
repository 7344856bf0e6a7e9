"""Schemas, envelope rules and mapping of one set of settings: everything that turns bytes into a desired user."""

from dataclasses import dataclass
from functools import cached_property

from keycloak_bridge.app.mapping_files import load_mappings
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.ports import Trace, no_trace
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.cloudevents import Limits
from keycloak_bridge.events.custom_envelope import ATTRIBUTES, compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.pipeline.interpret import Interpreter, Prepared, Skipped
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.catalog import SchemaCatalog


@dataclass(frozen=True)
class Interpretation:
    """What the settings say about reading events, each part loaded when first asked for; no network."""

    settings: Settings

    @cached_property
    def catalog(self) -> SchemaCatalog:
        """The schemas; raises ConfigError."""
        return load_schemas(self.settings.schemas.folders)

    @cached_property
    def rules(self) -> EnvelopeRules:
        """Where an event's attributes are; raises ConfigError."""
        events, envelope = self.settings.events, self.settings.envelope
        return EnvelopeRules(
            limits=Limits(events.max_bytes, events.max_depth),
            match_key=events.match_key,
            custom=compile_envelope({name: getattr(envelope, name) for name in ATTRIBUTES}),
            types=envelope.types,
        )

    @cached_property
    def mapping(self) -> Mappings:
        """The mapping of every type of event, checked against the schemas; raises ConfigError."""
        return load_mappings(self.settings, self.catalog, invitation_terms(self.settings))

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
        )

    def check(self) -> None:
        """Load and check everything now; raises ConfigError."""
        _ = self.interpreter

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
