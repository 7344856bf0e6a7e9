"""Compare and merge user representations, as Keycloak's PUT needs it.

A PUT with `attributes` erases every attribute it lacks and the e-mail and names too, so its body is everything found
plus the changes. Left out are the fields that the user's own doing changes (a finished required action, a verified
e-mail): absent, Keycloak leaves them alone, while writing back what was read a moment ago could undo it.
"""

import copy
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, cast

from keycloak_bridge.core.model import Change, UserRepresentation

_ATTRIBUTE = "attributes."
_VOLATILE = ("enabled", "emailVerified", "requiredActions")
_NOT_COMPARED = ("id", "attributes", "groups")


def normalised(representation: UserRepresentation) -> UserRepresentation:
    """Return the user as Keycloak stores it: lower-case username and e-mail, nothing empty, no value twice."""
    normal: dict[str, Any] = {}
    for name, value in representation.items():
        if name == "attributes":
            normal[name] = _attributes(cast("dict[str, list[str]]", value))
        elif name in ("username", "email") and isinstance(value, str):
            normal[name] = value.lower()
        else:
            normal[name] = value
    return cast(
        "UserRepresentation",
        {name: value for name, value in normal.items() if value is not None and value != ""},
    )


def differences(
    found: UserRepresentation,
    desired: UserRepresentation,
    create_only: AbstractSet[str] = frozenset(),
) -> tuple[Change, ...]:
    """Return what must change in `found` so that it holds everything that `desired` holds.

    Targets in `create_only` never change, an e-mail that was verified stays verified, and the order of an attribute's
    values does not count: Keycloak does not keep it.
    """
    stored, wanted = cast("dict[str, Any]", found), cast("dict[str, Any]", desired)
    changes = [
        Change(name, stored.get(name), value)
        for name, value in wanted.items()
        if name not in create_only and _field_differs(name, stored.get(name), value)
    ]
    attributes = found.get("attributes") or {}
    for name, values in desired.get("attributes", {}).items():
        before = attributes.get(name)
        if _ATTRIBUTE + name not in create_only and sorted(before or []) != sorted(values):
            changes.append(Change(_ATTRIBUTE + name, before, values))
    return tuple(changes)


def with_changes(found: UserRepresentation, changes: Iterable[Change]) -> UserRepresentation:
    """Return the whole body of a PUT that makes `changes` to `found` and nothing else."""
    whole = cast("dict[str, Any]", copy.deepcopy(found))
    for name in (*_VOLATILE, "groups"):
        whole.pop(name, None)
    attributes = dict(whole.get("attributes") or {})
    for change in changes:
        if change.target.startswith(_ATTRIBUTE):
            attributes[change.target.removeprefix(_ATTRIBUTE)] = list(change.after)
        else:
            whole[change.target] = change.after
    whole["attributes"] = attributes
    return cast("UserRepresentation", whole)


def merge(
    found: UserRepresentation,
    desired: UserRepresentation,
    create_only: AbstractSet[str] = frozenset(),
) -> UserRepresentation:
    """Return the whole body of a PUT that makes `found` hold what `desired` holds."""
    return with_changes(found, differences(found, desired, create_only))


def _attributes(attributes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the attributes that have a value, each value once."""
    distinct = {
        name: list(dict.fromkeys(value for value in values if value))
        for name, values in attributes.items()
    }
    return {name: values for name, values in distinct.items() if values}


def _field_differs(name: str, before: Any, after: Any) -> bool:
    if name in _NOT_COMPARED:
        return False
    if name == "emailVerified":
        return bool(after) and not before
    if name == "requiredActions":
        return set(before or []) != set(after)
    return bool(before != after)
