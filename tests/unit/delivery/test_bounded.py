from keycloak_bridge.delivery.stage import BoundedDict


def test_an_entry_is_remembered_until_it_is_popped() -> None:
    """The last value counts; popping twice is harmless."""
    entries: BoundedDict[str, int] = BoundedDict()
    entries.put("a", 1)
    entries.put("a", 2)

    assert (entries.get("a"), entries.get("b")) == (2, None)
    assert ("a" in entries, "b" in entries) == (True, False)
    assert (entries.pop("a"), entries.pop("a"), "a" in entries) == (2, None, False)


def test_the_first_value_stays() -> None:
    """However often a default is offered, until the key is popped."""
    entries: BoundedDict[str, float] = BoundedDict()
    seen = [entries.setdefault("a", at) for at in (1.0, 2.0, 3.0)]
    entries.pop("a")

    assert [*seen, entries.setdefault("a", 4.0)] == [1.0, 1.0, 1.0, 4.0]


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
