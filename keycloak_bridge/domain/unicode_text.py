"""Unicode normalization in linear time, characters that nobody sees, and text that shows what it holds."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

_PIECE = 256
"""Characters that are normalized at once: Python sorts the marks behind a letter in quadratic time."""

_JOINING_JAMO = range(0x1160, 0x1200)
"""Vowels and final consonants of Korean, which join with the letter before them."""

_JOINERS = "\u200c\u200d"
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2028\u2029\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U0001d159\U000e0000-\U000e0fff]"
)
"""Characters that Unicode lets nobody see (`Default_Ignorable_Code_Point`) although they are in other categories than Cf.

And its two ends of lines, and two symbols that are blank.
"""


def normalize(form: Form, text: str) -> str:
    """Return `text` in a normal form of Unicode.

    A letter with hundreds of marks is normalized in parts, which no text that people read has.
    """
    if text.isascii():
        return text
    if len(text) <= _PIECE:
        return unicodedata.normalize(form, text)
    return "".join(unicodedata.normalize(form, piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield `text` in pieces, cut where a new letter begins if there is such a place."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        while start < end < len(text) and not _begins_letter(text[end]):
            end -= 1
        if end == start:
            end = start + _PIECE
        yield text[start:end]
        start = end


def _begins_letter(character: str) -> bool:
    """Say whether a character never joins with what is before it."""
    is_mark = unicodedata.category(character).startswith("M")
    return not is_mark and ord(character) not in _JOINING_JAMO


def printable(text: str) -> str:
    """Return `text` with every character escaped that is not printable: controls, marks of direction and so on.

    What is shown of a record was written by anybody, and must move no cursor of an operator's terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def printable_json(text: str) -> str:
    """Return JSON with the same value, in which every character is printable or ends a line."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text
    )


def has_invisible_character(name: str) -> bool:
    """Return whether `name` has a character that nobody can see.

    A joiner is seen between letters of the scripts that need it, and counts only behind an ASCII character.
    """
    if name.isascii():
        return not name.isprintable()
    return any(
        _is_invisible(one) and (one not in _JOINERS or before.isascii())
        for before, one in zip(" " + name, name, strict=False)
    )


def without_invisible_characters(name: str) -> str:
    """Return what people see of `name`."""
    return "".join(one for one in name if not _is_invisible(one))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or bool(_INVISIBLE.match(character))
