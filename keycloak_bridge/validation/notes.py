"""What the author of a schema may not have meant: formats and keywords that nobody checks."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from referencing import Registry

from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.dialects import NEWEST, dialect_of
from keycloak_bridge.validation.documents import SchemaDocument, SchemaProblem, schema_error
from keycloak_bridge.validation.subschema import CONTAINERS, REFERENCES, Steps, Subschema, follow

UNKNOWN_FORMAT = "unknown-format"
UNKNOWN_KEYWORD = "unknown-keyword"

_KEYWORDS = frozenset(
    {
        *("$id", "$schema", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary"),
        *("$comment", "$defs", "title", "description", "default", "deprecated", "readOnly"),
        *("writeOnly", "examples", "type", "const", "enum", "format", "pattern", "minLength"),
        *("maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("items", "prefixItems", "contains", "minContains", "maxContains", "minItems", "maxItems"),
        *("uniqueItems", "unevaluatedItems", "properties", "patternProperties", "required"),
        *("additionalProperties", "propertyNames", "minProperties", "maxProperties"),
        *("unevaluatedProperties", "dependentRequired", "dependentSchemas", "contentEncoding"),
        *("contentMediaType", "contentSchema", "allOf", "anyOf", "oneOf", "not", "if", "then"),
        "else",
    }
)
"""Every keyword of Draft 2020-12."""

_ELSEWHERE = {
    "$recursiveAnchor": "use $dynamicAnchor",
    "$recursiveRef": "use $dynamicRef",
    "additionalItems": "use prefixItems for the first items and items for all others",
    "definitions": "use $defs; references into it work all the same",
    "dependencies": "use dependentRequired or dependentSchemas",
    "disallow": "use not",
    "discriminator": "use oneOf",
    "divisibleBy": "use multipleOf",
    "example": "use examples, a list",
    "extends": "use allOf",
    "id": "use $id",
    "nullable": 'add "null" to the list of type',
    **dict.fromkeys(
        ("openapi", "swagger", "asyncapi"),
        'name one of the file\'s schemas by $ref, as in "#/components/schemas/User"',
    ),
}
"""Keywords of other drafts and of OpenAPI, and what to do instead."""


@dataclass(frozen=True, slots=True)
class SchemaNote:
    """What a schema says without effect: the file, where in it (JSON pointer), a stable code, and why."""

    origin: str
    pointer: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.pointer}: {self.reason}"


def refuse_unknown_formats(notes: Iterable[SchemaNote]) -> None:
    """Raise ConfigError (code `schema`) with a line for each unknown format among `notes`."""
    found = [
        SchemaProblem(note.origin, note.pointer, note.reason)
        for note in notes
        if note.code == UNKNOWN_FORMAT
    ]
    if found:
        raise schema_error(found)


def schema_notes(documents: Sequence[SchemaDocument], registry: Registry[Any]) -> list[SchemaNote]:
    """Return the notes on sound `documents`, each once, in the order of the files."""
    found: dict[SchemaNote, None] = {}
    for document in documents:
        is_newest = dialect_of(document.content) == NEWEST
        root = Subschema.root(document.schema, registry)
        for place in follow([root], *CONTAINERS, *REFERENCES):
            if not place.elsewhere:
                for steps, code, reason in _of_place(place):
                    where = document.as_written(place.pointer(*steps))
                    if is_newest or steps != ("definitions",):
                        found[SchemaNote(document.origin, where, code, reason)] = None
    return list(found)


def _of_place(place: Subschema) -> Iterator[tuple[Steps, str, str]]:
    name = place.get("format", None)
    if name is not None and name not in FORMATS:
        reason = f"'{name}' is not a format that is checked, so it only describes"
        yield ("format",), UNKNOWN_FORMAT, reason + _nearest(name, FORMATS)
    for word in place.schema if isinstance(place.schema, dict) else ():
        if (why := _of_keyword(word)) is not None:
            yield (word,), UNKNOWN_KEYWORD, why


def _of_keyword(word: str) -> str | None:
    """Return what is to be noted of a keyword; what resembles no keyword is taken for an annotation of somebody's own."""
    if word in _KEYWORDS or word.startswith("x-"):
        return None
    if word in _ELSEWHERE:
        return f"is no keyword of Draft 2020-12, so it checks nothing; {_ELSEWHERE[word]}"
    nearest = _nearest(word, _KEYWORDS)
    return f"is no keyword and has no effect{nearest}" if nearest else None


def _nearest(name: str, known: Iterable[str]) -> str:
    by_folded = {one.lower(): one for one in known}
    nearest = difflib.get_close_matches(name.lower()[:50], by_folded, n=1, cutoff=0.8)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""
