"""What a new version of a schema changes, in a form that people and programs can read."""

from dataclasses import dataclass

UNPROVEN = "unproven"
PROPERTY_ADDED = "property-added"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: where (JSON pointer into the new schema), a stable code, and what it means.

    A `breaking` one may refuse data that was valid; any other is a note for those who read the data.
    """

    pointer: str
    code: str
    message: str
    breaking: bool = True


CODES = frozenset(
    {
        "additional-properties-closed",
        "any-of-changed",
        "bound-tightened",
        "const-added",
        "const-changed",
        "contains-changed",
        "dependent-required-added",
        "enum-added",
        "enum-value-removed",
        "format-added",
        "format-changed",
        "items-closed",
        "multiple-of-changed",
        "pattern-added",
        "pattern-changed",
        PROPERTY_ADDED,
        "property-removed",
        "required-added",
        "type-changed",
        "type-narrowed",
        "unique-items-added",
        UNPROVEN,
        "value-refused",
        # notes for readers
        "enum-value-added",
        "required-removed",
        "type-widened",
    }
)
"""Every code of a change."""


def breaking(changes: list[Change]) -> list[Change]:
    """Return those of `changes` that may refuse data that was valid."""
    return [change for change in changes if change.breaking]
