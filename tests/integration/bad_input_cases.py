"""Every kind of record that can never become a user, and what its dead letter must say."""

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge_harness import STRUCTURED, an_event

OWN_SCHEMA = "urn:keycloak-bridge:schema:user.created:2.0"
OWN_PROPERTIES: dict[str, Any] = {
    "birthDate": {"type": "string", "format": "date"},
    "hiredAt": {"type": "string", "format": "date-time"},
    "homepage": {"type": "string", "format": "uri"},
    "badge": {"type": "string", "format": "uuid"},
    "level": {"type": "integer", "minimum": 1, "maximum": 9},
    "kind": {"enum": ["internal", "external"]},
    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "closed": {"type": "object", "additionalProperties": False},
}
"""What a schema 2.0 of the tests adds, so that every keyword and format has its case."""

TEN_MEGABYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Case:
    """A record, and the code, stage and pointers of the dead letter that it becomes."""

    name: str
    code: str
    stage: str
    pointers: tuple[str, ...]
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = STRUCTURED
    status: str | None = None


def raw(
    name: str,
    code: str,
    value: bytes | None,
    *pointers: str,
    headers: Sequence[tuple[str, bytes]] = STRUCTURED,
    key: bytes | None = None,
) -> Case:
    """Return a case of bytes that are no event."""
    return Case(name, code, "decode", pointers, key or f"bad-{name}".encode(), value, headers)


def event(
    name: str,
    code: str,
    stage: str,
    *pointers: str,
    status: str | None = None,
    envelope: dict[str, Any] | None = None,
    key: bytes | None = None,
    **data: Any,
) -> Case:
    """Return a case of an event with this `data` and these attributes in its envelope."""
    user_id = f"bad-{name}"
    given = {**an_event(user_id, **data), **(envelope or {})}
    text = json.dumps({k: v for k, v in given.items() if v is not None}, ensure_ascii=False)
    return Case(name, code, stage, pointers, key or user_id.encode(), text.encode(), status=status)


def broken(name: str, *pointers: str, **data: Any) -> Case:
    """Return a case of data that breaks its schema."""
    return event(name, "schema-violation", "schema", *pointers, **data)


def own(name: str, **data: Any) -> Case:
    """Return a case that breaks the schema of the tests in its one property."""
    (prop, value), *_ = data.items()
    inside = f"/{next(iter(value))}" if isinstance(value, dict) else ""
    envelope = {"dataschema": OWN_SCHEMA}
    pointer = f"/data/{prop}{inside}"
    return event(name, "schema-violation", "schema", pointer, envelope=envelope, **data)


def text_of(name: str, **data: Any) -> str:
    """Return a sound event as text, to be spoilt."""
    return json.dumps(an_event(f"bad-{name}", **data), ensure_ascii=False)


def noise(size: int) -> str:
    """Return text that no codec makes much smaller, the same each time."""
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()  # noqa: S311 # no secret


DECODE = (
    raw("not-json", "not-json", b'{"specversion": "1.0",'),
    raw("empty", "not-json", b""),
    raw("nan", "not-json", text_of("nan").replace('"tenant-1"', "NaN").encode()),
    raw("utf-16", "wrong-encoding", text_of("utf-16").encode("utf-16")),
    raw("latin-1", "wrong-encoding", text_of("latin-1", givenName="Zoë").encode("latin-1")),
    raw("deep", "too-deep", b'{"specversion":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    raw("ten-megabytes", "too-large", text_of("10mb", note=noise(TEN_MEGABYTES)).encode()),
    raw("twice", "duplicate-key", b'{"specversion": "1.0", "a": 1, "a": 2}', "/a"),
    raw(
        "nul",
        "invalid-text",
        text_of("nul").replace("Ada", "A\\u0000a").encode(),
        "/data/givenName",
    ),
    raw("array", "not-a-cloudevent", b"[1, 2]"),
    raw("frame", "unsupported-format", b"\x00\x00\x00\x00\x07\x08u-42\x1ca@acme.example"),
    raw("batch", "batch-not-supported", b"[" + text_of("batch").encode() + b"]"),
    raw("no-envelope", "not-a-cloudevent", b'{"userId": "u-1"}', headers=()),
    raw("avro", "unsupported-content-type", b"\x02\x04ab", "/headers/content-type", headers=(("content-type", b"avro/binary"), ("ce_specversion", b"1.0"))),
    raw("tombstone", "tombstone", None),
    raw("odd-headers", "not-json", b"\xef\xbb\xbf{", headers=(("trace", b"\xff\x00"), ("a", b"1"), ("a", b""), ("kb", "ä".encode()))),
    event("spec-0.3", "unsupported-specversion", "decode", "/specversion", envelope={"specversion": "0.3"}),
    event("no-id", "invalid-envelope", "decode", "/id", envelope={"id": None}),
    event("long-id", "invalid-envelope", "decode", "/id", envelope={"id": "x" * 256}),
    event("bad-time", "invalid-envelope", "decode", "/time", envelope={"time": "yesterday"}),
    event("key", "key-mismatch", "decode", "/subject", key=b"somebody-else"),
    event("key-bytes", "key-mismatch", "decode", "/subject", key=b"\xff\xfe"),
)  # fmt: skip

SCHEMA = (
    event("type", "unknown-type", "schema", "/type", envelope={"type": "user.exploded"}),
    event("version", "unknown-schema", "schema", "/dataschema",
          envelope={"dataschema": "urn:keycloak-bridge:schema:user.created:7.3"}),
    event("data-list", "schema-violation", "schema", "/data", envelope={"data": []}),
    event("no-data", "schema-violation", "schema", "/data", envelope={"data": None}),
    broken("missing", "/data/email", email=None),
    broken("several", "/data/email", "/data/givenName", "/data/phoneNumber",
           email=None, givenName=7, phoneNumber="0049 30"),
    broken("wrong-type", "/data/active", active="yes"),
    broken("null", "/data/department", department=[None]),
    broken("email", "/data/email", email="a b@acme.example"),
    broken("locale", "/data/locale", locale="not a language"),
    broken("too-long", "/data/familyName", familyName="x" * 256),
    broken("blank", "/data/givenName", givenName=""),
    broken("phone", "/data/phoneNumber", phoneNumber="030 1234567"),
    broken("newline", "/data/phoneNumber", phoneNumber="+4930123456\n"),
    broken("role-type", "/data/roles/1", roles=["viewer", 3]),
    broken("attribute-value", "/data/attributes/shoeSize", attributes={"shoeSize": 43}),
    own("date", birthDate="2026-02-30"),
    own("date-time", hiredAt="2026-01-01 08:00"),
    own("uri", homepage="not a uri"),
    own("uuid", badge="4711"),
    own("minimum", level=0),
    own("integer", level=1.5),
    own("enum", kind="robot"),
    own("unique", tags=["a", "a"]),
    own("closed", closed={"surprise": 1}),
)  # fmt: skip

MAP = (
    event("reserved", "reserved-user", "map", "/user/username", username="Admin"),
    event("service", "reserved-user", "map", "/user/username", username="service-account-x"),
    event("reserved-wide", "reserved-user", "map", "/user/username", username="ａｄｍｉｎ"),
    event("reserved-hyphen", "reserved-user", "map", "/user/username", username="ad\u00admin"),
    event("reserved-turned", "reserved-user", "map", "/user/username", username="\u202eadmin"),
    event("reserved-dotless", "reserved-user", "map", "/user/username", username="admın"),
    event("username-hidden", "invalid-username", "map", "/user/username", username="ada\u200blove"),
    event("role", "role-not-allowed", "map", "/user/realmRoles/1", roles=["viewer", "realm-admin"]),
    event("group", "group-not-allowed", "map", "/user/groups/1", groups=["/staff", "/board"]),
    event("subject", "subject-mismatch", "map", "/subject", key=b"other", envelope={"subject": "other"}),
)  # fmt: skip

KEYCLOAK = (
    event("name", "keycloak-rejected", "keycloak", "/user/firstName", status="400", givenName="A<b>da"),
    event("profile", "keycloak-rejected", "keycloak", "/user/attributes/department", status="400",
          department="longer than this realm allows"),
    event("both", "keycloak-rejected", "keycloak", "/user/attributes/department", "/user/lastName",
          status="400", familyName="Love>lace", department="longer than this realm allows"),
    event("username-space", "keycloak-rejected", "keycloak", "/user/username", status="400",
          username="ada lovelace"),
    event("username-short", "keycloak-rejected", "keycloak", "/user/username", status="400",
          username="al"),
    event("username-sign", "keycloak-rejected", "keycloak", "/user/username", status="400",
          username="ada<lovelace"),
    event("homograph", "keycloak-rejected", "keycloak", "/user/username", status="400",
          username="аdmin.аda"),  # the first letters are Cyrillic
    event("taken-email", "conflict", "keycloak", "/user/email", email="owner@acme.example"),
    event("taken-username", "conflict", "keycloak", "/user/username", username="owner"),
    event("foreign-email-as-username", "conflict", "keycloak", "/user/username", username="owner@acme.example"),
    event("ambiguous", "ambiguous", "keycloak"),
    event("lost-group", "group-missing", "keycloak", "/user/groups/1", groups=["/staff", "/customers"]),
    event("lost-role", "role-not-found", "keycloak", roles=["approver"]),
)  # fmt: skip

CASES = (*DECODE, *SCHEMA, *MAP, *KEYCLOAK)
