"""What of a realm is read before users are imported."""

from typing import Any

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.keycloak.import_eligibility import ImportTerms
from keycloak_bridge.keycloak.partial_import import read_import_terms
from keycloak_bridge.keycloak.user_profile import read_profile

PROFILE = {"attributes": [{"name": "given", "defaultValue": "x"}]}
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
    "duplicateEmailsAllowed": True,
}
KNOWN = [{"providerId": "declarative-user-profile"}]


def script(*answers: object) -> KeycloakScript:
    """Return a Keycloak that says these one after another."""
    keycloak = KeycloakScript()
    for answer in answers:
        keycloak.stub.answer(200, answer)
    return keycloak


def test_the_terms_of_a_realm() -> None:
    """Five calls; a required action that is switched off is no default."""
    keycloak = script(REALM, PROFILE, ACTIONS, KNOWN, [])

    terms = read_import_terms(keycloak.admin)

    assert terms == ImportTerms(
        profile=read_profile(PROFILE),
        default_role="default-roles-acme",
        default_groups=("/customers",),
        default_actions=("UPDATE_PROFILE",),
        known_actions=frozenset({"UPDATE_PROFILE", "TERMS_AND_CONDITIONS", "VERIFY_EMAIL"}),
        email_as_username=True,
        login_with_email=False,
        duplicate_emails=True,
        internationalized=True,
        wanted=frozenset({"given"}),
    )
    assert keycloak.sent() == [
        "GET ",
        "GET /users/profile",
        "GET /authentication/required-actions",
        "GET /components",
        "GET /components",
    ]


@pytest.mark.parametrize(
    ("profiles", "storages"),
    [(KNOWN, [{"providerId": "ldap"}]), ([{"providerId": "of-a-plugin"}], [])],
    ids=["ldap", "foreign-profile"],
)
def test_users_that_go_elsewhere(profiles: list[object], storages: list[object]) -> None:
    """Where somebody else's code decides about users, nothing is known of it."""
    keycloak = script(REALM, PROFILE, ACTIONS, profiles, storages)

    assert read_import_terms(keycloak.admin).federated


def test_a_realm_without_a_default_role_is_not_understood() -> None:
    """The account may see too little of the realm, or it is none of Keycloak's answers."""
    with pytest.raises(KeycloakUnavailableError):
        read_import_terms(script({"realm": "acme"}).admin)


def test_a_missing_role_is_named() -> None:
    """Whoever reads the log sees what to grant."""
    keycloak = script(REALM, PROFILE)
    keycloak.stub.answer(403, {"error": "HTTP 403 Forbidden"})

    with pytest.raises(KeycloakAuthError) as caught:
        read_import_terms(keycloak.admin)

    assert "manage-realm" in str(caught.value.remedy)
