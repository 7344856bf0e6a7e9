"""JSON text with every violation beside its own line, for a terminal."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.unicode_text import printable

ARROW = "←"
_INDENT = "  "
_DATA = "data"
_Path = tuple[str, ...]


class MarkedText(NamedTuple):
    """The lines, and the violations whose place is not among them."""

    lines: tuple[str, ...]
    elsewhere: tuple[Violation, ...]


def marked_json(body: bytes, violations: Sequence[Violation]) -> MarkedText | None:
    """Return `body` with every violation at its own line; None for bytes that are not JSON.

    Numbers stay as they were written, and repeated names stay. A rule about a missing member is at the line of the object
    that lacks it. Pointers into a whole event find their place in its bare data too. No line can move a terminal's cursor.
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
    paths = {path for path, _ in lines}
    notes: dict[_Path | None, list[Violation]] = defaultdict(list)
    for violation in violations:
        notes[_line_of(violation.pointer, paths)].append(violation)
    elsewhere = tuple(notes.pop(None, ()))
    return MarkedText(tuple(_with_notes(lines, notes)), elsewhere)


def escaped_excerpt(body: bytes, longest: int) -> str:
    """Return the first `longest` bytes as text with everything escaped that is not plainly readable."""
    return printable(body[:longest].decode("utf-8", errors="backslashreplace"))


class _Members(list[tuple[str, Any]]):
    """An object with its members in order, repeated names included."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _lines(value: Any, path: _Path, name: str, comma: str) -> Iterator[tuple[_Path, str]]:
    """Yield `value` behind `name`, a line for each member and each bracket, with the path of each."""
    indent = _INDENT * len(path)
    members: list[tuple[str, str, Any]]
    if isinstance(value, _Members):
        opening, closing = "{", "}"
        members = [(key, f"{_quoted(key)}: ", item) for key, item in value]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        members = [(str(index), "", item) for index, item in enumerate(value)]
    else:
        scalar = printable(value) if isinstance(value, _Number) else _quoted(value)
        yield path, f"{indent}{name}{scalar}{comma}"
        return
    if not members:
        yield path, f"{indent}{name}{opening}{closing}{comma}"
        return
    yield path, f"{indent}{name}{opening}"
    for at, (token, shown, item) in enumerate(members, start=1):
        yield from _lines(item, (*path, token), shown, "," if at < len(members) else "")
    yield path, f"{indent}{closing}{comma}"


def _quoted(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _with_notes(
    lines: Sequence[tuple[_Path, str]], notes: Mapping[_Path | None, list[Violation]]
) -> Iterator[str]:
    """Yield each line with its violations; those of an object are where it opens."""
    left = dict(notes)
    for path, text in lines:
        notes_here = "; ".join(
            printable(f"{one.pointer or '/'}: {one.message} ({one.keyword})")
            for one in left.pop(path, ())
        )
        yield f"{text}   {ARROW} {notes_here}" if notes_here else text


def _line_of(pointer: str, paths: set[_Path]) -> _Path | None:
    """Return the path of the line that `pointer` names or would be in, None when it leads elsewhere."""
    whole = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    candidates = [whole]
    if whole[:1] == (_DATA,) and (_DATA,) not in paths:
        candidates.append(whole[1:])
    parents = [path[:-1] for path in candidates]
    return next((path for path in (*candidates, *parents) if path in paths), None)
