"""JSON that every reader understands the same way: strict text in, plain values out, pointers for what is wrong."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import isinf
from typing import Any, NoReturn

from keycloak_bridge.domain.errors import EventDecodeError, Violation

MAX_BYTES = 1_048_576
MAX_DEPTH = 32

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_POINTER = 512
_LONGEST_INTEGER = 300  # digits; a double ends at 309, and every consumer must read the same number
_STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}:,]', re.DOTALL)
_ONE_STRING = re.compile(r'[ \t\r\n]*("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\r\n]*', re.DOTALL)
_SPACES = " \t\r\n"
_PRINTABLE = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BROKEN = re.compile("[\0\ud800-\udfff]")
_BREAKING_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class _Repeated(dict[str, Any]):
    """An object whose text names `key` more than once; found again when the whole is walked."""

    key: str = ""


class _RepeatedError(ValueError):
    """An object names a property twice; the slower way finds out which."""


class _UnacceptableError(ValueError):
    """Something that Python's parser would take and others would not."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def parse_json(text: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value that the UTF-8 `text` holds; a byte order mark before it is tolerated.

    Raises EventDecodeError with code `too-large`, `wrong-encoding`, `too-deep`, `not-json`, `invalid-number`,
    `duplicate-key` or `invalid-text`, whose pointers start at the root of the document.
    """
    if len(text) > max_bytes:
        raise _refusal(
            "too-large",
            f"the value has {len(text)} bytes; {max_bytes} are allowed",
            "publish smaller events, or raise events.max_bytes",
        )
    characters = _characters(text.removeprefix(_BYTE_ORDER_MARK))
    if _is_deeper(characters, max_depth):
        raise _bad_depth(max_depth)
    value = _load(_PLAIN, characters, max_depth)
    repeated = value is _REPEATED
    if repeated:
        value = _load(_MARKING, characters, max_depth)
    # Only an escape (\u0000, \ud800) can bring such texts in, since raw ones are no JSON or no UTF-8.
    if repeated or ("\\u" in characters and _BREAKING_ESCAPE.search(characters)):
        check_texts(value)
    return value


def check_texts(value: Any) -> None:
    """Raise EventDecodeError (`invalid-text`) for the first text in `value` that cannot be stored or sent.

    What that takes beside `value` is bounded by its depth, not by its size.
    """
    _check((), value)
    path: list[str | int] = []
    open_containers = [_members(value)]
    while open_containers:
        for step, found in open_containers[-1]:
            if isinstance(found, str):
                if _BROKEN.search(found):
                    raise _broken((*path, step))
            elif isinstance(found, dict | list):
                path.append(step)
                _check(path, found)
                open_containers.append(_members(found))
                break
        else:
            open_containers.pop()
            if path:
                path.pop()


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value) if isinstance(value, list) else ())


def top_level_texts(text: bytes, names: Collection[str]) -> Mapping[str, str | None]:
    """Return those members of the object in `text` that have one of these `names`, None for one that is repeated or no text.

    It is for JSON that `parse_json` refuses for what is in it, such as its depth: nothing below the top level is looked at, and
    nothing recurses. The result is empty where the value is no object, or does not end where the text does.
    """
    try:
        characters = _characters(text.removeprefix(_BYTE_ORDER_MARK))
        return _top_level_texts(characters, names)
    except (EventDecodeError, ValueError):
        return {}


def _top_level_texts(text: str, names: Collection[str]) -> Mapping[str, str | None]:
    """Do that; raises ValueError for what is no object."""
    found: dict[str, str | None] = {}
    depth, begin = 0, 0
    key: str | None = None
    for match in _STRUCTURE.finditer(text):
        mark, at = match[0], match.start()
        if depth == 0:
            if mark != "{" or text[:at].strip(_SPACES):
                break
            depth, begin = 1, match.end()
        elif depth > 1 or mark in ("{", "["):
            depth += (mark in ("{", "[")) - (mark in ("}", "]"))
        elif mark == ":":
            name = _ONE_STRING.fullmatch(text, begin, at)
            if name is None or key is not None:
                break
            key, begin = json.loads(name[1]), match.end()
        elif mark in (",", "}", "]"):
            if key is not None and key in names:
                value = _ONE_STRING.fullmatch(text, begin, at)
                is_text = value is not None and key not in found
                found[key] = json.loads(value[1]) if value is not None and is_text else None
            key, begin = None, match.end()
            if mark != ",":
                ended = mark == "}" and not text[begin:].strip(_SPACES)
                return found if ended else {}
    return {}


def pointer(path: Iterable[str | int]) -> str:
    """Return `path` as a JSON pointer (RFC 6901), shortened where a producer's keys make it huge."""
    text = "".join(
        "/" + str(step).replace("~", "~0").replace("/", "~1").translate(_PRINTABLE) for step in path
    )
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text if len(text) <= _LONGEST_POINTER else text[: _LONGEST_POINTER - 1] + "…"


def _characters(text: bytes) -> str:
    if b"\x00" in text[:4]:
        raise _bad_encoding()
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        reason = _bad_encoding()
    raise reason


def _is_deeper(text: str, max_depth: int) -> bool:
    """Say whether brackets nest deeper than `max_depth`; linear, and before any recursion."""
    if text.count("[") + text.count("{") <= max_depth:
        return False
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            depth += 1
            if depth > max_depth:
                return True
        elif token in ("]", "}"):
            depth -= 1
    return False


def _load(decoder: json.JSONDecoder, text: str, max_depth: int) -> Any:
    # Raised outside the handlers: the parser's errors carry the whole document and must not travel along.
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        code, reason = "not-json", f"line {error.lineno}, column {error.colno}: {error.msg}"
    except _UnacceptableError as error:
        code, reason = error.code, error.reason
    except _RepeatedError:
        return _REPEATED
    except RecursionError:
        code, reason = "too-deep", ""
    if code == "too-deep":
        raise _bad_depth(max_depth)
    raise _refusal(code, f"the value is not JSON: {reason}", "publish JSON as RFC 8259 has it")


def _decoder(make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_constant=_constant,
        parse_int=_integer,
        parse_float=_float,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RepeatedError
    return members


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    marked = _Repeated(members)
    marked.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return marked


def _constant(name: str) -> NoReturn:
    raise _UnacceptableError("not-json", f"{name} is no JSON value")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise _UnacceptableError("invalid-number", "it holds an integer that no double can hold")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise _UnacceptableError("invalid-number", "it holds a number that no double can hold")
    return number


_PLAIN = _decoder(_object)
_MARKING = _decoder(_marked)
_REPEATED = object()


def _check(path: Sequence[str | int], found: Any) -> None:
    """Refuse an object that repeats a key, and a text or a key that cannot be stored or sent."""
    if isinstance(found, _Repeated):
        where = pointer((*path, found.key))
        raise _refusal(
            "duplicate-key",
            f"an object names the property {where} more than once",
            "publish every property once",
            Violation(where, "duplicate-key", "must be named once"),
        )
    texts = found if isinstance(found, dict) else (found,)
    if any(isinstance(text, str) and _BROKEN.search(text) for text in texts):
        raise _broken(path)


def _broken(path: Sequence[str | int]) -> EventDecodeError:
    where = pointer(path)
    rule = "must not hold U+0000 or half of a surrogate pair"
    return _refusal(
        "invalid-text",
        f"{where or 'the value'} {rule}",
        "publish text that can be stored",
        Violation(where, "text", rule),
    )


def _bad_encoding() -> EventDecodeError:
    return _refusal("wrong-encoding", "the value is not UTF-8", "publish JSON in UTF-8")


def _bad_depth(max_depth: int) -> EventDecodeError:
    return _refusal(
        "too-deep",
        f"the value nests deeper than {max_depth} levels",
        "publish flatter events, or raise events.max_depth",
    )


def _refusal(code: str, message: str, remedy: str, *violations: Violation) -> EventDecodeError:
    return EventDecodeError(message, code=code, remedy=remedy, violations=violations)
