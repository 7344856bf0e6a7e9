"""What an operator should do about a dead letter, by its reason code."""

from collections.abc import Mapping

_PRODUCER = "correct the producer; this record stays as it is"
_DATA = "correct the data in user management and publish the event again"
_REALM = "correct the realm or the mapping, then replay the dead letter"

RECOMMENDED_ACTIONS: Mapping[str, str] = {
    "unreadable-record": "read the record's message; where it names the partition's bytes, look at the brokers' disks",
    "body-omitted": "publish the event again, smaller; or raise max.message.bytes of the dead-letter topic beforehand",
    "not-json": _PRODUCER,
    "wrong-encoding": _PRODUCER,
    "too-large": f"{_PRODUCER}, or raise events.max_bytes",
    "too-deep": f"{_PRODUCER}, or raise events.max_depth",
    "duplicate-key": _PRODUCER,
    "invalid-text": _DATA,
    "invalid-number": _PRODUCER,
    "batch-not-supported": f"{_PRODUCER}: one event a record",
    "unsupported-content-type": f"{_PRODUCER}: events are JSON",
    "unsupported-format": f"{_PRODUCER}: events are JSON",
    "not-a-cloudevent": f"{_PRODUCER}, or describe its envelope in [envelope]",
    "unsupported-specversion": _PRODUCER,
    "invalid-envelope": _PRODUCER,
    "time-ahead": f"{_PRODUCER}: a time in the future; replay the dead letter once it has come, or set events.ahead",
    "key-mismatch": f"{_PRODUCER}: the record key must be the subject",
    "unreadable-key": f"{_PRODUCER}: the record key must be the user's id, or see envelope.key",
    "subject-mismatch": f"{_PRODUCER}: the subject must be the user's id",
    "tombstone": "set events.tombstones = ignore if tombstones are meant",
    "unknown-type": "add a schema for the type, or name it in events.ignore_types",
    "unmapped-type": "name a mapping for the type in [mapping.files], or the type in events.ignore_types",
    "unknown-schema": "add the schema to a folder of [schemas], then replay the dead letter",
    "invalid-schema-id": f"{_PRODUCER}: the header holds no id of a schema",
    "unknown-schema-id": "check that [registry] url is the producer's registry, then replay the dead letter",
    "unsupported-schema-type": f"{_PRODUCER}: publish with a serializer for JSON Schema",
    "unusable-schema": f"{_PRODUCER}: register a schema that the bridge can use, and publish with that",
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
    "id-refused": "correct the id in user management, or let the realm's user profile take it as a username and replay",
    "id-differs-in-case": "give one of the two users another id in user management, then publish its creation again",
    "ambiguous": "leave the external id to one of the users in Keycloak, then replay the dead letter",
    "reserved-user": _DATA,
    "identity-taken": "take the link away from the other user, or correct the event; then replay the dead letter",
    "dropped-by-keycloak": "add what the message names to the realm (an attribute, a required action, a language), then replay the dead letter",
    "protected-user": "take the user out of the protected group if events may change it, then replay the dead letter",
    "username-kept": "turn on Edit username in the realm's login settings, then replay the dead letter",
    "unknown-user": "publish the user's creation, then replay the dead letter; or see lifecycle.unknown_user",
    "unsearchable-value": _DATA,
    "invalid-address": f"{_DATA}, which invites to the new address; or allow UTF-8 in the realm's e-mail settings and replay",
    "no-actions": "name an action in invite.actions, then replay the dead letter",
    "keycloak-rejected": _DATA,
    "not-found": "another client deletes what the bridge writes: find out which, then replay the dead letter",
    "parked": "replay the user's earlier dead letter and this one; they keep their order",
    "given-up": "find out why Keycloak refuses this user, then replay the dead letter",
    "internal-error": "report it with the log line `internal-error`, then replay the dead letter",
    "foreign-user": "find out who wrote to the invitations topic: only the bridge may, and of its own users only",
    "not-an-invitation": "only the bridge may write to the invitations topic",
}
"""By stable reason code."""


def recommended_action(code: str) -> str:
    """Return the advice for a reason code; there is one for every code."""
    return RECOMMENDED_ACTIONS.get(
        code, "read the message, correct the cause, then replay the dead letter"
    )
