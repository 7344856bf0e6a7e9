"""What surrounds or replaces the JSON of a value: frames of schema registries' serializers, other formats and encodings.

A frame around JSON is taken away, and the id of a schema in it is read. Everything else is named, so that a dead letter says
what is there.
"""

import zlib
from collections.abc import Sequence
from uuid import UUID

from keycloak_bridge.domain.errors import EventDecodeError, Violation
from keycloak_bridge.domain.events import IdKind, Record, SchemaReference
from keycloak_bridge.domain.json_reader import parse_json

SCHEMA_ID_HEADER = "__value_schema_id"
"""Where newer serializers of Confluent put the schema's id instead of framing the value: byte 0 and four bytes, or byte 1 and a GUID."""

_GLOBAL_ID_HEADER = "apicurio.value.globalId"
_CONTENT_ID_HEADER = "apicurio.value.contentId"

_CONFLUENT = 5  # byte 0, and four bytes of id
_APICURIO = 9  # byte 0, and eight bytes of id
_GLUE = 18  # byte 3, the compression, and a UUID
_GLUE_VERSION = 3
_PLAIN, _DEFLATED = 0, 5
_LONG = 8  # bytes of a number of 64 bits
_NUMBERS = (2, 4, _LONG)
_LONGEST_KEY = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = b" \t\r\n"
_FEW = 64
_MOST_FIELDS = 2000
_VARINT_BYTES = 10
_FORMATS = (
    (b"Obj\x01", "an Avro container file"),
    (b"\xac\xed\x00\x05", "a serialized Java object"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    *((b"\x78" + level, "compressed with zlib") for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")),
    *((mark, "compressed with Snappy") for mark in (b"\x82SNAPPY\x00", b"\xff\x06\x00\x00sNaPpY")),
    (b":)\n", "Smile"),
    (b"<", "XML"),
    (b"eyJ", "JSON in base64, or a signed token (JWT)"),
)
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def schema_reference(record: Record, frame_ids: IdKind) -> SchemaReference | None:
    """Return the schema that a header or else the frame of the `record` names, by an id of `frame_ids`; None where neither does.

    The frame of AWS Glue names one of another kind of registry. Raises EventDecodeError (`invalid-schema-id`).
    """
    if record.value is None:
        return None
    headers = dict(record.headers)  # the last one counts
    for name, kind, read in _ID_HEADERS:
        if (given := headers.get(name)) is not None:
            value = read(given)
            if value is None:
                raise _invalid_id(name)
            return SchemaReference(IdKind.GUID if isinstance(value, UUID) else kind, value)
    length = frame_length(record.value)
    if length in (_CONFLUENT, _APICURIO):
        return SchemaReference(frame_ids, int.from_bytes(record.value[1:length], "big"))
    return None


def frame_length(value: bytes) -> int:
    """Return how many bytes of `value` frame the JSON behind them; 0 where none do."""
    if value[:1] == b"\x00":
        for length in (_CONFLUENT, _APICURIO):
            if _looks_like_json(value[length:]):
                return length
    return _GLUE if _is_of_glue(value) and _looks_like_json(value[_GLUE:]) else 0


def _id_of_confluent(given: bytes) -> int | UUID | None:
    if len(given) == _CONFLUENT and given[0] == 0:
        return int.from_bytes(given[1:], "big")
    return UUID(bytes=given[1:]) if len(given) == _GLUE - 1 and given[0] == 1 else None


def _id_of_apicurio(given: bytes) -> int | None:
    return int.from_bytes(given, "big") if len(given) == _APICURIO - 1 else None


_ID_HEADERS = (
    (SCHEMA_ID_HEADER, IdKind.CONTENT, _id_of_confluent),
    (_GLOBAL_ID_HEADER, IdKind.GLOBAL, _id_of_apicurio),
    (_CONTENT_ID_HEADER, IdKind.CONTENT, _id_of_apicurio),
)


def without_frame(value: bytes, max_bytes: int) -> bytes:
    """Return the JSON inside the frame that a registry's serializer put around it; `value` itself where it has none.

    Raises EventDecodeError (`unsupported-format`, `wrong-encoding`) naming what is there. What a frame holds compressed
    is read up to `max_bytes` and a byte.
    """
    first = value[:1]
    if first == b"\x00" and len(value) >= _CONFLUENT:
        return _of_confluent(value)
    if _is_of_glue(value):
        return _of_glue(value, max_bytes)
    return value


def without_key_frame(key: bytes) -> bytes:
    """Return what is in the frame of a record key, which begins as JSON does; `key` itself where it has none.

    Raises EventDecodeError (`unsupported-format`) for a frame around anything else, and for any other key that begins with byte
    0, which no text does: the rest of a number or of Avro must not be taken for the id of a user.
    """
    if _is_of_glue(key):
        content = _glue_content(key, _LONGEST_KEY)
        if _looks_like_json(content):
            return content
        raise unsupported_key(key)
    if key[:1] != b"\x00":
        return key
    length = frame_length(key)
    if not length or len(key) == _LONG:
        raise unsupported_key(key)
    return key[length:]


def unsupported_key(key: bytes) -> EventDecodeError:
    """Return the error that says what a record `key` is that is neither text nor JSON."""
    if _is_of_glue(key):
        what = _named_glue(key, _glue_content(key, _LONGEST_KEY))
    else:
        is_number = len(key) in _NUMBERS
        what = "another binary value" if is_number else "a binary value"
        if len(key) >= _CONFLUENT:
            what = _named_frame(key)
        if is_number:
            what = f"a number in {len(key)} bytes, or {what}"
    return EventDecodeError(
        f"the record key is {what}; the bridge reads text and JSON", code="unsupported-format"
    )


def named(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> EventDecodeError | None:
    """Return the error that says what a `value` is that could not be read as JSON, None where that is not known.

    One of the record's `headers` may have the id of the value's schema.
    """
    if encoding := _encoding(value):
        return _wrong_encoding(encoding)
    if not value.strip():
        return _nothing()
    beginning = value[:_FEW].removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACES)
    for mark, what in _FORMATS:
        if beginning.startswith(mark):
            return _unsupported(what)
    if _has_lines(value):
        return EventDecodeError(
            "the record holds a batch: JSON in each of its lines",
            code="batch-not-supported",
            remedy="publish one event a record",
        )
    given = {name for name, _ in headers}
    header = next((name for name, _, _ in _ID_HEADERS if name in given), None)
    if header is not None:
        return _unsupported(
            f"{_binary_format(value)}, with the id of its schema in the header {header}"
        )
    return None


def _is_of_glue(value: bytes) -> bool:
    return value[:1] == b"\x03" and len(value) >= _GLUE and value[1] in (_PLAIN, _DEFLATED)


def _of_confluent(value: bytes) -> bytes:
    if length := frame_length(value):
        return value[length:]
    if encoding := _encoding(value):
        raise _wrong_encoding(encoding)
    raise _unsupported(_named_frame(value))


def _named_frame(value: bytes) -> str:
    """Return what is in a frame of Confluent or Apicurio that is no JSON."""
    # no registry of Confluent gives the id 0
    is_longer = value[1:_CONFLUENT] == bytes(4) and len(value) >= _APICURIO
    length, whose = (_APICURIO, "an Apicurio") if is_longer else (_CONFLUENT, "a Confluent")
    number = int.from_bytes(value[1:length], "big")
    return f"{_binary_format(value[length:])} in {whose} frame, schema {number}"


def _of_glue(value: bytes, max_bytes: int) -> bytes:
    content = _glue_content(value, max_bytes)
    if _looks_like_json(content):
        return content
    raise _unsupported(_named_glue(value, content))


def _glue_content(value: bytes, max_bytes: int) -> bytes:
    """Return what is in a frame of AWS Glue, decompressed up to `max_bytes` and a byte; nothing where that cannot be done."""
    if value[1] != _DEFLATED:
        return value[_GLUE:]
    try:
        return zlib.decompressobj().decompress(value[_GLUE:], max_bytes + 1)
    except zlib.error:
        return b""


def _named_glue(value: bytes, content: bytes) -> str:
    what = "Avro or Protobuf" if content else "nothing that can be decompressed"
    return f"{what} in a frame of AWS Glue, schema {UUID(bytes=value[2:_GLUE])}"


def _looks_like_json(content: bytes) -> bool:
    start = content[:_FEW].removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACES)[:1]
    # a quotation mark is also the length of a text in Avro
    return start in (b"{", b"[") or (start == b'"' and content.rstrip(_SPACES).endswith(b'"'))


def _encoding(value: bytes) -> str | None:
    """Return the encoding of a value that is JSON in another one than UTF-8: by its mark, or the zeros between letters."""
    for mark, encoding in _ENCODINGS:
        if value.startswith(mark):
            return encoding
    head = value[:8]
    if len(head) >= 4 and head.count(0) in (len(head) // 2, len(head) * 3 // 4):
        letters = bytes(one for one in head if one)
        if letters.isascii() and letters[:1] in (b"{", b"[", b'"'):
            return "UTF-16" if head.count(0) == len(head) // 2 else "UTF-32"
    return None


def _has_lines(value: bytes) -> bool:
    first, line_end, rest = value.partition(b"\n")
    if not line_end or rest.lstrip(_SPACES)[:1] != b"{":
        return False
    try:
        return isinstance(parse_json(first, max_bytes=len(first)), dict)
    except EventDecodeError:
        return False


def _binary_format(content: bytes) -> str:
    """Return what a serializer wrote that is no JSON: Protobuf has indexes of a message and then fields to the very end."""
    if not content:
        return "nothing"
    return "Protobuf" if _is_protobuf(content) else "Avro"


def _is_protobuf(content: bytes) -> bool:
    count, place = _varint(content, 0)
    for _ in range(min(count // 2, _FEW)):  # written in zigzag
        _, place = _varint(content, place)
    fields = 0
    while 0 <= place < len(content) and fields < _MOST_FIELDS:
        tag, place = _varint(content, place)
        if place < 0 or tag >> 3 == 0:
            return False
        kind = tag & 7
        if kind == 0:
            _, place = _varint(content, place)
        elif kind == 2:
            length, place = _varint(content, place)
            place = place + length if place >= 0 else place
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            return False
        fields += 1
    return fields > 0 and (place == len(content) or fields == _MOST_FIELDS)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number at `place` and the place behind it, -1 where there is none."""
    number = 0
    if place < 0:
        return 0, -1
    for index, byte in enumerate(content[place : place + _VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, place + index + 1
    return 0, -1


def _nothing() -> EventDecodeError:
    return EventDecodeError(
        "the value is empty, which is neither JSON nor a tombstone",
        code="not-json",
        remedy="publish JSON; the value of a tombstone is null, not a text without letters",
    )


def _invalid_id(header: str) -> EventDecodeError:
    return EventDecodeError(
        f"the header {header} is no id of a schema",
        code="invalid-schema-id",
        remedy="let the producer's serializer write it, or take the header out",
        violations=(
            Violation(f"/headers/{header}", "format", "must be an id as serializers write it"),
        ),
    )


def _wrong_encoding(encoding: str) -> EventDecodeError:
    return EventDecodeError(
        f"the value is {encoding}, not UTF-8", code="wrong-encoding", remedy="publish JSON in UTF-8"
    )


def _unsupported(what: str) -> EventDecodeError:
    return EventDecodeError(
        f"the value is {what}; the bridge reads JSON",
        code="unsupported-format",
        remedy="publish JSON, uncompressed: serializers and converters have a variant for JSON or JSON Schema",
    )
