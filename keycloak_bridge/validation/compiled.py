"""A fast check whether data is valid: a schema compiled to plain functions.

Most events are valid and need nothing more. Only `find_violations`, which uses the jsonschema library, decides what is
refused: these functions save it the events in which it would find nothing. They know the common keywords, with the
bridge's own formats and patterns, and leave all others to the library. A keyword means what it means there, for values
that `parse_json` returns: 1.0 is a whole number, true is not 1, lengths count characters, and a keyword accepts every
value of a type that it is not about.
"""

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

from keycloak_bridge.domain.patterns import compile_pattern
from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.subschema import Subschema
from keycloak_bridge.validation.validator import are_unique, is_multiple

Test = Callable[[Any], bool]
Schema = Mapping[str, Any]

_OF_TEXTS = frozenset({"minLength", "maxLength", "pattern", "format"})
_OF_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})  # fmt: skip
_OF_OBJECTS = frozenset({"required", "properties", "minProperties", "maxProperties", "dependentRequired"})  # fmt: skip
_OF_OTHER_PROPERTIES = frozenset({"patternProperties", "additionalProperties"})
_OF_LISTS = frozenset({"prefixItems", "items", "minItems", "maxItems", "uniqueItems"})
_KNOWN = (
    _OF_TEXTS
    | _OF_NUMBERS
    | _OF_OBJECTS
    | _OF_OTHER_PROPERTIES
    | _OF_LISTS
    | {"type", "enum", "const", "propertyNames", "dependentSchemas"}
    | {"contains", "minContains", "maxContains"}
    | {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
)
"""A schema with any other keyword that can refuse a value is left to the library."""


class _UnknownError(Exception):
    """The schema uses a keyword whose meaning is left to the library."""


def compile_verdict(schema: Subschema) -> Callable[[Any], bool | None]:
    """Return a function that says whether a value that `parse_json` gave is valid; None where it cannot say.

    The function is safe to share between threads.
    """
    try:
        first = _Compiled(schema)
    except (_UnknownError, RecursionError):
        return lambda _: None
    test = first.test

    def verdict(value: Any) -> bool | None:
        try:
            return test(value)
        except RecursionError:
            return None

    def verdict_of_nested(value: Any) -> bool | None:
        try:
            compiled = idle.pop()
        except IndexError:  # other threads use them all
            compiled = _Compiled(schema)
        try:
            return compiled.test(value)
        except RecursionError:
            return None
        finally:
            compiled.forget()
            idle.append(compiled)

    idle = [first]
    return verdict_of_nested if first.remembers else verdict


class _Compiled:
    """The test of one schema. Where the schema refers to itself, it remembers the values of one validation, for one thread."""

    def __init__(self, schema: Subschema) -> None:
        compiler = _Compiler()
        self.test = compiler.test(schema)
        self._verdicts = list(compiler.verdicts.values())
        self.remembers = bool(self._verdicts)

    def forget(self) -> None:
        """Drop what was remembered: the next value may stand where one of these stood in memory."""
        for verdicts in self._verdicts:
            verdicts.clear()


class _Compiler:
    """Makes the tests of one schema; schemas that refer to themselves are compiled once."""

    def __init__(self) -> None:
        self._referred: dict[int, list[Test]] = {}
        self.verdicts: dict[int, dict[int, bool]] = {}
        """Of each schema that refers to itself: what it says of a value, by the value's identity."""

    def test(self, place: Subschema) -> Test:
        schema = place.schema
        if isinstance(schema, bool):
            return lambda _: schema
        if not _KNOWN.issuperset(place.asserting()):
            raise _UnknownError
        return _all_of([*_of_value(schema), *self._of_parts(place), *self._combined(place)])

    def _inner(self, place: Subschema, *steps: str | int) -> Test:
        inner = place.inside(*steps)
        if inner.get("$id", None) is not None:
            raise _UnknownError  # references inside are relative to another place
        return self.test(inner)

    def _optional(self, place: Subschema, keyword: str) -> Test:
        return self._inner(place, keyword) if keyword in place.schema else lambda _: True

    def _list(self, place: Subschema, keyword: str) -> list[Test]:
        return [self._inner(place, keyword, index) for index in range(len(place.get(keyword)))]

    def _named(self, place: Subschema, keyword: str) -> dict[str, Test]:
        return {name: self._inner(place, keyword, name) for name in place.get(keyword)}

    def _of_parts(self, place: Subschema) -> Iterator[Test]:
        schema = place.schema
        if not _OF_OBJECTS.isdisjoint(schema):
            yield _properties(schema, self._named(place, "properties"))
        if not _OF_OTHER_PROPERTIES.isdisjoint(schema):
            patterns = self._named(place, "patternProperties")
            others = self._optional(place, "additionalProperties")
            yield _other_properties(frozenset(place.get("properties")), patterns, others)
        if "propertyNames" in schema:
            of_name = self._inner(place, "propertyNames")
            yield lambda value: not isinstance(value, dict) or all(map(of_name, value))
        if "dependentSchemas" in schema:
            dependents = self._named(place, "dependentSchemas")
            yield (
                lambda value: (
                    not isinstance(value, dict)
                    or all(name not in value or test(value) for name, test in dependents.items())
                )
            )
        if not _OF_LISTS.isdisjoint(schema):
            yield _items(schema, self._list(place, "prefixItems"), self._optional(place, "items"))
        if "contains" in schema:
            yield _contains(schema, self._inner(place, "contains"))

    def _combined(self, place: Subschema) -> Iterator[Test]:
        schema = place.schema
        if "$ref" in schema:
            yield self._reference(place.target())
        if "allOf" in schema:
            yield from self._list(place, "allOf")
        if "anyOf" in schema:
            yield _any_of(self._list(place, "anyOf"))
        if "oneOf" in schema:
            yield _one_of(self._list(place, "oneOf"))
        if "not" in schema:
            excluded = self._inner(place, "not")
            yield lambda value: not excluded(value)
        if "if" in schema:
            condition, then, otherwise = (
                self._optional(place, name) for name in ("if", "then", "else")
            )
            yield lambda value: then(value) if condition(value) else otherwise(value)

    def _reference(self, target: Subschema) -> Test:
        of_schema = id(target.schema)
        made = self._referred.get(of_schema)
        if made is None:
            made = self._referred[of_schema] = []
            made.append(self.test(target))
        if made:
            return made[0]
        # inside the schema itself: the ways to a value double with each level that it nests
        verdicts = self.verdicts.setdefault(of_schema, {})

        def test(value: Any) -> bool:
            if not isinstance(value, list | dict):
                return made[0](value)
            fits = verdicts.get(id(value))
            if fits is None:
                fits = verdicts[id(value)] = made[0](value)
            return fits

        return test


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:  # a type and a rule for it, as most schemas are
        first, second = tests
        return lambda value: first(value) and second(value)
    return lambda value: all(test(value) for test in tests)


def _any_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _one_of(tests: list[Test]) -> Test:
    def test(value: Any) -> bool:
        fitting = False
        for of_form in tests:
            if of_form(value):
                if fitting:
                    return False
                fitting = True
        return fitting

    return test


def _of_value(schema: Schema) -> Iterator[Test]:
    """Yield the tests of the keywords that look at the value itself."""
    if "type" in schema:
        types = schema["type"]
        yield _any_of([_TYPES[one] for one in ([types] if isinstance(types, str) else types)])
    if not _OF_TEXTS.isdisjoint(schema):
        yield _text(schema)
    if not _OF_NUMBERS.isdisjoint(schema):
        yield _number(schema)
    if "enum" in schema:
        yield _equals(schema["enum"])
    if "const" in schema:
        yield _equals([schema["const"]])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Test] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "null": lambda value: value is None,
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}


def _text(schema: Schema) -> Test:
    least, most = schema.get("minLength", 0), schema.get("maxLength", inf)
    more: list[Test] = []
    if "pattern" in schema:
        more.append(compile_pattern(schema["pattern"]).is_in)
    if schema.get("format") in FORMATS:
        more.append(FORMATS[schema["format"]][0])
    rest = _all_of(more) if more else None

    def test(value: Any) -> bool:
        if not isinstance(value, str):
            return True
        return least <= len(value) <= most and (rest is None or rest(value))

    return test


def _number(schema: Schema) -> Test:
    least, most = schema.get("minimum", -inf), schema.get("maximum", inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf", 1)

    def test(value: Any) -> bool:
        if not _is_number(value):
            return True
        if "multipleOf" in schema and not is_multiple(value, step):
            return False
        inside = (above is None or value > above) and (below is None or value < below)
        return bool(inside and least <= value <= most)

    return test


def _equals(allowed: list[Any]) -> Test:
    """Return the test for one of the scalars in `allowed`, where true is not 1, but 1 is 1.0."""
    if any(isinstance(one, list | dict) for one in allowed):
        raise _UnknownError
    numbers = [one for one in allowed if _is_number(one)]
    others = frozenset(one for one in allowed if not _is_number(one))  # texts, true, false, null

    def test(value: Any) -> bool:
        if _is_number(value):
            return value in numbers
        return not isinstance(value, list | dict) and value in others

    return test


def _properties(schema: Schema, named: Mapping[str, Test]) -> Test:
    required = frozenset(schema.get("required", ()))
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", inf)
    dependents = {
        name: frozenset(others) for name, others in schema.get("dependentRequired", {}).items()
    }
    find = named.get

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        if not (least <= len(value) <= most and value.keys() >= required):
            return False
        for name, item in value.items():
            of_it = find(name)
            if of_it is not None and not of_it(item):
                return False
        return not dependents or all(
            name not in value or value.keys() >= others for name, others in dependents.items()
        )

    return test


def _other_properties(named: frozenset[str], patterns: Mapping[str, Test], others: Test) -> Test:
    """Return the test of the properties that match `patterns`, and of the `others` that nothing names."""
    found = [(compile_pattern(pattern).is_in, test) for pattern, test in patterns.items()]

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        for name, item in value.items():
            matching = [of_it for is_in, of_it in found if is_in(name)]
            if not (matching or name in named):
                matching = [others]
            if not all(of_it(item) for of_it in matching):
                return False
        return True

    return test


def _items(schema: Schema, first: list[Test], others: Test) -> Test:
    least, most = schema.get("minItems", 0), schema.get("maxItems", inf)
    unique = schema.get("uniqueItems", False)

    def test(value: Any) -> bool:
        if not isinstance(value, list):
            return True
        return (
            least <= len(value) <= most
            and (not unique or are_unique(value))
            and all(of_it(item) for of_it, item in zip(first, value, strict=False))
            and all(others(item) for item in value[len(first) :])
        )

    return test


def _contains(schema: Schema, of_item: Test) -> Test:
    least, most = schema.get("minContains", 1), schema.get("maxContains", inf)

    def test(value: Any) -> bool:
        if not isinstance(value, list):
            return True
        return bool(least <= [of_item(item) for item in value].count(True) <= most)

    return test
