"""What a compatible new version of a schema means for those who read the data: notes, none of them breaking."""

from collections.abc import Iterator

from keycloak_bridge.core.schema_changes import Change
from keycloak_bridge.core.schema_known import Known
from keycloak_bridge.core.schema_places import Place
from keycloak_bridge.core.schema_value_rules import shown, type_names


def reader_notes(old: Place, new: Place) -> list[Change]:
    """Return what readers of the older version may miss or not expect in data of the new one."""
    return list(dict.fromkeys(_notes(Known((old,)), Known((new,)), new, set())))


def _notes(old: Known, new: Known, place: Place, seen: set[tuple[int, ...]]) -> Iterator[Change]:
    pair = (*(id(one.schema) for one in old.parts), 0, *(id(one.schema) for one in new.parts))
    if not old.parts or pair in seen:
        return
    seen.add(pair)
    wider = new.types - old.types
    if old.types and wider:
        names = ", ".join(type_names(wider))
        yield _note(place.pointer("type"), "type-widened", f"readers may meet {names} now")
    yield from _values(old, new)
    yield from _properties(old, new, place, seen)
    if "array" in old.types & new.types:
        yield from _inner(old.item_places(0), new.item_places(0), seen)


def _values(old: Known, new: Known) -> Iterator[Change]:
    before, parts = old.all("enum"), new.having("enum")
    if before and parts:
        added = [value for value in parts[0].schema["enum"] if value not in before[0]]
        if added:
            listed = ", ".join(shown(value) for value in added)
            yield _note(
                parts[0].pointer("enum"), "enum-value-added", f"readers may meet {listed} now"
            )


def _properties(
    old: Known, new: Known, place: Place, seen: set[tuple[int, ...]]
) -> Iterator[Change]:
    if "object" not in old.types & new.types:
        return
    for name in sorted(old.required - new.required):
        yield _note(
            place.pointer("required"),
            "required-removed",
            f"readers may miss the property {shown(name)} now",
        )
    for name in old.named:
        after = new.property_places(name)
        if name not in new.named and not after:
            yield _note(
                place.pointer("properties"),
                "property-removed",
                f"readers are told nothing of the property {shown(name)} any more",
            )
        else:
            yield from _inner(old.property_places(name), after, seen)


def _inner(old: list[Place], new: list[Place], seen: set[tuple[int, ...]]) -> Iterator[Change]:
    if old and new:
        yield from _notes(Known(tuple(old)), Known(tuple(new)), new[0], seen)


def _note(pointer: str, code: str, message: str) -> Change:
    return Change(pointer, code, message, breaking=False)
