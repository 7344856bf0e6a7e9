"""CloudEvents 1.0 in Kafka records: the attributes of one that was read, not yet checked, and one that is written."""

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keycloak_bridge.domain.errors import EventDecodeError, TombstoneError, Violation
from keycloak_bridge.domain.events import Message, Record
from keycloak_bridge.domain.json_reader import MAX_BYTES, MAX_DEPTH, parse_json, top_level_texts
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.events.frames import named, without_frame
from keycloak_bridge.events.recognition import recognise
from keycloak_bridge.expressions.timestamps import TimeError, read_time

SOURCE = "/keycloak-bridge"
"""The `source` of what the bridge itself writes."""

CONTENT_TYPE = "content-type"
STRUCTURED = "application/cloudevents"
STRUCTURED_JSON = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch"
_BINARY_PREFIXES = ("ce-", "ce_")
_SPRING_TYPES = "spring_json_header_types"
_CONTENT_TYPE_OF_DATA = "datacontenttype"
_JSON_TYPES = ("application/json", "text/json", "application/octet-stream", "text/plain")
"""The last two are what frameworks write where nobody named a type: JSON may be behind them."""

_LARGEST_KEPT = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

LONGEST_ID = 255
"""Characters of an id, a type or a subject; what Keycloak stores in a column."""
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How large and how deep a value may be."""

    max_bytes: int = MAX_BYTES
    max_depth: int = MAX_DEPTH


@dataclass(frozen=True, slots=True)
class RawEnvelope:
    """Attributes as the producer wrote them, of any type; the pointer to one is `prefix` and its name.

    `cleared` are the names of the properties of `data` that are null although it does not say so.
    """

    attributes: Mapping[str, Any]
    data: Any
    prefix: str = "/"
    cleared: Any = None


def parse_value(record: Record, limits: SizeLimits) -> Any:
    """Return the JSON of the record's value, without the frame of a schema registry's serializer.

    A value of up to 64 KiB is parsed once and kept with the record; callers must not change it. Raises TombstoneError or
    EventDecodeError.
    """
    if record.value is None:
        raise TombstoneError(
            "the record has no value", remedy="set events.tombstones to say what that means"
        )
    if limits in record.parsed:
        return record.parsed[limits]
    if len(record.value) > limits.max_bytes:
        value = record.value  # which is refused for that, unread
    else:
        value = without_frame(record.value, limits.max_bytes)
    try:
        parsed = parse_json(value, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
    except EventDecodeError as error:
        what = None
        if error.code in _UNREADABLE:
            what = named(value, record.headers)
        raise what or error from None
    if len(value) <= _LARGEST_KEPT:
        record.parsed[limits] = parsed
    return parsed


def text_problem(value: Any, longest: int) -> tuple[str, str] | None:
    """Return what is wrong with the text of an attribute, as keyword and rule; None where nothing is."""
    if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
        return None  # as nearly all are
    if value is None:
        return "required", "is required"
    if not isinstance(value, str):
        return "type", "must be text in UTF-8" if isinstance(value, bytes) else "must be text"
    if not value:
        return "minLength", "must be at least 1 character long"
    if len(value) > longest:
        return "maxLength", f"must be at most {longest} characters long"
    if _CONTROL.search(value):
        return "pattern", "must not hold control characters"
    return None


def read_cloudevent(record: Record, limits: SizeLimits) -> RawEnvelope:
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
    attributes = binary_attributes(headers)
    data_type = _as_media_type(attributes.get(_CONTENT_TYPE_OF_DATA)) or content_type
    body = _parse_body(record, limits, content_type if content_type == STRUCTURED else data_type)
    if content_type.startswith(STRUCTURED) or (isinstance(body, dict) and "specversion" in body):
        return _checked(_structured(body, limits))
    return _checked(_binary(headers, attributes, body, data_type))


def read_head(record: Record, limits: SizeLimits) -> Mapping[str, Any]:
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


def read_refused_type(record: Record, limits: SizeLimits) -> str | None:
    """Return the type of the structured CloudEvent in `record` whose value is JSON that is refused; see `refused_members`."""
    found = refused_members(record, limits, ("type", "specversion"))
    is_structured = "specversion" in found or _media_type(header_texts(record)).startswith(
        STRUCTURED
    )
    return found.get("type") if is_structured else None


def refused_members(
    record: Record, limits: SizeLimits, names: Collection[str]
) -> Mapping[str, str | None]:
    """Return what `top_level_texts` finds in a value that is JSON, but refused for what is in it; nothing in any other.

    What is so refused may still say that it is of a type that is ignored.
    """
    try:
        parse_value(record, limits)
    except TombstoneError:
        return {}
    except EventDecodeError as error:
        if error.code in _REFUSED_JSON:
            return top_level_texts(without_frame(record.value or b"", limits.max_bytes), names)
    return {}


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
    """Return the attributes that headers `ce_…` and `ce-…` carry, by their names without the prefix.

    Where both name one, `ce_` counts, as the specification has it. What Spring wrote as JSON is read as such, a time too.
    """
    attributes = {
        name.removeprefix(prefix): value
        for prefix in _BINARY_PREFIXES
        for name, value in headers.items()
        if name.startswith(prefix)
    }
    if _SPRING_TYPES in headers or attributes.get("specversion") == '"1.0"':
        attributes = {name: _unquoted(value) for name, value in attributes.items()}
        if isinstance(time := attributes.get("time"), str):
            attributes["time"] = _time_of_spring(time)
    return attributes


def _time_of_spring(text: str) -> str:
    """Return a point in time that Jackson wrote as a number: seconds with decimals, or milliseconds; else `text` itself."""
    try:
        return read_time(text, "s" if "." in text else "ms", None)
    except TimeError:
        return text


def _unquoted(value: str | bytes) -> str | bytes:
    """Return the text of which `value` is the JSON; `value` itself where it is no JSON of a text."""
    if not isinstance(value, str) or not value.startswith('"'):
        return value
    try:
        text = parse_json(value.encode())
    except EventDecodeError:
        return value
    return text if isinstance(text, str) else value


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
    return _as_media_type(headers.get(CONTENT_TYPE, ""))


def _as_media_type(value: Any) -> str:
    """Return the media type in lower case without parameters and quotes, empty for None."""
    if value is None:
        return ""
    return value.strip(' "').partition(";")[0].strip().lower() if isinstance(value, str) else "?"


def _is_json(content_type: str) -> bool:
    # Azure's serializer puts the id of the schema behind a plus sign
    plain = content_type.partition("+")[0]
    return not content_type or plain in _JSON_TYPES or content_type.endswith("+json")


def _parse_body(record: Record, limits: SizeLimits, content_type: str) -> Any:
    try:
        return parse_value(record, limits)
    except EventDecodeError as error:
        is_other_format = error.code in _UNREADABLE
        if not is_other_format or content_type == STRUCTURED or _is_json(content_type):
            raise
    raise _refusal("unsupported-content-type", _CONTENT_TYPE_VIOLATION)


def _structured(body: Any, limits: SizeLimits) -> RawEnvelope:
    if not isinstance(body, dict):
        raise no_event(body)
    # In CloudEvents null means that an attribute is not set.
    attributes = {name: value for name, value in body.items() if value is not None}
    encoded = attributes.pop("data_base64", None)
    is_json = _is_json(_as_media_type(attributes.get(_CONTENT_TYPE_OF_DATA)))
    if encoded is None:
        data = body.get("data")
        if isinstance(data, str) and not is_json:
            raise _refusal("unsupported-content-type", _DATA_TYPE_VIOLATION)
        return RawEnvelope(attributes, data)
    if "data" in attributes:
        raise envelope_error(Violation("/data_base64", "not", "must not be given with data"))
    return RawEnvelope(attributes, _decoded(encoded, limits, is_json=is_json))


def _decoded(encoded: Any, limits: SizeLimits, *, is_json: bool) -> Any:
    try:
        content = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        content = None
    if content is None:
        raise envelope_error(Violation("/data_base64", "contentEncoding", "must be base64"))
    try:
        return parse_json(content, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
    except EventDecodeError as error:
        if is_json or error.code not in _UNREADABLE:
            raise
    raise _refusal("unsupported-content-type", _DATA_TYPE_VIOLATION)


def _binary(
    headers: Mapping[str, str | bytes], attributes: Mapping[str, Any], body: Any, data_type: str
) -> RawEnvelope:
    if not attributes:
        raise no_event(body)
    hyphen, underscore = _BINARY_PREFIXES
    spelling = underscore if any(name.startswith(underscore) for name in headers) else hyphen
    prefix = f"/headers/{spelling}"
    if not _is_json(data_type):
        named_there = _CONTENT_TYPE_OF_DATA in attributes
        where = prefix + _CONTENT_TYPE_OF_DATA if named_there else f"/headers/{CONTENT_TYPE}"
        raise _refusal("unsupported-content-type", _not_json(where))
    return RawEnvelope(attributes, body, prefix=prefix)


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


def no_event(body: Any) -> EventDecodeError:
    """Return the error for a value that is no CloudEvent, which says what it is."""
    found = recognise(body)
    if found.is_batch:
        return EventDecodeError(
            f"the record holds a batch: {found.what}",
            code="batch-not-supported",
            remedy=found.remedy,
        )
    _, remedy = _REFUSALS["not-a-cloudevent"]
    return EventDecodeError(
        f"the record is no CloudEvent: no headers ce_… or ce-…, and the value is {found.what}",
        code="not-a-cloudevent",
        remedy=found.remedy or remedy,
    )


def _refusal(code: str, *violations: Violation) -> EventDecodeError:
    message, remedy = _REFUSALS[code]
    return EventDecodeError(message, code=code, remedy=remedy, violations=violations)


_REFUSALS = {
    "batch-not-supported": ("the record holds a batch of events", "publish one event a record"),
    "not-a-cloudevent": (
        "the record is no CloudEvent",
        "publish CloudEvents 1.0, or describe the producer's envelope in [envelope]",
    ),
    "unsupported-content-type": (
        "the content type names a format other than JSON",
        "publish JSON, and name it as content type",
    ),
    "unsupported-specversion": ('its specversion is not the text "1.0"', "publish CloudEvents 1.0"),
}


def _not_json(where: str) -> Violation:
    return Violation(where, "contentMediaType", "must be a JSON media type")


_UNREADABLE = ("not-json", "wrong-encoding")
_REFUSED_JSON = ("invalid-text", "duplicate-key", "invalid-number", "too-deep")
_CONTENT_TYPE_VIOLATION = _not_json(f"/headers/{CONTENT_TYPE}")
_DATA_TYPE_VIOLATION = _not_json(f"/{_CONTENT_TYPE_OF_DATA}")
