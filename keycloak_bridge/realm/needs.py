"""What a realm needs for the bridge, as data: made of settings and mapping alone, and known in this place only.

The checks at start, the doctor, `realm plan` and `realm export` all take it from here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, INVITATION_ATTRIBUTE
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    client_of,
    client_roles,
)
from keycloak_bridge.keycloak.activations import CREDENTIAL_EVENTS
from keycloak_bridge.keycloak.calls import (
    ADMIN_ROLE,
    CLIENTS_ROLE,
    EVENTS_ROLE,
    IMPORT_ROLE,
    ORGANIZATIONS_ROLE,
    REALM_ROLE,
    USERS_ROLE,
    VIEW_ROLE,
)
from keycloak_bridge.keycloak.user_profile import LOCALE, PROFILE_FIELDS
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.mapping.profile_findings import MappedTarget
from keycloak_bridge.settings.model import Settings

MANAGEMENT = "realm-management"
"""The client whose roles allow to administer the realm."""

BY_SECRET = "client-secret"  # noqa: S105  (the name of a way)
"""The authenticator of clients with a secret."""

_AUTHENTICATORS: Mapping[str | None, str | None] = {
    None: None,
    "client_secret": BY_SECRET,
    "private_key_jwt": "client-jwt",
    "client_assertion": "federated-jwt",
    "tls_client_auth": "client-x509",
}
"""Keycloak's authenticator for each way of `KeycloakSettings.authentication`."""

OPTIONAL_ROLES: Mapping[str, str] = {
    USERS_ROLE: "write users without fine-grained permissions",
    EVENTS_ROLE: "look up whether a mail was sent, and whether its link was used",
    REALM_ROLE: "see the realm's mail server and user federation",
    IMPORT_ROLE: "write a backlog of new users in batches",
}
"""What can be left out or added, and what it is for."""

MAPPING_ROLES = (CLIENTS_ROLE, ORGANIZATIONS_ROLE)
"""What some mappings need."""

_ALLOW_NOTHING_MORE = frozenset({VIEW_ROLE, "query-users", "query-groups", "query-clients"})
"""Roles that others of the bridge's include, or that come with them."""

REALM_PLAN = "`keycloak-bridge realm plan` shows everything that the realm lacks"
EXACT = "`keycloak-bridge realm apply --exact`"

FIXED_BY_PLAN = frozenset(
    {
        "role-missing",
        "internationalization-off",
        "mail-ledger-missing",
        "attribute-unknown",
        "attribute-no-edit",
        "attribute-no-view",
        "attribute-user-editable",
        "attribute-user-visible",
        "attribute-multivalued",
    }
)
"""Codes of the problems that are gone once what `realm plan` shows was written."""

LOCALES = (
    *("ar", "cs", "de", "el", "en", "es", "fi", "fr", "hu", "it", "ja", "ko", "nl", "pl", "pt"),
    *("ru", "sv", "th", "tr", "uk", "vi", "zh-CN"),
)
"""Languages for a realm that has none: those of the sample events that Keycloak has texts for."""

DEFAULT_LOCALE = "en"

LENGTH = 255
"""Characters of a new attribute, unless the schemas allow more."""

_INVITATION_LENGTH = 2048

_DAY_S = 86_400
_EVENTS_KEPT_S, _ADMIN_EVENTS_KEPT_S = 30 * _DAY_S, 90 * _DAY_S
"""How long events are kept in a realm that recorded none, unless the settings ask for more."""


@dataclass(frozen=True, slots=True)
class NeededAttribute:
    """One attribute or field of the user profile; administrators view and edit each.

    `max_length` is the greatest length that is known to come. Users must not edit a `guarded` attribute, and not even see a `hidden` one.
    """

    name: str
    max_length: int | None = None
    multivalued: bool = False
    guarded: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class NeededEvents:
    """What the realm has to record, and for how many seconds at least.

    `types` are those of user events, none where admin events are enough. `kept_s` and `admin_kept_s` are for a realm that
    records none so far.
    """

    types: tuple[str, ...]
    at_least_s: int
    kept_s: int
    admin_at_least_s: int
    admin_kept_s: int


@dataclass(frozen=True, slots=True)
class RealmNeeds:
    """Everything that a realm needs; `roles` are those of MANAGEMENT that the service account has, and no other.

    `authenticator` is how the client authenticates, by Keycloak's name, None where the settings do not say. `locales` is
    None where the mapping writes no language. `events` is None where the bridge sends no mails. `groups` are
    paths with a leading slash. `organizations`, `identity_providers` and `invite_clients`, which links lead back to, are
    their owners' to create.
    """

    realm: str
    client_id: str
    roles: tuple[str, ...]
    attributes: tuple[NeededAttribute, ...]
    authenticator: str | None = None
    locales: tuple[str, ...] | None = None
    events: NeededEvents | None = None
    required_actions: tuple[str, ...] = ()
    realm_roles: tuple[str, ...] = ()
    client_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    uses_organizations: bool = False
    organizations: tuple[str, ...] = ()
    identity_providers: tuple[str, ...] = ()
    invite_clients: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        """The username that Keycloak gives the service account."""
        return f"service-account-{self.client_id.lower()}"


def realm_needs(
    settings: Settings,
    mappings: Mappings,
    targets: Sequence[MappedTarget],
    *,
    added: Iterable[str] = (),
    left_out: Iterable[str] = (),
    locales: Sequence[str] = (),
) -> RealmNeeds:
    """Return what a realm needs; `targets` are those of the mappings with what the schemas say.

    `added` and `left_out` are roles of OPTIONAL_ROLES, `locales` the languages in the place of LOCALES.
    """
    rules = [rule for one in mappings.all for rule in one.rules.memberships]
    named: dict[str, set[str]] = {rule.kind: set() for rule in rules}
    for rule in rules:
        if not rule.create_missing:
            named[rule.kind].update(rule.allow or (), rule.default)
    writes_locale = LOCALE in mappings.attribute_names
    invites = settings.invite.mode != "none"
    return RealmNeeds(
        realm=settings.keycloak.realm or "",
        client_id=settings.keycloak.client_id,
        roles=_roles(mappings, {*_usual_roles(invites=invites), *added} - {*left_out}),
        attributes=_attributes(mappings, targets),
        authenticator=_AUTHENTICATORS[settings.keycloak.authentication],
        locales=tuple(locales) or LOCALES if writes_locale else None,
        events=_events(settings, mappings) if invites else None,
        required_actions=_required_actions(settings, mappings) if invites else (),
        realm_roles=tuple(sorted(named.get(REALM_ROLES, ()))),
        client_roles={
            client: tuple(sorted(names))
            for kind, names in sorted(named.items())
            if (client := client_of(kind)) is not None
        },
        groups=tuple(sorted(named.get(GROUPS, ()))),
        uses_organizations=ORGANIZATIONS in named,
        organizations=tuple(sorted(named.get(ORGANIZATIONS, ()))),
        identity_providers=tuple(
            sorted({rule.alias for one in mappings.all for rule in one.rules.identities})
        ),
        invite_clients=_invite_clients(settings, mappings) if invites else (),
    )


def used_roles(settings: Settings, mappings: Mappings) -> frozenset[str]:
    """Return the roles that the bridge makes use of with these settings and mappings, each where it has it."""
    invites, batches = settings.invite.mode != "none", settings.burst.mode != "off"
    chosen = {*_usual_roles(invites=invites), *([IMPORT_ROLE] if batches else ())}
    return frozenset(_roles(mappings, chosen))


def surplus_roles(held: frozenset[str], used: frozenset[str]) -> tuple[str, ...]:
    """Return the roles with which an account may do more than `used` allow; `realm-admin` holds all others."""
    surplus = held - used - _ALLOW_NOTHING_MORE
    if ORGANIZATIONS_ROLE in used - held:
        surplus -= {IMPORT_ROLE}  # an older Keycloak has no smaller role
    return (ADMIN_ROLE,) if ADMIN_ROLE in surplus else tuple(sorted(surplus))


def written_attributes(mappings: Mappings) -> tuple[str, ...]:
    """Return the attributes that the bridge writes: those of the mapping, and its own."""
    return (*mappings.attribute_names, *BOOKKEEPING_ATTRIBUTES)


def guarded_attributes(mappings: Mappings) -> tuple[str, ...]:
    """Return the attributes that no user may edit: those by which a user is found, and the bridge's own."""
    return (*mappings.matching_attributes, *BOOKKEEPING_ATTRIBUTES)


def watched_events(settings: Settings) -> tuple[str, ...]:
    """Return the types of user events that tell whether an invited user set a password; none where nobody asks."""
    invites = settings.invite.mode != "none"
    return CREDENTIAL_EVENTS if invites and settings.activation.enabled else ()


def _usual_roles(*, invites: bool) -> tuple[str, ...]:
    return (USERS_ROLE, EVENTS_ROLE, REALM_ROLE) if invites else (USERS_ROLE, REALM_ROLE)


def _roles(mappings: Mappings, chosen: set[str]) -> tuple[str, ...]:
    """Return the roles; an account that writes by permissions needs one with which it sees all users."""
    view = () if USERS_ROLE in chosen else (VIEW_ROLE,)
    kinds = {rule.kind for one in mappings.all for rule in one.rules.memberships}
    needed = {
        CLIENTS_ROLE: any(kind.startswith(client_roles("")) for kind in kinds),
        ORGANIZATIONS_ROLE: ORGANIZATIONS in kinds,
    }
    return (
        *view,
        *(role for role in OPTIONAL_ROLES if role in chosen),
        *(role for role in MAPPING_ROLES if needed[role]),
    )


def _attributes(mappings: Mappings, targets: Sequence[MappedTarget]) -> tuple[NeededAttribute, ...]:
    guarded = guarded_attributes(mappings)
    facts: dict[str, list[MappedTarget]] = {}
    for target in targets:
        facts.setdefault(target.target, []).append(target)
    fields = [name for name in PROFILE_FIELDS if name in facts]
    names = [name for name in mappings.attribute_names if name != LOCALE]
    mapped = [
        NeededAttribute(
            name,
            max_length=max((one.longest or 0 for one in facts.get(target, ())), default=0) or None,
            multivalued=any(one.may_have_several for one in facts.get(target, ())),
            guarded=name in guarded,
        )
        for name, target in (
            *((name, name) for name in fields),
            *((name, ATTRIBUTE_PREFIX + name) for name in names),
        )
    ]
    own = [
        NeededAttribute(
            name,
            _INVITATION_LENGTH if name == INVITATION_ATTRIBUTE else LENGTH,
            guarded=True,
            hidden=True,
        )
        for name in BOOKKEEPING_ATTRIBUTES
    ]
    return (*mapped, *own)


def _events(settings: Settings, mappings: Mappings) -> NeededEvents:
    """Return how long events must be kept: until no invitation can be replayed any more."""
    replayed_s = max(settings.topics.retention, settings.topics.dead_letter_retention)
    overridden = (one.rules.invite.get("lifespan_s", 0) for one in mappings.all)
    lifespan_s = max(settings.invite.lifespan, *overridden)
    at_least_s, admin_s = int(lifespan_s + _DAY_S), int(replayed_s + lifespan_s)
    return NeededEvents(
        watched_events(settings),
        at_least_s,
        max(at_least_s, _EVENTS_KEPT_S),
        admin_s,
        max(admin_s, _ADMIN_EVENTS_KEPT_S),
    )


def _required_actions(settings: Settings, mappings: Mappings) -> tuple[str, ...]:
    names = [*settings.invite.actions]
    for one in mappings.all:
        names += one.rules.invite.get("actions", ())
        for rule in one.rules.targets:
            if rule.target == "requiredActions":
                names += rule.default or ()
    if settings.lifecycle.email_change == "verify":
        names.append("VERIFY_EMAIL")
    return tuple(dict.fromkeys(names))


def _invite_clients(settings: Settings, mappings: Mappings) -> tuple[str, ...]:
    named = (one.rules.invite.get("client_id", settings.invite.client_id) for one in mappings.all)
    return tuple(sorted({name for name in named if name}))
