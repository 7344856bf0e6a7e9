"""Later mails of one user: asked for once more, or to verify a changed address."""

from dataclasses import replace

import pytest
from samples import TERMS
from timed_keycloak import TimedKeycloak

from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError, MailDeliveryError
from keycloak_bridge.domain.events import Invitation, Purpose
from keycloak_bridge.domain.users import InvitationTerms, UserRepresentation
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    due_after,
    format_mark,
    mark_of,
    parse_mark,
    with_invitation_mark,
)
from keycloak_bridge.testing.fake_clock import FakeClock

SETTLE_S = 15.0
START_S = 1_793_491_200
LIFESPAN_S = TERMS.lifespan_s
VERIFY = replace(TERMS, actions=("VERIFY_EMAIL",))


class Scene:
    """One user over time; events mark it as the provision stage does, and ask for mails."""

    def __init__(self, *, resend: str = "when-expired", ledger: bool = True) -> None:
        self.clock = FakeClock()
        self.keycloak = TimedKeycloak(self.clock)
        self.keycloak.view_events = ledger
        self.resend = resend
        self.at_most_once = False
        self.user_id = self.keycloak.add_user(
            {
                "username": "ada",
                "email": "ada@acme.example",
                "enabled": True,
                "attributes": {"userId": ["u-1"], "bridgeInvitation": ["due:event-1"]},
            }
        )
        self.restart()

    def restart(self) -> None:
        """Let another bridge take over."""
        self.inviter = Inviter(
            self.keycloak,
            clock=self.clock,
            settle_s=SETTLE_S,
            resend=self.resend,
            at_most_once=self.at_most_once,
        )

    def invitation(self, event_id: str, purpose: Purpose) -> Invitation:
        """Return the invitation that the provision stage publishes now."""
        terms: InvitationTerms = VERIFY if purpose is Purpose.VERIFY_EMAIL else TERMS
        return Invitation(
            id=f"{event_id}/invitation",
            event_id=event_id,
            user_id="u-1",
            keycloak_id=self.user_id,
            terms=terms,
            time=self.clock.now(),
            purpose=purpose,
        )

    def invite(self, invitation: Invitation) -> str:
        """Have the mail sent, waiting where the bridge wants to; return the reason or the outcome."""
        while True:
            try:
                result = self.inviter.invite(invitation).result
            except HoldError as hold:
                self.clock.advance(hold.wait_s)
            else:
                return result.reason or result.outcome.value

    def first(self) -> str:
        """Have the first invitation handled."""
        return self.invite(self.invitation("event-1", Purpose.INVITE))

    def request(self, event_id: str) -> Invitation:
        """Let the invitation be asked for once more."""
        self.write(due_after(mark_of(self.user), event_id))
        return self.invitation(event_id, Purpose.RESEND)

    def change_address(self, event_id: str, purpose: Purpose = Purpose.RESEND) -> Invitation:
        """Let the user have another address."""
        mark = parse_mark(f"due:{event_id}")
        assert mark is not None
        self.write(mark, email=f"{event_id}@acme.example", emailVerified=False)
        return self.invitation(event_id, purpose)

    def write(self, mark: InvitationMark, **fields: object) -> None:
        """Write `mark` and `fields` on the user."""
        body = {**with_invitation_mark(self.user, mark), **fields}
        self.keycloak.update(self.user_id, UserRepresentation(**body))  # type: ignore[typeddict-item]

    @property
    def user(self) -> UserRepresentation:
        """The user as Keycloak holds it."""
        (user,) = self.keycloak.users()
        return user

    @property
    def mark(self) -> str:
        """What the user remembers."""
        mark = mark_of(self.user)
        assert mark is not None
        return format_mark(mark)

    @property
    def mails(self) -> int:
        """How many mails went out."""
        return len(self.keycloak.mails)


def test_a_request_respects_a_link_that_is_alive() -> None:
    """The user has it already; the mark tells when it ends, and the event is done with."""
    scene = Scene()
    scene.first()
    scene.clock.advance(LIFESPAN_S - 1)
    again = scene.request("event-2")

    assert f"due-until:{START_S + LIFESPAN_S}:event-2" == scene.mark
    assert ("link-still-valid", 1) == (scene.invite(again), scene.mails)
    assert f"sent-until:{START_S + LIFESPAN_S}:event-2" == scene.mark
    scene.clock.advance(1)
    assert ("already-invited", 1) == (scene.invite(again), scene.mails)


def test_a_request_mails_once_the_link_has_ended() -> None:
    """And the next one respects the new link."""
    scene = Scene()
    scene.first()
    scene.clock.advance(LIFESPAN_S)
    again = scene.invite(scene.request("event-2"))
    soon = scene.invite(scene.request("event-3"))

    assert ("invited", "link-still-valid", 2) == (again, soon, scene.mails)


def test_a_request_always_mails_where_that_is_the_policy() -> None:
    """Two links are alive then, as it was chosen."""
    scene = Scene(resend="always")
    scene.first()

    assert ("invited", 2) == (scene.invite(scene.request("event-2")), scene.mails)


def test_a_changed_address_gets_a_new_link() -> None:
    """Keycloak killed the old one."""
    scene = Scene()
    scene.first()

    assert "invited" == scene.invite(scene.change_address("event-2"))
    assert ["ada@acme.example", "event-2@acme.example"] == [
        mail.email for mail in scene.keycloak.mails
    ]


def test_a_user_with_a_password_gets_no_second_invitation_but_verifies() -> None:
    """The link for a changed address asks for nothing but the address."""
    scene = Scene()
    scene.keycloak.set_password(scene.user_id)
    told = [
        scene.invite(scene.request("event-2")),
        scene.invite(scene.change_address("event-3", Purpose.RESEND)),
        scene.invite(scene.invitation("event-3", Purpose.VERIFY_EMAIL)),
    ]

    assert ["has-credentials", "has-credentials", "invited"] == told
    assert [("VERIFY_EMAIL",)] == [mail.terms.actions for mail in scene.keycloak.mails]
    assert f"sent-until:{START_S + LIFESPAN_S}:event-3" == scene.mark


def test_an_event_that_invites_again_needs_no_verification() -> None:
    """The one link does both."""
    scene = Scene()
    told = [
        scene.invite(scene.change_address("event-2", Purpose.RESEND)),
        scene.invite(scene.invitation("event-2", Purpose.VERIFY_EMAIL)),
    ]

    assert (["invited", "already-invited"], 1) == (told, scene.mails)


def test_a_verified_address_is_not_verified_again() -> None:
    """The user was faster, by another link."""
    scene = Scene()
    verification = scene.change_address("event-2", Purpose.VERIFY_EMAIL)
    mark = mark_of(scene.user)
    assert mark is not None
    scene.write(mark, emailVerified=True)

    assert ("already-verified", 0) == (scene.invite(verification), scene.mails)


def test_the_later_of_two_events_mails() -> None:
    """The first invitation was still waiting when it was asked for again."""
    scene = Scene()
    first = scene.invitation("event-1", Purpose.INVITE)
    again = scene.request("event-2")

    assert ["superseded", "invited"] == [scene.invite(first), scene.invite(again)]
    assert 1 == scene.mails


@pytest.mark.parametrize(("credentials", "expected"), [(True, "invited"), (False, "superseded")])
def test_a_request_takes_no_verification_from_a_user_with_a_password(
    credentials: bool, expected: str
) -> None:
    """The later event will not mail such a user."""
    scene = Scene()
    if credentials:
        scene.keycloak.set_password(scene.user_id)
    verification = scene.change_address("event-2", Purpose.VERIFY_EMAIL)
    scene.request("event-3")

    assert expected == scene.invite(verification)
    assert "due:event-3" == scene.mark


def test_a_lost_answer_is_not_settled_by_the_mail_before() -> None:
    """What is on record from before the request does not count as its mail."""
    scene = Scene()
    scene.first()
    scene.clock.advance(LIFESPAN_S)
    again = scene.request("event-2")
    scene.keycloak.fail("execute_actions_email", KeycloakUnavailableError("lost"))
    with pytest.raises(KeycloakUnavailableError):
        scene.inviter.invite(again)

    assert ("invited", 2) == (scene.invite(again), scene.mails)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_lost_answer_of_a_later_mail_is_looked_up(restarted: bool) -> None:
    """It is on record since it was asked for."""
    scene = Scene()
    scene.first()
    scene.clock.advance(LIFESPAN_S)
    again = scene.request("event-2")
    scene.keycloak.fail(
        "execute_actions_email", KeycloakUnavailableError("lost"), after_effect=True
    )
    with pytest.raises(KeycloakUnavailableError):
        scene.inviter.invite(again)
    if restarted:
        scene.restart()

    expected = "already-invited" if restarted else "invited"
    assert (expected, 2) == (scene.invite(again), scene.mails)


@pytest.mark.parametrize(("sent", "expected"), [(True, "link-still-valid"), (False, "invited")])
def test_a_mail_in_doubt_is_looked_up_for_the_next_event(sent: bool, expected: str) -> None:
    """A request after a lost answer neither adds a second link nor trusts a mail that never went out."""
    scene = Scene()
    scene.clock.advance(7)
    first = scene.invitation("event-1", Purpose.INVITE)
    scene.keycloak.fail(
        "execute_actions_email", KeycloakUnavailableError("lost"), after_effect=sent
    )
    with pytest.raises(KeycloakUnavailableError):
        scene.inviter.invite(first)
    again = scene.request("event-2")
    scene.restart()

    assert ["superseded", expected] == [scene.invite(first), scene.invite(again)]
    assert 1 == scene.mails


def test_a_doubtful_link_that_ends_while_it_is_waited_for() -> None:
    """Whatever is on record, the user has no link that is alive."""
    scene = Scene()
    first = scene.invitation("event-1", Purpose.INVITE)
    scene.keycloak.fail(
        "execute_actions_email", KeycloakUnavailableError("lost"), after_effect=True
    )
    with pytest.raises(KeycloakUnavailableError):
        scene.inviter.invite(first)
    scene.clock.advance(LIFESPAN_S + 55)

    assert ("invited", 2) == (scene.invite(scene.request("event-2")), scene.mails)


def test_a_refused_mail_is_no_link() -> None:
    """The SMTP server was down when the invitation was asked for again; no mail is lost by that."""
    scene = Scene()
    first = scene.invitation("event-1", Purpose.INVITE)
    with scene.keycloak.mail_outage(), pytest.raises(MailDeliveryError):
        scene.inviter.invite(first)
    again = scene.request("event-2")

    assert ["superseded", "invited"] == [scene.invite(first), scene.invite(again)]


@pytest.mark.parametrize(
    ("ledger", "at_most_once", "expected"),
    [
        (True, False, "already-invited"),
        (False, True, "maybe-invited"),
        (False, False, "invited"),
    ],
)
def test_an_invitation_that_comes_back_after_a_later_one(
    ledger: bool, at_most_once: bool, expected: str
) -> None:
    """The bridge was killed before it committed either: the mark knows of the later mail only."""
    scene = Scene(ledger=ledger, resend="always")
    first = scene.invitation("event-1", Purpose.INVITE)
    scene.invite(first)
    scene.invite(scene.request("event-2"))
    mark = scene.mark
    scene.at_most_once = at_most_once
    scene.restart()

    assert expected == scene.invite(first)
    assert (mark == scene.mark) is (expected != "invited")


def test_a_request_after_a_doubt_that_was_given_up() -> None:
    """At most once and without a record, as long as a link may be alive; then there can be no second one."""
    scene = Scene(ledger=False)
    scene.at_most_once = True
    scene.restart()
    first = scene.invitation("event-1", Purpose.INVITE)
    scene.keycloak.fail("execute_actions_email", KeycloakUnavailableError("lost"))
    with pytest.raises(KeycloakUnavailableError):
        scene.inviter.invite(first)
    told = [scene.invite(first), scene.invite(scene.request("event-2"))]
    scene.clock.advance(2 * LIFESPAN_S)
    told.append(scene.invite(scene.request("event-3")))

    assert ["maybe-invited", "maybe-invited", "invited"] == told
