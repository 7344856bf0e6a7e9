"""How far a partition is done, although its records are finished in any order.

Offsets have gaps: compaction removes records, and transactions leave markers that nobody is shown. So nothing is
computed from one offset to the next; only what was delivered counts, in the order in which it was.

Sets of offsets as few ranges.

What stands in a commit beside the offset, so that the next owner of the partition need not find it out again.

The note is `kb1:` and base64url of: a CRC-32; how many lost users, 8 bytes for each; then, per finished range, how far
it begins behind the one before (the first: behind the committed offset) and how long it is. Numbers are varints. The
checksum covers the committed offset, so that a note that was left beside another offset is nobody's.

The partitions in hand: what of each was read, what is finished, what may be committed.

Which users miss something, because one of their events became a dead letter.
"""

import hashlib
import threading
import zlib
from base64 import b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keycloak_bridge.domain.events import Commit, TopicPartition


def tidy(ranges: Iterable[range], low: int | None = None) -> tuple[range, ...]:
    """Return the same offsets from `low` on as ascending ranges of which no two touch; a range's step must be 1."""
    tidied: list[range] = []
    for one in sorted(ranges, key=lambda each: each.start):
        start = one.start if low is None else max(one.start, low)
        if start >= one.stop:
            continue
        if tidied and start <= tidied[-1].stop:
            tidied[-1] = range(tidied[-1].start, max(tidied[-1].stop, one.stop))
        else:
            tidied.append(range(start, one.stop))
    return tuple(tidied)


class _Unfinished:
    """A delivered offset in a ring of them, and the finished ones between it and the next, as first and last.

    Only what is unfinished costs memory: one record may be tried for hours while all others pass it.
    """

    __slots__ = ("after", "before", "first", "last", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.before = self.after = self
        self.first: int | None = None
        self.last = offset

    def insert_before(self, other: "_Unfinished") -> None:
        self.before, self.after = other.before, other
        self.before.after = other.before = self

    def followed_by_finished(self, first: int, last: int) -> None:
        if self.first is None:
            self.first = first
        self.last = last

    def remove(self) -> None:
        self.before.followed_by_finished(self.offset, self.last)
        self.before.after, self.after.before = self.after, self.before


class OffsetTracker:
    """Which offsets of one partition were delivered and which are finished; says what may be committed.

    `start` is the committed offset that reading begins at, `finished` what an earlier owner has finished from there on.
    """

    def __init__(self, start: int | None = None, finished: Iterable[range] = ()) -> None:
        self._start = start
        self._finished_earlier = deque(tidy(finished, start))
        self._last_delivered: int | None = None
        self._nodes: dict[int, _Unfinished] = {}
        self._ring = _Unfinished(-1)  # belongs to no offset: its neighbours are first and last

    @property
    def unfinished(self) -> int:
        """How many delivered offsets are not finished."""
        return len(self._nodes)

    @property
    def last_delivered(self) -> int | None:
        """The offset that was delivered last."""
        return self._last_delivered

    def deliver(self, offset: int) -> bool:
        """Note that `offset` was read, and say whether it is to be worked on.

        It is not when an earlier owner has finished it, which is remembered, or when it was delivered before.
        """
        if self._last_delivered is not None and offset <= self._last_delivered:
            return False

        if self._last_delivered is None and self._start is not None and offset < self._start:
            # reading was set back, so the records that were finished need not be those that come now
            self._finished_earlier.clear()
        self._last_delivered = offset
        if self._was_finished_earlier(offset):
            self._ring.before.followed_by_finished(offset, offset)
            return False

        node = self._nodes[offset] = _Unfinished(offset)
        node.insert_before(self._ring)
        return True

    def finish(self, offset: int) -> None:
        """Note that nothing is left to do for `offset`; harmless twice and for one that was not delivered."""
        node = self._nodes.pop(offset, None)
        if node is not None:
            node.remove()

    def next_to_commit(self, position: int | None = None) -> int | None:
        """Return the first unfinished offset; where all are finished, the next to read, as far as it is known.

        `position` is the consumer's: it has passed the transaction markers behind the last record.
        """
        if self._nodes:
            return self._ring.after.offset
        if self._last_delivered is None:
            return self._start if position is None else position
        following = self._last_delivered + 1
        return following if position is None else max(following, position)

    def finished_above(self) -> tuple[range, ...]:
        """Return what need not be done again from `next_to_commit()` on, as ascending ranges.

        A range spans the gaps between finished offsets, since nothing can appear in them any more. What an earlier
        owner has finished is in it even where it was not delivered again yet.
        """
        return tidy([*self._finished_since_first_unfinished(), *self._not_yet_reached()])

    def _was_finished_earlier(self, offset: int) -> bool:
        while self._finished_earlier and self._finished_earlier[0].stop <= offset:
            self._finished_earlier.popleft()
        return bool(self._finished_earlier) and offset in self._finished_earlier[0]

    def _finished_since_first_unfinished(self) -> Iterator[range]:
        node = self._ring.after
        while node is not self._ring:
            if node.first is not None:
                yield range(node.first, node.last + 1)
            node = node.after

    def _not_yet_reached(self) -> tuple[range, ...]:
        low = None if self._last_delivered is None else self._last_delivered + 1
        return tidy(self._finished_earlier, low)


_PREFIX = "kb1:"
_CHECKSUM_BYTES = 4
_FINGERPRINT_BYTES = 8
_OFFSET_LIMIT = 2**63
_RANGE_BYTES = 2  # at least
_VARINT_BYTES = 9  # of 7 bits each


@dataclass(frozen=True, slots=True)
class CommitNotes:
    """What is known of a partition beside its committed offset.

    `finished` are ranges of offsets that need not be done again; `lost` are the 64-bit fingerprints of users one of
    whose events became a dead letter, the newest last.
    """

    finished: tuple[range, ...] = ()
    lost: tuple[int, ...] = ()


def write_notes(offset: int, notes: CommitNotes, limit: int = 3000) -> str:
    """Return `notes` as at most `limit` ASCII characters to commit with `offset`; empty when there is nothing to say.

    Where not all fits, the lost users get half of the room at most and the oldest are left out; then the highest
    finished ranges are. Leaving out is safe: it costs work that is done twice.
    """
    room = (limit - len(_PREFIX)) * 3 // 4 - _CHECKSUM_BYTES
    ranges = tidy(notes.finished, offset)[: max(0, room) // _RANGE_BYTES + 1]  # one more never fits
    finished = list(_encoded_ranges(ranges, offset))
    body = _encoded_lost(notes.lost) + b"".join(finished)
    if len(body) > room:
        lost = _encoded_lost(_newest(notes.lost, room // 2))
        body = lost + b"".join(_fitting(finished, room - len(lost)))
    if not any(body) or len(body) > room:
        return ""
    encoded = urlsafe_b64encode(_checksum(offset, body) + body)
    return _PREFIX + encoded.decode("ascii").rstrip("=")


def read_notes(offset: int, metadata: str | None) -> CommitNotes:
    """Return what `write_notes` wrote for `offset`; nothing when `metadata` is not that, to the last bit."""
    if metadata is None or not metadata.startswith(_PREFIX):
        return CommitNotes()
    try:
        body = _checked_body(offset, metadata[len(_PREFIX) :])
        count, at = _varint(body, 0)
        end = at + count * _FINGERPRINT_BYTES
        return CommitNotes(_decoded_ranges(body, end, offset), _decoded_lost(body, at, end))
    except ValueError:
        return CommitNotes()


def _checked_body(offset: int, encoded: str) -> bytes:
    padding = "=" * (-len(encoded) % 4)
    content = b64decode(encoded + padding, altchars=b"-_", validate=True)
    checksum, body = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if checksum != _checksum(offset, body):
        raise ValueError("damaged")
    return body


def _checksum(offset: int, body: bytes) -> bytes:
    content = str(offset).encode("ascii") + b":" + body
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def _newest(lost: Sequence[int], room: int) -> Sequence[int]:
    kept = len(lost)
    while kept and len(_encoded_number(kept)) + kept * _FINGERPRINT_BYTES > room:
        kept -= 1
    return lost[len(lost) - kept :]


def _fitting(encoded: Sequence[bytes], room: int) -> Iterator[bytes]:
    for one in encoded:
        room -= len(one)
        if room < 0:
            return
        yield one


def _encoded_lost(lost: Sequence[int]) -> bytes:
    fingerprints = (one.to_bytes(_FINGERPRINT_BYTES, "big") for one in lost)
    return _encoded_number(len(lost)) + b"".join(fingerprints)


def _decoded_lost(body: bytes, at: int, end: int) -> tuple[int, ...]:
    if end > len(body):
        raise ValueError("lost users are missing")
    starts = range(at, end, _FINGERPRINT_BYTES)
    return tuple(
        int.from_bytes(body[start : start + _FINGERPRINT_BYTES], "big") for start in starts
    )


def _encoded_ranges(ranges: Sequence[range], offset: int) -> Iterator[bytes]:
    behind = offset
    for one in ranges:
        yield _encoded_number(one.start - behind) + _encoded_number(len(one))
        behind = one.stop


def _decoded_ranges(body: bytes, at: int, offset: int) -> tuple[range, ...]:
    ranges: list[range] = []
    behind = offset
    while at < len(body):
        gap, at = _varint(body, at)
        length, at = _varint(body, at)
        ranges.append(range(behind + gap, behind + gap + length))
        behind = ranges[-1].stop
    if behind >= _OFFSET_LIMIT:
        raise ValueError("no partition is that long")
    return tidy(ranges)


def _encoded_number(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where the next one does."""
    number = 0
    for shift, byte in enumerate(body[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte <= 0x7F:
            return number, at + shift + 1
    raise ValueError("a number has no end")


def fingerprint(key: bytes) -> int:
    """Return 64 bits that stand for the user with this record key, today and in any later process."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


class DeadLetteredUsers:
    """Which users have an event among the dead letters: per partition the last `limit`; for use from any thread.

    Users are known by their fingerprint, so a user that shares one counts as lost too; among `limit` that is as good
    as never.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._lost: dict[TopicPartition, list[int]] = {}
        self._lock = threading.Lock()

    def note(self, partition: TopicPartition, key: bytes) -> None:
        """Remember the user as the newest of `partition`; the oldest beyond the limit is forgotten."""
        user = fingerprint(key)
        with self._lock:
            others = [one for one in self._lost.get(partition, ()) if one != user]
            self._lost[partition] = self._newest([*others, user])

    def forget(self, partition: TopicPartition, key: bytes) -> None:
        """Count the user as whole again; harmless when it was not lost."""
        user = fingerprint(key)
        with self._lock:
            lost = self._lost.get(partition, [])
            if user in lost:
                lost.remove(user)

    def knows(self, partition: TopicPartition, key: bytes) -> bool:
        """Say whether an event of the user is among the dead letters, as far as it is remembered."""
        user = fingerprint(key)
        with self._lock:
            return user in self._lost.get(partition, ())

    def of(self, partition: TopicPartition) -> tuple[int, ...]:
        """Return the fingerprints of the lost users of `partition`, the newest last."""
        with self._lock:
            return tuple(self._lost.get(partition, ()))

    def take_over(self, partition: TopicPartition, fingerprints: Sequence[int]) -> None:
        """Replace what is known of `partition` by what its earlier owner left, the newest last."""
        newest_first = dict.fromkeys(reversed(fingerprints))
        with self._lock:
            self._lost[partition] = self._newest(list(reversed(newest_first)))

    def drop(self, partition: TopicPartition) -> None:
        """Forget `partition`; its next owner knows better."""
        with self._lock:
            self._lost.pop(partition, None)

    def _newest(self, users: list[int]) -> list[int]:
        return users[max(0, len(users) - self._limit) :]


class PartitionStates:
    """One tracker a partition, from its start to its release, and what Kafka has confirmed of it."""

    def __init__(self, lost: DeadLetteredUsers) -> None:
        self._lost = lost
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._committed: dict[TopicPartition, Commit] = {}
        self._positions: dict[TopicPartition, int] = {}

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions that were started and not released."""
        return frozenset(self._trackers)

    def tracker(self, partition: TopicPartition) -> OffsetTracker | None:
        """Return the partition's tracker; each start makes another one."""
        return self._trackers.get(partition)

    def start(self, partition: TopicPartition, commit: Commit) -> None:
        """Begin with what the group committed for the partition."""
        self._positions.pop(partition, None)
        notes = read_notes(commit.offset, commit.metadata)
        self._trackers[partition] = OffsetTracker(commit.offset, notes.finished)
        self._committed[partition] = commit
        self._lost.take_over(partition, notes.lost)

    def begins_anew(self, partition: TopicPartition, offset: int) -> bool:
        """Say whether `offset` comes although a later one did: the topic was made anew, or its log was cut."""
        tracker = self._trackers.get(partition)
        last = None if tracker is None else tracker.last_delivered
        return last is not None and offset <= last

    def commits(
        self, positions: Mapping[TopicPartition, int], *, unchanged: bool
    ) -> dict[TopicPartition, Commit]:
        """Return what may be committed now; what Kafka has already only where `unchanged` asks for it."""
        self._positions.update(positions)
        return {
            partition: commit
            for partition in self._trackers
            if (commit := self._commit_of(partition)) is not None
            and (unchanged or self._committed.get(partition) != commit)
        }

    def committed(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Note what Kafka has confirmed."""
        for partition in commits.keys() & self._trackers.keys():
            self._committed[partition] = commits[partition]

    def offsets(self) -> dict[TopicPartition, int]:
        """Return the committed offset of each partition in hand."""
        return {partition: commit.offset for partition, commit in self._committed.items()}

    def first_unfinished(self) -> dict[TopicPartition, int]:
        """Return the first unfinished offset of each partition that has one."""
        return {
            partition: offset
            for partition, tracker in self._trackers.items()
            if tracker.unfinished and (offset := tracker.next_to_commit()) is not None
        }

    def release(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Commit]:
        """Forget `partitions` and return what may be committed for them at last."""
        commits = {}
        for partition in partitions:
            if partition in self._trackers:
                commit = self._commit_of(partition)
                if commit is not None:
                    commits[partition] = commit
            self._trackers.pop(partition, None)
            self._committed.pop(partition, None)
            self._positions.pop(partition, None)
            self._lost.drop(partition)
        return commits

    def _commit_of(self, partition: TopicPartition) -> Commit | None:
        tracker = self._trackers[partition]
        offset = tracker.next_to_commit(self._positions.get(partition))
        if offset is None:
            return None
        notes = CommitNotes(tracker.finished_above(), self._lost.of(partition))
        return Commit(offset, write_notes(offset, notes))
