"""A mapping turns an event into what Keycloak should store, or refuses it with a code and a pointer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    updated,
)

from keycloak_bridge.domain.errors import (
    ConfigError,
    ConflictError,
    EventError,
    KeyMismatchError,
    MappingError,
)
from keycloak_bridge.domain.events import USER_CREATED, USER_DELETED
from keycloak_bridge.domain.users import (
    DesiredUser,
    InvitationTerms,
    LinkPolicy,
    MatchCriterion,
    Membership,
    OutOfScope,
    client_roles,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.mapping.mapping import username_problem

TAGS = MINIMAL + 'tags = "data.tags"\n'
CLIENT = MINIMAL + '[user.clientRoles."my/app"]\nfrom = "data.roles.app"\nallow = ["reader"]\n'
ORGANIZATIONS = MINIMAL + '[user.organizations]\nfrom = "data.orgs"\nallow = ["acme", "globex"]\n'


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
    # without a subject, or with match_subject off, the data alone names the user
    assert expected == mapping(MINIMAL).apply(event(subject=None))
    assert expected == mapping(MINIMAL, match_subject=False).apply(event(subject="other"))


def test_a_criterion_without_exactly_one_value_is_left_out() -> None:
    """An event without an e-mail is matched by what it has; several values identify no user."""
    user = desired(MINIMAL, email=None, username="ada")
    text = TAGS.replace('"username", "email"', '"attributes.tags"')

    assert [one.target for one in user.matching] == ["attributes.userId", "username"]
    assert "email" not in user.representation
    assert [one.target for one in desired(text, tags=["a", "b"]).matching] == ["attributes.userId"]
    assert len(desired(text, tags=["a"]).matching) == 2


@pytest.mark.parametrize(
    ("rule", "value", "stored"),
    [
        ('"data.tags"', "x", ["x"]),
        ('"data.tags"', " x ", [" x "]),
        ('"data.tags"', 5, ["5"]),
        ('"data.tags"', 1.5, ["1.5"]),
        ('"data.tags"', 0.1, ["0.1"]),
        ('"data.tags"', [1, 1.0, 1001.0, -0.0, 1e22], ["1", "1001", "0", "1e+22"]),
        ('"data.tags"', True, ["true"]),
        ('"data.tags"', False, ["false"]),
        ('"data.tags"', ["a", "b", "a", "", None, 3], ["a", "b", "3"]),
        ('"data.tags"', None, None),
        ('"data.tags"', "", None),
        ('"data.tags"', [], None),
        ('"data.tags"', [None, ""], None),
        ('{ from = "data.tags", default = "none" }', None, ["none"]),
        ('{ from = "data.tags", default = ["a", "b"] }', [], ["a", "b"]),
        ('{ from = "data.tags", default = 7 }', None, ["7"]),
        ('{ from = "data.tags", default = "none" }', "x", ["x"]),
        ("\"'constant'\"", None, ["constant"]),
    ],
)
def test_attributes_are_lists_of_text(rule: str, value: Any, stored: list[str] | None) -> None:
    """Numbers and flags become text, empty values and duplicates go, and a default replaces no value."""
    user = desired(f"{MINIMAL}tags = {rule}", tags=value)

    assert stored == user.representation["attributes"].get("tags")


def test_the_planner_knows_what_counts_only_at_creation() -> None:
    """Targets with apply = "create", and the username unless the mapping says otherwise."""
    text = MINIMAL + 'tags = { from = "data.tags", apply = "create" }\nn = "data.n"'
    renaming = MINIMAL.replace(
        '"data.username || data.email"', '{ from = "data.email", apply = "always" }'
    )

    assert desired(text, tags="x", n=1).create_only == {"username", "enabled", "attributes.tags"}
    assert "username" not in desired(renaming).create_only


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


def test_constants_are_values_of_toml() -> None:
    """They need no quoting for JMESPath; only a complete event writes them, and no event joins any other group."""
    text = MINIMAL.replace(
        "[user]\n", '[user]\nenabled = false\ngroups = ["staff"]\nrealmRoles = ["viewer"]\n'
    )
    text += "level = 3\nstaff = true\ntags = ['a', 'b']\norigin = { default = 'hr' }\n"
    user = desired(text)
    later = updated(text, email="new@acme.example")

    assert {
        "userId": ["u1"],
        "level": ["3"],
        "staff": ["true"],
        "tags": ["a", "b"],
        "origin": ["hr"],
    } == user.representation["attributes"]
    assert user.representation["enabled"] is False
    assert [("groups", ("/staff",)), ("realmRoles", ("viewer",))] == [
        (one.kind, one.names) for one in user.memberships
    ]
    assert ({"userId": ["u1"]}, ()) == (later.representation["attributes"], later.memberships)
    assert "enabled" not in later.representation
    assert Mappings(mapping(text)).accepts_every_group is False


def test_when_decides_what_is_in_scope() -> None:
    """An event that the filter does not want is out of scope, before anything else is looked at."""
    text = 'when = "data.active != `false`"\n' + MINIMAL

    assert mapping(text).apply(event(active=False, userId=None)) == OutOfScope(
        "data.active != `false`"
    )
    assert isinstance(mapping(text).apply(event(active=True)), DesiredUser)


ANY_GROUP = MINIMAL + '[user.groups]\nfrom = "data.groups"'
SECOND_CLIENT = CLIENT + '[user.clientRoles.b]\nfrom = "data.tags"\nallow = ["x"]'


@pytest.mark.parametrize(
    ("text", "data", "kind", "expected"),
    [
        (ANY_GROUP, {"groups": ["a/b", "/a/b/", "/c"]}, "groups", ("/a/b", "/c")),
        (HEAD + USER + 'groups = "data.groups"' + ATTRIBUTES, {"groups": "x"}, "groups", ("/x",)),
        (ROLES, {"roles": ["editor", "editor"]}, "realmRoles", ("editor",)),
        (ROLES + 'default = ["viewer"]', {"roles": []}, "realmRoles", ("viewer",)),
        (ROLES + 'otherwise = "ignore"', {"roles": ["admin", "viewer"]}, "realmRoles", ("viewer",)),
        (SECOND_CLIENT, {"roles": {"app": ["reader"]}}, client_roles("my/app"), ("reader",)),
        (SECOND_CLIENT, {"tags": "x"}, client_roles("b"), ("x",)),
        (ORGANIZATIONS + 'default = ["globex"]', {"orgs": ["acme"]}, "organizations", ("acme",)),
        (ORGANIZATIONS + 'default = ["globex"]', {}, "organizations", ("globex",)),
        # what is neither named nor owned need not be asked of Keycloak
        (ROLES, {}, "realmRoles", None),
        (GROUPS, {}, "groups", None),
        (ORGANIZATIONS, {}, "organizations", None),
        (CLIENT, {}, client_roles("my/app"), None),
    ],
)
def test_memberships(
    text: str, data: dict[str, Any], kind: str, expected: tuple[str, ...] | None
) -> None:
    """Each name once, paths as Keycloak writes them; the default counts where the event names nothing."""
    assert expected == names(desired(text, **data), kind)


@pytest.mark.parametrize(
    ("text", "data", "code", "pointer"),
    [
        (ROLES, {"roles": ["viewer", "realm-admin"]}, "role-not-allowed", "/user/realmRoles/1"),
        (GROUPS, {"groups": ["/admins"]}, "group-not-allowed", "/user/groups/0"),
        (CLIENT, {"roles": {"app": ["admin"]}}, "role-not-allowed", "/user/clientRoles/my~1app/0"),
        (ORGANIZATIONS, {"orgs": ["admin"]}, "organization-not-allowed", "/user/organizations/0"),
    ],
)
def test_nothing_outside_the_allow_list_is_granted(
    text: str, data: dict[str, Any], code: str, pointer: str
) -> None:
    """It refuses the event, without being quoted; with otherwise = "ignore" the rest still counts."""
    with pytest.raises(MappingError) as caught:
        desired(text, **data)

    assert caught.value.code == code
    assert [one.pointer for one in caught.value.violations] == [pointer]
    assert "admin" not in caught.value.message
    ignoring = desired(text + 'otherwise = "ignore"', **data)
    assert ([("viewer",)] if text == ROLES else []) == [one.names for one in ignoring.memberships]


def test_what_is_managed_is_what_is_allowed() -> None:
    """The planner removes what is owned and not named."""
    user = desired(ROLES + 'removal = "managed"', roles=["viewer"])
    nothing = desired(GROUPS + 'removal = "managed"')

    owned = frozenset({"viewer", "editor"})
    assert (Membership("realmRoles", ("viewer",), owned),) == user.memberships
    assert (Membership("groups", (), frozenset({"/staff"})),) == nothing.memberships


def test_missing_groups_can_be_created() -> None:
    """Only where the mapping says so."""
    create = desired(GROUPS + 'missing = "create"', groups="staff")
    reject = desired(GROUPS + 'missing = "reject"', groups="staff")

    assert [True, False] == [user.memberships[0].create_missing for user in (create, reject)]


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


def test_own_reserved_names() -> None:
    """The mapping's list replaces the default one; a name that only begins like a reserved one is free."""
    compiled = mapping('reserved = ["Root"]\n' + MINIMAL)

    assert compiled.rules.reserved == {"root"}
    assert isinstance(compiled.apply(event(username="admin")), DesiredUser)
    assert isinstance(compiled.apply(event(username="rooted")), DesiredUser)
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
    redirecting = MINIMAL + '[invite]\nredirect_uri = "https://app.example/"'
    assert mapping(redirecting, invitation=TERMS).invitation is not None
    # Keycloak refuses redirect_uri without client_id at every mail, so it is refused at start
    with pytest.raises(ConfigError, match=r"m\.toml: invite\.redirect_uri: .*client_id"):
        mapping(redirecting, invitation=InvitationTerms(("UPDATE_PASSWORD",), 60))


def test_names_what_it_owns() -> None:
    """The realm's profile check asks for the attributes; reserved names, groups and link are available."""
    text = 'link = "verified-email"\nprotected_groups = ["admins", "/ops/root/"]\n' + TAGS
    compiled = mapping(text)

    assert Mappings(compiled).attribute_names == ("tags", "userId")
    assert compiled.rules.link is LinkPolicy.VERIFIED_EMAIL
    assert compiled.rules.reserved == {"admin"}
    assert frozenset({"/admins", "/ops/root"}) == desired(text).protected_groups


def test_the_fingerprint_is_that_of_the_content() -> None:
    """Comments and layout do not count, every change of content does."""
    same = mapping("# a comment\n" + MINIMAL.replace(" = ", "="))

    assert mapping(MINIMAL).fingerprint == same.fingerprint
    assert mapping(MINIMAL).fingerprint != mapping(MINIMAL + 'n = "data.n"').fingerprint


ERRORS = {"reserved-user": ConflictError, "subject-mismatch": KeyMismatchError}


@pytest.mark.parametrize(
    ("text", "data", "code", "pointer"),
    [
        (MINIMAL, {"username": "a\tb"}, "invalid-username", "/user/username"),
        (MINIMAL, {"email": None}, "invalid-username", "/user/username"),
        (
            MINIMAL,
            {"username": "ada", "email": "ada\u200b@acme.example"},
            "invalid-value",
            "/user/email",
        ),
        (
            MINIMAL,
            {"username": "ada", "email": "a" * 243 + "@acme.example"},
            "invalid-value",
            "/user/email",
        ),
        (MINIMAL, {"username": "Admin"}, "reserved-user", "/user/username"),
        (MINIMAL, {"username": "service-account-x"}, "reserved-user", "/user/username"),
        (MINIMAL, {"userId": ""}, "missing-external-id", "/user/attributes/userId"),
        (MINIMAL, {"userId": ["u1", "u2"]}, "missing-external-id", "/user/attributes/userId"),
        (MINIMAL, {"userId": "u2"}, "subject-mismatch", "/subject"),
        (MINIMAL, {"email": ["a", "b"]}, "mapping-failed", "/user/username"),
        (
            HEAD + USER + 'enabled = "data.active"' + ATTRIBUTES,
            {"active": "yes"},
            "mapping-failed",
            "/user/enabled",
        ),
        (
            MINIMAL + '"a/b~c" = "data.tags"',
            {"tags": [{"x": 1}]},
            "mapping-failed",
            "/user/attributes/a~1b~0c",
        ),
        (
            MINIMAL + 'tags = { from = "data.tags", required = true }',
            {},
            "missing-value",
            "/user/attributes/tags",
        ),
        (TAGS, {"tags": "a\0b"}, "invalid-value", "/user/attributes/tags"),
        (TAGS, {"tags": "\ud800"}, "invalid-value", "/user/attributes/tags"),
    ],
)
def test_an_event_that_makes_no_user_is_refused(
    text: str, data: dict[str, Any], code: str, pointer: str
) -> None:
    """Each reason has its code and points at its target."""
    with pytest.raises(ERRORS.get(code, MappingError)) as caught:
        desired(text, **data)

    assert caught.value.code == code
    assert [one.pointer for one in caught.value.violations] == [pointer]
    assert caught.value.remedy


def test_an_address_may_be_as_long_as_keycloak_stores() -> None:
    """Which counts characters."""
    longest = "a" * 242 + "@acme.example"

    assert longest == desired(MINIMAL, username="ada", email=longest).representation["email"]


@pytest.mark.parametrize("kind", [USER_CREATED, USER_DELETED])
@pytest.mark.parametrize(
    "external_id",
    ["u-1\n", "\x01", "u\x1b[31m", "\u202eu-1", "u\u200b1", "u\u20281", "\ufeffu-1", "u" * 256],
)
@pytest.mark.parametrize("with_subject", [False, True])
def test_an_id_that_looks_like_another_is_refused(
    external_id: str, kind: str, *, with_subject: bool
) -> None:
    """Whatever the event, and whether or not its subject says the same; the id is not repeated."""
    about = event(subject=external_id if with_subject else None, userId=external_id)

    with pytest.raises(MappingError) as caught:
        Mappings(mapping(MINIMAL)).apply(replace(about, type=kind))

    assert "invalid-value" == caught.value.code
    assert ["/user/attributes/userId"] == [one.pointer for one in caught.value.violations]
    assert external_id not in str(caught.value)


@pytest.mark.parametrize("number", [1001, 1001.0])
@pytest.mark.parametrize(
    "expression", ["data.userId", "text(data.userId)", "to_string(data.userId)"]
)
def test_one_number_is_one_id(number: float, expression: str) -> None:
    """However it is written."""
    document = mapping(MINIMAL.replace("data.userId", expression))

    assert "1001" == document.identify(event(subject="1001", userId=number)).value


@pytest.mark.parametrize("number", [9007199254740993.0, -9007199254740992.0, 1e22, 1.5])
@pytest.mark.parametrize("name", ["userId", "email", "username"])
def test_a_number_that_may_have_been_another_names_nobody(number: float, name: str) -> None:
    """Two ids are read as the same double; whole numbers without a point and an exponent are exact."""
    document = mapping(MINIMAL)

    with pytest.raises(MappingError) as caught:
        document.apply(event(subject=None, **{"userId": "u-1", name: number}))

    assert "invalid-value" == caught.value.code
    assert str(2**64 + 1) == document.identify(event(subject=None, userId=2**64 + 1)).value


@pytest.mark.parametrize(
    "external_id", ["ü-1", "u 1", "한국-1", "u" * 255, "u\u00a01", "\u0915\u094d\u200d\u0937"]
)
def test_an_id_of_visible_characters_is_taken(external_id: str) -> None:
    """Of any script, and with its joiners."""
    user = mapping(MINIMAL).apply(event(subject=None, userId=external_id))

    assert isinstance(user, DesiredUser)
    assert external_id == user.external_id.value


TEXT = st.text(alphabet="aB1 é한\0\ud800/<", max_size=4)
SCALARS = st.sampled_from([None, True, False, 0, -1, 1.5, "u1", "viewer"]) | TEXT
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=2)
FUZZED = ("userId", "email", "username", "active", "roles", "groups", "tags")
WHOLE = mapping(
    HEAD
    + USER
    + 'enabled = "data.active"'
    + ATTRIBUTES
    + 'tags = "data.tags"\n[user.groups]\nfrom = "data.groups"\n'
    + '[user.realmRoles]\nfrom = "data.roles"\nallow = ["viewer"]'
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FUZZED, JSON)))
def test_any_data_makes_a_user_or_an_event_error(data: Mapping[str, Any]) -> None:
    """Nothing else is raised, whatever the data; the user is as Keycloak stores it."""
    try:
        user = WHOLE.apply(event(subject=None, **data))
    except EventError:
        return

    assert isinstance(user, DesiredUser)
    assert user.representation["username"] == user.representation["username"].lower()
    assert all(all(values) for values in user.representation["attributes"].values())
    assert set(names(user, "realmRoles") or ()) <= {"viewer"}


HIDDEN = "the username contains a control character, or another one that nobody can see"


@pytest.mark.parametrize(
    ("usernames", "problem"),
    [
        (["ada", "ada.lovelace+news@acme.example", "ça-va_9", "山田太郎", "x" * 255], None),
        (["jd", "j", "DOM\\jdoe", "maria lopez", "josé#1", "o'donnell@acme.example"], None),
        ([f"ada{one}l" for one in "<>&\"'$%!#?§,;:*~/\\|^=[]{}()` \xa0\u3000"], None),
        ([f"ada{one}l" for one in "\t\n\0\x7f\x85\u180e\u2028\u2029\u200b\xad"], HIDDEN),
    ],
    ids=["usual", "of some realms", "any character", "hidden"],
)
def test_the_realm_decides_which_usernames_are_fine(
    usernames: list[str], problem: str | None
) -> None:
    """Only what nobody sees is refused here, and never quoted."""
    assert dict.fromkeys(usernames, problem) == {name: username_problem(name) for name in usernames}


def test_usernames_have_a_length() -> None:
    """No realm stores more than 255 characters, and every user needs one."""
    assert "no username" in (username_problem("") or "")
    assert "255" in (username_problem("x" * 256) or "")
    assert username_problem("𝒜" * 255) is None
