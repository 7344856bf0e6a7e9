"""What a JSON value is that should have been an event or an object, in words for its producer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.domain.errors import EventDecodeError
from keycloak_bridge.domain.json_reader import MAX_DEPTH, parse_json

INSIDE_TEXT = "JSON inside a text"
_LONGEST_LOOK = 65_536
_OPENERS = ("{", "[")
_IN_BASE64 = ("eyJ", "ewo", "ew0", "W3s", "Wwo")
"""`{"`, `{` and a line end, `[{` and so on."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a value is, and what its producer should do; whether it is several events, or one inside something else."""

    what: str
    remedy: str | None = None
    is_batch: bool = False
    is_wrapped: bool = False


def recognise(value: Any) -> Recognised:
    """Return what `value`, which is no event, is; nothing of it is quoted."""
    if isinstance(value, list):
        objects = sum(isinstance(one, dict) for one in value)
        if not objects:
            return Recognised("a list")
        return Recognised(
            f"an array of {len(value)} object{'s' if len(value) > 1 else ''}",
            "publish one event a record",
            is_batch=True,
        )
    if isinstance(value, str):
        if is_json_text(value):
            return Recognised(
                INSIDE_TEXT,
                "let the producer serialize once, or read it with from_json(body) in [envelope]",
            )
        if value.startswith(_IN_BASE64):
            return Recognised(
                "JSON in base64",
                "publish the JSON itself, or read it with from_json(from_base64(body)) in [envelope]",
            )
        return Recognised("a text")
    if isinstance(value, dict):
        return _object(value)
    if value is None:
        return Recognised("null", "a tombstone is a record without a value, not the text null")
    return Recognised("true or false" if isinstance(value, bool) else "a number")


def is_json_text(value: Any) -> bool:
    """Say whether `value` is a text that holds a JSON object or list."""
    if not isinstance(value, str) or not value.lstrip()[:1].startswith(_OPENERS):
        return False
    if len(value) > _LONGEST_LOOK:
        return True  # its first letter is enough
    try:
        parse_json(value.encode(), max_depth=MAX_DEPTH)
    except (EventDecodeError, UnicodeEncodeError):
        return False
    return True


def _object(value: Mapping[str, Any]) -> Recognised:
    if set(value) == {"schema", "payload"}:
        return Recognised(
            "a Connect envelope {schema, payload}",
            "set value.converter.schemas.enable=false in the connector, or read body.payload in [envelope]",
            is_wrapped=True,
        )
    if {"before", "after", "op"} <= set(value) or {"__op", "__deleted"} & set(value):
        return Recognised(
            "a change event of Debezium",
            "describe it in [envelope]; docs/mapping-cookbook.md has a recipe",
        )
    return Recognised("a JSON object without specversion")
