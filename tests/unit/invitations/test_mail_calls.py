"""What a mail costs: the calls to Keycloak's Admin REST API, as they go over the wire."""

import pytest
from keycloak_script import KeycloakScript
from samples import a_due_user, an_invitation

from keycloak_bridge.domain.events import Invitation
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.planning.ownership import OwnUsers

GET, CREDENTIALS = "GET /users/k1", "GET /users/k1/credentials"
GROUPS, RECORDED = "GET /users/k1/groups", "GET /events/config"
PUT, MAIL = "PUT /users/k1", "PUT /users/k1/execute-actions-email"
INVITATION = an_invitation("k1")


def inviter(
    keycloak: KeycloakScript, *, recorded: bool, protected: frozenset[str] = frozenset()
) -> Inviter:
    """Return the subject once it has asked whether mails are recorded, which it does once a minute."""
    directory = KeycloakUserDirectory(keycloak.admin, keycloak.clock)
    keycloak.answers({"adminEventsEnabled": recorded})
    assert recorded is directory.can_look_up_mails()
    keycloak.stub.requests.clear()
    return Inviter(directory, OwnUsers("userId", protected_groups=protected), clock=keycloak.clock)


def a_user() -> UserRepresentation:
    """Return the user as Keycloak shows it."""
    return UserRepresentation(**{**a_due_user(), "id": "k1"})


@pytest.mark.parametrize(
    ("recorded", "protected", "calls"),
    [
        (True, frozenset(), [GET, CREDENTIALS, PUT, MAIL]),
        (True, frozenset({"/admins"}), [GET, GROUPS, CREDENTIALS, PUT, MAIL]),
        (False, frozenset(), [GET, CREDENTIALS, PUT, MAIL, GET, PUT]),
    ],
)
def test_the_calls_of_a_mail(recorded: bool, protected: frozenset[str], calls: list[str]) -> None:
    """Four; one more for the groups where some are protected, two more where Keycloak does not record the mail."""
    keycloak = KeycloakScript()
    subject = inviter(keycloak, recorded=recorded, protected=protected)
    answers = {GET: a_user(), CREDENTIALS: [], GROUPS: [], PUT: 204, MAIL: 204}
    keycloak.answers(*(answers[call] for call in calls))

    assert subject.invite(INVITATION).mailed
    assert calls == keycloak.sent()


@pytest.mark.parametrize(
    ("invitation", "answers", "calls"),
    [
        (INVITATION, [(404, {"error": "User not found"})], [GET]),
        (an_invitation("k1", "event-0"), [a_user()], [GET]),
        (INVITATION, [a_user(), [{"type": "password"}]], [GET, CREDENTIALS]),
    ],
)
def test_no_mail_costs_less(
    invitation: Invitation, answers: list[object], calls: list[str]
) -> None:
    """Whoever is gone, was invited by a later event, or has a password gets none."""
    keycloak = KeycloakScript()
    subject = inviter(keycloak, recorded=True)
    keycloak.answers(*answers)

    assert not subject.invite(invitation).mailed
    assert calls == keycloak.sent()
