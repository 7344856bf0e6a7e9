"""Which user a record key names, and where that is asked."""

import json

import pytest
from records import envelope, record

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError, KeyMismatchError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.cloudevents import SizeLimits
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode, deletion_of, peek
from keycloak_bridge.events.record_key import RecordKeys, compile_keys

FRAME = b"\x00\x00\x00\x00\x07"
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
        (RecordKeys(), FRAME, None),
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
        (RecordKeys(), b'"u-1', '"u-1'),
        (RecordKeys(), b"{6f9619ff-8b86}", "{6f9619ff-8b86}"),
        (BY_ID, b'{"id": "u-1", "tenant": "t"}', "u-1"),
        (BY_ID, FRAME + b'{"id": 1001}', "1001"),
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
        (RecordKeys(), b"\x00\x00\x00\x00\x00\x00\x03\xe9"),
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
        (b"\x00\x00\x00\x00\x00\x00\x03\xe9", "is not UTF-8"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x11", "is a number in bytes"),
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
