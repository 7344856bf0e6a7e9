"""A mapping makes of an event what Keycloak would store."""

from typing import Any

import pytest
from mapping_cases import (
    ATTRIBUTES,
    GROUPS,
    HEAD,
    MINIMAL,
    ROLES,
    TERMS,
    USER,
    desired,
    event,
    mapping,
    names,
)

from keycloak_bridge.domain.errors import ConfigError, ConflictError, MappingError
from keycloak_bridge.domain.users import (
    DesiredUser,
    InvitationTerms,
    LinkPolicy,
    MatchCriterion,
    OutOfScope,
)
from keycloak_bridge.mapping.lifecycle import Mappings


def test_makes_what_keycloak_stores() -> None:
    """Username and e-mail are in lower case, enabled is sent, everything matches in order."""
    expected = DesiredUser(
        representation={
            "username": "ada@acme.example",
            "email": "ada@acme.example",
            "attributes": {"userId": ["u1"]},
            "enabled": True,
        },
        matching=(
            MatchCriterion("attributes.userId", "u1"),
            MatchCriterion("username", "ada@acme.example"),
            MatchCriterion("email", "ada@acme.example"),
        ),
        create_only=frozenset({"username", "enabled"}),
    )

    assert expected == desired(MINIMAL)


def test_a_criterion_without_a_value_is_left_out() -> None:
    """An event without an e-mail is matched by what it has."""
    user = desired(MINIMAL, email=None, username="ada")

    assert [one.target for one in user.matching] == ["attributes.userId", "username"]
    assert "email" not in user.representation


def test_several_values_identify_nobody() -> None:
    """An attribute with more than one value is stored, but no user is found by it."""
    text = MINIMAL.replace('"username", "email"', '"attributes.tags"') + 'tags = "data.tags"'

    assert [one.target for one in desired(text, tags=["a", "b"]).matching] == ["attributes.userId"]
    assert len(desired(text, tags=["a"]).matching) == 2


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("x", ["x"]),
        (" x ", [" x "]),
        (5, ["5"]),
        (1.5, ["1.5"]),
        (True, ["true"]),
        (False, ["false"]),
        (["a", "b", "a", "", None, 3], ["a", "b", "3"]),
    ],
)
def test_attributes_hold_lists_of_text(value: Any, stored: list[str]) -> None:
    """Numbers and flags become text, lists several values; white space is not touched."""
    user = desired(MINIMAL + 'tags = "data.tags"', tags=value)

    assert stored == user.representation["attributes"]["tags"]


@pytest.mark.parametrize("value", [None, "", [], [None, ""]])
def test_what_is_empty_is_not_written(value: Any) -> None:
    """An empty value leaves the attribute alone."""
    user = desired(MINIMAL + 'tags = "data.tags"', tags=value)

    assert "tags" not in user.representation["attributes"]


@pytest.mark.parametrize(
    ("rule", "data", "stored"),
    [
        ('{ from = "data.tags", default = "none" }', {}, ["none"]),
        ('{ from = "data.tags", default = ["a", "b"] }', {"tags": []}, ["a", "b"]),
        ('{ from = "data.tags", default = 7 }', {}, ["7"]),
        ('{ from = "data.tags", default = "none" }', {"tags": "x"}, ["x"]),
        ("\"'constant'\"", {}, ["constant"]),
    ],
)
def test_a_default_fills_in(rule: str, data: dict[str, Any], stored: list[str]) -> None:
    """The default stands where the event has nothing."""
    user = desired(f"{MINIMAL}tags = {rule}", **data)

    assert stored == user.representation["attributes"]["tags"]


def test_apply_create_is_told_to_the_planner() -> None:
    """Targets with apply = "create" are named, so that an update leaves them alone."""
    text = MINIMAL + 'tags = { from = "data.tags", apply = "create" }\nn = "data.n"'

    assert desired(text, tags="x", n=1).create_only == {"username", "enabled", "attributes.tags"}


def test_a_username_can_be_kept_in_step() -> None:
    """Where the realm lets usernames change, the mapping can say so."""
    text = MINIMAL.replace(
        '"data.username || data.email"', '{ from = "data.email", apply = "always" }'
    )

    assert "username" not in desired(text).create_only


@pytest.mark.parametrize(
    ("active", "enabled", "create_only"),
    [(False, False, False), (True, True, False), (None, True, True)],
)
def test_enabled_is_always_sent(active: bool | None, enabled: bool, create_only: bool) -> None:
    """Keycloak disables a user without it; where the event says nothing, it counts at creation only."""
    user = desired(HEAD + USER + 'enabled = "data.active"' + ATTRIBUTES, active=active)

    assert user.representation["enabled"] is enabled
    assert ("enabled" in user.create_only) is create_only


@pytest.mark.parametrize(
    "rule",
    [
        '["VERIFY_EMAIL"]',
        "\"['VERIFY_EMAIL']\"",
        '{ from = "data.tags", default = ["VERIFY_EMAIL"] }',
    ],
)
def test_required_actions_count_at_creation(rule: str) -> None:
    """What the user has done is never asked again by a later event."""
    user = desired(HEAD + USER + f"requiredActions = {rule}" + ATTRIBUTES)

    assert user.representation["requiredActions"] == ["VERIFY_EMAIL"]
    assert "requiredActions" in user.create_only


def test_when_decides_what_is_in_scope() -> None:
    """An event that the filter does not want is out of scope, before anything else is looked at."""
    text = 'when = "data.active != `false`"\n' + MINIMAL

    assert mapping(text).apply(event(active=False, userId=None)) == OutOfScope(
        "data.active != `false`"
    )
    assert isinstance(mapping(text).apply(event(active=True)), DesiredUser)


def test_groups_are_paths() -> None:
    """Group paths are written the way Keycloak writes them, each once."""
    user = desired(MINIMAL + '[user.groups]\nfrom = "data.groups"', groups=["a/b", "/a/b/", "/c"])

    assert names(user, "groups") == ("/a/b", "/c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL, False),
        (GROUPS, False),
        (MINIMAL + '[user.groups]\nfrom = "data.groups"\nallow = []', False),
        (MINIMAL + '[user.groups]\nfrom = "data.groups"', True),
    ],
)
def test_a_mapping_knows_whether_it_accepts_every_group(text: str, expected: bool) -> None:
    """Only groups without `allow` are open, since nothing else bounds what an event may join."""
    assert expected is Mappings(mapping(text)).accepts_every_group


def test_groups_can_be_a_plain_expression() -> None:
    """Without an allow-list every group is accepted."""
    user = desired(HEAD + USER + 'groups = "data.groups"' + ATTRIBUTES, groups="x")

    assert names(user, "groups") == ("/x",)


def test_allowed_roles_are_granted() -> None:
    """Roles in the allow-list pass, each once."""
    user = desired(ROLES, roles=["editor", "editor"])

    assert names(user, "realmRoles") == ("editor",)


def test_default_roles_stand_in() -> None:
    """The default is granted where the event names no role."""
    user = desired(ROLES + 'default = ["viewer"]', roles=[])

    assert names(user, "realmRoles") == ("viewer",)


@pytest.mark.parametrize(
    ("text", "data", "code", "pointer"),
    [
        (ROLES, {"roles": ["viewer", "realm-admin"]}, "role-not-allowed", "/user/realmRoles/1"),
        (GROUPS, {"groups": ["/admins"]}, "group-not-allowed", "/user/groups/0"),
    ],
)
def test_nothing_outside_the_allow_list_is_granted(
    text: str, data: dict[str, Any], code: str, pointer: str
) -> None:
    """A role or group that is not allowed refuses the event, without being quoted."""
    with pytest.raises(MappingError) as caught:
        desired(text, **data)

    assert caught.value.code == code
    assert [one.pointer for one in caught.value.violations] == [pointer]
    assert "admin" not in caught.value.message


def test_others_can_be_passed_over() -> None:
    """With otherwise = "ignore" the rest of the event still counts."""
    user = desired(ROLES + 'otherwise = "ignore"', roles=["realm-admin", "viewer"])

    assert names(user, "realmRoles") == ("viewer",)


def test_the_subject_may_be_absent_or_ignored() -> None:
    """Without a subject, or with match_subject off, the data alone names the user."""
    assert isinstance(mapping(MINIMAL).apply(event(subject=None)), DesiredUser)
    lenient = mapping(MINIMAL, match_subject=False)

    assert isinstance(lenient.apply(event(subject="other")), DesiredUser)


def test_own_reserved_names() -> None:
    """The mapping's list replaces the default one."""
    compiled = mapping('reserved = ["Root"]\n' + MINIMAL)

    assert compiled.rules.reserved == {"root"}
    assert isinstance(compiled.apply(event(username="admin")), DesiredUser)
    with pytest.raises(ConflictError):
        compiled.apply(event(username="ROOT"))


def test_the_invitation_is_the_settings_with_the_mappings_word_over_it() -> None:
    """[invite] replaces what it names and leaves the rest."""
    text = (
        MINIMAL + '[invite]\nactions = ["UPDATE_PASSWORD", "CONFIGURE_TOTP"]\nlifespan = "3 days"'
    )

    assert mapping(text, invitation=TERMS).invitation == InvitationTerms(
        ("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 259200, "account", None
    )
    assert mapping(MINIMAL, invitation=TERMS).invitation == TERMS
    assert mapping(text).invitation is None


def test_a_redirect_needs_its_client() -> None:
    """Keycloak refuses redirect_uri without client_id at every mail, so it is refused at start."""
    text = MINIMAL + '[invite]\nredirect_uri = "https://app.example/"'

    with pytest.raises(ConfigError, match=r"m\.toml: invite\.redirect_uri: .*client_id"):
        mapping(text, invitation=InvitationTerms(("UPDATE_PASSWORD",), 60))
    assert mapping(text, invitation=TERMS).invitation is not None


def test_names_what_it_owns() -> None:
    """The realm's profile check asks for the attributes; reserved names and link are at hand."""
    compiled = mapping('link = "verified-email"\n' + MINIMAL + 'tags = "data.tags"')

    assert Mappings(compiled).attribute_names == ("tags", "userId")
    assert compiled.rules.link is LinkPolicy.VERIFIED_EMAIL
    assert compiled.rules.reserved == {"admin"}


def test_the_fingerprint_is_that_of_the_content() -> None:
    """Comments and layout do not count, every change of content does."""
    same = mapping("# a comment\n" + MINIMAL.replace(" = ", "="))

    assert mapping(MINIMAL).fingerprint == same.fingerprint
    assert mapping(MINIMAL).fingerprint != mapping(MINIMAL + 'n = "data.n"').fingerprint
