"""What the bridge would make of one event in a file, without any network."""

from dataclasses import dataclass
from typing import Any

from keycloak_bridge.cli.event_files import EventText
from keycloak_bridge.core.errors import EventError
from keycloak_bridge.core.events import decode
from keycloak_bridge.core.json_text import parse_json
from keycloak_bridge.core.model import CloudEvent, DesiredUser, InvitationTerms, OutOfScope
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
    def memberships(self) -> dict[str, list[str]]:
        """The groups and realm roles that the user would get; neither where there is none."""
        if self.mapped is None:
            return {}
        named = {"groups": self.mapped.groups, "realmRoles": self.mapped.realm_roles}
        return {key: list(names) for key, names in named.items() if names}

    @property
    def user(self) -> dict[str, Any] | None:
        """The user that Keycloak would get, groups and realm roles among the fields."""
        if self.mapped is None:
            return None
        return {**self.mapped.representation, **self.memberships}

    @property
    def invitation(self) -> InvitationTerms | None:
        """What the mail would ask of a user that is new; None where none would go out."""
        if self.mapped is None or not can_be_invited(self.mapped.representation):
            return None
        return self.mapped.invitation


def judge(interpretation: Interpretation, text: EventText, bare_type: str | None = None) -> Verdict:
    """Return what the bridge would make of one event; with `bare_type` its text is data of that type, without envelope."""
    event: CloudEvent | None = None
    try:
        event = _event_in(interpretation, text, bare_type)
        return Verdict(text, event.type, interpretation.interpret(event))
    except EventError as error:
        return Verdict(text, event.type if event else None, error=error)


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
