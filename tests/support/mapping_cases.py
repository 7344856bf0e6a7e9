"""What the tests of the mapping share: a little schema, mappings to build on, and an event."""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.users import DesiredUser, InvitationTerms
from keycloak_bridge.mapping.mapping import AttributeMapping, compile_mapping

PROPERTIES = {
    (name,)
    for name in (
        *("userId", "email", "username", "given", "active", "roles", "groups", "tags", "n"),
        *("orgs", "accounts", "complete"),
    )
} | {("accounts", "id"), ("accounts", "name"), ("roles", "app")}
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
    return event_of("user.created", {"email": "Ada@Acme.example", **data}, subject)


def event_of(
    kind: str, data: Mapping[str, Any], subject: str | None = "u1", schema_id: str = "urn:s"
) -> UserEvent:
    """Return an event of type `kind` about user u1, with nothing but `data`."""
    whole = {"userId": "u1", **data}
    time = datetime(2026, 11, 1, tzinfo=UTC)
    return UserEvent("e1", "/um", kind, subject, time, schema_id, whole)


def updated(text: str, **data: Any) -> DesiredUser:
    """Return what the mapping in `text` makes of a `user.updated` that says nothing but `data`."""
    user = mapping(text).apply(event_of("user.updated", data))
    assert isinstance(user, DesiredUser)
    return user


def names(user: DesiredUser, kind: str) -> tuple[str, ...] | None:
    """Return what the user is to belong to of one kind, None where nothing is said about it."""
    return next((one.names for one in user.memberships if one.kind == kind), None)


def desired(text: str, subject: str | None = "u1", **data: Any) -> DesiredUser:
    """Return what the mapping in `text` makes of an event with `data`."""
    user = mapping(text).apply(event(subject, **data))
    assert isinstance(user, DesiredUser)
    return user


ROLES = MINIMAL + '[user.realmRoles]\nfrom = "data.roles"\nallow = ["viewer", "editor"]\n'
GROUPS = MINIMAL + '[user.groups]\nfrom = "data.groups"\nallow = ["staff"]\n'
