"""A user that was written while its invitation was being marked is checked again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from samples import TERMS, a_desired_user, an_event

from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError
from keycloak_bridge.domain.events import Invitation, Outcome, Result, UserEvent
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.users import DesiredUser, InvitationTerms, OutOfScope
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Provisioned, Provisioner
from keycloak_bridge.testing.fake_clock import FakeClock

CREATED = Result(Outcome.PROVISIONED, action="created")
UPDATED = Result(Outcome.PROVISIONED, action="updated")
UNCHANGED = Result(Outcome.PROVISIONED, action="unchanged")
START = FakeClock().now()


class Answers(Provisioner):
    """Provisions by giving the next answer."""

    def __init__(self, *answers: Provisioned | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[bool, bool]] = []

    def provision(
        self,
        event: UserEvent,
        desired: DesiredUser | OutOfScope,
        *,
        one_partition: bool = True,
        known_absent: bool = False,
    ) -> Provisioned:
        self.asked.append((one_partition, known_absent))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def look_at(
    provisioner: Answers, asked: list[Invitation] | None = None, clock: FakeClock | None = None
) -> MarkRaceCheck:
    """Return the subject; the invitations that it asks for go to `asked`."""

    def invite(invitation: Invitation) -> Sequence[Acknowledgement]:
        (asked if asked is not None else []).append(invitation)
        return ()

    return MarkRaceCheck(provisioner, invite, clock or FakeClock())


def test_without_a_race_nothing_changes() -> None:
    """One look is enough, and a mail that is being sent is left to the invite stage; the arguments are passed on."""
    asked: list[Invitation] = []
    provisioned = Provisioned(replace(UNCHANGED, keycloak_id="kc-1"), mailing="event-0")
    answers = Answers(provisioned)
    desired = a_desired_user()

    assert provisioned is look_at(answers, asked).provision(
        an_event(), desired, one_partition=False, known_absent=True
    )
    assert ([(False, True)], []) == (answers.asked, asked)


def test_a_race_that_goes_on_is_checked_until_it_ends() -> None:
    """However often the mark wins, the first result counts."""
    look = look_at(
        Answers(
            Provisioned(CREATED, raced=True),
            Provisioned(UPDATED, raced=True),
            KeycloakUnavailableError("down"),
            Provisioned(UNCHANGED),
        )
    )
    for error in (HoldError, HoldError, KeycloakUnavailableError):
        with pytest.raises(error):
            look.provision(an_event(), a_desired_user())

    assert CREATED == look.provision(an_event(), a_desired_user()).result


def test_a_user_that_is_never_as_desired_is_not_checked_forever() -> None:
    """Keycloak may not keep what is written; the fifth look ends it, and the next delivery begins again."""
    looks = 5
    look = look_at(Answers(*[Provisioned(UPDATED, raced=True)] * (looks + 1)))
    for _ in range(looks - 1):
        with pytest.raises(HoldError) as held:
            look.provision(an_event(), a_desired_user())
        assert ("second-look", True) == (held.value.code, held.value.wait_s > 0)

    assert Provisioned(UPDATED) == look.provision(an_event(), a_desired_user())
    with pytest.raises(HoldError):
        look.provision(an_event(), a_desired_user())


def test_each_event_has_its_own_first_look() -> None:
    """What was done for one is not reported for another, nor for the same one when it is read again later."""
    look = look_at(
        Answers(
            Provisioned(CREATED, raced=True),
            Provisioned(UNCHANGED),
            Provisioned(UNCHANGED),
            Provisioned(UNCHANGED),
        )
    )
    with pytest.raises(HoldError):
        look.provision(an_event("one"), a_desired_user())
    results = [
        look.provision(an_event(name), a_desired_user()).result for name in ("two", "one", "one")
    ]

    assert [UNCHANGED, CREATED, UNCHANGED] == results


@pytest.mark.parametrize(
    ("mailing", "terms", "expected"),
    [
        ("event-0", TERMS, [("event-0", "u-1", "kc-1", START, True)]),
        (None, TERMS, []),
        (an_event().identity, TERMS, []),
        ("event-0", None, []),
    ],
)
def test_a_mark_that_was_overwritten_is_requested_again(
    mailing: str | None, terms: InvitationTerms | None, expected: list[tuple[object, ...]]
) -> None:
    """A mail that is still awaited after the race is left to the invite stage, which finds out, and sends no mail.

    What it finds counts from the first look on. The event's own mail is requested in any case.
    """
    asked: list[Invitation] = []
    unchanged = Provisioned(replace(UNCHANGED, keycloak_id="kc-1"), mailing=mailing)
    clock = FakeClock()
    look = look_at(Answers(Provisioned(UPDATED, raced=True), unchanged), asked, clock)
    desired = a_desired_user(invitation=terms)
    with pytest.raises(HoldError):
        look.provision(an_event(), desired)
    clock.advance(2)

    look.provision(an_event(), desired)

    assert expected == [
        (one.event_id, one.user_id, one.keycloak_id, one.time, one.confirm_only) for one in asked
    ]
