"""Reserved usernames: no event may use or change them, nor a name that people cannot tell from one of them.

Names are compared by their skeleton: compatibility decomposition (NFKD) and case folding, without characters that cannot be seen and without white space
around it, and with look-alikes of other scripts as the letter that they look like (UTS #39).
"""

import re
from collections.abc import Collection
from functools import lru_cache

from keycloak_bridge.domain.errors import ConflictError, Violation
from keycloak_bridge.domain.unicode_text import normalize, without_invisible_characters
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


def skeleton(name: str) -> str:
    """Return what people see of `name`; equal skeletons are names that they take for the same."""
    if name.isascii():
        seen = name.lower() if name.isprintable() else without_invisible_characters(name.lower())
        return seen.strip().translate(_LETTERS)
    for _ in range(2):  # a folded letter may decompose, and its parts fold again
        name = normalize("NFKD", name.casefold())
    return _DOT_ABOVE.sub(
        "", without_invisible_characters(name).strip().translate(_LETTERS)
    ).strip()


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


@lru_cache(maxsize=16)
def _skeletons(reserved: frozenset[str]) -> frozenset[str]:
    return frozenset(map(skeleton, reserved)) - {""}


_SERVICE_ACCOUNTS = skeleton(_SERVICE_ACCOUNT_PREFIX)
