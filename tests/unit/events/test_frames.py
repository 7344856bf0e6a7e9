"""Frames around JSON are taken away, and what is no JSON is named as what it is."""

import json
import zlib
from base64 import b64encode
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import envelope, record

from keycloak_bridge.domain.errors import EventDecodeError
from keycloak_bridge.domain.events import IdKind, Record, SchemaReference
from keycloak_bridge.events.cloudevents import SizeLimits
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.events.frames import schema_reference

RULES = EnvelopeRules()
TEXT = json.dumps(envelope())
BODY = TEXT.encode()
GLUE = bytes(range(16))
ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x00\x0f",
        b"\x00\x7b\x5b\x22\x20",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x0f",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x7b",
        b"\x03\x00" + GLUE,
    ],
    ids=["Confluent", "Confluent, odd id", "Apicurio", "Apicurio, odd id", "Glue"],
)
@pytest.mark.parametrize("body", [BODY, b" \n" + BODY, b"\xef\xbb\xbf" + BODY])
def test_json_in_a_frame_is_read(frame: bytes, body: bytes) -> None:
    """With white space or a byte order mark before it too."""
    assert "event-1" == decode(record(frame + body), RULES).id


def test_what_glue_compressed_is_read_within_the_limit() -> None:
    """A small record that would become a huge one is refused for its size."""
    frame = b"\x03\x05" + GLUE
    huge = frame + zlib.compress(b"[" + b" " * 10_000_000 + b"]")

    assert "event-1" == decode(record(frame + zlib.compress(BODY)), RULES).id
    with pytest.raises(EventDecodeError) as caught:
        decode(record(huge), RULES)
    assert "too-large" == caught.value.code


@pytest.mark.parametrize(
    ("value", "code", "what"),
    [
        (b"\x00\x00\x00\x00\x07\x08u-42\x1ca@acme.example", "unsupported-format", "Avro in a Confluent frame, schema 7;"),
        (b"\x00\x00\x00\x00\x07\x00\x0a\x04u-42", "unsupported-format", "Protobuf in a Confluent frame, schema 7;"),
        (b"\x00" + bytes(7) + b"\x0f\x08u-42", "unsupported-format", "Avro in an Apicurio frame, schema 15;"),
        (b"\x03\x00" + GLUE + b"\x08u-42", "unsupported-format", f"Avro or Protobuf in a frame of AWS Glue, schema {ID};"),
        (b"\x03\x05" + GLUE + b"\x08u-42", "unsupported-format", "nothing that can be decompressed in a frame of AWS Glue"),
        (b"Obj\x01\x04", "unsupported-format", "an Avro container file"),
        (b"\x1f\x8b\x08\x00", "unsupported-format", "compressed with gzip"),
        (b"\xac\xed\x00\x05sr", "unsupported-format", "a serialized Java object"),
        (zlib.compress(BODY), "unsupported-format", "compressed with zlib"),
        (b"\x82SNAPPY\x00\x00", "unsupported-format", "compressed with Snappy"),
        (b":)\n\x05\xfa", "unsupported-format", "the value is Smile;"),
        (b"\n<user id='1'/>", "unsupported-format", "the value is XML;"),
        (b64encode(BODY), "unsupported-format", "JSON in base64, or a signed token"),
        (b'"' + b64encode(BODY) + b'"', "not-a-cloudevent", "the value is JSON in base64"),
        (b"", "not-json", "the value is empty"),
        (b" \r\n", "not-json", "the value is empty"),
        (BODY + b"\n" + BODY + b"\n", "batch-not-supported", "JSON in each of its lines"),
        (BODY + b"\nx", "not-json", "line 2, column 1"),
        (BODY[:-1] + b"\n{", "not-json", "line 2"),
        (TEXT.encode("utf-16"), "wrong-encoding", "UTF-16, not UTF-8"),
        (TEXT.encode("utf-16-le"), "wrong-encoding", "UTF-16, not UTF-8"),
        (TEXT.encode("utf-16-be"), "wrong-encoding", "UTF-16, not UTF-8"),
        (TEXT.encode("utf-32"), "wrong-encoding", "UTF-32, not UTF-8"),
        (TEXT.encode("utf-32-be"), "wrong-encoding", "UTF-32, not UTF-8"),
        (b"\x00\x00", "wrong-encoding", "not UTF-8"),
        ("Zoë".encode("latin-1"), "wrong-encoding", "not UTF-8"),
        (json.dumps([envelope()]).encode(), "batch-not-supported", "an array of 1 object"),
        (json.dumps(TEXT).encode(), "not-a-cloudevent", "the value is JSON inside a text"),
        (b'"{no json"', "not-a-cloudevent", "the value is a text"),
        (b'{"schema": {}, "payload": {}}', "not-a-cloudevent", "a Connect envelope {schema, payload}"),
        (b'{"before": null, "after": {}, "op": "c"}', "not-a-cloudevent", "a change event of Debezium"),
        (b'{"id": 1, "__op": "u"}', "not-a-cloudevent", "a change event of Debezium"),
        (b"{}", "not-a-cloudevent", "a JSON object without specversion"),
        (b"[1]", "not-a-cloudevent", "the value is a list"),
        (b"1", "not-a-cloudevent", "the value is a number"),
        (b"true", "not-a-cloudevent", "the value is true or false"),
        (b"null", "not-a-cloudevent", "the value is null"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_there(value: bytes, code: str, what: str) -> None:
    """And what its producer can do about it; nothing of the value is quoted."""
    with pytest.raises(EventDecodeError) as caught:
        decode(record(value), RULES)

    assert code == caught.value.code
    assert what in caught.value.message
    assert caught.value.remedy
    assert "event-1" not in caught.value.message


@pytest.mark.parametrize(
    ("header", "schema"),
    [
        ("__value_schema_id", b"\x01" + GLUE),
        ("apicurio.value.globalId", bytes(7) + b"\x07"),
        ("apicurio.value.contentId", bytes(7) + b"\x07"),
    ],
)
@pytest.mark.parametrize(
    ("value", "what"), [(b"\x08u-42\xff", "Avro"), (b"\x00\x0a\x01\xff", "Protobuf")]
)
def test_an_id_in_a_header_names_the_format(
    header: str, schema: bytes, value: bytes, what: str
) -> None:
    """Newer serializers of Confluent, and those of Apicurio, frame nothing; their JSON is plain JSON."""
    headers = ((header, schema),)

    assert "event-1" == decode(record(BODY, headers=headers), RULES).id
    with pytest.raises(EventDecodeError) as caught:
        decode(record(value, headers=headers), RULES)
    assert "unsupported-format" == caught.value.code
    assert f"the value is {what}, with the id of its schema in the header {header};" in str(
        caught.value
    )


def test_an_expression_that_fails_says_what_is_there_instead() -> None:
    """Not what a function of it was given."""
    custom = compile_envelope({"id": "join('/', [body.id])", "type": "body.type", "data": "body"})
    for value, what in (
        (
            {"schema": {}, "payload": {"id": "1"}},
            "; the value is a Connect envelope {schema, payload}",
        ),
        ({"type": "t"}, "found by envelope.id: join() takes array-string, not null"),
    ):
        with pytest.raises(EventDecodeError) as caught:
            decode(record(value), EnvelopeRules(custom=custom))
        assert what in caught.value.violations[0].message


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (json.dumps({"id": "1", "type": "t"}), "the value is JSON inside a text: "),
        ([{"id": "1", "type": "t"}], "the value is an array of 1 object: publish one"),
        ({"schema": {}, "payload": {"id": "1"}}, "the value is a Connect envelope"),
        ({"no": "1"}, "is required"),
    ],
)
def test_an_envelope_of_ones_own_says_the_same(value: Any, what: str) -> None:
    """A missing id is explained by what is there instead."""
    custom = compile_envelope({"id": "body.id", "type": "body.type", "data": "body"})
    with pytest.raises(EventDecodeError) as caught:
        decode(record(value), EnvelopeRules(custom=custom))

    assert "invalid-envelope" == caught.value.code
    assert ["/id", "/type"] == [violation.pointer for violation in caught.value.violations]
    assert what in caught.value.violations[0].message


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (b"", None),
        (b"\x00\x00\x00\x00\x0f", SchemaReference(IdKind.GLOBAL, 15)),
        (b"\x00\xff\xff\xff\xff", SchemaReference(IdKind.GLOBAL, 2**32 - 1)),
        (b"\x00" + bytes(7) + b"\x0f", SchemaReference(IdKind.GLOBAL, 15)),
        (b"\x03\x00" + GLUE, None),
    ],
)
def test_a_frame_names_the_schema(frame: bytes, named: SchemaReference | None) -> None:
    """The registry of AWS Glue is not one that is looked into."""
    assert named == schema_reference(record(frame + BODY), IdKind.GLOBAL)


@pytest.mark.parametrize(
    ("header", "value", "named"),
    [
        ("__value_schema_id", b"\x00\x00\x00\x00\x07", SchemaReference(IdKind.CONTENT, 7)),
        ("__value_schema_id", b"\x01" + GLUE, SchemaReference(IdKind.GUID, UUID(ID))),
        ("apicurio.value.contentId", bytes(7) + b"\x07", SchemaReference(IdKind.CONTENT, 7)),
        ("apicurio.value.globalId", bytes(7) + b"\x07", SchemaReference(IdKind.GLOBAL, 7)),
        ("__key_schema_id", b"\x00\x00\x00\x00\x07", None),
    ],
)
def test_a_header_names_the_schema(
    header: str, value: bytes, named: SchemaReference | None
) -> None:
    """As the serializers of Confluent and Apicurio write it; it counts before a frame, and the last one before others."""
    headers = ((header, b"?"), (header, value))

    assert named == schema_reference(record(BODY, headers=headers), IdKind.CONTENT)
    if named is not None:
        framed = record(b"\x00\x00\x00\x00\x0f" + BODY, headers=headers)
        assert named == schema_reference(framed, IdKind.CONTENT)
    assert schema_reference(record(None, headers=headers), IdKind.CONTENT) is None


@pytest.mark.parametrize("header", ["__value_schema_id", "apicurio.value.globalId"])
@pytest.mark.parametrize("value", [b"", b"7", b"\x02\x00\x00\x00\x07", b"\x01" + GLUE + b"\x00"])
def test_a_header_that_holds_no_id_is_refused(header: str, value: bytes) -> None:
    """Nothing says then which schema is meant."""
    with pytest.raises(EventDecodeError) as caught:
        schema_reference(record(BODY, headers=((header, value),)), IdKind.CONTENT)
    assert "invalid-schema-id" == caught.value.code
    assert [f"/headers/{header}"] == [one.pointer for one in caught.value.violations]


@given(
    st.sampled_from([b"\x00", b"\x03\x00", b"\x03\x05", b"\x00\x00\x00\x00\x01", b"\xff\xfe", b""]),
    st.binary(max_size=64),
    st.booleans(),
)
def test_any_bytes_are_an_event_or_a_known_error(frame: bytes, rest: bytes, has_id: bool) -> None:
    """A frame, and whatever is in it, raises nothing else."""
    headers = (("__value_schema_id", b"1"),) if has_id else ()
    with suppress(EventDecodeError):
        schema_reference(Record("t", 0, 0, 0, None, frame + rest, headers), IdKind.CONTENT)
    with suppress(EventDecodeError):
        decode(
            Record("t", 0, 0, 0, None, frame + rest, headers), EnvelopeRules(SizeLimits(1000, 8))
        )
