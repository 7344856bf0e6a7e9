"""Turn the export of a realm into a form that people can read and review, and that can be imported again.

It contains what differs from a new realm of the same Keycloak, and every key of the existing file.
Generated ids are removed. A value that the file takes from the environment remains a ``${NAME:default}``
placeholder, and a masked secret becomes one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

MASKED = "**********"
GENERATED = {"id", "containerId", "parentId", "internalId", "createdTimestamp", "keycloakVersion"}
DERIVED = {"path"}  # a group's path follows from its position
ADDED = {"oidc-group-membership-mapper": "multivalued"}  # by Keycloak itself, at the first log-in
KEPT = {
    "realm",
    "enabled",
}  # without them, an import creates a realm without a name, or a disabled one
IDENTITIES = ("clientId", "username", "client", "clientScope", "alias", "name", "providerId")
ORDERED = re.compile(r"Algorithms$|^authenticationExecutions$")
PLACEHOLDER = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::([^}]*))?\}")
BUILT_IN_CLIENTS = {
    "account",
    "account-console",
    "admin-cli",
    "broker",
    "realm-management",
    "security-admin-console",
}
BUILT_IN_ROLES = {"offline_access", "uma_authorization"}
SMTP = {
    "host": "${SMTP_HOST:localhost}",
    "port": "${SMTP_PORT:1025}",
    "from": "${SMTP_FROM:no-reply@acme.example}",
    "fromDisplayName": "${SMTP_FROM_DISPLAY_NAME:Acme}",
    "auth": "${SMTP_AUTH:false}",
    "user": "${SMTP_USER:}",
    "password": "${SMTP_PASSWORD:}",
    "starttls": "${SMTP_STARTTLS:false}",
    "ssl": "${SMTP_SSL:false}",
}
OWN = "(exported)"  # marks items of the reference that a new realm would not have
PROFILE_CONFIG = "kc.user.profile.config"


def resolve(value: Any, environment: Mapping[str, str]) -> Any:
    """Fill every placeholder as Keycloak does on import: from the environment, else its default, else unchanged."""
    if isinstance(value, dict):
        return {key: resolve(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environment) for item in value]
    if not isinstance(value, str):
        return value
    return PLACEHOLDER.sub(
        lambda found: environment.get(found[1], found[0] if found[2] is None else found[2]), value
    )


def normal_form(
    exported: dict[str, Any],
    reference: dict[str, Any],
    template: dict[str, Any],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the shortest representation whose import results in `exported`, in the form of `template`."""
    name = template.get("realm") or f"${{KEYCLOAK_REALM:{exported['realm']}}}"
    value = _clean(_nameless(exported, name))
    default = _marked(_clean(_nameless(reference, name)), bare(exported, ""))
    template = ({"smtpServer": SMTP} if exported.get("smtpServer") else {}) | template
    value["users"] = [
        {key: item for key, item in user.items() if item}
        for user in value.get("users", [])
        if "serviceAccountClientId" in user
    ]
    kept: dict[str, Any] = _minimal(
        {**value, "realm": name}, default, _clean(template), environment, KEPT
    )
    return _restored_secrets(kept)


def bare(exported: dict[str, Any], realm: str) -> dict[str, Any]:
    """Return a realm with the same clients, roles and groups in their default state."""
    own_roles = BUILT_IN_ROLES | {f"default-roles-{exported['realm']}"}
    return {
        "realm": realm,
        "enabled": True,
        "clients": [
            {"clientId": client["clientId"]}
            for client in exported.get("clients", [])
            if client["clientId"] not in BUILT_IN_CLIENTS
        ],
        "roles": {
            "realm": [
                {"name": role["name"]}
                for role in exported.get("roles", {}).get("realm", [])
                if role["name"] not in own_roles
            ]
        },
        "groups": [_bare_group(group) for group in exported.get("groups", [])],
    }


def _bare_group(group: dict[str, Any]) -> dict[str, Any]:
    children = [_bare_group(child) for child in group.get("subGroups", [])]
    return {"name": group["name"], "subGroups": children}


def _marked(default: Any, own: Any) -> Any:
    """Mark the items that were added to the reference realm, so that none counts as a default."""
    if isinstance(own, dict) and isinstance(default, dict):
        return default | {key: _marked(default.get(key), own[key]) for key in own}
    items, owned = _by_identity(default), _by_identity(own)
    if items is None or owned is None:
        return default
    return [
        {**_marked(item, owned[identity]), OWN: True} if identity in owned else item
        for identity, item in items.items()
    ]


def dump(realm: dict[str, Any]) -> str:
    """Return the text of the file: sorted keys, an indent of two spaces, UTF-8 not escaped."""
    return json.dumps(realm, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _nameless(exported: dict[str, Any], name: str) -> dict[str, Any]:
    """Replace the realm's own name inside generated names and paths."""
    realm = re.escape(exported["realm"])
    pattern = re.compile(rf"(?<=/realms/){realm}(?=/)|(?<=/admin/){realm}(?=/)")
    text = pattern.sub(lambda _: name, json.dumps(exported, ensure_ascii=False))
    text = text.replace(f'"default-roles-{exported["realm"]}"', json.dumps(f"default-roles-{name}"))
    result: dict[str, Any] = json.loads(text)
    return result


def _clean(value: Any, key: str = "") -> Any:
    """Remove what Keycloak generates, and sort what has no order."""
    if isinstance(value, dict):
        dropped = GENERATED | (DERIVED if "subGroups" in value else set())
        added = ADDED.get(value.get("protocolMapper", ""))
        if added is not None:
            value = value | {"config": {k: v for k, v in value["config"].items() if k != added}}
        return {k: _clean(v, k) for k, v in sorted(value.items()) if k not in dropped}
    if not isinstance(value, list):
        return value
    if key == PROFILE_CONFIG:
        return [json.dumps(json.loads(v), sort_keys=True, separators=(",", ":")) for v in value]
    items = [_clean(item) for item in value]
    return items if ORDERED.search(key) else sorted(items, key=_sort_key)


def _sort_key(item: Any) -> tuple[str, str]:
    return (_identity(item) or "", json.dumps(item, sort_keys=True))


def _identity(item: Any) -> str | None:
    """Return what distinguishes this item from its siblings, or None for plain values."""
    if not isinstance(item, dict):
        return None
    return next((f"{key}={item[key]}" for key in IDENTITIES if key in item), None)


def _by_identity(items: Any) -> dict[str, Any] | None:
    """Return the items by identity, or None if they cannot be distinguished."""
    if not isinstance(items, list):
        return None
    found = {_identity(item): item for item in items}
    if len(found) < len(items) or None in found:
        return None
    return {str(identity): item for identity, item in found.items()}


def _minimal(
    value: Any,
    default: Any,
    template: Any,
    environment: Mapping[str, str],
    kept: set[str] | frozenset[str] = frozenset(),
) -> Any:
    """Return `value` without what equals `default`, with the placeholders and keys of `template`."""
    if isinstance(value, dict):
        default = default if isinstance(default, dict) else {}
        template = template if isinstance(template, dict) else {}
        found = {
            key: _minimal(item, default.get(key), template.get(key), environment)
            for key, item in value.items()
            if key in kept or key in template or _differs(key, item, default)
        }
        return {k: v for k, v in found.items() if k in template or v not in ({}, [])}
    items = _by_identity(value)
    if items:
        return _minimal_items(items, default, template, environment)
    if isinstance(value, list) and isinstance(template, list):
        return _worded(value, template, environment)
    return template if isinstance(template, str) and PLACEHOLDER.search(template) else value


def _differs(key: str, item: Any, default: dict[str, Any]) -> bool:
    return (
        item == MASKED
        or (key in default and item != default[key])
        or bool(key not in default and item not in (None, [], {}))
    )


def _minimal_items(
    items: dict[str, Any], default: Any, template: Any, environment: Mapping[str, str]
) -> list[Any]:
    defaults, templates = _by_identity(default) or {}, _by_identity(template) or {}
    return [
        _minimal(
            item, defaults.get(identity), templates.get(identity), environment, set(IDENTITIES)
        )
        for identity, item in items.items()
        if identity in templates or item != defaults.get(identity)
    ]


def _worded(value: list[Any], template: list[Any], environment: Mapping[str, str]) -> list[Any]:
    """Replace each value by the placeholder that it came from."""
    words = {json.dumps(resolve(word, environment)): word for word in template}
    return sorted((words.get(json.dumps(item), item) for item in value), key=_sort_key)


def _restored_secrets(realm: dict[str, Any]) -> dict[str, Any]:
    """Replace each masked secret that has no placeholder in the file by a new placeholder."""
    for client in realm.get("clients", []):
        if client.get("secret") == MASKED:
            prefix = re.sub(r"[^A-Z0-9]+", "_", client["clientId"].upper())
            client["secret"] = f"${{{prefix}_CLIENT_SECRET}}"
    return realm
