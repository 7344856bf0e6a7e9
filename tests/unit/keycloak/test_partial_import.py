"""Partial import: which new users may go by it, with which body, when it is available, and what its answer says."""

import base64
import dataclasses
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.partial_import import (
    ImportTerms,
    KeycloakUserImporter,
    import_body,
    read_import_terms,
)
from keycloak_bridge.keycloak.user_profile import read_profile, uncertain_fields

ADMIN = {"edit": ["admin"], "view": ["admin"]}


def attribute(name: str, **rules: Any) -> dict[str, Any]:
    return {"name": name, "permissions": ADMIN, **rules}


PROFILE: dict[str, Any] = {
    "attributes": [
        attribute("username", validations={"length": {"min": 3, "max": 255}}),
        attribute("email", validations={"email": {}, "length": {"max": 255}}),
        attribute("firstName", validations={"person-name-prohibited-characters": {}}),
        attribute("lastName"),
        attribute("userId", validations={"length": {"max": 10}}),
        attribute("plugin", validations={"of-a-plugin": {}}),
        attribute("owned", permissions={"edit": ["user"], "view": ["admin"]}),
    ]
}
TERMS = ImportTerms(
    read_profile(PROFILE),
    "default-roles-acme",
    default_groups=("/customers",),
    default_actions=("UPDATE_PROFILE",),
    known_actions=frozenset({"UPDATE_PROFILE", "VERIFY_EMAIL"}),
    internationalized=True,
)
ADA: dict[str, Any] = {
    "username": "ada",
    "email": "ada@acme.example",
    "enabled": True,
    "attributes": {"userId": ["u1"]},
}


def body_of(changes: dict[str, Any] | None = None, **realm: Any) -> Any:
    user: Any = {**ADA, **(changes or {})}
    return import_body(dataclasses.replace(TERMS, **realm), user)


@pytest.mark.parametrize(
    ("changes", "realm"),
    [
        ({}, {"post_only": True}),
        ({"username": " "}, {}),
        ({"username": " ada"}, {}),
        ({}, {"email_as_username": True}),
        ({"attributes": {"saml.persistent.name.id.for.x": ["x"]}}, {}),
        ({"attributes": {"userId": ["\x00"]}}, {}),
        ({"attributes": {"userId": ["\ud800"]}}, {}),
        ({"attributes": {"locale": ["de"]}}, {"internationalized": False}),
    ],
)
def test_what_is_not_certain_is_left_to_post(
    changes: dict[str, Any], realm: dict[str, Any]
) -> None:
    """The rest of what only Keycloak can tell is tried on the real one, in tests/integration/import_cases.py."""
    assert body_of(changes, **realm) is None


_TEXTS = st.text(max_size=12) | st.sampled_from(["ada", "ada@acme.example", "<", "u1"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("username", "email", "firstName", "lastName"), _TEXTS),
            "enabled": st.booleans(),
            "attributes": st.dictionaries(
                st.sampled_from(["userId", "plugin", "owned", "locale", "other"]),
                st.lists(_TEXTS, max_size=2),
            ),
            "requiredActions": st.lists(st.sampled_from(["VERIFY_EMAIL", "NO_SUCH"])),
        },
    )
)
def test_only_the_certain_are_imported(user: Any) -> None:
    """No user is imported about whom Keycloak's profile has anything to say; a body is its own body again."""
    body: Any = import_body(TERMS, user)

    if body is not None:
        assert not uncertain_fields(TERMS.profile, user)
        without_role = {name: value for name, value in body.items() if name != "realmRoles"}
        assert import_body(TERMS, without_role) == body  # type: ignore[arg-type]


# the terms of a realm

TERMS_PROFILE = {
    "attributes": [
        attribute("plain", validations={"multivalued": {"max": "2"}}),
        attribute("given", defaultValue="x"),
        attribute("several", validations={"multivalued": {"min": "2", "max": "3"}}),
    ]
}
SELECTIVE = {"attributes": [attribute("some", selector={"scopes": ["phone"]})]}
ACTIONS = [
    {"alias": "UPDATE_PROFILE", "enabled": True, "defaultAction": True},
    {"alias": "TERMS_AND_CONDITIONS", "enabled": False, "defaultAction": True},
    {"alias": "VERIFY_EMAIL", "enabled": True, "defaultAction": False},
]
REALM: dict[str, Any] = {
    "defaultRole": {"name": "default-roles-acme"},
    "defaultGroups": ["/customers"],
    "internationalizationEnabled": True,
    "registrationEmailAsUsername": True,
    "loginWithEmailAllowed": False,
}
FORBIDDEN = (403, {"error": "HTTP 403 Forbidden"})
KNOWN = [{"providerId": "declarative-user-profile"}]


ANSWERS: tuple[object, ...] = (REALM, TERMS_PROFILE, ACTIONS, KNOWN, [])


class Bench(KeycloakScript):
    """The subject over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.importer = KeycloakUserImporter(self.admin, self.clock)


@pytest.fixture
def bench() -> Bench:
    """A fresh one, whose tokens do not name their roles."""
    return Bench()


APOSTROPHE: dict[str, Any] = {
    **ADA,
    "username": "o'donnell@acme.example",
    "email": "o'donnell@acme.example",
}


@pytest.mark.parametrize("email_as_username", [True, False])
def test_an_address_as_username_may_have_any_character(
    bench: Bench, email_as_username: bool
) -> None:
    """As POST takes it, in a realm that makes it the username; elsewhere POST must refuse it."""
    rules = {"username-prohibited-characters": {}, "length": {"min": 3, "max": 255}}
    profile = {"attributes": [attribute("username", validations=rules), *PROFILE["attributes"][1:]]}
    realm = {**REALM, "registrationEmailAsUsername": email_as_username}
    bench.answers(realm, profile, ACTIONS, KNOWN, [])

    body = import_body(read_import_terms(bench.admin), cast("UserRepresentation", APOSTROPHE))

    assert email_as_username is (body is not None)


@pytest.mark.parametrize("username", ["jd", "DOM\\jdoe", "maria lopez", "josé#1", "plain"])
def test_a_realm_without_rules_for_usernames_imports_any(username: str) -> None:
    """The live profile decides about a batch, as it does about POST."""
    profile = {"attributes": [attribute("username"), *PROFILE["attributes"][1:]]}

    assert body_of({"username": username}, profile=read_profile(profile)) is not None


@pytest.mark.parametrize(
    ("profile", "providers", "storages"),
    [
        (TERMS_PROFILE, KNOWN, [{"providerId": "ldap"}]),
        (TERMS_PROFILE, [{"providerId": "of-a-plugin"}], []),
        (SELECTIVE, KNOWN, []),
    ],
    ids=["ldap", "foreign-profile", "selector"],
)
def test_realms_in_which_only_post_can_tell(
    bench: Bench, profile: object, providers: list[object], storages: list[object]
) -> None:
    """Another store, another provider's profile, or rules for some clients only."""
    bench.answers(REALM, profile, ACTIONS, providers, storages)

    assert read_import_terms(bench.admin).post_only


def test_a_realm_without_a_default_role_is_not_understood(bench: Bench) -> None:
    """The account may see too little of the realm, or the answer is not Keycloak's."""
    bench.answers({"realm": "acme"})

    with pytest.raises(KeycloakUnavailableError):
        read_import_terms(bench.admin)


def test_a_missing_role_is_named(bench: Bench) -> None:
    """The log says what to grant."""
    bench.answers(REALM, TERMS_PROFILE, FORBIDDEN)

    with pytest.raises(KeycloakAuthError) as caught:
        read_import_terms(bench.admin)

    assert "manage-realm" in str(caught.value.remedy)


# the importer


def token(*roles: str) -> str:
    claims = {"resource_access": {"realm-management": {"roles": roles}}}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


def users(*names: str) -> list[UserRepresentation]:
    return [UserRepresentation(username=name) for name in names]


@pytest.mark.parametrize(
    ("access_token", "expected"),
    [
        (token("manage-realm"), True),
        (token("realm-admin"), True),
        (token("manage-users", "view-realm"), False),
        ("opaque", True),
    ],
)
def test_it_takes_the_role(bench: Bench, access_token: str, expected: bool) -> None:
    """A token that does not name its roles is tried."""
    bench.stub.token = access_token
    bench.answers(*ANSWERS)

    assert bench.importer.available() is expected
    assert bool(bench.sent()) is expected


def test_the_realm_is_read_again_after_half_a_minute(bench: Bench) -> None:
    """However often it is asked meanwhile."""
    bench.answers(*ANSWERS, *ANSWERS)
    for _ in range(3):
        assert bench.importer.available()
    once = len(bench.sent())
    bench.clock.advance(31.0)
    bench.importer.available()

    assert (len(ANSWERS), 2 * len(ANSWERS)) == (once, len(bench.sent()))


def test_a_role_that_is_granted_later_is_seen(bench: Bench) -> None:
    """Within some minutes, with the next token."""
    bench.answers(*ANSWERS)
    bench.stub.token = token("manage-users")
    before = bench.importer.available()
    bench.stub.token = token("manage-realm")
    soon = bench.importer.available()
    bench.clock.advance(301.0)

    assert (before, soon, bench.importer.available()) == (False, False, True)


def test_a_realm_that_cannot_be_read_is_not_imported_into(bench: Bench) -> None:
    """It is asked again soon: one failed call costs no batches for half a minute."""
    bench.answers(503, *ANSWERS)
    before, at_once = bench.importer.available(), bench.importer.available()
    bench.clock.advance(2.0)

    assert (before, at_once, bench.importer.available()) == (False, False, True)


def test_a_refusal_switches_imports_off_for_a_while(bench: Bench) -> None:
    """Users are written one by one until then."""
    bench.answers(*ANSWERS, FORBIDDEN)
    before = bench.importer.available()
    with pytest.raises(KeycloakAuthError):
        bench.importer.import_users(users("ada"))

    assert (before, bench.importer.available()) == (True, False)
    assert bench.importer.import_body(users("ada")[0]) is None


def test_each_user_gets_its_own_result(bench: Bench) -> None:
    """In the order of the question, whatever the order and spelling of the answer."""
    results = [
        {"action": "SKIPPED", "resourceName": "eve", "id": "id-eve"},
        {"action": "ADDED", "resourceName": "Ada", "id": "id-ada"},
        {"action": "ADDED", "resourceName": "bob", "id": "id-bob"},
    ]
    bench.answers({"results": results})

    assert bench.importer.import_users(users("ada", "bob", "eve")) == ["id-ada", "id-bob", None]
    assert {"ifResourceExists": "SKIP", "users": users("ada", "bob", "eve")} == (
        bench.stub.requests[0].json
    )


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": []},
        {"results": [{"action": "ADDED", "resourceName": "other", "id": "id"}]},
        {"results": [{"action": "ADDED", "resourceName": "ada"}]},
    ],
)
def test_an_answer_without_one_of_the_users_is_not_keycloaks(
    bench: Bench, answer: dict[str, Any]
) -> None:
    """The users are searched for then."""
    bench.answers(answer)
    with pytest.raises(KeycloakUnavailableError) as raised:
        bench.importer.import_users(users("ada"))

    assert raised.value.code == "not-keycloak"
