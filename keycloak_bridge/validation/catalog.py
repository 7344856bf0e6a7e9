"""The catalog of schemas: compiled once, asked for every event.

What a JSON Schema says of one property: how long, which values, whether it must be there.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jsonschema.protocols import Validator
from referencing import Registry

from keycloak_bridge.domain.errors import (
    ConfigError,
    EventValidationError,
    UnknownSchemaError,
    Violation,
)
from keycloak_bridge.domain.events import (
    DEAD_LETTER,
    DEAD_LETTER_REPLAYED,
    INVITATION_DUE,
    RESULT,
    CloudEvent,
    UserEvent,
)
from keycloak_bridge.validation.compiled import compile_verdict
from keycloak_bridge.validation.schema_checks import (
    TYPES,
    Path,
    Place,
    SchemaDocument,
    SchemaResolver,
    check_documents,
    has_property,
    parts,
    types_of,
)
from keycloak_bridge.validation.validator import MOST_VIOLATIONS, compile_schema, find_violations

_ALTERNATIVES = ("anyOf", "oneOf", "if", "not", "dependentSchemas", "$dynamicRef")
_SHORT_FORMATS = frozenset(("date", "date-time", "ipv4", "ipv6", "time", "uuid"))
_WIDTH_PART = re.compile(
    r"(?P<one>\\[dDwWsS.+*?^$|/-]|\[(?:\\.|[^\]\\])*\]|[^\\\[\](){}|*+?^$])"
    r"(?P<times>\{(?P<least>[0-9]+)(?P<more>,(?P<most>[0-9]*))?\}|[*+?])?"
)


@dataclass(frozen=True, slots=True)
class PropertyFacts:
    """What holds for every value of a property; `partial` when the schema says more, in alternatives."""

    types: frozenset[str] = TYPES
    required: bool = False
    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    formats: frozenset[str] = frozenset()
    values: tuple[Any, ...] | None = None
    max_items: int | None = None
    item: "PropertyFacts | None" = None
    partial: bool = False

    @property
    def may_be_endless(self) -> bool:
        """Whether nothing in the schema limits the length of a text."""
        if self.max_length is not None or self.values is not None or self.partial:
            return False
        if "string" not in self.types or self.formats & _SHORT_FORMATS:
            return False
        return all(_has_no_end(pattern) for pattern in self.patterns)

    @property
    def longest(self) -> int | None:
        """The greatest length of a text, where it is known."""
        widths = [width for pattern in self.patterns if (width := widest(pattern)) is not None]
        limits = [*widths, *([] if self.max_length is None else [self.max_length])]
        return min(limits, default=None)


def property_facts(schema: Any, path: Path, resolver: SchemaResolver) -> PropertyFacts | None:
    """Return what `schema` says of the property at `path`; None where it does not describe it by name."""
    here = parts([Place(schema, resolver)])
    required, partial = True, False
    for name in path:
        found = [place for place in here if isinstance(place.schema, dict)]
        named = [place for place in found if name in place.schema.get("properties", {})]
        if not named:
            return None
        required = required and any(name in place.schema.get("required", ()) for place in found)
        partial = partial or _has_alternatives(found)
        inner = [place.inside("properties", name) for place in named]
        here = (*parts(inner), *(place for place in inner if place.is_trivial))
    return _facts(here, required=required, partial=partial)


def widest(pattern: str) -> int | None:
    """Return how long a text that matches the whole pattern can be; None where that is unlimited or hard to tell."""
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        return None
    body, position, width = pattern[1:-1], 0, 0
    while position < len(body):
        part = _WIDTH_PART.match(body, position)
        if part is None:
            return None
        most = _most(part)
        if most is None:
            return None
        width += most
        position = part.end()
    return width


def _most(part: re.Match[str]) -> int | None:
    times = part["times"]
    if times is None or times == "?":
        return 1
    if times in ("*", "+"):
        return None
    if part["more"] is None:
        return int(part["least"])
    return int(part["most"]) if part["most"] else None


def _has_no_end(pattern: str) -> bool:
    """Say whether the pattern is one that certainly limits no length; of a complicated one nothing is said."""
    if widest(pattern) is not None:
        return False
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return not anchored or not re.search(r"[(|{\\]", pattern)


def _facts(places: Sequence[Place], *, required: bool, partial: bool) -> PropertyFacts:
    schemas = [place.schema for place in places if isinstance(place.schema, dict)]
    items = [place.inside("items") for place in places if _is_dict_with(place, "items")]
    values = [tuple(one["enum"]) for one in schemas if "enum" in one]
    values += [(one["const"],) for one in schemas if "const" in one]
    return PropertyFacts(
        types=frozenset.intersection(TYPES, *map(types_of, schemas)),
        required=required,
        min_length=max((one.get("minLength", 0) for one in schemas), default=0),
        max_length=_least(schemas, "maxLength"),
        patterns=tuple(one["pattern"] for one in schemas if "pattern" in one),
        formats=frozenset(one["format"] for one in schemas if "format" in one),
        values=min(values, key=len, default=None),
        max_items=_least(schemas, "maxItems"),
        item=_facts(parts(items), required=False, partial=partial) if items else None,
        partial=partial or _has_alternatives(places),
    )


def _least(schemas: Sequence[dict[str, Any]], keyword: str) -> int | None:
    return min((int(one[keyword]) for one in schemas if keyword in one), default=None)


def _has_alternatives(places: Sequence[Place]) -> bool:
    return any(_is_dict_with(place, word) for place in places for word in _ALTERNATIVES)


def _is_dict_with(place: Place, keyword: str) -> bool:
    return isinstance(place.schema, dict) and keyword in place.schema


OWN_MESSAGES = frozenset({RESULT, INVITATION_DUE, DEAD_LETTER, DEAD_LETTER_REPLAYED})
"""Types that the bridge publishes; they have schemas and are no events about a user."""


@dataclass(frozen=True, slots=True)
class SchemaEntry:
    """One schema as `schemas list` shows it."""

    type: str
    version: str
    id: str
    title: str
    origin: str


class SchemaCatalog:
    """Every schema that is known, by type, version and `$id`; immutable, safe to share between threads."""

    def __init__(self, documents: Iterable[SchemaDocument]) -> None:
        """Compile `documents`; raises ConfigError with one line for every problem."""
        self._documents = tuple(sorted(documents, key=lambda d: (d.type, d.version)))
        self._registry: Registry[Any] = check_documents(self._documents)
        self._by_id = {document.id: document for document in self._documents}
        # sorted by version, so the newest of a type is what remains
        self._newest = {document.type: document for document in self._documents}
        self._validators: Mapping[str, Validator] = {
            document.id: compile_schema(document.content, self._registry)
            for document in self._documents
        }
        self._verdicts = {
            document.id: compile_verdict(
                document.content, self._registry.resolver(base_uri=document.id)
            )
            for document in self._documents
        }

    def entries(self) -> tuple[SchemaEntry, ...]:
        """Return every schema, by type and version."""
        return tuple(
            SchemaEntry(
                type=document.type,
                version="{}.{}".format(*document.version),
                id=document.id,
                title=str(document.content.get("title", "")),
                origin=document.origin,
            )
            for document in self._documents
        )

    def document(self, id_or_type: str) -> Mapping[str, Any]:
        """Return the schema with that `$id`, or the newest one of that type; raises UnknownSchemaError."""
        document = self._by_id.get(id_or_type) or self._newest.get(id_or_type)
        if document is None:
            raise _unknown("schema", "there is no such schema", self._by_id)
        content: Mapping[str, Any] = document.content
        return content

    def has_property(self, event_type: str, path: Path, major: int | None = None) -> bool:
        """Say whether any version of the type, or of its `major` version, has a property at `path` below `data`."""
        return any(
            has_property(document.content, path, self._registry.resolver(base_uri=document.id))
            for document in self._documents
            if document.type == event_type and major in (None, document.version[0])
        )

    def property_check(self, event_type: str, major: int | None = None) -> Callable[[Path], bool]:
        """Return `has_property` of one type, the shape in which a mapping asks."""
        return partial(self.has_property, event_type, major=major)

    def property_facts(self, event_type: str, path: Path) -> tuple[PropertyFacts | None, ...]:
        """Return what each version of the type's schema says about the property at `path`, None where it is not named."""
        return tuple(
            property_facts(document.content, path, self._registry.resolver(base_uri=document.id))
            for document in self._documents
            if document.type == event_type
        )

    def schema_id(self, event_type: str, dataschema: str | None = None) -> str:
        """Return the `$id` that data of the type is checked against: `dataschema`, or the newest.

        Raises UnknownSchemaError (`unknown-type`, `unknown-schema`).
        """
        if event_type not in self._newest:
            raise _unknown("type", "the event's type has no schema", self._event_types())
        if dataschema is None:
            return self._newest[event_type].id
        document = self._by_id.get(dataschema)
        if document is None or document.type != event_type:
            known = [one.id for one in self._documents if one.type == event_type]
            raise _unknown("schema", f"dataschema names no schema of {event_type}", known)
        return dataschema

    def violations(
        self, event_type: str, data: Any, dataschema: str | None = None, *, root: str = "/data"
    ) -> tuple[Violation, ...]:
        """Return what `data` breaks of the type's schema, by pointer; pointers begin with `root`.

        Raises UnknownSchemaError, and ConfigError for a schema that refers to itself without end.
        """
        schema_id = self.schema_id(event_type, dataschema)
        return self._violations(schema_id, data, root)

    def _violations(self, schema_id: str, data: Any, root: str) -> tuple[Violation, ...]:
        if self._verdicts[schema_id](data):
            return ()
        try:
            return find_violations(self._validators[schema_id], data, root=root)
        except RecursionError:
            pass
        raise ConfigError(
            f"{self._by_id[schema_id].origin}: the schema refers to itself without end",
            code="schema",
            remedy="let the reference stand inside a property or an item",
        )

    def validate(self, event: CloudEvent) -> UserEvent:
        """Return `event` once its data keeps every rule of its schema.

        Raises UnknownSchemaError (`unknown-type`, `unknown-schema`) or EventValidationError with all violations.
        """
        schema_id = self.schema_id(event.type, event.dataschema)
        violations = self._violations(schema_id, event.data, "/data")
        if not violations and not isinstance(event.data, dict):
            violations = (Violation("/data", "type", "must be an object"),)
        if violations:
            raise _invalid(schema_id, violations)
        return UserEvent(
            id=event.id,
            source=event.source,
            type=event.type,
            subject=event.subject,
            time=event.time,
            schema_id=schema_id,
            data=event.data,
        )

    def _event_types(self) -> list[str]:
        return [name for name in self._newest if name not in OWN_MESSAGES]


def _unknown(what: str, reason: str, known: Iterable[str]) -> UnknownSchemaError:
    names = ", ".join(known) or "none"
    where = {"type": "/type", "schema": "/dataschema"}[what]
    return UnknownSchemaError(
        f"{reason}; known: {names}",
        code=f"unknown-{what}",
        remedy="publish a known one, or add the schema to a folder in schemas.folders",
        violations=(Violation(where, "enum", f"must be one of: {names}"),),
    )


def _invalid(schema_id: str, violations: tuple[Violation, ...]) -> EventValidationError:
    first, count = violations[0], len(violations)
    more = "" if count == 1 else f", and {count - 1} more"
    if count == MOST_VIOLATIONS:
        more = ", and many more"
    return EventValidationError(
        f"the data breaks {schema_id}: {first.pointer} {first.message}{more}",
        remedy="correct the event in user management and publish it again",
        violations=violations,
    )
