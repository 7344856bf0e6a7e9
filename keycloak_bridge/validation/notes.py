"""What the author of a schema may not have meant: formats and keywords that nobody checks."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from referencing import Registry

from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.documents import SchemaDocument
from keycloak_bridge.validation.subschema import CONTAINERS, REFERENCES, Steps, Subschema, follow

UNKNOWN_FORMAT = "unknown-format"


@dataclass(frozen=True, slots=True)
class SchemaNote:
    """What a schema says without effect: the file, where in it (JSON pointer), a stable code, and why."""

    origin: str
    pointer: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.pointer}: {self.reason}"


def schema_notes(documents: Sequence[SchemaDocument], registry: Registry[Any]) -> list[SchemaNote]:
    """Return the notes on sound `documents`, each once, in the order of the files."""
    found: dict[SchemaNote, None] = {}
    for document in documents:
        root = Subschema.root(document.content, registry)
        for place in follow([root], *CONTAINERS, *REFERENCES):
            if not place.elsewhere:
                for steps, code, reason in _of_place(place):
                    found[SchemaNote(document.origin, place.pointer(*steps), code, reason)] = None
    return list(found)


def _of_place(place: Subschema) -> Iterator[tuple[Steps, str, str]]:
    name = place.get("format", None)
    if name is not None and name not in FORMATS:
        reason = f"'{name}' is not a format that is checked, so it only describes"
        yield ("format",), UNKNOWN_FORMAT, reason + _nearest(name, FORMATS)


def _nearest(name: str, known: Iterable[str]) -> str:
    by_folded = {one.lower(): one for one in known}
    nearest = difflib.get_close_matches(name.lower()[:50], by_folded, n=1, cutoff=0.75)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""
