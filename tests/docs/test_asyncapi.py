"""docs/asyncapi.yaml is in step, valid, and true of the messages that the bridge writes."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import generate
import pytest
import yaml
from asyncapi_page import asyncapi_page
from dead_letter_cases import NOON, letter_record
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from keycloak_bridge.app.schema_files import load_documents
from keycloak_bridge.domain.events import Invitation, Message, Outcome, Purpose, Record, Result
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.events.formats import format_checker
from keycloak_bridge.messages.dead_letters import (
    read_dead_letter,
    replay_mark,
    replay_message,
)
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.messages.results import result_message

DOCUMENT: dict[str, Any] = yaml.safe_load(generate.ASYNCAPI.read_text(encoding="utf-8"))
SCHEMA = gzip.decompress(Path(__file__).with_name("asyncapi-3.0.0.json.gz").read_bytes())
SCHEMA_SHA256 = "d4571a420e6ffb7fcc7066c95a6db1202f299a3c51daa103d0706bf30f95e626"
EVENT = DOCUMENT["components"]["messages"]["user.created.1.0"]["examples"][0]["payload"]
LETTER = letter_record(event=EVENT)


def broken(part: str, message: str, value: Any) -> list[str]:
    """Return what `value` breaks of the `part`, payload or headers, of a documented message."""
    registry: Registry[Any] = Registry().with_resource(
        "urn:asyncapi", DRAFT7.create_resource(DOCUMENT)
    )
    reference = {"$ref": f"urn:asyncapi#/components/messages/{message}/{part}"}
    validator = Draft7Validator(reference, registry=registry, format_checker=format_checker())
    return [error.json_path for error in validator.iter_errors(value)]


def written() -> Iterator[tuple[str, str, Message]]:
    """Yield a message of every kind that the bridge writes: its name, its channel, itself."""
    letter = read_dead_letter(LETTER, EnvelopeRules())
    assert letter is not None
    terms = InvitationTerms(("UPDATE_PASSWORD",), 3600, "demo-app", "https://app.example/")
    invitation = Invitation("e-1/invitation", "e-1", "u-1", "kc-1", terms, NOON)
    for purpose in (Purpose.INVITE, Purpose.RESEND):
        message = invitation_message(replace(invitation, purpose=purpose), topic="user-invitations")
        yield "user.invitation.due.1.2", "invitations", message
    for result in (
        Result(Outcome.PROVISIONED, "created", None, None, "e-1", "user.created", "u-1", "kc-1"),
        Result(Outcome.PROVISIONED, "deleted", changed=("email", "groups"), mapping="3f1c5b0e9a72"),
        Result(Outcome.REJECTED, None, "not-json", "it is no event"),
    ):
        message = result_message(result, topic="user-results", time=NOON, origin=LETTER)
        yield "user.provisioning.result.1.2", "results", message
    yield "dead-letter.replayed.1.0", "deadLetters", replay_mark(letter, LETTER, time=NOON)


def text_headers(message: Message | Record) -> dict[str, str]:
    """Return the headers as text."""
    return {name: (value or b"").decode() for name, value in message.headers}


def references(value: Any) -> Iterator[str]:
    """Yield every reference inside `value`."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_document_is_in_step() -> None:
    """`make docs` would change nothing."""
    assert asyncapi_page() == generate.ASYNCAPI.read_text(encoding="utf-8"), "run `make docs`"


def test_the_document_is_valid() -> None:
    """The official schema of AsyncAPI 3.0.0, unchanged, takes it."""
    errors = [
        (error.json_path, error.message)
        for error in Draft7Validator(json.loads(SCHEMA)).iter_errors(DOCUMENT)
    ]

    assert SCHEMA_SHA256 == hashlib.sha256(SCHEMA).hexdigest()
    assert [] == errors


def test_the_official_schema_refuses_what_is_wrong() -> None:
    """It is no schema that takes anything."""
    wrong = {**DOCUMENT, "operations": {"one": {"action": "consume"}}}

    assert not Draft7Validator(json.loads(SCHEMA)).is_valid(wrong)


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    """The document stands alone."""
    steps = reference.removeprefix("#/").split("/")
    found = DOCUMENT
    for step in steps:
        found = found[step]

    assert found


def test_every_schema_has_a_message_in_a_channel() -> None:
    """No version of a contract is left out."""
    told = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    names = {f"{one.type}.{one.number}" for one in load_documents()}

    assert names == told == set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize(("name", "channel", "message"), list(written()))
def test_what_the_bridge_writes_is_as_documented(name: str, channel: str, message: Message) -> None:
    """Topic, headers and value of real messages."""
    assert message.topic == DOCUMENT["channels"][channel]["address"]
    assert name in DOCUMENT["channels"][channel]["messages"]
    assert [] == broken("headers", name, text_headers(message))
    assert [] == broken("payload", name, json.loads(message.value or b""))


def test_a_dead_letter_is_as_documented() -> None:
    """Its headers keep the schema, its value is the original one."""
    assert [] == broken("headers", "dead-letter.1.0", text_headers(LETTER))
    assert EVENT == json.loads(LETTER.value or b"")


def test_a_replayed_record_is_as_documented() -> None:
    """The headers that a replay adds stand among those of the events."""
    found = read_dead_letter(LETTER, EnvelopeRules())
    assert found is not None
    headers = text_headers(replay_message(found, LETTER, no_invite=True))
    described = DOCUMENT["components"]["messages"]["user.created.1.0"]["headers"]["properties"]

    assert headers.keys() == described.keys() - {"traceparent", "tracestate"}
    assert [] == broken("headers", "user.created.1.0", headers)


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_examples_hold(name: str) -> None:
    """Whoever copies an example sends a valid message."""
    examples = DOCUMENT["components"]["messages"][name]["examples"]
    parts = [(part, one[part]) for one in examples for part in one if part != "name"]

    assert parts
    assert [] == [error for part, value in parts for error in broken(part, name, value)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"specversion": "0.3"}, "$.specversion"),
        ({"type": "user.deleted"}, "$.type"),
        ({"data": {**EVENT["data"], "email": "nobody"}}, "$.data.email"),
        ({"data": {**EVENT["data"], "roles": "viewer"}}, "$.data.roles"),
    ],
)
def test_a_broken_event_is_refused(change: dict[str, Any], expected: str) -> None:
    """Envelope and data are described, not only named."""
    assert [expected] == broken("payload", "user.created.1.0", {**EVENT, **change})
