"""Invitations: how the provision stage asks the invite stage for a mail, and how the invite stage reads it.

A record says whom to mail and why, and nothing else: nothing proves who wrote it. On which terms the mail goes out is
decided by the settings and the mapping of the invite stage, and whether it goes out by the mark on the user in Keycloak.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from keycloak_bridge.domain.errors import (
    EventDecodeError,
    EventValidationError,
    KeyMismatchError,
    Violation,
)
from keycloak_bridge.domain.events import (
    INVITATION_DUE,
    Invitation,
    Message,
    Purpose,
    Record,
    event_id_in,
)
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.events.cloudevents import cloud_event_message
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.validation.catalog import SchemaCatalog

_CONFIRM_ONLY = ("kb-confirm-only", b"true")
_WAITING_SINCE = "kb-waiting-since"
"""Header with the time since when somebody waits for the mail, where the event says that."""

_VERSION = "1.2"
_CAUSED_BY = "kb-event-id"
"""Header with the event's id where it is too long for the event's identity."""


def invitation_message(invitation: Invitation, *, topic: str) -> Message:
    """Return the record with which the provision stage asks the invite stage for a mail."""
    data: dict[str, Any] = {
        "eventId": invitation.event_id,
        "eventType": invitation.event_type,
        "eventSchema": invitation.schema_id,
        "eventTime": None if invitation.event_time is None else format_time(invitation.event_time),
        "userId": invitation.user_id,
        "keycloakId": invitation.keycloak_id,
        "purpose": invitation.purpose.value,
    }
    message = cloud_event_message(
        INVITATION_DUE,
        invitation.id,
        invitation.user_id,
        {name: value for name, value in data.items() if value is not None},
        topic=topic,
        time=invitation.time,
        version=_VERSION,
    )
    headers = message.headers
    if invitation.confirm_only:
        headers = (*headers, _CONFIRM_ONLY)
    if invitation.waiting_since is not None:
        headers = (*headers, (_WAITING_SINCE, format_time(invitation.waiting_since).encode()))
    if invitation.shown_event_id != event_id_in(invitation.event_id):
        headers = (*headers, (_CAUSED_BY, invitation.shown_event_id.encode(errors="replace")))
    return replace(message, headers=headers)


def read_invitation(record: Record, catalog: SchemaCatalog, mappings: Mappings) -> Invitation:
    """Return the invitation that `invitation_message` wrote, on the terms of `mappings`.

    The terms that records of schema 1.0 and 1.1 carry are ignored. Raises EventError for anything else.
    """
    # the key is the user's id as it is, also where that could be read as JSON
    cloud_event = decode(record, EnvelopeRules(match_key=False))
    subject = (cloud_event.subject or "").encode("utf-8", "surrogatepass")
    if record.key and record.key != subject:
        raise KeyMismatchError(
            "the record key is not the event's subject",
            remedy="only the bridge may write to the invitations topic",
            violations=(Violation("/subject", "key", "must be the record key"),),
        )
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
    given = data.get("purpose")  # version 1.0 of the schema does not define it
    purpose = Purpose(given) if given in list(Purpose) else Purpose.INVITE
    event_type, schema_id = _text(data.get("eventType")), _text(data.get("eventSchema"))
    return Invitation(
        id=cloud_event.id,
        event_id=data["eventId"],
        user_id=data["userId"],
        keycloak_id=data["keycloakId"],
        terms=mappings.invitation_terms(event_type, schema_id, purpose),
        time=cloud_event.time,
        confirm_only=_CONFIRM_ONLY in record.headers,
        purpose=purpose,
        caused_by=_caused_by(record),
        event_type=event_type,
        schema_id=schema_id,
        event_time=_time(data.get("eventTime")),
        waiting_since=_waiting_since(record),
    )


def _text(value: object) -> str | None:
    """Return `value` if it is a text: versions 1.0 and 1.1 of the schema do not define it."""
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    return parse_time(value) if isinstance(value, str) else None


def _waiting_since(record: Record) -> datetime | None:
    value = dict(record.headers).get(_WAITING_SINCE)
    return None if value is None else parse_time(value.decode(errors="replace"))


def _caused_by(record: Record) -> str | None:
    value = dict(record.headers).get(_CAUSED_BY)
    return None if value is None else value.decode(errors="replace")
