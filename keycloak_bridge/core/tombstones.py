"""Records without a value, read as the deletion of the user that their key names."""

from datetime import UTC, datetime

from keycloak_bridge.core.errors import EventDecodeError, TombstoneError, Violation
from keycloak_bridge.core.model import USER_DELETED, CloudEvent, Record

_SOURCE = "/keycloak-bridge"


def deletion_of(record: Record) -> CloudEvent:
    """Return the event that the tombstone `record` stands for; no schema has seen its data yet.

    Its id is the record's place and its time the record's, so that redelivery gives the same event. Raises TombstoneError
    without a key, and EventDecodeError for a key that is no text.
    """
    if not record.key:
        raise TombstoneError(
            "the record has neither key nor value, so nobody knows whose user to delete",
            remedy="publish tombstones with the user's id as key",
        )
    try:
        user_id = record.key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EventDecodeError(
            "the key of a record without a value is not UTF-8",
            code="wrong-encoding",
            violations=(Violation("/subject", "type", "must be text in UTF-8"),),
        ) from error
    return CloudEvent(
        id=f"tombstone/{record.topic}/{record.partition}/{record.offset}",
        source=_SOURCE,
        type=USER_DELETED,
        subject=user_id,
        time=_time(record.timestamp_ms),
        dataschema=None,
        data={"userId": user_id},
    )


def _time(timestamp_ms: int) -> datetime | None:
    if timestamp_ms < 0:
        return None  # Kafka's way to say that there is none
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # whatever its producer wrote there is a time of no calendar
