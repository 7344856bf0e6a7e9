"""What an operator should do about a dead letter, where the error itself does not say."""

from collections.abc import Mapping

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
