"""Which targets of a mapping an event speaks of.

A complete event speaks of everything. A partial one speaks of a target when its data have any of the properties that the
target's expressions read; a property that is there and null counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.core.errors import MappingError, Violation
from keycloak_bridge.core.expression_analysis import Path
from keycloak_bridge.core.expressions import Expression
from keycloak_bridge.core.mapping_rules import escaped
from keycloak_bridge.core.model import USER_CREATED, USER_UPDATED, UserEvent


def is_partial(event: UserEvent) -> bool:
    """Say whether the event tells only what changed: a `user.updated` whose data do not say `"complete": true`."""
    return event.type == USER_UPDATED and event.data.get("complete") is not True


def says_everything(event: UserEvent) -> bool:
    """Say whether what the event leaves out is not so; other types name the user and hardly anything else."""
    return event.type == USER_CREATED or (event.type == USER_UPDATED and not is_partial(event))


def is_present(data: Mapping[str, Any], path: Path) -> bool:
    """Say whether `data` say anything about the property at `path`.

    They do when it is there, or when something above it is there and is no object: null for the whole is null for its
    parts, and a list is given with all that its elements hold.
    """
    here: Any = data
    for name in path:
        if not isinstance(here, Mapping):
            return True
        if name not in here:
            return False
        here = here[name]
    return True


def properties_read(expressions: Iterable[Expression]) -> frozenset[Path]:
    """Return the properties of the data that decide what the expressions give, without those that only lead to others."""
    paths = frozenset().union(*(one.data_paths for one in expressions))
    above = {path[:length] for path in paths for length in range(1, len(path))}
    return paths - above


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an event with these data speaks of; `partial` as `is_partial` says."""

    data: Mapping[str, Any]
    partial: bool

    def of(self, pointer: str, *expressions: Expression) -> bool:
        """Say whether the event speaks of the target at `pointer`, made by `expressions`.

        Raises MappingError (`incomplete-update`) where it has some of their properties and lacks others.
        """
        if not self.partial:
            return True
        if not self.of_any(*expressions):
            return False
        properties = properties_read(expressions)
        absent = sorted(path for path in properties if not is_present(self.data, path))
        if absent:
            raise _incomplete(pointer, properties, absent)
        return True

    def of_any(self, *expressions: Expression) -> bool:
        """Say whether the event has any property that the expressions read, or is complete."""
        if not self.partial:
            return True
        return any(is_present(self.data, path) for path in properties_read(expressions))


def has_all(data: Mapping[str, Any], expression: Expression) -> bool:
    """Say whether `data` have every property that the expression reads."""
    return all(is_present(data, path) for path in properties_read((expression,)))


def _incomplete(pointer: str, properties: Iterable[Path], absent: Iterable[Path]) -> MappingError:
    together = ", ".join("data." + ".".join(path) for path in sorted(properties))
    return MappingError(
        f"the event changes only a part of what {pointer} is made of",
        code="incomplete-update",
        remedy=f"the producer must send these together: {together}; or send a complete event",
        violations=[
            Violation(
                "/".join(("/data", *map(escaped, path))), "required", f"is needed to set {pointer}"
            )
            for path in absent
        ],
    )
