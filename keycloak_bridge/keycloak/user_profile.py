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

_MULTIVALUED = "multivalued"
_ONE = (0, 1)
_OPEN_POLICIES = ("ENABLED", "ADMIN_EDIT")
_UNMANAGED_LIMIT: Config = {"max": 2048, "trim-disabled": True}


class Answer(StrEnum):
    """What Keycloak would say of a value, as far as it can be known here."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


Judge = Callable[[str], Answer]
"""Says what a validator of the profile makes of one value that is not empty."""


@dataclass(frozen=True, slots=True)
class ProfileAttribute:
    """One attribute that the profile manages, as far as it concerns administrators and users."""

    name: str
    edit: frozenset[str] = frozenset()
    view: frozenset[str] = frozenset()
    required: bool = False
    multivalued: bool = False
    validations: Mapping[str, Config] = field(default_factory=dict)
    judges: Mapping[str, Judge] = field(init=False, repr=False, compare=False)
    """A judge for each of `validations` that looks at single values."""

    counts: tuple[int, int | None] = field(init=False, repr=False, compare=False)
    """The least and the greatest number of values; None is no limit."""

    def __post_init__(self) -> None:
        """Read the rules once, for all users that they are asked about."""
        rules = {
            name: judge_of(name, config)
            for name, config in self.validations.items()
            if name != _MULTIVALUED
        }
        object.__setattr__(self, "judges", rules)
        counts = length_limits(self.validations.get(_MULTIVALUED, {})) if self.multivalued else _ONE
        object.__setattr__(self, "counts", counts)

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
    found = [name for name, given in values.items() if not _surely_kept(profile, name, given)]
    for name, attribute in profile.attributes.items():
        if attribute.demanded and not any(value.strip() for value in values.get(name, ())):
            found.append(name)
    return tuple(found)


def _surely_kept(profile: RealmProfile, name: str, values: list[str]) -> bool:
    attribute = profile.attributes.get(name)
    if attribute is not None:
        return not any(judge_values(attribute, values))
    if name == LOCALE or name in PROFILE_FIELDS:
        return True
    return profile.keeps_unmanaged and all(
        _judge_unmanaged(value) is Answer.TAKEN for value in values
    )


def judge_values(attribute: ProfileAttribute, values: list[str]) -> tuple[list[str], list[str]]:
    """Return how `values` break the attribute's rules, each as the end of a sentence, and the validators in doubt."""
    refused: list[str] = []
    unsure: list[str] = []
    least, most = attribute.counts
    if values and not (least <= len(values) and (most is None or len(values) <= most)):
        refused.append(f"has {len(values)} values, which the user profile does not allow")
    for validator, judge in attribute.judges.items():
        answers = {judge(value) for value in values if value}
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
            str(name): config if isinstance(config, Mapping) else {}
            for name, config in (one.get("validations") or {}).items()
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


def judge_value(validator: str, config: Config, value: str) -> Answer:
    """Return what `validator` makes of one value; UNKNOWN where only Keycloak can tell.

    An empty value is taken: Keycloak's validators of a profile skip it.
    """
    return judge_of(validator, config)(value) if value else Answer.TAKEN


def judge_of(validator: str, config: Config) -> Judge:
    """Return the judge for `validator` with this configuration; it says UNKNOWN where only Keycloak can tell."""
    read = _JUDGES.get(validator)
    return _undecided if read is None else read(config)


def length_limits(config: Config) -> tuple[int, int | None]:
    """Return the least and the greatest number that `length` or `multivalued` allows; None is no limit."""
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


def _undecided(_value: str) -> Answer:
    return Answer.UNKNOWN


def _length(config: Config) -> Judge:
    least, greatest = length_limits(config)
    trims = not _flag(config.get("trim-disabled"))

    def judge(value: str) -> Answer:
        length = java_length(value.strip(_JAVA_TRIMMED) if trims else value)
        return _taken(least <= length and (greatest is None or length <= greatest))

    return judge


def _pattern(config: Config) -> Judge:
    compiled = java_pattern(str(config.get("pattern", "")))
    if compiled is None:
        return _undecided
    return lambda value: _taken(compiled.fullmatch(value) is not None)


def _options(config: Config) -> Judge:
    options = options_of(config)
    return _undecided if options is None else lambda value: _taken(value in options)


def _email(config: Config) -> Judge:
    longest = _integer(config.get("max-local-length")) or _LONGEST_LOCAL_PART

    def judge(value: str) -> Answer:
        local, at, domain = value.rpartition("@")
        if not at or not local or not domain or len(local) > longest:
            return Answer.REFUSED
        if any(character.isspace() for character in value):
            return Answer.REFUSED
        return _known(_USUAL_ADDRESS.fullmatch(value) is not None)

    return judge


def _integer_value(config: Config) -> Judge:
    within = _within(config)

    def judge(value: str) -> Answer:
        if _USUAL_INTEGER.fullmatch(value):
            return within(int(value))
        return Answer.UNKNOWN if any(map(str.isdigit, value)) else Answer.REFUSED

    return judge


def _double_value(config: Config) -> Judge:
    within = _within(config)
    return lambda value: within(float(value)) if _USUAL_DECIMAL.fullmatch(value) else Answer.UNKNOWN


def _iso_date(_config: Config) -> Judge:
    def judge(value: str) -> Answer:
        if not _ISO_DATE.fullmatch(value):
            return Answer.REFUSED
        try:
            date.fromisoformat(value)
        except ValueError:
            return Answer.REFUSED
        return Answer.TAKEN

    return judge


def _without(banned: re.Pattern[str]) -> Callable[[Config], Judge]:
    return lambda _config: lambda value: _taken(not banned.search(value))


_JUDGES: Mapping[str, Callable[[Config], Judge]] = {
    "length": _length,
    "pattern": _pattern,
    "options": _options,
    "email": _email,
    "integer": _integer_value,
    "double": _double_value,
    "iso-date": _iso_date,
    "uri": lambda _config: lambda value: _known(_USUAL_URI.fullmatch(value) is not None),
    "person-name-prohibited-characters": _without(_NAME_BAN),
    USERNAME_CHARACTERS: _without(_USERNAME_BAN),
    # Keycloak looks at the scripts of letters; ASCII is never a look-alike
    "up-username-not-idn-homograph": lambda _config: lambda value: _known(value.isascii()),
}


def _within(config: Config) -> Callable[[float], Answer]:
    least, greatest = _number(config.get("min")), _number(config.get("max"))
    return lambda number: _taken(
        (least is None or number >= least) and (greatest is None or number <= greatest)
    )


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


_judge_unmanaged = judge_of("length", _UNMANAGED_LIMIT)
