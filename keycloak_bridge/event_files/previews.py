"""What would become of an event that is in a file, and how to say so."""

from functools import partial
from typing import Any

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import CloudEvent
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.domain.users import (
    DesiredUser,
    Intent,
    InvitationTerms,
    UnknownUser,
    client_of,
)
from keycloak_bridge.event_files.json_events import EventText
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.pipeline.preview import Preview, preview
from keycloak_bridge.planning.mail_due import can_be_invited


def preview_text(
    interpretation: Interpretation, text: EventText, bare_type: str | None = None
) -> Preview:
    """Return what would become of one event; with `bare_type` its text is data of that type, without envelope."""

    def interpret_data() -> Prepared | Skipped:
        limits = interpretation.rules.limits
        data = parse_json(text.body, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
        event = CloudEvent(text.place, text.name, str(bare_type), None, None, None, data)
        return interpretation.interpreter.prepare(event)

    is_record = bare_type is None or text.unreadable is not None
    return preview(partial(interpretation.read, text.record()) if is_record else interpret_data)


def beside_representation(desired: DesiredUser) -> dict[str, Any]:
    """Return what the event wants besides fields and attributes, each only where there is any.

    A membership with an empty list takes away all that the mapping owns of it; an identity that is null is unlinked.
    """
    found: dict[str, Any] = {}
    for one in desired.memberships:
        client = client_of(one.kind)
        if client is None:
            found[one.kind] = list(one.names)
        else:
            found.setdefault("clientRoles", {})[client] = list(one.names)
    identities = {
        one.alias: None
        if one.user_id is None
        else {"userId": one.user_id, **({"userName": one.user_name} if one.user_name else {})}
        for one in desired.identities
    }
    others = {
        "federatedIdentities": identities,
        "cleared": sorted(desired.cleared),
        "intent": "" if desired.intent is Intent.PROVISION else desired.intent.value,
    }
    return {**found, **{name: value for name, value in others.items() if value}}


def invitation_of(desired: DesiredUser) -> InvitationTerms | None:
    """Return what the mail would ask of a new user, or of one that is invited again; None without a mail."""
    is_new = desired.unknown is UnknownUser.CREATE and can_be_invited(desired.representation)
    return desired.invitation if is_new or desired.intent is Intent.INVITE else None
