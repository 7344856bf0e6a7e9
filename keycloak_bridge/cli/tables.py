"""Tables and lists of facts in as many columns as the terminal has: no line is wider, and no id is folded.

An id that does not fit is shortened in the middle, where ids differ least; what a cell holds is escaped where it could move a
cursor. Without a width, as in a pipe, everything is whole.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest

from rich.cells import cell_len

from keycloak_bridge.domain.unicode_text import printable

GAP = "  "
ELLIPSIS = "…"
NO_BREAK = "\u00a0"
"""The space at which no text is wrapped; it is shown as a space."""

_WHOLE = 25
"""Columns of what is never shortened: a time with its offset, a code."""

_LEAST = 20
"""Columns that anything longer gets before others are moved to a line of their own."""

_NARROWEST = 30
_INDENT = 4
_DIGEST = 6


def shortened(text: str, width: int, mark: str = ELLIPSIS) -> str:
    """Return `text` in at most `width` columns: whole, or its beginning and its end with `mark` between them."""
    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(mark), 0)
    head = _first(text, (room + 1) // 2)
    tail = _first(text[::-1], room // 2)[::-1]
    return head + mark + tail


def short_forms(texts: Iterable[str], width: int) -> Mapping[str, str]:
    """Return `texts` in at most `width` columns each; different ones stay different, by a digest where they would not."""
    forms = {text: shortened(text, width) for text in texts}
    shared = Counter(forms.values())
    for text, form in forms.items():
        if shared[form] > 1 and form != text:
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
            forms[text] = shortened(text, width, f"{ELLIPSIS}{digest}{ELLIPSIS}")
    return forms


class Table:
    """Rows below headers, shown as they come: columns only become wider.

    The first columns are the most important ones. Those that do not fit into `width` stand below their row, each behind its
    header.
    """

    def __init__(self, headers: Sequence[str], width: int | None = None) -> None:
        self._headers = headers
        self._width = None if width is None else max(width, _NARROWEST)
        self._natural = [cell_len(header) for header in headers]

    def header(self, rows: Sequence[Sequence[str]]) -> str:
        """Return the line of headers for `rows`, which come first."""
        self._see([[_cell(one) for one in row] for row in rows])
        beside, widths = self._layout()
        return _aligned(self._headers[:beside], widths)

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the lines of `rows`."""
        cells = [[_cell(one) for one in row] for row in rows]
        self._see(cells)
        beside, widths = self._layout()
        forms = [
            short_forms({word for row in cells for word in row[at].split(" ")}, width)
            for at, width in enumerate(widths)
        ]
        lines: list[str] = []
        for row in cells:
            wrapped = [_wrapped(one, widths[at], forms[at]) for at, one in enumerate(row[:beside])]
            lines += [_aligned(parts, widths) for parts in zip_longest(*wrapped, fillvalue="")]
            below = zip(self._headers[beside:], row[beside:], strict=True)
            items = [f"{header.strip()} {one}" for header, one in below if one not in ("", "-")]
            lines += packed(items, self._width)
        return lines

    def _see(self, cells: Sequence[Sequence[str]]) -> None:
        """Widen the columns to what `cells` need."""
        for row in cells:
            needed = map(cell_len, row)
            self._natural = [max(pair) for pair in zip(self._natural, needed, strict=True)]

    def _layout(self) -> tuple[int, list[int]]:
        """Return how many columns are beside each other, and how wide each of them is."""
        if self._width is None:
            return len(self._natural), self._natural
        beside, taken = 0, -len(GAP)
        for natural in self._natural:
            taken += len(GAP) + (natural if natural <= _WHOLE else _LEAST)
            if beside and taken > self._width:
                break
            beside += 1
        widths = [min(natural, self._width) for natural in self._natural[:beside]]
        room = self._width - len(GAP) * (beside - 1)
        long = [at for at, natural in enumerate(self._natural[:beside]) if natural > _WHOLE]
        while sum(widths) > room:
            widths[max(long or range(beside), key=lambda at: widths[at])] -= 1
        return beside, widths


def packed(
    items: Collection[str], width: int | None = None, *, indent: int = _INDENT, gap: str = GAP
) -> list[str]:
    """Return `items` in as few lines as they fit into; one that is too wide is wrapped at spaces."""
    margin = " " * indent
    room = None if width is None else max(width, _NARROWEST) - indent
    lines: list[str] = []
    for one in map(_cell, items):
        if lines and (room is None or cell_len(lines[-1]) + cell_len(gap) + cell_len(one) <= room):
            lines[-1] += gap + one
        elif room is None:
            lines.append(one)
        else:
            lines += _wrapped(one, room, short_forms(one.split(" "), room))
    return [margin + line for line in lines]


def facts(
    rows: Sequence[tuple[str, str]],
    width: int | None = None,
    *,
    indent: int = len(GAP),
    whole: bool = False,
) -> list[str]:
    """Return a line for each name and text; texts begin in one column and are wrapped at spaces, but not at NO_BREAK.

    A word that is wider than this column begins a line of its own. Where it is wider than that too, it is shortened, or goes
    on in the next line where everything is to be seen `whole`.
    """
    names = [printable(name) for name, _ in rows]
    column = indent + max(map(cell_len, names), default=0) + len(GAP)
    if width is not None:
        width = max(width, _NARROWEST)
        column = min(column, width // 2)
        names = [shortened(name, column - indent - len(GAP)) for name in names]
    lines: list[str] = []
    for name, (_, text) in zip(names, rows, strict=True):
        label = " " * indent + _padded(name, column - indent)
        shown = NO_BREAK.join(map(printable, text.split(NO_BREAK)))
        if width is None:
            lines.append(label + shown)
            continue
        room = width - column
        if any(cell_len(word) > room for word in shown.split(" ")):
            lines.append(label)
            label, room = " " * _INDENT, width - _INDENT
        words = shown.split(" ")
        if whole:
            shown = " ".join(part for word in words for part in _pieces(word, room))
        wrapped = _wrapped(shown, room, {} if whole else short_forms(words, room))
        lines += [label + wrapped[0], *(" " * cell_len(label) + one for one in wrapped[1:])]
    return [line.replace(NO_BREAK, " ").rstrip() for line in lines]


def _cell(text: str) -> str:
    """Return what is shown of a text: what looks like the mark of a shortened one is escaped."""
    return printable(text.replace(ELLIPSIS, r"\u2026"))


def _wrapped(text: str, width: int, forms: Mapping[str, str]) -> list[str]:
    """Return `text` in lines of at most `width` columns, broken at spaces only; `forms` are those of its words."""
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    for word in text.split(" "):
        one = forms.get(word, word)
        if lines and cell_len(lines[-1]) + 1 + cell_len(one) <= width:
            lines[-1] += f" {one}"
        else:
            lines.append(one)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    pieces = []
    while cell_len(word) > width:
        pieces.append(_first(word, width))
        word = word[len(pieces[-1]) :]
    return [*pieces, word]


def _first(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits into `width` columns."""
    taken = 0
    for at, one in enumerate(text):
        taken += cell_len(one)
        if taken > width:
            return text[:at]
    return text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(map(_padded, row, widths)).rstrip()
