"""Texts that are the worst for whatever reads them: `python worst_cases.py CHARACTERS [worst]` calls everything with such texts.

With `worst` there are only the texts that once were read in quadratic time. The name of each call is printed before it. A
call that does not end within `LIMIT_S` ends the process, which therefore is one of its own: nothing else can end a call that
keeps the interpreter busy.
"""

import faulthandler
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from referencing import Registry

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.domain.patterns import compile_pattern
from keycloak_bridge.domain.unicode_text import has_invisible_character, normalize
from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.events.record_key import RecordKeys
from keycloak_bridge.expressions.functions import MappingFunctions
from keycloak_bridge.mapping.mapping import username_problem
from keycloak_bridge.mapping.reserved_names import skeleton
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.validator import compile_schema, find_violations


class Call(NamedTuple):
    """What is called, with which text."""

    name: str
    text: str
    call: Callable[[], object]


DONE = "all ended"
LIMIT_S = 60.0
"""No promise, but far more than a call of linear time needs on a busy machine."""

MANY_LETTERS = "".join(map(chr, range(0x4E00, 0x9E00)))
"""Different letters: what IDNA encodes in quadratic time."""

UNSORTED_MARKS = "\u0301\u0316"
"""Marks that normalization has to sort."""

BEGINNINGS: Mapping[str, tuple[str, ...]] = {
    "date": ("", "2026-"),
    "date-time": ("", "2026-01-01T00:00:00", "2026-01-01T00:00:00."),
    "email": ("", "a@", "a@b.", "ü@"),
    "hostname": ("", "xn--", "a."),
    "duration": ("", "P", "PT", "P1Y", "P1"),
    "idn-email": ("", "ü@", "a@ü."),
    "idn-hostname": ("", "xn--", "ü."),
    "iri": ("", "a:", "a://ü@", "a://["),
    "iri-reference": ("", "//ü@", "a:"),
    "json-pointer": ("", "/", "/~0"),
    "regex": ("", "(", "[", "(?=", "a{", r"\\p{", "|"),
    "relative-json-pointer": ("", "1", "1/"),
    "time": ("", "00:00:00."),
    "uri-template": ("", "{", "{a", "{a,"),
    "ipv4": ("", "1."),
    "ipv6": ("", "::", "1:"),
    "language-tag": ("", "en-", "x-", "en-a-", "de-DE-"),
    "uri": ("", "a:", "a://", "a://b@", "a://[", "a://b:"),
    "uri-reference": ("", "//", "//a@", "//[", "a:"),
    "uuid": ("", "00000000-0000-0000-0000-"),
}
"""What a text of a format may begin with, so that a check reaches its later parts."""

_REPEATED = (
    *("a", "A", "0", "1", " ", "\t", "\n", "-", ".", ":", "/", "@", "%", "%41", "#", "?", "[", "]", "(", "\\", '"'),
    *("a.", "a-", "1.", "a:", "a@", "a/", "::", "a@a.", "a@b,", "en-", "x-a-", "xn--", "+1", "a\u0301", "i\u0307"),
    *("ü", "ü.", "ß", "İ", "ﷺ", "\u0301", UNSORTED_MARKS, "\u0f73", "\u00ad", "\u200d", "\u202e", "\u0660", "\u1160"),
    *("\U0001f600", MANY_LETTERS, "".join(f"{one}." for one in MANY_LETTERS[:5000])),
)  # fmt: skip


_WORST = (MANY_LETTERS, UNSORTED_MARKS)


def texts(size: int, beginning: str = "") -> Iterator[str]:
    """Yield texts of `size` characters that repeat something."""
    for part in _WORST if "worst" in sys.argv else _REPEATED:
        yield (beginning + part * (size // len(part) + 1))[:size]


def of_functions(text: str) -> Mapping[str, tuple[Any, ...]]:
    """Return the arguments of each function of an expression that are made of `text`."""
    parts = list(text)
    numbers = list(range(len(text)))
    objects = [{"id": number} for number in numbers]
    by_id = type("Reference", (), {"visit": lambda _, __, value: value["id"], "expression": {}})()
    return {
        **dict.fromkeys(("lower", "upper", "trim", "normalize_diacritics", "text"), (text,)),
        **dict.fromkeys(("from_base64", "from_json", "to_number", "to_string", "to_array", "type"), (text,)),
        **dict.fromkeys(("reverse", "length", "not_null"), (text,)),
        **dict.fromkeys(("first", "sort", "max", "min"), (parts,)),
        **dict.fromkeys(("avg", "sum"), (numbers,)),
        **{name: ({one: one for one in parts},) for name in ("keys", "values", "merge")},
        **dict.fromkeys(("sort_by", "max_by", "min_by"), (objects, by_id)),
        **{name: (text, text[len(text) // 2 :]) for name in ("starts_with", "ends_with", "contains")},
        **{name: (len(text),) for name in ("abs", "ceil", "floor")},
        "map": (by_id, objects),
        "replace": (text, text[:1], text[:2]),
        "split": (text, text[:1]),
        "join": (text[:2], parts),
        "lookup": ("table", text),
        "find": (objects, "id", text),
        "timestamp": (text, "iso"),
    }  # fmt: skip


def calls(size: int) -> Iterator[Call]:
    """Yield what is called."""
    known = Interpretation(Settings())
    yield from of_formats(size)
    yield from of_patterns(size, known)
    yield from of_schemas(size)
    functions = MappingFunctions({"table": {}})
    for text in texts(size):
        for name, arguments in of_functions(text).items():
            yield Call(
                f"function {name}", text, partial(getattr(functions, f"_func_{name}"), *arguments)
            )
        for check in (skeleton, has_invisible_character, username_problem):
            yield Call(check.__name__, text, partial(check, text))
        yield Call("normalize", text, partial(normalize, "NFKC", text))
    for text in (*texts(size), *texts(size, '"'), *texts(size, "["), *texts(size, '{"a":')):
        content = text.encode()
        yield Call("JSON", text, partial(parse_json, content, max_bytes=len(content)))
        yield Call("key", text, partial(RecordKeys().user, Record("t", 0, 0, 0, content, None)))
    yield from of_events(size, known)


def of_formats(size: int) -> Iterator[Call]:
    """Yield the checks of formats."""
    for name, (check, _) in FORMATS.items():
        for beginning in BEGINNINGS[name]:
            for text in texts(size, beginning):
                yield Call(f"format {name}", text, partial(check, text))


def of_patterns(size: int, known: Interpretation) -> Iterator[Call]:
    """Yield the searches for the patterns of the shipped schemas."""
    for pattern in sorted(set(patterns(known))):
        for beginning in ("", "+1", "1", "1/", "-"):
            for text in texts(size, beginning):
                yield Call(
                    f"pattern {pattern}", text, partial(compile_pattern(pattern).is_in, text)
                )


def of_schemas(size: int) -> Iterator[Call]:
    """Yield the checks of long lists and of objects with many properties, by keywords that look at all of them."""
    items, numbers = [0] * (size // 3), list(range(size // 8))
    properties = {f"x{number}": 0 for number in range(size // 12)}
    number, names = {"type": "integer"}, {"patternProperties": {"^x": {"type": "integer"}}}
    for schema, value in (
        ({"contains": number, "unevaluatedItems": False}, items),
        ({"allOf": [{"contains": {"const": 0}}], "unevaluatedItems": number}, numbers),
        ({"anyOf": [{"contains": {"const": 0}}], "unevaluatedItems": False}, numbers),
        ({"uniqueItems": True}, numbers),
        ({**names, "unevaluatedProperties": False}, properties),
        ({"allOf": [names], "unevaluatedProperties": False}, properties),
        ({"if": names, "unevaluatedProperties": {"type": "string"}}, properties),
        ({"required": ["x0"], "unevaluatedProperties": False}, properties),
        ({"propertyNames": {"minLength": 9}}, properties),
        ({"dependentRequired": {"x0": list(properties)}}, {"x0": 0}),
    ):
        validator = compile_schema(schema, Registry())
        call = partial(find_violations, validator, value, root="")
        yield Call(f"schema {schema!s:.60}", "", call)


def of_events(size: int, known: Interpretation) -> Iterator[Call]:
    """Yield whole events with a text in, or as, each of some properties."""
    for name in ("userId", "email", "username", "locale", "phoneNumber", "roles", "attributes"):
        for text in texts(size):
            for value in (text, [text], list(text), {one: one for one in text}, {text: text}):
                event = {**EVENT, "data": {**EVENT["data"], name: value}}
                content = json.dumps(event, ensure_ascii=False).encode()
                record = Record("t", 0, 0, 0, None, content)
                yield Call(f"event {name}", text, partial(known.read, record))


EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/um",
    "type": "user.created",
    "data": {"userId": "u-1", "email": "a@b.example", "givenName": "A", "familyName": "B"},
}


def patterns(known: Interpretation) -> Iterator[str]:
    """Yield every pattern of the shipped schemas."""
    waiting: list[Any] = [document.content for document in known.catalog.documents]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if isinstance(here.get("pattern"), str):
                yield here["pattern"]
            yield from here.get("patternProperties") or ()
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here


def main() -> None:
    """Make every call."""
    for name, text, call in calls(int(sys.argv[1])):
        print(f"{name} {text[:30]!a}", flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        with suppress(
            BridgeError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError
        ):
            call()
    faulthandler.cancel_dump_traceback_later()
    print(DONE)


if __name__ == "__main__":
    main()
