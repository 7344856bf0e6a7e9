from datetime import UTC, datetime

import pytest
from samples import TERMS

from keycloak_bridge.core.errors import (
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.core.model import Invitation, Outcome, UserRepresentation
from keycloak_bridge.inviter import Inviter
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak


def a_user(**fields: object) -> UserRepresentation:
    user: dict[str, object] = {
        "username": "ada",
        "email": "ada@acme.example",
        "enabled": True,
        "attributes": {"userId": ["u-1"], "bridgeInvitation": ["due:event-1"]},
    }
    return UserRepresentation(**{**user, **fields})  # type: ignore[typeddict-item]


def an_invitation(keycloak_id: str, event_id: str = "event-1") -> Invitation:
    return Invitation(
        id=f"{event_id}/invitation",
        event_id=event_id,
        user_id="u-1",
        keycloak_id=keycloak_id,
        terms=TERMS,
        time=datetime(2026, 11, 1, tzinfo=UTC),
    )


def test_a_due_invitation_is_mailed_and_marked() -> None:
    """The mail goes out with its terms, and the user remembers it."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert (Outcome.INVITED, user_id, "event-1") == (
        result.outcome,
        result.keycloak_id,
        result.event_id,
    )
    assert [TERMS] == [mail.terms for mail in keycloak.mails]
    assert ["sent:event-1"] == keycloak.users()[0]["attributes"]["bridgeInvitation"]
    assert "ada@acme.example" == keycloak.users()[0]["email"]


def test_the_same_invitation_again_sends_no_second_mail() -> None:
    """A redelivered invitation is recognised by the mark."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    Inviter(keycloak).invite(an_invitation(user_id))

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert (Outcome.SKIPPED, "already-invited") == (result.outcome, result.reason)
    assert 1 == len(keycloak.mails)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"enabled": False}, "user-disabled"), ({"email": ""}, "no-email")],
)
def test_a_user_who_cannot_be_invited_gets_no_mail(fields: dict[str, object], reason: str) -> None:
    """Disabled users and users without an address are skipped with the reason."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user(**fields))

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert (Outcome.SKIPPED, reason) == (result.outcome, result.reason)
    assert [] == keycloak.mails


def test_a_user_with_a_password_gets_no_mail() -> None:
    """Whoever set a password already needs no link."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    keycloak.set_password(user_id)

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert (Outcome.SKIPPED, "has-credentials") == (result.outcome, result.reason)
    assert [] == keycloak.mails


def test_a_user_that_is_gone_gets_no_mail() -> None:
    """The user was deleted before the mail was due."""
    result = Inviter(InMemoryKeycloak()).invite(an_invitation("no-such-user"))

    assert (Outcome.SKIPPED, "user-not-found") == (result.outcome, result.reason)


def test_a_failed_mail_stays_due() -> None:
    """An SMTP outage leaves the mark as it was, so that the next attempt mails."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    with keycloak.mail_outage(), pytest.raises(MailDeliveryError):
        Inviter(keycloak).invite(an_invitation(user_id))

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert Outcome.INVITED == result.outcome
    assert 1 == len(keycloak.mails)


def test_a_mark_that_fails_is_written_without_a_second_mail() -> None:
    """Keycloak went away right after the mail: the next attempt only marks the user."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    inviter = Inviter(keycloak)
    keycloak.fail("update", KeycloakUnavailableError("gone"))
    with pytest.raises(KeycloakUnavailableError):
        inviter.invite(an_invitation(user_id))

    result = inviter.invite(an_invitation(user_id))

    assert Outcome.INVITED == result.outcome
    assert 1 == len(keycloak.mails)
    assert ["sent:event-1"] == keycloak.users()[0]["attributes"]["bridgeInvitation"]


def test_a_user_that_vanishes_while_asked_gets_no_mail() -> None:
    """Deleted between two questions is deleted all the same, and no dead letter."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    keycloak.fail("has_credentials", KeycloakNotFoundError("gone"))

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert (Outcome.SKIPPED, "user-not-found") == (result.outcome, result.reason)
    assert [] == keycloak.mails


def test_a_refused_mark_does_not_undo_the_mail() -> None:
    """The mail is out: the invitation is done, whatever Keycloak thinks of the user by now."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    keycloak.fail("update", KeycloakRejectedError("refused"))

    result = Inviter(keycloak).invite(an_invitation(user_id))

    assert Outcome.INVITED == result.outcome
    assert 1 == len(keycloak.mails)
