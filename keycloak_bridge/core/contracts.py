"""The records that the bridge publishes: results, invitations and dead letters, and how they are read back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from keycloak_bridge.core.advice import recommended_action
from keycloak_bridge.core.desired import InvitationTerms
from keycloak_bridge.core.errors import (
    BridgeError,
    EventDecodeError,
    EventValidationError,
    GivenUpError,
    KeycloakError,
)
from keycloak_bridge.core.events import EnvelopeRules, decode
from keycloak_bridge.core.model import (
    INVITATION_DUE,
    RESULT,
    Invitation,
    Message,
    Purpose,
    Record,
    Result,
)
from keycloak_bridge.core.timestamps import format_time
from keycloak_bridge.core.validation import SchemaCatalog

SOURCE = "/keycloak-bridge"
DEAD_LETTER_PREFIX = "kb-dlq-"
_CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
_CONFIRM_ONLY = ("kb-confirm-only", b"true")
_SCHEMA_ID = "urn:keycloak-bridge:schema:{}:{}"
_VERSIONS = {RESULT: "1.1"}
_OLDEST_VERSION = "1.0"
_PURPOSE_VERSION = "1.1"
_MAX_ERRORS_BYTES = 4096
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LONGEST_COUNT = 10  # digits; anybody can write a header


def result_message(
    result: Result,
    *,
    topic: str,
    time: datetime,
    position: str = "unreadable",
    origin: Record | None = None,
) -> Message:
    """Return the news of one record, with its place when `origin` is that record.

    Its id is the same for the same event and outcome, so that consumers can tell a repetition; the place, else
    `position`, such as `user-events/3/42`, stands in for the id of an event that could not be read.
    """
    source = None
    if origin is not None:
        source = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        position = f"{origin.topic}/{origin.partition}/{origin.offset}"
    data = {
        "outcome": result.outcome.value,
        "action": result.action,
        "reason": result.reason,
        "message": result.message,
        "eventId": result.event_id,
        "eventType": result.event_type,
        "userId": result.user_id,
        "keycloakId": result.keycloak_id,
        "schemaId": result.schema_id,
        "violations": [asdict(one) for one in result.violations],
        "changed": list(result.changed),
        "mapping": result.mapping,
        "source": source,
    }
    told = {name: value for name, value in data.items() if value is not None and value != []}
    identity = f"{result.event_id or position}/{result.outcome.value}"
    return cloud_event_message(RESULT, identity, result.user_id, told, topic=topic, time=time)


def invitation_message(invitation: Invitation, *, topic: str) -> Message:
    """Return the record with which the provision stage asks the invite stage for a mail.

    A first invitation keeps to the oldest version of its schema, so that invite stages of the previous release, which
    run beside this one during an upgrade, can read it.
    """
    terms = invitation.terms
    data = {
        "eventId": invitation.event_id,
        "userId": invitation.user_id,
        "keycloakId": invitation.keycloak_id,
        "actions": list(terms.actions),
        "lifespan": terms.lifespan_s,
        "clientId": terms.client_id,
        "redirectUri": terms.redirect_uri,
    }
    told = {name: value for name, value in data.items() if value is not None}
    version = _OLDEST_VERSION
    if invitation.purpose is not Purpose.INVITE:
        version = _PURPOSE_VERSION
        told["purpose"] = invitation.purpose.value
    message = cloud_event_message(
        INVITATION_DUE,
        invitation.id,
        invitation.user_id,
        told,
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
        purpose=_purpose(data),
    )


def dead_letter_message(
    record: Record,
    error: BridgeError,
    *,
    topic: str,
    stage: str,
    group: str,
    schema_id: str | None,
    event_id: str | None,
    time: datetime,
    bridge_version: str,
) -> Message:
    """Return the untouched record with headers that say where it came from and why it was given up.

    Headers of an earlier life as a dead letter are replaced, and its attempts counted on.
    """
    status = error.status if isinstance(error, KeycloakError | GivenUpError) else None
    reason = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp_ms),
        "group": group,
        "stage": stage,
        "code": error.code,
        "message": error.message,
        "errors": _errors(error),
        "action": error.remedy or recommended_action(error.code),
        "http-status": None if status is None else str(status),
        "schema-id": schema_id,
        "event-id": event_id,
        "attempts": str(_attempts_before(record) + 1),
        "bridge-version": bridge_version,
        "time": format_time(time),
    }
    headers = (
        *(one for one in record.headers if not one[0].startswith(DEAD_LETTER_PREFIX)),
        *((DEAD_LETTER_PREFIX + k, v.encode()) for k, v in reason.items() if v is not None),
    )
    return Message(topic, record.key, record.value, headers)


def dead_letter_headers(record: Record) -> Mapping[str, str]:
    """Return the reason headers of a dead letter as text, in the shape of the schema `dead-letter`."""
    return {
        name: (value or b"").decode("utf-8", errors="replace")
        for name, value in record.headers
        if name.startswith(DEAD_LETTER_PREFIX)
    }


def cloud_event_message(
    kind: str,
    identity: str,
    subject: str | None,
    data: Mapping[str, Any],
    *,
    topic: str,
    time: datetime,
    version: str | None = None,
) -> Message:
    """Return a structured CloudEvent from the bridge, keyed by its subject.

    `kind` names type and schema; the schema's version is the one that is written today where none is given.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": identity,
        "source": SOURCE,
        "type": kind,
    }
    if subject is not None:
        event["subject"] = subject
    event["time"] = format_time(time)
    event["datacontenttype"] = "application/json"
    event["dataschema"] = _SCHEMA_ID.format(kind, version or _VERSIONS.get(kind, _OLDEST_VERSION))
    event["data"] = data
    value = _compact(event).encode()
    return Message(topic, subject.encode() if subject else None, value, (_CONTENT_TYPE,))


def _purpose(data: Mapping[str, Any]) -> Purpose:
    """Return what the mail is for; version 1.0 of the schema says nothing of it and allows anything by that name."""
    try:
        return Purpose(data.get("purpose", Purpose.INVITE))
    except ValueError:
        return Purpose.INVITE


def _errors(error: BridgeError) -> str | None:
    """Return as many violations as fit into the header."""
    told: list[dict[str, str]] = []
    for violation in error.violations:
        longer = [*told, asdict(violation)]
        if len(json.dumps(longer, ensure_ascii=False).encode()) > _MAX_ERRORS_BYTES:
            break
        told = longer
    return json.dumps(told, ensure_ascii=False) if told else None


def _attempts_before(record: Record) -> int:
    text = dead_letter_headers(record).get(f"{DEAD_LETTER_PREFIX}attempts", "")
    is_count = text.isascii() and text.isdecimal() and len(text) < _LONGEST_COUNT
    return int(text) if is_count else 0


__all__ = [
    "DEAD_LETTER_PREFIX",
    "cloud_event_message",
    "dead_letter_headers",
    "dead_letter_message",
    "invitation_message",
    "read_invitation",
    "result_message",
]
