"""Compare a realm with what it needs: the steps that make up the difference, and what its owner has to do.

Nothing here asks Keycloak. A plan of a realm to which its steps were applied has no steps.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from keycloak_bridge.domain.users import can_be_created
from keycloak_bridge.keycloak.calls import ALTERNATIVES
from keycloak_bridge.keycloak.user_profile import DEFAULT_RULES, PROFILE_FIELDS, length_limits
from keycloak_bridge.realm.needs import (
    BY_SECRET,
    DEFAULT_LOCALE,
    LENGTH,
    MANAGEMENT,
    NeededAttribute,
    NeededEvents,
    RealmNeeds,
    surplus_roles,
)

Json = dict[str, Any]

_ON: Mapping[str, Any] = {
    "enabled": True,
    "publicClient": False,
    "bearerOnly": False,
    "serviceAccountsEnabled": True,
}
_ONLY_A_SERVICE_ACCOUNT: Mapping[str, Any] = {
    "standardFlowEnabled": False,
    "implicitFlowEnabled": False,
    "directAccessGrantsEnabled": False,
    "fullScopeAllowed": False,
}
_NEW_CLIENT: Mapping[str, Any] = {
    "name": "Keycloak bridge",
    "description": "Service account of the sidecar that creates users from events",
    "protocol": "openid-connect",
    **_ON,
    **_ONLY_A_SERVICE_ACCOUNT,
}
_CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "client-jwt": ("jwks.string", "jwks.url", "jwt.credential.certificate"),
    "federated-jwt": ("jwt.credential.issuer",),
    "client-x509": ("x509.subjectdn",),
}
"""Attributes of a client of which one says whom an authenticator believes."""

_FOR_ANYBODY = ["admin", "user"]
ADMIN_EVENTS_EXPIRATION = "adminEventsExpiration"
"""The realm's attribute that says how long admin events are kept."""


@dataclass(frozen=True, slots=True)
class RealmState:
    """What a realm has, in Keycloak's own representations; of names only those that were asked for.

    `client` is None where it is missing, and `secret` where it is not known. `account_roles` and `scope_roles` are those
    of MANAGEMENT that take effect, composites resolved, and `mapped_roles` those that are mapped to the account directly.
    `event_types` is empty where all are recorded. `client_roles` has None for a missing client.
    """

    realm: Json
    profile: Json
    management_roles: frozenset[str]
    client: Json | None = None
    secret: str | None = field(default=None, repr=False)
    account_roles: frozenset[str] = frozenset()
    mapped_roles: frozenset[str] = frozenset()
    scope_roles: frozenset[str] = frozenset()
    scoped_roles: frozenset[str] = frozenset()
    event_types: frozenset[str] = frozenset()
    actions: Mapping[str, bool] = field(default_factory=dict)
    unregistered_actions: Mapping[str, str] = field(default_factory=dict)
    realm_roles: frozenset[str] = frozenset()
    client_roles: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()
    identity_providers: frozenset[str] = frozenset()
    invite_clients: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CreateClient:
    """Create the client; its secret is added where it is written."""

    representation: Json


@dataclass(frozen=True, slots=True)
class UpdateClient:
    """Change these keys of the client."""

    keys: Json


@dataclass(frozen=True, slots=True)
class MapRoles:
    """Map roles of MANAGEMENT to the service account, or to the scope of its client; or take them away."""

    roles: tuple[str, ...]
    to_scope: bool = False
    takes_away: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceProfile:
    """Replace the user profile."""

    profile: Json


@dataclass(frozen=True, slots=True)
class UpdateRealm:
    """Change these keys of the realm, and these of its `attributes`."""

    keys: Json
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateEvents:
    """Change these keys of the configuration of events."""

    keys: Json


@dataclass(frozen=True, slots=True)
class EnableAction:
    """Switch a required action on; `registers` is its name where the realm does not have it yet."""

    alias: str
    registers: str | None = None


@dataclass(frozen=True, slots=True)
class CreateRoles:
    """Create roles of the realm, or of a client."""

    names: tuple[str, ...]
    client: str | None = None


@dataclass(frozen=True, slots=True)
class CreateGroups:
    """Create groups, parents before their children."""

    paths: tuple[str, ...]


Write = (
    CreateClient
    | UpdateClient
    | MapRoles
    | ReplaceProfile
    | UpdateRealm
    | UpdateEvents
    | EnableAction
    | CreateRoles
    | CreateGroups
)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: a setting by Keycloak's name; `now` is None for what is missing."""

    setting: str
    now: Any
    then: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What is written at once; `page` is its place in the Admin console."""

    page: str
    write: Write
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What only the realm's owner can decide or do."""

    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class RealmPlan:
    """The whole difference; `profile` is the user profile as it will be."""

    steps: tuple[Step, ...]
    notes: tuple[Note, ...]
    profile: Json

    def with_notes(self, notes: Iterable[Note]) -> "RealmPlan":
        """Return the same plan with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def plan_realm(
    needs: RealmNeeds, state: RealmState, *, exact: bool = False, secret: str | None = None
) -> RealmPlan:
    """Return what makes `state` meet the needs, and nothing else.

    With `exact`, what the client has beyond its needs is taken away; otherwise there is a note about it. `secret` is that
    of the settings.
    """
    profile, changes = _profile(needs.attributes, state.profile)
    replaced = Step("Realm settings > User profile", ReplaceProfile(profile), changes)
    steps = [
        *_client(needs, state, exact=exact),
        *_roles(needs, state, exact=exact),
        *([replaced] if changes else []),
        *_localization(needs, state.realm),
        *_events(needs, state),
        *_actions(needs, state),
        *_names(needs, state),
    ]
    return RealmPlan(tuple(steps), tuple(_notes(needs, state, exact=exact, secret=secret)), profile)


def new_client(needs: RealmNeeds) -> Json:
    """Return the client without its secret, as it is created."""
    way = {"clientAuthenticatorType": needs.authenticator or BY_SECRET}
    return {"clientId": needs.client_id, **_NEW_CLIENT, **way}


def _client(needs: RealmNeeds, state: RealmState, *, exact: bool) -> Iterator[Step]:
    page = f"Clients > {needs.client_id}"
    if state.client is None:
        new = new_client(needs)
        yield Step(page, CreateClient(new), tuple(Change(k, None, v) for k, v in new.items()))
        return
    wanted = {**_ON, **_ONLY_A_SERVICE_ACCOUNT} if exact else _ON
    keys = _differing(state.client, wanted)
    if needs.authenticator is not None and needs.authenticator != _authenticator_of(state.client):
        keys["clientAuthenticatorType"] = needs.authenticator
    if keys:
        yield Step(page, UpdateClient(keys), _changes(state.client, keys))


def _authenticator_of(client: Json) -> str:
    return str(client.get("clientAuthenticatorType") or BY_SECRET)


def _roles(needs: RealmNeeds, state: RealmState, *, exact: bool) -> Iterator[Step]:
    known = [role for role in needs.roles if role in state.management_roles]
    account_page = f"Clients > {needs.client_id} > Service accounts roles"
    scope_page = (
        f"Clients > {needs.client_id} > Client scopes > {needs.client_id}-dedicated > Scope"
    )
    scoped = _has_full_scope(state) and not exact
    for page, to_scope, held, mapped in (
        (account_page, False, state.account_roles, state.mapped_roles),
        (scope_page, True, state.scope_roles, state.scoped_roles),
    ):
        # what another role implies, or stands for, goes with it where that one is taken away
        has = mapped.__contains__ if exact else partial(_holds, held)
        missing = tuple(one for one in known if not has(one))
        surplus = tuple(sorted(mapped - set(known))) if exact else ()
        if missing and not (to_scope and scoped):
            change = Change(MANAGEMENT, None, missing)
            yield Step(page, MapRoles(missing, to_scope=to_scope), (change,))
        if surplus:
            change = Change(MANAGEMENT, surplus, None)
            yield Step(page, MapRoles(surplus, to_scope=to_scope, takes_away=True), (change,))


def _has_full_scope(state: RealmState) -> bool:
    return state.client is not None and bool(state.client.get("fullScopeAllowed"))


def _holds(held: Collection[str], role: str) -> bool:
    return role in held or any(one in held for one in ALTERNATIVES.get(role, ()))


def _profile(needed: Sequence[NeededAttribute], profile: Json) -> tuple[Json, tuple[Change, ...]]:
    """Return the profile with what is needed, and the changes."""
    attributes: list[Json] = [dict(one) for one in profile.get("attributes") or ()]
    places = {one["name"]: index for index, one in enumerate(attributes)}
    policy = profile.get("unmanagedAttributePolicy")
    changes: list[Change] = []
    for one in needed:
        if one.name in places:
            place = places[one.name]
            attributes[place], found = _adjusted(attributes[place], one)
        elif one.name in ("username", "email") or _kept_unmanaged(policy, one):
            continue
        else:
            new = _new_attribute(one)
            attributes.append(new)
            found = [Change(one.name, None, _described(new))]
        changes += found
    return {**profile, "attributes": attributes}, tuple(changes)


def _kept_unmanaged(policy: object, needed: NeededAttribute) -> bool:
    """Say whether the realm keeps an attribute that the profile does not name, and keeps it from users where it must."""
    if needed.name in PROFILE_FIELDS:
        return False
    return policy == "ADMIN_EDIT" or (policy == "ENABLED" and not needed.guarded)


def _new_attribute(needed: NeededAttribute) -> Json:
    is_field = needed.name in PROFILE_FIELDS
    return {
        "name": needed.name,
        "displayName": f"${{{needed.name}}}" if is_field else needed.name,
        "permissions": {
            "view": ["admin"] if needed.hidden else _FOR_ANYBODY,
            "edit": ["admin"],
        },
        "multivalued": needed.multivalued,
        "validations": dict(DEFAULT_RULES[needed.name])
        if is_field
        else {"length": {"max": max(LENGTH, needed.max_length or 0)}},
    }


def _described(attribute: Json) -> str:
    rights = attribute["permissions"]
    several = ", multivalued" if attribute["multivalued"] else ""
    limits = attribute["validations"]["length"]
    return (
        f"edit: {', '.join(rights['edit'])}; view: {', '.join(rights['view'])}; "
        f"length: {limits['max']}{several}"
    )


def _adjusted(attribute: Json, needed: NeededAttribute) -> tuple[Json, list[Change]]:
    """Return the attribute with the least changes that it needs."""
    changes: list[Change] = []
    result = dict(attribute)
    rights = dict(attribute.get("permissions") or {})
    for right, forbidden in (("edit", needed.guarded), ("view", needed.hidden)):
        now = list(rights.get(right) or ())
        then = [one for one in now if not (forbidden and one == "user")]
        then = then if "admin" in then else ["admin", *then]
        if then != now:
            changes.append(Change(f"{needed.name} permissions.{right}", now, then))
            rights[right] = then
            result["permissions"] = rights
    validations = dict(attribute.get("validations") or {})
    if "length" in validations:
        _, most = length_limits(validations["length"])
        if most is not None and most < (needed.max_length or 0):
            changes.append(Change(f"{needed.name} length.max", most, needed.max_length))
            validations["length"] = {**validations["length"], "max": needed.max_length}
            result["validations"] = validations
    if needed.multivalued and not attribute.get("multivalued"):
        changes.append(Change(f"{needed.name} multivalued", False, True))
        result["multivalued"] = True
    return result, changes


def _localization(needs: RealmNeeds, realm: Mapping[str, Any]) -> Iterator[Step]:
    if needs.locales is None or realm.get("internationalizationEnabled"):
        return
    keys: Json = {"internationalizationEnabled": True}
    supported = list(realm.get("supportedLocales") or ())
    if not supported:
        supported = keys["supportedLocales"] = sorted(needs.locales)
    if not realm.get("defaultLocale"):
        keys["defaultLocale"] = DEFAULT_LOCALE if DEFAULT_LOCALE in supported else supported[0]
    yield Step("Realm settings > Localization", UpdateRealm(keys), _changes(realm, keys))


def _events(needs: RealmNeeds, state: RealmState) -> Iterator[Step]:
    events, realm = needs.events, state.realm
    if events is None:
        return
    keys: Json = _user_events(events, state) if events.types else {}
    if not realm.get("adminEventsEnabled"):
        keys["adminEventsEnabled"] = True
    now = {**realm, "enabledEventTypes": sorted(state.event_types)}
    if keys:
        yield Step("Realm settings > Events", UpdateEvents(keys), _changes(now, keys))
    stored = realm.get("attributes") or {}
    kept_s = _expiration(
        _number(stored.get(ADMIN_EVENTS_EXPIRATION)),
        events.admin_at_least_s,
        events.admin_kept_s,
        recorded="adminEventsEnabled" not in keys,
    )
    if kept_s is not None:
        attributes = {ADMIN_EVENTS_EXPIRATION: str(kept_s)}
        yield Step(
            "Realm settings > Events > Admin events settings",
            UpdateRealm({}, attributes),
            _changes(stored, attributes),
        )


def _user_events(events: NeededEvents, state: RealmState) -> Json:
    """Return what changes of the configuration of user events."""
    realm = state.realm
    keys: Json = {} if realm.get("eventsEnabled") else {"eventsEnabled": True}
    kept_s = _expiration(
        realm.get("eventsExpiration"), events.at_least_s, events.kept_s, recorded=not keys
    )
    if kept_s is not None:
        keys["eventsExpiration"] = kept_s
    missing = set(events.types) - state.event_types if state.event_types else ()
    if missing:
        keys["enabledEventTypes"] = sorted({*state.event_types, *missing})
    return keys


def _expiration(now_s: int | None, least_s: int, usual_s: int, *, recorded: bool) -> int | None:
    """Return for how long events are to be kept, None where it need not change; without a limit they are kept forever."""
    if not now_s:
        return None if recorded else usual_s
    return usual_s if now_s < least_s else None


def _actions(needs: RealmNeeds, state: RealmState) -> Iterator[Step]:
    for alias in needs.required_actions:
        if state.actions.get(alias) or not {alias} & {*state.actions, *state.unregistered_actions}:
            continue
        change = Change(f"{alias} enabled", False if alias in state.actions else None, True)
        write = EnableAction(alias, state.unregistered_actions.get(alias))
        yield Step("Authentication > Required actions", write, (change,))


def _names(needs: RealmNeeds, state: RealmState) -> Iterator[Step]:
    """Yield what creates the roles and groups that the mapping names."""
    if roles := _absent(needs.realm_roles, state.realm_roles):
        yield Step("Realm roles", CreateRoles(roles), _created(roles))
    for client, names in needs.client_roles.items():
        found = state.client_roles.get(client)
        if found is not None and (roles := _absent(names, found)):
            yield Step(f"Clients > {client} > Roles", CreateRoles(roles, client), _created(roles))
    groups = [path for path in needs.groups if can_be_created(path)]
    if paths := _absent(with_parents(groups), state.groups):
        yield Step("Groups", CreateGroups(paths), _created(paths))
    if needs.uses_organizations and not state.realm.get("organizationsEnabled"):
        keys = {"organizationsEnabled": True}
        yield Step("Realm settings > General", UpdateRealm(keys), _changes(state.realm, keys))


def with_parents(paths: Sequence[str]) -> list[str]:
    """Return all paths, each after those above it."""
    found: dict[str, None] = {}
    for path in paths:
        steps = path.strip("/").split("/")
        found |= dict.fromkeys("/" + "/".join(steps[:depth]) for depth in range(1, len(steps) + 1))
    return list(found)


def _notes(
    needs: RealmNeeds, state: RealmState, *, exact: bool, secret: str | None
) -> Iterator[Note]:
    client = needs.client_id
    for role in _absent(needs.roles, state.management_roles):
        others = [one for one in ALTERNATIVES.get(role, ()) if one in state.management_roles]
        if not {*others} & {*needs.roles} and not {*others} & state.account_roles:
            instead = f", or allow more by the role {' or '.join(others)}" if others else ""
            yield Note(
                f"this Keycloak has no role {role} of {MANAGEMENT}",
                f"take out of the mapping what needs it, or update Keycloak{instead}",
            )
    surplus = surplus_roles(state.mapped_roles, frozenset(needs.roles))
    if surplus and not exact:
        yield Note(
            f"the service account also has the roles {', '.join(surplus)} of {MANAGEMENT}, which allow more than it needs",
            "run it with --exact, unless something else uses this client",
        )
    if _has_full_scope(state) and not exact:
        yield Note(
            f"the client {client} has 'Full scope allowed' on: a role that is given to it by accident takes effect",
            "switch it off, or run it with --exact, unless something else uses this client",
        )
    yield from _credential_notes(needs, state, secret)
    if needs.events is not None:
        server = state.realm.get("smtpServer") or {}
        if not server.get("host") or not server.get("from"):
            yield Note(
                "the realm has no mail server, or no sender address: no invitation can be sent",
                "set both under Realm settings > Email, with its time-outs (docs/your-own-realm.md)",
            )
    for alias in needs.required_actions:
        if alias not in state.actions and alias not in state.unregistered_actions:
            yield Note(
                f"this Keycloak has no required action {alias}",
                "correct [invite] actions in the settings or the mapping",
            )
    for path in _absent(needs.groups, state.groups):
        if not can_be_created(path):
            yield Note(
                f"the realm has no group {path}, and a group with such a path cannot be created here",
                "create it in the Admin console, or take it out of the mapping",
            )
    yield from _missing_things(needs, state)


def _credential_notes(needs: RealmNeeds, state: RealmState, secret: str | None) -> Iterator[Note]:
    """Yield what the owner has to do so that the client can authenticate."""
    page = f"Clients > {needs.client_id} > Credentials"
    told = _CREDENTIALS.get(needs.authenticator or BY_SECRET)
    if told is not None:
        attributes = {} if state.client is None else state.client.get("attributes") or {}
        if not any(attributes.get(name) for name in told):
            yield Note(
                f"the client {needs.client_id} does not know yet whom to believe ({needs.authenticator})",
                f"set under {page} one of {', '.join(told)}: the public key, the issuer, or the subject of the certificate",
            )
    elif state.client is None and secret is None:
        yield Note(
            "the settings have no secret for the client (keycloak.client_secret): Keycloak makes one",
            f"write that of {page} into a file, and name it as keycloak.client_secret_file",
        )
    elif None not in (secret, state.secret) and secret != state.secret:
        yield Note(
            f"the client {needs.client_id} has another secret than the settings (keycloak.client_secret)",
            f"take it from {page}, or write the one of the settings there",
        )


def _missing_things(needs: RealmNeeds, state: RealmState) -> Iterator[Note]:
    """Yield what the mapping names and only the realm's owner can create."""
    clients = [one for one in needs.client_roles if state.client_roles.get(one) is None]
    clients += _absent(needs.invite_clients, state.invite_clients)
    for what, names in (
        ("client", dict.fromkeys(clients)),
        ("organization", _absent(needs.organizations, state.organizations)),
        ("identity provider", _absent(needs.identity_providers, state.identity_providers)),
    ):
        for name in names:
            yield Note(
                f"the realm has no {what} {name}, which the settings or the mapping name",
                f"create the {what}, or take it out of them",
            )


def _absent(names: Sequence[str], found: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in found)


def _created(names: Sequence[str]) -> tuple[Change, ...]:
    return tuple(Change(name, None, "created") for name in names)


def _differing(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    """Return what of `wanted` is different; what Keycloak leaves out is off."""
    return {name: value for name, value in wanted.items() if now.get(name, False) != value}


def _changes(now: Mapping[str, Any], keys: Mapping[str, Any]) -> tuple[Change, ...]:
    return tuple(Change(name, now.get(name), value) for name, value in keys.items())


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None
