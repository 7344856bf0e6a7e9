"""The realm's user profile: which attributes Keycloak keeps, and what it refuses of a user that an administrator writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.errors import Violation
from keycloak_bridge.core.json_text import pointer
from keycloak_bridge.core.profile_validators import Answer, Config, judge_value

PROFILE_FIELDS = ("username", "email", "firstName", "lastName")
"""Fields of a user that the profile describes like attributes."""

LOCALE = "locale"
"""Built into Keycloak: it is kept while the realm has internationalization on, and no profile names it."""

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


@dataclass(frozen=True, slots=True)
class UserVerdict:
    """What Keycloak would do with a user: refuse it, drop attributes of it, or something that only it can tell.

    `unknown` names `attribute: validator` of each check that was not understood or not decided.
    """

    violations: tuple[Violation, ...] = ()
    unknown: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether Keycloak is sure to store the user as it is."""
        return not (self.violations or self.unknown or self.dropped)


def read_profile(answer: Mapping[str, Any]) -> RealmProfile:
    """Return the profile in Keycloak's answer to `GET /users/profile`."""
    attributes = {
        str(one["name"]): _attribute(one)
        for one in answer.get("attributes") or ()
        if isinstance(one, Mapping) and "name" in one
    }
    policy = answer.get("unmanagedAttributePolicy")
    return RealmProfile(attributes, None if policy is None else str(policy))


def check_user(profile: RealmProfile, user: UserRepresentation) -> UserVerdict:
    """Return what Keycloak's validation would say of the whole `user`, written by an administrator.

    What it checks against other users is left to Keycloak.
    """
    values = dict(_values(user))
    violations: list[Violation] = []
    unknown: list[str] = []
    dropped: list[str] = []
    for name, given in values.items():
        attribute = profile.attributes.get(name)
        if attribute is not None:
            refused, unsure = judge_values(attribute, given)
            violations += refused
            unknown += (f"{name}: {validator}" for validator in unsure)
        elif name == LOCALE or name in PROFILE_FIELDS:
            continue
        elif profile.keeps_unmanaged:
            violations += _unmanaged(name, given)
        else:
            dropped.append(name)
    for name, attribute in profile.attributes.items():
        if attribute.demanded and not any(value.strip() for value in values.get(name, ())):
            violations.append(_violation(name, "required", "is required by the user profile"))
    return UserVerdict(tuple(violations), tuple(unknown), tuple(dropped))


def judge_values(
    attribute: ProfileAttribute, values: list[str]
) -> tuple[list[Violation], list[str]]:
    """Return what of `values` breaks the attribute's rules, and the validators that could not decide."""
    refused: list[Violation] = []
    unsure: list[str] = []
    least, most = _count_limits(attribute)
    if values and not (least <= len(values) and (most is None or len(values) <= most)):
        reason = f"has {len(values)} values, which the user profile does not allow"
        refused.append(_violation(attribute.name, "multivalued", reason))
    for validator, config in attribute.validations.items():
        if validator == "multivalued":
            continue
        answers = {judge_value(validator, config, value) for value in values}
        if Answer.REFUSED in answers:
            reason = f"breaks the rule '{validator}' of the user profile"
            refused.append(_violation(attribute.name, validator, reason))
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
    return int(least or 0), None if most is None else int(most)


def _unmanaged(name: str, values: list[str]) -> list[Violation]:
    if any(judge_value("length", _UNMANAGED_LIMIT, value) is Answer.REFUSED for value in values):
        return [_violation(name, "length", "is longer than the 2048 characters of any attribute")]
    return []


def _violation(name: str, keyword: str, message: str) -> Violation:
    steps = ("user", name) if name in PROFILE_FIELDS else ("user", "attributes", name)
    return Violation(pointer(steps), keyword, message)
