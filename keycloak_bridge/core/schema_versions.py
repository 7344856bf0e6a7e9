"""Every version of every schema beside the earlier ones of its major version."""

from collections.abc import Sequence
from dataclasses import dataclass

from keycloak_bridge.core.schema_changes import Change
from keycloak_bridge.core.schema_checks import SchemaDocument, check_documents
from keycloak_bridge.core.schema_compatibility import incompatibilities
from keycloak_bridge.core.schema_notes import reader_notes
from keycloak_bridge.core.schema_places import Place


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `new` changes against `old`, an earlier minor version of the same type."""

    old: SchemaDocument
    new: SchemaDocument
    changes: tuple[Change, ...]

    @property
    def compatible(self) -> bool:
        """Whether `new` takes everything that `old` took."""
        return not any(change.breaking for change in self.changes)


def compare_versions(
    documents: Sequence[SchemaDocument], *, strict: bool = False
) -> tuple[Comparison, ...]:
    """Compare each version with every earlier one of its major version, the nearest first.

    What the comparison with a nearer one tells already is not repeated. Raises ConfigError for unsound schemas.
    """
    registry = check_documents(documents)

    def place(document: SchemaDocument) -> Place:
        return Place(document.content, registry.resolver(base_uri=document.id))

    comparisons: list[Comparison] = []
    ordered = sorted(documents, key=lambda document: (document.type, document.version))
    for new in ordered:
        told: set[Change] = set()
        for old in reversed(ordered):
            if (old.type, old.version[0]) != (new.type, new.version[0]):
                continue
            if old.version >= new.version:
                continue
            changes = [
                *incompatibilities(place(old), place(new), registry, strict=strict),
                *reader_notes(place(old), place(new)),
            ]
            fresh = tuple(change for change in changes if change not in told)
            told.update(fresh)
            comparisons.append(Comparison(old, new, fresh))
    return tuple(comparisons)
