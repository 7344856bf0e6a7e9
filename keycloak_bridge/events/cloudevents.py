"""CloudEvents 1.0 in Kafka records: the attributes of one that was read, not yet checked, and one that is written."""

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keycloak_bridge.domain.errors import EventDecodeError, TombstoneError, Violation
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.domain.json_reader import MAX_BYTES, MAX_DEPTH, parse_json
from keycloak_bridge.domain.times import format_time

SOURCE = "/keycloak-bridge"
"""The `source` of what the bridge itself writes."""

CONTENT_TYPE = "content-type"
STRUCTURED = "application/cloudevents"
STRUCTURED_JSON = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch"
_BINARY_PREFIX = "ce_"
_FRAME_BYTES = 5
_JSON_TYPES = ("application/json", "text/json")
_LARGEST_KEPT = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

LONGEST_ID = 255
"""Characters of an id, a type or a subject; what Keycloak stores in a column."""
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Limits:
    """How large and how deep a value may be."""

    max_bytes: int = MAX_BYTES
    max_depth: int = MAX_DEPTH


@dataclass(frozen=True, slots=True)
class RawEnvelope:
    """Attributes as the producer wrote them, of any type; the pointer to one is `prefix` and its name."""

    attributes: Mapping[str, Any]
    data: Any
    prefix: str = "/"


def parse_value(record: Record, limits: Limits) -> Any:
    """Return the JSON of the record's value, without the frame of Confluent's serializer.

    A value of up to 64 KiB is parsed once and kept with the record; callers must not change it. Raises TombstoneError or
    EventDecodeError.
    """
    if record.value is None:
        raise TombstoneError(
            "the record has no value", remedy="set events.tombstones to say what that means"
        )
    if limits in record.parsed:
        return record.parsed[limits]
    value = unframed(record.value)
    parsed = parse_json(value, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
    if len(value) <= _LARGEST_KEPT:
        record.parsed[limits] = parsed
    return parsed


def unframed(content: bytes) -> bytes:
    """Return what Confluent's serializer framed: byte 0 and four bytes of schema id, since no JSON begins with byte 0."""
    is_framed = content[:1] == b"\x00" and len(content) >= _FRAME_BYTES
    return content[_FRAME_BYTES:] if is_framed else content


def text_problem(value: Any, longest: int) -> tuple[str, str] | None:
    """Return what is wrong with the text of an attribute, as keyword and rule; None where nothing is."""
    if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
        return None  # as nearly all are
    if value is None:
        return "required", "is required"
    if not isinstance(value, str):
        return "type", "must be text in UTF-8"
    if not value:
        return "minLength", "must be at least 1 character long"
    if len(value) > longest:
        return "maxLength", f"must be at most {longest} characters long"
    if _CONTROL.search(value):
        return "pattern", "must not hold control characters"
    return None


def read_cloudevent(record: Record, limits: Limits) -> RawEnvelope:
    """Return the attributes and data of the CloudEvent in `record`.

    Structured where the header `content-type` says so or the value carries `specversion`, else binary. Raises
    TombstoneError or EventDecodeError.
    """
    headers = header_texts(record)
    content_type = _media_type(headers)
    if content_type.startswith(_BATCH):
        raise _refusal("batch-not-supported")
    if content_type.startswith(STRUCTURED) and content_type not in (STRUCTURED, STRUCTURED_JSON):
        raise _refusal("unsupported-content-type", _CONTENT_TYPE_VIOLATION)
    body = _parse_body(record, limits, content_type)
    if content_type.startswith(STRUCTURED) or (isinstance(body, dict) and "specversion" in body):
        return _checked(_structured(body, limits))
    return _checked(_binary(headers, body, content_type))


def read_head(record: Record, limits: Limits) -> Mapping[str, Any]:
    """Return the attributes of the CloudEvent in `record` as far as they can be read; nothing is checked, nothing raised.

    Headers `ce_…` say them also where the value cannot be read.
    """
    headers = header_texts(record)
    try:
        body = parse_value(record, limits)
    except (TombstoneError, EventDecodeError):
        body = None
    if isinstance(body, dict) and (
        "specversion" in body or _media_type(headers).startswith(STRUCTURED)
    ):
        return body
    return binary_attributes(headers)


def header_texts(record: Record) -> Mapping[str, str | bytes]:
    """Return the last value of each header by its name in lower case, as bytes where it is not UTF-8."""
    texts: dict[str, str | bytes] = {}
    for name, value in record.headers:
        if value is not None:
            try:
                texts[name.lower()] = value.decode("utf-8")
            except UnicodeDecodeError:
                texts[name.lower()] = value
    return texts


def binary_attributes(headers: Mapping[str, str | bytes]) -> Mapping[str, Any]:
    """Return the attributes that headers `ce_…` carry, by their names without the prefix."""
    return {
        name.removeprefix(_BINARY_PREFIX): value
        for name, value in headers.items()
        if name.startswith(_BINARY_PREFIX)
    }


def cloud_event_message(
    kind: str,
    identity: str,
    subject: str | None,
    data: Mapping[str, Any],
    *,
    topic: str,
    time: datetime,
    version: str = "1.0",
) -> Message:
    """Return a structured CloudEvent from the bridge, keyed by its subject; `kind` and `version` name its schema."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": identity,
        "source": SOURCE,
        "type": kind,
    }
    if subject is not None:
        event["subject"] = subject
    event["time"] = format_time(time)
    event["datacontenttype"] = "application/json"
    event["dataschema"] = f"urn:keycloak-bridge:schema:{kind}:{version}"
    event["data"] = data
    headers = ((CONTENT_TYPE, f"{STRUCTURED_JSON}; charset=UTF-8".encode()),)
    key = subject.encode() if subject else None
    return Message(topic, key, _compact(event).encode(), headers)


def _media_type(headers: Mapping[str, str | bytes]) -> str:
    """Return the content type in lower case without parameters, empty where none is given."""
    value = headers.get(CONTENT_TYPE, "")
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else "?"


def _is_json(content_type: str) -> bool:
    return not content_type or content_type in _JSON_TYPES or content_type.endswith("+json")


def _parse_body(record: Record, limits: Limits, content_type: str) -> Any:
    try:
        return parse_value(record, limits)
    except EventDecodeError as error:
        is_other_format = error.code in ("not-json", "wrong-encoding")
        if not is_other_format or content_type == STRUCTURED or _is_json(content_type):
            raise
    raise _refusal("unsupported-content-type", _CONTENT_TYPE_VIOLATION)


def _structured(body: Any, limits: Limits) -> RawEnvelope:
    if not isinstance(body, dict):
        raise _refusal("not-a-cloudevent")
    # In CloudEvents null means that an attribute is not set.
    attributes = {name: value for name, value in body.items() if value is not None}
    encoded = attributes.pop("data_base64", None)
    if encoded is None:
        return RawEnvelope(attributes, body.get("data"))
    if "data" in attributes:
        raise envelope_error(Violation("/data_base64", "not", "must not be given with data"))
    return RawEnvelope(attributes, _decoded(encoded, limits))


def _decoded(encoded: Any, limits: Limits) -> Any:
    try:
        content = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        content = None
    if content is None:
        raise envelope_error(Violation("/data_base64", "contentEncoding", "must be base64"))
    return parse_json(content, max_bytes=limits.max_bytes, max_depth=limits.max_depth)


def _binary(headers: Mapping[str, str | bytes], body: Any, content_type: str) -> RawEnvelope:
    attributes = binary_attributes(headers)
    if not attributes:
        raise _refusal("not-a-cloudevent")
    if not _is_json(content_type):
        raise _refusal("unsupported-content-type", _CONTENT_TYPE_VIOLATION)
    return RawEnvelope(attributes, body, prefix=f"/headers/{_BINARY_PREFIX}")


def _checked(envelope: RawEnvelope) -> RawEnvelope:
    version = envelope.attributes.get("specversion")
    where = f"{envelope.prefix}specversion"
    if version is None:
        raise envelope_error(Violation(where, "required", "is required"))
    if version != "1.0":
        violation = Violation(where, "const", 'must be "1.0"')
        raise _refusal("unsupported-specversion", violation)
    return envelope


def envelope_error(*violations: Violation) -> EventDecodeError:
    """Return the error for attributes that are missing or wrong."""
    reasons = "; ".join(f"{violation.pointer} {violation.message}" for violation in violations)
    return EventDecodeError(
        f"the envelope is not valid: {reasons}",
        code="invalid-envelope",
        remedy="correct the producer, or describe its envelope in [envelope]",
        violations=violations,
    )


def _refusal(code: str, *violations: Violation) -> EventDecodeError:
    message, remedy = _REFUSALS[code]
    return EventDecodeError(message, code=code, remedy=remedy, violations=violations)


_REFUSALS = {
    "batch-not-supported": ("the record holds a batch of events", "publish one event a record"),
    "not-a-cloudevent": (
        "the record is no CloudEvent: neither headers ce_… nor specversion in its value",
        "publish CloudEvents 1.0, or describe the producer's envelope in [envelope]",
    ),
    "unsupported-content-type": (
        "the header content-type names a format other than JSON",
        "publish JSON, and name it in content-type",
    ),
    "unsupported-specversion": ("its specversion is not 1.0", "publish CloudEvents 1.0"),
}
_CONTENT_TYPE_VIOLATION = Violation(
    f"/headers/{CONTENT_TYPE}", "contentMediaType", "must be a JSON media type"
)
