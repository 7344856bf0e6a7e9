"""One invitation, one mail: in good times, after failures, and where nobody can tell."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from samples import TERMS

from keycloak_bridge.delivery.rate_limit import RateLimiter
from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.invitations.inviter import InviteOutcome, Inviter
from keycloak_bridge.keycloak.errors import EXECUTE_ACTIONS_EMAIL, Call, error_for, keycloak_error
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

MAIL = Call("PUT", EXECUTE_ACTIONS_EMAIL)
TOKEN = Call("POST", "/protocol/openid-connect/token")
SETTLE_S = 15.0


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


def plain(mark: str) -> str:
    """Return the mark without the end of a link."""
    return re.sub("-(until|perhaps):[0-9]+", "", mark)


def test_a_due_invitation_is_mailed_and_marked() -> None:
    """The mail goes out with its terms, and the user remembers it."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

    assert (Outcome.INVITED, user_id, "event-1") == (
        result.outcome,
        result.keycloak_id,
        result.event_id,
    )
    assert [TERMS] == [mail.terms for mail in keycloak.mails]
    (mark,) = keycloak.users()[0]["attributes"]["bridgeInvitation"]
    assert "sent:event-1" == plain(mark)
    assert "ada@acme.example" == keycloak.users()[0]["email"]


def test_the_same_invitation_again_sends_no_second_mail() -> None:
    """A redelivered invitation is recognised by the mark."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id))

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

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

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

    assert (Outcome.SKIPPED, reason) == (result.outcome, result.reason)
    assert [] == keycloak.mails


def test_a_user_with_a_password_gets_no_mail() -> None:
    """Whoever set a password already needs no link."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    keycloak.set_password(user_id)

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

    assert (Outcome.SKIPPED, "has-credentials") == (result.outcome, result.reason)
    assert [] == keycloak.mails


def test_a_user_that_is_gone_gets_no_mail() -> None:
    """The user was deleted before the mail was due."""
    result = (
        Inviter(InMemoryKeycloak(), clock=FakeClock()).invite(an_invitation("no-such-user")).result
    )

    assert (Outcome.SKIPPED, "user-not-found") == (result.outcome, result.reason)


def test_a_failed_mail_stays_due() -> None:
    """An SMTP outage leaves the mark as it was, so that the next attempt mails."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    with keycloak.mail_outage(), pytest.raises(MailDeliveryError):
        Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id))

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

    assert Outcome.INVITED == result.outcome
    assert 1 == len(keycloak.mails)


def test_a_user_that_vanishes_while_asked_gets_no_mail() -> None:
    """Deleted between two questions is deleted all the same, and no dead letter."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(a_user())
    keycloak.fail("has_credentials", KeycloakNotFoundError("gone"))

    result = Inviter(keycloak, clock=FakeClock()).invite(an_invitation(user_id)).result

    assert (Outcome.SKIPPED, "user-not-found") == (result.outcome, result.reason)
    assert [] == keycloak.mails


# no mail twice


def lost(status: int | None = None, path: str = MAIL.path) -> KeycloakUnavailableError:
    """Return what a call raises whose answer was lost."""
    return KeycloakUnavailableError(
        "lost", code="keycloak-no-answer", status=status, method="PUT", path=path
    )


class Scene:
    """A realm with one user who is due, and bridges that come and go."""

    def __init__(self, *, ledger: bool = True, mark: str = "due:event-1") -> None:
        self.keycloak = InMemoryKeycloak()
        self.keycloak.view_events = ledger
        self.clock = FakeClock()
        self.user_id = self.keycloak.add_user(
            a_user(attributes={"userId": ["u-1"], "bridgeInvitation": [mark]})
        )

    def bridge(self, *, at_most_once: bool = False, pace: RateLimiter | None = None) -> Inviter:
        """Start a bridge, which knows nothing of those before it."""
        return Inviter(
            self.keycloak,
            pace=pace,
            clock=self.clock,
            settle_s=SETTLE_S,
            at_most_once=at_most_once,
        )

    def invite(self, inviter: Inviter) -> InviteOutcome:
        """Have the one invitation handled."""
        return inviter.invite(an_invitation(self.user_id))

    def invite_later(self, inviter: Inviter) -> InviteOutcome:
        """Have the one invitation handled by a bridge that finds it announced, which must wait first."""
        with pytest.raises(HoldError) as caught:
            self.invite(inviter)
        assert ("mail-in-doubt", SETTLE_S) == (caught.value.code, caught.value.wait_s)
        self.settle()
        return self.invite(inviter)

    def fails(self, inviter: Inviter, error: BridgeError, *, after_effect: bool = False) -> None:
        """Have the mail fail; `after_effect` with the mail sent."""
        self.keycloak.fail("execute_actions_email", error, after_effect=after_effect)
        with pytest.raises(type(error)):
            self.invite(inviter)

    def announce(self, inviter: Inviter) -> None:
        """Have the user marked before the mail, and the mail refused, so that only the last mark remains to write."""
        self.fails(inviter, MailDeliveryError("refused"))

    def settle(self) -> None:
        """Let the time pass in which a mail may still be on its way."""
        self.clock.advance(SETTLE_S)

    @property
    def mark(self) -> str:
        """What the user remembers, but for the end of a link."""
        return plain(self.whole_mark)

    @property
    def whole_mark(self) -> str:
        """What the user remembers."""
        (user,) = self.keycloak.users()
        return user["attributes"]["bridgeInvitation"][0]

    @property
    def mails(self) -> int:
        """How many mails went out."""
        return len(self.keycloak.mails)


def told(outcome: InviteOutcome) -> tuple[str, str | None, bool]:
    """Return what is told, in short."""
    return outcome.result.outcome.value, outcome.result.reason, outcome.mailed


def test_a_mail_says_that_it_went_out() -> None:
    """Whoever counts mails can."""
    scene = Scene()

    assert ("invited", None, True) == told(scene.invite(scene.bridge()))
    assert "sent-until:1793494800:event-1" == scene.whole_mark
    assert ("skipped", "already-invited", False) == told(scene.invite(scene.bridge()))


def test_a_mark_written_late_is_no_second_mail() -> None:
    """The news is that the user is invited; the mail was sent by the attempt before."""
    scene = Scene()
    bridge = scene.bridge()
    scene.announce(bridge)
    scene.keycloak.fail("update", KeycloakUnavailableError("gone"))
    with pytest.raises(KeycloakUnavailableError):
        scene.invite(bridge)
    mails = scene.mails

    assert ("invited", None, False) == told(scene.invite(bridge))
    assert (1, 1, "sent:event-1") == (mails, scene.mails, scene.mark)


@pytest.mark.parametrize(
    "error",
    [
        KeycloakRejectedError("refused"),
        KeycloakConflictError("taken"),
        KeycloakNotFoundError("gone"),
    ],
)
def test_a_refused_mark_does_not_undo_the_mail(error: BridgeError) -> None:
    """The mail is out: the invitation is done, whatever Keycloak thinks of the user by now."""
    scene = Scene()
    bridge = scene.bridge()
    scene.announce(bridge)
    scene.keycloak.fail("update", error)

    assert ("invited", None, True) == told(scene.invite(bridge))
    assert 1 == scene.mails


@pytest.mark.parametrize("at_most_once", [False, True])
def test_a_mail_on_record_is_not_sent_again_by_the_next_bridge(at_most_once: bool) -> None:
    """Killed between the mail and the mark: Keycloak's admin events remember."""
    scene = Scene()
    scene.fails(scene.bridge(), lost(), after_effect=True)

    outcome = scene.invite_later(scene.bridge(at_most_once=at_most_once))

    assert ("skipped", "already-invited", False) == told(outcome)
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


@pytest.mark.parametrize("at_most_once", [False, True])
@pytest.mark.parametrize("sent", [False, True])
def test_a_lost_answer_is_looked_up(sent: bool, at_most_once: bool) -> None:
    """After the time to settle the ledger knows: the mail is told as sent, or sent now; in either mode."""
    scene = Scene()
    bridge = scene.bridge(at_most_once=at_most_once)
    scene.fails(bridge, lost(), after_effect=sent)
    scene.settle()

    assert ("invited", None, not sent) == told(scene.invite(bridge))
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


@pytest.mark.parametrize("ledger", [True, False])
def test_a_mail_in_doubt_waits_without_a_call(ledger: bool) -> None:
    """While the mail may be on its way nothing is asked and nothing is sent; the wait is exact."""
    scene = Scene(ledger=ledger)
    bridge = scene.bridge()
    scene.fails(bridge, lost())
    calls = list(scene.keycloak.calls)
    scene.clock.advance(5.0)

    with pytest.raises(HoldError) as caught:
        scene.invite(bridge)

    assert ("mail-in-doubt", SETTLE_S - 5.0) == (caught.value.code, caught.value.wait_s)
    assert calls == scene.keycloak.calls


def test_without_a_ledger_a_lost_answer_is_mailed_again_at_least_once() -> None:
    """Rather twice than never."""
    scene = Scene(ledger=False)
    bridge = scene.bridge()
    scene.fails(bridge, lost(), after_effect=True)
    mark = scene.mark
    scene.settle()

    assert ("invited", None, True) == told(scene.invite(bridge))
    assert ("sending:event-1", "sent:event-1", 2) == (mark, scene.mark, scene.mails)


@pytest.mark.parametrize("same_bridge", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_without_a_ledger_a_lost_answer_is_never_mailed_again_at_most_once(
    same_bridge: bool, sent: bool
) -> None:
    """Rather never than twice, by this bridge and by the next; user management is told."""
    scene = Scene(ledger=False)
    bridge = scene.bridge(at_most_once=True)
    scene.fails(bridge, lost(), after_effect=sent)
    scene.settle()
    if same_bridge:
        outcome = scene.invite(bridge)
    else:
        outcome = scene.invite_later(scene.bridge(at_most_once=True))

    assert ("skipped", "maybe-invited", False) == told(outcome)
    assert (int(sent), "sent:event-1") == (scene.mails, scene.mark)


def test_without_a_ledger_the_next_bridge_mails_again_at_least_once() -> None:
    """A mark of the bridge before says no more than that the mail may be out."""
    scene = Scene(ledger=False, mark="sending:event-1")

    assert ("invited", None, True) == told(scene.invite_later(scene.bridge()))
    assert "sent:event-1" == scene.mark


@pytest.mark.parametrize("at_most_once", [False, True])
def test_an_announced_mail_that_is_not_on_record_is_sent(at_most_once: bool) -> None:
    """Killed between the announcement and the mail: the ledger knows, and the invitation is not lost."""
    scene = Scene(mark="sending:event-1")

    outcome = scene.invite_later(scene.bridge(at_most_once=at_most_once))

    assert ("invited", None, True) == told(outcome)
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


def test_a_mail_that_another_bridge_is_just_sending_is_waited_for() -> None:
    """It is not on record yet when this bridge takes over, and marked when the wait is over."""
    scene = Scene(mark="sending:event-1")
    bridge = scene.bridge()
    with pytest.raises(HoldError):
        scene.invite(bridge)
    scene.keycloak.execute_actions_email(scene.user_id, TERMS)
    scene.settle()

    assert ("skipped", "already-invited", False) == told(scene.invite(bridge))
    assert 1 == scene.mails


DEFINITE: list[BridgeError] = [
    MailDeliveryError("refused", status=500, path=MAIL.path),
    KeycloakUnavailableError("no", code="keycloak-unreachable", path=MAIL.path),
    KeycloakUnavailableError("busy", code="keycloak-busy", status=429, path=MAIL.path),
    KeycloakAuthError("no", status=403, path=MAIL.path),
    KeycloakAuthError("the secret's file is being replaced"),
    KeycloakRejectedError("no", status=400, path=MAIL.path),
    KeycloakConflictError("no", status=409, path=MAIL.path),
    lost(path=TOKEN.path),
    lost(status=503, path="/users/{id}"),
    keycloak_error(code="not-keycloak", call=MAIL, status=302),
    error_for(MAIL, 500, {"errorMessage": "Failed to send"}),
]
IN_DOUBT: list[BridgeError] = [
    lost(),
    KeycloakUnavailableError("tls", code="keycloak-tls", path=MAIL.path),
    KeycloakUnavailableError("a port that names no path"),
    error_for(MAIL, 500, {"error": "unknown_error"}),
    error_for(MAIL, 500, None),
    error_for(MAIL, 502, None),
    error_for(MAIL, 503, None),
    error_for(MAIL, 504, None),
    keycloak_error(code="not-keycloak", call=MAIL, status=200),
]


@pytest.mark.parametrize("at_most_once", [False, True])
@pytest.mark.parametrize("ledger", [False, True])
@pytest.mark.parametrize("error", DEFINITE, ids=lambda error: f"{error.code}-{error.status}")
def test_a_definite_failure_is_mailed_at_once(
    error: BridgeError, ledger: bool, at_most_once: bool
) -> None:
    """What certainly sent nothing leaves no doubt, in any mode."""
    scene = Scene(ledger=ledger)
    bridge = scene.bridge(at_most_once=at_most_once)
    scene.fails(bridge, error)

    assert ("invited", None, True) == told(scene.invite(bridge))
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


@pytest.mark.parametrize("error", IN_DOUBT, ids=lambda error: f"{error.code}-{error.status}")
def test_an_answer_that_says_nothing_leaves_a_doubt(error: BridgeError) -> None:
    """No answer, Keycloak's bare 500, and whatever something in front of it made up."""
    scene = Scene()
    bridge = scene.bridge()
    scene.fails(bridge, error)

    with pytest.raises(HoldError):
        scene.invite(bridge)


def test_a_bug_in_the_call_leaves_a_doubt() -> None:
    """What nobody foresaw may have happened after the mail."""
    scene = Scene()
    bridge = scene.bridge()
    scene.keycloak.fail("execute_actions_email", ZeroDivisionError())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        scene.invite(bridge)

    with pytest.raises(HoldError):
        scene.invite(bridge)


def test_after_a_restart_at_most_once_cannot_know_of_a_refused_mail() -> None:
    """The mark says that a mail may be out, and nothing says otherwise."""
    scene = Scene(ledger=False)
    scene.fails(scene.bridge(at_most_once=True), MailDeliveryError("refused"))

    outcome = scene.invite_later(scene.bridge(at_most_once=True))

    assert ("skipped", "maybe-invited", False) == told(outcome)


def test_an_announcement_whose_answer_was_lost_is_no_mail() -> None:
    """The mark may be there although its call failed; this bridge knows that it did not mail."""
    scene = Scene(ledger=False)
    bridge = scene.bridge(at_most_once=True)
    scene.keycloak.fail("update", KeycloakUnavailableError("lost"), after_effect=True)
    with pytest.raises(KeycloakUnavailableError):
        scene.invite(bridge)
    mark = scene.mark

    assert ("invited", None, True) == told(scene.invite(bridge))
    assert ("sending:event-1", 1) == (mark, scene.mails)


def test_a_refused_announcement_stops_the_mail_at_most_once() -> None:
    """Without the mark the promise could not be kept after a crash."""
    scene = Scene(ledger=False)
    scene.keycloak.fail("update", KeycloakRejectedError("refused"))
    with pytest.raises(KeycloakRejectedError):
        scene.invite(scene.bridge(at_most_once=True))

    assert 0 == scene.mails


def test_a_refused_announcement_stops_no_mail_at_least_once() -> None:
    """The mark would change nothing."""
    scene = Scene(ledger=False)
    scene.keycloak.fail("update", KeycloakRejectedError("refused"))

    assert ("invited", None, True) == told(scene.invite(scene.bridge()))


def test_a_user_that_vanishes_before_the_announcement_gets_no_mail() -> None:
    """Gone is gone, and no dead letter."""
    scene = Scene(ledger=False)
    scene.keycloak.fail("update", KeycloakNotFoundError("gone"))

    assert ("skipped", "user-not-found", False) == told(scene.invite(scene.bridge()))
    assert 0 == scene.mails


def test_a_mail_costs_no_look_at_the_ledger() -> None:
    """Keycloak reads all that it recorded since the user's creation for one look: only a doubt is worth that."""
    scene = Scene()
    scene.invite(scene.bridge())

    assert [
        *("get", "has_credentials"),
        *("get", "update", "execute_actions_email"),
        *("get", "update"),
    ] == scene.keycloak.calls


def test_a_role_that_was_just_taken_away_is_no_outage() -> None:
    """It goes on as without a ledger."""
    scene = Scene()
    bridge = scene.bridge(at_most_once=True)
    scene.fails(bridge, lost(), after_effect=True)
    scene.settle()
    scene.keycloak.fail("mail_recorded", KeycloakAuthError("no", status=403))

    assert ("skipped", "maybe-invited", False) == told(scene.invite(bridge))


@pytest.mark.parametrize("method", ["can_look_up_mails", "mail_recorded"])
@pytest.mark.parametrize(
    "error", [KeycloakUnavailableError("down"), KeycloakAuthError("no", status=401)]
)
def test_a_doubt_outlives_an_outage_of_the_ledger(method: str, error: BridgeError) -> None:
    """Nothing is mailed before Keycloak has answered."""
    scene = Scene()
    bridge = scene.bridge()
    scene.fails(bridge, lost(), after_effect=True)
    scene.settle()
    scene.keycloak.fail(method, error)
    with pytest.raises(type(error)):
        scene.invite(bridge)

    assert ("invited", None, False) == told(scene.invite(bridge))
    assert 1 == scene.mails


def test_a_ledger_that_went_away_leaves_the_doubt() -> None:
    """In doubt with a ledger, and nobody to ask afterwards: at most once stays at most once."""
    scene = Scene()
    bridge = scene.bridge(at_most_once=True)
    scene.fails(bridge, lost(), after_effect=True)
    scene.settle()
    scene.keycloak.admin_events = False

    assert ("skipped", "maybe-invited", False) == told(scene.invite(bridge))
    assert 1 == scene.mails


def test_since_when_to_look_is_the_users_own_age() -> None:
    """No mail can be older than its user, and Keycloak reads the whole time that it is asked for."""
    asked: list[datetime | None] = []

    class Aged(InMemoryKeycloak):
        def get(self, user_id: str) -> UserRepresentation | None:
            user = super().get(user_id)
            return user and {**user, "createdTimestamp": 1_793_577_600_000}

        def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
            asked.append(since)
            return super().mail_recorded(user_id, since)

    keycloak = Aged()
    announced = a_user(attributes={"bridgeInvitation": ["sending:event-1"]})
    Inviter(keycloak, clock=FakeClock()).invite(an_invitation(keycloak.add_user(announced)))

    assert [datetime(2026, 11, 2, tzinfo=UTC)] == asked


# the pace


def test_the_pace_is_kept() -> None:
    """The next mail waits for its turn, and costs no call meanwhile."""
    scene = Scene()
    bridge = scene.bridge(pace=RateLimiter(0.5))
    scene.invite(bridge)
    other = scene.keycloak.add_user(a_user(username="eve", email="eve@acme.example"))
    calls = list(scene.keycloak.calls)

    with pytest.raises(HoldError) as caught:
        bridge.invite(an_invitation(other))
    held = list(scene.keycloak.calls)
    scene.clock.advance(caught.value.wait_s)

    assert ("pace", 2.0) == (caught.value.code, caught.value.wait_s)
    assert calls == held
    assert ("invited", None, True) == told(bridge.invite(an_invitation(other)))


@pytest.mark.parametrize(
    "error",
    [
        MailDeliveryError("refused", status=500, path=MAIL.path),
        KeycloakUnavailableError("no", code="keycloak-unreachable"),
        KeycloakNotFoundError("gone", status=404),
    ],
    ids=lambda error: error.code,
)
def test_no_mail_costs_no_pace(error: BridgeError) -> None:
    """What was skipped or certainly failed lets the next mail go at once."""
    scene = Scene()
    bridge = scene.bridge(pace=RateLimiter(0.01))
    bridge.invite(an_invitation("nobody"))
    scene.keycloak.fail("execute_actions_email", error)
    other = scene.keycloak.add_user(a_user(username="eve", email="eve@acme.example"))
    try:
        bridge.invite(an_invitation(other))
    except type(error):
        pass

    assert ("invited", None, True) == told(scene.invite(bridge))


def test_a_mail_in_doubt_costs_its_pace() -> None:
    """It may well have gone out; the mark that is written later costs nothing."""
    scene = Scene()
    bridge = scene.bridge(pace=RateLimiter(1 / (2 * SETTLE_S)))
    scene.fails(bridge, lost(), after_effect=True)
    scene.settle()
    with pytest.raises(HoldError) as caught:
        scene.invite(bridge)
    scene.clock.advance(caught.value.wait_s)

    assert ("pace", SETTLE_S) == (caught.value.code, caught.value.wait_s)
    assert ("invited", None, False) == told(scene.invite(bridge))


def test_threads_share_one_inviter() -> None:
    """Different users at once, each failing in its own way first: one mail each, and the pace is kept."""
    scene = Scene()
    keycloak = scene.keycloak
    bridge = scene.bridge(pace=RateLimiter(100.0))
    users = [
        keycloak.add_user(a_user(username=f"user-{at}", email=f"user-{at}@acme.example"))
        for at in range(60)
    ]
    keycloak.fail("execute_actions_email", MailDeliveryError("refused"), times=20)
    keycloak.fail("execute_actions_email", lost(), times=10, after_effect=True)
    keycloak.fail("update", KeycloakUnavailableError("gone"), times=10)
    advancing = threading.Lock()

    def until_invited(user_id: str) -> None:
        while True:
            try:
                bridge.invite(an_invitation(user_id))
            except HoldError as hold:
                with advancing:
                    scene.clock.advance(hold.wait_s)
            except KeycloakUnavailableError:
                pass
            else:
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(until_invited, users))

    assert dict.fromkeys(users, 1) == {one: keycloak.mails_sent(one) for one in users}


@pytest.mark.parametrize(
    ("mailed", "ledger", "reason", "mark"),
    [
        (True, True, "already-invited", "sent:event-1"),
        (False, True, "not-mailed", "sending:event-1"),
        (True, False, "not-mailed", "sending:event-1"),
    ],
)
def test_a_mark_is_confirmed_without_a_mail(
    mailed: bool, ledger: bool, reason: str, mark: str
) -> None:
    """Whoever asks for the mark only never causes a mail, and marks only what is on record."""
    keycloak = InMemoryKeycloak()
    keycloak.view_events = ledger
    attributes = {"userId": ["u-1"], "bridgeInvitation": ["sending:event-1"]}
    user_id = keycloak.add_user(a_user(attributes=attributes))
    if mailed:
        keycloak.execute_actions_email(user_id, TERMS)
    before = len(keycloak.mails)

    outcome = Inviter(keycloak, clock=FakeClock()).invite(
        replace(an_invitation(user_id), confirm_only=True)
    )

    assert (Outcome.SKIPPED, reason, False) == (
        outcome.result.outcome,
        outcome.result.reason,
        outcome.mailed,
    )
    assert mark == plain(keycloak.users()[0]["attributes"]["bridgeInvitation"][0])
    assert before == len(keycloak.mails)


@pytest.mark.parametrize("code", ["user-disabled", "no-email"])
def test_a_user_that_changes_under_the_mail_stays_due(code: str) -> None:
    """Disabled, or without an address, since it was looked at: no dead letter, and due again when that changes back."""
    scene = Scene()
    bridge = scene.bridge()
    scene.keycloak.fail("execute_actions_email", KeycloakRejectedError("refused", code=code))

    refused = scene.invite(bridge)
    mark = scene.mark
    mailed = scene.invite(bridge)

    assert (Outcome.SKIPPED, code) == (refused.result.outcome, refused.result.reason)
    assert "due:event-1" == mark
    assert (True, 1) == (mailed.mailed, scene.mails)
