"""How far each partition is done, although its records finish in any order, and what of that is committed.

Offsets have gaps: compaction removes records, and transactions leave markers that no consumer gets. So nothing is
computed from one offset to the next; only what was delivered counts, in the order in which it was.

A commit carries a note beside its offset, so that the next owner of the partition need not find out again what is
finished above it. The note is `kb1:` and base64url of: a CRC-32; the number of dead-lettered users, 8 bytes for each;
then, per finished range, the distance from the end of the range before (the first: from the committed offset) and its
length. Numbers are varints. The checksum covers the committed offset, so a note beside another offset is ignored.
Before the note, a stamp may say whose commit it is (group_stamp.py).
"""

import zlib
from base64 import b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keycloak_bridge.delivery.group_stamp import GroupStamp, notes_of
from keycloak_bridge.delivery.stage_context import DeadLetteredUsers
from keycloak_bridge.domain.events import Commit, TopicPartition


@dataclass(slots=True)
class _PartitionState:
    tracker: "OffsetTracker"
    committed: Commit
    topic_id: str | None = None
    position: int | None = None
    waits_for: tuple[int, float] | None = None  # the first unfinished offset, and since when it is

    def commit(self, dead_lettered: tuple[int, ...], stamp: GroupStamp | None) -> Commit:
        offset = self.tracker.next_to_commit(self.position)
        notes = CommitNotes(self.tracker.finished_above(), dead_lettered)
        written = write_notes(offset, notes)
        return Commit(offset, written if stamp is None else stamp.on(written, self.topic_id))

    def waited_s(self, now_s: float) -> float:
        if not self.tracker.unfinished:
            self.waits_for = None
            return 0.0
        offset = self.tracker.next_to_commit()
        if self.waits_for is None or self.waits_for[0] != offset:
            self.waits_for = (offset, now_s)
        return now_s - self.waits_for[1]


class PartitionStates:
    """The partitions in hand, each from its start to its release, and what Kafka has confirmed of them.

    With a `stamp`, every commit says whose it is.
    """

    def __init__(
        self, dead_lettered_users: DeadLetteredUsers, stamp: GroupStamp | None = None
    ) -> None:
        self._dead_lettered_users = dead_lettered_users
        self._stamp = stamp
        self._states: dict[TopicPartition, _PartitionState] = {}

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions that were started and not released."""
        return frozenset(self._states)

    def tracker(self, partition: TopicPartition) -> "OffsetTracker | None":
        """Return the partition's tracker; each start makes another one."""
        state = self._states.get(partition)
        return None if state is None else state.tracker

    def start(self, partition: TopicPartition, commit: Commit, topic_id: str | None = None) -> None:
        """Begin with what the group committed for the partition; its commits will name `topic_id`."""
        notes = read_notes(commit.offset, notes_of(commit.metadata))
        self._states[partition] = _PartitionState(
            OffsetTracker(commit.offset, notes.finished), commit, topic_id
        )
        self._dead_lettered_users.take_over(partition, notes.dead_lettered)

    def restart(self, partition: TopicPartition, offset: int) -> None:
        """Begin at `offset` again, in the same topic as far as is known."""
        topic_id = self._states[partition].topic_id
        self.start(partition, Commit(offset), topic_id)

    def restarts(self, partition: TopicPartition, offset: int) -> bool:
        """Say whether `offset` comes although a later one did: the topic was created again, or its log was cut."""
        tracker = self.tracker(partition)
        last = None if tracker is None else tracker.last_delivered
        return last is not None and offset <= last

    def commits(
        self, positions: Mapping[TopicPartition, int], *, unchanged: bool
    ) -> dict[TopicPartition, Commit]:
        """Return what may be committed now; what Kafka has already only where `unchanged` asks for it."""
        commits = {}
        for partition, state in self._states.items():
            state.position = positions.get(partition, state.position)
            commit = state.commit(self._dead_lettered_users.of(partition), self._stamp)
            if unchanged or state.committed != commit:
                commits[partition] = commit
        return commits

    def committed(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Note what Kafka has confirmed."""
        for partition in commits.keys() & self._states.keys():
            self._states[partition].committed = commits[partition]

    def offsets(self) -> dict[TopicPartition, int]:
        """Return the committed offset of each partition in hand."""
        return {partition: state.committed.offset for partition, state in self._states.items()}

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of each partition in hand that comes after the last one that was delivered."""
        return {partition: state.tracker.next_offset for partition, state in self._states.items()}

    def oldest_s(self, now_s: float) -> float:
        """Return for how many seconds the slowest partition has waited for its first unfinished offset."""
        return max((state.waited_s(now_s) for state in self._states.values()), default=0.0)

    def release(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Commit]:
        """Forget `partitions` and return what may be committed for them at last."""
        commits = {}
        for partition in partitions:
            state = self._states.pop(partition, None)
            if state is not None:
                commits[partition] = state.commit(
                    self._dead_lettered_users.of(partition), self._stamp
                )
            self._dead_lettered_users.drop(partition)
        return commits


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

    def __init__(self, start: int = 0, finished: Iterable[range] = ()) -> None:
        self._start = start
        self._finished_earlier = deque(tidy(finished, start))
        self.last_delivered: int | None = None
        """The offset that was delivered last."""
        self._nodes: dict[int, _Unfinished] = {}
        self._ring = _Unfinished(-1)  # belongs to no offset: its neighbours are first and last

    @property
    def unfinished(self) -> int:
        """How many delivered offsets are not finished."""
        return len(self._nodes)

    @property
    def next_offset(self) -> int:
        """The offset after the last one that was delivered."""
        return self._start if self.last_delivered is None else self.last_delivered + 1

    def deliver(self, offset: int) -> bool:
        """Note that `offset` was read, and say whether it is to be worked on.

        It is not when an earlier owner has finished it, which is remembered, or when it was delivered before.
        """
        if self.last_delivered is not None and offset <= self.last_delivered:
            return False

        if self.last_delivered is None and offset < self._start:
            # reading was set back, so the records that were finished need not be those that come now
            self._finished_earlier.clear()
        self.last_delivered = offset
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

    def next_to_commit(self, position: int | None = None) -> int:
        """Return the first unfinished offset; where all are finished, the next to read.

        `position` is the consumer's: it has passed the transaction markers behind the last record.
        """
        if self._nodes:
            return self._ring.after.offset
        if self.last_delivered is None:
            return self._start if position is None else position
        return self.next_offset if position is None else max(self.next_offset, position)

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
        low = None if self.last_delivered is None else self.last_delivered + 1
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

    `finished` are ranges of offsets that need not be done again; `dead_lettered` are the 64-bit fingerprints of users
    one of whose events became a dead letter, the newest last.
    """

    finished: tuple[range, ...] = ()
    dead_lettered: tuple[int, ...] = ()


def write_notes(offset: int, notes: CommitNotes, limit: int = 3000) -> str:
    """Return `notes` as at most `limit` ASCII characters to commit with `offset`; empty when there is nothing to say.

    Where not all fits, the users get half of the bytes at most and the oldest are left out; then the highest finished
    ranges are. Leaving out is safe: it costs work that is done twice.
    """
    free = (limit - len(_PREFIX)) * 3 // 4 - _CHECKSUM_BYTES
    ranges = tidy(notes.finished, offset)[: max(0, free) // _RANGE_BYTES + 1]  # one more never fits
    finished = list(_encoded_ranges(ranges, offset))
    body = _encoded_users(notes.dead_lettered) + b"".join(finished)
    if len(body) > free:
        users = _encoded_users(_newest(notes.dead_lettered, free // 2))
        body = users + b"".join(_fitting(finished, free - len(users)))
    if not any(body) or len(body) > free:
        return ""
    encoded = urlsafe_b64encode(_checksum(offset, body) + body)
    return _PREFIX + encoded.decode("ascii").rstrip("=")


def read_notes(offset: int, metadata: str | None) -> CommitNotes:
    """Return what `write_notes` wrote for `offset`; nothing when `metadata` is not that, to the last bit."""
    if metadata is None or not metadata.startswith(_PREFIX):
        return CommitNotes()
    encoded = metadata.removeprefix(_PREFIX)
    try:
        content = b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        checksum, body = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        if checksum != _checksum(offset, body):
            return CommitNotes()
        count, start = _decoded_number(body, 0)
        end = start + count * _FINGERPRINT_BYTES
        if end > len(body):
            return CommitNotes()
        users = tuple(
            int.from_bytes(body[at : at + _FINGERPRINT_BYTES], "big")
            for at in range(start, end, _FINGERPRINT_BYTES)
        )
        return CommitNotes(_decoded_ranges(body, end, offset), users)
    except ValueError:
        return CommitNotes()


def _checksum(offset: int, body: bytes) -> bytes:
    content = str(offset).encode("ascii") + b":" + body
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def _newest(users: Sequence[int], free: int) -> Sequence[int]:
    kept = len(users)
    while kept and len(_encoded_number(kept)) + kept * _FINGERPRINT_BYTES > free:
        kept -= 1
    return users[len(users) - kept :]


def _fitting(encoded: Sequence[bytes], free: int) -> Iterator[bytes]:
    for one in encoded:
        free -= len(one)
        if free < 0:
            return
        yield one


def _encoded_users(users: Sequence[int]) -> bytes:
    fingerprints = (one.to_bytes(_FINGERPRINT_BYTES, "big") for one in users)
    return _encoded_number(len(users)) + b"".join(fingerprints)


def _encoded_ranges(ranges: Sequence[range], offset: int) -> Iterator[bytes]:
    for one in ranges:
        yield _encoded_number(one.start - offset) + _encoded_number(len(one))
        offset = one.stop


def _decoded_ranges(body: bytes, at: int, offset: int) -> tuple[range, ...]:
    ranges: list[range] = []
    while at < len(body):
        gap, at = _decoded_number(body, at)
        length, at = _decoded_number(body, at)
        ranges.append(range(offset + gap, offset + gap + length))
        offset = ranges[-1].stop
    if offset >= _OFFSET_LIMIT:
        raise ValueError("no partition is that long")
    return tidy(ranges)


def _encoded_number(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _decoded_number(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where the next one does."""
    number = 0
    for shift, byte in enumerate(body[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte <= 0x7F:
            return number, at + shift + 1
    raise ValueError("a number has no end")
