"""JSON in lines for people, each broken rule beside the line that breaks it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keycloak_bridge.core.errors import Violation

ARROW = "←"
_INDENT = "  "
_DATA = "data"

Path = tuple[str, ...]


class MarkedText(NamedTuple):
    """The lines, and the violations whose place is not among them."""

    lines: tuple[str, ...]
    elsewhere: tuple[Violation, ...]


def marked_json(body: bytes, violations: Sequence[Violation]) -> MarkedText | None:
    """Return `body` a member a line with every violation at its own; None for bytes that are no JSON.

    Numbers stand as they were written and repeated names stay. A rule about something that is not there stands where it
    is missing. Pointers into a whole event find their place in its bare data too. Nothing in the lines can move a
    terminal's cursor.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_Members,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
        )
        lines = list(_lines(value, (), "", ""))
    except (ValueError, RecursionError):
        return None
    paths = {line.path for line in lines}
    notes: dict[Path, list[Violation]] = defaultdict(list)
    elsewhere: list[Violation] = []
    for violation in violations:
        path = _line_of(violation.pointer, paths)
        if path is None:
            elsewhere.append(violation)
        else:
            notes[path].append(violation)
    return MarkedText(tuple(_with_notes(lines, notes)), tuple(elsewhere))


def escaped_excerpt(body: bytes, longest: int) -> str:
    """Return the first `longest` bytes as text with everything escaped that is not plainly readable."""
    return printable(body[:longest].decode("utf-8", errors="backslashreplace"))


def printable(text: str) -> str:
    """Return `text` with every character escaped that is none to look at: controls, marks of direction and so on."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


class _Line(NamedTuple):
    path: Path
    text: str


class _Members(list[tuple[str, Any]]):
    """An object with its members in order, repeated names included."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _lines(value: Any, path: Path, name: str, comma: str) -> Iterator[_Line]:
    """Yield `value` behind `name`, a line for each member and each bracket."""
    indent = _INDENT * len(path)
    members: list[tuple[str, str, Any]]
    if isinstance(value, _Members):
        opening, closing = "{", "}"
        members = [(key, f"{_quoted(key)}: ", item) for key, item in value]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        members = [(str(index), "", item) for index, item in enumerate(value)]
    else:
        yield _Line(path, f"{indent}{name}{_scalar(value)}{comma}")
        return
    if not members:
        yield _Line(path, f"{indent}{name}{opening}{closing}{comma}")
        return
    yield _Line(path, f"{indent}{name}{opening}")
    for at, (token, shown, item) in enumerate(members, start=1):
        yield from _lines(item, (*path, token), shown, "," if at < len(members) else "")
    yield _Line(path, f"{indent}{closing}{comma}")


def _with_notes(lines: Sequence[_Line], notes: dict[Path, list[Violation]]) -> Iterator[str]:
    """Yield each line with what is wrong with it; a note about an object stands where it opens."""
    for line in lines:
        told = "; ".join(_note(one) for one in notes.pop(line.path, ()))
        yield f"{line.text}   {ARROW} {told}" if told else line.text


def _note(violation: Violation) -> str:
    where = violation.pointer or "/"
    return printable(f"{where}: {violation.message} ({violation.keyword})")


def _line_of(pointer: str, paths: set[Path]) -> Path | None:
    """Return the path of the line that `pointer` names or would stand in, None when it leads elsewhere."""
    whole = _tokens(pointer)
    candidates = [whole]
    if whole[:1] == (_DATA,) and (_DATA,) not in paths:
        candidates.append(whole[1:])
    for path in candidates:
        if path in paths:
            return path
    for path in candidates:
        if path[:-1] in paths:
            return path[:-1]
    return None


def _tokens(pointer: str) -> Path:
    parts = pointer.split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _scalar(value: Any) -> str:
    return printable(value) if isinstance(value, _Number) else _quoted(value)


def _quoted(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
