"""The files of a backfill as the one partition of a topic, whose consumer group commits to a journal."""

import contextlib
import queue
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

_CHUNK_RECORDS = 200
_CHUNK_BYTES = 1 << 20
_CHUNKS_AHEAD = 4
_STOP_TIMEOUT_S = 1.0
_PAUSE_S = 0.02
"""How soon a paused partition is looked at again."""

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
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._record_of = record_of
        self._journal = journal
        self._rejects = rejects
        self._pause = pause
        self._reader: _Reader | None = None
        self._last = journal.progress.at_commit
        self._marks: deque[LinesRead] = deque([self._last])
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
        try:
            chunk = self._reader.chunks.get(timeout=timeout_s)
        except queue.Empty:
            return ()
        if isinstance(chunk, BaseException):
            raise chunk
        if chunk is None:
            self.end = self._last.lines
            return ()
        self._marks.extend(mark for _, mark in chunk)
        self._last = self._marks[-1]
        return [record for record, _ in chunk]

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
        """Begin to read; lines before the committed offset are read and compared, and not returned."""
        if self._reader is not None or offset != self._journal.progress.commit.offset:
            raise AssertionError(f"{partition} is read once, from its commit")
        self._reader = _Reader(self._read, self._record_of, self._journal.progress)

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Write the journal; raises BrokerUnavailableError."""
        commit = commits.get(PARTITION)
        if commit is None:
            return
        while len(self._marks) > 1 and self._marks[1].lines <= commit.offset:
            self._marks.popleft()
        furthest = max(self._last, self._journal.progress.furthest, key=lambda mark: mark.lines)
        self._journal.save(Progress(commit, self._marks[0], furthest, self._rejects.state))

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return what the journal says."""
        return dict.fromkeys(partitions, self._journal.progress.commit)

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return how many lines were polled."""
        return {PARTITION: self._last.lines}

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return how many lines there are, as far as that is known."""
        return self.positions()

    def committed(self) -> Mapping[TopicPartition, int]:
        """Return the offset in the journal."""
        return {PARTITION: self._journal.progress.commit.offset}

    def close(self) -> None:
        """Read no further."""
        if self._reader is not None:
            self._reader.stop()


_Chunk = list[tuple[Record, LinesRead]]
"""Consecutive records, each with the lines read up to it."""


class _Reader:
    """Reads ahead in its own thread: standard input may be silent for long, and the consumer loop must not wait for it.

    After the last chunk comes None, or the error that ended it.
    """

    def __init__(self, read: ReadLines, record_of: RecordOf, earlier: Progress) -> None:
        self.chunks: queue.Queue[_Chunk | BaseException | None] = queue.Queue(_CHUNKS_AHEAD)
        self._read = read
        self._record_of = record_of
        self._earlier = earlier
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backfill-reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no further; a read that waits for standard input is left behind."""
        self._stopped.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            for chunk in self._read_chunks():
                if not self._put(chunk):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 # the poll thread raises it
            self._put(error)

    def _put(self, chunk: _Chunk | BaseException | None) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.chunks.put(chunk, timeout=0.2)
                return True
        return False

    def _read_chunks(self) -> Iterator[_Chunk]:
        earlier, digest = self._earlier, LineDigest()
        chunk: _Chunk = []
        size_bytes = 0
        self._check(digest)
        for line in self._read():
            offset = digest.lines
            digest.add(line)
            self._check(digest)
            if offset < earlier.commit.offset:
                continue
            chunk.append((self._record_of(line, offset), digest.read()))
            size_bytes += len(line.raw)
            if len(chunk) >= _CHUNK_RECORDS or size_bytes >= _CHUNK_BYTES:
                yield chunk
                chunk, size_bytes = [], 0
        if digest.lines < earlier.furthest.lines:
            raise _changed()
        if chunk:
            yield chunk

    def _check(self, digest: LineDigest) -> None:
        for mark in (self._earlier.at_commit, self._earlier.furthest):
            if mark.lines == digest.lines and mark != digest.read():
                raise _changed()


def _changed() -> ConfigError:
    return ConfigError(
        "lines that this backfill has read before have changed",
        code="journal",
        remedy="give the files as they were, or --restart to begin again; users who are in the realm already are not written again",
    )
