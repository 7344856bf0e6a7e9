"""A mapping file is read with errors that name it, and the shipped mapping fits the default schema."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keycloak_bridge.app.mapping_files import default_mapping_text, load_mapping
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    DesiredUser,
    InvitationTerms,
    LinkPolicy,
    Membership,
    client_roles,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.mapping.mapping import compile_mapping

DEFAULT_PROPERTIES = {
    (name,)
    for name in (
        *("userId", "email", "givenName", "familyName", "username", "locale", "tenantId"),
        *("department", "phoneNumber", "active", "roles", "groups", "attributes"),
        *("organizations", "clientRoles", "federatedIdentities", "requiredActions"),
    )
} | {
    ("clientRoles", "demo-app"),
    *(("federatedIdentities", name) for name in ("provider", "userId", "userName")),
}
has_property = DEFAULT_PROPERTIES.__contains__

EVENT = UserEvent(
    "e1",
    "/user-management",
    "user.created",
    "u1",
    datetime(2026, 11, 1, tzinfo=UTC),
    "urn:keycloak-bridge:schema:user.created:1.0",
    {
        "userId": "u1",
        "email": "Ada@Acme.example",
        "givenName": "Ada",
        "familyName": "Lovelace",
        "locale": "en",
        "tenantId": "t1",
        "department": "R&D",
        "phoneNumber": "+441234567",
        "roles": ["viewer"],
        "groups": ["/staff"],
        "attributes": {"admin": "true"},
    },
)


def test_the_shipped_mapping_maps_the_default_schema() -> None:
    """Every property that has a place goes there; the free attributes of the event go nowhere."""
    terms = InvitationTerms(("UPDATE_PASSWORD",), 60)
    mapping = load_mapping(None, has_property=has_property, invitation=terms)
    user = mapping.apply(EVENT)

    assert isinstance(user, DesiredUser)
    assert user.representation == {
        "username": "ada@acme.example",
        "email": "ada@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "attributes": {
            "userId": ["u1"],
            "tenantId": ["t1"],
            "department": ["R&D"],
            "phoneNumber": ["+441234567"],
            "locale": ["en"],
        },
    }
    assert user.memberships == (
        Membership(GROUPS, ("/staff",)),
        Membership(REALM_ROLES, ("viewer",)),
    )
    assert user.link is LinkPolicy.NEVER
    assert user.invitation == terms
    assert user.create_only == {"username"}


def test_the_shipped_mapping_gives_no_other_group() -> None:
    """A group may carry an administrator's roles: only those of the shipped realm can be joined."""
    mapping = load_mapping(None, has_property=has_property)
    groups = mapping.rules.membership(GROUPS)

    assert groups is not None
    assert frozenset({"/staff", "/staff/engineering", "/customers"}) == groups.allow
    assert Mappings(mapping).accepts_every_group is False


def test_what_the_shipped_mapping_comments_out_works() -> None:
    """Whoever takes the comment signs away gets a working mapping."""
    lines = default_mapping_text().splitlines()
    commented = re.compile(r"# (\[[\w.-]+\]$|[\w-]+ = )")
    opened = [line.removeprefix("# ") if commented.match(line) else line for line in lines]
    document = tomllib.loads("\n".join(opened))

    mapping = compile_mapping(
        document,
        origin="opened.toml",
        has_property=has_property,
        invitation=InvitationTerms((), 60),
    )
    assert mapping.invitation == InvitationTerms(
        ("UPDATE_PASSWORD",), 259200, "demo-app", "https://app.example/"
    )
    assert mapping.rules.when is not None
    assert mapping.rules.protected_groups == {"/admins"}
    kinds = {rule.kind for rule in mapping.rules.memberships}
    assert kinds == {GROUPS, REALM_ROLES, ORGANIZATIONS, client_roles("demo-app")}
    assert [rule.alias for rule in mapping.rules.identities] == ["corporate"]
    assert sum(one != line for one, line in zip(opened, lines, strict=True)) == 17


def test_an_own_file_is_read(tmp_path: Path) -> None:
    """The named file is the mapping, and errors carry its name."""
    path = tmp_path / "mapping.toml"
    path.write_text(default_mapping_text(), "utf-8")
    shipped = load_mapping(None, has_property=has_property)

    assert load_mapping(path, has_property=has_property).fingerprint == shipped.fingerprint

    path.write_text("zzz = 1", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_mapping(path, has_property=has_property)
    assert caught.value.message.startswith(f"{path}: zzz: unknown key")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"matching = [", "not valid TOML"),
        (b"x = 1\ny = = 1", "not valid TOML: .*line 2"),
        (b"\xff", "is not UTF-8"),
        (b"#" * 1_000_001, "too large"),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error says which file, and where in it."""
    path = tmp_path / "mapping.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"mapping.toml: {reason}"):
        load_mapping(path, has_property=has_property)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback, but the path and what to do."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file") as caught:
        load_mapping(tmp_path / "nowhere.toml", has_property=has_property)
    assert caught.value.remedy
