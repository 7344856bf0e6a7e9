"""Write what a realm needs for people whose realms live in a repository: for an import, keycloak-config-cli, Terraform, kcadm.sh.

The first three describe everything that is needed, the last one has the commands for what is missing. No secret is in them:
each names the environment variable, or the variable of Terraform, that holds the client's.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from keycloak_bridge.keycloak.user_profile import DEFAULT_RULES
from keycloak_bridge.realm.needs import BY_SECRET, MANAGEMENT, RealmNeeds
from keycloak_bridge.realm.plan import (
    ADMIN_EVENTS_EXPIRATION,
    CreateClient,
    CreateGroups,
    CreateRoles,
    EnableAction,
    Json,
    MapRoles,
    RealmPlan,
    RealmState,
    ReplaceProfile,
    UpdateClient,
    UpdateEvents,
    UpdateRealm,
    Write,
    new_client,
    plan_realm,
    with_parents,
)

SECRET_VARIABLE = "KEYCLOAK_BRIDGE_CLIENT_SECRET"  # noqa: S105  (the name of a variable)
REALM_JSON, CONFIG_CLI, TERRAFORM, KCADM = "realm-json", "config-cli", "terraform", "kcadm"
FORMATS = (REALM_JSON, CONFIG_CLI, TERRAFORM, KCADM)

_UNSET = f"{SECRET_VARIABLE} is not set so this realm is not imported - " * 4
"""Longer than a secret can be: Keycloak refuses to import it, where it would take a placeholder literally."""

_LOCALIZATION = ("internationalizationEnabled", "supportedLocales", "defaultLocale")
_EVENTS = ("eventsEnabled", "eventsExpiration", "adminEventsEnabled", "adminEventsDetailsEnabled")
_DEFAULT_ACTIONS = {
    "CONFIGURE_TOTP": True,
    "TERMS_AND_CONDITIONS": False,
    "UPDATE_PASSWORD": True,
    "UPDATE_PROFILE": True,
    "VERIFY_EMAIL": True,
    "VERIFY_PROFILE": True,
    "delete_account": False,
    "delete_credential": True,
    "update_user_locale": True,
    "webauthn-register": True,
    "webauthn-register-passwordless": True,
}
_FOR_ANYBODY = {"view": ["admin", "user"], "edit": ["admin", "user"]}


def keycloak_defaults(needs: RealmNeeds) -> RealmState:
    """Return a realm as Keycloak creates it, with all clients and actions that are needed."""
    attributes = [
        {
            "name": name,
            "displayName": f"${{{name}}}",
            "validations": rules,
            **({} if name == "username" else {"required": {"roles": ["user"]}}),
            "permissions": _FOR_ANYBODY,
            "multivalued": False,
        }
        for name, rules in DEFAULT_RULES.items()
    ]
    group = {
        "name": "user-metadata",
        "displayHeader": "User metadata",
        "displayDescription": "Attributes, which refer to user metadata",
    }
    return RealmState(
        realm={
            "internationalizationEnabled": False,
            "eventsEnabled": False,
            "eventsListeners": ["jboss-logging"],
            "adminEventsEnabled": False,
            "adminEventsDetailsEnabled": False,
        },
        profile={"attributes": attributes, "groups": [group]},
        management_roles=frozenset(needs.roles),
        actions=_DEFAULT_ACTIONS,
        unregistered_actions={
            alias: alias for alias in needs.required_actions if alias not in _DEFAULT_ACTIONS
        },
        client_roles={client: frozenset() for client in needs.client_roles},
    )


def exported(needs: RealmNeeds, state: RealmState, output: str) -> str:
    """Return the text in one of FORMATS, for a realm that is as `state` says."""
    plan = plan_realm(needs, state)
    if output == KCADM:
        return _kcadm(needs, plan)
    if output == TERRAFORM:
        return _terraform(needs, state, plan)
    return (
        json.dumps(_representation(needs, state, plan, output), indent=2, ensure_ascii=False) + "\n"
    )


def _settings(needs: RealmNeeds, state: RealmState, plan: RealmPlan) -> tuple[Json, Json]:
    """Return the realm's own keys and attributes as they have to be, present or not yet."""
    keys, attributes = dict(state.realm), dict(state.realm.get("attributes") or {})
    if state.event_types:
        keys["enabledEventTypes"] = sorted(state.event_types)
    for step in plan.steps:
        match step.write:
            case UpdateRealm(changed, more):
                keys |= changed
                attributes |= more
            case UpdateEvents(changed):
                keys |= changed
    names = [
        *(_LOCALIZATION if needs.locales is not None else ()),
        *(_EVENTS if needs.events is not None else ()),
        *(["enabledEventTypes"] if "enabledEventTypes" in _changed_keys(plan) else ()),
        *(["organizationsEnabled"] if needs.uses_organizations else ()),
    ]
    kept = attributes.get(ADMIN_EVENTS_EXPIRATION)
    of_realm = {ADMIN_EVENTS_EXPIRATION: kept} if needs.events is not None and kept else {}
    return {name: keys[name] for name in names if name in keys}, of_realm


def _changed_keys(plan: RealmPlan) -> set[str]:
    return {
        key
        for step in plan.steps
        if isinstance(step.write, UpdateEvents)
        for key in step.write.keys
    }


def _representation(needs: RealmNeeds, state: RealmState, plan: RealmPlan, output: str) -> Json:
    """Return a RealmRepresentation; keycloak-config-cli takes the user profile by itself."""
    keys, attributes = _settings(needs, state, plan)
    of_cli = output == CONFIG_CLI
    secret = f"$(env:{SECRET_VARIABLE})" if of_cli else f"${{{SECRET_VARIABLE}:{_UNSET}}}"
    client, roles = new_client(needs), list(needs.roles)
    by_secret = client["clientAuthenticatorType"] == BY_SECRET
    profile: Json
    if of_cli:
        # without this attribute it skips the profile
        attributes["userProfileEnabled"] = "true"
        profile = {"userProfile": plan.profile}
    else:
        config = {"kc.user.profile.config": [json.dumps(plan.profile, ensure_ascii=False)]}
        provider = {"providerId": "declarative-user-profile", "config": config}
        profile = {"components": {"org.keycloak.userprofile.UserProfileProvider": [provider]}}
    found: Json = {
        "realm": needs.realm,
        "enabled": True,
        **keys,
        **({"attributes": attributes} if attributes else {}),
        "clients": [{**client, "secret": secret} if by_secret else client],
        "users": [
            {
                "username": needs.account,
                "enabled": True,
                "serviceAccountClientId": needs.client_id,
                "clientRoles": {MANAGEMENT: roles},
            }
        ],
        "clientScopeMappings": {MANAGEMENT: [{"client": needs.client_id, "roles": roles}]},
        **profile,
    }
    owned = {
        "realm": [{"name": name} for name in needs.realm_roles],
        "client": {
            client: [{"name": name} for name in names]
            for client, names in needs.client_roles.items()
        },
    }
    if roles_named := {kind: names for kind, names in owned.items() if names}:
        found["roles"] = roles_named
    if needs.groups:
        found["groups"] = _group_tree(needs.groups)
    if actions := _switched_on(plan):
        # both imports take the list for all that there are
        listed = {**state.actions, **dict.fromkeys(actions, True)}
        found["requiredActions"] = [
            {"alias": alias, "providerId": alias, "name": alias, "enabled": enabled}
            for alias, enabled in listed.items()
        ]
    return found


def _switched_on(plan: RealmPlan) -> list[str]:
    return [step.write.alias for step in plan.steps if isinstance(step.write, EnableAction)]


def _group_tree(paths: Sequence[str]) -> list[Json]:
    nodes: dict[str, Json] = {}
    roots = []
    for path in with_parents(paths):
        above, _, name = path.rpartition("/")
        nodes[path] = {"name": name}
        if above:
            nodes[above].setdefault("subGroups", []).append(nodes[path])
        else:
            roots.append(nodes[path])
    return roots


# kcadm.sh


def _kcadm(needs: RealmNeeds, plan: RealmPlan) -> str:
    """Return a shell script with a command for each step."""
    lines = [
        "#!/bin/sh",
        f"# What the realm {needs.realm} lacks for keycloak-bridge. Log in first:",
        "#   kcadm.sh config credentials --server http://localhost:8080 --realm master --user admin",
        "set -eu",
        f"R={shlex.quote(needs.realm)}",
    ]
    for step in plan.steps:
        lines += ["", f"# {' '.join(step.page.split())}", *_commands(needs, step.write)]
    return "\n".join(lines) + "\n"


def _commands(needs: RealmNeeds, write: Write) -> Iterator[str]:  # noqa: C901 # a case for each write
    client = shlex.quote(needs.client_id)
    match write:
        case CreateClient(representation):
            named = representation["clientAuthenticatorType"] == BY_SECRET
            secret = f'-s "secret=${{{SECRET_VARIABLE}:?}}" ' if named else ""
            yield f"kcadm.sh create clients -r \"$R\" {secret}-f - <<'JSON'"
            yield from _here(representation)
        case UpdateClient(keys):
            yield f'kcadm.sh update "clients/{_id_of(client)}" -r "$R" {_settings_of(keys)}'
        case MapRoles(roles, to_scope=False):
            named = " ".join(f"--rolename {role}" for role in roles)
            account = shlex.quote(needs.account)
            yield f'kcadm.sh add-roles -r "$R" --uusername {account} --cclientid {MANAGEMENT} {named}'
        case MapRoles(roles):
            yield f"BRIDGE={_id_of(client)}"
            yield f"MANAGEMENT={_id_of(MANAGEMENT)}"
            yield f"for role in {' '.join(roles)}; do"
            yield '  echo "[$(kcadm.sh get "clients/$MANAGEMENT/roles/$role" -r "$R")]" |'
            yield '    kcadm.sh create "clients/$BRIDGE/scope-mappings/clients/$MANAGEMENT" -r "$R" -f -'
            yield "done"
        case ReplaceProfile(profile):
            yield "# the whole profile, with all that the realm had when this was written"
            yield "kcadm.sh update users/profile -r \"$R\" -f - <<'JSON'"
            yield from _here(profile)
        case UpdateRealm(keys, attributes):
            dotted = {f"attributes.{name}": value for name, value in attributes.items()}
            yield f'kcadm.sh update "realms/$R" {_settings_of({**keys, **dotted})}'
        case UpdateEvents(keys):
            yield f'kcadm.sh update events/config -r "$R" {_settings_of(keys)}'
        case EnableAction(alias, registers):
            if registers is not None:
                named = _settings_of({"providerId": alias, "name": registers})
                yield f'kcadm.sh create authentication/register-required-action -r "$R" {named}'
            path = shlex.quote(f"authentication/required-actions/{alias}")
            yield f'kcadm.sh update {path} -r "$R" -s enabled=true'
        case CreateRoles(names, owner):
            path = "roles" if owner is None else f'"clients/{_id_of(shlex.quote(owner))}/roles"'
            for name in names:
                yield f'kcadm.sh create {path} -r "$R" {_settings_of({"name": name})}'
        case CreateGroups(paths):
            for path in paths:
                yield _group_command(path)


def _here(value: Json) -> Iterator[str]:
    yield json.dumps(value, indent=2, ensure_ascii=False)
    yield "JSON"


def _id_of(client: str) -> str:
    return (
        f'$(kcadm.sh get clients -r "$R" -q clientId={client} --fields id --format csv --noquotes)'
    )


def _settings_of(keys: Mapping[str, Any]) -> str:
    """Return `-s` for each key; only texts are written as they are, as kcadm.sh reads them."""
    return " ".join(
        f"-s {shlex.quote(f'{key}={_kcadm_value(value)}')}" for key, value in keys.items()
    )


def _kcadm_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _group_command(path: str) -> str:
    above, _, name = path.rpartition("/")
    where = "groups"
    if above:
        parent = shlex.quote(f"group-by-path{above}")
        where = f'"groups/$(kcadm.sh get {parent} -r "$R" --fields id --format csv --noquotes)/children"'
    return f'kcadm.sh create {where} -r "$R" {_settings_of({"name": name})}'


# Terraform


class _Reference(str):
    """An expression of Terraform, which is written without quotes."""

    __slots__ = ()


_REALM_ID = _Reference("data.keycloak_realm.realm.id")
_MANAGEMENT_ID = _Reference("data.keycloak_openid_client.realm_management.id")
_BRIDGE_ID = _Reference("keycloak_openid_client.keycloak_bridge.id")
_EACH = _Reference("each.value")
_Body = Iterable[tuple[str, Any]]


def _terraform(needs: RealmNeeds, state: RealmState, plan: RealmPlan) -> str:
    """Return resources of the provider keycloak/keycloak; what its resource `keycloak_realm` has is a comment."""
    blocks = [
        _block(
            "terraform", [("required_providers", [("keycloak", {"source": "keycloak/keycloak"})])]
        ),
        _block('data "keycloak_realm" "realm"', [("realm", needs.realm)]),
        _block(
            'data "keycloak_openid_client" "realm_management"',
            [("realm_id", _REALM_ID), ("client_id", MANAGEMENT)],
        ),
        *_terraform_client(needs),
        _block('resource "keycloak_realm_user_profile" "realm"', _terraform_profile(plan.profile)),
        *_terraform_rest(needs, state, plan),
    ]
    return "\n".join([_terraform_comment(needs, state, plan), *blocks])


def _terraform_comment(needs: RealmNeeds, state: RealmState, plan: RealmPlan) -> str:
    keys, attributes = _settings(needs, state, plan)
    inside: list[tuple[str, Any]] = []
    if "internationalizationEnabled" in keys:
        languages = [
            ("supported_locales", keys.get("supportedLocales") or []),
            ("default_locale", keys.get("defaultLocale")),
        ]
        inside.append(("internationalization", languages))
    if attributes:
        inside.append(("attributes", attributes))
    if keys.get("organizationsEnabled"):
        inside.append(("organizations_enabled", True))
    lines = [f"What the realm {needs.realm} needs for keycloak-bridge."]
    if inside:
        lines += ["Your own resource keycloak_realm has to hold:", *_body(inside, 1)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _terraform_client(needs: RealmNeeds) -> Iterator[str]:
    roles, client = _set_of(needs.roles), new_client(needs)
    way = client["clientAuthenticatorType"]
    credentials: tuple[str, Any] = ("client_authenticator_type", way)
    if way == BY_SECRET:
        credentials = ("client_secret", _Reference("var.keycloak_bridge_client_secret"))
        yield _block(
            'variable "keycloak_bridge_client_secret"',
            [("type", _Reference("string")), ("sensitive", True)],
        )
    yield _block(
        'resource "keycloak_openid_client" "keycloak_bridge"',
        [
            ("realm_id", _REALM_ID),
            ("client_id", needs.client_id),
            ("name", client["name"]),
            ("description", client["description"]),
            ("access_type", "CONFIDENTIAL"),
            credentials,
            ("service_accounts_enabled", True),
            ("standard_flow_enabled", False),
            ("implicit_flow_enabled", False),
            ("direct_access_grants_enabled", False),
            ("full_scope_allowed", False),
        ],
    )
    yield _block(
        'resource "keycloak_openid_client_service_account_role" "keycloak_bridge"',
        [
            ("for_each", roles),
            ("realm_id", _REALM_ID),
            (
                "service_account_user_id",
                _Reference("keycloak_openid_client.keycloak_bridge.service_account_user_id"),
            ),
            ("client_id", _MANAGEMENT_ID),
            ("role", _EACH),
        ],
    )
    yield _block(
        'data "keycloak_role" "keycloak_bridge"',
        [
            ("for_each", roles),
            ("realm_id", _REALM_ID),
            ("client_id", _MANAGEMENT_ID),
            ("name", _EACH),
        ],
    )
    yield _block(
        'resource "keycloak_generic_role_mapper" "keycloak_bridge"',
        [
            ("for_each", roles),
            ("realm_id", _REALM_ID),
            ("client_id", _BRIDGE_ID),
            ("role_id", _Reference("data.keycloak_role.keycloak_bridge[each.value].id")),
        ],
    )


def _terraform_profile(profile: Json) -> Iterator[tuple[str, Any]]:
    yield "realm_id", _REALM_ID
    if policy := profile.get("unmanagedAttributePolicy"):
        yield "unmanaged_attribute_policy", policy
    for one in profile.get("attributes") or ():
        yield "attribute", list(_terraform_attribute(one))
    for one in profile.get("groups") or ():
        names = {
            "name": "name",
            "displayHeader": "display_header",
            "displayDescription": "display_description",
        }
        body = [(ours, one[theirs]) for theirs, ours in names.items() if one.get(theirs)]
        yield "group", [*body, *_texts("annotations", one.get("annotations"))]


def _terraform_attribute(one: Json) -> Iterator[tuple[str, Any]]:
    required, selector = one.get("required"), one.get("selector") or {}
    yield "name", one["name"]
    for theirs, ours in (("displayName", "display_name"), ("group", "group")):
        if one.get(theirs):
            yield ours, one[theirs]
    yield "multi_valued", bool(one.get("multivalued"))
    for ours, names in (
        ("enabled_when_scope", selector.get("scopes")),
        ("required_for_roles", (required or {}).get("roles")),
        ("required_for_scopes", (required or {}).get("scopes")),
    ):
        if names:
            yield ours, list(names)
    rights = one.get("permissions") or {}
    yield "permissions", [(right, list(rights.get(right) or ())) for right in ("view", "edit")]
    for name, config in (one.get("validations") or {}).items():
        yield "validator", [("name", name), *_texts("config", config)]
    yield from _texts("annotations", one.get("annotations"))


def _texts(name: str, values: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """Yield a map of texts, which has JSON in the place of anything else."""
    if values:
        yield name, {key: _kcadm_value(value) for key, value in values.items()}


def _terraform_rest(needs: RealmNeeds, state: RealmState, plan: RealmPlan) -> Iterator[str]:
    keys, _ = _settings(needs, state, plan)
    if needs.events is not None:
        body = [
            ("events_enabled", bool(keys.get("eventsEnabled"))),
            ("events_expiration", keys.get("eventsExpiration") or 0),
            ("admin_events_enabled", True),
            ("admin_events_details_enabled", bool(keys.get("adminEventsDetailsEnabled"))),
            ("enabled_event_types", keys.get("enabledEventTypes") or []),
            ("events_listeners", list(state.realm.get("eventsListeners") or ())),
        ]
        yield _block('resource "keycloak_realm_events" "realm"', [("realm_id", _REALM_ID), *body])
    for number, alias in enumerate(_switched_on(plan)):
        body = [("realm_id", _REALM_ID), ("alias", alias), ("name", alias), ("enabled", True)]
        yield _block(f'resource "keycloak_required_action" "action_{number}"', body)
    if needs.realm_roles:
        body = [("for_each", _set_of(needs.realm_roles)), ("realm_id", _REALM_ID), ("name", _EACH)]
        yield _block('resource "keycloak_role" "realm"', body)
    for number, (client, names) in enumerate(needs.client_roles.items()):
        label = f"client_{number}"
        yield _block(
            f'data "keycloak_openid_client" "{label}"',
            [("realm_id", _REALM_ID), ("client_id", client)],
        )
        owner = _Reference(f"data.keycloak_openid_client.{label}.id")
        body = [("for_each", _set_of(names)), ("realm_id", _REALM_ID), ("client_id", owner)]
        yield _block(f'resource "keycloak_role" "{label}"', [*body, ("name", _EACH)])
    labels: dict[str, str] = {}
    for number, path in enumerate(with_parents(needs.groups)):
        above, _, name = path.rpartition("/")
        labels[path] = f"group_{number}"
        parent = [("parent_id", _Reference(f"keycloak_group.{labels[above]}.id"))] if above else []
        body = [("realm_id", _REALM_ID), *parent, ("name", name)]
        yield _block(f'resource "keycloak_group" "{labels[path]}"', body)


def _set_of(names: Sequence[str]) -> _Reference:
    return _Reference(f"toset({_value(list(names))})")


def _block(head: str, body: _Body) -> str:
    return "\n".join((f"{head} {{", *_body(body, 1), "}\n"))


def _body(body: _Body, depth: int) -> Iterator[str]:
    """Yield the lines of a block as `terraform fmt` lays them out; a list of pairs is a block inside it."""
    indent = "  " * depth
    for nested, run in groupby(body, lambda one: _is_block(one[1])):
        pairs = list(run)
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            if nested:
                yield f"{indent}{name} {{"
                yield from _body(value, depth + 1)
                yield f"{indent}}}"
            else:
                yield f"{indent}{name:<{width}} = {_value(value)}"


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


def _value(value: Any) -> str:
    if isinstance(value, _Reference):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    # JSON's texts are Terraform's, but for what begins an expression in them
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
