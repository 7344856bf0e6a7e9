"""Everything that can be wrong with schema files, found before an event needs them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.events.formats import FORMATS, is_uri
from keycloak_bridge.events.json_reader import pointer
from keycloak_bridge.validation.subschema import CONTAINERS, REFERENCES, SchemaResolver, Subschema
from keycloak_bridge.validation.validator import compile_pattern

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OWN_ID = re.compile(r"urn:keycloak-bridge:schema:([^:]+):([0-9]+)\.([0-9]+)")
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


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
    waiting = [root]
    while waiting:
        place = waiting.pop(0)
        for step, reason in _keyword_problems(place):
            yield SchemaProblem(origin, place.pointer(*step), reason)
        waiting += place.under(*CONTAINERS)


def _keyword_problems(place: Subschema) -> Iterator[tuple[tuple[str, ...], str]]:
    name = place.get("format", None)
    if name is not None and name not in FORMATS:
        yield ("format",), f"'{name}' is not a format that is checked; known: {', '.join(FORMATS)}"
    patterns = [(("patternProperties", text), text) for text in place.get("patternProperties")]
    if place.get("pattern", None) is not None:
        patterns.append((("pattern",), place.schema["pattern"]))  # type: ignore[arg-type]
    for step, text in patterns:
        if problem := _pattern_problem(text):
            yield step, problem
    for keyword in REFERENCES:
        reference = place.get(keyword, None)
        if reference is not None and not _resolves(place.resolver, reference):
            yield (keyword,), f"'{reference}' names no schema of these folders; nothing is fetched"


def _pattern_problem(text: str) -> str | None:
    try:
        compile_pattern(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression that can be used: {error}"
    return None


def _resolves(resolver: SchemaResolver, ref: str) -> bool:
    try:
        resolver.lookup(ref)
    except (Unresolvable, LookupError, ValueError):
        return False
    return True
