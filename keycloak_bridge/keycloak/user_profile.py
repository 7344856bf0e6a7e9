"""The realm's user profile: which attributes Keycloak keeps of a user, and which values it refuses from an administrator.

Keycloak's validators are Java. A value is called taken or refused here only where that is certain; the rest is Keycloak's
own to decide.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any

from keycloak_bridge.domain.users import UserRepresentation

Config = Mapping[str, Any]

PROFILE_FIELDS = ("username", "email", "firstName", "lastName")
"""Fields of a user that the profile describes like attributes."""

LOCALE = "locale"
"""Built into Keycloak: it is kept while the realm has internationalization on, and no profile names it."""

USERNAME_CHARACTERS = "username-prohibited-characters"
"""The validator of usernames in Keycloak's default profile."""

_OPEN_POLICIES = ("ENABLED", "ADMIN_EDIT")
_UNMANAGED_LIMIT: Config = {"max": 2048, "trim-disabled": True}


@dataclass(frozen=True, slots=True)
class ProfileAttribute:
    """One attribute that the profile manages, as far as it concerns administrators and users."""

    name: str
    edit: frozenset[str] = frozenset()
    view: frozenset[str] = frozenset()
    required: bool = False
    multivalued: bool = False
    validations: Mapping[str, Config] = field(default_factory=dict)

    @property
    def demanded(self) -> bool:
        """Whether Keycloak refuses a user without it from an administrator; what one cannot edit is not asked for."""
        return self.required and "admin" in self.edit


@dataclass(frozen=True, slots=True)
class RealmProfile:
    """A realm's whole user profile."""

    attributes: Mapping[str, ProfileAttribute] = field(default_factory=dict)
    unmanaged_policy: str | None = None

    @property
    def keeps_unmanaged(self) -> bool:
        """Whether administrators may write attributes that the profile does not name."""
        return self.unmanaged_policy in _OPEN_POLICIES

    @property
    def users_edit_unmanaged(self) -> bool:
        """Whether users may edit their own attributes that the profile does not name."""
        return self.unmanaged_policy == "ENABLED"


def read_profile(answer: Mapping[str, Any], *, email_as_username: bool = False) -> RealmProfile:
    """Return the profile in Keycloak's answer to `GET /users/profile`.

    A realm that takes the e-mail address as the username lets a username have every character that an address has.
    """
    attributes = {
        str(one["name"]): _attribute(one)
        for one in answer.get("attributes") or ()
        if isinstance(one, Mapping) and "name" in one
    }
    if email_as_username and (username := attributes.get("username")) is not None:
        kept = {k: v for k, v in username.validations.items() if k != USERNAME_CHARACTERS}
        attributes["username"] = replace(username, validations=kept)
    policy = answer.get("unmanagedAttributePolicy")
    return RealmProfile(attributes, None if policy is None else str(policy))


_LONGEST: Config = {"max": 255}
_PERSON: Mapping[str, Config] = {"length": _LONGEST, "person-name-prohibited-characters": {}}
DEFAULT_RULES: Mapping[str, Mapping[str, Config]] = {
    "username": {
        "length": {"min": 3, "max": 255},
        USERNAME_CHARACTERS: {},
        "up-username-not-idn-homograph": {},
    },
    "email": {"email": {}, "length": _LONGEST},
    "firstName": _PERSON,
    "lastName": _PERSON,
}
"""The rules that Keycloak gives to a new realm."""


def broken_defaults(user: UserRepresentation) -> tuple[tuple[str, str], ...]:
    """Return each field of `user` and the rule of Keycloak's default user profile that its value surely breaks."""
    return tuple(
        (name, rule)
        for name, values in _values(user)
        for rule, config in DEFAULT_RULES.get(name, {}).items()
        if any(judge_value(rule, config, value) is Answer.REFUSED for value in values)
    )


def uncertain_fields(profile: RealmProfile, user: UserRepresentation) -> tuple[str, ...]:
    """Return what of `user` Keycloak is not certain to take and store as it is, when an administrator writes it.

    These are names of fields and attributes that the profile refuses or drops, or that only Keycloak can decide about. What
    it checks against other users is not looked at.
    """
    values = dict(_values(user))
    found = []
    for name, given in values.items():
        attribute = profile.attributes.get(name)
        if attribute is not None:
            if any(judge_values(attribute, given)):
                found.append(name)
        elif name not in (LOCALE, *PROFILE_FIELDS) and not (
            profile.keeps_unmanaged
            and all(
                judge_value("length", _UNMANAGED_LIMIT, value) is Answer.TAKEN for value in given
            )
        ):
            found.append(name)
    for name, attribute in profile.attributes.items():
        if attribute.demanded and not any(value.strip() for value in values.get(name, ())):
            found.append(name)
    return tuple(found)


def judge_values(attribute: ProfileAttribute, values: list[str]) -> tuple[list[str], list[str]]:
    """Return how `values` break the attribute's rules, each as the end of a sentence, and the validators in doubt."""
    refused: list[str] = []
    unsure: list[str] = []
    least, most = _count_limits(attribute)
    if values and not (least <= len(values) and (most is None or len(values) <= most)):
        refused.append(f"has {len(values)} values, which the user profile does not allow")
    for validator, config in attribute.validations.items():
        if validator == "multivalued":
            continue
        answers = {judge_value(validator, config, value) for value in values}
        if Answer.REFUSED in answers:
            refused.append(f"breaks the rule '{validator}' of the user profile")
        elif Answer.UNKNOWN in answers:
            unsure.append(validator)
    return refused, unsure


def _attribute(one: Mapping[str, Any]) -> ProfileAttribute:
    permissions = one.get("permissions") or {}
    return ProfileAttribute(
        name=str(one["name"]),
        edit=frozenset(permissions.get("edit") or ()),
        view=frozenset(permissions.get("view") or ()),
        required=_required_of_admins(one.get("required")),
        multivalued=bool(one.get("multivalued")),
        validations={
            str(name): config or {} for name, config in (one.get("validations") or {}).items()
        },
    )


def _required_of_admins(required: Mapping[str, Any] | None) -> bool:
    """Say whether an administrator must give it; with scopes alone it is asked for at log-in only."""
    if required is None:
        return False
    roles, scopes = required.get("roles") or (), required.get("scopes") or ()
    return "admin" in roles or not (roles or scopes)


def _values(user: UserRepresentation) -> Iterator[tuple[str, list[str]]]:
    """Yield what the profile looks at; an empty value is none."""
    for name in PROFILE_FIELDS:
        value = user.get(name)
        if isinstance(value, str) and value:
            yield name, [value]
    for name, values in (user.get("attributes") or {}).items():
        if any(values):
            yield name, [value for value in values if value]


def _count_limits(attribute: ProfileAttribute) -> tuple[int, int | None]:
    if not attribute.multivalued:
        return 0, 1
    config = attribute.validations.get("multivalued", {})
    least, most = config.get("min"), config.get("max")
    return _integer(least) or 0, _integer(most)


_JAVA_TRIMMED = "".join(map(chr, range(33)))
_CONTROLS = r"\x00-\x1f\x7f"
_LINE_ENDS = r"\n\x0b\f\r\x85\u2028\u2029"
_BLANKS = r" \t\xa0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000"
_USERNAME_BAN = re.compile(
    rf"""[<>&"'$%!#?§,;:*~/\\|^=\[\]{{}}()`{_CONTROLS}{_LINE_ENDS}{_BLANKS}]"""
)
_NAME_BAN = re.compile(rf"""[<>&"$%!#?§;*~/\\|^=\[\]{{}}(){_CONTROLS}{_LINE_ENDS}]""")
_USUAL_ADDRESS = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}",
    re.IGNORECASE,
)
_LONGEST_LOCAL_PART = 64
_USUAL_URI = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9/_.~-]*)?")
_USUAL_INTEGER = re.compile(r"-?[0-9]{1,9}")
_USUAL_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_JAVA_ONLY = re.compile(
    r"\\[^dDwWsStnrfxu\\.^$|?*+()\[\]{}/@:,;_'\"#&%=!<>~` -]|\(\?(?![:=!]|<[=!])"
)
_JAVA_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*?(?:\[|&&|--|\|\||~~)", re.DOTALL)
_CLOSED = re.compile(r"(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\[\\])*", re.DOTALL)
"""No class is left open, which the translation of a dot would close."""

_JAVA_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|[.$]", re.DOTALL)
_JAVA_MEANS = {".": r"[^\n\r\x85\u2028\u2029]", "$": r"\Z"}


class Answer(StrEnum):
    """What Keycloak would say of a value, as far as it can be known here."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


def judge_value(validator: str, config: Config, value: str) -> Answer:
    """Return what `validator` makes of one value; UNKNOWN where only Keycloak can tell.

    An empty value is taken: Keycloak's validators of a profile skip it.
    """
    if not value:
        return Answer.TAKEN
    judge = _JUDGES.get(validator)
    return Answer.UNKNOWN if judge is None else judge(config, value)


def length_limits(config: Config) -> tuple[int, int | None]:
    """Return the least and the greatest length that the validator `length` takes; None is no limit."""
    return _integer(config.get("min")) or 0, _integer(config.get("max"))


def options_of(config: Config) -> frozenset[str] | None:
    """Return the values that the validator `options` takes; None when it names none."""
    options = config.get("options")
    return frozenset(map(str, options)) if isinstance(options, list) else None


@lru_cache(maxsize=256)
def java_pattern(text: str) -> re.Pattern[str] | None:
    """Return Java's regular expression compiled; None where Python might read it differently."""
    if _JAVA_ONLY.search(text) or _JAVA_CLASS.search(text) or not _CLOSED.fullmatch(text):
        return None
    translated = _JAVA_PART.sub(lambda part: _JAVA_MEANS.get(part[0], part[0]), text)
    try:
        return re.compile(translated, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        return None


def java_length(text: str) -> int:
    """Return the length as Keycloak counts it, in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _length(config: Config, value: str) -> Answer:
    trimmed = value if _flag(config.get("trim-disabled")) else value.strip(_JAVA_TRIMMED)
    least, greatest = length_limits(config)
    length = java_length(trimmed)
    return _taken(least <= length and (greatest is None or length <= greatest))


def _pattern(config: Config, value: str) -> Answer:
    compiled = java_pattern(str(config.get("pattern", "")))
    return Answer.UNKNOWN if compiled is None else _taken(compiled.fullmatch(value) is not None)


def _options(config: Config, value: str) -> Answer:
    options = options_of(config)
    return Answer.UNKNOWN if options is None else _taken(value in options)


def _email(config: Config, value: str) -> Answer:
    local, at, domain = value.rpartition("@")
    longest = _integer(config.get("max-local-length")) or _LONGEST_LOCAL_PART
    if not at or not local or not domain or len(local) > longest:
        return Answer.REFUSED
    if any(character.isspace() for character in value):
        return Answer.REFUSED
    return _known(_USUAL_ADDRESS.fullmatch(value) is not None)


def _integer_value(config: Config, value: str) -> Answer:
    if _USUAL_INTEGER.fullmatch(value):
        return _within(config, int(value))
    return Answer.UNKNOWN if any(map(str.isdigit, value)) else Answer.REFUSED


def _double_value(config: Config, value: str) -> Answer:
    return _within(config, float(value)) if _USUAL_DECIMAL.fullmatch(value) else Answer.UNKNOWN


def _iso_date(_config: Config, value: str) -> Answer:
    if not _ISO_DATE.fullmatch(value):
        return Answer.REFUSED
    try:
        date.fromisoformat(value)
    except ValueError:
        return Answer.REFUSED
    return Answer.TAKEN


_JUDGES: Mapping[str, Callable[[Config, str], Answer]] = {
    "length": _length,
    "pattern": _pattern,
    "options": _options,
    "email": _email,
    "integer": _integer_value,
    "double": _double_value,
    "iso-date": _iso_date,
    "uri": lambda _, value: _known(_USUAL_URI.fullmatch(value) is not None),
    "person-name-prohibited-characters": lambda _, value: _taken(not _NAME_BAN.search(value)),
    USERNAME_CHARACTERS: lambda _, value: _taken(not _USERNAME_BAN.search(value)),
    # Keycloak looks at the scripts of letters; ASCII is never a look-alike
    "up-username-not-idn-homograph": lambda _, value: _known(value.isascii()),
}


def _within(config: Config, number: float) -> Answer:
    least, greatest = _number(config.get("min")), _number(config.get("max"))
    fits = (least is None or number >= least) and (greatest is None or number <= greatest)
    return _taken(fits)


def _taken(holds: bool) -> Answer:
    return Answer.TAKEN if holds else Answer.REFUSED


def _known(usual: bool) -> Answer:
    return Answer.TAKEN if usual else Answer.UNKNOWN


def _flag(value: object) -> bool:
    return str(value).lower() == "true"


def _integer(value: object) -> int | None:
    if value is None or type(value) is int:
        return value  # as nearly every profile writes it
    number = _number(value)
    return None if number is None else int(number)


def _number(value: object) -> float | None:
    """Return a number of the profile, which may write it as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
