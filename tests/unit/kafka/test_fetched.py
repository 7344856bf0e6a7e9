"""What a client cannot decode comes as a record with a reason, and nothing else waits for it."""

import struct
import tracemalloc
from typing import Any

import pytest
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from record_batches import NOT_UTF8, Fetching, batch, with_checksum

from keycloak_bridge.domain.events import Record

P0, P1 = KafkaTopicPartition("user-events", 0), KafkaTopicPartition("user-events", 1)
GOOD = (b"k", b"good", ())
BAD_NAME = (b"k", b"value", ((b"good", b"1"), (NOT_UTF8, b"\xfe")))
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
MEGABYTE = 1024 * 1024


def unreadable(records: list[Record]) -> list[int]:
    """Return the offsets of what could not be read."""
    return [record.offset for record in records if record.unreadable]


@pytest.mark.parametrize("codec", CODECS)
def test_records_come_as_they_were_written(codec: str | None) -> None:
    """With their headers, from the position on, in every compression."""
    fetching = Fetching(P0)
    fetching.arrive(
        P0, batch(GOOD, (None, None, ((b"name", None),)), codec=codec), batch(GOOD, base=7)
    )

    first, second, third = fetching.take()

    assert (0, b"k", b"good", (), 1_000) == (
        first.offset,
        first.key,
        first.value,
        first.headers,
        first.timestamp_ms,
    )
    assert (1, None, None, (("name", None),)) == (
        second.offset,
        second.key,
        second.value,
        second.headers,
    )
    assert (7, 8) == (third.offset, fetching.position(P0))


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_that_is_not_utf8_costs_nothing_but_its_name(codec: str | None) -> None:
    """Key, value and headers are there; the other records and partitions come."""
    fetching = Fetching(P0, P1)
    fetching.arrive(P0, batch(GOOD, BAD_NAME, GOOD, codec=codec))
    fetching.arrive(P1, batch(GOOD))

    records = fetching.take()

    assert [0, 1, 2, 0] == [record.offset for record in records]
    assert [1] == unreadable(records)
    assert (b"k", b"value") == (records[1].key, records[1].value)
    assert (("good", b"1"), ("x-\\xff", b"\xfe")) == records[1].headers
    assert records[1].unreadable.is_whole
    assert "a header" in records[1].unreadable.reason


def test_a_wrong_checksum_is_fetched_again_and_then_passed() -> None:
    """Damage on the way heals; damage on the disk is one record by reference for the batch, and the next one comes."""
    fetching = Fetching(P0, P1)
    damaged = batch(GOOD, GOOD, GOOD)
    damaged[-1] ^= 1
    for _ in range(2):
        fetching.arrive(P0, damaged, batch(GOOD, base=3))
        fetching.arrive(P1, batch(GOOD, base=fetching.position(P1)))
        assert [1] == [record.partition for record in fetching.take()]
        assert 0 == fetching.position(P0)
        assert (
            "user-events/0@0 cannot be read: the checksum of its batch is wrong"
            == fetching.care.trouble()
        )
    fetching.arrive(P0, damaged, batch(GOOD, base=3))

    records = fetching.take()

    assert ([0, 3], [0], 4) == (
        [record.offset for record in records],
        unreadable(records),
        fetching.position(P0),
    )
    assert (
        "the checksum of its batch is wrong (all of offsets 0 to 2)" == records[0].unreadable.reason
    )
    assert (None, None) == (records[0].key, records[0].value)
    assert fetching.care.trouble() is None


def test_damage_that_heals_leaves_no_trace() -> None:
    """The second fetch brings the records."""
    fetching = Fetching(P0)
    damaged = batch(GOOD)
    damaged[-1] ^= 1
    fetching.arrive(P0, damaged)
    assert [] == fetching.take()
    fetching.arrive(P0, batch(GOOD))

    assert [] == unreadable(fetching.take())
    assert fetching.care.trouble() is None


def test_a_damaged_batch_never_leads_beyond_the_end() -> None:
    """A wrong last offset would be out of range, and the whole topic be read again."""
    fetching = Fetching(P0)
    damaged = batch(GOOD)
    struct.pack_into(">i", damaged, 23, 2_000_000)
    for _ in range(3):
        fetching.arrive(P0, damaged, end=5)
        records = fetching.take()

    assert ([0], 5) == (unreadable(records), fetching.position(P0))


@pytest.mark.parametrize("kind", [5, 7])
def test_an_unknown_compression_is_passed_at_once(kind: int) -> None:
    """The checksum is right, so another fetch would bring the same."""
    fetching = Fetching(P0)
    strange = batch(GOOD, GOOD)
    strange[22] |= kind
    fetching.arrive(P0, with_checksum(strange), batch(GOOD, base=2))

    records = fetching.take()

    assert ([0, 2], [0]) == ([record.offset for record in records], unreadable(records))
    assert records[0].unreadable.reason.startswith("its compression is not known")


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_compression_that_is_broken_is_passed(codec: str) -> None:
    """Whatever its library raises."""
    fetching = Fetching(P0)
    broken = batch((b"k", b"value " * 100, ()), codec=codec)
    broken[61:66] = b"\xff\xff\xff\xff\xff"
    fetching.arrive(P0, with_checksum(broken), batch(GOOD, base=1))

    records = fetching.take()

    assert ([0, 1], [0]) == ([record.offset for record in records], unreadable(records))


def test_a_broken_record_does_not_take_its_batch_with_it() -> None:
    """Its length says where the next one begins."""
    fetching = Fetching(P0)
    broken = batch(GOOD, (b"k", b"value", ()), GOOD)
    at = broken.index(b"\x0avalue")
    broken[at] = 0x7E  # the length of the value
    fetching.arrive(P0, with_checksum(broken))

    records = fetching.take()

    assert ([0, 1, 2], [1]) == ([record.offset for record in records], unreadable(records))
    assert "its structure is broken" == records[1].unreadable.reason


def test_garbage_in_place_of_a_batch_is_passed_one_offset_at_a_time() -> None:
    """Where the next one begins is not known; a negative length would have been read for ever."""
    fetching = Fetching(P0)
    garbage = struct.pack(">qi", 0, -5) + b"\xff" * 80
    for _ in range(3):
        fetching.arrive(P0, garbage)
        records = fetching.take()

    assert ([0], 1) == (unreadable(records), fetching.position(P0))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [2 * MEGABYTE, 40 * MEGABYTE])
def test_a_record_that_is_too_large_is_never_held(codec: str | None, size: int) -> None:
    """It is known by position, time and size, and those around it come."""
    fetching = Fetching(P0, largest_record_bytes=MEGABYTE)
    fetching.arrive(P0, batch(GOOD, (b"k", bytes(size), ()), GOOD, codec=codec))

    tracemalloc.start()
    records = fetching.take()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fetching.resume()
    records += fetching.take()

    assert codec is None or peak < 16 * MEGABYTE
    assert ([0, 1, 2], [1]) == ([record.offset for record in records], unreadable(records))
    assert records[1].unreadable.size_bytes == pytest.approx(size, abs=20)
    assert (None, None, 1_001) == (records[1].key, records[1].value, records[1].timestamp_ms)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_unpacks_to_gigabytes_comes_in_small_parts(codec: str | None) -> None:
    """Each poll returns what is little together; the rest of the partition waits, and so do others."""
    fetching = Fetching(P0, P1, largest_record_bytes=MEGABYTE)
    many = [(b"k", bytes(MEGABYTE - 100), ())] * 40
    fetching.arrive(P0, batch(GOOD, *many, GOOD, codec=codec))
    fetching.arrive(P1, batch(*many[:3], codec=codec))

    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    while len(records := fetching.take()):
        assert len(records) <= 3
        seen += [(record.partition, record.offset) for record in records]
        fetching.resume()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [(0, offset) for offset in range(42)] == sorted(seen)[:42]
    assert [(1, offset) for offset in range(3)] == sorted(seen)[42:]
    assert codec is None or peak < 16 * MEGABYTE


def test_what_a_broker_calls_corrupt_rests_and_is_passed_in_the_end() -> None:
    """Other partitions go on all the time."""
    now_s = [0.0]
    fetching = Fetching(P0, P1, now_s=lambda: now_s[0])
    records: list[Any] = []
    for attempt in range(5):
        assert 0 == fetching.position(P0)
        fetching.arrive(P0, error_code=kafka_errors.CorruptRecordError.errno)
        fetching.arrive(P1, batch(GOOD, base=attempt))
        records = fetching.take()
        assert 1 == records[-1].partition
        if attempt < 4:
            assert {P0} == fetching.paused
            assert fetching.care.rests(P0)
            assert "user-events/0@0 cannot be read: it is corrupt" == fetching.care.trouble()
        now_s[0] += 10
        fetching.resume()

    assert ([0], 1) == (unreadable(records), fetching.position(P0))
    assert fetching.care.trouble() is None


def test_what_is_not_about_the_bytes_is_waited_for() -> None:
    """A broker that fails for one partition only may be mended."""
    fetching = Fetching(P0)
    for _ in range(20):
        fetching.arrive(P0, error_code=kafka_errors.UnknownError.errno)
        assert [] == fetching.take()
        fetching.resume()

    assert 0 == fetching.position(P0)
    assert (
        "user-events/0@0 cannot be read: the broker answers UnknownError" == fetching.care.trouble()
    )
    fetching.arrive(P0, batch(GOOD))
    assert [0] == [record.offset for record in fetching.take()]
    assert fetching.care.trouble() is None


def test_a_refusal_is_raised() -> None:
    """An operator has to change the ACLs."""
    fetching = Fetching(P0)
    fetching.arrive(P0, error_code=kafka_errors.TopicAuthorizationFailedError.errno)

    with pytest.raises(kafka_errors.TopicAuthorizationFailedError):
        fetching.take()


def test_a_position_that_the_broker_does_not_have_is_told_once() -> None:
    """Reading is set back then, and what lay between is lost."""
    fetching = Fetching(P0)
    fetching.arrive(P0, error_code=kafka_errors.OffsetOutOfRangeError.errno)

    assert [] == fetching.take()

    assert {P0: 0} == fetching.care.out_of_range()
    assert {} == fetching.care.out_of_range()
    assert fetching.subscriptions.is_offset_reset_needed(P0)
