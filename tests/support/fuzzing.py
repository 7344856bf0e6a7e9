"""Records and schemas that are nearly right, made at random: real events, damaged in every way that a producer could.

What `random.Random(f"{seed}/{index}")` makes is the same every time, so that one case can be looked at by itself.
"""

import gzip
import json
import math
import os
import secrets
import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from keycloak_bridge.app.schema_files import load_documents
from keycloak_bridge.domain.events import USER_EVENTS, Record

FOLDER = Path(__file__).parents[1] / "events"
TOPIC = "user-events"
NEWEST_MS = 1_793_577_600_000

Steps = tuple[str | int, ...]


def seed_of(*, everything: bool) -> str:
    """Return `FUZZ_SEED`; without it, a short run makes the same cases every time, and a long one always others."""
    return os.environ.get("FUZZ_SEED") or (secrets.token_hex(4) if everything else "1")


@cache
def real_events() -> Sequence[str]:
    """Return the text of events of every type and version."""
    lines = (FOLDER / "user-created-2000.ndjson").read_text("utf-8").splitlines()[:60]
    samples = [
        (path.parts[-4], json.loads(path.read_text("utf-8")))
        for path in sorted(FOLDER.glob("*/*/valid/*.json"))
    ]
    samples += [
        (document.type, example)
        for document in load_documents()
        for example in document.content.get("examples", ())
    ]
    return [
        *lines,
        *(json.dumps({**_ENVELOPE, "type": kind, "data": data}) for kind, data in samples),
    ]


_ENVELOPE = {"specversion": "1.0", "id": "e-1", "source": "/um", "time": "2026-11-28T10:00:00Z"}


NUMBERS: Sequence[Any] = (
    0,
    -1,
    1,
    1.0,
    0.5,
    -0.0,
    1e308,
    5e-324,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**20,
    10**299,
)
TIMES = (
    "2026-11-28T10:00:00Z",
    "2026-11-28T10:00:00.123456789123Z",
    "2026-11-28 10:01",
    "2026-11-28T10:00:60Z",
    "2016-12-31T23:59:60Z",
    "0001-01-01T00:00:00+23:59",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "2026-11-28T24:00:00Z",
    "20261128T100000Z",
    "٢٠٢٦-11-28T10:00:00Z",
    "1793577600000",
    "Sat, 28 Nov 2026 10:00:00 GMT",
)  # fmt: skip
TEXTS = (
    "",
    " ",
    "\u00a0",
    "\t\n",
    "a\nb",
    "\u0000",
    "\x1b[31m",
    "\ud800",
    "\udc00\ud800",
    "\ufeff",
    "\u202eadmin",
    "ad\u00admin",
    "ａｄｍｉｎ",
    "admin",
    "service-account-x",
    "anonymous-1",
    "null",
    "NaN",
    "true",
    "0",
    "İ",
    "ß",
    "ﷺ" * 30,
    "\U0001f600",
    "a" * 255,
    "a" * 256,
    "ü" * 3000,
    "e" + "\u0301\u0316" * 600,
    "a@b",
    "A@B.EXAMPLE",
    "a@" + "ü" * 60 + ".example",
    "a@" + "".join(map(chr, range(0x4E00, 0x4E00 + 400))),
    "a@b" * 100,
    '"a b"@c.d',
    "a@[127.0.0.1]",
    "+4915112345678",
    "+0",
    "x-x-x-x",
    "de-DE-",
    "/staff",
    "//staff//",
    "/a~1b/../c",
    "staff/",
    "viewer",
    "attributes.userId:x",
    "key:value other",
    "u-1",
    "urn:keycloak-bridge:schema:user.created:1.0",
    "urn:keycloak-bridge:schema:user.updated:1.0",
    "user.created",
    "order.placed",
    "1.0",
    "%s%n${x}{0}",
    *TIMES,
)
TYPES = (*USER_EVENTS, "order.placed", "user.renamed", "user.provisioning.result", "dead-letter")
DATA_NAMES = (
    *("userId", "email", "givenName", "familyName", "username", "locale", "tenantId", "department"),
    *("phoneNumber", "active", "roles", "groups", "attributes", "complete", "reason", "organizations"),
    *("clientRoles", "federatedIdentities", "requiredActions", "__proto__", "a.b", "a~1b", ""),
)  # fmt: skip
ENVELOPE_NAMES = ("id", "source", "type", "subject", "time", "dataschema", "data", "data_base64", "specversion", "datacontenttype")  # fmt: skip


def value(random: Random, depth: int = 0) -> Any:
    """Return any JSON value, and sometimes one that no JSON has."""
    kind = random.randrange(12)
    if kind == 0:
        return random.choice((None, True, False))
    if kind in (1, 2):
        return random.choice(NUMBERS)
    if kind == 3 and depth < 3:
        return [
            value(random, depth + 1)
            for _ in range(random.choice((0, 1, 2, 3, 101)) % (9 if depth else 200))
        ]
    if kind == 4 and depth < 3:
        names = random.choices(DATA_NAMES, k=random.randrange(4))
        return {name: value(random, depth + 1) for name in names}
    if kind == 5 and not depth:
        return nested(random.choice((5, 30, 33, 60)), random)
    if kind == 6:
        return random.choice((math.nan, math.inf, -math.inf))
    if kind == 7:
        return "".join(map(chr, (random.choice((random.randrange(128), random.randrange(0x3000), random.randrange(0x110000))) for _ in range(random.randrange(9)))))  # fmt: skip
    return random.choice(TEXTS)


def nested(depth: int, random: Random) -> Any:
    """Return lists or objects in one another."""
    inner: Any = "deep"
    for _ in range(depth):
        inner = {"a": inner} if random.random() < 0.5 else [inner]
    return inner


def paths(found: Any, at: Steps = (), depth: int = 6) -> list[Steps]:
    """Return the path of everything in a value, a few levels down."""
    here: list[Steps] = [at]
    if depth and isinstance(found, dict):
        for name, item in found.items():
            here += paths(item, (*at, name), depth - 1)
    elif depth and isinstance(found, list):
        for index, item in enumerate(found[:20]):
            here += paths(item, (*at, index), depth - 1)
    return here


def changed(root: Any, at: Steps, change: Callable[[Any, str | int], None]) -> Any:
    """Return `root` after `change` of what holds the value at a path, given that and the last step."""
    holder = {"": root}
    here: Any = holder
    for step in ("", *at)[:-1]:
        here = here[step]
    change(here, ("", *at)[-1])
    return holder.get("")


def damaged(event: Any, random: Random) -> Any:
    """Return `event`, which is changed, with something else somewhere."""
    places = paths(event)
    data = [one for one in places if one[:1] == ("data",)]
    at = random.choice(data if data and random.random() < 0.75 else places)
    other = random.choice(paths(event))

    def change(holder: Any, step: str | int) -> None:
        kind = random.randrange(9)
        item = holder[step]
        if kind == 0 and step != "":
            del holder[step]
        elif kind == 1:
            holder[step] = [item]
        elif kind == 2:
            holder[step] = {random.choice(DATA_NAMES): item}
        elif kind == 3 and isinstance(holder, dict) and step != "":
            holder[random.choice((str(step).upper(), f" {step}", *DATA_NAMES))] = holder.pop(step)
        elif kind == 4 and isinstance(item, dict):
            names = ENVELOPE_NAMES if not at else DATA_NAMES
            item[random.choice(names)] = value(random)
        elif kind == 5:
            holder[step] = json.loads(json.dumps(_at(event, other), default=str))
        elif kind == 6 and isinstance(item, list) and item:
            holder[step] = item * random.choice((2, 101))
        else:
            holder[step] = value(random)

    return changed(event, at, change)


def _at(root: Any, steps: Steps) -> Any:
    for step in steps:
        root = root[step]
    return root


def text_of(event: Any, random: Random) -> bytes:
    """Return an event as a producer might write it, with escapes or without."""
    text = json.dumps(
        event, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 1))
    )
    return text.encode("utf-8", "surrogatepass")


def spoiled(content: bytes, random: Random) -> bytes:
    """Return bytes with something done to them that is no matter of JSON values."""
    at = random.randrange(len(content) + 1)
    choices: Sequence[Callable[[], bytes]] = (
        lambda: b"",
        lambda: content[:at],
        lambda: content[:at] + random.randbytes(random.randrange(1, 4)) + content[at:],
        lambda: (
            content[:at]
            + random.choice(
                (
                    b'"',
                    b"{",
                    b"}",
                    b",",
                    b":",
                    b"\\",
                    b"\\u0000",
                    b"\\ud800",
                    b"1e999",
                    b"-",
                    b"\x00",
                )
            )
            + content[at:]
        ),
        lambda: b"\xef\xbb\xbf" + content,
        lambda: b"\x00\x00\x00\x00\x07" + content,
        lambda: b"\x00\x00\x00\x00\x07\x00" + content,
        lambda: content.decode("utf-8", "replace").encode("utf-16"),
        lambda: content.decode("utf-8", "replace").encode("latin-1", "replace"),
        lambda: gzip.compress(content, 1),
        lambda: b"[" + content + b"]",
        lambda: json.dumps(content.decode("utf-8", "replace")).encode(),
        lambda: content + content,
        lambda: content.replace(b'"userId"', b'"email"', 1),
        lambda: content.replace(b"{", b'{"id": 1, "id": 2, ', 1),
        lambda: content.replace(b'":', b'": ' + b"[" * random.choice((300, 100_000)), 1),
        lambda: content.replace(b'"', b"'"),
        lambda: b" " * 70_000 + content,
        lambda: random.randbytes(random.randrange(60)),
    )
    return random.choice(choices)()


def headers_of(event: Any, random: Random) -> tuple[tuple[str, bytes | None], ...]:
    """Return the headers of a binary event."""
    names = [one for one in ENVELOPE_NAMES if not one.startswith("data") or one == "dataschema"]
    return tuple(
        (
            f"{random.choice(('ce_', 'ce_', 'ce_', 'ce-', 'CE_'))}{name}",
            str(event[name]).encode("utf-8", "replace"),
        )
        for name in names
        if name in event
    )


def any_header(random: Random) -> tuple[str, bytes | None]:
    """Return a header that may mean something to somebody."""
    name = random.choice(
        (
            *("content-type", "Content-Type", "ce_specversion", "ce_id", "ce_type", "ce_time", "ce_subject", "ce_source"),
            *("kb-dlq-topic", "kb-dlq-partition", "kb-dlq-attempts", "kb-dlq-code", "kb-replay-of", "kb-replay-invite"),
            *("kb-replay-origin", "kb-dlq-replayed", "traceparent", "", "ü", "kind", "a" * 300),
        )
    )  # fmt: skip
    content = random.choice(
        (
            *(None, b"", b"\xff\xfe", b"1.0", b"0/1", b"none", b"-1", b"9" * 30, b"user.deleted", b"user.created"),
            *(b"order.placed", b"application/json", b"application/cloudevents+json; charset=UTF-8"),
            *(b"application/cloudevents-batch+json", b"application/cloudevents+avro", b"text/plain", b"2026"),
        )
    )  # fmt: skip
    return name, content


def key_of(subject: Any, random: Random) -> bytes | None:
    """Return a record key, mostly the user's."""
    user = subject if isinstance(subject, str) else "u-1"
    bare = user.encode("utf-8", "surrogatepass")
    return random.choice(
        (
            *((bare,) * 30),
            *(None, None, b"", b'""', b"\xff", b"u-1", b'{"id": "u-1"}', b"[]", b"{", b"null", b"u" * 300),
            json.dumps(user).encode(),
            json.dumps({"id": user}).encode(),
            b"\x00\x00\x00\x00\x01" + json.dumps(user).encode(),
            random.randbytes(8),
        )
    )  # fmt: skip


def fuzzed_record(random: Random, offset: int = 0) -> Record:
    """Return a real event, damaged in no, one or several ways."""
    event = json.loads(random.choice(real_events()))
    subject = event.get("subject")
    if random.random() < 0.3:
        event["type"] = random.choice(TYPES)
    if random.random() < 0.7 and isinstance(event.get("data"), dict):
        event["subject"] = subject = event["data"]["userId"] = f"u-{random.randrange(5)}"
    if random.random() < 0.2:
        event["time"] = random.choice(TIMES)
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        event = damaged(event, random)
    headers: tuple[tuple[str, bytes | None], ...] = ()
    content: bytes | None
    if random.random() < 0.25 and isinstance(event, dict):
        headers = headers_of(event, random)
        content = text_of(event.get("data"), random)
    else:
        content = text_of(event, random)
        if random.random() < 0.5:
            headers = (("content-type", b"application/cloudevents+json"),)
    if random.random() < 0.12:
        content = spoiled(content, random)
    if random.random() < 0.05:
        content = None
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        at = random.randrange(len(headers) + 1)
        headers = (*headers[:at], any_header(random), *headers[at:])
    timestamp_ms = random.choice(
        (NEWEST_MS, NEWEST_MS, -1, 0, 1, 2**63 - 1, -(2**63), 253_402_300_800_000)
    )
    return Record(TOPIC, 0, offset, timestamp_ms, key_of(subject, random), content, headers)


NAMES = "abcé"
ASCII = string.ascii_letters + string.digits + "@.-+/: "


def instance(random: Random, depth: int = 0) -> Any:
    """Return a small value of the names and texts that `schema` speaks of."""
    kind = random.randrange(9 if depth < 3 else 6)
    if kind < 2:
        return "".join(random.choices("ab1" if kind else ASCII, k=random.randrange(5)))
    if kind == 2:
        return random.choice(
            (0, 1, -1, 2, 3, 10, 1.0, 1.5, -0.0, 2**53 + 1, 10**20, 1e20, 0.1, 10**299)
        )
    if kind == 3:
        return random.choice((None, True, False))
    if kind == 4:
        return random.choice(
            (
                "a@b.example",
                "2026-01-01",
                "2026-01-01T00:00:00Z",
                "127.0.0.1",
                "::1",
                "de",
                "urn:a",
                "é",
            )
        )
    if kind == 5:
        return random.choice(("", [], {}, "\u0301", "\U0001f600", "a" * 20))
    if kind == 6:
        return [instance(random, depth + 1) for _ in range(random.randrange(4))]
    return {
        name: instance(random, depth + 1)
        for name in random.sample(NAMES, random.randrange(len(NAMES) + 1))
    }


def schema(random: Random, depth: int = 0, defs: int = 2) -> Any:
    """Return a schema with keywords that a catalog takes; formats and patterns mean the same to every validator."""
    if depth > 3 or random.random() < 0.05:
        return random.choice((True, False, {}, True)) if depth else {}
    made: dict[str, Any] = {}
    for _ in range(random.choice((1, 1, 2, 3))):
        name, make = random.choice(_KEYWORDS)
        made[name] = make(random, depth)
    if depth == 0:
        made["$defs"] = {f"d{number}": schema(random, 1) for number in range(defs)}
    return made


def _sub(random: Random, depth: int) -> Any:
    return schema(random, depth + 1)


def _subs(random: Random, depth: int) -> list[Any]:
    return [schema(random, depth + 1) for _ in range(random.randrange(1, 4))]


def _named(random: Random, depth: int) -> dict[str, Any]:
    return {
        name: schema(random, depth + 1) for name in random.sample(NAMES, random.randrange(1, 4))
    }


def _names(random: Random, _: int) -> list[str]:
    return random.sample(NAMES, random.randrange(3))


def _count(random: Random, _: int) -> Any:
    return random.choice((0, 1, 2, 3, 2.0))


def _number(random: Random, _: int) -> Any:
    return random.choice((0, 1, -1, 1.5, 2, 10**20))


_TYPES = ("null", "boolean", "object", "array", "string", "integer", "number")
_PATTERNS = ("^a", "a+b", "^[a-c]*$", "[0-9]{2}", "é", "^(a|b)?1", "")
_KEYWORDS: Sequence[tuple[str, Callable[[Random, int], Any]]] = (
    ("type", lambda r, _: r.choice(_TYPES)),
    ("type", lambda r, _: r.sample(_TYPES, r.randrange(1, 4))),
    ("enum", lambda r, _: [instance(r, 2) for _ in range(r.randrange(1, 4))]),
    ("const", lambda r, _: instance(r, 2)),
    *((name, _count) for name in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")),
    *((name, _number) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    ("multipleOf", lambda r, _: r.choice((1, 2, 0.5, 3))),
    ("pattern", lambda r, _: r.choice(_PATTERNS)),
    ("required", _names),
    *(((("properties"), _named),) * 3),
    ("patternProperties", lambda r, d: {r.choice(_PATTERNS): _sub(r, d)}),
    *((name, _sub) for name in ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else")),
    *((name, _sub) for name in ("unevaluatedProperties", "unevaluatedItems")),
    ("minContains", _count),
    ("maxContains", _count),
    ("uniqueItems", lambda r, _: r.random() < 0.8),
    *((name, _subs) for name in ("allOf", "anyOf", "oneOf", "prefixItems")),
    ("dependentRequired", lambda r, d: {name: _names(r, d) for name in _names(r, d)}),
    ("dependentSchemas", _named),
    *((("$ref", lambda r, _: f"#/$defs/d{r.randrange(2)}"),) * 2),
)  # fmt: skip
