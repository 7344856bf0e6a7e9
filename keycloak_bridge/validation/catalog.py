"""The catalog of schemas: checked and compiled once, then used to validate every event.

Everything that can be wrong with schema files is found at start, before an event needs them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

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
from keycloak_bridge.domain.json_reader import pointer
from keycloak_bridge.events.formats import FORMATS, is_uri
from keycloak_bridge.validation.compiled import compile_verdict
from keycloak_bridge.validation.subschema import (
    CONTAINERS,
    REFERENCES,
    Path,
    PropertyFacts,
    Steps,
    Subschema,
    endless,
    follow,
    has_property,
    property_facts,
    property_types,
)
from keycloak_bridge.validation.validator import (
    MOST_VIOLATIONS,
    NOT_INSIDE_TEXT,
    NOT_NULL,
    compile_pattern,
    compile_schema,
    find_violations,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OWN_ID = re.compile(r"urn:keycloak-bridge:schema:([^:]+):([0-9]+)\.([0-9]+)")
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)
OWN_MESSAGES = frozenset({RESULT, INVITATION_DUE, DEAD_LETTER, DEAD_LETTER_REPLAYED})
"""Types that the bridge publishes; they have schemas and are no events about a user."""


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """A parsed schema file: which type and version it is for, where it came from, and the SHA-256 of its bytes."""

    type: str
    version: tuple[int, int]
    content: Any
    origin: str
    digest: str = ""

    @property
    def id(self) -> str:
        """The schema's `$id`."""
        return str(self.content["$id"])

    @property
    def number(self) -> str:
        """The version as it is written, such as `1.0`."""
        return "{}.{}".format(*self.version)

    @property
    def name(self) -> str:
        """The name under which the version is recorded when it is published, `<type>/<major>.<minor>.json`."""
        return f"{self.type}/{self.number}.json"


class SchemaCatalog:
    """Every known schema by type, version and `$id`, `documents` in that order; immutable, safe to share between threads."""

    def __init__(self, documents: Iterable[SchemaDocument]) -> None:
        """Compile `documents`; raises ConfigError with one line for every problem."""
        self.documents = tuple(sorted(documents, key=lambda d: (d.type, d.version)))
        registry: Registry[Any] = check_documents(self.documents)
        self._by_id = {document.id: document for document in self.documents}
        # sorted by version, so the newest of a type is what remains
        self._newest = {document.type: document for document in self.documents}
        self._validators: Mapping[str, Validator] = {
            document.id: compile_schema(document.content, registry) for document in self.documents
        }
        self._roots = {
            document.id: Subschema.root(document.content, registry) for document in self.documents
        }
        self._verdicts = {name: compile_verdict(root) for name, root in self._roots.items()}

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
            has_property(self._roots[document.id], path)
            for document in self.documents
            if document.type == event_type and major in (None, document.version[0])
        )

    def property_types(
        self, event_type: str, path: Path, major: int | None = None
    ) -> frozenset[str] | None:
        """Return the JMESPath types that the versions leave the property at `path`; None for all, or where no version has it."""
        found = [
            property_types(self._roots[document.id], path)
            for document in self.documents
            if document.type == event_type and major in (None, document.version[0])
        ]
        named = [types for types in found if types != frozenset()]
        known = [types for types in named if types is not None]
        if not known or len(known) < len(named):
            return None
        return frozenset().union(*known)

    def property_facts(self, event_type: str, path: Path) -> tuple[PropertyFacts | None, ...]:
        """Return what each version of the type's schema says about the property at `path`, None where it is not named."""
        return tuple(
            property_facts(self._roots[document.id], path)
            for document in self.documents
            if document.type == event_type
        )

    def schema_id(self, event_type: str, dataschema: str | None = None) -> str:
        """Return the `$id` that data of the type is checked against: `dataschema`, or the newest.

        Raises UnknownSchemaError (`unknown-type`, `unknown-schema`).
        """
        if event_type not in self._newest:
            known = [name for name in self._newest if name not in OWN_MESSAGES]
            raise _unknown("type", "the event's type has no schema", known)
        if dataschema is None:
            return self._newest[event_type].id
        document = self._by_id.get(dataschema)
        if document is None or document.type != event_type:
            known = [one.id for one in self.documents if one.type == event_type]
            raise _unknown("schema", f"dataschema names no schema of {event_type}", known)
        return dataschema

    def violations(
        self, event_type: str, data: Any, dataschema: str | None = None, *, root: str = "/data"
    ) -> tuple[Violation, ...]:
        """Return what `data` breaks of the type's schema, by pointer; pointers begin with `root`.

        Raises UnknownSchemaError.
        """
        schema_id = self.schema_id(event_type, dataschema)
        return self._violations(schema_id, data, root)

    def _violations(self, schema_id: str, data: Any, root: str) -> tuple[Violation, ...]:
        if self._verdicts[schema_id](data):
            return ()
        return find_violations(self._validators[schema_id], data, root=root)

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
    remedy = "correct the event in user management and publish it again"
    for mistake, correction in _MISTAKES.items():
        if any(violation.message.endswith(mistake) for violation in violations):
            remedy = correction
    return EventValidationError(
        f"the data breaks {schema_id}: {first.pointer} {first.message}{more}",
        remedy=remedy,
        violations=violations,
    )


_MISTAKES = {
    NOT_NULL: 'leave out what has no value, or set events.nulls = "absent" if the producer cannot',
    NOT_INSIDE_TEXT: "let the producer serialize once, or read the text with from_json() in [envelope]",
}
"""What to do about the mistakes of serializers, by the end of a violation's message."""


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """What is wrong with a schema file, and where in it (JSON pointer)."""

    origin: str
    pointer: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.origin}: {self.pointer}" if self.pointer else self.origin
        return f"{where}: {self.reason}"


def schema_error(problems: Sequence[SchemaProblem], *, also: str = "") -> ConfigError:
    """Return one error with a line for each problem, and the lines `also` behind them."""
    return ConfigError(
        "\n".join([*map(str, problems), *also.splitlines()]),
        code="schema",
        remedy="correct the schema files, or take their folder out of schemas.folders",
    )


def check_documents(documents: Sequence[SchemaDocument]) -> Registry[Any]:
    """Return the registry of `documents`, in which every reference resolves and which fetches nothing.

    Raises ConfigError (code `schema`) with one line for every problem.
    """
    problems = [problem for document in documents for problem in _document_problems(document)]
    if problems:
        raise schema_error(problems)
    problems += _repeated(documents)
    registry: Registry[Any] = Registry().with_resources(
        (document.id, DRAFT202012.create_resource(document.content)) for document in documents
    )
    for document in documents:
        problems += _content_problems(document.origin, Subschema.root(document.content, registry))
    if not problems:
        problems += _endless(documents, registry)
    if problems:
        raise schema_error(problems)
    return registry.crawl()


def _document_problems(document: SchemaDocument) -> Iterator[SchemaProblem]:
    content, origin = document.content, document.origin
    if not isinstance(content, dict):
        yield SchemaProblem(origin, "", "must be a JSON object")
        return
    if content.get("$schema", DIALECT) != DIALECT:
        yield SchemaProblem(origin, "/$schema", f"must be {DIALECT}, the one supported draft")
        return
    for error in _METASCHEMA.iter_errors(content):
        yield SchemaProblem(origin, pointer(error.absolute_path), f"is no schema: {error.message}")
    yield from _id_problems(document)


def _id_problems(document: SchemaDocument) -> Iterator[SchemaProblem]:
    schema_id = document.content.get("$id")
    if schema_id is None:
        yield SchemaProblem(document.origin, "/$id", "is missing")
        return
    if not isinstance(schema_id, str) or not is_uri(schema_id) or "#" in schema_id:
        yield SchemaProblem(
            document.origin, "/$id", "must be a URI with scheme and without fragment"
        )
        return
    named = _OWN_ID.fullmatch(schema_id)
    if named and (named[1], int(named[2]), int(named[3])) != (document.type, *document.version):
        yield SchemaProblem(
            document.origin, "/$id", "does not agree with the file's folder and name"
        )


def _repeated(documents: Sequence[SchemaDocument]) -> Iterator[SchemaProblem]:
    by_id: dict[str, str] = {}
    by_version: dict[tuple[str, tuple[int, int]], str] = {}
    for document in documents:
        other = by_id.setdefault(document.id, document.origin)
        if other != document.origin:
            yield SchemaProblem(document.origin, "/$id", f"is taken by {other}")
        version = (document.type, document.version)
        twin = by_version.setdefault(version, document.origin)
        if twin not in (document.origin, other):
            yield SchemaProblem(document.origin, "", f"has the type and version of {twin}")


def _content_problems(origin: str, root: Subschema) -> Iterator[SchemaProblem]:
    for place in follow([root], *CONTAINERS):
        for steps, reason in _keyword_problems(place):
            yield SchemaProblem(origin, place.pointer(*steps), reason)


def _endless(
    documents: Sequence[SchemaDocument], registry: Registry[Any]
) -> Iterator[SchemaProblem]:
    """Yield where a schema refers to itself for the same value, once for each document; every reference must resolve."""
    for document in documents:
        for place in follow([Subschema.root(document.content, registry)], *CONTAINERS):
            if (found := endless(place)) is not None:
                reason = (
                    "refers to itself without end; put the reference inside a property or an item"
                )
                yield SchemaProblem(document.origin, found.pointer(), reason)
                break


def _keyword_problems(place: Subschema) -> Iterator[tuple[Steps, str]]:
    name = place.get("format", None)
    if name is not None and name not in FORMATS:
        yield ("format",), f"'{name}' is not a format that is checked; known: {', '.join(FORMATS)}"
    patterns: list[Steps] = [("patternProperties", text) for text in place.get("patternProperties")]
    if place.get("pattern", None) is not None:
        patterns.append(("pattern",))
    for steps in patterns:
        try:
            compile_pattern(place.schema["pattern"] if steps == ("pattern",) else str(steps[1]))
        except (re.error, OverflowError, RecursionError) as error:
            yield steps, f"is not a regular expression that can be used: {error}"
    for keyword in REFERENCES:
        reference = place.get(keyword, None)
        try:
            if reference is not None:
                place.resolver.lookup(reference)
        except (Unresolvable, LookupError, ValueError):
            yield (
                (keyword,),
                f"'{reference}' names no schema of these folders; nothing is fetched",
            )
