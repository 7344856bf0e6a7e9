"""Schema files as they were read, and everything that can be wrong with them.

All of it is found at start, before an event needs a schema: in each place where a schema stands, and in whatever a
reference can reach.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from jsonschema import FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.json_reader import pointer
from keycloak_bridge.domain.patterns import PatternError, compile_pattern
from keycloak_bridge.events.formats import is_uri
from keycloak_bridge.validation.dialects import (
    DIALECTS,
    NEWEST,
    as_written,
    dialect_of,
    id_keyword,
    in_newest,
)
from keycloak_bridge.validation.subschema import (
    CONTAINERS,
    REFERENCES,
    Steps,
    Subschema,
    endless,
    follow,
)
from keycloak_bridge.validation.validator import shortened

_OWN_ID = re.compile(r"urn:keycloak-bridge:schema:([^:]+):([0-9]+)\.([0-9]+)")


def can_be_joined(text: object) -> bool:
    """Say whether a URI, relative or not, can be joined with others; Python refuses some hosts in brackets."""
    try:
        return not isinstance(text, str) or bool(urljoin(urljoin("urn:a", text), text) or True)
    except ValueError:
        return False


def _metaschema(dialect: type[Validator]) -> Validator:
    checker = FormatChecker(formats=())
    checker.checkers = {"uri-reference": (can_be_joined, ())}
    return dialect(dialect.META_SCHEMA, format_checker=checker)


_METASCHEMAS = {name: _metaschema(dialect) for name, dialect in DIALECTS.items()}
_NAME_IT = "or name the draft in $schema"
_OF_OLDER_DRAFTS: Mapping[tuple[Any, type], str] = {
    ("items", list): f"use prefixItems, {_NAME_IT}",
    ("required", bool): "name the required properties in a list beside properties",
    ("exclusiveMinimum", bool): "give the number itself, in place of minimum",
    ("exclusiveMaximum", bool): "give the number itself, in place of maximum",
}


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """A parsed schema file: which type and version it is for, where it came from, and the SHA-256 of its bytes.

    `schema` is what the `content` says in Draft 2020-12.
    """

    type: str
    version: tuple[int, int]
    content: Any
    origin: str
    digest: str = ""
    schema: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", in_newest(self.content))

    def as_written(self, pointer: str) -> str:
        """Return the place in the file of what stands at `pointer` in `schema`."""
        return as_written(self.content, pointer)

    @property
    def id(self) -> str:
        """The schema's `$id`, without an empty fragment."""
        return str(self.content[id_keyword(self.content)]).removesuffix("#")

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


def usable_id(schema_id: object) -> str | None:
    """Return an `$id` without an empty fragment, as drafts before 2019-09 wrote it; None where it is none or relative."""
    plain = schema_id.removesuffix("#") if isinstance(schema_id, str) else ""
    return plain if _is_id(plain) else None


def own_name(schema_id: str) -> tuple[str, tuple[int, int]] | None:
    """Return the type and version that the `$id` of one of the bridge's own schemas says; None for any other."""
    named = _OWN_ID.fullmatch(schema_id.removesuffix("#"))
    return None if named is None else (named[1], (int(named[2]), int(named[3])))


def check_documents(
    documents: Sequence[SchemaDocument], names: Mapping[str, SchemaDocument] | None = None
) -> Registry[Any]:
    """Return the registry of `documents`, in which every reference resolves and which fetches nothing.

    A document is known by its `$id`, and by the `names` that say so.

    Raises ConfigError (code `schema`) with one line for every problem.
    """
    problems = [problem for document in documents for problem in _document_problems(document)]
    if problems:
        raise schema_error(problems)
    problems += _repeated(documents)
    registry: Registry[Any] = Registry().with_resources(
        (name, DRAFT202012.create_resource(document.schema))
        for name, document in (
            *(names or {}).items(),
            *((document.id, document) for document in documents),
        )
    )
    problems += _content_problems(documents, registry)
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
    dialect = dialect_of(content)
    if dialect is None:
        known = " or ".join(DIALECTS)
        yield SchemaProblem(origin, "/$schema", f"names no draft that is read; known: {known}")
        return
    unsound = list(_metaschema_problems(document, dialect, content))
    if not unsound and dialect != NEWEST:
        unsound = list(_metaschema_problems(document, NEWEST, document.schema))
    yield from unsound
    yield from _id_problems(document)


def _metaschema_problems(
    document: SchemaDocument, dialect: str, schema: Any, path: Steps = ()
) -> Iterable[SchemaProblem]:
    """Return each way in which `schema`, which stands at `path` in its file, breaks the metaschema."""
    found: dict[SchemaProblem, None] = {}
    for whole in _METASCHEMAS[dialect].iter_errors(schema):
        for error in [whole] if dialect == NEWEST else _causes(whole):
            where = pointer([*path, *error.absolute_path])
            if dialect == NEWEST:
                where = document.as_written(where)
            reason = _reason(error, is_newest=dialect == NEWEST)
            found[SchemaProblem(document.origin, where, reason)] = None
    return found


def _causes(error: ValidationError) -> Iterator[ValidationError]:
    """Yield what is wrong inside a list of schemas, which older drafts have where one schema may stand; else the error."""
    is_choice = error.validator == "anyOf" and isinstance(error.instance, list)
    inside = [one for one in error.context or () if is_choice and len(one.relative_path)]
    for one in inside:
        yield from _causes(one)
    if not inside:
        yield error


def _reason(error: ValidationError, *, is_newest: bool) -> str:
    keyword = error.absolute_path[-1] if error.absolute_path else None
    of_older = _OF_OLDER_DRAFTS.get((keyword, type(error.instance)))
    if of_older is not None and (is_newest or keyword == "required"):
        return f"is written as in an older draft; {of_older}"
    if error.validator == "format":
        return "must be a URI, or one relative to another"
    return f"is no schema: {shortened(error.message)}"


def _id_problems(document: SchemaDocument) -> Iterator[SchemaProblem]:
    where = f"/{id_keyword(document.content)}"
    schema_id = document.content.get(where[1:])
    if schema_id is None:
        yield SchemaProblem(document.origin, where, "is missing")
        return
    if usable_id(schema_id) is None:
        yield SchemaProblem(
            document.origin, where, "must be a URI with scheme and without fragment"
        )
        return
    if own_name(schema_id) not in (None, (document.type, document.version)):
        yield SchemaProblem(
            document.origin, where, "does not agree with the file's folder and name"
        )


def _is_id(text: str) -> bool:
    return is_uri(text) and "#" not in text and can_be_joined(text)


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


def _content_problems(
    documents: Sequence[SchemaDocument], registry: Registry[Any]
) -> Iterator[SchemaProblem]:
    """Yield what is wrong in every place that is a schema, since it stands where one stands or a reference names it."""
    seen: dict[int, Any] = {}
    named: list[tuple[SchemaDocument, Subschema]] = []
    for document in documents:
        found = follow([Subschema.root(document.schema, registry)], *CONTAINERS)
        yield from _place_problems(document, found)
        seen |= {id(place.schema): place.schema for place in found}
        named += [(document, target) for place in found for target in _named(place)]
    while named:
        document, target = named.pop(0)
        if id(target.schema) in seen:
            continue
        seen[id(target.schema)] = target.schema
        unsound = list(_metaschema_problems(document, NEWEST, target.schema, target.path))
        yield from unsound
        if not unsound:
            found = follow([target], *CONTAINERS)
            yield from _place_problems(document, found)
            seen |= {id(place.schema): place.schema for place in found}
            named += [(document, further) for place in found for further in _named(place)]


def _place_problems(
    document: SchemaDocument, places: Iterable[Subschema]
) -> Iterator[SchemaProblem]:
    for place in places:
        for steps, reason in _keyword_problems(place):
            where = document.as_written(place.pointer(*steps))
            yield SchemaProblem(document.origin, where, reason)


def _named(place: Subschema) -> Iterator[Subschema]:
    """Yield the schemas that the references of `place` name, as far as they can be found."""
    for keyword in REFERENCES:
        if place.get(keyword, None) is not None and _resolves(place, keyword):
            yield place.target(keyword)


def _resolves(place: Subschema, keyword: str) -> bool:
    try:
        place.target(keyword)
    except (Unresolvable, LookupError, TypeError, ValueError):
        return False
    return True


def _endless(
    documents: Sequence[SchemaDocument], registry: Registry[Any]
) -> Iterator[SchemaProblem]:
    """Yield where a schema refers to itself for the same value, once for each document; every reference must resolve."""
    for document in documents:
        root = Subschema.root(document.schema, registry)
        for place in follow([root], *CONTAINERS, *REFERENCES):
            if (found := endless(place)) is not None:
                reason = (
                    "refers to itself without end; put the reference inside a property or an item"
                )
                where = document.as_written(found.pointer())
                yield SchemaProblem(document.origin, where, reason)
                break


def _keyword_problems(place: Subschema) -> Iterator[tuple[Steps, str]]:
    patterns: list[Steps] = [("patternProperties", text) for text in place.get("patternProperties")]
    if place.get("pattern", None) is not None:
        patterns.append(("pattern",))
    for steps in patterns:
        try:
            compile_pattern(place.schema["pattern"] if steps == ("pattern",) else str(steps[1]))
        except PatternError as error:
            yield steps, f"is not a regular expression that can be used: {error}"
    for keyword in REFERENCES:
        if place.get(keyword, None) is not None and not _resolves(place, keyword):
            reference = place.schema[keyword]
            yield (
                (keyword,),
                f"'{shortened(reference)}' names no schema that is known here; nothing is fetched",
            )
