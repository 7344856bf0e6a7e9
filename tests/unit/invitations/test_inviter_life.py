"""Several mails of one user, whatever fails and comes back: one for an event, and never two links that were not wanted."""

from collections.abc import Callable
from datetime import datetime, timedelta

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
from samples import a_due_user, an_invitation
from timed_keycloak import TimedKeycloak

from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Purpose
from keycloak_bridge.domain.users import InvitationTerms, UserRepresentation
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    due_after,
    due_for_new_address,
    mark_of,
    with_invitation_mark,
)
from keycloak_bridge.testing.fake_clock import FakeClock

SETTLE_S = 15.0
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
        if self._accounts[user_id].credentials:
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
        self.clock = FakeClock()
        self.keycloak = Mailbox(self.clock)
        self.keycloak.view_events = self.ledger
        self.user_id = self.keycloak.add_user(a_due_user())
        self.event = 1
        self.queue: list[Invitation] = []
        self.reported: list[str] = []
        self.done = self.committed = 0
        self.publish(Purpose.INVITE)
        self.restart(commits=False)

    @rule(commits=st.booleans())
    def restart(self, commits: bool) -> None:
        """Let the bridge die; what it had not committed comes back."""
        if commits:
            self.committed = self.done
        self.done = self.committed
        self.inviter = Inviter(
            self.keycloak,
            clock=self.clock,
            settle_s=SETTLE_S,
            at_most_once=self.at_most_once,
            resend=self.resend,
        )

    @rule(seconds=SECONDS, times=TIMES)
    def request(self, seconds: int, times: int) -> None:
        """Let user management ask for the invitation once more."""
        self.clock.advance(seconds)
        self.event += 1
        self.write(lambda user: (due_after(mark_of(user), f"event-{self.event}"), {}))
        self.publish(Purpose.RESEND)
        self.work(times)

    @rule(verify=st.booleans(), times=TIMES)
    def change_address(self, verify: bool, times: int) -> None:
        """Let the user have another address; clocks may differ by a minute, within which no mail must have gone out."""
        self.clock.advance(61)
        self.event += 1
        event_id = f"event-{self.event}"
        fields = {"email": f"{event_id}@acme.example", "emailVerified": False}
        self.write(lambda _: (due_for_new_address(event_id), fields))
        self.publish(Purpose.RESEND)
        if verify:
            self.publish(Purpose.VERIFY_EMAIL)
        self.work(times)

    @rule(times=TIMES)
    def redeliver(self, times: int) -> None:
        """Let the provision stage ask for the mails of the last event once more, as after a crash of its own."""
        last = [one for one in self.queue if one.event_id == f"event-{self.event}"]
        for purpose in dict.fromkeys(one.purpose for one in last):
            self.publish(purpose)
        self.work(times)

    @rule()
    def set_password(self) -> None:
        """Let the user accept the invitation."""
        self.keycloak.set_password(self.user_id)

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
        """An event that is reported as invited has a mail, and is reported once where that can be known."""
        assert set(self.reported) <= set(self.keycloak.events)
        if self.ledger or self.at_most_once:
            assert len(self.reported) == len(set(self.reported))

    @invariant()
    def no_invitation_for_a_user_with_a_password(self) -> None:
        """Only a verification goes to a user with credentials."""
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
        (user,) = self.keycloak.users()

        assert self.done == len(self.queue)
        if (self.ledger or not self.at_most_once) and not self.has_password():
            assert user["email"] in {mail.email for mail in self.keycloak.mails}

    def has_password(self) -> bool:
        """Say whether the user accepted."""
        return self.keycloak._accounts[self.user_id].credentials > 0

    def attempt(self) -> None:
        """Have the next invitation handled once."""
        if self.done == len(self.queue):
            return
        self.keycloak.asked = self.queue[self.done]
        try:
            result = self.inviter.invite(self.queue[self.done]).result
        except HoldError as hold:
            self.clock.advance(hold.wait_s)
        except BridgeError:
            pass
        else:
            self.done += 1
            if result.outcome is Outcome.INVITED:
                self.reported.append(str(result.event_id))

    def write(
        self,
        made: Callable[[UserRepresentation], tuple[InvitationMark, dict[str, object]]],
    ) -> None:
        """Write as the provision stage does, and as if nothing failed there."""
        (user,) = self.keycloak.users()
        mark, fields = made(user)
        failures, self.keycloak._failures = self.keycloak._failures, {}
        body = {**with_invitation_mark(user, mark), **fields}
        self.keycloak.update(self.user_id, UserRepresentation(**body))  # type: ignore[typeddict-item]
        self.keycloak._failures = failures

    def publish(self, purpose: Purpose) -> None:
        """Put the invitation of the present event into the queue."""
        self.queue.append(
            an_invitation(self.user_id, f"event-{self.event}", purpose, self.clock.now())
        )


@pytest.mark.parametrize("ledger", [True, False])
@pytest.mark.parametrize("at_most_once", [True, False])
@pytest.mark.parametrize("resend", ["when-expired", "always"])
def test_the_mails_of_a_life(ledger: bool, at_most_once: bool, resend: str) -> None:
    """In every mode of delivery and under both policies."""

    class Case(Life):
        """The machine in one mode."""

    Case.ledger, Case.at_most_once, Case.resend = ledger, at_most_once, resend

    run_state_machine_as_test(Case, settings=settings(max_examples=60, stateful_step_count=20))
