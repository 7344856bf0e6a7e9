"""What is remembered of the last entries."""

from keycloak_bridge.threads.bounded_dict import BoundedDict


def test_an_entry_is_remembered_until_it_is_popped() -> None:
    """The last value that was put counts, however often a default is offered; popping twice is harmless."""
    entries: BoundedDict[str, int] = BoundedDict()
    offered = [entries.setdefault("a", at) for at in (1, 2)]
    entries.put("a", 3)
    offered.append(entries.setdefault("a", 4))

    assert (offered, entries.get("a"), entries.get("b")) == ([1, 1, 3], 3, None)
    assert ("a" in entries, "b" in entries) == (True, False)
    assert (entries.pop("a"), entries.pop("a"), "a" in entries) == (3, None, False)
    assert entries.setdefault("a", 5) == 5


def test_memory_is_bounded_and_keeps_what_was_touched_last() -> None:
    """The entry that was neither put nor asked for by default for the longest time goes first."""
    entries: BoundedDict[str, int] = BoundedDict(limit=2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.setdefault("a", 9)
    entries.put("c", 3)

    assert [entries.get(key) for key in "abc"] == [1, None, 3]

    entries.put("a", 4)
    entries.put("d", 5)

    assert [entries.get(key) for key in "acd"] == [4, None, 5]
