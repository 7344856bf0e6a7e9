"""Which new users may go by partial import, with which body, and who is refused in Keycloak's words."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.keycloak.import_eligibility import (
    ImportTerms,
    Judgement,
    Way,
    judge_import,
    read_peculiar,
)
from keycloak_bridge.keycloak.refusals import Call, rejected
from keycloak_bridge.keycloak.user_profile import check_user, read_profile

ADMIN = {"edit": ["admin"], "view": ["admin"]}


def attribute(name: str, **rules: Any) -> dict[str, Any]:
    """Return one of a profile that admins may write."""
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
        attribute("own-words", validations={"pattern": {"pattern": "a", "error-message": "x"}}),
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


def judge(changes: dict[str, Any] | None = None, **realm: Any) -> Judgement:
    """Judge Ada with changes, in a realm that is set differently."""
    user: Any = {**ADA, **(changes or {})}
    return judge_import(dataclasses.replace(TERMS, **realm), user)


def test_the_body_has_all_that_post_adds() -> None:
    """Role, groups and required actions of the realm on top of the user's own, each once, and nothing empty."""
    changes = {
        "username": "Ada",
        "email": "Ada@Acme.Example",
        "lastName": "",
        "attributes": {"userId": ["u1", ""], "locale": []},
        "groups": ["staff/", "/customers"],
        "requiredActions": ["VERIFY_EMAIL"],
    }

    judgement = judge(changes)

    assert judgement.way is Way.IMPORT
    assert judgement.user == {
        "username": "ada",
        "email": "ada@acme.example",
        "enabled": True,
        "attributes": {"userId": ["u1"]},
        "groups": ["/staff", "/customers"],
        "requiredActions": ["VERIFY_EMAIL", "UPDATE_PROFILE"],
        "realmRoles": ["default-roles-acme"],
    }


@pytest.mark.parametrize(
    ("changes", "realm"),
    [
        ({}, {"federated": True}),
        ({"realmRoles": ["admin"]}, {}),
        ({"username": " "}, {}),
        ({"username": " ada"}, {}),
        ({"email": "ada@acme.example "}, {}),
        ({"username": "bob@acme.example"}, {}),
        ({}, {"email_as_username": True}),
        ({"attributes": {"owned": ["x"]}}, {}),
        ({"attributes": {"plugin": ["x"]}}, {}),
        ({"attributes": {"unheard-of": ["x"]}}, {}),
        ({"attributes": {"email": ["x"]}}, {}),
        ({"attributes": {"LDAP_ID": ["x"]}}, {}),
        ({"attributes": {"saml.persistent.name.id.for.x": ["x"]}}, {}),
        ({"attributes": {"userId": [" "]}}, {}),
        ({"attributes": {"userId": ["\x00"]}}, {}),
        ({"attributes": {"userId": ["\ud800"]}}, {}),
        ({"attributes": {"own-words": ["b"]}}, {}),
        ({"attributes": {"locale": ["de"]}}, {"internationalized": False}),
        ({"requiredActions": ["NO_SUCH"]}, {}),
        ({"requiredActions": ["verify_email"]}, {}),
        ({"email": "nobody-zoë@"}, {}),
        ({}, {"wanted": frozenset({"given"})}),
        ({}, {"selected": frozenset({"some"})}),
    ],
)
def test_what_is_not_certain_goes_alone(changes: dict[str, Any], realm: dict[str, Any]) -> None:
    """POST decides, and the reason names no value."""
    judgement = judge(changes, **realm)

    assert judgement.way is Way.SINGLE
    assert judgement.reason
    assert judgement.error is None


@pytest.mark.parametrize(
    ("changes", "realm"),
    [
        ({"username": "ada@acme.example"}, {"email_as_username": True}),
        ({"username": "bob@acme.example"}, {"login_with_email": False}),
        ({"attributes": {"given": ["x"]}}, {"wanted": frozenset({"given"})}),
        ({"attributes": {"locale": ["de"]}}, {}),
    ],
)
def test_what_is_certain_is_imported(changes: dict[str, Any], realm: dict[str, Any]) -> None:
    """The counterparts of what goes alone."""
    profile = {"attributes": [*PROFILE["attributes"], attribute("given")]}

    assert judge(changes, profile=read_profile(profile), **realm).way is Way.IMPORT


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        (
            {"username": "ad"},
            {
                "field": "username",
                "errorMessage": "error-invalid-length",
                "params": ["username", 3, 255],
            },
        ),
        (
            {"email": "nobody", "attributes": {"userId": ["x" * 11]}},
            {
                "errors": [
                    {
                        "field": "email",
                        "errorMessage": "error-invalid-email",
                        "params": ["email", "nobody"],
                    },
                    {
                        "field": "userId",
                        "errorMessage": "error-invalid-length-too-long",
                        "params": ["userId", None, 10],
                    },
                ]
            },
        ),
    ],
)
def test_a_refusal_is_the_one_of_keycloaks_answer(
    changes: dict[str, Any], answer: dict[str, Any]
) -> None:
    """The very error that the answer 400 to POST becomes, but that nobody answered."""
    expected = rejected(Call("POST", "/users"), 400, answer)

    error = judge(changes).error

    assert error is not None
    assert error.args == expected.args
    assert vars(error) == {**vars(expected), "status": None}


def test_the_peculiar_attributes_of_a_profile() -> None:
    """Defaults, least counts, and what only some clients ask for."""
    profile = {
        "attributes": [
            attribute("plain", validations={"multivalued": {"max": "2"}}),
            attribute("given", defaultValue="x"),
            attribute("several", validations={"multivalued": {"min": "2", "max": "3"}}),
            attribute("some", selector={"scopes": ["phone"]}),
        ]
    }

    assert read_peculiar(profile) == (frozenset({"given", "several"}), frozenset({"some"}))


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
def test_only_the_clean_are_imported(user: Any) -> None:
    """Whatever comes: nobody is imported of whom Keycloak's profile has anything to say."""
    judgement = judge_import(TERMS, user)

    if judgement.way is Way.IMPORT:
        assert check_user(TERMS.profile, user).is_clean
        assert judge_import(TERMS, _without_role(judgement.user)).user == judgement.user
    assert (judgement.way is Way.REFUSED) == (judgement.error is not None)


def _without_role(body: Any) -> Any:
    return {name: value for name, value in body.items() if name != "realmRoles"}
