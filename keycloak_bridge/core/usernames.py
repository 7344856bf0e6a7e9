"""Which usernames Keycloak takes, checked before it is asked.

These are the checks of Keycloak's default user profile (length, prohibited characters). Its further check, that a
username is not a look-alike from another script, is left to Keycloak.
"""

import re
import unicodedata
from collections.abc import Collection

SERVICE_ACCOUNT_PREFIX = "service-account-"
_LENGTHS = range(3, 256)
_PROHIBITED = frozenset("<>&\"'$%!#?§,;:*~/\\|^=[]{}()`")
_SPACES_AND_CONTROLS = frozenset(("Zs", "Zl", "Zp", "Cc"))
_ORDINARY = re.compile(r"[a-z0-9._@+-]{3,255}")
_MONGOLIAN_VOWEL_SEPARATOR = "\u180e"  # white space for Keycloak, a format character for Unicode


def username_problem(username: str) -> str | None:
    """Return why Keycloak would refuse the lower-case `username`, without quoting it; None when it is fine."""
    if _ORDINARY.fullmatch(username):
        return None
    length = len(username.encode("utf-16-le", "surrogatepass")) // 2  # Keycloak counts UTF-16 units
    if length not in _LENGTHS:
        return f"the username has {length} characters; Keycloak takes 3 to 255"
    if any(_is_space(character) for character in username):
        return "the username contains white space or a control character"
    if any(character in _PROHIBITED for character in username):
        return "the username contains a character that Keycloak prohibits in usernames"
    return None


def is_reserved(username: str, reserved: Collection[str]) -> bool:
    """Say whether no event may ever hold or touch `username`; service accounts always are."""
    lower = username.lower()
    return lower.startswith(SERVICE_ACCOUNT_PREFIX) or lower in reserved


def _is_space(character: str) -> bool:
    """Say whether Keycloak counts `character` as white space or as a control character."""
    category = unicodedata.category(character)
    return category in _SPACES_AND_CONTROLS or character == _MONGOLIAN_VOWEL_SEPARATOR
