"""Unicode normalization whose time is linear, whatever the text is, and text that shows what it holds."""

import unicodedata
from collections.abc import Iterator
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

_PIECE = 256
"""Characters that are normalized at once: Python sorts the marks behind a letter in quadratic time."""

_JOINING_JAMO = range(0x1160, 0x1200)
"""Vowels and final consonants of Korean, which join with the letter before them."""


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
