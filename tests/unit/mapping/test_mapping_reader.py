"""A mapping is checked as a whole before any event."""

import pytest
from mapping_cases import ATTRIBUTES, GROUPS, HEAD, MINIMAL, ROLES, USER, mapping

from keycloak_bridge.domain.errors import ConfigError

PROBLEMS = [
    ("", "matching: is missing"),
    ("", "user.username: is missing"),
    ("matching = []" + USER + ATTRIBUTES, "matching: is missing"),
    ('matching = "email"' + USER + ATTRIBUTES, "matching: must be a list of texts"),
    ('matching = ["username"]' + USER + ATTRIBUTES, "must begin with attributes.<name>"),
    ('matching = ["attributes.id"]' + USER + ATTRIBUTES, "'attributes.id' is not mapped"),
    (
        'matching = ["attributes.userID"]' + USER + ATTRIBUTES,
        "'attributes.userID' is not mapped; did you mean 'attributes.userId'?",
    ),
    (
        'matching = ["attributes.userId", "name"]' + USER + ATTRIBUTES,
        "'name' is none of username, email and attributes.<name>",
    ),
    (
        'matching = ["attributes.userId", "email", "email"]' + USER + ATTRIBUTES,
        "names a target twice",
    ),
    (
        HEAD + USER + '[user.attributes]\nuserId = { from = "data.userId", default = "x" }',
        "has a default",
    ),
    (
        HEAD + USER + '[user.attributes]\nuserId = { from = "data.userId", apply = "create" }',
        "user.attributes.userId: holds the external id",
    ),
    ("machting = 1\n" + MINIMAL, "machting: unknown key; did you mean 'matching'?"),
    ("zzz = 1\n" + MINIMAL, "zzz: unknown key; known here: matching, when"),
    ("link = 'verified_email'\n" + MINIMAL, "did you mean 'verified-email'?"),
    (
        'link = "verified-email"\nmatching = ["attributes.userId"]' + USER + ATTRIBUTES,
        "link: 'verified-email' needs 'email' in matching",
    ),
    ("reserved = 'admin'\n" + MINIMAL, "reserved: must be a list of texts"),
    ("when = 5\n" + MINIMAL, "when: must be text"),
    ("when = 'dta.active'\n" + MINIMAL, "when: 'dta' is a name"),
    ("user = 5\n" + HEAD, "user: must be a table"),
    (HEAD + USER + 'firstname = "data.given"' + ATTRIBUTES, "did you mean 'firstName'?"),
    (HEAD + USER + 'costCentre = "data.n"' + ATTRIBUTES, "stand under [user.attributes]"),
    (HEAD + USER + "enabled = true" + ATTRIBUTES, "user.enabled: must be an expression"),
    (HEAD + USER + "firstName = ''" + ATTRIBUTES, "user.firstName: must be text"),
    (
        HEAD + USER + "requiredActions = [1]" + ATTRIBUTES,
        "requiredActions: must be a list of texts",
    ),
    (
        HEAD + USER + 'requiredActions = { from = "data.tags", apply = "always" }' + ATTRIBUTES,
        "only 'create' works",
    ),
    (
        HEAD + USER + 'enabled = { from = "data.active", default = "yes" }' + ATTRIBUTES,
        "user.enabled.default: must be true or false",
    ),
    (
        HEAD + USER + 'firstName = { from = "data.given", default = ["x"] }' + ATTRIBUTES,
        "firstName.default: must be text",
    ),
    (
        HEAD + USER + 'requiredActions = { from = "data.tags", default = "x" }' + ATTRIBUTES,
        "requiredActions.default: must be a list of texts",
    ),
    (MINIMAL + "tags = 5", "user.attributes.tags: must be an expression"),
    (MINIMAL + 'tags = "data.tag"', "user.attributes.tags: 'data.tag' is not a property"),
    (MINIMAL + 'tags = { form = "data.tags" }', "tags.form: unknown key; did you mean 'from'?"),
    (MINIMAL + "tags = { default = 1 }", "tags.from: is missing"),
    (
        MINIMAL + 'tags = { from = "data.tags", apply = "creat" }',
        "tags.apply: must be one of always, create; did you mean 'create'?",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", default = 2026-01-01 }',
        "tags.default: must be text, a number, true/false, or a list of these",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", default = 1, required = true }',
        "tags.required: has no effect with a default",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", required = "yes" }',
        "tags.required: must be true or false",
    ),
    (MINIMAL + 'bridgeEventId = "id"', "bridgeEventId: is written by the bridge itself"),
    (MINIMAL + 'email = "data.email"', "map it as user.email"),
    (MINIMAL + '"" = "data.n"', "an attribute needs a name"),
    (MINIMAL + '"a b" = "data.m"', "user.attributes.\"a b\": 'data.m' is not"),
    (MINIMAL + '[user.realmRoles]\nfrom = "data.roles"', "realmRoles.allow: is missing"),
    (MINIMAL + '[user.realmRoles]\nallow = ["a"]', "realmRoles.from: is missing"),
    (MINIMAL + "[user.groups]\nfrom = 5", "user.groups.from: must be text"),
    (MINIMAL + '[user.groups]\nfrom = "data.group"', "groups.from: 'data.group' is not"),
    (MINIMAL + '[user.groups]\nfrom = "data.groups"\nprefix = 1', "groups.prefix: unknown key"),
    (
        MINIMAL + '[user.groups]\nfrom = "data.groups"\notherwise = "ignore"',
        "otherwise: has no effect without allow",
    ),
    (ROLES + 'default = ["viewr"]', "'viewr' is not in allow; did you mean 'viewer'?"),
    (ROLES + 'otherwise = "drop"', "otherwise: must be one of reject, ignore"),
    (ROLES + "removal = 'gone'", "realmRoles.removal: must be one of add-only, managed"),
    (
        MINIMAL + '[user.groups]\nfrom = "data.groups"\nremoval = "managed"',
        "groups.removal: needs allow",
    ),
    (GROUPS + 'missing = "ignore"', "groups.missing: must be one of reject, create"),
    (ROLES + 'missing = "create"', "realmRoles.missing: unknown key"),
    (
        MINIMAL + '[user.clientRoles."my app"]\nfrom = "data.roles"',
        'user.clientRoles."my app".allow: is missing: the roles',
    ),
    (
        MINIMAL + '[user.clientRoles.app]\nfrom = "data.role"\nallow = []',
        "user.clientRoles.app.from: 'data.role' is not",
    ),
    (
        MINIMAL + '[user.organizations]\nfrom = "data.orgs"',
        "user.organizations.allow: is missing: the organizations",
    ),
    (
        MINIMAL + '[user.federatedIdentities.idp]\nuserName = "data.n"',
        "user.federatedIdentities.idp.userId: is missing",
    ),
    (
        MINIMAL + '[user.federatedIdentities.idp]\nuserId = "data.n"\nfrom = "data.n"',
        "user.federatedIdentities.idp.from: unknown key",
    ),
    (
        MINIMAL + '[user.federatedIdentities.idp]\nuserId = "data.m"\nuserName = "data.o"',
        "user.federatedIdentities.idp.userName: 'data.o' is not",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", removal = "all" }',
        "tags.removal: must be one of add-only, managed",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", removal = "managed", apply = "create" }',
        'tags.removal: has no effect with apply = "create"',
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", removal = "managed", default = 1 }',
        "tags.removal: has no effect with default",
    ),
    (
        MINIMAL + 'tags = { from = "data.tags", removal = "managed", required = true }',
        "tags.removal: has no effect with default or required",
    ),
    (
        HEAD + USER + 'enabled = { from = "data.active", removal = "managed" }' + ATTRIBUTES,
        "user.enabled.removal: 'enabled' is never erased",
    ),
    (
        HEAD + '[user]\nusername = { from = "data.n", removal = "managed" }' + ATTRIBUTES,
        "user.username.removal: 'username' is never erased",
    ),
    (
        HEAD + USER + '[user.attributes]\nuserId = { from = "data.userId", removal = "managed" }',
        "user.attributes.userId: holds the external id, which is never erased",
    ),
    ("protected_groups = 'x'\n" + MINIMAL, "protected_groups: must be a list of texts"),
    (
        "protected_groups = ['staff']\n" + GROUPS,
        "user.groups.allow: '/staff' is protected by protected_groups",
    ),
    (
        "protected_groups = ['/']\n" + MINIMAL,
        "protected_groups: names no group",
    ),
    (MINIMAL + "[invite]\nactions = []", "invite.actions: is empty"),
    (MINIMAL + '[invite]\nlifespan = "3"', "invite.lifespan: not a duration"),
    (MINIMAL + '[invite]\nlifespan = "0 s"', "invite.lifespan: must be at least a second"),
    (MINIMAL + '[invite]\nlifespam = "1 h"', "did you mean 'lifespan'?"),
    (MINIMAL + "[tables]\nx = 5", "tables.x: must be a table"),
    (MINIMAL + "[tables.x]\na = { b = 1 }", "tables.x.a: must be text"),
]


@pytest.mark.parametrize(("text", "line"), PROBLEMS, ids=[line for _, line in PROBLEMS])
def test_a_mapping_that_cannot_work_is_refused(text: str, line: str) -> None:
    """The error names the file, the key, the reason and, where there is one, the nearest right word."""
    with pytest.raises(ConfigError) as caught:
        mapping(text)

    lines = caught.value.message.splitlines()
    assert caught.value.code == "mapping"
    assert all(one.startswith("m.toml: ") for one in lines)
    assert any(line in one for one in lines), caught.value.message


def test_a_mapping_that_only_identifies_needs_no_username() -> None:
    """For events that name the user and nothing else, the external id is enough."""
    text = 'matching = ["attributes.userId"]' + ATTRIBUTES

    assert "userId" == mapping(text, identifies_only=True).rules.external_id
    with pytest.raises(ConfigError, match="username: is missing"):
        mapping(text)


def test_all_problems_are_told_at_once() -> None:
    """Whoever writes a mapping sees every mistake in one run."""
    text = "zzz = 1\n" + HEAD + '[user]\nemail = "lwer(data.mail)"' + ATTRIBUTES + "x = 5"

    with pytest.raises(ConfigError) as caught:
        mapping(text)

    keys = [line.split(": ")[1] for line in caught.value.message.splitlines()]
    assert keys == [
        "zzz",
        "user.email",
        "user.email",
        "user.attributes.x",
        "matching",
        "user.username",
    ]
