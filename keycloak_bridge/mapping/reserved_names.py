"""Reserved usernames: no event may use or change them, nor a name that people cannot tell from one of them.

Names are compared by their skeleton: compatibility decomposition (NFKD) and case folding, without characters that cannot be seen and without white space
around it, and with look-alikes of other scripts as the letter that they look like (UTS #39).
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

from keycloak_bridge.domain.errors import ConflictError, Violation
from keycloak_bridge.domain.unicode_text import normalize
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.mapping.lookalikes import LOOKALIKES

_SERVICE_ACCOUNT_PREFIX = "service-account-"
_ANONYMOUS_PREFIX = "anonymous-"
_ANONYMOUS = re.compile(rf"{_ANONYMOUS_PREFIX}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")

_ASCII = {"0": "o", "1": "l", "m": "rn"}
_LETTERS = str.maketrans(
    {one: _ASCII.get(letter, letter) for letter, others in LOOKALIKES.items() for one in others}
    | _ASCII
    | {"\u3002": "."}  # IDNA takes it for one
)
_DOT_ABOVE = re.compile("(?<=[ij])\u0307+")
_JOINERS = "\u200c\u200d"
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2028\u2029\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U0001d159\U000e0000-\U000e0fff]"
)
"""Characters that Unicode lets nobody see (`Default_Ignorable_Code_Point`) although they are in other categories than Cf.

And its two ends of lines, and two symbols that are blank.
"""


def skeleton(name: str) -> str:
    """Return what people see of `name`; equal skeletons are names that they take for the same."""
    if name.isascii():
        seen = name.lower() if name.isprintable() else _seen(name.lower())
        return seen.strip().translate(_LETTERS)
    for _ in range(2):  # a folded letter may decompose, and its parts fold again
        name = normalize("NFKD", name.casefold())
    return _DOT_ABOVE.sub("", _seen(name).strip().translate(_LETTERS)).strip()


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


def is_reserved(username: str, reserved: Collection[str]) -> bool:
    """Return whether no event may ever use or change `username`; those of service accounts always are reserved."""
    seen = skeleton(username)
    return seen.startswith(_SERVICE_ACCOUNTS) or seen in _skeletons(frozenset(reserved))


def reserved_name(user: UserRepresentation, reserved: Collection[str]) -> str | None:
    """Return `username` or `email`, whichever of `user` is reserved, or None.

    A realm may take the e-mail address as the username, and lets people log in by either.
    """
    if is_reserved(user.get("username") or "", reserved):
        return "username"
    return "email" if is_reserved(user.get("email") or "", reserved) else None


def is_protected(group: str, protected: Collection[str]) -> bool:
    """Return whether the path of a group, or of one above it, is among `protected`, by what people see of it.

    Some databases compare names no more exactly.
    """
    seen = skeleton(group)
    return any(
        seen == path or seen.startswith(path + "/") for path in _skeletons(frozenset(protected))
    )


def refuse_reserved_name(user: UserRepresentation, reserved: Collection[str]) -> None:
    """Raise ConflictError (`reserved-user`) when an event would give its user a reserved username or e-mail address."""
    field = reserved_name(user, reserved)
    if field is not None:
        what = "username" if field == "username" else "e-mail address"
        raise ConflictError(
            f"the event would give a user a reserved {what}, or one that looks like it",
            code="reserved-user",
            remedy=f"choose another {what} in user management",
            violations=(Violation(f"/user/{field}", "reserved", f"the {what} is reserved"),),
        )


def anonymous_username(user_id: str) -> str:
    """Return the username of an anonymised user."""
    return f"{_ANONYMOUS_PREFIX}{user_id}".lower()


def is_anonymous(username: str) -> bool:
    """Return whether the lower-case `username` is one that `anonymous_username` makes: it is kept for that user."""
    return _ANONYMOUS.fullmatch(username) is not None


def _seen(name: str) -> str:
    return "".join(one for one in name if not _is_invisible(one))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or bool(_INVISIBLE.match(character))


@lru_cache(maxsize=16)
def _skeletons(reserved: frozenset[str]) -> frozenset[str]:
    return frozenset(map(skeleton, reserved)) - {""}


_SERVICE_ACCOUNTS = skeleton(_SERVICE_ACCOUNT_PREFIX)
