"""Events that name a schema of a registry, by a frame or a header: checked against that one, and waiting while nobody knows it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
from fuzzing import fuzzed_record, seed_of
from registry_stub import URL, Given, StubRegistry, described
from stage_harness import Flow, event_of, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import BridgeError, Dependency, RegistryUnavailableError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.registry.client import ConfluentRegistry, RegistryConnection
from keycloak_bridge.settings.model import EnvelopeSettings, EventsSettings, Settings

SEVEN = b"\x00\x00\x00\x00\x07"
DATA = {
    "type": "object",
    "required": ["userId", "department"],
    "properties": {"phoneNumber": {"type": "string", "maxLength": 5}},
}
EVENT = {"type": "object", "properties": {"data": DATA}}
BINARY = tuple((f"ce_{name}", str(value).encode()) for name, value in event_of().items() if name != "data")  # fmt: skip


def flow(schema: Given, *, known: Interpretation | None = None) -> tuple[Flow, StubRegistry]:
    stub = StubRegistry({"/schemas/ids/7": schema})
    later = partial(next, count(0, 10))  # each question comes ten seconds after the one before
    registry = ConfluentRegistry(RegistryConnection(URL), stub, later)
    return Flow(known=known, registry=registry), stub


def framed(event: Mapping[str, Any], frame: bytes = SEVEN) -> Record:
    return record_of(frame + json.dumps(event).encode(), key=b"u-1")


@pytest.mark.parametrize("frame", [SEVEN, b"\x00" + bytes(7) + b"\x07"])
def test_either_frame_chooses_it(frame: bytes) -> None:
    """That of Confluent, and that of Apicurio."""
    to, stub = flow(described(EVENT))
    handle(to, framed(event_of(), frame))

    assert ["schema-violation"] == [one["reason"] for one in to.results]
    assert {"/schemas/ids/7": 1} == stub.asked


def handle(to: Flow, record: Record) -> Dependency:
    return to.settle(to.provision.handle(record)).dependency


def test_the_frame_chooses_the_schema_of_the_whole_value() -> None:
    """In place of the folder's, where a locale is a text; a refusal names the schema by its id."""
    to, stub = flow(described(EVENT))

    handle(to, framed(event_of(data={"department": "R&D", "phoneNumber": "1", "locale": 1})))
    handle(to, framed(event_of(event_id="event-2")))

    assert ["provisioned", "rejected"] == [one["outcome"] for one in to.results]
    (_, letter) = to.letters[0]
    assert "registry:7" == letter["schema-id"]
    assert "the data breaks schema 7 of the registry: /data/department is required, and 1 more" == letter["message"]  # fmt: skip
    assert ["/data/department", "/data/phoneNumber"] == [one["pointer"] for one in json.loads(letter["errors"])]  # fmt: skip
    assert {"/schemas/ids/7": 1} == stub.asked


@pytest.mark.parametrize("dataschema", [..., "http://registry:8081/schemas/ids/7"])
def test_a_valid_event_becomes_a_user(dataschema: object) -> None:
    """Whatever its `dataschema` says; the result names the registry's schema."""
    to, _ = flow(described(EVENT))
    event = event_of(data={"department": "R&D", "phoneNumber": "1"}, dataschema=dataschema)

    assert Dependency.REGISTRY in handle(to, framed(event))
    assert ["u-1"] == [one["attributes"]["userId"][0] for one in to.keycloak.users()]
    assert ["registry:7"] == [one["schemaId"] for one in to.results]


def test_the_bridges_own_schema_in_the_registry_is_known_by_its_name() -> None:
    """So that a mapping for its major version serves the event."""
    own = "urn:keycloak-bridge:schema:user.created:1.0"
    to, _ = flow(described({"$id": own}))
    handle(to, framed(event_of()))

    assert [own] == [one["schemaId"] for one in to.results]


def test_a_binary_event_is_its_data() -> None:
    """Pointers are those into the event, as always."""
    to, _ = flow(described(DATA))
    value = SEVEN + json.dumps(event_of()["data"]).encode()
    to.handle(value, key=b"u-1", headers=(*BINARY, ("content-type", b"application/json")))

    (_, letter) = to.letters[0]
    assert ["/data/department", "/data/phoneNumber"] == [one["pointer"] for one in json.loads(letter["errors"])]  # fmt: skip


def test_an_envelope_of_ones_own_is_part_of_the_value() -> None:
    """Its schema describes what the producer writes, not what the bridge makes of it."""
    envelope = EnvelopeSettings(id="body.id", type="'user.created'", data="body.user")
    known = Interpretation(Settings(envelope=envelope))
    to, _ = flow(described({"properties": {"user": DATA}}), known=known)
    handle(to, framed({"id": "1", "user": event_of()["data"]}))

    (_, letter) = to.letters[0]
    assert ["/user/department", "/user/phoneNumber"] == [one["pointer"] for one in json.loads(letter["errors"])]  # fmt: skip


def test_nulls_that_mean_nothing_are_not_checked() -> None:
    """As for a schema of a folder."""
    known = Interpretation(Settings(events=EventsSettings(nulls="absent")))
    schema = {"properties": {"data": {"properties": {"locale": {"type": "string"}}}}}
    to, _ = flow(described(schema), known=known)
    handle(to, framed(event_of(data={"locale": None})))

    assert ["provisioned"] == [one["outcome"] for one in to.results]


@pytest.mark.parametrize(
    "headers",
    [
        (("__value_schema_id", b"\x00\x00\x00\x00\x07"),),
        (("apicurio.value.contentId", bytes(7) + b"\x07"),),
    ],
)
def test_a_header_chooses_it_too(headers: tuple[tuple[str, bytes], ...]) -> None:
    """The value is plain JSON then."""
    to, stub = flow(described(EVENT))
    to.handle(event_of(), headers=headers)

    assert ["schema-violation"] == [one["reason"] for one in to.results]
    assert {"/schemas/ids/7": 1} == stub.asked


@pytest.mark.parametrize("frame", [b"", b"\x03\x00" + bytes(16)])
def test_without_an_id_the_folders_decide(frame: bytes) -> None:
    """Also in a frame of AWS Glue, whose registry is another."""
    to, stub = flow(described(EVENT))
    handle(to, framed(event_of(), frame))

    assert ["provisioned"] == [one["outcome"] for one in to.results]
    assert not stub.asked


def test_without_a_registry_the_folders_decide() -> None:
    """The frame is taken away, and nobody is asked."""
    to = Flow()
    handle(to, framed(event_of()))
    to.handle(event_of(event_id="event-2"), headers=(("__value_schema_id", b"?"),))

    assert ["provisioned"] * 2 == [one["outcome"] for one in to.results]


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ((404, {"error_code": 40403}), "unknown-schema-id"),
        (described({"type": "record"}, "AVRO"), "unsupported-schema-type"),
        (described({"type": "record"}), "unusable-schema"),
    ],
)
def test_what_the_registry_says_for_good_is_a_dead_letter(schema: Given, code: str) -> None:
    """With the step, the schema and what to do; that the registry works is known by it."""
    to, _ = flow(schema)

    assert Dependency.REGISTRY in handle(to, framed(event_of()))
    (_, letter) = to.letters[0]
    assert (code, "schema", "registry:7") == (letter["code"], letter["stage"], letter["schema-id"])
    assert letter["action"]
    assert to.results[0]["eventId"] == "event-1"


def test_a_header_without_an_id_is_a_dead_letter() -> None:
    """Nobody can tell which schema is meant."""
    to, stub = flow(described(EVENT))
    to.handle(event_of(), headers=(("__value_schema_id", b"seven"),))

    assert ["invalid-schema-id"] == [one["reason"] for one in to.results]
    assert not stub.asked


def test_an_unknown_type_asks_nobody() -> None:
    """Nothing could come of it."""
    to, stub = flow(described(EVENT))
    handle(to, framed(event_of(type="tenant.created")))

    assert ["unknown-type"] == [one["reason"] for one in to.results]
    assert not stub.asked


def test_a_tombstone_has_no_schema() -> None:
    """Its headers may be those of any other record."""
    to, stub = flow(described(EVENT))
    to.handle(None, key=b"u-1", headers=(("__value_schema_id", b"\x00\x00\x00\x00\x07"),))

    assert not stub.asked


@pytest.mark.parametrize("status", [503, 401])
def test_an_outage_publishes_nothing_and_is_over_with_the_next_answer(status: int) -> None:
    """The record waits; what others prove meanwhile does not make it a bad one."""
    to, stub = flow((status, ""))

    with pytest.raises(RegistryUnavailableError):
        handle(to, framed(event_of()))
    assert Dependency.REGISTRY not in handle(
        to, record_of(event_of("u-2", data={"email": "b@acme.example"}))
    )
    stub.answers["/schemas/ids/7"] = described({})

    assert Dependency.REGISTRY in handle(to, framed(event_of()))
    assert Dependency.REGISTRY in handle(
        to, record_of(event_of("u-3", data={"email": "c@acme.example"}))
    )
    assert [] == to.letters


@pytest.mark.parametrize(
    "records", [300, pytest.param(30_000, marks=pytest.mark.full)], ids=["some", "all"]
)
def test_nothing_unforeseen_comes_of_what_a_schema_lets_through(records: int) -> None:
    """One that accepts everything leaves the mapping to itself."""
    seed = seed_of(everything=records > 300)
    registry = ConfluentRegistry(RegistryConnection(URL), StubRegistry({"/schemas/ids/7": described({})}))  # fmt: skip
    to = Flow(registry=registry, after_dead_letter="continue", brake=Brake(0, 0, 200))
    for number in range(records):
        made = fuzzed_record(Random(f"{seed}/{number}"), number)  # noqa: S311 # nothing secret
        value = None if made.value is None else SEVEN + made.value
        try:
            handle(to, replace(made, value=value))
        except BridgeError:
            pass
        except Exception as error:
            raise AssertionError(f"FUZZ_SEED={seed}, {number}") from error

    assert {"provisioned", "rejected"} <= {one["outcome"] for one in to.results}


def test_an_error_has_the_context_of_its_own_event() -> None:
    """Although what the registry said is kept."""
    to, _ = flow(described({"type": 1}))
    for number in (1, 2):
        handle(to, framed(event_of(event_id=f"event-{number}")))

    assert ["event-1", "event-2"] == [one["eventId"] for one in to.results]
