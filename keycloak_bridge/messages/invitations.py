"""Invitations: how the provision stage asks the invite stage for a mail, and how the invite stage reads it."""

from dataclasses import replace
from typing import Any

from keycloak_bridge.domain.errors import EventDecodeError, EventValidationError
from keycloak_bridge.domain.events import INVITATION_DUE, Invitation, Message, Purpose, Record
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.cloudevents import cloud_event_message
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.validation.catalog import SchemaCatalog

_CONFIRM_ONLY = ("kb-confirm-only", b"true")


def invitation_message(invitation: Invitation, *, topic: str) -> Message:
    """Return the record with which the provision stage asks the invite stage for a mail.

    A first invitation uses the oldest version of its schema, so that invite stages of the previous release, which run
    during an upgrade, can read it.
    """
    terms = invitation.terms
    data: dict[str, Any] = {
        "eventId": invitation.event_id,
        "userId": invitation.user_id,
        "keycloakId": invitation.keycloak_id,
        "actions": list(terms.actions),
        "lifespan": terms.lifespan_s,
        "clientId": terms.client_id,
        "redirectUri": terms.redirect_uri,
    }
    version = "1.0"
    if invitation.purpose is not Purpose.INVITE:
        version = "1.1"
        data["purpose"] = invitation.purpose.value
    message = cloud_event_message(
        INVITATION_DUE,
        invitation.id,
        invitation.user_id,
        {name: value for name, value in data.items() if value is not None},
        topic=topic,
        time=invitation.time,
        version=version,
    )
    if not invitation.confirm_only:
        return message
    return replace(message, headers=(*message.headers, _CONFIRM_ONLY))


def read_invitation(record: Record, catalog: SchemaCatalog) -> Invitation:
    """Return the invitation that `invitation_message` wrote; raises EventError for anything else."""
    cloud_event = decode(record, EnvelopeRules())
    if cloud_event.type != INVITATION_DUE or cloud_event.time is None:
        raise EventDecodeError(
            f"the record is no {INVITATION_DUE} event",
            code="not-an-invitation",
            remedy="only the bridge may write to the invitations topic",
        )
    data = cloud_event.data
    violations = catalog.violations(INVITATION_DUE, data, cloud_event.dataschema)
    if violations:
        raise EventValidationError(
            f"the record breaks the schema of {INVITATION_DUE}", violations=violations
        )
    purpose = data.get("purpose")  # version 1.0 of the schema does not define it
    return Invitation(
        id=cloud_event.id,
        event_id=data["eventId"],
        user_id=data["userId"],
        keycloak_id=data["keycloakId"],
        terms=InvitationTerms(
            actions=tuple(data["actions"]),
            lifespan_s=data["lifespan"],
            client_id=data.get("clientId"),
            redirect_uri=data.get("redirectUri"),
        ),
        time=cloud_event.time,
        confirm_only=_CONFIRM_ONLY in record.headers,
        purpose=Purpose(purpose) if purpose in list(Purpose) else Purpose.INVITE,
    )
