"""Compare and merge user representations, as Keycloak's PUT needs it.

A PUT with `attributes` erases every attribute it lacks and the e-mail and names too, so its body is everything found
plus the changes; what shall be erased is absent. Left out are the fields that the user's own doing changes (a finished
required action, a verified e-mail): absent, Keycloak leaves them alone, while writing back what was read a moment ago
could undo it.
"""

import copy
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, cast

from keycloak_bridge.domain.operations import Change
from keycloak_bridge.domain.users import ATTRIBUTE_PREFIX, UserRepresentation

_VOLATILE = ("enabled", "emailVerified", "requiredActions")
_ERASABLE = ("email", "firstName", "lastName", "requiredActions")
_NOT_COMPARED = ("id", "attributes", "groups")


def normalised(representation: UserRepresentation) -> UserRepresentation:
    """Return the user as Keycloak stores it: lower-case username and e-mail, nothing blank, no value twice."""
    normal: dict[str, Any] = {}
    for name, value in without_blanks(representation).items():
        if name == "attributes":
            normal[name] = _attributes(cast("dict[str, list[str]]", value))
        elif name in ("username", "email") and isinstance(value, str):
            normal[name] = value.lower()
        else:
            normal[name] = value
    return cast("UserRepresentation", normal)


def without_blanks(representation: UserRepresentation) -> UserRepresentation:
    """Return the user without fields and values that say nothing: none, empty, or white space alone.

    `POST /users` drops some and refuses others, and an import would store them.
    """
    told = {name: value for name, value in representation.items() if not is_blank(value)}
    if "attributes" in told:
        attributes = cast("dict[str, list[str]]", told["attributes"])
        kept = {
            name: [value for value in values if not is_blank(value)]
            for name, values in attributes.items()
        }
        told["attributes"] = {name: values for name, values in kept.items() if values}
    return cast("UserRepresentation", told)


def is_blank(value: object) -> bool:
    """Say whether a value says nothing; an empty list says that there is none."""
    return value is None or (isinstance(value, str) and not value.strip())


def differences(
    found: UserRepresentation,
    desired: UserRepresentation,
    create_only: AbstractSet[str] = frozenset(),
    cleared: AbstractSet[str] = frozenset(),
) -> tuple[Change, ...]:
    """Return what must change in `found` so that it holds all that `desired` holds and nothing of what is `cleared`.

    Targets in `create_only` never change, an e-mail that was verified stays verified, and the order of an attribute's
    values does not count: Keycloak does not keep it. A target that `desired` holds is not cleared, and neither are
    username and switches, without which there is no user.
    """
    stored, wanted = cast("dict[str, Any]", found), cast("dict[str, Any]", desired)
    changes = [
        Change(name, stored.get(name), value)
        for name, value in wanted.items()
        if name not in create_only and _field_differs(name, stored.get(name), value)
    ]
    attributes = found.get("attributes") or {}
    wanted_attributes = desired.get("attributes", {})
    for name, values in wanted_attributes.items():
        before = attributes.get(name)
        if ATTRIBUTE_PREFIX + name not in create_only and sorted(before or []) != sorted(values):
            changes.append(Change(ATTRIBUTE_PREFIX + name, before, values))
    held = {*wanted, *(ATTRIBUTE_PREFIX + name for name in wanted_attributes)}
    return (*changes, *_erasures(found, cleared - create_only - held))


def is_erasable(target: str) -> bool:
    """Say whether a user can be without `target`: without username and switches there is none."""
    return target.startswith(ATTRIBUTE_PREFIX) or target in _ERASABLE


def with_changes(found: UserRepresentation, changes: Iterable[Change]) -> UserRepresentation:
    """Return the whole body of a PUT that makes `changes` to `found` and nothing else."""
    whole = cast("dict[str, Any]", copy.deepcopy(found))
    for name in (*_VOLATILE, "groups"):
        whole.pop(name, None)
    return _changed(whole, changes)


def after_changes(found: UserRepresentation, changes: Iterable[Change]) -> UserRepresentation:
    """Return what Keycloak holds of the user once the PUT for `changes` is done."""
    return _changed(cast("dict[str, Any]", copy.deepcopy(found)), changes)


def _changed(whole: dict[str, Any], changes: Iterable[Change]) -> UserRepresentation:
    attributes = dict(whole.get("attributes") or {})
    for change in changes:
        if change.target.startswith(ATTRIBUTE_PREFIX):
            where, name = attributes, change.target.removeprefix(ATTRIBUTE_PREFIX)
        else:
            where, name = whole, change.target
        if change.after is None:
            where.pop(name, None)
        else:
            where[name] = list(change.after) if where is attributes else change.after
    whole["attributes"] = attributes
    return cast("UserRepresentation", whole)


def _erasures(found: UserRepresentation, targets: AbstractSet[str]) -> Iterable[Change]:
    """Return the changes that leave nothing of `targets`; absent actions would stay, so that they become none."""
    stored = cast("dict[str, Any]", found)
    attributes = stored.get("attributes") or {}
    for target in sorted(targets):
        if target.startswith(ATTRIBUTE_PREFIX):
            before = attributes.get(target.removeprefix(ATTRIBUTE_PREFIX))
        else:
            before = stored.get(target) if target in _ERASABLE else None
        if before:
            yield Change(target, before, [] if target == "requiredActions" else None)


def _attributes(attributes: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: list(dict.fromkeys(values)) for name, values in attributes.items()}


def _field_differs(name: str, before: Any, after: Any) -> bool:
    if name in _NOT_COMPARED:
        return False
    if name == "emailVerified":
        return bool(after) and not before
    if name == "requiredActions":
        return set(before or []) != set(after)
    return bool(before != after)
