"""Schemas and values at random: the quick verdict, the reports and the plain jsonschema library agree.

`FUZZ_SEED` and the number of a case bring it back: both are in the message of a failure.
"""

import time
from collections import Counter
from random import Random
from typing import Any

import pytest
from fuzzing import instance, paths, schema, seed_of
from jsonschema import Draft202012Validator
from referencing import Registry

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument, check_documents

SLOWEST_S = 1.0
"""CPU seconds that one value may take, in the long run."""

VALUES_OF_A_SCHEMA = 10
ID = "urn:test"


def with_format(content: Any, random: Random) -> Any:
    """Return a copy of a schema in which something has a format; the plain library does not assert these."""
    places = [one for one in paths(content["properties"], depth=4) if one]
    copy: dict[str, Any] = {**content, "allOf": [*content.get("allOf", ())]}
    name = random.choice(places)[0]
    copy["allOf"].append({"properties": {name: {"format": random.choice(sorted(FORMATS))}}})
    return copy


class Pair:
    """One schema, as the bridge and as the plain library understand it."""

    def __init__(self, content: Any) -> None:
        document = SchemaDocument("user.created", (1, 0), content, "1.0.json")
        self.catalog = SchemaCatalog([document])
        registry: Registry[Any] = check_documents([document])
        self._plain = Draft202012Validator(content, registry=registry)

    def bridge(self, value: Any) -> tuple[bool | None, bool | None]:
        """Return the quick verdict, None where it leaves the answer to the reports, and what these say."""
        quick = self.catalog._schemas[ID]._verdict(value)
        slow = self.catalog._schemas[ID]._validator
        try:
            return quick, slow.is_valid(value)
        except RecursionError:
            return quick, None

    def plain(self, value: Any) -> bool | None:
        """Return what the plain library says; None where the schema refers to itself without end."""
        try:
            return self._plain.is_valid(value)
        except RecursionError:
            return None


def disagreement(pair: Pair, value: Any, *, formats: bool) -> object:
    """Return who says what of the value where they do not all say the same, else None."""
    try:
        reported = pair.catalog.violations("user.created", value)
    except BridgeError as error:
        return None if error.code == "schema" else error
    quick, slow = pair.bridge(value)
    said = {not reported, slow} if quick is None else {not reported, slow, quick}
    if not formats:
        said.add(pair.plain(value))
    return None if len(said - {None}) == 1 else (not reported, quick, slow, pair.plain(value))


@pytest.mark.parametrize(
    "count", [500, pytest.param(50_000, marks=pytest.mark.full)], ids=["some", "all"]
)
def test_no_value_is_judged_otherwise_than_by_the_library(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the bridge takes and refuses is what JSON Schema says, and no value takes long."""
    everything = count > 500
    seed = seed_of(everything=everything)
    outcomes: Counter[object] = Counter()
    slowest: tuple[float, int] = (0.0, -1)
    failed: list[Any] = []
    for number in range(count // VALUES_OF_A_SCHEMA):
        random = Random(f"{seed}/{number}")  # noqa: S311 # nothing secret
        content = {"$id": ID, "properties": {}, **schema(random)}
        formats = bool(content["properties"]) and random.random() < 0.3
        if formats:
            content = with_format(content, random)
        try:
            pair = Pair(content)
        except BridgeError as error:
            outcomes[error.code] += 1
            continue
        except Exception as error:  # noqa: BLE001 # all of them are wanted
            failed.append((number, repr(error)[:300], content))
            continue
        for _ in range(VALUES_OF_A_SCHEMA):
            value = instance(random)
            began = time.thread_time()
            try:
                found = disagreement(pair, value, formats=formats)
            except Exception as error:  # noqa: BLE001 # all of them are wanted
                found = repr(error)[:300]
            slowest = max(slowest, (time.thread_time() - began, number))
            outcomes[pair.catalog._schemas[ID]._verdict(value)] += 1
            if found is not None:
                failed.append((number, found, content, value))
    if everything:
        with capsys.disabled():
            print(f"\nFUZZ_SEED={seed}: slowest {slowest}, {dict(outcomes)}")

    assert [] == failed[:5], f"FUZZ_SEED={seed}, {len(failed)} of {count}"
    assert {True, False, None} <= outcomes.keys()
    assert min(outcomes[True], outcomes[False]) > count // 20
    if everything:
        assert slowest[0] < SLOWEST_S, f"FUZZ_SEED={seed}, schema {slowest[1]}"
