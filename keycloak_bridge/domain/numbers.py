"""Numbers as text: one of JSON is one text, however an event writes it; and how many there are of something."""

import json

_EXACT = 2**53
"""From here on, a number with a point or an exponent may have been read as its neighbour."""


def number_text(value: float | bool) -> str:
    """Return a number, true or false as text: 1, 1.0 and 1e0 are `1`, any other as short as tells it from its neighbours."""
    whole = whole_number(value)
    return json.dumps(value) if whole is None else str(whole)


def whole_number(value: object) -> int | None:
    """Return the whole number that `value` certainly is; None for true, for 1.5, and for 9007199254740993.0, which is read as another."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def counted(number: int, what: str) -> str:
    """Return number and noun in the right form: `1 mail`, `2 mails`."""
    return f"{number} {what}" + ("" if number == 1 else "s")
