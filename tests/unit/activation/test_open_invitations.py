"""The table of open invitations against a plain dict, and its notes in commits."""

import tracemalloc
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.activation.open_invitations import OpenInvitations
from keycloak_bridge.domain.events import Commit

IDS = [str(UUID(int=number)) for number in range(6)] + ["f:1:ada", "f:1:Ada", "NO-UUID", "\ud800"]


@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.booleans(), st.integers(1, 3)), max_size=60),
    st.integers(0, 2**40),
)
def test_a_commit_holds_what_is_open(records: list[tuple[str, bool, int]], seen_s: int) -> None:
    """Whoever reads on from it takes exactly what was open, whatever lies between the offsets."""
    table = OpenInvitations(Commit(7))
    offset, open_ids, at = 7, dict[str, None](), dict[str, list[int]]()
    for keycloak_id, closes, step in records:
        table.accept(offset)
        table.add(offset, keycloak_id, 1, 100, 200)
        open_ids[keycloak_id] = None
        at.setdefault(keycloak_id, []).append(offset)
        if closes:
            table.close({keycloak_id: offset})
            open_ids.pop(keycloak_id)
            at.pop(keycloak_id)
        offset += step
    table.seen_s = seen_s or None

    commit = table.commit()
    again = OpenInvitations(commit, commit.metadata)

    wanted = {one for offsets in at.values() for one in offsets}
    reread = {one for one in range(commit.offset, table.next_offset) if again.accept(one)}
    assert reread == wanted
    assert again.seen_s == (seen_s or None)
    assert len(table) == len(wanted)
    assert sorted(table.due(200, 1000)) == sorted(open_ids)
    assert table.due(199, 1000) == []
    assert table.people(IDS).keys() == open_ids.keys()


@given(st.text(max_size=40) | st.binary(max_size=60).map(lambda raw: "kba1:" + raw.hex()))
def test_notes_of_anybody_else_say_nothing(notes: str) -> None:
    table = OpenInvitations(Commit(5), notes)

    assert all(table.accept(offset) for offset in range(5, 20))
    assert table.seen_s is None


def test_notes_beside_another_offset_say_nothing() -> None:
    table = OpenInvitations(Commit(0))
    for offset in range(10):
        table.accept(offset)
    notes = table.commit().metadata

    assert OpenInvitations(Commit(3), notes).accept(4)


@pytest.mark.parametrize("every", [2, 3, 50])
def test_notes_fit_however_many_are_open(every: int) -> None:
    table = OpenInvitations(Commit(0))
    for offset in range(100_000):
        table.accept(offset)
        if hash((offset, "x")) % every == 0 or not offset:
            table.add(offset, IDS[offset % 6], 1, 100, 200)

    commit = table.commit()

    assert len(commit.metadata) <= 2900
    again = OpenInvitations(commit, commit.metadata)
    skipped = [offset for offset in range(100_000) if not again.accept(offset)]
    assert len(skipped) > 5000


def test_turns_come_to_everybody() -> None:
    table = OpenInvitations(Commit(0))
    for number in range(10):
        table.accept(number)
        table.add(number, IDS[number], 1, 100, 200)
    table.close({IDS[2]: 2})

    seen: list[str] = []
    behind: int | None = -1
    while behind is not None:
        names, behind = table.after(behind, 3)
        seen += names

    assert sorted(seen) == sorted(set(IDS) - {IDS[2]})


def test_who_is_scheduled_comes_later() -> None:
    table = OpenInvitations(Commit(0))
    table.accept(0)
    table.add(0, IDS[1], 1, 100, 200)
    table.schedule({IDS[1]: 500, IDS[2]: 1})

    assert table.due(499, 5) == []
    assert table.due(500, 5) == [IDS[1]]


def test_memory_of_many() -> None:
    """A million take a twentieth of this times a million: 60 MB at most, with room for growing arrays."""
    tracemalloc.start()
    try:
        table = OpenInvitations(Commit(0))
        for number in range(20_000):
            table.accept(number)
            table.add(number, str(UUID(int=number)), number, 100, 200)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept_bytes / 20_000 < 64
