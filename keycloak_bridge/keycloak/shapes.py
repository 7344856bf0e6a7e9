"""What the answers of Keycloak look like, as far as the bridge reads them.

A gateway in front of Keycloak, or another version of it, may answer anything. What does not fit is no answer of Keycloak, so
no code behind this has to doubt what it reads.
"""

from typing import Any

Shape = type | list[Any] | dict[str, Any]
"""A type; a list of one shape for all items; a dict of shapes by name, where `?` behind a name says that it may be absent or
null, and `*` alone stands for any name."""

ANYTHING: Shape = {}
USER: Shape = {
    "id": str,
    **dict.fromkeys(("username?", "email?", "firstName?", "lastName?"), str),
    **dict.fromkeys(("federationLink?", "serviceAccountClientId?"), str),
    **dict.fromkeys(("enabled?", "emailVerified?"), bool),
    "createdTimestamp?": int,
    "attributes?": {"*": [str]},
    "requiredActions?": [str],
}
GROUP: Shape = {"id": str, "path": str}
ROLE: Shape = {"id": str, "name": str}
CLIENT: Shape = {"id": str, "clientId": str}
ORGANIZATION: Shape = {"id": str, "alias": str}
IDENTITY: Shape = {"identityProvider": str, "userId": str, "userName?": str}
ACTION: Shape = {"alias": str}
EVENT: Shape = {"time": int, **dict.fromkeys(("id?", "type?", "userId?"), str)}
COMPONENT: Shape = {"name?": str, "providerId?": str, "config?": {"*?": list}}
IMPORTED: Shape = {"results": [{"action?": str, "id?": str, "resourceName?": str}]}
PROFILE: Shape = {
    "unmanagedAttributePolicy?": str,
    "attributes?": [
        {
            "name": str,
            "permissions?": {"edit?": [str], "view?": [str]},
            "required?": {"roles?": [str], "scopes?": [str]},
            "validations?": {"*?": {}},
        }
    ],
}
METADATA: Shape = {"attributes?": [{"name": str}]}
REALM: Shape = {"smtpServer?": {}, "defaultRole?": {"name": str}, "defaultGroups?": [str]}


def fits(value: object, shape: Shape) -> bool:
    """Say whether `value`, read from JSON, has this shape."""
    if isinstance(shape, type):
        return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    return isinstance(value, dict) and all(
        _has(value, name, inner) for name, inner in shape.items()
    )


def _has(value: dict[str, Any], name: str, shape: Shape) -> bool:
    optional = name.endswith("?")
    name = name.removesuffix("?")
    found = value.values() if name == "*" else (value.get(name),)
    return all((optional and one is None) or fits(one, shape) for one in found)
