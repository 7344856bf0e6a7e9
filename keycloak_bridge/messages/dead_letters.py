"""Dead letters: how one is written and read back, what to do about it, and how it is replayed.

A dead letter is the untouched record with headers that say why it could not be handled. A replay publishes the record to
its topic again, with headers that name the dead letter, and writes a mark to the dead-letter topic.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from sys import intern
from typing import NamedTuple, Self

from keycloak_bridge.domain.errors import BridgeError, GivenUpError, KeycloakError
from keycloak_bridge.domain.events import DEAD_LETTER_REPLAYED, Message, Record
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.events.arrival import record_time
from keycloak_bridge.events.cloudevents import cloud_event_message
from keycloak_bridge.events.decode import EnvelopeRules, peek
from keycloak_bridge.messages.bounds import listed, shortened
from keycloak_bridge.messages.bridge_headers import (
    DEAD_LETTER_PREFIX,
    content_digest,
    original_headers,
    record_digest,
)
from keycloak_bridge.messages.recommended_actions import recommended_action

REPLAY_OF = "kb-replay-of"
"""The place of the dead letter, as `PARTITION/OFFSET` of the dead-letter topic."""

REPLAY_ORIGIN = "kb-replay-origin"
"""The place of the record in its topic before it was ever replayed; replays keep to that order."""

REPLAY_INVITE = "kb-replay-invite"
NO_INVITE = b"none"

_PLACE = re.compile(r"([0-9]{1,10})/([0-9]{1,19})", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_POSITION = ("topic", "partition", "offset", "timestamp")

REPLAYED = "kb-dlq-replayed"
"""Header of the mark that a dead letter was replayed: its place."""

INVITE_STEP = "invite"
_ATTEMPTS = f"{DEAD_LETTER_PREFIX}attempts"
_CODE = f"{DEAD_LETTER_PREFIX}code"
DIGEST = f"{DEAD_LETTER_PREFIX}digest"
"""Header of a dead letter, and of the mark that it was replayed: what the record holds."""

_LARGEST_ERRORS = 4096
_LONGEST_TEXT = 1000
"""Characters of a header that are kept of a dead letter; any client may have written it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """A position within one topic, written `PARTITION/OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that `text` names; raises ValueError with what to write instead."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError("write PARTITION/OFFSET, such as 3/41")
        return cls(int(match[1]), int(match[2]))


def dead_letter_message(
    record: Record,
    error: BridgeError,
    *,
    topic: str,
    step: str,
    group: str,
    schema_id: str | None,
    event_id: str | None,
    time: datetime,
    bridge_version: str,
    topic_id: str | None = None,
) -> Message:
    """Return the untouched record with headers that say where it came from and why it was given up.

    If the record was a dead letter before, those headers are replaced and the attempts continue to count. `topic_id` is
    Kafka's id of the record's topic: one that is made anew under the same name has another.
    """
    attempts = dead_letter_headers(record).get(_ATTEMPTS, "")
    status = error.status if isinstance(error, KeycloakError | GivenUpError) else None
    reason = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp_ms),
        "topic-id": topic_id,
        "digest": content_digest(record).hex(),
        "group": group,
        "stage": step,
        "code": error.code,
        "message": shortened(error.message),
        "errors": _errors(error),
        "action": shortened(error.remedy or recommended_action(error.code)),
        "http-status": None if status is None else str(status),
        "schema-id": schema_id,
        "event-id": event_id,
        "attempts": str((_count(attempts) or 0) + 1),
        "bridge-version": bridge_version,
        "time": format_time(time),
        **_omission(record),
    }
    headers = (
        *(one for one in record.headers if not one[0].startswith(DEAD_LETTER_PREFIX)),
        *((DEAD_LETTER_PREFIX + k, v.encode()) for k, v in reason.items() if v is not None),
    )
    return Message(topic, record.key, record.value, headers)


def _omission(record: Record) -> Mapping[str, str]:
    """Return what to say where the record was never had."""
    unreadable = record.unreadable
    if unreadable is None or unreadable.is_whole:
        return {}
    size = {} if unreadable.size_bytes is None else {"size": str(unreadable.size_bytes)}
    return {"omitted": "key, value, headers", **size}


_SMALLEST_OMITTED = 16 * 1024
"""Bytes of key and value; any dead-letter topic takes a record of that size."""

_LARGEST_KEY = 1024
_LARGEST_HEADERS = 16 * 1024
BODY_OMITTED = "body-omitted"


def without_body(letter: Message) -> Message:
    """Return the dead letter `letter`, which its topic does not take, without its value and what else is large in it.

    Its code becomes `body-omitted`, and `kb-dlq-cause` is the one it had. Sizes and digests tell it from others, and its
    position says where the record is as long as its topic keeps it.
    """
    own = {name: value for name, value in letter.headers if name.startswith(DEAD_LETTER_PREFIX)}
    others = tuple(one for one in letter.headers if not one[0].startswith(DEAD_LETTER_PREFIX))
    key, value = letter.key or b"", letter.value or b""
    omitted = [] if letter.value is None else ["value"]
    if len(key) > _LARGEST_KEY:
        omitted.insert(0, "key")
    if sum(len(name.encode()) + len(value or b"") for name, value in others) > _LARGEST_HEADERS:
        others = ()
        omitted.append("headers")
    cause = (own.get(f"{DEAD_LETTER_PREFIX}code") or b"").decode()
    reason = (own.get(f"{DEAD_LETTER_PREFIX}message") or b"").decode()
    own |= {
        DEAD_LETTER_PREFIX + name: text.encode()
        for name, text in {
            "code": BODY_OMITTED,
            "cause": cause,
            "message": f"the dead-letter topic does not take the whole record; it became one since {reason}",
            "action": recommended_action(BODY_OMITTED),
            "omitted": ", ".join(omitted),
            "size": str(len(key) + len(value)),
            "key-sha256": sha256(key).hexdigest(),
            "value-sha256": sha256(value).hexdigest(),
        }.items()
    }
    kept = None if "key" in omitted else letter.key
    return replace(letter, key=kept, value=None, headers=(*others, *own.items()))


def given_up(error: BridgeError) -> GivenUpError:
    """Return the reason of a dead letter for a record that kept failing with `error`."""
    return GivenUpError(
        f"it kept failing while others succeeded; at last: {error.message}",
        remedy=error.remedy,
        status=error.status if isinstance(error, KeycloakError) else None,
    )


def _errors(error: BridgeError) -> str | None:
    found = listed(error.violations, _LARGEST_ERRORS)
    return json.dumps(found, ensure_ascii=False) if found else None


def dead_letter_headers(record: Record) -> Mapping[str, str]:
    """Return the reason headers of a dead letter as text, in the shape of the schema `dead-letter`."""
    return {
        name: (value or b"").decode("utf-8", errors="replace")
        for name, value in record.headers
        if name.startswith(DEAD_LETTER_PREFIX)
    }


def dead_lettered_record(letter: Record) -> bytes | None:
    """Return the digest of the record, as `record_digest` does, that the dead letter holds; None for any other record.

    The digest is taken of what the dead letter holds, not of what its headers say of it.
    """
    if dead_letter_headers(letter).get(_CODE) == BODY_OMITTED:
        return None
    return _record_digest(letter, content_digest(letter))


def record_without_body(letter: Record) -> bytes | None:
    """Return the same of the record that a dead letter without its body says it is of; see `may_lack_body`."""
    headers = dead_letter_headers(letter)
    if headers.get(_CODE) != BODY_OMITTED:
        return None
    try:
        return _record_digest(letter, bytes.fromhex(headers.get(DIGEST, "")))
    except ValueError:
        return None


def may_lack_body(record: Record) -> bool:
    """Say whether a dead letter without its body may be believed to be of `record`: any other has a whole one."""
    return len(record.key or b"") + len(record.value or b"") > _SMALLEST_OMITTED


def _record_digest(letter: Record, content: bytes) -> bytes | None:
    headers = dead_letter_headers(letter)
    topic, *numbers = (headers.get(f"{DEAD_LETTER_PREFIX}{name}", "") for name in _POSITION)
    if is_replay_mark(letter) or not topic or not all(map(_INTEGER.fullmatch, numbers)):
        return None
    partition, offset, timestamp_ms = map(int, numbers)
    record = replace(
        letter, topic=topic, partition=partition, offset=offset, timestamp_ms=timestamp_ms
    )
    topic_id = headers.get(f"{DEAD_LETTER_PREFIX}topic-id")
    return record_digest(record, topic_id=topic_id, content=content)


def dead_letter_group(letter: Record) -> str | None:
    """Return the consumer group whose record became the dead letter, None where it does not say."""
    return dead_letter_headers(letter).get(f"{DEAD_LETTER_PREFIX}group")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its value; `origin` is the place of the record before any replay.

    `replay` is the digest that the mark of its replay has.
    """

    place: Place
    time: datetime
    code: str
    step: str
    topic: str
    position: Place
    origin: Place
    attempts: int
    event_id: str | None
    event_type: str | None
    user_id: str | None
    replay: bytes
    omitted: str = ""
    """What of the record it does not hold; such a dead letter cannot be replayed."""


def read_dead_letter(record: Record, rules: EnvelopeRules) -> DeadLetter | None:
    """Return the dead letter in `record`, None when the bridge did not write it as one."""
    headers = dead_letter_headers(record)

    def header(name: str) -> str:
        return headers.get(f"{DEAD_LETTER_PREFIX}{name}", "")[:_LONGEST_TEXT]

    try:
        position = Place.parse(f"{header('partition')}/{header('offset')}")
    except ValueError:
        return None
    if is_replay_mark(record) or not header("topic") or not header("code"):
        return None
    step, place = header("stage"), Place(record.partition, record.offset)
    # an invitation is the bridge's own record, whatever the envelope of the events is
    head = peek(record, EnvelopeRules() if step == INVITE_STEP else rules)
    return DeadLetter(
        place=place,
        time=parse_time(header("time")) or record_time(record.timestamp_ms) or _EPOCH,
        # many thousands of dead letters share a few of these texts
        code=intern(header("code")),
        step=intern(step),
        topic=intern(header("topic")),
        position=position,
        origin=place_header(record, REPLAY_ORIGIN) or position,
        attempts=max(_count(header("attempts")) or 1, 1),
        event_id=header("event-id") or head.id,
        event_type=None if head.type is None else intern(head.type),
        user_id=head.subject,
        replay=_replay_digest(place, content_digest(record).hex()),
        omitted=header("omitted"),
    )


def original_record(letter: DeadLetter, record: Record) -> Record:
    """Return the record that became the dead letter `record`, without what the bridge added."""
    return replace(
        record,
        topic=letter.topic,
        partition=letter.position.partition,
        offset=letter.position.offset,
        headers=original_headers(record),
    )


def replay_message(letter: DeadLetter, record: Record, *, no_invite: bool) -> Message:
    """Return the original record for its topic, with headers that name the dead letter.

    The number of attempts is kept, so that a record that fails again continues to count.
    """
    headers: list[tuple[str, bytes | None]] = [
        *original_headers(record),
        (_ATTEMPTS, str(letter.attempts).encode()),
        (REPLAY_OF, str(letter.place).encode()),
        (REPLAY_ORIGIN, str(letter.origin).encode()),
    ]
    if no_invite:
        headers.append((REPLAY_INVITE, NO_INVITE))
    return Message(letter.topic, record.key, record.value, tuple(headers))


def replay_mark(letter: DeadLetter, record: Record, *, time: datetime) -> Message:
    """Return the mark for the dead-letter topic that `letter`, which is `record` there, was replayed at `time`."""
    data = {"letter": str(letter.place), "topic": letter.topic, "code": letter.code}
    identity = f"{letter.place}/{format_time(time)}"
    message = cloud_event_message(
        DEAD_LETTER_REPLAYED, identity, None, data, topic=record.topic, time=time
    )
    mark = (REPLAYED, str(letter.place).encode())
    digest = (DIGEST, content_digest(record).hex().encode())
    return replace(message, key=record.key, headers=(*message.headers, mark, digest))


def is_replay_mark(record: Record) -> bool:
    """Say whether a record of the dead-letter topic is the mark that a dead letter was replayed."""
    return any(name == REPLAYED for name, _ in record.headers)


def claimed_replay(record: Record) -> bytes | None:
    """Return the digest of the replay that `record` says it is: its dead letter and its content; None if it says nothing."""
    place = place_header(record, REPLAY_OF)
    return None if place is None else _replay_digest(place, content_digest(record).hex())


def marked_replay(record: Record) -> bytes | None:
    """Return the same of the replay that `record` of the dead-letter topic is the mark of; None if it is none."""
    place = place_header(record, REPLAYED)
    content = dead_letter_headers(record).get(DIGEST, "")
    return _replay_digest(place, content) if place is not None and content else None


def _replay_digest(place: Place, content: str) -> bytes:
    return hashlib.sha256(f"{place}:{content}".encode()).digest()


def is_replay(record: Record) -> bool:
    """Say whether `record` is the replay of a dead letter."""
    return any(name == REPLAY_OF for name, _ in record.headers)


def wants_no_invite(record: Record) -> bool:
    """Say whether the replay of `record` must send no mail."""
    return (REPLAY_INVITE, NO_INVITE) in record.headers


def place_header(record: Record, name: str) -> Place | None:
    """Return the place that the last header `name` holds, None without a readable one."""
    values = [value for other, value in record.headers if other == name]
    if not values:
        return None
    try:
        return Place.parse((values[-1] or b"").decode("ascii"))
    except ValueError:
        return None


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
