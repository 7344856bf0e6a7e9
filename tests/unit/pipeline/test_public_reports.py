"""Records and schemas after public bug reports and vendors' documents, with what is right; each detail is invented."""

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from records import USER, binary, envelope, record

from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import SchemaDocument

SPRING = (("spring_json_header_types", b'{"ce_source":"java.net.URI"}'),)
NAMES = ("id", "type", "subject", "data")


def of_body(**others: str) -> dict[str, str]:
    """Return an envelope whose attributes have the names of CloudEvents in the body, but for `others`."""
    return {**{name: f"body.{name}" for name in NAMES}, **others}


def also(a_record: Record, *headers: tuple[str, bytes]) -> Record:
    """Return the record with more headers."""
    return replace(a_record, headers=(*a_record.headers, *headers))


EVENT = envelope()
PLAIN = {name: EVENT[name] for name in NAMES}
SCIM = {
    "iat": 1795861800,
    "jti": "event-1",
    "sub_id": {"format": "scim", "externalId": "u-1"},
    "events": {"urn:ietf:params:scim:event:prov:create:full": {"data": {"userName": "ada"}}},
}

READ: dict[str, tuple[Record, dict[str, str] | None]] = {
    "spring-cloud-function#1211: quoted source, time as a number": (
        also(binary(source='"/u"', time="1795861800.123000000", subject="u-1"), *SPRING),
        None,
    ),
    "sdk-java#370: binary without a content type": (binary(content_type=None, subject="u-1"), None),
    "sdk-java#512: ce_datacontenttype instead": (
        binary(content_type=None, datacontenttype="application/json", subject="u-1"),
        None,
    ),
    "sdk-python#238: structured, and no header at all": (record(EVENT), None),
    "sdk-python#304: extensions that are no texts": (record({**EVENT, "n": 5, "b": True}), None),
    "spec#835: an extension that is an object": (
        record({**EVENT, "confluentRouting": {"route": "r"}}, headers=(("content-type", b"application/cloudevents+json"),)),
        None,
    ),
    "sdk-csharp#63: a blank in the place of T": (
        record({**PLAIN, "time": "2026-11-28 10:30:00Z"}),
        of_body(time="timestamp(body.time, 'iso')"),
    ),
    "dcache#4234: Java's own text of a date": (
        record({**PLAIN, "time": "Sat Nov 28 11:30:00 CET 2026"}),
        of_body(time="timestamp(replace(replace(body.time, ' CET', ''), ' CEST', ''), '%a %b %d %H:%M:%S %Y', 'Europe/Berlin')"),
    ),
    "kafka-rest#779: no seconds": (
        record({**PLAIN, "time": "2026-11-28T10:30Z"}),
        of_body(time="timestamp(body.time, 'iso')"),
    ),
    "plip-topic#38: a list of numbers": (
        record({**PLAIN, "time": [2026, 11, 28, 10, 30, 0, 783706186]}),
        of_body(time="timestamp(body.time, 'list', 'UTC')"),
    ),
    "debezium#2710: JSON inside a text": (
        record({**PLAIN, "data": json.dumps(USER)}),
        of_body(data="from_json(body.data)"),
    ),
    "debezium#5294: JSON in base64": (
        record({**PLAIN, "data": b64encode(json.dumps(USER).encode()).decode()}),
        of_body(data="from_json(from_base64(body.data))"),
    ),
    "schemas.enable: Connect's envelope around a text": (
        record({"schema": {"type": "string"}, "payload": json.dumps(PLAIN)}),
        {name: f"from_json(body.payload).{name}" for name in NAMES},
    ),
    "MongoDB's extended JSON": (
        record({**PLAIN, "id": {"$oid": "event-1"}, "time": {"$date": {"$numberLong": "1795861800123"}}}),
        of_body(id='body.id."$oid"', time="""timestamp(body.time."$date"."$numberLong", 'ms')"""),
    ),
    "Amazon SNS": (
        record({"MessageId": "event-1", "Subject": "u-1", "Message": json.dumps(USER), "Timestamp": "2026-11-28T10:30:00.123Z"}),
        {"id": "body.MessageId", "type": "'user.created'", "subject": "body.Subject", "time": "body.Timestamp", "data": "from_json(body.Message)"},
    ),
    "Amazon EventBridge": (
        record({"id": "event-1", "detail-type": "user.created", "time": "2026-11-28T10:30:00Z", "detail": USER}),
        {"id": "body.id", "type": 'body."detail-type"', "subject": "body.detail.userId", "time": "body.time", "data": "body.detail"},
    ),
    "Azure Event Grid: an array of one": (
        record([{"id": "event-1", "eventType": "user.created", "subject": "u-1", "eventTime": "2026-11-28T10:30:00.1234567Z", "data": USER}]),
        {"id": "(length(body) == `1` && body[0].id) || `null`", "type": "body[0].eventType", "subject": "body[0].subject", "time": "body[0].eventTime", "data": "body[0].data"},
    ),
    "Azure's serializer: the schema in the content type": (
        binary(content_type="application/json+4f2a9c", subject="u-1"),
        None,
    ),
    "MassTransit": (
        record({"messageId": "event-1", "messageType": ["urn:message:Acme:UserCreated"], "message": USER, "sentTime": "2026-11-28T10:30:00.1234567Z"}),
        {"id": "body.messageId", "type": "lower(replace(split(body.messageType[0], ':')[-1], 'UserC', 'user.c'))", "subject": "body.message.userId", "time": "body.sentTime", "data": "body.message"},
    ),
    "RFC 9967: a security event token of SCIM": (
        record(SCIM),
        {
            "id": "body.jti",
            "type": "(ends_with(keys(body.events)[0], ':create:full') && 'user.created') || 'other'",
            "subject": "body.sub_id.externalId",
            "time": "timestamp(body.iat, 's')",
            "data": "merge(values(body.events)[0].data, {userId: body.sub_id.externalId})",
        },
    ),
    "Auth0 event streams: a CloudEvent with an object in its data": (
        record({**EVENT, "subject": None, "data": {"object": {"user_id": "u-1", "email": "ada@acme.example"}}}),
        of_body(subject="body.data.object.user_id", data="body.data.object.{userId: user_id, email: email}"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("report", READ)
def test_a_record_is_read(report: str) -> None:
    """As a CloudEvent, or by the envelope that its reader would describe."""
    a_record, expressions = READ[report]
    custom = compile_envelope(expressions) if expressions else None

    event = decode(a_record, EnvelopeRules(custom=custom))

    assert ("event-1", "user.created", "u-1") == (event.id, event.type, event.subject)
    assert isinstance(event.data, dict)
    if "time" in (expressions or ()):
        assert event.time is not None
        assert ("2026-11-28", 10, 30) == (
            f"{event.time:%Y-%m-%d}",
            event.time.hour,
            event.time.minute,
        )


KEYS: dict[str, tuple[bytes, str | None]] = {
    "strimzi-kafka-bridge#461: a JSON text": (b'"u-1"', None),
    "kafka-rest#562: framed": (b'\x00\x00\x00\x00\x07"u-1"', None),
    "Connect's struct as text": (b"Struct{id=u-1}", "first(split(split(key, 'id=')[1], '}'))"),
    "Connect's JSON with its schema": (
        b'{"schema": {}, "payload": {"id": "u-1"}}',
        "key.payload.id",
    ),
    "Debezium for MongoDB": (b'{"id": "{\\"$oid\\": \\"u-1\\"}"}', 'from_json(key.id)."$oid"'),
    "Debezium for two columns": (b'{"tenant": "t", "id": "u-1"}', "key.id"),
    "a prefix": (b"user:u-1", "split(key, ':')[-1]"),
}


@pytest.mark.parametrize("report", KEYS)
def test_a_key_is_read(report: str) -> None:
    """And compared with the subject."""
    key, expression = KEYS[report]
    rules = EnvelopeRules(keys=compile_keys(expression, None))

    assert "u-1" == decode(record(EVENT, key=key), rules).subject


NAMED: dict[str, tuple[Record, str]] = {
    "kafkactl#325: the text null for a tombstone": (record(b"null"), "a tombstone is a record without a value"),
    "micronaut-kafka#88: an empty value": (record(b""), "the value is empty"),
    "several events, one a line": (record(b'{"a": 1}\n{"a": 2}\n'), "JSON in each of its lines"),
    "a token as RFC 9967 allows": (record(b"eyJhbGciOiJub25lIn0.eyJqdGkiOiIxIn0."), "a signed token (JWT)"),
    "XML": (record(b"<?xml version='1.0'?><user/>"), "the value is XML"),
    "kafka-python: compressed by hand": (record(b"\x78\x9c\x01\x02"), "compressed with zlib"),
    "Debezium, unwrapped": (record({"id": 1, "__op": "c"}), "a change event of Debezium"),
    "specversion as a number": (record({**EVENT, "specversion": 1.0}), 'must be "1.0"'),
    "apicurio-registry#7067: Avro in a frame": (record(b"\x00\x00\x00\x00\x07\x06u-1"), "Avro in a Confluent frame, schema 7"),
}  # fmt: skip


@pytest.mark.parametrize("report", NAMED)
def test_what_cannot_be_read_is_named(report: str) -> None:
    """By what is there."""
    a_record, words = NAMED[report]
    with pytest.raises(BridgeError) as caught:
        decode(a_record, EnvelopeRules())

    said = [
        caught.value.message,
        caught.value.remedy,
        *(one.message for one in caught.value.violations),
    ]
    assert any(words in str(one) for one in said)


DRAFT_7 = "http://json-schema.org/draft-07/schema#"
OPTIONAL = {"oneOf": [{"type": "null", "title": "Not included"}, {"type": "string"}]}
SCHEMAS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "schema-registry#2732: Confluent's generator for Java": (
        {"$schema": DRAFT_7, "javaType": "com.acme.User", "properties": {"a": OPTIONAL, "b": OPTIONAL}},
        {"a": None, "b": 1},
        ["/data/b: must be null or a string"],
    ),
    "confluent-kafka-dotnet: NJsonSchema": (
        {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"type": "integer", "format": "int32", "minimum": 0, "exclusiveMinimum": True}}},
        {"a": 0},
        ["/data/a: must be greater than 0"],
    ),
    "json-everything#497: exclusiveMaximum of draft 4": (
        {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"maximum": 5, "exclusiveMaximum": False}}},
        {"a": 5},
        [],
    ),
    "jsonschema#1064: an empty fragment in $id": (
        {"$schema": DRAFT_7, "$id": "https://acme.example/item.json#", "allOf": [{"$ref": "#/definitions/core"}], "definitions": {"core": {"required": ["a"]}}},
        {},
        ["/data/a: is required"],
    ),
    "drf-spectacular#1534: null has both forms": (
        {"properties": {"a": {"oneOf": [{}, {"type": "null"}]}}},
        {"a": None},
        ["/data/a: must have exactly one of the 2 allowed forms"],
    ),
    "Pydantic: anyOf for what is optional": (
        {"$defs": {"A": {"type": "object", "required": ["zip"]}}, "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "default": None}}},
        {"a": {}},
        ["/data/a/zip: is required"],
    ),
    "zod-to-json-schema#93: an escaped at": (
        {"$schema": DRAFT_7, "$ref": "#/definitions/User", "definitions": {"User": {"properties": {"a": {"pattern": "\\@"}}}}},
        {"a": "ada"},
        ["/data/a: must match the pattern \\@"],
    ),
    "check-jsonschema#521: more escapes than the flag allows": (
        {"properties": {"a": {"pattern": r"^[\säÄöÖüÜßẞ\w\_\'\/\-\+\*\&\<\>\(\)\,\:\.\?\!]+$"}}},
        {"a": "Über-a#"},
        [r"/data/a: must match the pattern ^[\säÄöÖüÜßẞ\w\_\'\/\-\+\*\&\<\>\(\)\,\:\.\?\!]+$"],
    ),
    "ajv#2017: an escaped hyphen": (
        {"properties": {"a": {"pattern": r"^\d{4}\-\d{2}$"}}},
        {"a": "2026-11"},
        [],
    ),
    "connexion#1720: nullable of OpenAPI": (
        {"properties": {"a": {"type": "string", "nullable": True}}},
        {"a": None},
        ["/data/a: must be a string, not null; leave the property out"],
    ),
    "https: for http: in $schema": (
        {"$schema": "https://json-schema.org/draft-07/schema", "properties": {"a": {"items": [{"type": "string"}]}}},
        {"a": [1]},
        ["/data/a/0: must be a string"],
    ),
    "quicktype: draft 6 and a reference at the root": (
        {"$schema": "http://json-schema.org/draft-06/schema#", "$ref": "#/definitions/W", "definitions": {"W": {"additionalProperties": False}}},
        {"a": 1},
        ["/data/a: is a property that the schema does not know"],
    ),
}  # fmt: skip


def catalog(schema: dict[str, Any]) -> SchemaCatalog:
    """Return the catalog of one schema, which gets a name where it has none."""
    keyword = "id" if "draft-04" in schema.get("$schema", "") else "$id"
    content = {keyword: "urn:acme:user.created:1.100", **schema}
    return SchemaCatalog([SchemaDocument("user.created", (1, 100), content, "1.100.json")])


@pytest.mark.parametrize("report", SCHEMAS)
def test_a_schema_means_what_its_author_reads_in_it(report: str) -> None:
    """Every violation in words, with its own pointer."""
    schema, data, violations = SCHEMAS[report]

    assert violations == [
        f"{one.pointer}: {one.message}" for one in catalog(schema).violations("user.created", data)
    ]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ajv#1379: a code point as in PCRE": (
        {"properties": {"a": {"pattern": r"\x{00a1}"}}},
        r"/properties/a/pattern: is not a regular expression that can be used: \x means nothing",
    ),
    "schemastore#1360: braces that are not escaped": (
        {"properties": {"a": {"pattern": r"^\${{.*}}$"}}},
        "/properties/a/pattern: is not a regular expression that can be used: { has to be escaped",
    ),
    "a hyphen between classes": (
        {"properties": {"a": {"pattern": r"^[\w-.]+$"}}},
        "else escape its hyphen",
    ),
    "an inline flag": ({"properties": {"a": {"pattern": "^(?i)a$"}}}, "ECMA 262 does not know"),
    "a reference to a file beside it": (
        {"properties": {"a": {"$ref": "address.json"}}},
        "/properties/a/$ref: 'address.json' names no schema",
    ),
    "a reference without its slash": (
        {"properties": {"a": {"$ref": "#definitions/A"}}},
        "/properties/a/$ref: '#definitions/A' names no schema",
    ),
    "a type of OpenAPI 2": ({"properties": {"a": {"type": "file"}}}, "/properties/a/type: is no"),
    "required as in draft 3": (
        {"properties": {"a": {"type": "string", "required": True}}},
        "/properties/a/required: is written as in an older draft",
    ),
}


@pytest.mark.parametrize("report", REFUSED)
def test_a_schema_that_cannot_be_used_is_refused_at_start(report: str) -> None:
    """With file, pointer and reason."""
    schema, words = REFUSED[report]
    with pytest.raises(ConfigError) as caught:
        catalog(schema)

    assert "1.100.json: /" in caught.value.message
    assert words in caught.value.message
