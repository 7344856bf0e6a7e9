"""Which user a record key names, and where that is asked."""

import json
import struct
import zlib
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import envelope, record

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError, KeyMismatchError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.cloudevents import SizeLimits
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode, deletion_of, peek
from keycloak_bridge.events.record_key import RecordKeys, compile_keys

FRAME = b"\x00\x00\x00\x00\x07"
GLUE_ID = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")
GLUE = b"\x03\x00" + GLUE_ID.bytes
GLUE_DEFLATED = b"\x03\x05" + GLUE_ID.bytes
AVRO_TEXT = b"H28518867-1234-4abc-8def-0123456789ab"
LONG_KEY = json.dumps({"id": "u-1", "tenant": "a" * 500}).encode()
BY_ID = compile_keys("key.id", None)
BY_ID_OR_TEXT = compile_keys("key.id || key", None)


def keyed(key: bytes | None) -> Record:
    """Return a tombstone with this key."""
    return Record("user-events", 3, 42, -1, key, None)


@pytest.mark.parametrize(
    ("keys", "key", "user"),
    [
        (RecordKeys(), None, None),
        (RecordKeys(), b"", None),
        (RecordKeys(), b'""', None),
        (RecordKeys(), FRAME + b'""', None),
        (RecordKeys(), b"u-1", "u-1"),
        (RecordKeys(), b"1001", "1001"),
        (RecordKeys(), b"007", "007"),
        (RecordKeys(), b"1e5", "1e5"),
        (RecordKeys(), b"null", "null"),
        (RecordKeys(), "ü-1".encode(), "ü-1"),
        (RecordKeys(), b'"u-1"', "u-1"),
        (RecordKeys(), b' "u-1"', ' "u-1"'),
        (RecordKeys(), b'"\\u00fc-1"', "ü-1"),
        (RecordKeys(), FRAME + b'"u-1"', "u-1"),
        (RecordKeys(), FRAME + b' "u-1"', "u-1"),
        (RecordKeys(), b"\x00" + bytes(7) + b'\x07"u-1"', "u-1"),
        (RecordKeys(), GLUE + b'"u-1"', "u-1"),
        (RecordKeys(), b'"u-1', '"u-1'),
        (RecordKeys(), b"{6f9619ff-8b86}", "{6f9619ff-8b86}"),
        (BY_ID, b'{"id": "u-1", "tenant": "t"}', "u-1"),
        (BY_ID, FRAME + b'{"id": 1001}', "1001"),
        (BY_ID, b'{"id": 1001.0}', "1001"),
        (BY_ID, GLUE_DEFLATED + zlib.compress(LONG_KEY), "u-1"),
        (BY_ID_OR_TEXT, b'{"id": "u-1"}', "u-1"),
        (BY_ID_OR_TEXT, b'"u-1"', "u-1"),
        (BY_ID_OR_TEXT, b"u-1", "u-1"),
        (compile_keys(None, "key.id"), b'{"id": "u-1"}', "u-1"),
        (compile_keys(None, "body.id"), b"u-1", "u-1"),
        (compile_keys("lower(key)", "key.id"), b"U-1", "u-1"),
        (compile_keys("first(split(split(key, 'id=')[1], '}'))", None), b"Struct{id=u-1}", "u-1"),
        (compile_keys("key.payload.id", None), b'{"schema": {}, "payload": {"id": 17}}', "17"),
        (
            compile_keys('from_json(key.id)."$oid"', None),
            b'{"id": "{\\"$oid\\": \\"u-1\\"}"}',
            "u-1",
        ),
    ],
)
def test_a_key_names_a_user(keys: RecordKeys, key: bytes | None, user: str | None) -> None:
    """As text, as JSON text, or where the expression finds it; an empty key is no key."""
    assert user == keys.user(keyed(key))


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        (RecordKeys(), b"\xff"),
        (RecordKeys(), struct.pack(">q", 1001)),
        (RecordKeys(), struct.pack(">q", 825373492)),
        (RecordKeys(), FRAME),
        (RecordKeys(), FRAME + b"u-1"),
        (RecordKeys(), FRAME + AVRO_TEXT),
        (RecordKeys(), FRAME + b'"u-1'),
        (RecordKeys(), FRAME + b'{"id": "u-1"'),
        (BY_ID_OR_TEXT, FRAME + AVRO_TEXT),
        (RecordKeys(), b"\x00" + bytes(7) + b"\x07\x06u-1"),
        (RecordKeys(), GLUE + AVRO_TEXT),
        (RecordKeys(), GLUE_DEFLATED + b"u-1"),
        (RecordKeys(), GLUE_DEFLATED + zlib.compress(b'"' + b"u" * 1_000_000 + b'"')),
        (RecordKeys(), b"u\n1"),
        (RecordKeys(), b"u" * 256),
        (RecordKeys(), b"{}"),
        (RecordKeys(), b'{"id": "u-1"}'),
        (RecordKeys(), b'["u-1"]'),
        (RecordKeys(), b'"\\ud800"'),
        (RecordKeys(), b'"\\u0000"'),
        (RecordKeys(), b"[" * 100_000),
        (BY_ID, b'{"id": "u-1", "id": "u-2"}'),
        (BY_ID, b'{"id": true}'),
        (BY_ID, b'{"id": 1.5}'),
        (BY_ID, b'{"id": 9007199254740993.0}'),
        (BY_ID, b'{"id": ["u-1"]}'),
        (BY_ID, b'{"id": ""}'),
        (BY_ID, b'{"id": ' + b"9" * 300 + b"}"),
        (BY_ID, b'{"name": "u-1"}'),
        (BY_ID, b"u-1"),
        (compile_keys("lower(key)", None), b'{"id": "u-1"}'),
    ],
)
def test_a_key_that_names_nobody_says_so(keys: RecordKeys, key: bytes) -> None:
    """With one code, and never with what stands in it."""
    rules = EnvelopeRules(keys=keys)

    with pytest.raises(EventDecodeError) as caught:
        deletion_of(keyed(key), rules)

    assert "unreadable-key" == caught.value.code
    assert "u-1" not in str(caught.value)
    assert None is caught.value.__cause__
    assert None is peek(keyed(key), rules).subject
    with pytest.raises(KeyMismatchError):
        decode(record(envelope(), key=key), rules)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (b'{"id": "u-1"}', "is a JSON object"),
        (b'["u-1"]', "is a JSON array"),
        (b"\xff", "is not UTF-8"),
        (
            struct.pack(">q", 1001),
            "is a number in 8 bytes, or Avro in a Confluent frame, schema 0;",
        ),
        (struct.pack(">q", 1_772_323_200_000), "is a number in 8 bytes, or "),
        (struct.pack(">i", 1001), "is a number in 4 bytes, or another binary value;"),
        (b"\x00", "is a binary value;"),
        (b"u\x00", "is a binary value: it names no user"),
        (FRAME, "is nothing in a Confluent frame, schema 7;"),
        (FRAME + AVRO_TEXT, "is Avro in a Confluent frame, schema 7;"),
        (FRAME + b'{"id": ', "is Avro in a Confluent frame, schema 7;"),
        (FRAME + b"\x00\x0a\x03u-1", "is Protobuf in a Confluent frame, schema 7;"),
        (b"\x00" + bytes(7) + b"\x07\x06u-1", "is Avro in an Apicurio frame, schema 7;"),
        (GLUE + AVRO_TEXT, "is Avro or Protobuf in a frame of AWS Glue, schema 6f9619ff-"),
        (GLUE_DEFLATED + b"u-1", "is nothing that can be decompressed in a frame of AWS Glue"),
    ],
)
def test_a_refusal_says_what_the_key_is(key: bytes, what: str) -> None:
    """In the message of the event that it does not fit."""
    with pytest.raises(KeyMismatchError, match=what):
        decode(record(envelope(), key=key), EnvelopeRules())


@pytest.mark.parametrize(
    ("keys", "key"), [(RecordKeys(), b'"u-1"'), (RecordKeys(), b'""'), (BY_ID, b'{"id": "u-1"}')]
)
def test_the_user_of_the_key_is_compared_with_the_subject(keys: RecordKeys, key: bytes) -> None:
    """However the producer writes its keys; another user is refused."""
    rules = EnvelopeRules(keys=keys)

    assert "u-1" == decode(record(envelope(), key=key), rules).subject
    if keys.user(keyed(key)) is not None:
        with pytest.raises(KeyMismatchError):
            decode(record(envelope(subject="u-2"), key=key), rules)


def test_a_key_tells_the_user_where_the_record_does_not() -> None:
    """In results and dead letters, and only where keys name users: another key may be an address."""
    tombstone = keyed(b'"u-1"')

    assert "u-1" == peek(tombstone, EnvelopeRules()).subject
    assert None is peek(tombstone, EnvelopeRules(match_key=False)).subject
    assert "u-1" == peek(tombstone, EnvelopeRules(match_key=False, keys_name_users=True)).subject


def test_an_envelope_of_the_producers_reads_the_key_the_same_way() -> None:
    """So that the subject that is made of it is the user whom the key names."""
    custom = compile_envelope({"id": "body.n", "type": "'t'", "data": "body", "subject": "key.id"})
    rules = EnvelopeRules(SizeLimits(), custom=custom, keys=compile_keys(None, "key.id"))
    event = decode(Record("t", 0, 0, 0, b'{"id": "u-1"}', json.dumps({"n": 1}).encode()), rules)

    assert "u-1" == event.subject == deletion_of(keyed(b'{"id": "u-1"}'), rules).subject


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("key.", "is no JMESPath expression"),
        ("body.id", "must read `key` and nothing else"),
        ("'u-1'", "must read `key` and nothing else"),
        ("key.id || headers.id", "must read `key` and nothing else"),
        ("lowr(key)", "did you mean 'lower'?"),
    ],
)
def test_a_wrong_expression_is_found_at_start(text: str, reason: str) -> None:
    """By the name of its setting."""
    with pytest.raises(ConfigError) as caught:
        compile_keys(text, None)

    assert caught.value.message.startswith("envelope.key: ")
    assert reason in caught.value.message


def named_user(key: bytes) -> str | None:
    """Return the user whom the key names to `run`; None where it names nobody."""
    with suppress(EventDecodeError):
        return RecordKeys().user(keyed(key))
    return None


@pytest.mark.parametrize(
    "rest", [b"", b"1001", b"\x00\x00\x00\x07", b"\x00\x00\x00\x07H2851", AVRO_TEXT]
)
def test_no_part_of_a_key_in_binary_names_a_user(rest: bytes) -> None:
    """Whatever its first byte is: a user is named by the whole text, or by nothing of it."""
    for first in range(256):
        key = bytes((first,)) + rest

        assert named_user(key) in (None, key.decode("latin-1"))


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**48), st.sampled_from((">q", "<q")))
def test_no_number_in_bytes_names_another_user(number: int, order: str) -> None:
    """A number whose eight bytes are all letters is a text to anybody."""
    key = struct.pack(order, number)

    assert named_user(key) in (None, key.decode("latin-1"))
    assert None is named_user(struct.pack(">q", abs(number) >> 8))


@pytest.mark.parametrize("text", [b'"a"', b"[1]", b"{} ", b"123", b"2 4"])
def test_eight_bytes_that_begin_with_0_are_a_number(text: bytes) -> None:
    """Even where a frame around JSON of one letter looks the same: it is refused, not taken for a wrong user."""
    assert None is named_user(FRAME + text)
