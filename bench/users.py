"""The users of one run: their events as user management publishes them, and what the bridge would send for each."""

import json
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import USER_CREATED, Record
from keycloak_bridge.domain.operations import CreateUser
from keycloak_bridge.domain.users import DesiredUser, UserRepresentation
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.mapping.mapping import AttributeMapping, compile_mapping
from keycloak_bridge.planning.plan import plan_user
from keycloak_bridge.validation.catalog import SchemaCatalog

MAPPING = Path(__file__).with_name("mapping.toml")
USERNAME_MAPPING = Path(__file__).with_name("mapping_by_username.toml")
EVENTS = Path(__file__).parents[1] / "tests" / "events" / "user-created-2000.ndjson"
_IDS = uuid.UUID("5a7fd8b2-6c1e-4d0b-9a3c-0c2f6a1b7e44")


@dataclass(frozen=True, slots=True)
class Person:
    """One user: key, value and identity of its event, and the body of the POST that creates the same user."""

    key: bytes
    value: bytes
    identity: str
    """By which the bridge knows the event."""
    representation: UserRepresentation

    @property
    def body(self) -> bytes:
        """Return the body of `POST /users`, as the bridge writes it."""
        return json.dumps(self.representation).encode()


def make_people(tag: str, count: int, mapping_file: Path = MAPPING) -> list[Person]:
    """Return `count` valid people that no other `tag` has; the same for the same tag."""
    catalog, mapping = _interpretation(mapping_file)
    return [_person(value, key, catalog, mapping) for key, value in events(tag, count)]


def events(tag: str, count: int) -> list[tuple[bytes, bytes]]:
    """Return key and value of the records alone, some 560 bytes each, with names in 25 languages."""
    samples = _samples()
    return [_event(samples[number % len(samples)], tag, number) for number in range(count)]


@cache
def _samples() -> list[dict[str, Any]]:
    lines = EVENTS.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@cache
def _interpretation(file: Path) -> tuple[SchemaCatalog, AttributeMapping]:
    catalog = load_schemas(())
    mapping = compile_mapping(
        tomllib.loads(file.read_text(encoding="utf-8")),
        origin=file.name,
        has_property=partial(catalog.has_property, USER_CREATED),
    )
    return catalog, mapping


def _event(sample: Mapping[str, Any], tag: str, number: int) -> tuple[bytes, bytes]:
    user_id = str(uuid.uuid5(_IDS, f"{tag}/{number}"))
    data = {**sample["data"], "userId": user_id}
    name, _, host = data["email"].partition("@")
    data["email"] = f"{name}.{tag}{number}@{host}"
    if "username" in data:
        data["username"] = f"{data['username']}.{tag}{number}"
    event = {**sample, "id": f"{tag}-{number:07d}-{user_id[:12]}", "subject": user_id, "data": data}
    value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    return user_id.encode(), value


def _person(value: bytes, key: bytes, catalog: SchemaCatalog, mapping: AttributeMapping) -> Person:
    event = catalog.validate(decode(Record("bench", 0, 0, 0, key, value), EnvelopeRules()))
    desired = mapping.apply(event)
    if not isinstance(desired, DesiredUser):
        raise TypeError("the mapping of the benchmark leaves nobody out")
    (created,) = plan_user(event, desired, None).operations
    if not isinstance(created, CreateUser):
        raise TypeError("one call a user is what is compared")
    return Person(key, value, event.identity, created.representation)
