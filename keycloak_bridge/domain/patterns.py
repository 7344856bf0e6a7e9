r"""Regular expressions of ECMA 262 with its flag `u`, as JSON Schema prescribes them, in time that grows with the text only.

A pattern is read here, by the grammar of ECMA 262, and translated for RE2, which runs no text twice. What a property such
as `\p{L}` holds says the library regress. An assertion about what follows or precedes (`(?=`, `(?!`, `(?<=`, `(?<!`) can be
used right behind a `^` or right before a `$`, where it is a pattern of its own; RE2 has no other, and no references back.

One thing is taken that the flag refuses: an escaped punctuation mark or blank, such as `\@`, which means itself in every dialect.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, NoReturn

import re2  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import regress

Ranges = list[tuple[int, int]]

_LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_WIDEST = 4
"""Bytes of a character in UTF-8."""

_LONGEST = 100_000
_DEEPEST = 50
_LONGEST_COUNT = 9
_MOST_COUNTED = 2000
"""All that a pattern counts together: the time that a text takes grows with it. RE2 repeats nothing more than 1000 times."""

_DIGITS: Ranges = [(0x30, 0x39)]
_WORD: Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_LINE_ENDS: Ranges = [(0xA, 0xA), (0xD, 0xD), (0x2028, 0x2029)]
_SPACES: Ranges = [
    *[(0x9, 0xD), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)],
    *[(0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)],
]
_START, _END = r"\A", r"\z"
_LOOKS = {"(?=": (False, False), "(?!": (False, True), "(?<=": (True, False), "(?<!": (True, True)}
_LOOKS_ELSEWHERE = (
    "looks ahead or behind elsewhere than right behind ^ or right before $, outside of groups"
)
_COUNTS_TOO_FAR = "counts too far; bound the length by maxLength"
_CONTROLS = {"t": 0x9, "n": 0xA, "v": 0xB, "f": 0xC, "r": 0xD}
_COUNT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_PROPERTY = re.compile(r"\{([A-Za-z0-9_]{1,40}(?:=[A-Za-z0-9_]{1,40})?)\}")
_NAME = re.compile(r"<[A-Za-z_$\u0080-\U0010ffff][\w$]*>")
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{0*([0-9A-Fa-f]{1,6})\}")
_LOW_SURROGATE = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"c([A-Za-z])")
_REFERENCE = re.compile(r"[1-9][0-9]*|k<[A-Za-z_$\u0080-\U0010ffff][\w$]*>")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True


class PatternError(ValueError):
    """The text is no regular expression of ECMA 262, or none whose time grows with the text only."""


@dataclass(frozen=True, slots=True)
class _Look:
    """An assertion about what follows, or precedes."""

    behind: bool
    negative: bool
    body: str


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Something that stands `least` to `most` times, None for any number; `weight` says how far it counts inside."""

    body: str
    least: int = 1
    most: int | None = 1
    weight: int = 0
    is_class: bool = False

    @property
    def text(self) -> str:
        times = (self.least, self.most)
        if times == (1, 1):
            return self.body
        if times in _SHORT:
            return self.body + _SHORT[times]
        return f"{self.body}{{{self.least},{'' if self.most is None else self.most}}}"

    @property
    def counted(self) -> int:
        factor = max(self.least, self.most or 0)
        return self.weight if factor <= 1 else factor * max(1, self.weight)


_SHORT: dict[tuple[int, int | None], str] = {(0, None): "*", (1, None): "+", (0, 1): "?"}


@dataclass(frozen=True, slots=True)
class _Branch:
    """One alternative; its looks stand right behind its `^`, or right before its `$`."""

    parts: Sequence[str | _Look | _Repeated]

    @property
    def looks(self) -> list[_Look]:
        return [part for part in self.parts if isinstance(part, _Look)]

    @property
    def text(self) -> str:
        texts = (part.text if isinstance(part, _Repeated) else part for part in self.parts)
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def only(self) -> _Repeated | None:
        """The characters that are all of the text, where the branch says nothing else."""
        if len(self.parts) == 3 and (self.parts[0], self.parts[2]) == (_START, _END):
            inner = self.parts[1]
            if isinstance(inner, _Repeated) and inner.is_class:
                return inner
        return None

    @property
    def counted(self) -> int:
        return sum(part.counted for part in self.parts if isinstance(part, _Repeated))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: one of its alternatives must hold, each with all of its conditions."""

    alternatives: Sequence[Sequence[Callable[[bytes], bool]]]

    def is_in(self, text: str) -> bool:
        """Say whether the pattern matches anywhere in `text`."""
        encoded = text.encode("utf-8", "surrogatepass")
        return any(all(holds(encoded) for holds in conditions) for conditions in self.alternatives)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Pattern:
    """Return `pattern` compiled; raises PatternError."""
    reader = _Reader(pattern, _ranges_of)
    branches = reader.read()
    if len(branches) == 1 and (only := branches[0].only) is not None:
        return Pattern([[_of_length(only)]])
    if reader.unusable:
        raise PatternError(reader.unusable)
    if not any(branch.looks for branch in branches):
        return Pattern([[_search(_joined(branches))]])
    return Pattern([list(_conditions(branch)) for branch in branches])


def check_syntax(pattern: str) -> None:
    """Raise PatternError unless `pattern` is a regular expression of ECMA 262, whether or not it can be used here."""
    _Reader(pattern, _known).read()


def _search(translated: str) -> Callable[[bytes], bool]:
    try:
        found = re2.compile(translated.encode(), _OPTIONS).search
    except re2.error as error:
        raise PatternError(_COUNTS_TOO_FAR) from error
    return lambda text: found(text) is not None


def _of_length(only: _Repeated) -> Callable[[bytes], bool]:
    """Return the test for a text of these characters only, whose number RE2 need not count."""
    consists = _search(rf"\A{only.body}*\z")
    most = inf if only.most is None else only.most

    def holds(text: bytes) -> bool:
        return only.least <= len(text.decode("utf-8", "surrogatepass")) <= most and consists(text)

    return holds


def _joined(branches: Iterable[_Branch]) -> str:
    return "|".join(branch.text for branch in branches)


def _conditions(branch: _Branch) -> Iterator[Callable[[bytes], bool]]:
    yield _search(branch.text)
    for look in branch.looks:
        holds = _search(f"(?:{look.body})\\z" if look.behind else f"\\A(?:{look.body})")
        yield _unless(holds) if look.negative else holds


def _unless(holds: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    return lambda text: not holds(text)


def _are_in_place(branch: _Branch) -> bool:
    """Say whether each look stands where it is a pattern of its own."""
    parts = list(branch.parts)
    if parts[0] == _START:
        while len(parts) > 1 and isinstance(one := parts[1], _Look) and not one.behind:
            del parts[1]
    if parts[-1] == _END:
        while len(parts) > 1 and isinstance(one := parts[-2], _Look) and one.behind:
            del parts[-2]
    return not any(isinstance(part, _Look) for part in parts)


class _Reader:
    """Reads one pattern from its start to its end, each construct by a method."""

    def __init__(self, pattern: str, ranges_of: Callable[[str], Ranges]) -> None:
        if len(pattern) > _LONGEST:
            raise PatternError(f"is longer than {_LONGEST} characters")
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._ranges_of = ranges_of
        self.unusable = ""

    def read(self) -> list[_Branch]:
        branches = self._alternatives()
        if self._at < len(self._text):
            self._refuse("unmatched )")
        if any(branch.looks and not _are_in_place(branch) for branch in branches):
            self._cannot(_LOOKS_ELSEWHERE)
        if sum(branch.counted for branch in branches) > _MOST_COUNTED:
            self._cannot(_COUNTS_TOO_FAR)
        return branches

    def _refuse(self, reason: str) -> NoReturn:
        raise PatternError(f"{reason} at position {self._at}")

    def _cannot(self, reason: str) -> None:
        self.unusable = self.unusable or reason

    def _next(self, *texts: str) -> bool:
        """Step over the first of `texts` that stands here, and say whether one does."""
        for text in texts:
            if self._text.startswith(text, self._at):
                self._at += len(text)
                return True
        return False

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _alternatives(self) -> list[_Branch]:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"groups nest deeper than {_DEEPEST}")
        branches = [self._branch()]
        while self._next("|"):
            branches.append(self._branch())
        self._depth -= 1
        return branches

    def _branch(self) -> _Branch:
        parts: list[str | _Look | _Repeated] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._assertion() or self._repeated(self._atom()))
        return _Branch(parts)

    def _assertion(self) -> str | _Look | None:
        if self._next("^"):
            return _START
        if self._next("$"):
            return _END
        if self._next("\\b"):
            return r"\b"
        if self._next("\\B"):
            self._cannot("uses \\B")  # RE2 sees such a place between the bytes of a letter
            return r"\B"
        for opening, (behind, negative) in _LOOKS.items():
            if self._next(opening):
                branches = self._inner()
                if sum(branch.counted for branch in branches) > _MOST_COUNTED:
                    self._cannot(_COUNTS_TOO_FAR)
                return _Look(behind, negative, _joined(branches))
        return None

    def _inner(self) -> list[_Branch]:
        """Return what stands in parentheses, behind the opening one."""
        branches = self._alternatives()
        if not self._next(")"):
            self._refuse("missing )")
        if any(branch.looks for branch in branches):
            self._cannot(_LOOKS_ELSEWHERE)
        return branches

    def _repeated(self, atom: _Repeated) -> _Repeated:
        times = self._times()
        if times is None:
            return atom
        self._next("?")
        return replace(atom, least=times[0], most=times[1])

    def _times(self) -> tuple[int, int | None] | None:
        for times, text in _SHORT.items():
            if self._next(text):
                return times
        count = self._take(_COUNT)
        if count is None:
            return None
        if max(map(len, (count[1], count[3] or ""))) > _LONGEST_COUNT:
            self._refuse("a count with too many digits")
        least = int(count[1])
        most = least if count[2] is None else int(count[3]) if count[3] else None
        if most is not None and most < least:
            self._refuse("a count whose end is before its start")
        return least, most

    def _atom(self) -> _Repeated:
        if self._next("("):
            if not self._next("?:") and self._next("?") and self._take(_NAME) is None:
                self._refuse("a group that ECMA 262 does not know")
            branches = self._inner()
            weight = sum(branch.counted for branch in branches)
            return _Repeated(f"(?:{_joined(branches)})", weight=weight)
        if self._next("["):
            return _class(self._class_ranges())
        if self._next("."):
            return _class(_complement(_LINE_ENDS))
        if self._text[self._at] in "*+?":
            self._refuse("nothing to repeat")
        if self._text[self._at] in "{}]":
            self._refuse(f"{self._text[self._at]} has to be escaped")
        if self._next("\\"):
            if self._reference():
                return _Repeated("")
            found = self._escape()
            return _class(found) if isinstance(found, list) else _class([(found, found)])
        self._at += 1
        letter = ord(self._text[self._at - 1])
        return _class([(letter, letter)])

    def _reference(self) -> bool:
        """Step over a reference to a group, and say whether there is one."""
        found = self._take(_REFERENCE)
        if found is not None:
            self._cannot("refers back to a group")
        return found is not None

    def _class_ranges(self) -> Ranges:
        negated = self._next("^")
        ranges: Ranges = []
        while not self._next("]"):
            first = self._member()
            if not self._text.startswith("-", self._at) or self._text.startswith("-]", self._at):
                ranges += first if isinstance(first, list) else [(first, first)]
                continue
            self._at += 1
            last = self._member()
            if isinstance(first, list) or isinstance(last, list):
                self._refuse("a range needs a character on both sides; else escape its hyphen")
            if last < first:
                self._refuse("a range whose end is before its start")
            ranges.append((first, last))
        return _complement(ranges) if negated else ranges

    def _member(self) -> int | Ranges:
        if self._at >= len(self._text):
            self._refuse("missing ]")
        if self._next("\\b"):
            return 0x8
        if self._next("\\"):
            return self._escape()
        self._at += 1
        return ord(self._text[self._at - 1])

    def _escape(self) -> int | Ranges:
        """Return the character, or those, that the escape behind a backslash stands for."""
        if (code := self._take(_HEX)) is not None:
            return self._code_point(int(code[1] or code[2] or code[3], 16), paired=bool(code[2]))
        if (control := self._take(_CONTROL)) is not None:
            return ord(control[1]) % 32
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter and letter in "pP" and (named := self._take(_PROPERTY)) is not None:
            ranges = self._ranges_of(named[1])
            return _complement(ranges) if letter == "P" else ranges
        if letter == "0" and not self._text[self._at : self._at + 1].isdecimal():
            return 0
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter or not letter.isascii() or letter.isalnum() or not letter.isprintable():
            self._refuse(f"\\{letter} means nothing in ECMA 262")
        return ord(letter)

    def _code_point(self, code: int, *, paired: bool) -> int:
        if code > _LAST:
            self._refuse("a character beyond Unicode")
        if paired and 0xD800 <= code <= 0xDBFF and (low := self._take(_LOW_SURROGATE)) is not None:
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        return code


def _class(ranges: Ranges) -> _Repeated:
    """Return one character out of `ranges`, as RE2 writes it."""
    if not ranges:
        return _Repeated(f"[^\\x{{0}}-\\x{{{_LAST:X}}}]", is_class=True)
    texts = (f"\\x{{{a:X}}}" + (f"-\\x{{{b:X}}}" if b > a else "") for a, b in ranges)
    return _Repeated(f"[{''.join(texts)}]", is_class=True)


def _complement(ranges: Ranges) -> Ranges:
    """Return the characters that are not in `ranges`."""
    found: Ranges = []
    position = 0
    for first, last in sorted(ranges):
        if first > position:
            found.append((position, first - 1))
        position = max(position, last + 1)
    return found if position > _LAST else [*found, (position, _LAST)]


def _property(name: str) -> "regress.Regex":
    import regress  # noqa: PLC0415 # its tables take a megabyte, and few patterns name a property

    try:
        return regress.Regex(rf"\p{{{name}}}+", "u")
    except regress.RegressError:
        raise PatternError(f"\\p{{{name}}} is no property of Unicode that ECMA 262 knows") from None


@lru_cache(maxsize=64)
def _ranges_of(name: str) -> Ranges:
    """Return the characters that have the property."""
    characters = "".join(map(chr, [*range(_SURROGATES[0]), *range(_SURROGATES[1] + 1, _LAST + 1)]))
    encoded = characters.encode()  # regress counts in bytes
    found = (one.range() for one in _property(name).find_iter(characters) or ())
    return [
        (
            ord(encoded[one.start : one.start + _WIDEST].decode(errors="ignore")[0]),
            ord(encoded[max(0, one.stop - _WIDEST) : one.stop].decode(errors="ignore")[-1]),
        )
        for one in found
    ]


def _known(name: str) -> Ranges:
    """Return no characters, but refuse a property that does not exist."""
    _property(name)
    return []


_CLASSES = {
    "d": _DIGITS,
    "D": _complement(_DIGITS),
    "w": _WORD,
    "W": _complement(_WORD),
    "s": _SPACES,
    "S": _complement(_SPACES),
}
