"""Whatever fails and whenever the bridge dies: no mail twice, and none lost, where that can be known."""

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

from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Result
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.planning.bookkeeping import mark_of
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SETTLE_S = 15.0
STEPS = (
    "get",
    "has_credentials",
    "update",
    "execute_actions_email",
    "can_look_up_mails",
    "mail_recorded",
)


class Invitations(RuleBasedStateMachine):
    """One user, one invitation, a bridge that is restarted, and a Keycloak that fails in every way."""

    ledger = True
    at_most_once = False

    @initialize()
    def begin(self) -> None:
        """A user who is due."""
        self.keycloak = InMemoryKeycloak()
        self.keycloak.view_events = self.ledger
        self.clock = FakeClock()
        self.user_id = self.keycloak.add_user(a_due_user())
        self.results: list[Result] = []
        self.restart()

    @rule()
    def restart(self) -> None:
        """Let the bridge die and another one take over."""
        self.inviter = Inviter(
            self.keycloak,
            clock=self.clock,
            settle_s=SETTLE_S,
            at_most_once=self.at_most_once,
        )

    @rule(step=st.sampled_from(STEPS), after_effect=st.booleans())
    def lose_an_answer(self, step: str, after_effect: bool) -> None:
        """Let a call of the next attempt fail without an answer, having taken effect or not."""
        self.keycloak.fail(step, KeycloakUnavailableError("lost"), after_effect=after_effect)

    @rule()
    def refuse_the_mail(self) -> None:
        """Let the SMTP server be down once."""
        self.keycloak.fail("execute_actions_email", MailDeliveryError("down"))

    @rule()
    def attempt(self) -> None:
        """Have the invitation handled, as after each redelivery."""
        try:
            self.results.append(self.inviter.invite(self.invitation()).result)
        except HoldError as hold:
            self.clock.advance(hold.wait_s)
        except BridgeError:
            pass

    @invariant()
    def no_mail_twice(self) -> None:
        """Only without a ledger, at least once, may there be another."""
        if self.ledger or self.at_most_once:
            assert len(self.keycloak.mails) <= 1

    @invariant()
    def results_are_true(self) -> None:
        """A user that is reported as invited has a mail, and is reported once."""
        invited = [one for one in self.results if one.outcome is Outcome.INVITED]

        assert len(invited) <= 1
        assert bool(invited) <= bool(self.keycloak.mails)

    def teardown(self) -> None:
        """No mail is lost: when the failures end, it is out, or was given up and reported."""
        settled = False
        for _ in range(500):
            try:
                settled = bool(self.inviter.invite(self.invitation()))
                break
            except HoldError as hold:
                self.clock.advance(hold.wait_s)
            except BridgeError:
                continue
        (user,) = self.keycloak.users()

        assert settled
        mark = mark_of(user)
        assert mark is not None
        assert mark.is_sent("event-1")
        if self.ledger:
            assert 1 == len(self.keycloak.mails)
        elif not self.at_most_once:
            assert self.keycloak.mails

    def invitation(self) -> Invitation:
        return an_invitation(self.user_id)


@pytest.mark.parametrize("ledger", [True, False])
@pytest.mark.parametrize("at_most_once", [True, False])
def test_one_mail_whatever_happens(ledger: bool, at_most_once: bool) -> None:
    """Exactly one with a ledger; without, one at most or at least one, as it was chosen."""

    class Case(Invitations):
        """The machine in one mode."""

    Case.ledger, Case.at_most_once = ledger, at_most_once

    run_state_machine_as_test(Case, settings=settings(max_examples=60, stateful_step_count=25))
