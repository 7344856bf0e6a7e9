"""The user profile of the Keycloak in memory: which attributes it keeps, and what it refuses with which key."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from keycloak_bridge.core.desired import UserRepresentation

MANAGED: Mapping[str, int] = {
    "userId": 255,
    "tenantId": 255,
    "department": 255,
    "phoneNumber": 32,
    "bridgeEventId": 255,
    "bridgeEventTime": 255,
    "bridgeInvitation": 2048,
}
"""The single-valued attributes of keycloak-config's user profile, each with its greatest length."""

_USERNAME_BAN = re.compile(r"""[\s<>&"'$%!#?§,;:*~/\\|^=\[\]{}()`\x00-\x1f\x7f]""")
_NAME_BAN = re.compile(r'[<>&"\v$%!#?§;*~/\\|^=\[\]{}()\x00-\x1f\x7f]')
_LOCAL_PART = re.compile(r"""[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*""")
_DOMAIN_LABEL = re.compile(r"[^\W_]([\w-]*[^\W_])?")

Refusal = dict[str, Any]


def refusals(user: UserRepresentation, managed: Mapping[str, int]) -> list[Refusal]:
    """Return what Keycloak would answer for each field that it refuses."""
    return [
        *_username(user.get("username", "")),
        *_email(user.get("email", "")),
        *_name("firstName", user.get("firstName", "")),
        *_name("lastName", user.get("lastName", "")),
        *_attributes(user.get("attributes", {}), managed),
    ]


def kept_attributes(
    given: Mapping[str, list[str]], managed: Mapping[str, int], *, locale: bool
) -> dict[str, list[str]]:
    """Return the attributes that get stored: the rest vanishes without a word, as in Keycloak."""
    known = {*managed, "locale"} if locale else {*managed}
    filled = {name: [value for value in values if value] for name, values in given.items()}
    return {name: values for name, values in filled.items() if values and name in known}


def _username(username: str) -> Iterator[Refusal]:
    if not 3 <= len(username) <= 255:
        yield _refusal("username", "error-invalid-length", 3, 255)
    elif _USERNAME_BAN.search(username) or not all(map(_is_latin_or_common, username)):
        yield _refusal("username", "error-username-invalid-character")


def _is_latin_or_common(character: str) -> bool:
    if unicodedata.category(character)[0] not in "LM":
        return True
    return unicodedata.name(character, "").startswith("LATIN ")


def _email(email: str) -> Iterator[Refusal]:
    if not email:
        return
    local, at, domain = email.lower().rpartition("@")
    labels = domain.split(".")
    if not local.isascii():
        yield _refusal("email", "error-non-ascii-local-part-email")
    elif (
        not at
        or len(local) > 64
        or not _LOCAL_PART.fullmatch(local)
        or not all(_DOMAIN_LABEL.fullmatch(label) for label in labels)
    ):
        yield _refusal("email", "error-invalid-email", email)


def _name(field: str, name: str) -> Iterator[Refusal]:
    if len(name) > 255:
        yield _refusal(field, "error-invalid-length-too-long", None, 255)
    elif _NAME_BAN.search(name):
        yield _refusal(field, "error-person-name-invalid-character")


def _attributes(
    attributes: Mapping[str, list[str]], managed: Mapping[str, int]
) -> Iterator[Refusal]:
    for name, values in attributes.items():
        if name not in managed:
            continue
        if len(values) > 1:
            yield _refusal(name, "error-invalid-multivalued-size", 0, 1)
        elif any(len(value) > managed[name] for value in values):
            yield _refusal(name, "error-invalid-length-too-long", None, managed[name])


def _refusal(field: str, key: str, *params: object) -> Refusal:
    return {"field": field, "errorMessage": key, "params": [field, *params]}
