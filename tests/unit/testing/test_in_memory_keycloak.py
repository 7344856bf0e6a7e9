"""What the Keycloak in memory offers to tests beyond the port; the port itself is the contract suite's."""

import pytest

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.users import (
    InvitationTerms,
    UserRepresentation,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

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


def test_answers_are_copies() -> None:
    """A caller that edits what it was given changes no user."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.create({**ADA, "attributes": {"userId": ["u1"]}})
    answer = keycloak.get(user_id)
    assert answer is not None
    answer["attributes"]["userId"].append("u2")

    assert [user["attributes"] for user in keycloak.users()] == [{"userId": ["u1"]}]


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
