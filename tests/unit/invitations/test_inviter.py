"""One event, one mail: in good times, after failures, in doubt, and for later mails of the same user."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from samples import OWN_USERS, TERMS, a_due_user, an_invitation
from threads import in_threads

from keycloak_bridge.delivery.rate_limit import RateLimiter
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConflictError,
    HoldError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Purpose
from keycloak_bridge.domain.users import GROUPS, InvitationTerms, UserRepresentation
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.keycloak.calls import EXECUTE_ACTIONS_EMAIL, Call
from keycloak_bridge.keycloak.errors import error_for, keycloak_error
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    due_after,
    format_mark,
    mark_of,
    mark_text,
    parse_mark,
    with_invitation_mark,
)
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

MAIL = Call("PUT", EXECUTE_ACTIONS_EMAIL)
TOKEN = Call("POST", "/protocol/openid-connect/token")
SETTLE_S = 15.0
START_S = 1_793_491_200
LIFESPAN_S = TERMS.lifespan_s
AHEAD_S = 60
"""How much longer the link lives by the mark that is written before the mail."""
MOMENT_S = 5
"""So long after its creation a user is taken for one without credentials."""

MAILED = ("invited", None, True)
REPORTED = ("invited", None, False)
"""An earlier attempt's mail is reported."""


def skipped(reason: str) -> tuple[str, str, bool]:
    return "skipped", reason, False


def lost(call: Call = MAIL) -> KeycloakError:
    """Return what a call raises whose answer was lost."""
    return keycloak_error(code="keycloak-no-answer", call=call)


class TimedKeycloak(InMemoryKeycloak):
    """Records each mail at the time of `clock`; `mailed_at` lists a time for each of `mails`."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.mailed_at: list[datetime] = []

    def add_user(self, representation: UserRepresentation) -> str:
        """Create a user, at its `createdTimestamp` where it has one."""
        user_id = super().add_user(representation)
        if "createdTimestamp" in representation:
            self._accounts[user_id].user["createdTimestamp"] = representation["createdTimestamp"]
        return user_id

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Put the link among `mails`, and the time among `mailed_at`, also when the answer is lost."""
        try:
            super().execute_actions_email(user_id, terms)
        finally:
            if len(self.mails) > len(self.mailed_at):
                self.mailed_at.append(self.clock.now())

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether a link was mailed to the user `since` then, but for a minute."""
        recorded = super().mail_recorded(user_id, since)
        if since is None:
            return recorded
        earliest = since - timedelta(minutes=1)
        return recorded and any(
            mail.user_id == user_id and at >= earliest
            for mail, at in zip(self.mails, self.mailed_at, strict=True)
        )


class Scene:
    """One user who is due, and bridges that come and go; events mark it as the provision stage does."""

    def __init__(
        self,
        keycloak: TimedKeycloak | None = None,
        *,
        ledger: bool = True,
        at_most_once: bool = False,
        resend: str = "when-expired",
        pace: RateLimiter | None = None,
        **user: Any,
    ) -> None:
        self.keycloak = keycloak or TimedKeycloak(FakeClock())
        self.clock = self.keycloak.clock
        self.keycloak.view_events = ledger
        self.at_most_once = at_most_once
        self.resend = resend
        self.pace = pace
        self.user_id = self.keycloak.add_user(a_due_user(**user))
        self.restart()

    def restart(self) -> None:
        """Let another bridge take over, which knows nothing of those before it."""
        self.inviter = Inviter(
            self.keycloak,
            OWN_USERS,
            clock=self.clock,
            pace=self.pace,
            settle_s=SETTLE_S,
            at_most_once=self.at_most_once,
            resend=self.resend,
        )

    def invitation(
        self, event_id: str = "event-1", purpose: Purpose = Purpose.INVITE
    ) -> Invitation:
        """Return the invitation that the provision stage publishes now."""
        return an_invitation(self.user_id, event_id, purpose, self.clock.now())

    def invite(self, invitation: Invitation | None = None) -> tuple[str, str | None, bool]:
        """Have an invitation handled, by default the first; return outcome, reason and whether it mailed."""
        outcome = self.inviter.invite(invitation or self.invitation())
        return outcome.result.outcome.value, outcome.result.reason, outcome.mailed

    def invite_after_wait(self) -> tuple[str, str | None, bool]:
        """Have the first invitation handled by a bridge that finds it announced, which must wait first."""
        with pytest.raises(HoldError) as caught:
            self.invite()
        assert ("mail-in-doubt", SETTLE_S) == (caught.value.code, caught.value.wait_s)
        self.settle()
        return self.invite()

    def outcome(self, invitation: Invitation) -> str:
        """Have an invitation handled, after every wait that the bridge asks for; return the reason or the outcome."""
        while True:
            try:
                outcome, reason, _ = self.invite(invitation)
            except HoldError as hold:
                self.clock.advance(hold.wait_s)
            else:
                return reason or outcome

    def fail(
        self,
        error: BridgeError,
        invitation: Invitation | None = None,
        *,
        step: str = "execute_actions_email",
        after_effect: bool = False,
    ) -> None:
        """Have an attempt fail at `step`; `after_effect` with the mail sent."""
        self.keycloak.fail(step, error, after_effect=after_effect)
        with pytest.raises(type(error)):
            self.invite(invitation)

    def settle(self) -> None:
        """Let the time pass in which a mail may still be on its way."""
        self.clock.advance(SETTLE_S)

    def request(self, event_id: str) -> Invitation:
        """Ask for the invitation once more."""
        self.write(due_after(mark_of(self.user), event_id))
        return self.invitation(event_id, Purpose.RESEND)

    def change_address(self, event_id: str, purpose: Purpose = Purpose.RESEND) -> Invitation:
        """Give the user another address."""
        mark = parse_mark(f"due:{event_id}")
        assert mark is not None
        self.write(mark, email=f"{event_id}@acme.example", emailVerified=False)
        return self.invitation(event_id, purpose)

    def write(self, mark: InvitationMark, **fields: object) -> None:
        body = {**with_invitation_mark(self.user, mark), **fields}
        self.keycloak.update(self.user_id, UserRepresentation(**body))  # type: ignore[typeddict-item]

    @property
    def user(self) -> UserRepresentation:
        (user,) = (one for one in self.keycloak.users() if one["id"] == self.user_id)
        return user

    @property
    def full_mark(self) -> str:
        mark = mark_of(self.user)
        assert mark is not None
        return format_mark(mark)

    @property
    def mark(self) -> str:
        """The mark without the end of a link."""
        state, *_, event_id = self.full_mark.split(":")
        return f"{state.split('-')[0]}:{event_id}"

    @property
    def mails(self) -> int:
        return len(self.keycloak.mails)


def test_a_due_invitation_is_mailed_and_marked_once() -> None:
    """The mail has its terms, the user its mark; a redelivered invitation is recognised by it."""
    scene = Scene()

    result = scene.inviter.invite(scene.invitation()).result

    assert (scene.user_id, "event-1") == (result.keycloak_id, result.event_id)
    assert f"sent-perhaps:{START_S + LIFESPAN_S + AHEAD_S}:event-1" == scene.full_mark
    assert "ada@acme.example" == scene.user["email"]
    scene.restart()
    assert skipped("already-invited") == scene.invite_after_wait()
    assert [TERMS] == [mail.terms for mail in scene.keycloak.mails]


@pytest.mark.parametrize("step", ["has_credentials", "update", None])
def test_a_user_that_is_gone_gets_no_mail(step: str | None) -> None:
    """Deleted before the invitation, between two calls or before the mark: no mail, and no dead letter."""
    scene = Scene()
    invitation = scene.invitation()
    if step is None:
        invitation = replace(invitation, keycloak_id="no-such-user")
    else:
        scene.keycloak.fail(step, KeycloakNotFoundError("gone"))

    assert (skipped("user-not-found"), 0) == (scene.invite(invitation), scene.mails)


def test_a_mark_written_late_is_no_second_mail() -> None:
    """The result is that the user is invited; the mail was sent by the attempt before."""
    scene = Scene(ledger=False)
    scene.fail(
        MailDeliveryError("refused")
    )  # the user is announced, so that only the last mark is left to write
    scene.fail(KeycloakUnavailableError("gone"), step="update")

    assert 1 == scene.mails
    assert REPORTED == scene.invite()
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


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
    scene = Scene(ledger=False)
    scene.fail(MailDeliveryError("refused"))
    scene.keycloak.fail("update", error)

    assert (MAILED, 1) == (scene.invite(), scene.mails)


# a mail in doubt: at most once, at least once, with and without Keycloak's admin events


@pytest.mark.parametrize(
    ("ledger", "at_most_once", "sent", "restarted", "expected", "mails"),
    [
        # Keycloak's admin events know it
        (True, False, True, False, REPORTED, 1),
        (True, True, True, False, REPORTED, 1),
        (True, False, False, False, MAILED, 1),
        (True, True, False, False, MAILED, 1),
        (True, False, False, True, MAILED, 1),
        (True, True, False, True, MAILED, 1),
        (True, False, True, True, skipped("already-invited"), 1),
        (True, True, True, True, skipped("already-invited"), 1),
        # rather twice than never
        (False, False, True, False, MAILED, 2),
        (False, False, False, True, MAILED, 1),
        # rather never than twice
        (False, True, True, False, skipped("maybe-invited"), 1),
        (False, True, True, True, skipped("maybe-invited"), 1),
        (False, True, False, False, skipped("maybe-invited"), 0),
        (False, True, False, True, skipped("maybe-invited"), 0),
    ],
)
def test_a_lost_answer(
    ledger: bool,
    at_most_once: bool,
    sent: bool,
    restarted: bool,
    expected: tuple[str, str | None, bool],
    mails: int,
) -> None:
    """Once the mail has settled, this bridge or the next one looks it up, or follows `invite.delivery`."""
    scene = Scene(ledger=ledger, at_most_once=at_most_once)
    scene.fail(lost(), after_effect=sent)
    assert ("sent:event-1" if ledger else "sending:event-1") == scene.mark
    if restarted:
        scene.restart()
        outcome = scene.invite_after_wait()
    else:
        scene.settle()
        outcome = scene.invite()

    assert (expected, mails, "sent:event-1") == (outcome, scene.mails, scene.mark)


@pytest.mark.parametrize(
    ("age_s", "owned_s", "wait_s"),
    [
        (0.0, 100.0, SETTLE_S),
        (60.0, 100.0, SETTLE_S),
        (70.0, 100.0, SETTLE_S - 10.0),
        (75.0, 100.0, None),
        (100.0, 5.0, SETTLE_S - 5.0),
        (100.0, None, SETTLE_S),
    ],
)
def test_a_mail_that_was_announced_long_ago_is_looked_up_at_once(
    age_s: float, owned_s: float | None, wait_s: float | None
) -> None:
    """If no other process can have begun it lately: by the mark, but for a minute, and by who has the record."""
    scene = Scene()
    scene.invite()
    scene.restart()
    scene.clock.advance(age_s)
    since_s = None if owned_s is None else scene.clock.monotonic() - owned_s

    if wait_s is None:
        outcome = scene.inviter.invite(scene.invitation(), since_s)
        assert ("already-invited", 1) == (outcome.result.reason, scene.mails)
    else:
        with pytest.raises(HoldError) as caught:
            scene.inviter.invite(scene.invitation(), since_s)
        assert wait_s == pytest.approx(caught.value.wait_s)


@pytest.mark.parametrize("ledger", [True, False])
def test_a_mail_in_doubt_waits_without_a_call(ledger: bool) -> None:
    """While the mail may be on its way nothing is asked and nothing is sent; the wait is exact."""
    scene = Scene(ledger=ledger)
    scene.fail(lost())
    calls = list(scene.keycloak.calls)
    scene.clock.advance(5.0)

    with pytest.raises(HoldError) as caught:
        scene.invite()

    assert ("mail-in-doubt", SETTLE_S - 5.0) == (caught.value.code, caught.value.wait_s)
    assert calls == scene.keycloak.calls


DEFINITE: list[BridgeError] = [
    MailDeliveryError("refused", status=500, path=MAIL.path),
    keycloak_error(code="keycloak-unreachable", call=MAIL),
    error_for(MAIL, 429, None),
    KeycloakAuthError("no", status=403, path=MAIL.path),
    KeycloakAuthError("the secret's file is being replaced"),
    KeycloakRejectedError("no", status=400, path=MAIL.path),
    KeycloakConflictError("no", status=409, path=MAIL.path),
    lost(TOKEN),
    error_for(Call("GET", "/users/{id}"), 503, None),
    keycloak_error(code="not-keycloak", call=MAIL, status=302),
    error_for(MAIL, 500, {"errorMessage": "Failed to send"}),
]
IN_DOUBT: list[BridgeError] = [
    lost(),
    keycloak_error(code="keycloak-tls", call=MAIL, problem="expired", solution="renew it"),
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
def test_after_a_definite_failure_the_mail_goes_out_at_once(
    error: BridgeError, ledger: bool, at_most_once: bool
) -> None:
    """What certainly sent nothing leaves no doubt, in any mode."""
    scene = Scene(ledger=ledger, at_most_once=at_most_once)
    scene.fail(error)

    assert MAILED == scene.invite()
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


@pytest.mark.parametrize(
    "error", [*IN_DOUBT, ZeroDivisionError()], ids=lambda error: getattr(error, "code", "bug")
)
def test_an_answer_that_says_nothing_leaves_a_doubt(error: BridgeError) -> None:
    """No answer, Keycloak's bare 500, the answer of a proxy, and an exception that was not foreseen."""
    scene = Scene()
    scene.fail(error)

    with pytest.raises(HoldError):
        scene.invite()


def test_what_this_bridge_did_not_send_another_may_have_sent() -> None:
    """The record went to another bridge, which mailed and died before it committed, and comes back."""
    scene = Scene()
    scene.fail(MailDeliveryError("refused"))
    first = scene.inviter
    scene.clock.advance(1)
    scene.restart()
    scene.invite()
    since_s = scene.clock.monotonic()

    with pytest.raises(HoldError):
        first.invite(scene.invitation(), since_s)
    scene.settle()

    reason = first.invite(scene.invitation(), since_s).result.reason
    assert ("already-invited", 1) == (reason, scene.mails)


def test_an_announcement_whose_answer_was_lost_is_no_mail() -> None:
    """The mark may be there although its call failed; this bridge knows that it did not mail."""
    scene = Scene(ledger=False, at_most_once=True)
    scene.fail(KeycloakUnavailableError("lost"), step="update", after_effect=True)

    assert "sending:event-1" == scene.mark
    assert (MAILED, 1) == (scene.invite(), scene.mails)


def test_a_refused_announcement_stops_the_mail_at_most_once_only() -> None:
    """Without the mark that promise could not be kept after a crash; at least once needs no mark."""
    scene = Scene(ledger=False, at_most_once=True)
    scene.fail(KeycloakRejectedError("refused"), step="update")
    assert 0 == scene.mails

    scene = Scene(ledger=False)
    scene.keycloak.fail("update", KeycloakRejectedError("refused"))
    assert MAILED == scene.invite()


@pytest.mark.parametrize(("ledger", "after"), [(True, ()), (False, ("get", "update"))])
def test_a_mail_costs_no_look_at_the_ledger(ledger: bool, after: tuple[str, ...]) -> None:
    """For one look Keycloak reads all that it recorded since the user's creation: only a doubt is worth that.

    Whether it records mails is asked once a minute. Where it does not, a second mark follows the mail.
    """
    scene = Scene(ledger=ledger)
    scene.invite()

    assert [
        *("get", "belongs_to", "has_credentials", "can_look_up_mails"),
        *("update", "execute_actions_email"),
        *after,
    ] == scene.keycloak.calls


@pytest.mark.parametrize(("age_s", "asks"), [(1, 0), (60, 1)])
def test_a_user_that_was_just_created_has_no_credentials(age_s: int, asks: int) -> None:
    """The bridge gave it none, so it is not asked."""
    scene = Scene(createdTimestamp=START_S * 1000)
    scene.clock.advance(age_s)

    assert MAILED == scene.invite()
    assert asks == scene.keycloak.calls.count("has_credentials")


def test_a_refused_mail_is_due_again() -> None:
    """So that an event that is replayed asks for it again, whatever became of the invitation's record."""
    scene = Scene()
    before = scene.full_mark
    scene.fail(MailDeliveryError("refused"))

    assert (before, 0) == (scene.full_mark, scene.mails)
    assert (MAILED, "sent:event-1") == (scene.invite(), scene.mark)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_mark_that_could_not_be_taken_back_is_no_mail(
    restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This bridge knows that it did not mail, and the next one asks."""
    scene = Scene()

    def refuse(*_: object) -> None:
        scene.keycloak.fail("get", KeycloakUnavailableError("down"))
        raise MailDeliveryError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(scene.keycloak, "execute_actions_email", refuse)
        with pytest.raises(MailDeliveryError):
            scene.invite()
    assert "sent:event-1" == scene.mark
    if restarted:
        scene.restart()

    assert MAILED == (scene.invite_after_wait() if restarted else scene.invite())
    assert (1, "sent:event-1") == (scene.mails, scene.mark)


def _in_group(scene: Scene, path: str) -> None:
    scene.keycloak.add_group(path)
    scene.keycloak.join(scene.user_id, GROUPS, [path])


NOT_OWN: Mapping[str, tuple[dict[str, Any], str]] = {
    "an administrator": ({"username": "ADMIN"}, "reserved-user"),
    "a service account": ({"username": "service-account-app"}, "reserved-user"),
    "another external id": ({"attributes": {"userId": ["u-2"]}}, "foreign-user"),
    "no external id": ({"attributes": {"bridgeInvitation": ["due:event-1"]}}, "foreign-user"),
    "no mark": ({"attributes": {"userId": ["u-1"]}}, "foreign-user"),
}


@pytest.mark.parametrize("confirm_only", [False, True])
@pytest.mark.parametrize(("user", "code"), NOT_OWN.values(), ids=NOT_OWN)
def test_nobody_is_mailed_but_the_users_of_the_bridge(
    user: dict[str, Any], code: str, confirm_only: bool
) -> None:
    """The record is signed by nobody; the user in Keycloak decides."""
    scene = Scene(**user)
    before = scene.keycloak.users()

    with pytest.raises(ConflictError) as caught:
        scene.invite(replace(scene.invitation(), confirm_only=confirm_only))

    assert (code, 0, before) == (caught.value.code, scene.mails, scene.keycloak.users())


@pytest.mark.parametrize(("group", "mailed"), [("/admins/eu", False), ("/staff", True)])
def test_no_member_of_a_protected_group_is_mailed(group: str, mailed: bool) -> None:
    """Events may not touch such a user, so no event can have asked for its mail."""
    scene = Scene()
    _in_group(scene, group)

    if mailed:
        assert MAILED == scene.invite()
    else:
        with pytest.raises(ConflictError) as caught:
            scene.invite()
        assert ("protected-user", 0) == (caught.value.code, scene.mails)


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("sent:event-0", "superseded"),
        ("sending-until:9999999999:event-0", "superseded"),
        ("due:event-2", "superseded"),
        ("sent:event-1", "already-invited"),
        ("written by hand", "not-due"),
    ],
)
def test_the_mark_on_the_user_is_the_authority(mark: str, reason: str) -> None:
    """A record for an event of which the user does not say that its mail is due mails nothing."""
    scene = Scene(attributes={"userId": ["u-1"], "bridgeInvitation": [mark]})

    assert (skipped(reason), 0) == (scene.invite(), scene.mails)


@pytest.mark.parametrize("gone", ["role", "ledger"])
def test_a_ledger_that_went_away_leaves_the_doubt(gone: str) -> None:
    """The role was removed just now, or admin events were switched off: it goes on as without a ledger."""
    scene = Scene(at_most_once=True)
    scene.fail(lost(), after_effect=True)
    scene.settle()
    if gone == "role":
        scene.keycloak.fail("mail_recorded", KeycloakAuthError("no", status=403))
    else:
        scene.keycloak.admin_events = False

    assert (skipped("maybe-invited"), 1) == (scene.invite(), scene.mails)


def test_a_ledger_that_was_switched_off_unseen_leaves_the_doubt() -> None:
    """That it records mails is remembered for a minute; a look that finds none is no proof without a second look."""
    scene = Scene(at_most_once=True)
    scene.keycloak.admin_events = False
    remembered = [True, True]
    now = scene.keycloak.can_look_up_mails

    scene.keycloak.can_look_up_mails = lambda: bool(remembered and remembered.pop()) or now()  # type: ignore[method-assign]
    scene.fail(lost(), after_effect=True)
    scene.settle()

    assert (skipped("maybe-invited"), 1) == (scene.invite(), scene.mails)


def test_a_mail_is_marked_sent_where_the_ledger_went_away_before_it() -> None:
    """Otherwise each redelivery of its record would be a doubt, and send another one."""
    scene = Scene()
    scene.fail(lost())
    scene.keycloak.view_events = False
    scene.restart()
    first = scene.invite_after_wait()
    scene.restart()

    assert (MAILED, skipped("already-invited"), 1) == (first, scene.invite(), scene.mails)


@pytest.mark.parametrize("change", ["department", "disabled", "gone"])
def test_what_others_write_during_a_look_at_the_ledger_is_kept(change: str) -> None:
    """It may take seconds: the user is read again before its mark is written."""
    scene = Scene()
    scene.fail(lost())
    scene.restart()
    look = scene.keycloak.mail_recorded

    def looks(user_id: str, since: datetime | None = None) -> bool:
        recorded = look(user_id, since)
        body = scene.user
        body["attributes"]["department"] = ["R&D"]
        body["enabled"] = change != "disabled"
        if change == "gone":
            scene.keycloak.delete_user(user_id)
        else:
            scene.keycloak.update(user_id, body)
        return recorded

    scene.keycloak.mail_recorded = looks  # type: ignore[method-assign]
    outcome = None
    with pytest.raises(HoldError):
        scene.invite()
    scene.clock.advance(60)
    outcome = scene.invite()

    expected = {"disabled": skipped("user-disabled"), "gone": skipped("user-not-found")}
    assert expected.get(change, MAILED) == outcome
    assert (1 if change == "department" else 0) == scene.mails
    if change != "gone":
        assert ["R&D"] == scene.user["attributes"]["department"]


@pytest.mark.parametrize("method", ["can_look_up_mails", "mail_recorded"])
@pytest.mark.parametrize(
    "error", [KeycloakUnavailableError("down"), KeycloakAuthError("no", status=401)]
)
def test_a_doubt_outlives_an_outage_of_the_ledger(method: str, error: BridgeError) -> None:
    """Nothing is mailed before Keycloak has answered."""
    scene = Scene()
    scene.fail(lost(), after_effect=True)
    scene.settle()
    scene.fail(error, step=method)

    assert (REPORTED, 1) == (scene.invite(), scene.mails)


@pytest.mark.parametrize(
    ("mailed", "ledger", "reason", "mark"),
    [
        (True, True, "already-invited", "sent"),
        (False, True, "not-mailed", None),
        (True, False, "not-mailed", None),
    ],
)
@pytest.mark.parametrize("before", ["sending", "due"])
def test_a_mark_is_confirmed_without_a_mail(
    mailed: bool, ledger: bool, reason: str, mark: str | None, before: str
) -> None:
    """A request for the mark only never causes a mail, and marks only what is on record."""
    scene = Scene(ledger=ledger, mark=f"{before}:event-1")
    if mailed:
        scene.keycloak.execute_actions_email(scene.user_id, TERMS)
    mails = scene.mails

    assert skipped(reason) == scene.invite(replace(scene.invitation(), confirm_only=True))
    assert (f"{mark or before}:event-1", mails) == (scene.mark, scene.mails)


def test_a_settled_mark_needs_no_confirmation() -> None:
    """It costs one look at the user."""
    scene = Scene()
    scene.invite()
    scene.keycloak.calls.clear()

    assert skipped("already-invited") == scene.invite(
        replace(scene.invitation(), confirm_only=True)
    )
    assert ["get"] == scene.keycloak.calls


def test_an_earlier_mail_confirms_no_later_one() -> None:
    """By a mark that is due only what was mailed since the first look counts, but for a minute."""
    scene = Scene()
    scene.outcome(scene.invitation())
    scene.clock.advance(2 * LIFESPAN_S)
    scene.request("event-2")
    confirmation = replace(scene.invitation("event-2"), confirm_only=True)

    assert skipped("not-mailed") == scene.invite(confirmation)


@pytest.mark.parametrize("code", ["user-disabled", "no-email"])
def test_a_user_that_changes_under_the_mail_stays_due(code: str) -> None:
    """Disabled, or without an address, since it was read: no dead letter, and due again when that changes back."""
    scene = Scene()
    scene.keycloak.fail("execute_actions_email", KeycloakRejectedError("refused", code=code))

    assert (skipped(code), "due:event-1") == (scene.invite(), scene.mark)
    assert (MAILED, 1) == (scene.invite(), scene.mails)


# the pace


def other_user(scene: Scene) -> Invitation:
    """Return the invitation of another user."""
    user_id = scene.keycloak.add_user(a_due_user(username="eve", email="eve@acme.example"))
    return an_invitation(user_id)


def test_the_pace_is_kept() -> None:
    """The next mail waits for its turn, and costs no call meanwhile."""
    scene = Scene(pace=RateLimiter(0.5))
    scene.invite()
    other = other_user(scene)
    calls = list(scene.keycloak.calls)

    with pytest.raises(HoldError) as caught:
        scene.invite(other)
    assert calls == scene.keycloak.calls
    scene.clock.advance(caught.value.wait_s)

    assert ("pace", 2.0) == (caught.value.code, caught.value.wait_s)
    assert MAILED == scene.invite(other)


@pytest.mark.parametrize(
    "error",
    [
        MailDeliveryError("refused", status=500, path=MAIL.path),
        keycloak_error(code="keycloak-unreachable", call=MAIL),
        KeycloakNotFoundError("gone", status=404),
    ],
    ids=lambda error: error.code,
)
def test_no_mail_costs_no_pace(error: BridgeError) -> None:
    """What was skipped or certainly failed lets the next mail go at once."""
    scene = Scene(pace=RateLimiter(0.01))
    scene.invite(an_invitation("nobody"))
    scene.keycloak.fail("execute_actions_email", error)
    with contextlib.suppress(type(error)):
        scene.invite(other_user(scene))

    assert MAILED == scene.invite()


def test_a_mail_in_doubt_costs_its_pace() -> None:
    """It may well have gone out; the mark that is written later costs nothing."""
    scene = Scene(pace=RateLimiter(1 / (2 * SETTLE_S)))
    scene.fail(lost(), after_effect=True)
    scene.settle()
    with pytest.raises(HoldError) as caught:
        scene.invite()
    scene.clock.advance(caught.value.wait_s)

    assert ("pace", SETTLE_S) == (caught.value.code, caught.value.wait_s)
    assert REPORTED == scene.invite()


class SlowMails(InMemoryKeycloak):
    """Sends no mail before all users are marked, and knows how many it sent at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.all_marked = threading.Event()
        self.at_once: list[int] = []
        self._sending = 0

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user."""
        super().update(user_id, representation)
        if all(str(mark_text(user)).startswith("sent-") for user in self.users()):
            self.all_marked.set()

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Send the mail once all users are marked."""
        with self._lock:
            self._sending += 1
            self.at_once.append(self._sending)
        assert self.all_marked.wait(60)
        with self._lock:
            super().execute_actions_email(user_id, terms)
            self._sending -= 1


def test_so_many_mails_are_sent_at_a_time() -> None:
    """More threads may be at work: the users of the next mails are read and marked meanwhile."""
    keycloak = SlowMails()
    names = ("ada", "eve", "joe")
    ids = [
        keycloak.add_user(a_due_user(username=name, email=f"{name}@acme.example")) for name in names
    ]
    inviter = Inviter(keycloak, OWN_USERS, clock=FakeClock(), at_once=1)

    in_threads(*(partial(inviter.invite, an_invitation(user_id)) for user_id in ids))

    assert (3, [1, 1, 1]) == (len(keycloak.mails), keycloak.at_once)


# later mails of one user: asked for once more, or to verify a changed address


@pytest.mark.parametrize(
    ("resend", "wait_s", "expected", "mails"),
    [
        ("when-expired", LIFESPAN_S + AHEAD_S, ["invited", "link-still-valid"], 2),
        ("always", 0, ["invited", "invited"], 3),
    ],
)
def test_a_request_mails_by_the_policy(
    resend: str, wait_s: int, expected: list[str], mails: int
) -> None:
    """Once the link has ended, and the next one respects the new link; or always, as the operator chose."""
    scene = Scene(resend=resend)
    scene.outcome(scene.invitation())
    scene.clock.advance(wait_s)
    outcomes = [scene.outcome(scene.request(name)) for name in ("event-2", "event-3")]

    assert (expected, mails) == (outcomes, scene.mails)


def test_a_user_with_a_password_gets_no_second_invitation_but_verifies() -> None:
    """The link for a changed address asks for nothing but the address."""
    scene = Scene()
    scene.keycloak.set_password(scene.user_id)
    outcomes = [
        scene.outcome(scene.request("event-2")),
        scene.outcome(scene.change_address("event-3", Purpose.RESEND)),
        scene.outcome(scene.invitation("event-3", Purpose.VERIFY_EMAIL)),
    ]

    assert ["has-credentials", "has-credentials", "invited"] == outcomes
    assert [("VERIFY_EMAIL",)] == [mail.terms.actions for mail in scene.keycloak.mails]
    assert f"sent-perhaps:{START_S + LIFESPAN_S + AHEAD_S}:event-3" == scene.full_mark


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

    assert expected == scene.outcome(verification)
    assert "due:event-3" == scene.full_mark


def test_a_lost_answer_is_not_settled_by_the_mail_before() -> None:
    """A mail that was recorded before the request does not count as its mail."""
    scene = Scene()
    scene.outcome(scene.invitation())
    scene.clock.advance(LIFESPAN_S + AHEAD_S)
    again = scene.request("event-2")
    scene.fail(lost(), again)

    assert ("invited", 2) == (scene.outcome(again), scene.mails)


@pytest.mark.parametrize(("sent", "expected"), [(True, "link-still-valid"), (False, "invited")])
def test_a_mail_in_doubt_is_looked_up_for_the_next_event(sent: bool, expected: str) -> None:
    """A request after a lost answer neither adds a second link nor trusts a mail that never went out."""
    scene = Scene()
    scene.clock.advance(7)
    first = scene.invitation()
    scene.fail(lost(), first, after_effect=sent)
    again = scene.request("event-2")
    scene.restart()

    assert ["superseded", expected] == [scene.outcome(first), scene.outcome(again)]
    assert 1 == scene.mails


def test_a_doubtful_link_that_ends_while_it_is_waited_for() -> None:
    """Whatever is on record, the user has no valid link."""
    scene = Scene()
    first = scene.invitation()
    scene.fail(lost(), first, after_effect=True)
    scene.clock.advance(LIFESPAN_S + 55)

    assert ("invited", 2) == (scene.outcome(scene.request("event-2")), scene.mails)


@pytest.mark.parametrize("ledger", [True, False])
def test_an_invitation_that_comes_back_after_a_later_one(ledger: bool) -> None:
    """The bridge was killed before it committed either: the mark says that the later mail took its place."""
    scene = Scene(ledger=ledger, resend="always")
    first = scene.invitation()
    scene.outcome(first)
    scene.outcome(scene.request("event-2"))
    mark = scene.full_mark
    scene.restart()

    assert ("superseded", mark, 2) == (scene.outcome(first), scene.full_mark, scene.mails)


def test_a_request_after_a_doubt_that_was_given_up() -> None:
    """At most once and without a record, as long as a link may be valid."""
    scene = Scene(ledger=False, at_most_once=True)
    first = scene.invitation()
    scene.fail(lost(), first)
    outcomes = [scene.outcome(first), scene.outcome(scene.request("event-2"))]
    scene.clock.advance(2 * LIFESPAN_S)
    outcomes.append(scene.outcome(scene.request("event-3")))

    assert ["maybe-invited", "maybe-invited", "invited"] == outcomes


# the whole life of a user, whatever fails and comes back

SECONDS = st.sampled_from((0, 100, 1800, 3600))
TIMES = st.integers(0, 4)
STEPS = (
    *("get", "has_credentials", "update", "execute_actions_email"),
    *("can_look_up_mails", "mail_recorded"),
)


class Mailbox(TimedKeycloak):
    """Knows for which invitation it mails, whether it had to, and how many links are valid then."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: Invitation | None = None
        self.events: list[str] = []
        self.needless: list[str] = []
        self.joined: list[str] = []
        self.links: list[tuple[str, datetime]] = []

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Send the mail, and take notes of it."""
        mails = len(self.mails)
        try:
            super().execute_actions_email(user_id, terms)
        finally:
            if len(self.mails) > mails:
                self._note(user_id)

    def _note(self, user_id: str) -> None:
        invitation, mail = self.asked, self.mails[-1]
        assert invitation is not None
        self.events.append(invitation.event_id)
        if invitation.purpose is Purpose.VERIFY_EMAIL:
            return
        age = self.clock.now().timestamp() - START_S
        if self._accounts[user_id].credentials and age > MOMENT_S:
            self.needless.append(invitation.event_id)
        now = self.clock.now()
        if any(email == mail.email and end > now for email, end in self.links):
            self.joined.append(invitation.event_id)
        lifespan = timedelta(seconds=invitation.terms.lifespan_s)
        self.links.append((mail.email, now + lifespan))


class Life(RuleBasedStateMachine):
    """One user, many events, a queue of invitations that is read again after a crash, and a Keycloak that fails."""

    ledger = True
    at_most_once = False
    resend = "when-expired"

    @initialize()
    def begin(self) -> None:
        """A user who is due."""
        self.keycloak = Mailbox(FakeClock())
        self.scene = Scene(
            self.keycloak,
            ledger=self.ledger,
            at_most_once=self.at_most_once,
            resend=self.resend,
            createdTimestamp=START_S * 1000,
        )
        self.event = 1
        self.queue: list[Invitation] = []
        self.reported: list[str] = []
        self.done = self.committed = 0
        self.queue.append(self.scene.invitation())

    @rule(commits=st.booleans())
    def restart(self, commits: bool) -> None:
        """Let the bridge die; what it had not committed comes back."""
        if commits:
            self.committed = self.done
        self.done = self.committed
        self.scene.restart()

    @rule(seconds=SECONDS, times=TIMES)
    def request(self, seconds: int, times: int) -> None:
        """Let user management ask for the invitation once more."""
        self.scene.clock.advance(seconds)
        self.publish(self.scene.request)
        self.work(times)

    @rule(verify=st.booleans(), times=TIMES)
    def change_address(self, verify: bool, times: int) -> None:
        """Let the user have another address; clocks may differ by a minute, within which no mail must have gone out."""
        self.scene.clock.advance(61)
        self.publish(self.scene.change_address)
        if verify:
            self.repeat(Purpose.VERIFY_EMAIL)
        self.work(times)

    @rule(times=TIMES)
    def redeliver(self, times: int) -> None:
        """Let the provision stage ask for the mails of the last event once more, as after a crash of its own."""
        last = [one for one in self.queue if one.event_id == f"event-{self.event}"]
        for purpose in dict.fromkeys(one.purpose for one in last):
            self.repeat(purpose)
        self.work(times)

    @rule()
    def set_password(self) -> None:
        """Let the user accept the invitation."""
        self.keycloak.set_password(self.scene.user_id)

    @rule(step=st.sampled_from(STEPS), after_effect=st.booleans())
    def lose_an_answer(self, step: str, after_effect: bool) -> None:
        """Let a call fail without an answer, having taken effect or not."""
        self.keycloak.fail(step, KeycloakUnavailableError("lost"), after_effect=after_effect)

    @rule()
    def refuse_the_mail(self) -> None:
        """Let the SMTP server be down once."""
        self.keycloak.fail("execute_actions_email", MailDeliveryError("down"))

    @rule(times=TIMES)
    def work(self, times: int) -> None:
        """Have the next invitations in the queue handled."""
        for _ in range(times):
            self.attempt()

    @invariant()
    def one_mail_for_an_event(self) -> None:
        """Only without a ledger, at least once, may there be another."""
        if self.ledger or self.at_most_once:
            assert len(self.keycloak.events) == len(set(self.keycloak.events))

    @invariant()
    def reports_are_true(self) -> None:
        """A user that is reported as invited has a mail; the first event is reported once."""
        assert bool(self.reported) <= bool(self.keycloak.mails)
        assert self.reported.count("event-1") <= 1 or self.event > 1

    @invariant()
    def no_invitation_for_a_user_with_a_password(self) -> None:
        """Only a verification goes to a user with credentials, but for one that was created a moment ago."""
        assert [] == self.keycloak.needless

    @invariant()
    def no_second_valid_link(self) -> None:
        """Only as the policy says, or without a ledger, at least once."""
        if self.resend == "when-expired" and (self.ledger or self.at_most_once):
            assert [] == self.keycloak.joined

    def teardown(self) -> None:
        """No invitation is lost: in the end the user has a password, or got a link for the present address."""
        for _ in range(500):
            self.attempt()

        assert self.done == len(self.queue)
        if (self.ledger or not self.at_most_once) and not self.has_password():
            assert self.scene.user["email"] in {mail.email for mail in self.keycloak.mails}

    def has_password(self) -> bool:
        """Say whether the user accepted."""
        return bool(self.keycloak._accounts[self.scene.user_id].credentials)

    def attempt(self) -> None:
        """Have the next invitation handled once."""
        if self.done == len(self.queue):
            return
        self.keycloak.asked = self.queue[self.done]
        try:
            result = self.scene.inviter.invite(self.queue[self.done]).result
        except HoldError as hold:
            self.scene.clock.advance(hold.wait_s)
        except BridgeError:
            pass
        else:
            self.done += 1
            if result.outcome is Outcome.INVITED:
                self.reported.append(str(result.event_id))

    def publish(self, made: Callable[[str], Invitation]) -> None:
        """Put the invitation of a new event into the queue, as if nothing failed in the provision stage."""
        self.event += 1
        failures, self.keycloak._failures = self.keycloak._failures, {}
        self.queue.append(made(f"event-{self.event}"))
        self.keycloak._failures = failures

    def repeat(self, purpose: Purpose) -> None:
        """Put another invitation of the last event into the queue."""
        self.queue.append(self.scene.invitation(f"event-{self.event}", purpose))


@pytest.mark.parametrize("ledger", [True, False])
@pytest.mark.parametrize("at_most_once", [True, False])
@pytest.mark.parametrize("resend", ["when-expired", "always"])
def test_the_mails_of_a_life(ledger: bool, at_most_once: bool, resend: str) -> None:
    """In every mode of delivery and under both policies."""

    class Case(Life):
        """The machine in one mode."""

    Case.ledger, Case.at_most_once, Case.resend = ledger, at_most_once, resend

    run_state_machine_as_test(Case, settings=settings(max_examples=60, stateful_step_count=20))
