"""What a mapping says, as frozen data; `mapping_reader` makes it from a document, `mapping` follows it."""

from dataclasses import dataclass, field
from typing import Any

from keycloak_bridge.core.expressions import Expression
from keycloak_bridge.core.model import InvitationTerms, LinkPolicy

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


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How one field or attribute of the user gets its value.

    `target` is `email` or `attributes.tenantId`. Without `expression` the value is always `default`.
    """

    target: str
    expression: Expression | None
    default: Any = None
    create_only: bool = False
    required: bool = False

    @property
    def pointer(self) -> str:
        """The target as a JSON pointer into the mapping."""
        name = self.attribute
        if name is None:
            return f"/user/{self.target}"
        return "/user/attributes/" + name.replace("~", "~0").replace("/", "~1")

    @property
    def attribute(self) -> str | None:
        """The attribute's name, or None for a field."""
        if not self.target.startswith(ATTRIBUTE_PREFIX):
            return None
        return self.target.removeprefix(ATTRIBUTE_PREFIX)


@dataclass(frozen=True, slots=True)
class MembershipRule:
    """How the user gets groups or realm roles; `allow` is None where everything is allowed.

    `ignore_others` drops what is not allowed instead of refusing the event.
    """

    kind: str
    expression: Expression
    default: tuple[str, ...] = ()
    allow: frozenset[str] | None = None
    ignore_others: bool = False

    @property
    def pointer(self) -> str:
        """The rule as a JSON pointer into the mapping."""
        return f"/user/{self.kind}"


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
    groups: MembershipRule | None = None
    realm_roles: MembershipRule | None = None
    invite: InviteOverrides = field(default_factory=InviteOverrides)

    @property
    def external_id(self) -> str:
        """The name of the attribute that holds the user's id in user management."""
        return self.matching[0].removeprefix(ATTRIBUTE_PREFIX)
