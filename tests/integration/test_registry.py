"""A real Apicurio Registry: frames and headers with the ids that it gave, read by the real interpreter."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
from apicurio import Apicurio
from bridge_harness import STRUCTURED, Bench, an_event, free_port, wait_until

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.diagnostics.doctor import registry_probe
from keycloak_bridge.diagnostics.probes import Light, examine
from keycloak_bridge.domain.errors import (
    EventValidationError,
    RegisteredSchemaError,
    RegistryUnavailableError,
    UnknownSchemaError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.pipeline.interpret import Prepared
from keycloak_bridge.sandbox.distribution import status_of
from keycloak_bridge.settings.model import RegistrySettings, Settings

pytestmark = [pytest.mark.integration, pytest.mark.registry]

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
ADDRESS = {"$schema": DRAFT_7, "type": "string", "maxLength": 30}
USER = {
    "$schema": DRAFT_7,
    "type": "object",
    "required": ["specversion", "data"],
    "properties": {"data": {"properties": {"email": {"$ref": "address.json"}}}},
}
AVRO = {"type": "record", "name": "User", "fields": [{"name": "id", "type": "string"}]}
PROTOBUF = 'syntax = "proto3"; message User { string id = 1; }'
VALID, INVALID = an_event("u-1"), an_event("u-1", email="a" * 30 + "@acme.example")


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A registry that the tests of this module share."""
    registry = Apicurio(tmp_path_factory.mktemp("apicurio") / "apicurio.log")
    try:
        registry.start()
        yield registry
    finally:
        registry.kill()


def record(
    event: Mapping[str, Any], frame: bytes = b"", headers: tuple[tuple[str, bytes], ...] = ()
) -> Record:
    content_type = ("content-type", b"application/cloudevents+json")
    value = frame + json.dumps(event).encode()
    return Record("user-events", 0, 0, 1_795_867_200_000, b"u-1", value, (content_type, *headers))


def reading(url: str, **settings: Any) -> Interpretation:
    return Interpretation(Settings(registry=RegistrySettings(url=url, timeout=120.0, **settings)))


def outcome(known: Interpretation, read: Record) -> tuple[str, str]:
    """Return the id of the schema or the code of the error, and where the data break the schema."""
    try:
        prepared = known.read(read)
    except EventValidationError as error:
        return error.code, ", ".join(one.pointer for one in error.violations)
    except RegisteredSchemaError as error:
        return error.code, error.message
    except UnknownSchemaError as error:
        return error.code, ""
    assert isinstance(prepared, Prepared)
    return prepared.event.schema_id, ""


def test_real_ids_choose_real_schemas(apicurio: Apicurio) -> None:
    """In each frame and header, with a reference to another subject; what cannot be used is named; an outage waits."""
    apicurio.register(ADDRESS, subject="address-value")
    reference = {"name": "address.json", "subject": "address-value", "version": 1}
    user = apicurio.register(USER, subject="user-value", references=[reference])
    referring = apicurio.global_id("user-value")
    global_id = apicurio.register_artifact({**USER, "properties": {"data": {"required": ["shoeSize"]}}}, "sized")  # fmt: skip
    avro, protobuf = apicurio.register(AVRO, "AVRO"), apicurio.register(PROTOBUF, "PROTOBUF")
    known, by_global_id = reading(apicurio.url), reading(apicurio.url, frame_ids="global")

    def framed(schema_id: int, event: Mapping[str, Any] = VALID, size: int = 4) -> Record:
        return record(event, b"\x00" + schema_id.to_bytes(size, "big"))

    def headed(header: str, value: bytes, event: Mapping[str, Any] = INVALID) -> Record:
        return record(event, headers=((header, value),))

    unknown = ("unknown-schema-id", "")
    refused = ("schema-violation", "/data/email")
    of_confluent = b"\x00" + user.to_bytes(4, "big")
    named = (f"registry:{user}", "")
    no_size = ("schema-violation", "/data/shoeSize")
    seen = {
        "Confluent's frame": (outcome(known, framed(user)), named),
        "one that breaks it": (outcome(known, framed(user, INVALID)), refused),
        "Apicurio's frame": (outcome(known, framed(user, INVALID, 8)), refused),
        "Confluent's header": (outcome(known, headed("__value_schema_id", of_confluent)), refused),
        "Apicurio's header": (outcome(known, headed("apicurio.value.contentId", user.to_bytes(8, "big"))), refused),
        "a global id in a header": (outcome(known, headed("apicurio.value.globalId", global_id.to_bytes(8, "big"))), no_size),
        "a global id in a frame": (outcome(by_global_id, framed(global_id, size=8)), no_size),
        "a global id of one that refers to another": (outcome(by_global_id, framed(referring, INVALID)), refused),
        "an unknown one": (outcome(known, framed(4711)), unknown),
        "one that no registry has": (outcome(known, framed(2**64 - 1, size=8)), unknown),
        "an unknown global id": (outcome(by_global_id, framed(4711)), unknown),
# no GUID: Apicurio has none, and now and then does not answer a call to a path that it does not have
        "no frame": (outcome(known, record(VALID)), ("urn:keycloak-bridge:schema:user.created:1.1", "")),
    }  # fmt: skip
    kinds = [outcome(known, framed(one)) for one in (avro, protobuf)]
    probe = next(iter(examine(registry_probe(known))))
    elsewhere = reading(apicurio.root)
    with pytest.raises(RegistryUnavailableError) as no_registry:
        elsewhere.read(framed(user))
    apicurio.stop()
    with pytest.raises(RegistryUnavailableError) as away:
        reading(apicurio.url).read(framed(user))

    assert {} == {name: both for name, both in seen.items() if both[0] != both[1]}
    assert ["unsupported-schema-type"] * 2 == [code for code, _ in kinds]
    assert [f"schema {avro} of the registry is of type AVRO", f"schema {protobuf} of the registry is of type PROTOBUF"] == [message.partition(";")[0] for _, message in kinds]  # fmt: skip
    assert (Light.GREEN, True) == (probe.light, "JSON" in probe.message)
    assert "not-a-registry" == no_registry.value.code
    assert "registry-unreachable" == away.value.code
    assert named == outcome(known, framed(user))


@pytest.mark.full
def test_a_running_bridge_waits_for_the_registry(apicurio: Apicurio, bench: Bench) -> None:
    """What needs it waits and shows in readiness, all else goes on; nothing becomes a dead letter for it."""
    users = [f"{name}-{bench.suffix}" for name in ("known", "waits", "plain")]
    port = free_port()
    to = bench.but(REGISTRY_URL=apicurio.url, REGISTRY_TIMEOUT="1 s", HEALTH_PORT=str(port))
    if not apicurio.alive:
        apicurio.start()
    known_id, other_id = (apicurio.register({"$schema": DRAFT_7, "required": [one]}) for one in ("source", "data"))  # fmt: skip

    def publish(user: str, schema_id: int | None) -> None:
        frame = b"" if schema_id is None else b"\x00" + schema_id.to_bytes(4, "big")
        to.publish_raw((user.encode(), frame + json.dumps(an_event(user)).encode(), STRUCTURED))

    def done(*names: str) -> bool:
        return set(names) <= {user["attributes"]["userId"][0] for user in to.users()}

    with to.running():
        publish(users[0], known_id)
        wait_until(lambda: done(users[0]))
        apicurio.pause()
        publish(users[1], other_id)
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}/ready") == 503)
        ready = requests.get(f"http://127.0.0.1:{port}/ready", timeout=60).text
        publish(users[2], None)
        publish(users[0], known_id)
        wait_until(lambda: done(users[2]))
        during = [user["attributes"]["userId"][0] for user in to.users()]
        apicurio.resume()
        wait_until(lambda: done(*users))
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}/ready") == 200)

    assert "the schema registry did not answer" in ready
    assert users[1] not in during
    assert [] == to.dead_letters()
    assert {f"registry:{known_id}", f"registry:{other_id}"} <= {one.get("schemaId") for one in to.results()}  # fmt: skip
