"""A record becomes an event with a valid envelope, in every mode that producers use, or an error with a code."""

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import USER, binary, envelope, record

from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    EventDecodeError,
    EventError,
    KeyMismatchError,
)
from keycloak_bridge.domain.events import CloudEvent, Record
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.events import cloudevents
from keycloak_bridge.events.cloudevents import SizeLimits
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode, deletion_of, peek

RULES = EnvelopeRules()
EVENT = CloudEvent(
    id="event-1",
    source="/user-management",
    type="user.created",
    subject="u-1",
    time=datetime(2026, 11, 1, 9, 30, tzinfo=UTC),
    dataschema=None,
    data=USER,
)
BATCH = (("content-type", b"application/cloudevents-batch+json"),)
PROTOBUF = (("content-type", b"application/cloudevents+protobuf"),)
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
EXPRESSIONS = {
    "id": "body.no",
    "type": "headers.kind",
    "subject": "key",
    "time": "body.at",
    "data": "body.user",
}


def custom_rules(**expressions: str) -> EnvelopeRules:
    types = {"UserRegistered": "user.created"}
    custom = compile_envelope(EXPRESSIONS | expressions)
    return EnvelopeRules(SizeLimits(1000, 8), custom=custom, types=types)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("content-type", "application/cloudevents+json"),
        ("content-type", "application/cloudevents+json; charset=UTF-8"),
        ("content-type", "application/cloudevents"),
        ("Content-Type", "APPLICATION/CloudEvents+JSON"),
        ("content-type", "application/json"),
        ("content-type", "text/plain"),
        ("ce_id", "left over from another hop"),
        ("__value_schema_id", "Confluent's, in a header"),
    ],
)
@pytest.mark.parametrize("frame", [b"", b"\x00\x00\x00\x00\x2a"], ids=["plain", "Confluent"])
@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-11-01T11:30:00+02:00", "dataschema": None},
        {"data": None, "data_base64": b64encode(json.dumps(USER).encode()).decode()},
    ],
    ids=["json", "base64"],
)
def test_structured_mode_by_header_or_body(
    name: str, content_type: str, frame: bytes, changes: dict[str, Any]
) -> None:
    """The header says so in any case, or the body has specversion; null is absent, and the time is in UTC."""
    value = frame + json.dumps(envelope(**changes)).encode()

    assert decode(record(value, headers=((name, content_type.encode()),)), RULES) == EVENT


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/vnd.acme+json; v=1", "text/json"]
)
def test_binary_mode(content_type: str | None) -> None:
    """Attributes stand in headers, of which the last counts, as Kafka's own `lastHeader` has it."""
    expected = CloudEvent("event-1", "/u", "user.created", None, None, None, USER)
    sent = binary(content_type=content_type)
    twice = replace(sent, headers=(*sent.headers, ("CE_ID", b"last")))

    assert decode(sent, RULES) == expected
    assert decode(twice, RULES) == replace(expected, id="last")


def spelt(
    a_record: Record, spelling: Callable[[str], str], written: Callable[[str], str]
) -> Record:
    """Return the record with each header renamed and its value written anew."""
    headers = tuple(
        (spelling(name), written((value or b"").decode()).encode())
        for name, value in a_record.headers
    )
    return replace(a_record, headers=headers)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda name: name.replace("ce_", "ce-"),
        lambda name: name.replace("ce_", "Ce-").title(),
        str.upper,
    ],
)
@pytest.mark.parametrize("written", [str, json.dumps], ids=["plain", "Spring's JSON"])
def test_headers_are_read_however_an_sdk_writes_them(
    spelling: Callable[[str], str], written: Callable[[str], str]
) -> None:
    """With a hyphen, in any case, and with values that Spring quoted."""
    expected = CloudEvent("event-1", "/u", "user.created", None, None, None, USER)

    assert expected == decode(spelt(binary(), spelling, written), RULES)


def test_quotation_marks_belong_to_the_value_unless_spring_wrote_them() -> None:
    """An id may have them; Spring's own header says which headers are JSON, whatever the version looks like."""
    plain = binary(id='"e-1"')
    spring = replace(plain, headers=(*plain.headers, ("spring_json_header_types", b"{}")))

    assert '"e-1"' == decode(plain, RULES).id
    assert "e-1" == decode(spring, RULES).id
    for odd in ('"', '"\\ud800"', '"a" "b"'):
        changed = replace(spring, headers=(*spring.headers, ("ce_id", odd.encode())))
        assert odd == decode(changed, RULES).id


@pytest.mark.parametrize(
    "written",
    ["1795861800.123000000", "1795861800123", '"2026-11-28T10:30:00.123Z"'],
)
def test_a_time_that_spring_wrote_as_a_number_is_read(written: str) -> None:
    """Jackson's form of an OffsetDateTime, an Instant or a Date; another producer's number is refused."""
    sent = binary(source='"/u"', time=written)
    spring = replace(sent, headers=(*sent.headers, ("spring_json_header_types", b"{}")))
    read = decode(spring, RULES)

    assert ("/u", datetime(2026, 11, 28, 10, 30, 0, 123000, UTC)) == (read.source, read.time)
    with pytest.raises(EventDecodeError, match="/headers/ce_time must be a date and time"):
        decode(sent, RULES)


def test_attributes_of_others_do_no_harm() -> None:
    """Extensions may be numbers or objects, as Confluent's audit log has them."""
    event = envelope(confluentRouting={"route": "audit"}, partitionkey=7, traceid=True)

    assert decode(record(envelope()), RULES) == decode(record(event), RULES)


def test_an_underscore_comes_before_a_hyphen() -> None:
    """What the specification says counts; a wrong one is pointed at as it is spelt."""
    both = replace(binary(), headers=(*binary().headers, ("ce-id", b"other")))

    assert "event-1" == decode(both, RULES).id
    with pytest.raises(EventDecodeError) as caught:
        decode(spelt(binary(id=None), lambda name: name.replace("_", "-"), str), RULES)
    assert ["/headers/ce-id"] == [one.pointer for one in caught.value.violations]


@pytest.mark.parametrize(
    ("a_record", "pointer"),
    [
        (binary(content_type="application/octet-stream", datacontenttype="application/json"), None),
        (binary(content_type='"application/json"'), None),
        (binary(content_type="application/json+4f2a9c"), None),
        (binary(content_type="application/octet-stream"), None),
        (binary(content_type="text/plain;charset=UTF-8"), None),
        (record(envelope(datacontenttype="text/plain")), None),
        (
            binary(content_type="application/json", datacontenttype="application/xml"),
            "/headers/ce_datacontenttype",
        ),
        (record(envelope(datacontenttype="application/xml")), None),
        (record(envelope(datacontenttype="application/xml", data="<user/>")), "/datacontenttype"),
        (
            record(envelope(datacontenttype="application/xml", data=..., data_base64="PHUvPg==")),
            "/datacontenttype",
        ),
    ],
)
def test_the_content_type_of_the_data_counts_wherever_it_is(
    a_record: Record, pointer: str | None
) -> None:
    """It comes before that of the record; data that are JSON are read whatever they are called."""
    if pointer is None:
        assert USER == decode(a_record, RULES).data
        return
    with pytest.raises(EventDecodeError) as caught:
        decode(a_record, RULES)
    assert "unsupported-content-type" == caught.value.code
    assert [pointer] == [one.pointer for one in caught.value.violations]


@pytest.mark.parametrize(
    ("data", "nulls_absent", "cleared", "expected"),
    [
        ({"a": None, "b": {"c": None, "d": 0}}, False, None, {"a": None, "b": {"c": None, "d": 0}}),
        ({"a": None, "b": {"c": None, "d": 0}}, True, None, {"b": {"d": 0}}),
        ({"a": [None, {"b": None}]}, True, None, {"a": [None, {}]}),
        ({"a": None, "b": None}, True, ["b"], {"b": None}),
        ({"a": 1}, False, ["b.c", "b.d", "a"], {"a": None, "b": {"c": None, "d": None}}),
        ({"b": {"x": 1}}, False, ["b.c"], {"b": {"x": 1, "c": None}}),
        ({"b.c": 1}, False, ["b.c"], {"b.c": None}),
        ({"a": 1}, False, [], {"a": 1}),
        (None, True, None, None),
    ],
)
def test_nulls_mean_what_the_settings_say(
    data: Any, nulls_absent: bool, cleared: Any, expected: Any
) -> None:
    """A property that is null may count as absent; one that a list names is null. The record stays as it was."""
    custom = compile_envelope(
        {"id": "'1'", "type": "'user.updated'", "data": "body.data", "cleared": "body.nulled"}
    )
    a_record = record({"data": data, "nulled": cleared})
    rules = EnvelopeRules(custom=custom, nulls_absent=nulls_absent)

    assert expected == decode(a_record, rules).data
    assert expected == decode(a_record, rules).data


@pytest.mark.parametrize(
    ("data", "cleared"),
    [({}, "a"), ({}, [1]), ({}, [".".join("a" * 40)]), ({"a": 1}, ["a.b"]), ([], ["a"])],
)
def test_a_list_of_names_that_is_none_is_pointed_at(data: Any, cleared: Any) -> None:
    """Nothing else is raised, however deep the names lead."""
    custom = compile_envelope(
        {"id": "'1'", "type": "'t'", "data": "body.data", "cleared": "body.nulled"}
    )
    with pytest.raises(EventDecodeError) as caught:
        decode(record({"data": data, "nulled": cleared}), EnvelopeRules(custom=custom))

    assert ["/cleared"] == [one.pointer for one in caught.value.violations]


TIMES = {
    "array": [2026, 11, 28, 10, 30],
    "no zone": "2026-11-28T10:30:00",
    "no colon": "2026-11-28T11:30:00.000+0100",
    "space": "2026-11-28 10:30:00Z",
    "seconds": 1795861800,
    "milliseconds": 1795861800000,
    "milliseconds in a text": "1795861800000",
    "zone by name": "2026-11-28T11:30:00+01:00[Europe/Berlin]",
    "RFC 1123": "Sat, 28 Nov 2026 10:30:00 GMT",
    ".NET": "/Date(1795861800000)/",
    "comma": "2026-11-28T10:30:00,000Z",
    "no seconds": "2026-11-28T10:30Z",
}
FORMS = {
    "array": "'list', 'UTC'",
    "no zone": "'iso', 'UTC'",
    "seconds": "'s'",
    "milliseconds": "'ms'",
    "milliseconds in a text": "'ms'",
    "RFC 1123": "'rfc1123'",
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_other_systems_are_read_in_an_envelope_of_ones_own(name: str) -> None:
    """CloudEvents refuses them and says how to read them."""
    value = envelope(time=TIMES[name])
    of_body = f"timestamp(body.time, {FORMS.get(name, repr('iso'))})"
    if name == ".NET":
        of_body = "timestamp(replace(replace(body.time, '/Date(', ''), ')/', ''), 'ms')"
    custom = compile_envelope(
        {"id": "body.id", "type": "body.type", "data": "body.data", "time": of_body}
    )

    read = decode(record(value), EnvelopeRules(custom=custom)).time

    assert datetime(2026, 11, 28, 10, 30, tzinfo=UTC) == read
    with pytest.raises(EventDecodeError, match=r"/time must be .*; timestamp\(\) in \[envelope\]"):
        decode(record(value), RULES)


@pytest.mark.parametrize(
    ("a_record", "code", "pointers"),
    [
        (record(None, key=b"u-1"), "tombstone", []),
        (record([envelope()], headers=BATCH), "batch-not-supported", []),
        (record(b"\x08", headers=PROTOBUF), "unsupported-content-type", ["/headers/content-type"]),
        *(
            (binary(body, content_type=kind), "unsupported-content-type", ["/headers/content-type"])
            for body, kind in ((b"\xffAvro", "avro/binary"), (USER, "application/xml"))
        ),
        (record(b"<user/>", headers=STRUCTURED), "unsupported-format", []),
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
    with pytest.raises(EventError) as caught:
        decode(a_record, RULES)

    assert code == caught.value.code
    assert pointers == [violation.pointer for violation in caught.value.violations]


def test_custom_envelope_is_read_by_expressions() -> None:
    """Key, headers and body are in reach, and what a mapping may call; the producer's type is translated."""
    value = {"no": 17, "n": "ABC", "at": "2026-11-01T09:30:00Z", "user": USER}
    headers = (("kind", b"UserRegistered"), ("trace", b"\xff"), ("empty", None))
    a_record = record(value, key=b"u-1", headers=headers)
    expected = replace(EVENT, id="17", source="/kafka/user-events")

    assert expected == decode(a_record, custom_rules())
    assert replace(expected, id="abc", source="crm") == decode(
        a_record, custom_rules(id="lower(body.n)", source="'crm'")
    )


def test_an_expression_that_fails_reports_no_value() -> None:
    """The library's error quotes what it met; ours does not, nor does it chain it."""
    with pytest.raises(EventDecodeError) as caught:
        decode(record({"n": ["ada@acme.example"]}), custom_rules(id="lower(body.n)"))

    assert caught.value.code == "invalid-envelope"
    assert [violation.pointer for violation in caught.value.violations] == ["/id"]
    assert "ada" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("expressions", "lines"),
    [
        (
            {**EXPRESSIONS, "id": "body."},
            [
                "envelope.id: is no JMESPath expression: the expression ends too early; a name, a bracket or a quote is missing"
            ],
        ),
        (
            {**EXPRESSIONS, "id": ""},
            ["envelope.id: is no JMESPath expression: the expression is empty"],
        ),
        ({**EXPRESSIONS, "id": "shout(body.id)"}, ["envelope.id: there is no function shout()"]),
        (
            {**EXPRESSIONS, "time": "meta.at"},
            ["envelope.time: 'meta' is unknown; an expression sees key, headers, body"],
        ),
        (
            {**EXPRESSIONS, "tpye": "body.type"},
            ["envelope.tpye: is no attribute of an event; did you mean 'type'?"],
        ),
        ({"subject": "key"}, ["envelope.id: is m", "envelope.type: is m", "envelope.data: is m"]),
    ],
)
def test_expression_that_cannot_work_is_a_configuration_error(
    expressions: dict[str, str], lines: list[str]
) -> None:
    """The settings key is named, and the reason; without any expression there is no envelope of one's own."""
    with pytest.raises(ConfigError) as caught:
        compile_envelope(expressions)

    found = caught.value.message.splitlines()
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True))
    assert compile_envelope(dict.fromkeys(expressions)) is None


def test_types_of_cloudevents_are_renamed_too() -> None:
    """A table of types needs no envelope."""
    rules = EnvelopeRules(types={"com.acme.user.created.v1": "user.created"})

    assert decode(record(envelope(type="com.acme.user.created.v1")), rules) == EVENT


@pytest.mark.parametrize(
    ("a_record", "pointer", "keyword"),
    [
        (record(envelope(id=...)), "/id", "required"),
        (record(envelope(id="")), "/id", "minLength"),
        (record(envelope(id=1)), "/id", "type"),
        (record(envelope(id="i" * 256)), "/id", "maxLength"),
        (record(envelope(id="a\nb")), "/id", "pattern"),
        (record(envelope(source="")), "/source", "minLength"),
        (record(envelope(type=None)), "/type", "required"),
        (record(envelope(subject="")), "/subject", "minLength"),
        (record(envelope(subject="s" * 256)), "/subject", "maxLength"),
        (record(envelope(subject=["u-1"])), "/subject", "type"),
        (record(envelope(time="yesterday")), "/time", "format"),
        (record(envelope(time=1_793_577_600)), "/time", "format"),
        (record(envelope(dataschema=1)), "/dataschema", "type"),
        (binary(id=None), "/headers/ce_id", "required"),
        (binary(time="2026-11-01"), "/headers/ce_time", "format"),
        (
            record(USER, headers=(*binary().headers, ("ce_id", b"\xff"))),
            "/headers/ce_id",
            "type",
        ),
    ],
)
def test_wrong_attribute_is_pointed_at(a_record: Record, pointer: str, keyword: str) -> None:
    """In the body or in the headers, wherever the producer has to look."""
    with pytest.raises(EventDecodeError) as caught:
        decode(a_record, RULES)

    assert caught.value.code == "invalid-envelope"
    assert [(v.pointer, v.keyword) for v in caught.value.violations] == [(pointer, keyword)]


def test_all_wrong_attributes_are_named_at_once() -> None:
    """One look at the dead letter is enough."""
    with pytest.raises(EventDecodeError) as caught:
        decode(record({"specversion": "1.0", "time": 1, "subject": ""}), RULES)

    assert [v.pointer for v in caught.value.violations] == [
        "/id",
        "/source",
        "/type",
        "/subject",
        "/time",
    ]


@pytest.mark.parametrize(
    ("key", "subject", "agrees"),
    [
        (None, "u-1", True),
        (b"u-1", "u-1", True),
        (b"u-1", ..., True),
        (b"u-2", "u-1", False),
        (b"", "u-1", True),
        (b"U-1", "u-1", False),
        (b"\xff", "u-1", False),
        (b"\xff", ..., False),
    ],
)
def test_key_must_agree_with_the_subject(key: bytes | None, subject: Any, agrees: bool) -> None:
    """Order is kept by key, so the key must name the user."""
    a_record = record(envelope(subject=subject), key=key)

    assert decode(a_record, EnvelopeRules(match_key=False)).id == "event-1"
    if agrees:
        assert decode(a_record, RULES).id == "event-1"
        return
    with pytest.raises(KeyMismatchError) as caught:
        decode(a_record, RULES)
    assert caught.value.code == "key-mismatch"


def test_limits_are_those_of_the_rules() -> None:
    """Size and depth are settings."""
    with pytest.raises(EventDecodeError, match="1000 are allowed"):
        decode(record(b" " * 1001), custom_rules())
    with pytest.raises(EventDecodeError, match="deeper than 8"):
        decode(record(b"[" * 9), custom_rules())


@pytest.mark.parametrize(
    ("a_record", "expected"),
    [
        (record(envelope()), ("event-1", "user.created", "u-1")),
        (record(envelope(id=7, time="x")), (None, "user.created", "u-1")),
        (record(envelope(id="i" * 256, type="a\x1bb")), (None, None, "u-1")),
        (binary(b"not JSON", subject="u-9"), ("event-1", "user.created", "u-9")),
        (record(b"not JSON", key=b"u-1"), (None, None, "u-1")),
        (record(b"not JSON", key=b"\xff"), (None, None, None)),
        (record(None, key=b"u-1"), (None, None, "u-1")),
        (record(envelope(specversion="0.3")), ("event-1", "user.created", "u-1")),
        (binary(None, subject="u-9"), ("event-1", "user.created", "u-9")),
    ],
)
def test_peek_returns_what_is_known(
    a_record: Record, expected: tuple[str | None, str | None, str | None]
) -> None:
    """Results and dead letters name the event where the record lets them."""
    assert peek(a_record, RULES) == expected


def test_peek_takes_no_key_for_a_user_where_keys_are_something_else() -> None:
    """A key that does not name the user may be an address."""
    rules = EnvelopeRules(match_key=False)

    assert peek(record(b"x", key=b"ada@acme.example"), rules) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "parses"), [(envelope(id=7), 1), (envelope(data={"padding": "x" * 65_536}), 4)]
)
def test_a_record_is_parsed_once(value: Any, parses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of its user, the event and the dead letter share what was parsed, unless it is huge."""
    parsed: list[bytes] = []

    def counting(text: bytes, **limits: int) -> Any:
        parsed.append(text)
        return parse_json(text, **limits)

    monkeypatch.setattr(cloudevents, "parse_json", counting)
    a_record = record(value)
    for _ in range(2):
        assert peek(a_record, RULES).subject == "u-1"
        with suppress(EventDecodeError):
            decode(a_record, RULES)

    assert parses == len(parsed)


def test_what_was_parsed_is_kept_by_its_limits() -> None:
    """Another reader with other limits decides for itself, and another record is another value."""
    a_record = record(envelope())
    assert decode(a_record, RULES) == EVENT

    with pytest.raises(EventDecodeError):
        decode(a_record, EnvelopeRules(SizeLimits(max_bytes=10)))
    with pytest.raises(EventDecodeError):
        decode(replace(a_record, value=b"[]"), RULES)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NAMES = st.sampled_from(
    ["specversion", "id", "source", "type", "subject", "time", "dataschema", "data", "data_base64"]
)
ENVELOPES = st.dictionaries(NAMES, JSON_VALUES | st.just("1.0")).map(
    lambda value: json.dumps(value).encode()
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "Content-Type", "ce_specversion", "ce_id", "ce_time"])
        | NAMES.map("ce_{}".format)
        | NAMES.map("ce-{}".format)
        | st.sampled_from(["spring_json_header_types", "ce-datacontenttype", "__value_schema_id"])
        | st.text(),
        st.none()
        | st.binary()
        | st.sampled_from([b"1.0", b"application/cloudevents+json", b"application/json"])
        | st.sampled_from([b'"1.0"', b'"\\ud800"', b'"\\u0000"', b'"', b"[[", b'"text/xml"']),
    ),
    max_size=8,
).map(tuple)


READING = compile_envelope(
    {
        "id": "text(body.id) || from_json(body.type).id",
        "type": "find(body.data, 'type', body.type).type || text(body.type)",
        "subject": "join('/', [text(body.subject), key])",
        "time": "timestamp(body.time, 'ms')",
        "data": "from_json(body.data) || merge(body.data, body.data)",
        "cleared": "from_json(body.dataschema) || body.dataschema",
    }
)


@given(ENVELOPES | st.binary(), st.none() | st.binary(), st.booleans())
def test_functions_of_an_envelope_raise_nothing_else(
    value: bytes, key: bytes | None, nulls_absent: bool
) -> None:
    """Whatever the body holds, it is an event or an error with a code, and its text can be written."""
    rules = EnvelopeRules(SizeLimits(1000, 8), custom=READING, nulls_absent=nulls_absent)
    a_record = Record("t", 0, 0, 0, key, value)
    with suppress(BridgeError):
        event = decode(a_record, rules)
        assert f"{event.id}{event.type}{event.subject}".encode()
    peek(a_record, rules)


@given(
    st.none()
    | st.binary()
    | ENVELOPES
    | ENVELOPES.map(lambda text: b"\x00\x00\x00\x00\x01" + text),
    st.none() | st.binary(),
    HEADERS,
    st.booleans(),
)
def test_any_record_is_an_event_or_a_known_error(
    value: bytes | None,
    key: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    own_envelope: bool,
) -> None:
    """For any bytes, nothing but a BridgeError is raised, and a peek never fails."""
    a_record = Record("t", 0, 0, 0, key, value, headers)
    rules = custom_rules() if own_envelope else RULES
    try:
        event = decode(a_record, rules)
    except BridgeError as error:
        assert error.disposition == "dead-letter"  # noqa: PT017
    else:
        assert event.id
        assert event.type
        assert event.time is None or event.time.utcoffset() is not None
    peek(a_record, rules)


@given(NAMES.filter(lambda name: name in ("id", "source", "type")), JSON_VALUES)
def test_required_attribute_is_only_ever_text(name: str, value: Any) -> None:
    """No other type slips through as an id, a source or a type."""
    try:
        event = decode(record(envelope(**{name: value})), RULES)
    except EventDecodeError:
        return

    assert isinstance(value, str)
    assert getattr(event, name) == value


TOMBSTONE = Record("user-events", 3, 42, 1_793_577_600_000, b"u-1", None)


def test_a_tombstone_is_the_deletion_of_its_keys_user() -> None:
    """Id and time are those of the record, so that redelivery is the same event; no time, or an impossible one, is none."""
    expected = CloudEvent(
        id="tombstone/user-events/3/42",
        source="/keycloak-bridge",
        type="user.deleted",
        subject="u-1",
        time=datetime.fromtimestamp(1_793_577_600, UTC),
        dataschema=None,
        data=None,
    )

    assert expected == deletion_of(TOMBSTONE, RULES)
    for timestamp_ms in (-1, 0, 1_793_577_600_000_000, 2**63 - 1):
        assert replace(expected, time=None) == deletion_of(
            replace(TOMBSTONE, timestamp_ms=timestamp_ms), RULES
        )


@pytest.mark.parametrize(
    ("key", "code"), [(None, "tombstone"), (b"", "tombstone"), (b"\xff", "unreadable-key")]
)
def test_a_key_that_names_nobody_is_refused(key: bytes | None, code: str) -> None:
    """There is no user to delete."""
    with pytest.raises(EventError) as caught:
        deletion_of(replace(TOMBSTONE, key=key), RULES)

    assert code == caught.value.code
