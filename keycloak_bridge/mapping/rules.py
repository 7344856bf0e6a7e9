"""The rules of a mapping as frozen data: `reader` makes them from a document, `mapping` applies them to events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    EXACT_ID,
    GROUPS,
    ORGANIZATIONS,
    LinkPolicy,
    client_of,
)
from keycloak_bridge.expressions.expression import Expression

DEFAULT_RESERVED = ("admin",)
"""Usernames that no event may ever use unless the mapping says otherwise."""

TEXT_FIELDS = ("username", "email", "firstName", "lastName")
FLAG_FIELDS = ("enabled", "emailVerified")
USER_FIELDS = (*TEXT_FIELDS, *FLAG_FIELDS, "requiredActions")
"""Fields of Keycloak's UserRepresentation that `[user]` can set."""

CREATE_ONLY_FIELDS = ("username", "emailVerified", "requiredActions")
"""Fields that are written at creation only unless the mapping says otherwise.

Keycloak refuses a changed username unless the realm allows it; the other two change by what the user does.
"""

NEVER_CLEARED = ("username", *FLAG_FIELDS, "requiredActions")
"""Fields that always have a value, or that the user's own actions change; no event erases them."""


def group_path(path: str) -> str:
    """Return a group's path the way Keycloak writes it: with a slash before and none behind."""
    return "/" + path.strip("/")


def escaped(name: str) -> str:
    """Return `name` as one step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How one field or attribute of the user gets its value.

    `target` is `email` or `attributes.tenantId`. Without `expression` the value is always `default`. `managed` erases what
    a complete event gives no value for.
    """

    target: str
    expression: Expression | None
    default: Any = None
    create_only: bool = False
    required: bool = False
    managed: bool = False
    pointer: str = field(init=False, repr=False, compare=False)
    """The target as a JSON pointer into the mapping."""
    kind: type[bool | str | list[str]] = field(init=False, repr=False, compare=False)
    """The type of the target's value: a flag, a text, or a list of texts."""

    def __post_init__(self) -> None:
        name = self.attribute
        pointer = f"/user/{self.target if name is None else 'attributes/' + escaped(name)}"
        fields = str if self.target in TEXT_FIELDS else list
        object.__setattr__(self, "pointer", pointer)
        object.__setattr__(self, "kind", bool if self.target in FLAG_FIELDS else fields)

    @property
    def attribute(self) -> str | None:
        """The attribute's name, or None for a field."""
        is_field = not self.target.startswith(ATTRIBUTE_PREFIX)
        return None if is_field else self.target.removeprefix(ATTRIBUTE_PREFIX)


@dataclass(frozen=True, slots=True)
class MembershipRule:
    """How the user gets groups, roles or organizations; `allow` is None where everything is allowed.

    `kind` is that of Membership. `ignore_others` drops what is not allowed instead of refusing the event; `managed`
    removes what is allowed and not named; `create_missing` creates groups that the realm lacks.
    """

    kind: str
    expression: Expression
    default: tuple[str, ...] = ()
    allow: frozenset[str] | None = None
    ignore_others: bool = False
    managed: bool = False
    create_missing: bool = False

    @property
    def pointer(self) -> str:
        """The rule as a JSON pointer into the mapping."""
        client = client_of(self.kind)
        return f"/user/{self.kind if client is None else 'clientRoles/' + escaped(client)}"

    @property
    def word(self) -> str:
        """What one of its names is: a group, an organization or a role."""
        return {GROUPS: "group", ORGANIZATIONS: "organization"}.get(self.kind, "role")


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """How the user is linked to its account at an identity provider; `managed` unlinks where the event names none."""

    alias: str
    user_id: Expression
    user_name: Expression | None = None
    managed: bool = False

    @property
    def pointer(self) -> str:
        """The rule as a JSON pointer into the mapping."""
        return "/user/federatedIdentities/" + escaped(self.alias)


@dataclass(frozen=True, slots=True)
class MappingRules:
    """A whole mapping, checked.

    `matching` begins with the attribute that holds the external id, also where the document begins with the username: the
    attribute has the id as it was given, and is found by the username.
    """

    matching: tuple[str, ...]
    targets: tuple[TargetRule, ...]
    when: Expression | None = None
    link: LinkPolicy = LinkPolicy.NEVER
    reserved: frozenset[str] = frozenset(DEFAULT_RESERVED)
    memberships: tuple[MembershipRule, ...] = ()
    identities: tuple[IdentityRule, ...] = ()
    protected_groups: frozenset[str] = frozenset()
    invite: Mapping[str, Any] = field(default_factory=dict)
    """The fields of InvitationTerms that the mapping overrides."""

    @property
    def id_is_username(self) -> bool:
        """Whether users are found by their username, which is their id in user management."""
        return self.matching[0] == EXACT_ID

    @property
    def identity_key(self) -> str:
        """The key of the mapping that gives the external id."""
        return "user.username" if self.id_is_username else f"user.{self.matching[0]}"

    @property
    def identity(self) -> TargetRule:
        """The rule of the external id."""
        return next(rule for rule in self.targets if rule.target == self.matching[0])

    def membership(self, kind: str) -> MembershipRule | None:
        """Return the rule of one kind of membership, None where the mapping has none."""
        return next((rule for rule in self.memberships if rule.kind == kind), None)

    @property
    def external_id(self) -> str:
        """The name of the attribute that holds the user's id in user management."""
        return self.matching[0].removeprefix(ATTRIBUTE_PREFIX)
