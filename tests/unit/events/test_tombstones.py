from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keycloak_bridge.domain.errors import EventError
from keycloak_bridge.domain.events import CloudEvent, Record
from keycloak_bridge.events.decode import deletion_of

TOMBSTONE = Record("user-events", 3, 42, 1_793_577_600_000, b"u-1", None)


def test_a_tombstone_is_the_deletion_of_its_keys_user() -> None:
    """Id and time are those of the record, so that redelivery is the same event."""
    expected = CloudEvent(
        id="tombstone/user-events/3/42",
        source="/keycloak-bridge",
        type="user.deleted",
        subject="u-1",
        time=datetime.fromtimestamp(1_793_577_600, UTC),
        dataschema=None,
        data={"userId": "u-1"},
    )

    assert expected == deletion_of(TOMBSTONE)


def test_a_record_without_a_time_gives_none() -> None:
    """Kafka writes -1 there."""
    assert deletion_of(replace(TOMBSTONE, timestamp_ms=-1)).time is None


@pytest.mark.parametrize("timestamp_ms", [1_793_577_600_000_000, 2**63 - 1])
def test_a_time_that_no_calendar_has_gives_none(timestamp_ms: int) -> None:
    """A producer that writes microseconds there must not stop the partition."""
    assert deletion_of(replace(TOMBSTONE, timestamp_ms=timestamp_ms)).time is None


@pytest.mark.parametrize(
    ("key", "code"), [(None, "tombstone"), (b"", "tombstone"), (b"\xff", "wrong-encoding")]
)
def test_a_key_that_names_nobody_is_refused(key: bytes | None, code: str) -> None:
    """There is no user to delete."""
    with pytest.raises(EventError) as caught:
        deletion_of(replace(TOMBSTONE, key=key))

    assert code == caught.value.code
