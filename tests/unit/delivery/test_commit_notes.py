"""The notes of a commit beside its offset."""

import re
import zlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.delivery.offsets import CommitNotes, read_notes, tidy, write_notes

offsets = st.integers(0, 2**62)
steps = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=40)
fingerprints = st.lists(st.integers(0, 2**64 - 1), max_size=120).map(tuple)


def ranges_above(offset: int, gaps_and_lengths: list[tuple[int, int]]) -> tuple[range, ...]:
    """Return ranges that lie this far apart and are this long."""
    ranges = []
    for gap, length in gaps_and_lengths:
        ranges.append(range(offset + gap, offset + gap + length))
        offset = ranges[-1].stop
    return tuple(ranges)


@st.composite
def commits(draw: st.DrawFn) -> tuple[int, CommitNotes]:
    """Draw an offset and what may stand beside it."""
    offset = draw(offsets)
    return offset, CommitNotes(ranges_above(offset, draw(steps)), draw(fingerprints))


def framed(offset: int, body: bytes) -> str:
    """Return a note whose checksum is right, whatever is in it."""
    checksum = zlib.crc32(b"%d:%b" % (offset, body)).to_bytes(4, "big")
    return "kb1:" + urlsafe_b64encode(checksum + body).decode().rstrip("=")


@given(commits())
def test_what_is_written_is_read(commit: tuple[int, CommitNotes]) -> None:
    """With space for all, nothing is left out."""
    offset, notes = commit

    assert notes == read_notes(offset, write_notes(offset, notes, 10_000))


def test_a_note_of_this_version_stays_readable() -> None:
    """The next release finds it in the groups of this one."""
    notes = CommitNotes((range(7, 9), range(400, 401)), (1, 2**64 - 1))

    assert "kb1:FlwlZQIAAAAAAAAAAf__________AgKHAwE" == write_notes(5, notes)


@given(commits(), st.integers(-5, 1500))
def test_a_note_never_outgrows_its_limit(commit: tuple[int, CommitNotes], limit: int) -> None:
    """What is kept are the newest users and the lowest finished ranges."""
    offset, notes = commit

    written = write_notes(offset, notes, limit)

    kept = read_notes(offset, written)
    assert len(written) <= max(limit, 0)
    assert re.fullmatch(r"(kb1:[A-Za-z0-9_-]+)?", written)
    assert notes.finished[: len(kept.finished)] == kept.finished
    assert (
        notes.dead_lettered[len(notes.dead_lettered) - len(kept.dead_lettered) :]
        == kept.dead_lettered
    )
    assert kept == notes or len(kept.dead_lettered) * 8 <= max(limit, 0) / 2 * 3 / 4


def test_dead_lettered_users_leave_half_to_ranges() -> None:
    """Many of both: about half for each, and no more than some bytes are wasted."""
    notes = CommitNotes(ranges_above(0, [(1, 1)] * 2000), tuple(range(500)))

    written = write_notes(0, notes)

    kept = read_notes(0, written)
    assert (2990 < len(written) <= 3000, 139, 564) == (
        True,
        len(kept.dead_lettered),
        len(kept.finished),
    )
    assert 499 == kept.dead_lettered[-1]


@given(offsets, st.none() | st.text() | st.text().map("kb1:{}".format))
def test_a_note_of_another_tool_is_ignored(offset: int, metadata: str | None) -> None:
    """Any text may stand there: other tools commit too."""
    assert CommitNotes() == read_notes(offset, metadata)


@given(commits(), st.data())
def test_a_cut_note_is_ignored(commit: tuple[int, CommitNotes], data: st.DataObject) -> None:
    """No part of a note passes for a whole one."""
    written = write_notes(*commit)
    cut = written[: data.draw(st.integers(0, max(0, len(written) - 1)))]

    assert CommitNotes() == read_notes(commit[0], cut)


@given(commits(), st.data())
def test_a_damaged_note_is_ignored(commit: tuple[int, CommitNotes], data: st.DataObject) -> None:
    """A record that is wrongly taken for finished would be lost, so one wrong bit is enough."""
    offset, notes = commit
    written = write_notes(offset, notes, 10_000) or framed(offset, b"\0")
    at = data.draw(st.integers(0, len(written) - 1))
    damaged = chr(ord(written[at]) ^ 1 << data.draw(st.integers(0, 6)))

    read = read_notes(offset, written[:at] + damaged + written[at + 1 :])

    # the last character may hold bits that say nothing
    assert read == CommitNotes() or (at == len(written) - 1 and read == notes)


@given(commits(), offsets)
def test_a_note_beside_another_offset_is_ignored(
    commit: tuple[int, CommitNotes], other: int
) -> None:
    """Who sets a group back wants its records done again."""
    offset, notes = commit
    expected = notes if other == offset else CommitNotes()

    assert expected == read_notes(other, write_notes(offset, notes, 10_000))


@given(offsets, st.binary())
def test_nothing_with_a_right_checksum_raises(offset: int, body: bytes) -> None:
    """What is read is in order: ascending ranges from the offset on, 64-bit fingerprints."""
    notes = read_notes(offset, framed(offset, body))

    assert tidy(notes.finished, offset) == notes.finished
    assert all(0 <= one < 2**64 for one in notes.dead_lettered)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no count"),
        pytest.param(b"\x01" + bytes(7), id="a fingerprint is cut"),
        pytest.param(b"\x00\x05", id="a range without a length"),
        pytest.param(b"\x00\x05\x81", id="a number without an end"),
        pytest.param(b"\x00" + b"\xff" * 9 + b"\x01\x01", id="a number beyond any offset"),
        pytest.param(b"\x00\x01" + b"\xff" * 8 + b"\x7f", id="a range beyond any offset"),
    ],
)
def test_a_note_that_makes_no_sense_is_ignored(body: bytes) -> None:
    """Even where its checksum is right."""
    assert CommitNotes() == read_notes(5, framed(5, body))


@pytest.mark.parametrize("stray", [" ", "\n", "!", "é", "\udc80", "+", "A"])
@pytest.mark.parametrize("at", [4, 9, -1])
def test_a_note_with_something_in_it_is_ignored(stray: str, at: int) -> None:
    """Also where a lenient decoder would skip it."""
    written = write_notes(5, CommitNotes((range(7, 9),)))

    assert CommitNotes() == read_notes(5, written[:at] + stray + written[at:])
