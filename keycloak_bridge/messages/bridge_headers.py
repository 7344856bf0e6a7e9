"""The headers that the bridge itself adds to records, and what a record is without them.

Whoever may publish to a topic can write such headers too, so none of them is believed by itself: a replay must have its
mark in the dead-letter topic, and a dead letter must hold the very record that it is said to be of.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from keycloak_bridge.domain.events import Record

DEAD_LETTER_PREFIX = "kb-dlq-"
REPLAY_PREFIX = "kb-replay-"

Headers = tuple[tuple[str, bytes | None], ...]


def original_headers(record: Record) -> Headers:
    """Return the headers of `record` that the bridge did not add."""
    added = (DEAD_LETTER_PREFIX, REPLAY_PREFIX)
    return tuple(one for one in record.headers if not one[0].startswith(added))


def has_bridge_headers(record: Record) -> bool:
    """Say whether `record` carries headers such as the bridge adds, whoever wrote them."""
    return len(original_headers(record)) < len(record.headers)


def without_bridge_headers(record: Record) -> Record:
    """Return `record` as if the bridge had added nothing."""
    return replace(record, headers=original_headers(record))


def content_digest(record: Record) -> bytes:
    """Return the SHA-256 of key, value and headers without those of the bridge: a replay keeps it, and so does a dead letter.

    What kafka-python cannot send counts as what it sends instead: a null header, and a record without key and value.
    """
    nothing = record.key is None and record.value is None
    value = b"" if nothing else record.value
    digest = hashlib.sha256()
    for part in (record.key, value, *_parts(original_headers(record))):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()


def record_digest(
    record: Record, *, topic_id: str | None = None, content: bytes | None = None
) -> bytes:
    """Return what tells `record` from every other one: content, timestamp and position, in a topic with that id.

    `content` is its digest where the record itself is not at hand.
    """
    place = (
        f"{topic_id or ''}:{record.topic}/{record.partition}@{record.offset}:{record.timestamp_ms}:"
    )
    return hashlib.sha256(place.encode() + (content or content_digest(record))).digest()


def _parts(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        yield name.encode("utf-8", "surrogatepass")
        yield value or b""
