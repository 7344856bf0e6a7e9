"""A mapping is checked as a whole before any event."""

import pytest
from mapping_cases import ATTRIBUTES, GROUPS, HEAD, MINIMAL, ROLES, USER, mapping

from keycloak_bridge.domain.errors import ConfigError

PROBLEMS: dict[str, list[tuple[str, str]]] = {
    "%s": [
        ("", "matching: is missing"),
        ("", "user.username: is missing"),
        (
            'link = "verified-email"\nmatching = ["attributes.userId"]' + USER + ATTRIBUTES,
            "link: 'verified-email' needs 'email' in matching",
        ),
        ("user = 5\n" + HEAD, "user: must be a table"),
        (
            HEAD + '[user]\nusername = { from = "data.n", removal = "managed" }' + ATTRIBUTES,
            "user.username.removal: 'username' is never erased",
        ),
        (
            "protected_groups = ['staff']\n" + GROUPS,
            "user.groups.allow: '/staff' is protected by protected_groups",
        ),
    ],
    "matching = %s" + USER + ATTRIBUTES: [
        ("[]", "matching: is missing"),
        ('"email"', "matching: must be a list of texts"),
        ('["email"]', "must begin with attributes.<name>"),
        # USER makes the username of an address where there is no other
        ('["username"]', "user.username: is the external id, which must be an id that never"),
        ('["username", "attributes.userId"]', "'attributes.userId' is not searched for"),
        ('["attributes.bridgeUserId"]', "is found by the username: write username"),
        ('["attributes.id"]', "'attributes.id' is not mapped"),
        (
            '["attributes.userID"]',
            "'attributes.userID' is not mapped; did you mean 'attributes.userId'?",
        ),
        (
            '["attributes.userId", "name"]',
            "'name' is none of username, email and attributes.<name>",
        ),
        ('["attributes.userId", "email", "email"]', "names a target twice"),
    ],
    "%s\n" + MINIMAL: [
        ("machting = 1", "machting: unknown key; did you mean 'matching'?"),
        ("zzz = 1", "zzz: unknown key; known here: matching, when"),
        ("link = 'verified_email'", "did you mean 'verified-email'?"),
        ("reserved = 'admin'", "reserved: must be a list of texts"),
        ("when = 5", "when: must be text"),
        ("when = 'dta.active'", "when: 'dta' is a name"),
        ("protected_groups = 'x'", "protected_groups: must be a list of texts"),
        ("protected_groups = ['/']", "protected_groups: names no group"),
    ],
    HEAD + USER + "%s" + ATTRIBUTES: [
        ('firstname = "data.given"', "did you mean 'firstName'?"),
        ('costCentre = "data.n"', "belong under [user.attributes]"),
        ("enabled = 1", "user.enabled: must be an expression (text), a table"),
        ("enabled = [true]", "or a constant: true or false"),
        ("groups = [1]", "user.groups.default: must be a list of texts"),
        ("firstName = [1]", "user.firstName: must be an expression"),
        ("firstName = ''", "user.firstName: must be text"),
        ("requiredActions = [1]", "or a constant: a list of texts"),
        ("requiredActions = true", "or a constant: a list of texts"),
        ('requiredActions = { from = "data.tags", apply = "always" }', "only 'create' works"),
        (
            'enabled = { from = "data.active", default = "yes" }',
            "user.enabled.default: must be true or false",
        ),
        ('firstName = { from = "data.given", default = ["x"] }', "firstName.default: must be text"),
        (
            'requiredActions = { from = "data.tags", default = "x" }',
            "requiredActions.default: must be a list of texts",
        ),
        (
            'enabled = { from = "data.active", removal = "managed" }',
            "user.enabled.removal: 'enabled' is never erased",
        ),
    ],
    HEAD + USER + '[user.attributes]\nuserId = { from = "data.userId", %s }': [
        ('default = "x"', "has a default"),
        ('apply = "create"', "user.attributes.userId: holds the external id"),
        (
            'removal = "managed"',
            "user.attributes.userId: holds the external id, which is never erased",
        ),
    ],
    MINIMAL + 'tags = { from = "data.tags", %s }': [
        ('apply = "creat"', "tags.apply: must be one of always, create; did you mean 'create'?"),
        (
            "default = 2026-01-01",
            "tags.default: must be text, a number, true/false, or a list of these",
        ),
        ("default = 1, required = true", "tags.required: has no effect with a default"),
        ('required = "yes"', "tags.required: must be true or false"),
        ('removal = "all"', "tags.removal: must be one of add-only, managed"),
        (
            'removal = "managed", apply = "create"',
            'tags.removal: has no effect with apply = "create"',
        ),
        ('removal = "managed", default = 1', "tags.removal: has no effect with default"),
        (
            'removal = "managed", required = true',
            "tags.removal: has no effect with default or required",
        ),
    ],
    MINIMAL + "%s": [
        ("tags = 2026-01-01", "user.attributes.tags: must be an expression"),
        ("tags = nan", "or a constant: text, a number, true/false, or a list of these"),
        ("tags = [[1]]", "or a constant: text, a number, true/false, or a list of these"),
        ('tags = "data.tag"', "user.attributes.tags: 'data.tag' is not a property"),
        ('tags = { form = "data.tags" }', "tags.form: unknown key; did you mean 'from'?"),
        ('tags = { apply = "create" }', "tags.from: is missing"),
        ('tags = "hr"', "a constant stands in single quotes inside it"),
        ('bridgeEventId = "id"', "bridgeEventId: is written by the bridge itself"),
        ('email = "data.email"', "map it as user.email"),
        ('"" = "data.n"', "an attribute needs a name"),
        ('"a b" = "data.m"', "user.attributes.\"a b\": 'data.m' is not"),
        ('[user.realmRoles]\nfrom = "data.roles"', "realmRoles.allow: is missing"),
        ('[user.realmRoles]\nallow = ["a"]', "realmRoles.from: is missing"),
        ("[user.groups]\nfrom = 5", "user.groups.from: must be text"),
        ('[user.groups]\nfrom = "data.group"', "groups.from: 'data.group' is not"),
        (
            '[user.clientRoles."my app"]\nfrom = "data.roles"',
            'user.clientRoles."my app".allow: is missing: the roles',
        ),
        (
            '[user.clientRoles.app]\nfrom = "data.role"\nallow = []',
            "user.clientRoles.app.from: 'data.role' is not",
        ),
        (
            '[user.organizations]\nfrom = "data.orgs"',
            "user.organizations.allow: is missing: the organizations",
        ),
        ("[invite]\nactions = []", "invite.actions: is empty"),
        ('[invite]\nlifespan = "3"', "invite.lifespan: not a duration"),
        ('[invite]\nlifespan = "0 s"', "invite.lifespan: must be at least a second"),
        ('[invite]\nlifespam = "1 h"', "did you mean 'lifespan'?"),
        ("[tables]\nx = 5", "tables.x: must be a table"),
        ("[tables.x]\na = { b = 1 }", "tables.x.a: must be text"),
    ],
    MINIMAL + '[user.groups]\nfrom = "data.groups"\n%s': [
        ("prefix = 1", "groups.prefix: unknown key"),
        ('otherwise = "ignore"', "otherwise: has no effect without allow"),
        ('removal = "managed"', "groups.removal: needs allow"),
    ],
    MINIMAL + "[user.federatedIdentities.idp]\n%s": [
        ('userName = "data.n"', "user.federatedIdentities.idp.userId: is missing"),
        ('userId = "data.n"\nfrom = "data.n"', "user.federatedIdentities.idp.from: unknown key"),
        (
            'userId = "data.m"\nuserName = "data.o"',
            "user.federatedIdentities.idp.userName: 'data.o' is not",
        ),
    ],
    'matching = ["username", "email"]\nlink = "verified-email"\n[user]\nemail = "data.email"\n%s\n': [
        ('username = "data.userId"', 'link: needs apply = "always" for username'),
    ],
    'matching = ["username"]\n[user]\n%s\n': [
        ("", "matching: 'username' is not mapped"),
        (
            'username = { from = "data.userId", default = "x" }',
            "matching: 'username' has a default",
        ),
        (
            'username = "lower(data.userId)"',
            "user.username: is the external id, which must be given as",
        ),
        (
            'username = "data.userId"\n[user.attributes]\nbridgeUserId = "data.userId"',
            "user.attributes.bridgeUserId: is written by the bridge itself",
        ),
    ],
    ROLES + "%s": [
        ('default = ["viewr"]', "'viewr' is not in allow; did you mean 'viewer'?"),
        ('otherwise = "drop"', "otherwise: must be one of reject, ignore"),
        ("removal = 'gone'", "realmRoles.removal: must be one of add-only, managed"),
        ('missing = "create"', "realmRoles.missing: unknown key"),
    ],
    GROUPS + "%s": [
        ('missing = "ignore"', "groups.missing: must be one of reject, create"),
    ],
}
"""What is wrong with each text, by the mapping that it is put into."""

CASES = [(whole % text, line) for whole, rows in PROBLEMS.items() for text, line in rows]


@pytest.mark.parametrize(("text", "line"), CASES, ids=[line for _, line in CASES])
def test_a_mapping_that_cannot_work_is_refused(text: str, line: str) -> None:
    """The error names the file, the key, the reason and, where there is one, the nearest valid name."""
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


def test_all_problems_are_reported_at_once() -> None:
    """The author of a mapping sees every mistake in one run."""
    text = "zzz = 1\n" + HEAD + '[user]\nemail = "lwer(data.mail)"' + ATTRIBUTES + "x = 2026-01-01"

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
