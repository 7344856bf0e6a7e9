"""Whether data keep their schema, said quickly: the schema as plain functions, made once.

Most events are valid, and of those nothing more is asked. What is broken is told by `violations`, which alone decides
what must be refused: these functions only spare it the events that it would find nothing in. They know the keywords
whose meaning is plain, with the bridge's own formats and patterns, and leave all others to it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keycloak_bridge.core.schema_walk import SchemaResolver, inner_resolver
from keycloak_bridge.core.verdict_tests import (
    OF_LISTS,
    OF_NUMBERS,
    OF_OBJECTS,
    OF_OTHERS,
    OF_TEXTS,
    Schema,
    Test,
    UndecidedError,
    UnknownError,
    all_of,
    any_of,
    contains_test,
    dependents_test,
    items_test,
    members_test,
    names_test,
    none_of,
    one_of,
    other_members_test,
    value_tests,
)
from keycloak_bridge.core.violations import ASSERTING


def compile_verdict(schema: Any, resolver: SchemaResolver) -> Callable[[Any], bool | None]:
    """Return what says whether a value that `parse_json` gave is valid; None where that is not for it to say.

    `resolver` finds what the references of `schema` name. The verdict is safe to share between threads.
    """
    try:
        test = _Compiler().test(schema, resolver)
    except (UnknownError, RecursionError):
        return lambda _: None

    def verdict(value: Any) -> bool | None:
        try:
            return test(value)
        except (UndecidedError, RecursionError):
            return None

    return verdict


class _Compiler:
    """Makes the tests of one schema; schemas that refer to themselves are made once."""

    def __init__(self) -> None:
        self._referred: dict[int, list[Test]] = {}

    def test(self, schema: Any, resolver: SchemaResolver) -> Test:
        """Return the test of a schema in which references are found by `resolver`."""
        if isinstance(schema, bool):
            return lambda _: schema
        if not _KEYWORDS.issuperset(ASSERTING.intersection(schema)):
            raise UnknownError
        tests = [*value_tests(schema), *self._of_parts(schema, resolver)]
        tests += self._of_combinations(schema, resolver)
        return all_of(tests)

    def _inner(self, schema: Any, resolver: SchemaResolver) -> Test:
        if isinstance(schema, dict) and "$id" in schema:
            raise UnknownError  # references inside are relative to another place
        return self.test(schema, inner_resolver(resolver, schema))

    def _inners(self, schemas: Iterable[Any], resolver: SchemaResolver) -> list[Test]:
        return [self._inner(one, resolver) for one in schemas]

    def _named(self, schemas: Mapping[str, Any], resolver: SchemaResolver) -> dict[str, Test]:
        return {name: self._inner(one, resolver) for name, one in schemas.items()}

    def _of_parts(self, schema: Schema, resolver: SchemaResolver) -> Iterable[Test]:
        if not OF_OBJECTS.isdisjoint(schema):
            yield members_test(schema, self._named(schema.get("properties", {}), resolver))
        if not OF_OTHERS.isdisjoint(schema):
            patterns = self._named(schema.get("patternProperties", {}), resolver)
            others = self._inner(schema.get("additionalProperties", True), resolver)
            yield other_members_test(frozenset(schema.get("properties", ())), patterns, others)
        if "propertyNames" in schema:
            yield names_test(self._inner(schema["propertyNames"], resolver))
        if "dependentSchemas" in schema:
            yield dependents_test(self._named(schema["dependentSchemas"], resolver))
        if not OF_LISTS.isdisjoint(schema):
            first = self._inners(schema.get("prefixItems", ()), resolver)
            yield items_test(schema, first, self._inner(schema.get("items", True), resolver))
        if "contains" in schema:
            yield contains_test(schema, self._inner(schema["contains"], resolver))

    def _of_combinations(self, schema: Schema, resolver: SchemaResolver) -> Iterable[Test]:
        if "$ref" in schema:
            yield self._reference(schema["$ref"], resolver)
        if "allOf" in schema:
            yield from self._inners(schema["allOf"], resolver)
        if "anyOf" in schema:
            yield any_of(self._inners(schema["anyOf"], resolver))
        if "oneOf" in schema:
            yield one_of(self._inners(schema["oneOf"], resolver))
        if "not" in schema:
            yield none_of(self._inner(schema["not"], resolver))
        if "if" in schema:
            condition, then, otherwise = (
                self._inner(schema.get(name, True), resolver) for name in ("if", "then", "else")
            )
            yield lambda value: then(value) if condition(value) else otherwise(value)

    def _reference(self, name: str, resolver: SchemaResolver) -> Test:
        target = resolver.lookup(name)
        if id(target.contents) not in self._referred:
            made = self._referred[id(target.contents)] = []
            made.append(self.test(target.contents, target.resolver))
        return _later(self._referred[id(target.contents)])


def _later(made: list[Test]) -> Test:
    """Return the test that will stand in `made` once the schema around it is done."""

    def test(value: Any) -> bool:
        return made[0](value)

    return test


_KEYWORDS = (
    OF_TEXTS
    | OF_NUMBERS
    | OF_OBJECTS
    | OF_OTHERS
    | OF_LISTS
    | {"type", "enum", "const", "propertyNames", "dependentSchemas"}
    | {"contains", "minContains", "maxContains"}
    | {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
)
"""The keywords that are known here; a schema with any other that can refuse a value is left to the library."""
