"""The fast check and the library agree on every schema and value that the fast check decides."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from schema_cases import VALUES, version_pairs

from keycloak_bridge.app.schema_files import load_documents, load_schemas
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.validation.compiled import compile_verdict
from keycloak_bridge.validation.documents import SchemaDocument, check_documents
from keycloak_bridge.validation.subschema import Subschema
from keycloak_bridge.validation.validator import compile_schema

SUITE = gzip.decompress(Path(__file__).with_name("json-schema-suite-2020-12.json.gz").read_bytes())
SUITE_SHA256 = "676649b5daf708bd4e1e55d76b31c17c130926ff6da3b5b18e26fe0c0a1dc6d0"
SHIPPED = load_documents()
REGISTRY = check_documents(SHIPPED)
BOTH = {
    one.id: (
        compile_verdict(Subschema.root(one.content, REGISTRY)),
        compile_schema(one.content, REGISTRY),
    )
    for one in SHIPPED
}
CATALOG = load_schemas()


class Verdicts(NamedTuple):
    """What both say of one value, the fast one first; None where it does not decide, or a schema refers to itself without end."""

    quick: bool | None
    slow: bool | None


def verdicts(schema: Any, *values: Any) -> list[Verdicts]:
    """Return what both say of `values`; the schema must be one that a catalog takes."""
    resource = DRAFT202012.create_resource(schema)
    registry: Registry[Any] = Registry().with_resource("urn:test", resource).crawl()
    quick = compile_verdict(Subschema(schema, registry.resolver_with_root(resource)))
    slow = compile_schema(schema, registry)
    return [Verdicts(quick(value), slow_verdict(slow, value)) for value in values]


def slow_verdict(validator: Validator, value: Any) -> bool | None:
    try:
        return validator.is_valid(value)
    except RecursionError:
        return None


def disagreements(found: list[Verdicts]) -> list[Verdicts]:
    return [one for one in found if None not in one and one.quick is not one.slow]


def is_admitted(schema: Any) -> bool:
    """Say whether a catalog takes the schema, but for its lack of an id."""
    if not isinstance(schema, dict):
        return False
    content = {"$id": "urn:test", **schema}
    try:
        check_documents([SchemaDocument("user.created", (1, 0), content, "1.0.json")])
    except ConfigError:
        return False
    return True


def suite() -> Iterator[tuple[str, bool, Verdicts]]:
    """Yield each case of the official suite whose schema a catalog takes: what it is, its answer, and what both say."""
    for name, groups in json.loads(SUITE).items():
        for group in groups:
            if is_admitted(group["schema"]):
                found = verdicts(group["schema"], *[one["data"] for one in group["tests"]])
                for case, said in zip(group["tests"], found, strict=True):
                    what = f"{name}: {group['description']}: {case['description']}"
                    # the bridge asserts formats
                    yield what, case["valid"] and "only an annotation" not in what, said


def mutated(value: Any, draw: st.DrawFn) -> Any:
    """Return `value` with something else somewhere in it."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 4)):
            return {other: item for other, item in value.items() if other != name}
        return {**value, name: mutated(value[name], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(value[index], draw), *value[index + 1 :]]
    if isinstance(value, str) and draw(st.booleans()):
        at = draw(st.integers(0, len(value)))
        return value[:at] + draw(st.text(max_size=2)) + value[at + draw(st.integers(0, 2)) :]
    return draw(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
        | st.sampled_from([[], {}, "x" * 300, "a@b.example", [["a"]], [0] * 101, 1.0, 10**400])
    )


@st.composite
def mutated_examples(draw: st.DrawFn) -> tuple[str, Any]:
    """Draw the id of a shipped schema and one of its examples, hardly or badly damaged."""
    document = draw(st.sampled_from([one for one in SHIPPED if one.content.get("examples")]))
    data = draw(st.sampled_from(document.content["examples"]))
    for _ in range(draw(st.integers(0, 3))):
        data = mutated(data, draw)
    return document.id, data


def test_suite_is_the_official_one() -> None:
    """The file in the repository is the one that its notice names."""
    assert hashlib.sha256(SUITE).hexdigest() == SUITE_SHA256


def test_official_suite() -> None:
    """Both give the answers of the suite, and few of its schemas are left to the library."""
    cases = list(suite())
    left = sum(said.quick is None for _, _, said in cases)

    assert [] == [case for case in cases if not {case[1], None}.issuperset(case[2])]
    assert 1000 < len(cases) > 3 * left


@settings(max_examples=40, deadline=None)
@given(version_pairs(combined=True))
def test_random_schemas(pair: tuple[Any, Any]) -> None:
    """Both agree on random schemas with references and branches, and on what they make of small values."""
    found = [one for schema in pair for one in verdicts(schema, *VALUES[::5])]

    assert [] == disagreements(found)


@settings(max_examples=400, deadline=None)
@given(mutated_examples())
def test_mutated_events(case: tuple[str, Any]) -> None:
    """Both agree on damaged events of the shipped schemas, all of which the quick one knows."""
    schema_id, data = case
    quick, slow = BOTH[schema_id]

    assert quick(data) is slow.is_valid(data)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, 10**400, True),
        ({"pattern": "^a$"}, "a\n", False),
        ({"pattern": r"^\d$"}, "٣", False),
        ({"format": "email"}, "a@b", True),
        ({"minimum": 0.1}, 10**400, True),
        ({"uniqueItems": True}, [1, True, "1", None, [], {}, "", [1], [True], {"a": 1}], True),
        ({"uniqueItems": True}, [1, 1.0], False),
        ({"uniqueItems": True}, [0, -0.0], False),
        ({"uniqueItems": True}, [10**20, 1e20], False),
        ({"uniqueItems": True}, [2**53 + 1, 2.0**53, 0.5, "0.5", 10**300], True),
        ({"uniqueItems": True}, [{"a": [1], "b": 2}, {"b": 2.0, "a": [1]}], False),
        ({"uniqueItems": True}, [[{"a": 1}], [{"a": True}]], True),
        ({"multipleOf": 0.1}, 0.3, True),
        ({"multipleOf": 0.01}, 19.99, True),
        ({"multipleOf": 0.5}, 1e308, True),
        ({"multipleOf": 1}, 2.0, True),
        ({"multipleOf": 0.01}, 19.999, False),
        ({"uniqueItems": True}, [{"id": number} for number in range(100_000)], True),
        ({"uniqueItems": True}, [number * (2**61 - 1) for number in range(100_000)], True),
    ],
)
def test_meaning(schema: Any, value: Any, expected: bool) -> None:
    """What the official suite does not ask of numbers, formats and patterns."""
    assert [Verdicts(expected, expected)] == verdicts(schema, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"unevaluatedProperties": False}, {}),
        ({"enum": [[1], {"a": 1}]}, [1]),
        ({"properties": {"a": {"$id": "urn:other"}}}, {"a": 1}),
        ({"$ref": "#"}, 1),
    ],
)
def test_left_to_the_library(schema: Any, value: Any) -> None:
    """What is not plain is not decided here."""
    assert [None] == [one.quick for one in verdicts(schema, value)]


def test_threads_share_a_verdict() -> None:
    """A verdict holds no state: many threads get the same answers."""
    good = {"userId": "u-1", "email": "a@b.example", "givenName": "A", "familyName": "B"}

    def is_broken(number: int) -> bool:
        data = {**good, "email": f"{number}@b" * (number % 2)}
        return bool(CATALOG.violations("user.created", data))

    with ThreadPoolExecutor(4) as pool:
        assert [True, False] * 400 == list(pool.map(is_broken, range(800)))


def test_threads_share_a_verdict_of_nested_values() -> None:
    """What is remembered of one value is not taken for another, in other threads or later in the same place of memory."""
    part = {"properties": {"kind": {"enum": ["a", "b"]}, "part": {"$ref": "#"}}}
    schema = {**part, "anyOf": [part, part]}
    resource = DRAFT202012.create_resource(schema)
    verdict = compile_verdict(Subschema(schema, Registry().resolver_with_root(resource)))

    def is_fine(number: int) -> bool | None:
        return verdict({"part": {"part": {"kind": "abc"[number % 3]}}})

    with ThreadPoolExecutor(4) as pool:
        assert [True, True, False] * 400 == list(pool.map(is_fine, range(1200)))
