"""Everything that turns bytes into a desired user, built from settings; no network."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from keycloak_bridge.app.mapping_files import load_mappings
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import CloudEvent, Record, UserEvent
from keycloak_bridge.domain.users import DesiredUser, InvitationTerms, OutOfScope
from keycloak_bridge.events.decode import EnvelopeRules, decode, envelope_rules
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.provisioning.executor import Trace, ignore
from keycloak_bridge.settings import Settings
from keycloak_bridge.validation.catalog import SchemaCatalog

_ENVELOPE_ATTRIBUTES = ("id", "type", "subject", "time", "dataschema", "source", "data")


@dataclass(frozen=True, slots=True)
class Reading:
    """A valid event, and what the mapping makes of it."""

    event: UserEvent
    desired: DesiredUser | OutOfScope


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event whose type is in `events.ignore_types`; no schema has seen its data."""

    event: CloudEvent
    reason: ClassVar[str] = "its type is in events.ignore_types"


@dataclass(frozen=True)
class Interpretation:
    """Schemas, envelope rules and mapping of one set of settings, each read when first asked for."""

    settings: Settings

    @cached_property
    def catalog(self) -> SchemaCatalog:
        """The schemas; raises ConfigError."""
        return load_schemas(self.settings.schemas.folders)

    @cached_property
    def rules(self) -> EnvelopeRules:
        """Where an event's attributes are; raises ConfigError."""
        events, envelope = self.settings.events, self.settings.envelope
        return envelope_rules(
            max_bytes=events.max_bytes,
            max_depth=events.max_depth,
            match_key=events.match_key,
            expressions={name: getattr(envelope, name) for name in _ENVELOPE_ATTRIBUTES},
            types=envelope.types,
        )

    @cached_property
    def mapping(self) -> Mappings:
        """The mapping of every type of event, checked against the schemas; raises ConfigError."""
        return load_mappings(self.settings, self.catalog, invitation_terms(self.settings))

    def check(self) -> None:
        """Read and check everything now; raises ConfigError."""
        _ = self.catalog, self.rules, self.mapping

    def read(self, record: Record, trace: Trace = ignore) -> Reading | Ignored:
        """Return the event in `record` and what the mapping makes of it; raises EventError."""
        return self.interpret(decode(record, self.rules), trace)

    def interpret(self, cloud_event: CloudEvent, trace: Trace = ignore) -> Reading | Ignored:
        """Return what schema and mapping make of a decoded event; raises EventError."""
        trace("decoded", f"{cloud_event.type} {cloud_event.id}")
        if cloud_event.type in self.settings.events.ignore_types:
            return Ignored(cloud_event)
        event = self.catalog.validate(cloud_event)
        trace("validated", event.schema_id)
        desired = self.mapping.apply(event)
        targets = "" if isinstance(desired, OutOfScope) else ", ".join(desired.representation)
        trace("mapped", targets or desired)
        return Reading(event, desired)


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
