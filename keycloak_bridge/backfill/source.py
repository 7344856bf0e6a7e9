"""The files of a backfill as the one partition of a topic, whose consumer group commits to a journal."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from keycloak_bridge.backfill.files import TOPIC
from keycloak_bridge.backfill.journal import Journal, LineDigest, LinesRead, Progress, Rejects
from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import Release
from keycloak_bridge.event_files.csv_rows import Line

PARTITION = TopicPartition(TOPIC, 0)
"""One for all files: the events of a user keep their order from file to file."""

_POLL_RECORDS = 200
_POLL_BYTES = 1 << 20
_POLLS_AHEAD = 4
_STOP_TIMEOUT_S = 1.0
_PAUSE_S = 0.02
"""How soon a paused partition is looked at again."""

_RECENT_MARKS = 2_000
"""So many of the last lines have a mark each: the commit is one of them, unless a record waits while many pass it."""

_MARK_EVERY = 500
"""Of the lines before those, every so many have one, since a record that fails alone may wait for hours."""

ReadLines = Callable[[], Iterator[Line]]
"""Yields every line of the run, in the order of the files."""

RecordOf = Callable[[Line, int], Record]
"""Makes the record of a line at an offset."""


class FileEventSource:
    """A RecordConsumer over the lines that `read` yields; committing writes the journal. The port describes the rest."""

    def __init__(
        self,
        read: ReadLines,
        record_of: RecordOf,
        journal: Journal,
        rejects: Rejects,
        *,
        share_read: Callable[[], float | None] = lambda: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`share_read` says which part of the files was read, None where their size is not known."""
        self._read = read
        self._share_read = share_read
        self._record_of = record_of
        self._journal = journal
        self._rejects = rejects
        self._pause = pause
        self._reader: _Reader | None = None
        self._marks = _Marks(journal.progress.at_commit)
        self.end: int | None = None
        """How many lines there are, None until the last one was read."""

    def when_revoked(self, release: Release) -> None:
        """No other consumer takes files away."""

    def poll(self, timeout_s: float, held: Callable[[TopicPartition], bool]) -> Sequence[Record]:
        """Return the next lines as records, and write what was rejected meanwhile; raises ConfigError for the files."""
        self._rejects.sync()
        if self._reader is None or self.end is not None or held(PARTITION):
            self._pause(min(timeout_s, _PAUSE_S))
            return ()
        read = self._reader.take(timeout_s)
        if read is None:
            self.end = self._reader.lines
            return ()
        for _, mark in read:
            self._marks.add(mark)
        return [record for record, _ in read]

    def trouble(self) -> BridgeError | None:
        """Return None: a line that cannot be read is refused."""
        return None

    def assigned(self) -> frozenset[TopicPartition]:
        """Return the one partition."""
        return frozenset((PARTITION,))

    def joined(self) -> bool:
        """Return True."""
        return True

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Begin to read; lines before the committed offset are read and compared, and not returned.

        To go where it stands already, after a poll that failed, is harmless.
        """
        if self._reader is not None and offset == self.lines_polled:
            return
        if self._reader is not None or offset != self._journal.progress.commit.offset:
            raise AssertionError(f"{partition} is read once, from its commit")
        self._reader = _Reader(self._read, self._record_of, self._journal.progress)

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Write the journal; raises BrokerUnavailableError."""
        commit = commits.get(PARTITION)
        if commit is None:
            return
        earlier = self._journal.progress.furthest
        furthest = max(self._marks.last, earlier, key=lambda mark: mark.lines)
        at_commit = self._marks.at(commit.offset)
        self._journal.save(Progress(commit, at_commit, furthest, self._rejects.state))

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return what the journal says."""
        return dict.fromkeys(partitions, self._journal.progress.commit)

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return nothing: no offset is left out, so the last record that was accepted says how far it is."""
        return {}

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return how many lines there are: before the last one was read, as many as the part that was read suggests.

        Where nobody knows, as of standard input, there is no end.
        """
        if self.end is not None:
            return {PARTITION: self.end}
        share = self._share_read()
        if share is None:
            return {PARTITION: sys.maxsize}
        known = self.lines_polled
        lines = 0 if self._reader is None else self._reader.lines
        return {PARTITION: max(known, round(lines / share)) if share else known}

    @property
    def lines_polled(self) -> int:
        """How many lines were polled, or done by earlier runs."""
        return max(self._marks.last.lines, self._journal.progress.commit.offset)

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first line's offset: nothing is deleted."""
        return dict.fromkeys(partitions, 0)

    def take_offset_resets(self) -> Mapping[TopicPartition, int]:
        """Return nothing."""
        return {}

    def topic_id(self) -> str | None:
        """Return None: the journal knows its files by itself."""
        return None

    def close(self) -> None:
        """Read no further."""
        if self._reader is not None:
            self._reader.stop()


class _Marks:
    """Marks of the lines that were polled; `first` is the first one."""

    def __init__(self, first: LinesRead) -> None:
        self.last = first
        """The last line's."""
        self._marks = deque([first])
        self._recent: deque[LinesRead] = deque()

    def add(self, mark: LinesRead) -> None:
        """Take the next line's mark."""
        self.last = mark
        self._recent.append(mark)
        if len(self._recent) > _RECENT_MARKS:
            earlier = self._recent.popleft()
            if not earlier.lines % _MARK_EVERY:
                self._marks.append(earlier)

    def at(self, lines: int) -> LinesRead:
        """Return the mark of so many lines, or the next one before; forget those before it."""
        while self._recent and self._recent[0].lines <= lines:
            self._marks.append(self._recent.popleft())
        while len(self._marks) > 1 and self._marks[1].lines <= lines:
            self._marks.popleft()
        return self._marks[0]


_Read = tuple[Record, LinesRead]
"""A record, and the lines read up to it."""


class _Reader:
    """Reads ahead in its own thread: standard input may be silent for long, and the consumer loop must not wait for it."""

    def __init__(self, read: ReadLines, record_of: RecordOf, earlier: Progress) -> None:
        self._read = read
        self._record_of = record_of
        self._earlier = earlier
        self._changed = threading.Condition()
        self._ahead: deque[_Read] = deque()
        self._ahead_bytes = 0
        self._digest = LineDigest()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="backfill-reader", daemon=True)
        self._thread.start()

    @property
    def lines(self) -> int:
        """How many lines were read, those that wait among them."""
        return self._digest.lines

    def take(self, timeout_s: float) -> Sequence[_Read] | None:
        """Return what was read: as much as one poll takes, or what there is after `timeout_s`; None at the end.

        Raises the error that ended it, after what was read before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._holds(1), timeout_s)
            taken = [self._ahead.popleft() for _ in range(min(len(self._ahead), _POLL_RECORDS))]
            self._ahead_bytes -= sum(map(_size, taken))
            self._changed.notify_all()
            if taken or not self._ended:
                return taken
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """Read no further; a read that waits for standard input is left behind."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_STOP_TIMEOUT_S)

    def _holds(self, polls: int) -> bool:
        """Say whether as much is there as so many polls take."""
        enough = len(self._ahead) >= polls * _POLL_RECORDS
        return enough or self._ahead_bytes >= polls * _POLL_BYTES

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for one in self._records():
                if not self._put(one):
                    return
        except BaseException as raised:  # noqa: BLE001 # the poll thread raises it
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, one: _Read) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._holds(_POLLS_AHEAD))
            self._ahead.append(one)
            self._ahead_bytes += _size(one)
            if self._holds(1):
                self._changed.notify_all()
            return not self._stopped

    def _records(self) -> Iterator[_Read]:
        earlier, digest = self._earlier, self._digest
        self._check(digest)
        for line in self._read():
            offset = digest.lines
            digest.add(line)
            self._check(digest)
            if offset >= earlier.commit.offset:
                yield self._record_of(line, offset), digest.read()
        if digest.lines < max(earlier.furthest.lines, earlier.commit.offset):
            raise _changed()

    def _check(self, digest: LineDigest) -> None:
        for mark in (self._earlier.at_commit, self._earlier.furthest):
            if mark.lines == digest.lines and mark != digest.read():
                raise _changed()


def _size(one: _Read) -> int:
    return len(one[0].value or b"")


def _changed() -> ConfigError:
    return ConfigError(
        "lines that this backfill has read before have changed",
        code="journal",
        remedy="give the files as they were, or --restart to begin again; users who are in the realm already are not written again",
    )
