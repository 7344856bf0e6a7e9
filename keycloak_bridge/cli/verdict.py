"""What the bridge would make of one event in a file, without any network."""

from dataclasses import dataclass
from typing import Any

from keycloak_bridge.cli.event_files import EventText
from keycloak_bridge.core.desired import (
    DesiredUser,
    Intent,
    InvitationTerms,
    OutOfScope,
    UnknownUser,
    client_of,
)
from keycloak_bridge.core.errors import EventError
from keycloak_bridge.core.events import decode
from keycloak_bridge.core.json_text import parse_json
from keycloak_bridge.core.model import CloudEvent
from keycloak_bridge.core.plan import can_be_invited
from keycloak_bridge.interpretation import Ignored, Interpretation, Reading


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event: a reading, or the error for which it would be refused."""

    text: EventText
    type: str | None = None
    reading: Reading | Ignored | None = None
    error: EventError | None = None

    @property
    def valid(self) -> bool:
        """Whether the event would get through."""
        return self.error is None

    @property
    def schema(self) -> str | None:
        """The schema that the event was checked against and kept."""
        return self.reading.event.schema_id if isinstance(self.reading, Reading) else None

    @property
    def skipped(self) -> str | None:
        """Why a valid event is not for Keycloak."""
        if isinstance(self.reading, Ignored):
            return self.reading.reason
        if self.reading is not None and isinstance(self.reading.desired, OutOfScope):
            return "the mapping's `when` says no"
        return None

    @property
    def mapped(self) -> DesiredUser | None:
        """What the mapping makes of an event that is for Keycloak."""
        if isinstance(self.reading, Reading) and isinstance(self.reading.desired, DesiredUser):
            return self.reading.desired
        return None

    @property
    def beside_fields(self) -> dict[str, Any]:
        """What the event wants besides fields and attributes; nothing that there is none of."""
        if self.mapped is None:
            return {}
        intent = None if self.mapped.intent is Intent.PROVISION else self.mapped.intent.value
        others = {
            "federatedIdentities": _identities(self.mapped),
            "cleared": sorted(self.mapped.cleared),
            "intent": intent,
        }
        named = {key: value for key, value in others.items() if value}
        return {**_memberships(self.mapped), **named}

    @property
    def user(self) -> dict[str, Any] | None:
        """The user that Keycloak would get, groups and roles among the fields."""
        if self.mapped is None:
            return None
        return {**self.mapped.representation, **self.beside_fields}

    @property
    def invitation(self) -> InvitationTerms | None:
        """What the mail would ask of a user that is new, or is invited again; None where none would go out."""
        if self.mapped is None:
            return None
        creates = self.mapped.unknown is UnknownUser.CREATE
        if creates and can_be_invited(self.mapped.representation):
            return self.mapped.invitation
        return self.mapped.invitation if self.mapped.intent is Intent.INVITE else None


def judge(interpretation: Interpretation, text: EventText, bare_type: str | None = None) -> Verdict:
    """Return what the bridge would make of one event; with `bare_type` its text is data of that type, without envelope."""
    event: CloudEvent | None = None
    try:
        event = _event_in(interpretation, text, bare_type)
        return Verdict(text, event.type, interpretation.interpret(event))
    except EventError as error:
        return Verdict(text, event.type if event else None, error=error)


def _memberships(desired: DesiredUser) -> dict[str, Any]:
    """Return the names by kind, those of client roles by client; an empty list where all that is owned is taken away."""
    found: dict[str, Any] = {}
    for one in desired.memberships:
        client = client_of(one.kind)
        if client is None:
            found[one.kind] = list(one.names)
        else:
            found.setdefault("clientRoles", {})[client] = list(one.names)
    return found


def _identities(desired: DesiredUser) -> dict[str, Any]:
    """Return the accounts by provider; None for one that is unlinked."""
    return {
        one.alias: None
        if one.user_id is None
        else {"userId": one.user_id, **({"userName": one.user_name} if one.user_name else {})}
        for one in desired.identities
    }


def _event_in(interpretation: Interpretation, text: EventText, bare_type: str | None) -> CloudEvent:
    if bare_type is None:
        return decode(text.record(), interpretation.rules)
    limits = interpretation.rules.limits
    data = parse_json(text.body, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
    return CloudEvent(
        id=text.place,
        source=text.name,
        type=bare_type,
        subject=None,
        time=None,
        dataschema=None,
        data=data,
    )
