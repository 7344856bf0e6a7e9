import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keycloak_bridge.backfill.files import TOPIC
from keycloak_bridge.backfill.journal import Journal, Progress, Rejects, read_journal
from keycloak_bridge.backfill.source import PARTITION, FileEventSource
from keycloak_bridge.domain.errors import BrokerUnavailableError, ConfigError
from keycloak_bridge.domain.events import Commit, Record
from keycloak_bridge.event_files.csv_rows import Line


def lines(count: int, text: str = "line") -> Callable[[], Iterator[Line]]:
    """Return what reads so many lines."""
    return lambda: (Line(0, number + 1, f"{text} {number}".encode()) for number in range(count))


def record(line: Line, offset: int) -> Record:
    """Return a record as plain as can be."""
    return Record(TOPIC, 0, offset, 0, None, line.raw)


def opened(
    folder: Path,
    read: Callable[[], Iterator[Line]],
    share_read: Callable[[], float | None] = lambda: None,
) -> FileEventSource:
    """Return the source of a run over `read`, which stands where its journal says."""
    journal = Journal.open(folder / "journal.json", {})
    source = FileEventSource(
        read, record, journal, Rejects([]), share_read=share_read, pause=lambda _: None
    )
    source.when_revoked(lambda *_: {})
    source.seek(PARTITION, source.commits([PARTITION])[PARTITION].offset)
    return source


def drained(source: FileEventSource, *, commit: bool = False) -> list[int]:
    """Return the offsets of all that is left; `commit` what was read each time."""
    offsets: list[int] = []
    while source.end is None:
        offsets += [one.offset for one in source.poll(5.0, lambda _: False)]
        if commit:
            source.commit({PARTITION: Commit(source.lines_polled)})
    source.close()
    return offsets


def test_every_line_is_a_record_once(tmp_path: Path) -> None:
    """In their order; the end is known behind the last one."""
    source = opened(tmp_path, lines(450))

    assert source.joined()
    assert frozenset((PARTITION,)) == source.assigned()
    assert {PARTITION: Commit(0)} == source.commits([PARTITION])
    assert list(range(450)) == drained(source)
    assert 450 == source.end
    assert {PARTITION: 450} == source.end_offsets()
    assert 450 == source.lines_polled
    assert () == source.poll(0.0, lambda _: False)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.25, 12), (1.0, 3), (None, sys.maxsize), (0.0, 3)]
)
def test_the_end_is_estimated_before_it_is_reached(
    tmp_path: Path, share: float | None, expected: int
) -> None:
    """From the part of the files that was read: a large file is a large backlog at once, and so is standard input."""
    source = opened(tmp_path, lines(3), lambda: share)
    source.poll(60.0, lambda _: False)
    meanwhile = source.end_offsets()
    drained(source)

    assert [{PARTITION: expected}, {PARTITION: 3}] == [meanwhile, source.end_offsets()]


def test_a_paused_partition_is_not_read(tmp_path: Path) -> None:
    """Its lines stay where they are."""
    source = opened(tmp_path, lines(3))

    assert () == source.poll(1.0, lambda _: True)
    source.close()


def test_the_next_run_begins_at_the_commit(tmp_path: Path) -> None:
    """With its note, of what is done above it."""
    first = opened(tmp_path, lines(500))
    drained(first)
    first.commit({PARTITION: Commit(120, "note")})
    first.commit({})

    second = opened(tmp_path, lines(700))

    assert {PARTITION: Commit(120, "note")} == second.commits([PARTITION])
    assert list(range(120, 700)) == drained(second)


def changed() -> Iterator[Line]:
    """Yield 500 lines of which one is new."""
    for line in lines(500)():
        yield Line(0, line.number, b"new") if line.number == 300 else line


@pytest.mark.parametrize(
    ("done", "compared"), [(700, 500), (2600, 2500), (5900, 5900), (6000, 6000)]
)
def test_a_commit_that_is_far_behind_is_compared_from_before_it(
    tmp_path: Path, done: int, compared: int
) -> None:
    """A record that waits long is passed by thousands; the lines are compared all the same, if not all at once."""
    first = opened(tmp_path, lines(6000))
    drained(first)
    first.commit({PARTITION: Commit(0)})
    first.commit({PARTITION: Commit(done)})
    found = read_journal(tmp_path / "journal.json")
    assert found is not None
    assert (compared, 6000) == (found[1].at_commit.lines, found[1].furthest.lines)

    def changed_at(number: int) -> Callable[[], Iterator[Line]]:
        return lambda: (
            Line(0, line.number, b"new") if line.number == number else line
            for line in lines(6000)()
        )

    again = opened(tmp_path, lines(6000))
    again.commit({PARTITION: Commit(done, "renewed")})
    assert list(range(done, 6000)) == drained(again)
    assert 6000 == again.end
    with pytest.raises(ConfigError, match="have changed"):
        opened(tmp_path, changed_at(compared)).poll(60.0, lambda _: False)
    with pytest.raises(ConfigError, match="have changed"):
        drained(opened(tmp_path, changed_at(min(compared + 1, 6000))))


def test_after_a_poll_that_failed_it_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer loop goes back to what it has accepted; any other place cannot be reached again."""
    source = opened(tmp_path, lines(300))
    source.poll(60.0, lambda _: False)
    with monkeypatch.context() as broken:
        broken.setattr(Rejects, "sync", raising)
        with pytest.raises(BrokerUnavailableError):
            source.poll(60.0, lambda _: False)
    source.seek(PARTITION, 200)

    with pytest.raises(AssertionError):
        source.seek(PARTITION, 100)
    assert list(range(200, 300)) == drained(source)


def raising(_: Rejects) -> None:
    """Do not answer."""
    raise BrokerUnavailableError("gone")


def test_a_poll_alone_is_no_position(tmp_path: Path) -> None:
    """Where the records could not be taken over, they must not be committed; what was taken over says how far it is."""
    source = opened(tmp_path, lines(3))
    source.poll(60.0, lambda _: False)
    source.close()

    assert {} == source.positions()


@pytest.mark.parametrize("other", [lines(500, "other"), lines(119), lines(499), changed])
def test_lines_that_were_read_must_be_what_they_were(
    tmp_path: Path, other: Callable[[], Iterator[Line]]
) -> None:
    """Those above the commit too, since some of them are done; a new line must not be taken for a done one."""
    first = opened(tmp_path, lines(500))
    drained(first)
    first.commit({PARTITION: Commit(120)})

    with pytest.raises(ConfigError, match="have changed"):
        drained(opened(tmp_path, other))


def test_a_commit_behind_the_end_is_none(tmp_path: Path) -> None:
    """Files that are shorter than what was done of them are other files, whatever the digests say."""
    journal = Journal.open(tmp_path / "journal.json", {})
    journal.save(Progress(Commit(99_999)))
    source = FileEventSource(lines(3), record, journal, Rejects([]), pause=lambda _: None)
    source.seek(PARTITION, 99_999)

    with pytest.raises(ConfigError, match="have changed"):
        drained(source)


def test_a_silent_pipe_does_not_block_the_consumer_loop(tmp_path: Path) -> None:
    """It may be silent for long."""
    going_on = threading.Event()

    def silent() -> Iterator[Line]:
        going_on.wait(30)
        yield from lines(2)()

    source = opened(tmp_path, silent)
    assert [] == source.poll(0.01, lambda _: False)
    going_on.set()

    assert [0, 1] == drained(source)


def test_a_slow_pipe_is_handed_over_as_it_comes(tmp_path: Path) -> None:
    """A line that is there is not kept back until there are many."""
    going_on = threading.Event()

    def slow() -> Iterator[Line]:
        first, *others = lines(3)()
        yield first
        going_on.wait(30)
        yield from others

    source = opened(tmp_path, slow)
    polled: list[int] = []
    for _ in range(3000):
        polled += [one.offset for one in source.poll(0.01, lambda _: False)]
        if polled:
            break

    assert ([0], None) == (polled, source.end)
    going_on.set()
    assert [1, 2] == drained(source)


def test_an_error_comes_behind_what_was_read(tmp_path: Path) -> None:
    """A file that ends in the middle is done up to there."""

    def broken() -> Iterator[Line]:
        yield from lines(3)()
        raise ConfigError("cut short")

    source = opened(tmp_path, broken)

    assert [0, 1, 2] == [one.offset for one in source.poll(5.0, lambda _: False)]
    with pytest.raises(ConfigError, match="cut short"):
        drained(source)


def test_a_reader_that_is_ahead_is_stopped(tmp_path: Path) -> None:
    """Without reading the rest."""
    read: list[int] = []

    def endless() -> Iterator[Line]:
        for number in range(10**9):
            read.append(number)
            yield Line(0, number, b"x")

    source = opened(tmp_path, endless)
    source.poll(5.0, lambda _: False)
    source.close()

    assert len(read) < 5000


@pytest.mark.parametrize("done", [True, False], ids=["all done", "one waits"])
def test_memory_does_not_grow_with_the_files(tmp_path: Path, done: bool) -> None:
    """However far ahead the reader is, it holds a small part of the lines; one that fails alone may wait long."""
    source = opened(tmp_path, lines(30_000, "x" * 400))
    tracemalloc.start()
    drained(source, commit=done).clear()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # the lines alone are 12 million, and this test keeps a number of each
    assert peak_bytes < 6_000_000
