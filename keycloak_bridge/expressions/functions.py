"""The functions that the bridge adds to JMESPath.

Each takes null and gives null, so that a property that an event may lack needs no guard. Their docstrings are
the reference: `function_docs` hands them to the documentation.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

from jmespath.functions import Functions, signature

_TEXT: list[str] = ["string", "null"]
_LIST: list[str] = ["array", "null"]
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
        return None if text is None else text.replace(old, new)

    @signature({"types": _TEXT}, {"types": ["string"]})
    def _func_split(self, text: str | None, separator: str) -> list[str] | None:
        """`split(text, separator)`: the list of parts between the separators."""
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
        return self._tables[table].get(str(key).lower() if isinstance(key, bool) else str(key))


def function_docs() -> Mapping[str, str]:
    """Return name and description of every function that the bridge adds, in the order of the reference."""
    return {
        name.removeprefix("_func_"): (function.__doc__ or "")
        for name, function in vars(MappingFunctions).items()
        if name.startswith("_func_")
    }


def _without_diacritics(text: str) -> str:
    kept: list[str] = []
    latin = False
    for character in unicodedata.normalize("NFD", text.translate(_NO_DECOMPOSITION)):
        if ord(character) in _COMBINING_MARKS and latin:
            continue
        if not unicodedata.combining(character):
            latin = unicodedata.name(character, "").startswith("LATIN")
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))
