"""The functions that the bridge adds to JMESPath.

Each takes null and gives null, so that a property that an event may lack needs no guard. Their docstrings are
the reference: `function_docs` hands them to the documentation. Whatever an event holds, a call ends soon, its result is not
much larger than the event, and it raises nothing that an evaluation does not expect.
"""

import json
import re
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Mapping
from math import isinf
from typing import Any

from jmespath.functions import Functions, signature

from keycloak_bridge.domain.errors import EventDecodeError
from keycloak_bridge.domain.json_reader import MAX_DEPTH, parse_json
from keycloak_bridge.domain.numbers import number_text, whole_number
from keycloak_bridge.domain.unicode_text import normalize
from keycloak_bridge.expressions.timestamps import TimeError, form_problem, read_time

_TEXT: list[str] = ["string", "null"]
_LIST: list[str] = ["array", "null"]
_SCALAR: list[str] = ["string", "number", "boolean", "null"]
_TIME: list[str] = ["string", "number", "array", "null"]
_LARGEST_TEXT = 4_194_304  # characters; an event may name both a text and what replaces its parts
_NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]{0,299})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII
)
_URL_SAFE = str.maketrans("-_", "+/")
_COMBINING_MARKS = range(0x0300, 0x0370)
_NO_DECOMPOSITION = str.maketrans(
    {
        "ß": "ss",
        "ẞ": "SS",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "đ": "d",
        "Đ": "D",
        "ð": "d",
        "Ð": "D",
        "ħ": "h",
        "Ħ": "H",
        "ı": "i",
        "ł": "l",
        "Ł": "L",
        "þ": "th",
        "Þ": "Th",
        "ŧ": "t",
        "Ŧ": "T",
    }
)


class UnusableArgumentError(ValueError):
    """A function cannot work with what it got; `reason` says why, without a value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MappingFunctions(Functions):
    """JMESPath's own functions and ours; `tables` are the mapping's `[tables.*]`."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self._tables = tables

    @signature({"types": _TEXT})
    def _func_lower(self, text: str | None) -> str | None:
        """`lower(text)`: the text in lower case."""
        return None if text is None else text.lower()

    @signature({"types": _TEXT})
    def _func_upper(self, text: str | None) -> str | None:
        """`upper(text)`: the text in upper case."""
        return None if text is None else text.upper()

    @signature({"types": _TEXT})
    def _func_trim(self, text: str | None) -> str | None:
        """`trim(text)`: the text without white space at its ends."""
        return None if text is None else text.strip()

    @signature({"types": _TEXT}, {"types": ["string"]}, {"types": ["string"]})
    def _func_replace(self, text: str | None, old: str, new: str) -> str | None:
        """`replace(text, old, new)`: every occurrence of `old` replaced; `old` is plain text, no pattern."""
        if not old:
            raise UnusableArgumentError("replace() needs a text to look for, not an empty one")
        if text is None:
            return None
        _refuse_huge("replace", len(text) + text.count(old) * (len(new) - len(old)))
        return text.replace(old, new)

    @signature({"types": _TEXT}, {"types": ["string"]})
    def _func_split(self, text: str | None, separator: str) -> list[str] | None:
        """`split(text, separator)`: the list of parts between the separators."""
        if not separator:
            raise UnusableArgumentError("split() needs a separator, not an empty text")
        return None if text is None else text.split(separator)

    @signature({"types": _LIST})
    def _func_first(self, values: list[Any] | None) -> Any:
        """`first(list)`: the first element that is not null; null when there is none."""
        return next((value for value in values or () if value is not None), None)

    @signature({"types": _TEXT})
    def _func_normalize_diacritics(self, text: str | None) -> str | None:
        """`normalize_diacritics(text)`: Latin letters without accents (é → e, ø → o, ß → ss); other scripts stay."""
        return None if text is None else _without_diacritics(text)

    @signature({"types": ["string"]}, {"types": ["string", "number", "boolean", "null"]})
    def _func_lookup(self, table: str, key: str | float | bool | None) -> Any:
        """`lookup('table', key)`: what `[tables.table]` of the mapping file has for the key; null when it has nothing."""
        if key is None:
            return None
        return self._tables[table].get(key if isinstance(key, str) else number_text(key))

    @signature({"types": _LIST}, {"types": ["string"]}, {"types": _SCALAR})
    def _func_find(self, values: list[Any] | None, key: str, value: Any) -> Any:
        """`find(list, 'key', value)`: the first object of the list whose property `key` has the value; null when there is none."""
        if value is None:
            return None
        for one in values or ():
            if isinstance(one, dict) and _is_same(one.get(key), value):
                return one
        return None

    @signature({"types": _SCALAR})
    def _func_text(self, value: str | float | bool | None) -> str | None:
        """`text(value)`: a number or true/false as text (1.0 is `1`); JMESPath's `to_string` would make the text `null` of null. A number from 2^53 on that is written with a point or an exponent refuses the event: it may have been another."""
        return value if value is None or isinstance(value, str) else _certain("text", value)

    @signature({"types": _TEXT})
    def _func_from_json(self, text: str | None) -> Any:
        """`from_json(text)`: what the JSON inside a text means; a text that is no JSON refuses the event."""
        if text is None:
            return None
        try:
            content = text.encode()
            return parse_json(content, max_bytes=len(content), max_depth=MAX_DEPTH)
        except (EventDecodeError, UnicodeEncodeError) as error:
            code = error.code if isinstance(error, EventDecodeError) else "invalid-text"
        # raised outside the handler: what is wrong with the text may quote it
        raise UnusableArgumentError(f"from_json() cannot read the text ({code})")

    @signature({"types": _TEXT})
    def _func_from_base64(self, text: str | None) -> str | None:
        """`from_base64(text)`: the text that stands in base64, as serializers write bytes in JSON; with URL-safe letters too."""
        if text is None:
            return None
        padded = text.translate(_URL_SAFE).rstrip("=")
        try:
            return b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode("utf-8")
        except ValueError:
            pass
        # raised outside the handler: what is wrong with the text may quote it
        raise UnusableArgumentError("from_base64() cannot read the text")

    @signature({"types": _TIME}, {"types": ["string"], "variadic": True})
    def _func_timestamp(self, value: Any, form: str, *zone: Any) -> str | None:
        """`timestamp(value, 'form', 'zone')`: a point in time in another form, as RFC 3339 in UTC. The form is `s`, `ms`, `us` or `ns` (since 1970), `iso`, `list` (of numbers, from the year on), `rfc1123`, or a format such as `%d.%m.%Y %H:%M`. The zone, such as `Europe/Berlin`, counts where the value names none."""
        if value is None:
            return None
        try:
            return read_time(value, form, zone[0] if zone else None)
        except TimeError as error:
            reason = error.reason
        raise UnusableArgumentError(f"timestamp(): {reason}")

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, texts: list[str]) -> str:
        _refuse_huge("join", len(separator) * len(texts))
        return separator.join(texts)

    @signature({"types": []})
    def _func_to_string(self, value: Any) -> str:
        if isinstance(value, float):
            return _certain("to_string", value)
        return super()._func_to_string(value)  # type: ignore[no-any-return,misc]

    @signature({"types": []})
    def _func_to_number(self, value: Any) -> float | None:
        """Be strict where JMESPath's own takes whatever Python does, such as `nan`, `1_0` or digits without end."""
        if isinstance(value, str):
            number = json.loads(value) if _NUMBER.fullmatch(value) else None
            return None if number is None or isinf(number) else number
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def constant_problem(name: str, arguments: list[tuple[bool, Any]]) -> str | None:
    """Return why a call of ours can never work with these arguments, None where it may.

    Each is whether it is a constant, and which.
    """
    check = _CHECKS.get(name)
    return check(arguments) if check else None


def _check_find(arguments: list[tuple[bool, Any]]) -> str | None:
    if len(arguments) != 3:
        return None  # as for every other function
    fits = arguments[1][0] and isinstance(arguments[1][1], str)
    return (
        None
        if fits
        else "find() takes the name of a property as plain text, as in find(list, 'id', …)"
    )


def _check_timestamp(arguments: list[tuple[bool, Any]]) -> str | None:
    if len(arguments) not in (2, 3):
        return f"timestamp() takes 2 or 3 arguments, not {len(arguments)}"
    given = [value for known, value in arguments[1:] if known and isinstance(value, str)]
    if len(given) != len(arguments) - 1:
        return "timestamp() takes form and zone as plain text, as in timestamp(…, 'iso', 'Europe/Berlin')"
    problem = form_problem(given[0], given[1] if len(given) > 1 else None)
    return None if problem is None else f"timestamp() {problem}"


_CHECKS: Mapping[str, Callable[[list[tuple[bool, Any]]], str | None]] = {
    "find": _check_find,
    "timestamp": _check_timestamp,
}


def _is_same(one: Any, other: Any) -> bool:
    """Say whether two values are equal in JSON, where true is not 1."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _certain(name: str, value: float | bool) -> str:
    """Return the value as text; it may become somebody's id."""
    if isinstance(value, float) and value.is_integer() and whole_number(value) is None:
        raise UnusableArgumentError(f"{name}() cannot tell the number from its neighbours")
    return number_text(value)


def _refuse_huge(name: str, characters: int) -> None:
    if characters > _LARGEST_TEXT:
        raise UnusableArgumentError(f"{name}() would make a text that is too long")


def function_docs() -> Mapping[str, str]:
    """Return name and description of every function that the bridge adds, in the order of the reference."""
    return {
        name.removeprefix("_func_"): (function.__doc__ or "")
        for name, function in vars(MappingFunctions).items()
        if name.startswith("_func_") and not hasattr(Functions, name)
    }


def _without_diacritics(text: str) -> str:
    kept: list[str] = []
    latin = False
    for character in normalize("NFD", text.translate(_NO_DECOMPOSITION)):
        if ord(character) in _COMBINING_MARKS and latin:
            continue
        if not unicodedata.combining(character):
            latin = unicodedata.name(character, "").startswith("LATIN")
        kept.append(character)
    return normalize("NFC", "".join(kept))
