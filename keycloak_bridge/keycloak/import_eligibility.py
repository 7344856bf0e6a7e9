"""Whether a new user may go by partial import: only with exactly what POST /users would have made of it.

An import stores what it is given. It validates nothing, drops nothing, and gives nobody the realm's default role, groups
and required actions. So these are added here, what Keycloak would refuse is refused here in Keycloak's own words, and
whatever is not certain to end the same way is left to POST.

The words in which Keycloak's user profile refuses a value: its message key and the limits that it tells with it.

As Keycloak 26.7 answers; where the words depend on more than the rule, there are none here.

What the burst asks of Keycloak: many users at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, cast

from keycloak_bridge.domain.errors import KeycloakRejectedError, Violation
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.refusals import profile_violation, user_refused
from keycloak_bridge.keycloak.user_profile import (
    LOCALE,
    PROFILE_FIELDS,
    Config,
    ProfileAttribute,
    RealmProfile,
    check_user,
    length_limits,
)

_OWN_WORDS = "error-message"
Words = tuple[str, list[int | float | None]]
"""Keycloak's message key and the limits that it tells with it."""

_LENGTH_KEYS = (
    "error-invalid-length",
    "error-invalid-length-too-short",
    "error-invalid-length-too-long",
)
_RANGE_KEYS = (
    "error-number-out-of-range",
    "error-number-out-of-range-too-small",
    "error-number-out-of-range-too-big",
)
_PLAIN_KEYS = {
    "pattern": "error-pattern-no-match",
    "options": "error-invalid-value",
    "iso-date": "error-invalid-date",
    "person-name-prohibited-characters": "error-person-name-invalid-character",
    "username-prohibited-characters": "error-username-invalid-character",
}


def words_of(attribute: ProfileAttribute | None, validator: str, values: list[str]) -> Words | None:
    """Return how Keycloak says that `validator` refuses `values`; None where that is not certain."""
    if attribute is None:
        return ("error-invalid-length", [0, 2048]) if validator == "length" else None
    config = attribute.validations.get(validator, {})
    if _OWN_WORDS in config:
        return None
    if validator == "required":
        return ("error-user-attribute-required", []) if not values else None
    if validator == "multivalued":
        return _count_words(attribute)
    if validator == "length":
        return _length_words(config)
    if validator == "email":
        # of letters beyond ASCII it may say so in other words
        return ("error-invalid-email", []) if all(map(str.isascii, values)) else None
    if validator in ("integer", "double"):
        return _number_words(validator, config, values)
    key = _PLAIN_KEYS.get(validator)
    return None if key is None else (key, [])


def _length_words(config: Config) -> Words | None:
    least, most = length_limits(config)
    if "min" in config and not least:
        return None
    return _between(_LENGTH_KEYS, least or None, most)


def _count_words(attribute: ProfileAttribute) -> Words | None:
    limits: list[int | float | None] = [0, 1]
    if attribute.multivalued:
        config = attribute.validations.get("multivalued", {})
        if not config.get("max"):
            return None
        limits = [int(config.get("min") or 0), int(config["max"])]
    return "error-invalid-multivalued-size", limits


def _number_words(validator: str, config: Config, values: list[str]) -> Words | None:
    """Return the words for what is no number, or for one out of range; None for both at once."""
    no_number = [not any(map(str.isdigit, value)) for value in values]
    if all(no_number):
        return ("error-invalid-number", []) if validator == "integer" else None
    if any(no_number):
        return None
    to_number = int if validator == "integer" else float
    least, most = (
        None if config.get(name) in (None, "") else to_number(config[name])
        for name in ("min", "max")
    )
    return _between(_RANGE_KEYS, least, most)


def _between(keys: tuple[str, str, str], least: float | None, most: float | None) -> Words | None:
    if least is None and most is None:
        return None
    if most is None:
        return keys[1], [least, None]
    return (keys[2] if least is None else keys[0]), [least, most]


_FIELDS = frozenset(PROFILE_FIELDS) | {
    "emailVerified",
    "enabled",
    "attributes",
    "groups",
    "requiredActions",
}
_READ_ONLY = re.compile(
    r"kerberos_principal|ldap_id|ldap_entry_dn|create_?timestamp|modify_?timestamp|usercertificate"
    r"|saml\.persistent\.name\.id\.for\..*|enabled|email_?verified|disabledreason",
    re.IGNORECASE,
)
"""Attributes that every Keycloak keeps for itself, and refuses from anybody else."""

_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")


class Way(StrEnum):
    """How a new user gets into Keycloak, if at all."""

    IMPORT = "import"
    SINGLE = "single"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to become of a new user: `user` is the body to import, `error` says why it is refused.

    `reason` says what only POST can decide; it names attributes, never a value.
    """

    way: Way
    user: UserRepresentation = field(default_factory=UserRepresentation)
    reason: str = ""
    error: KeycloakRejectedError | None = None

    @classmethod
    def single(cls, reason: str) -> "Judgement":
        """Return the judgement that POST must decide."""
        return cls(Way.SINGLE, reason=reason)


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """What of a realm decides about an import.

    `known_actions` are all aliases of its required actions, `default_actions` those that POST gives to every new user.
    `wanted` names attributes whose absence Keycloak does not leave at that: it fills or demands them. `selected` are those
    that it looks at for some clients only. `federated` says that new users may go to another store than Keycloak's own.
    """

    profile: RealmProfile
    default_role: str
    default_groups: tuple[str, ...] = ()
    default_actions: tuple[str, ...] = ()
    known_actions: frozenset[str] = frozenset()
    email_as_username: bool = False
    login_with_email: bool = True
    duplicate_emails: bool = False
    internationalized: bool = False
    federated: bool = False
    wanted: frozenset[str] = frozenset()
    selected: frozenset[str] = frozenset()


def read_peculiar(profile: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the `wanted` and the `selected` attributes in Keycloak's answer to `GET /users/profile`."""
    attributes = [one for one in profile.get("attributes") or () if isinstance(one, Mapping)]
    wanted = {str(one.get("name")) for one in attributes if _is_wanted(one)}
    selected = {str(one.get("name")) for one in attributes if one.get("selector")}
    return frozenset(wanted), frozenset(selected)


def _is_wanted(attribute: Mapping[str, Any]) -> bool:
    """Say whether it has a default, or a least number of values: zero values are too few for that."""
    counts = (attribute.get("validations") or {}).get("multivalued") or {}
    return bool(attribute.get("defaultValue")) or str(counts.get("min") or 0) != "0"


def judge_import(terms: ImportTerms, representation: UserRepresentation) -> Judgement:
    """Return the way of a user that the realm does not have, as an administrator would POST it."""
    whole = cast("dict[str, Any]", representation)
    attributes = {
        name: values for name, given in _attributes(whole) if (values := [v for v in given if v])
    }
    sent_dead_letters = (
        _doubt_in_names(terms, whole)
        or _doubt_in_attributes(terms, attributes)
        or _doubt_in_text(whole, attributes)
        or _doubt_in_actions(terms, whole)
    )
    if sent_dead_letters:
        return Judgement.single(sent_dead_letters)
    verdict = check_user(terms.profile, representation)
    if verdict.unknown or verdict.dropped:
        return Judgement.single(", ".join((*verdict.unknown, *verdict.dropped)))
    if verdict.violations:
        return _refused(terms.profile, {**_texts(whole), **attributes}, verdict.violations)
    return Judgement(Way.IMPORT, _body(terms, whole, attributes))


def _doubt_in_names(terms: ImportTerms, user: Mapping[str, Any]) -> str | None:
    """Return what about realm, fields and names only Keycloak can decide."""
    if terms.federated:
        return "user storage"
    if not _FIELDS.issuperset(user):
        return "a field that is no part of a new user"
    username, email = user.get("username") or "", user.get("email") or ""
    if not username.strip():
        return "no username"
    if username.lower() != email.lower() and (
        terms.email_as_username or ("@" in username and terms.login_with_email)
    ):
        return "a username that may be another user's e-mail address"
    for name in PROFILE_FIELDS:
        if user.get(name) and not _is_editable(terms.profile.attributes.get(name)):
            return name
    return None


def _doubt_in_attributes(terms: ImportTerms, attributes: Mapping[str, list[str]]) -> str | None:
    """Return which attribute is treated in a way of its own."""
    if terms.selected:
        return next(iter(terms.selected))
    profile = terms.profile.attributes
    for name, values in attributes.items():
        attribute = profile.get(name)
        if name in PROFILE_FIELDS or _is_read_only(name):
            return name
        if name == LOCALE and not terms.internationalized:
            return name
        if attribute is not None and not _is_editable(attribute):
            return name
        if not all(map(str.strip, values)):
            return name  # Keycloak's validators differ about blanks
    for name in terms.wanted:
        if name not in attributes:
            return name
    return None


@lru_cache(maxsize=1024)
def _is_read_only(name: str) -> bool:
    return _READ_ONLY.fullmatch(name) is not None


def _doubt_in_text(user: Mapping[str, Any], attributes: Mapping[str, list[str]]) -> str | None:
    """Return which field holds what one database or another cannot store: it would fail the whole batch."""
    texts = [str(user.get(name) or "") for name in PROFILE_FIELDS]
    for name, values in attributes.items():
        texts += (name, *values)
    if _UNSENDABLE.search("".join(texts)):
        return "text that cannot be stored"
    username, email = user.get("username") or "", user.get("email") or ""
    if username != username.strip() or email != email.strip():
        return "white space around a name"
    return None


def _doubt_in_actions(terms: ImportTerms, user: Mapping[str, Any]) -> str | None:
    unknown = set(user.get("requiredActions") or ()) - terms.known_actions
    return "a required action that the realm does not have" if unknown else None


def _body(
    terms: ImportTerms, user: Mapping[str, Any], attributes: Mapping[str, list[str]]
) -> UserRepresentation:
    """Return the user with what POST adds, and without what it leaves out."""
    body = {name: value for name, value in user.items() if value is not None and value != ""}
    body["username"] = user["username"].lower()
    if user.get("email"):
        body["email"] = user["email"].lower()
    body["attributes"] = dict(attributes)
    groups = [f"/{path.strip('/')}" for path in user.get("groups") or ()]
    body["groups"] = list(dict.fromkeys((*groups, *terms.default_groups)))
    actions = user.get("requiredActions") or ()
    body["requiredActions"] = list(dict.fromkeys((*actions, *terms.default_actions)))
    body["realmRoles"] = [terms.default_role]
    return cast("UserRepresentation", body)


def _refused(
    profile: RealmProfile, values: Mapping[str, list[str]], violations: tuple[Violation, ...]
) -> Judgement:
    """Return Keycloak's refusal, or leave it to Keycloak where its words are not certain."""
    told = []
    for violation in violations:
        name = violation.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        attribute, given = profile.attributes.get(name), values.get(name, [])
        words = words_of(attribute, violation.keyword, given)
        if words is None:
            return Judgement.single(f"{name}: {violation.keyword}")
        key, limits = words
        told.append(profile_violation(name, key, [name, *limits]))
    error = user_refused(told, status=400, method="POST", path="/users", foreseen=True)
    return Judgement(Way.REFUSED, error=error)


def _is_editable(attribute: ProfileAttribute | None) -> bool:
    return attribute is not None and "admin" in attribute.edit


def _texts(user: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: [user[name]] for name in PROFILE_FIELDS if user.get(name)}


def _attributes(user: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield from (user.get("attributes") or {}).items()


class UserImporter(Protocol):
    """Creates many users at once, as `UserDirectory.create` would one by one. Safe to share between threads."""

    def available(self) -> bool:
        """Say whether the realm and the account let users be imported, as far as was seen a short while ago."""
        ...

    def judge(self, representation: UserRepresentation) -> Judgement:
        """Say whether an import makes of the user what `create` would, and what to hand to `import_users` for it."""
        ...

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Create all that are not there yet, and return their Keycloak ids in order, None for one that is.

        All or none: one bad user fails them all. Raises KeycloakError.
        """
        ...
