"""What a mapping says, as frozen data; `mapping_reader` makes it from a document, `mapping` follows it."""

from dataclasses import dataclass, field
from typing import Any

from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    InvitationTerms,
    LinkPolicy,
    client_of,
)
from keycloak_bridge.expressions.expression import Expression

ATTRIBUTE_PREFIX = "attributes."
DEFAULT_RESERVED = ("admin",)
"""Usernames that no event may ever hold unless the mapping says otherwise."""

TEXT_FIELDS = ("username", "email", "firstName", "lastName")
FLAG_FIELDS = ("enabled", "emailVerified")
USER_FIELDS = (*TEXT_FIELDS, *FLAG_FIELDS, "requiredActions")
"""Fields of Keycloak's UserRepresentation that `[user]` can set."""

CREATE_ONLY_FIELDS = ("username", "emailVerified", "requiredActions")
"""Fields that are written at creation only unless the mapping says otherwise.

Keycloak refuses a changed username unless the realm allows it; the other two change by what the user does.
"""


NEVER_CLEARED = ("username", *FLAG_FIELDS, "requiredActions")
"""Fields that always have a value, or that the user's own doing changes; no event erases them."""


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
    attribute: str | None = field(init=False, repr=False, compare=False)
    """The attribute's name, or None for a field."""
    pointer: str = field(init=False, repr=False, compare=False)
    """The target as a JSON pointer into the mapping."""
    kind: type[bool | str | list[str]] = field(init=False, repr=False, compare=False)
    """What the target holds: a flag, a text, or a list of texts."""

    def __post_init__(self) -> None:
        is_field = not self.target.startswith(ATTRIBUTE_PREFIX)
        name = None if is_field else self.target.removeprefix(ATTRIBUTE_PREFIX)
        pointer = f"/user/{self.target}" if name is None else f"/user/attributes/{escaped(name)}"
        object.__setattr__(self, "attribute", name)
        object.__setattr__(self, "pointer", pointer)
        holds_texts = name is not None or self.target == "requiredActions"
        kind = list if holds_texts else bool if self.target in FLAG_FIELDS else str
        object.__setattr__(self, "kind", kind)


@dataclass(frozen=True, slots=True)
class MembershipRule:
    """How the user gets groups, roles or organizations; `allow` is None where everything is allowed.

    `kind` is that of Membership. `ignore_others` drops what is not allowed instead of refusing the event; `managed` takes
    away what is allowed and not named; `create_missing` creates groups that the realm lacks.
    """

    kind: str
    expression: Expression
    default: tuple[str, ...] = ()
    allow: frozenset[str] | None = None
    ignore_others: bool = False
    managed: bool = False
    create_missing: bool = False
    pointer: str = field(init=False, repr=False, compare=False)
    """The rule as a JSON pointer into the mapping."""

    def __post_init__(self) -> None:
        client = client_of(self.kind)
        named = self.kind if client is None else f"clientRoles/{escaped(client)}"
        object.__setattr__(self, "pointer", f"/user/{named}")

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
class InviteOverrides:
    """What the mapping says about the mail; None leaves the settings' word."""

    actions: tuple[str, ...] | None = None
    lifespan_s: int | None = None
    client_id: str | None = None
    redirect_uri: str | None = None

    def over(self, terms: InvitationTerms) -> InvitationTerms:
        """Return `terms` with everything replaced that the mapping says itself."""
        return InvitationTerms(
            actions=terms.actions if self.actions is None else self.actions,
            lifespan_s=terms.lifespan_s if self.lifespan_s is None else self.lifespan_s,
            client_id=terms.client_id if self.client_id is None else self.client_id,
            redirect_uri=terms.redirect_uri if self.redirect_uri is None else self.redirect_uri,
        )


@dataclass(frozen=True, slots=True)
class MappingRules:
    """A whole mapping, checked."""

    matching: tuple[str, ...]
    targets: tuple[TargetRule, ...]
    when: Expression | None = None
    link: LinkPolicy = LinkPolicy.NEVER
    reserved: frozenset[str] = frozenset(DEFAULT_RESERVED)
    memberships: tuple[MembershipRule, ...] = ()
    identities: tuple[IdentityRule, ...] = ()
    protected_groups: frozenset[str] = frozenset()
    invite: InviteOverrides = field(default_factory=InviteOverrides)

    @property
    def identity(self) -> TargetRule:
        """The rule of the external id."""
        for rule in self.targets:
            if rule.target == self.matching[0]:
                return rule
        raise AssertionError("the external id must be a target")

    def membership(self, kind: str) -> MembershipRule | None:
        """Return the rule of one kind of membership, None where the mapping has none."""
        return next((rule for rule in self.memberships if rule.kind == kind), None)

    @property
    def external_id(self) -> str:
        """The name of the attribute that holds the user's id in user management."""
        return self.matching[0].removeprefix(ATTRIBUTE_PREFIX)
