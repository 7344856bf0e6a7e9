"""What the tests of the mapping share: a little schema, mappings to build on, and an event."""

import tomllib
from datetime import UTC, datetime
from typing import Any

from keycloak_bridge.core.mapping import AttributeMapping, compile_mapping
from keycloak_bridge.core.model import DesiredUser, InvitationTerms, UserEvent

PROPERTIES = {
    (name,)
    for name in ("userId", "email", "username", "given", "active", "roles", "groups", "tags", "n")
}
HEAD = """
matching = ["attributes.userId", "username", "email"]
"""
USER = """
[user]
username = "data.username || data.email"
email = "data.email"
"""
ATTRIBUTES = """
[user.attributes]
userId = "data.userId"
"""
MINIMAL = HEAD + USER + ATTRIBUTES
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 43200, "account", None)


def mapping(text: str, **options: Any) -> AttributeMapping:
    """Return the mapping in `text`, checked against the little schema of this module."""
    return compile_mapping(
        tomllib.loads(text), origin="m.toml", has_property=PROPERTIES.__contains__, **options
    )


def event(subject: str | None = "u1", **data: Any) -> UserEvent:
    """Return an event about user u1, with `data` over what every event has."""
    whole = {"userId": "u1", "email": "Ada@Acme.example", **data}
    return UserEvent(
        "e1", "/um", "user.created", subject, datetime(2026, 11, 1, tzinfo=UTC), "urn:s", whole
    )


def desired(text: str, subject: str | None = "u1", **data: Any) -> DesiredUser:
    """Return what the mapping in `text` makes of an event with `data`."""
    user = mapping(text).apply(event(subject, **data))
    assert isinstance(user, DesiredUser)
    return user


ROLES = MINIMAL + '[user.realmRoles]\nfrom = "data.roles"\nallow = ["viewer", "editor"]\n'
GROUPS = MINIMAL + '[user.groups]\nfrom = "data.groups"\nallow = ["staff"]\n'
