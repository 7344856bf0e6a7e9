"""What the Keycloak in memory offers to tests beyond the port; the port itself is the contract suite's."""

import pytest

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.users import (
    ORGANIZATIONS,
    REALM_ROLES,
    IdentityLink,
    InvitationTerms,
    MatchCriterion,
    UserRepresentation,
    client_roles,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak, SentMail

ADA = UserRepresentation(username="ada", email="ada@acme.example", enabled=True)
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 60)


@pytest.mark.parametrize(("after_effect", "stored"), [(False, []), (True, ["ada"])])
def test_failures_come_on_demand(after_effect: bool, stored: list[str]) -> None:
    """As when Keycloak is down, or its answer is lost; failed calls are recorded too, and the next one is answered."""
    keycloak = InMemoryKeycloak()
    keycloak.fail("create", KeycloakUnavailableError("down"), after_effect=after_effect)
    keycloak.fail("get", KeycloakUnavailableError("down"), times=2)
    with pytest.raises(KeycloakUnavailableError):
        keycloak.create(ADA)
    for _ in range(2):
        with pytest.raises(KeycloakUnavailableError):
            keycloak.get("u1")

    assert keycloak.get("u1") is None
    assert keycloak.calls == ["create", "get", "get", "get"]
    assert [user["username"] for user in keycloak.users()] == stored


def test_mails_tell_recipient_language_and_terms() -> None:
    """The language is the stored locale, else the realm's."""
    keycloak = InMemoryKeycloak()
    plain = keycloak.add_user(ADA)
    german = keycloak.add_user(
        {
            "username": "ben",
            "email": "ben@acme.example",
            "enabled": True,
            "attributes": {"locale": ["de"]},
        }
    )

    for user_id in (plain, german):
        keycloak.execute_actions_email(user_id, TERMS)

    assert keycloak.mails == [
        SentMail(plain, "ada@acme.example", "en", TERMS),
        SentMail(german, "ben@acme.example", "de", TERMS),
    ]


def test_locale_vanishes_without_internationalization() -> None:
    """As in Keycloak, without an error."""
    keycloak = InMemoryKeycloak(internationalization=False)
    keycloak.add_user({"username": "ada", "attributes": {"locale": ["de"], "userId": ["u1"]}})

    assert [user["attributes"] for user in keycloak.users()] == [{"userId": ["u1"]}]


def test_all_that_a_user_has_can_be_read() -> None:
    """Without searching; deleting a group ends its memberships, and a log-in sets a password once."""
    keycloak = InMemoryKeycloak(
        groups=["/staff/engineering"],
        realm_roles=["viewer"],
        organizations=["acme"],
        identity_providers=["google"],
    )
    keycloak.add_client("shop", ["buyer"])
    user_id = keycloak.add_user({**ADA, "groups": ["staff", "/staff/engineering"]})
    link = IdentityLink("google", "1", "ada")
    keycloak.join(user_id, REALM_ROLES, ["viewer"])
    keycloak.join(user_id, client_roles("shop"), ["buyer"])
    keycloak.join(user_id, ORGANIZATIONS, ["acme"])
    keycloak.link_identity(user_id, link)
    joined = keycloak.groups_of(user_id)
    before = keycloak.has_credentials(user_id)
    keycloak.delete_group("/staff")
    for _ in range(2):
        keycloak.log_in(user_id)

    assert joined == frozenset({"/staff", "/staff/engineering"})
    assert keycloak.groups_of(user_id) == frozenset()
    assert keycloak.realm_roles_of(user_id) == frozenset({"viewer"})
    assert keycloak.members_of(user_id, client_roles("shop")) == frozenset({"buyer"})
    assert keycloak.members_of(user_id, ORGANIZATIONS) == frozenset({"acme"})
    assert (before, keycloak.has_credentials(user_id)) == (False, True)
    assert ((link,), 2) == (keycloak.identities_of(user_id), keycloak.sessions_of(user_id))


def test_account_that_an_organization_owns_does_not_leave_it() -> None:
    """Keycloak would delete the user."""
    keycloak = InMemoryKeycloak(organizations=["acme"])
    user_id = keycloak.add_user(ADA)
    keycloak.own_account(user_id, "acme")

    with pytest.raises(KeycloakRejectedError) as caught:
        keycloak.leave(user_id, ORGANIZATIONS, ["acme"])

    assert "managed-member" == caught.value.code
    assert frozenset({"acme"}) == keycloak.members_of(user_id, ORGANIZATIONS)


def test_answers_are_copies() -> None:
    """A caller that edits what it was given changes no user."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.create({**ADA, "attributes": {"userId": ["u1"]}})
    answer = keycloak.get(user_id)
    assert answer is not None
    answer["attributes"]["userId"].append("u2")

    assert [user["attributes"] for user in keycloak.users()] == [{"userId": ["u1"]}]


def test_unknown_matching_target_is_a_programming_error() -> None:
    """As in the real directory."""
    with pytest.raises(ValueError, match="firstName"):
        InMemoryKeycloak().find([MatchCriterion("firstName", "Ada")])


def test_mails_are_recorded_while_admin_events_are_on() -> None:
    """Switched on later, what was sent before is unknown."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(ADA)
    keycloak.admin_events = False
    keycloak.execute_actions_email(user_id, TERMS)
    off = keycloak.can_look_up_mails()
    keycloak.admin_events = True

    assert (False, True) == (off, keycloak.can_look_up_mails())
    assert keycloak.mail_recorded(user_id) is False


def test_who_may_not_view_events_looks_up_no_mail() -> None:
    """The role is optional, and its absence is a refusal."""
    keycloak = InMemoryKeycloak()
    keycloak.view_events = False

    assert keycloak.can_look_up_mails() is False
    with pytest.raises(KeycloakAuthError) as caught:
        keycloak.mail_recorded("u1")
    assert 403 == caught.value.status
