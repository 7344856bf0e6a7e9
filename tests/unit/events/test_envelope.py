"""Envelopes are found in every mode that producers use."""

import json
from base64 import b64encode
from typing import Any

import pytest
from records import USER, binary, envelope, record

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.cloudevents import Limits, RawEnvelope, read_cloudevent
from keycloak_bridge.events.custom_envelope import compile_envelope


def read(a_record: Record) -> RawEnvelope:
    """Read with the usual limits."""
    return read_cloudevent(a_record, Limits())


def refusal(a_record: Record) -> tuple[str, list[str]]:
    """Return code and pointers of the error that reading raises."""
    with pytest.raises(EventDecodeError) as caught:
        read(a_record)
    return caught.value.code, [violation.pointer for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("content-type", "application/cloudevents+json"),
        ("content-type", "application/cloudevents+json; charset=UTF-8"),
        ("content-type", "application/cloudevents"),
        ("Content-Type", "APPLICATION/CloudEvents+JSON"),
        ("content-type", "application/json"),
        ("content-type", "text/plain"),
        ("other", "x"),
    ],
)
def test_structured_mode_by_header_or_body(name: str, content_type: str) -> None:
    """The header says so in any case, or the body carries specversion."""
    found = read(record(envelope(), headers=((name, content_type.encode()),)))

    assert found.attributes["id"] == "event-1"
    assert found.data == USER
    assert found.prefix == "/"


def test_structured_mode_goes_before_binary_headers() -> None:
    """Headers left over from another hop do not hide the event."""
    found = read(record(envelope(), headers=(("ce_id", b"other"),)))

    assert found.attributes["id"] == "event-1"


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/vnd.acme+json; v=1", "text/json"]
)
def test_binary_mode(content_type: str | None) -> None:
    """Attributes stand in headers, the body is the data."""
    found = read(binary(content_type=content_type))

    assert found.attributes["id"] == "event-1"
    assert found.data == USER
    assert found.prefix == "/headers/ce_"


def test_the_last_of_repeated_headers_counts() -> None:
    """As Kafka's own `lastHeader` has it, and without regard to case."""
    headers = (("ce_specversion", b"1.0"), ("ce_id", b"first"), ("CE_ID", b"last"))

    assert read(record(USER, headers=headers)).attributes["id"] == "last"


@pytest.mark.parametrize("frame", [b"", b"\x00\x00\x00\x00\x2a"])
@pytest.mark.parametrize("headers", [(), (("__value_schema_id", b"\x01guid"),)])
def test_confluent_framing_is_stripped(
    frame: bytes, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """The schema id may stand before the payload or in a header."""
    value = frame + json.dumps(envelope()).encode()

    assert read(record(value, headers=headers)).data == USER


def test_base64_data_is_decoded() -> None:
    """JSON sent as bytes is JSON."""
    encoded = b64encode(json.dumps(USER).encode()).decode()

    assert read(record(envelope(data=..., data_base64=encoded))).data == USER


def test_null_attributes_are_absent() -> None:
    """CloudEvents lets null stand for an attribute that is not set."""
    assert "subject" not in read(record(envelope(subject=None))).attributes


BATCH = (("content-type", b"application/cloudevents-batch+json"),)
PROTOBUF = (("content-type", b"application/cloudevents+protobuf"),)
STRUCTURED = (("content-type", b"application/cloudevents+json"),)


@pytest.mark.parametrize(
    ("a_record", "code", "pointers"),
    [
        (record([envelope()], headers=BATCH), "batch-not-supported", []),
        (
            record(b"\x08", headers=PROTOBUF),
            "unsupported-content-type",
            ["/headers/content-type"],
        ),
        (
            binary(b"\xffAvro", content_type="avro/binary"),
            "unsupported-content-type",
            ["/headers/content-type"],
        ),
        (
            binary(content_type="application/xml"),
            "unsupported-content-type",
            ["/headers/content-type"],
        ),
        (record(b"<user/>", headers=STRUCTURED), "not-json", []),
        (record(b"\x00\x00"), "wrong-encoding", []),
        (record(USER), "not-a-cloudevent", []),
        (record([1]), "not-a-cloudevent", []),
        (record([1], headers=STRUCTURED), "not-a-cloudevent", []),
        (
            record(envelope(specversion=...), headers=STRUCTURED),
            "invalid-envelope",
            ["/specversion"],
        ),
        (record(envelope(specversion="0.3")), "unsupported-specversion", ["/specversion"]),
        (record(envelope(specversion=1.0)), "unsupported-specversion", ["/specversion"]),
        (binary(specversion=None), "invalid-envelope", ["/headers/ce_specversion"]),
        (binary(specversion="0.3"), "unsupported-specversion", ["/headers/ce_specversion"]),
        (record(envelope(data_base64="e30=")), "invalid-envelope", ["/data_base64"]),
        (record(envelope(data=..., data_base64="?")), "invalid-envelope", ["/data_base64"]),
        (record(envelope(data=..., data_base64=1)), "invalid-envelope", ["/data_base64"]),
        (record(envelope(data=..., data_base64="eA==")), "not-json", []),
    ],
)
def test_what_is_no_event_has_a_code(a_record: Record, code: str, pointers: list[str]) -> None:
    """Every way to miss CloudEvents has its own code, and a place where there is one."""
    assert refusal(a_record) == (code, pointers)


EXPRESSIONS = {
    "id": "body.meta.eventId",
    "type": "headers.kind",
    "subject": "key",
    "time": "body.meta.at",
    "data": "body.user",
}


def custom(value: Any, **expressions: str) -> RawEnvelope:
    """Read with an envelope of the producer's own."""
    described = compile_envelope({**EXPRESSIONS, **expressions})
    assert described is not None
    headers = (("kind", b"UserRegistered"), ("trace", b"\xff"), ("empty", None))
    return described.read(record(value, key=b"u-1", headers=headers), Limits())


def test_custom_envelope_is_read_by_expressions() -> None:
    """Key, headers and body are in reach."""
    found = custom({"meta": {"eventId": 17, "at": "2026-11-01T09:30:00Z"}, "user": USER})

    expected = {
        "id": "17",
        "type": "UserRegistered",
        "subject": "u-1",
        "time": "2026-11-01T09:30:00Z",
        "source": "/kafka/user-events",
    }
    assert found == RawEnvelope(expected, USER)


def test_custom_envelope_may_use_functions_and_literals() -> None:
    """What a mapping may call, an envelope may call."""
    found = custom({"n": "ABC", "user": USER}, id="lower(body.n)", source="'crm'")

    assert (found.attributes["id"], found.attributes["source"]) == ("abc", "crm")


def test_expression_that_fails_tells_no_value() -> None:
    """The library's error quotes what it met; ours does not, nor does it chain it."""
    with pytest.raises(EventDecodeError) as caught:
        custom({"n": ["ada@acme.example"]}, id="lower(body.n)")

    assert caught.value.code == "invalid-envelope"
    assert [violation.pointer for violation in caught.value.violations] == ["/id"]
    assert "ada" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"id": "body."}, "envelope.id: is no JMESPath expression: 'body.'"),
        ({"id": ""}, "envelope.id: is no JMESPath expression: ''"),
        ({"id": "shout(body.id)"}, "envelope.id: there is no function shout()"),
        (
            {"time": "meta.at"},
            "envelope.time: 'meta' is unknown; an expression sees key, headers, body",
        ),
        ({"tpye": "body.type"}, "envelope.tpye: is no attribute of an event; did you mean 'type'?"),
    ],
)
def test_expression_that_cannot_work_is_a_configuration_error(
    changes: dict[str, str], line: str
) -> None:
    """The settings key is named, and the reason."""
    with pytest.raises(ConfigError) as caught:
        compile_envelope({**EXPRESSIONS, **changes})

    assert [one for one in caught.value.message.splitlines() if one.startswith(line)]


def test_without_expressions_there_is_no_own_envelope() -> None:
    """Settings that say nothing about an envelope mean CloudEvents."""
    assert compile_envelope({"id": None}) is None


def test_required_expressions_are_named_together() -> None:
    """An envelope of one's own needs an id, a type and the data."""
    with pytest.raises(ConfigError) as caught:
        compile_envelope({"subject": "key"})

    assert [line.split(":")[0] for line in caught.value.message.splitlines()] == [
        "envelope.id",
        "envelope.type",
        "envelope.data",
    ]
