"""The records that the bridge publishes: results, invitations and dead letters, and how they are read back.

What became of an event, told without values.

What an operator should do about a dead letter, where the error itself does not say.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from keycloak_bridge.domain.errors import (
    BridgeError,
    EventDecodeError,
    EventValidationError,
    GivenUpError,
    KeycloakError,
)
from keycloak_bridge.domain.events import (
    INVITATION_DUE,
    RESULT,
    Invitation,
    Message,
    Outcome,
    Purpose,
    Record,
    Result,
    UserEvent,
)
from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    Plan,
    RequestInvitation,
    visible_changes,
)
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.validation.catalog import SchemaCatalog

_NOT_WRITTEN = ("sessions", "user", "actions")
"""Rows of a plan that name no field, attribute or membership of the user."""


def result_of(event: UserEvent, plan: Plan, keycloak_id: str | None) -> Result:
    """Return the news of an event whose plan was carried out on this user."""
    if plan.skipped:
        return skipped(event, plan.skipped, keycloak_id)
    return Result(
        Outcome.PROVISIONED,
        action=action_of(plan),
        event_id=event.id,
        event_type=event.type,
        user_id=event.subject,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
        changed=changed_by(plan),
    )


def skipped(event: UserEvent, reason: str, keycloak_id: str | None = None) -> Result:
    """Return the news of an event that had nothing to do, and why."""
    return Result(
        Outcome.SKIPPED,
        reason=reason,
        event_id=event.id,
        event_type=event.type,
        user_id=event.subject,
        keycloak_id=keycloak_id,
        schema_id=event.schema_id,
    )


def rejected(known: Result, error: BridgeError) -> Result:
    """Return the news of a record that became a dead letter with `error`, with all that was `known` of it."""
    return Result(
        Outcome.REJECTED,
        reason=error.code,
        message=error.message,
        event_id=known.event_id,
        event_type=known.event_type,
        user_id=known.user_id,
        keycloak_id=known.keycloak_id,
        schema_id=known.schema_id,
        violations=error.violations,
        mapping=known.mapping,
    )


def given_up(error: BridgeError) -> GivenUpError:
    """Return the reason of a dead letter for a record that kept failing with `error`."""
    return GivenUpError(
        f"it kept failing while others succeeded; at last: {error.message}",
        remedy=error.remedy,
        status=error.status if isinstance(error, KeycloakError) else None,
    )


def action_of(plan: Plan) -> str:
    """Return what `plan` does to the user in one word: created, updated, deleted or unchanged."""
    writes = [one for one in plan.operations if not isinstance(one, RequestInvitation)]
    if any(isinstance(one, DeleteUser) for one in writes):
        return "deleted"
    if not writes:
        return "unchanged"
    return "created" if isinstance(writes[0], CreateUser) else "updated"


def changed_by(plan: Plan) -> tuple[str, ...]:
    """Return the targets that `plan` writes, each once: `email`, `attributes.department`, `groups`, `identities.corp`.

    What the bridge remembers on the user for itself is left out.
    """
    targets = (row.target for row in visible_changes(plan))
    return tuple(dict.fromkeys(target for target in targets if target not in _NOT_WRITTEN))


_PRODUCER = "correct the producer; this record stays as it is"
_DATA = "correct the data in user management and publish the event again"
_REALM = "mend the realm or the mapping, then replay the dead letter"

RECOMMENDED_ACTIONS: Mapping[str, str] = {
    "not-json": _PRODUCER,
    "wrong-encoding": _PRODUCER,
    "too-large": f"{_PRODUCER}, or raise events.max_bytes",
    "too-deep": f"{_PRODUCER}, or raise events.max_depth",
    "duplicate-key": _PRODUCER,
    "invalid-text": _DATA,
    "invalid-number": _PRODUCER,
    "batch-not-supported": f"{_PRODUCER}: one event a record",
    "unsupported-content-type": f"{_PRODUCER}: events are JSON",
    "not-a-cloudevent": f"{_PRODUCER}, or describe its envelope in [envelope]",
    "unsupported-specversion": _PRODUCER,
    "invalid-envelope": _PRODUCER,
    "key-mismatch": f"{_PRODUCER}: the record key must be the subject",
    "subject-mismatch": f"{_PRODUCER}: the subject must be the user's id",
    "tombstone": "set events.tombstones = ignore if tombstones are meant",
    "unknown-type": "add a schema for the type, or name it in events.ignore_types",
    "unknown-schema": "add the schema to a folder of [schemas], then replay the dead letter",
    "schema-violation": _DATA,
    "mapping-failed": _REALM,
    "invalid-username": _DATA,
    "invalid-value": _DATA,
    "missing-value": _DATA,
    "missing-external-id": _PRODUCER,
    "role-not-allowed": "allow the role in the mapping, or take it out of the event",
    "group-not-allowed": "allow the group in the mapping, or take it out of the event",
    "organization-not-allowed": "allow the organization in the mapping, or take it out of the event",
    "incomplete-update": "send the properties named in the message together, or a complete event",
    "group-missing": _REALM,
    "organization-missing": _REALM,
    "group-not-found": _REALM,
    "role-not-found": _REALM,
    "client-not-found": _REALM,
    "organization-not-found": _REALM,
    "identity-provider-not-found": _REALM,
    "managed-member": "take the organization out of the mapping, or remove the user in Keycloak",
    "conflict": "free the username or e-mail in Keycloak or correct it in user management, then replay",
    "ambiguous": "leave the external id to one of the users in Keycloak, then replay the dead letter",
    "reserved-user": _DATA,
    "identity-taken": "take the link away from the other user, or correct the event; then replay the dead letter",
    "dropped-by-keycloak": "add the attributes to the realm's user profile, then replay the dead letter",
    "protected-user": "take the user out of the protected group if events may change it, then replay the dead letter",
    "username-kept": "turn on Edit username in the realm's login settings, then replay the dead letter",
    "unknown-user": "publish the user's creation, then replay the dead letter; or see lifecycle.unknown_user",
    "unsearchable-value": _DATA,
    "no-actions": "name an action in invite.actions, then replay the dead letter",
    "keycloak-rejected": _DATA,
    "not-found": "somebody deletes what the bridge writes: find out who, then replay the dead letter",
    "parked": "replay the user's earlier dead letter and this one; they keep their order",
    "given-up": "find out what Keycloak has against this user, then replay the dead letter",
    "internal-error": "report it with the log line `internal-error`, then replay the dead letter",
    "not-an-invitation": "only the bridge may write to the invitations topic",
}
"""By stable reason code."""


def recommended_action(code: str) -> str:
    """Return the advice for a reason code; there is one for every code."""
    return RECOMMENDED_ACTIONS.get(
        code, "read the message, mend the cause, then replay the dead letter"
    )


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
