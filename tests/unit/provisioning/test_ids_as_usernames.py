"""Users whose external id is their username: Keycloak keeps it unique, so that a new user costs one call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
from samples import a_desired_user, an_event

from keycloak_bridge.domain.errors import BridgeError, ConflictError, UnknownUserError
from keycloak_bridge.domain.events import Invitation, Result
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.users import (
    GROUPS,
    DesiredUser,
    IdentityLink,
    Intent,
    LinkPolicy,
    MatchCriterion,
    Membership,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.planning.fold import fold, plan_folded
from keycloak_bridge.planning.plan import plan_user
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SEARCHES = ("attribute", "username", "email")


def by_username(external_id: str = "U-1", email: str = "ada@acme.example") -> DesiredUser:
    """Return a user whose username is its id."""
    user = a_desired_user(username=external_id.lower(), email=email)
    attributes = {"tenantId": ["tenant-1"], "bridgeUserId": [external_id]}
    return replace(
        user,
        representation=cast(
            "UserRepresentation", {**user.representation, "attributes": attributes}
        ),
        matching=(
            MatchCriterion("attributes.bridgeUserId", external_id),
            MatchCriterion("username", external_id.lower()),
        ),
    )


def named(external_id: str, intent: Intent) -> DesiredUser:
    """Return what an event wants that only names its user."""
    user = by_username(external_id)
    attributes = {"bridgeUserId": [external_id]}
    return replace(
        user,
        representation=UserRepresentation(attributes=attributes, enabled=False),
        matching=user.matching[:1],
        invitation=None,
        intent=intent,
        unknown=UnknownUser.DEAD_LETTER,
    )


class Harness:
    """A provisioner over a Keycloak in memory."""

    def __init__(self, mode: str = "off") -> None:
        self.keycloak = InMemoryKeycloak(groups=["/staff"], identity_providers=["corp"])
        self.invitations: list[Invitation] = []
        self.restart(mode)
        self._day = 0

    def restart(self, mode: str = "off") -> None:
        """Begin with a process that knows nothing."""
        self.provisioner = Provisioner(
            self.keycloak,
            self._invite,
            FakeClock(),
            policy=ProvisionPolicy(verification=VerificationPolicy(mode)),
        )

    def provision(self, desired: DesiredUser, day: int | None = None) -> Result:
        """Apply the next event, or that of `day`; count anew what it costs."""
        self._day = day or self._day + 1
        self.keycloak.calls.clear()
        self.keycloak.lookups.clear()
        event = an_event(f"event-{self._day}", day=self._day)
        return self.provisioner.provision(event, desired, one_partition=False).result

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        self.invitations.append(invitation)
        return ()

    @property
    def searches(self) -> dict[str, int]:
        """How many searches the last event cost, by what was searched by."""
        return {
            name: self.keycloak.lookups[name] for name in SEARCHES if self.keycloak.lookups[name]
        }


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_new_user_is_created_without_a_search(harness: Harness) -> None:
    """Nor is another one searched for afterwards, through however many partitions its events come."""
    result = harness.provision(by_username())

    assert ("created", {}) == (result.action, harness.searches)
    assert ["u-1"] == [user["username"] for user in harness.keycloak.users()]


def test_a_new_user_is_read_back_by_its_id() -> None:
    """And no other user can have its external id."""
    harness = Harness("always")
    harness.provision(by_username())

    assert {"id": 1} == dict(harness.keycloak.lookups)


def test_one_that_exists_is_searched_for_by_username_and_the_next_one_before(
    harness: Harness,
) -> None:
    """A replay of the topic costs the vain create of its first user only."""
    for number in range(3):
        harness.provision(by_username(f"u-{number}", f"u{number}@acme.example"))
    harness.restart()
    costs = []
    for number in range(3):
        result = harness.provision(
            by_username(f"u-{number}", f"u{number}@acme.example"), number + 1
        )
        costs.append((result.action, harness.keycloak.calls.count("create"), harness.searches))
    harness.provision(by_username("u-new", "new@acme.example"), 9)
    known = harness.searches
    harness.provision(by_username("u-newer", "newer@acme.example"), 9)

    assert [("unchanged", creates, {"username": 1}) for creates in (1, 0, 0)] == costs
    assert ({"username": 1}, {}) == (known, harness.searches)


def test_what_is_refused_of_a_new_user_is_not_of_one_that_exists(harness: Harness) -> None:
    """Its own account at an identity provider is linked, and a group that is gone is a matter of an old event."""
    linked = replace(by_username(), identities=(IdentityLink("corp", "ada@corp"),))
    harness.provision(linked, 2)
    harness.restart()
    again = harness.provision(linked, 2)
    harness.restart()
    stale = replace(by_username(), memberships=(Membership(GROUPS, ("/gone",)),))
    older = harness.provision(stale, 1)

    assert ("unchanged", "stale") == (again.action, older.reason)
    assert 1 == len(harness.keycloak.users())


def test_an_old_event_of_a_user_that_exists_creates_no_group(harness: Harness) -> None:
    """Somebody has deleted it since: a group is created after the user, who cannot be created, and no batch takes it."""
    joins = (Membership(GROUPS, ("/gone",), create_missing=True),)
    stale = replace(by_username(), memberships=joins)
    harness.provision(by_username(), 2)
    harness.restart()
    result = harness.provision(stale, 1)

    assert ("stale", ("/gone",)) == (result.reason, harness.keycloak.missing(GROUPS, ["/gone"]))
    assert harness.provisioner.draft(an_event(), stale) is None
    new = replace(by_username("U-2", "new@acme.example"), memberships=joins)
    assert ("created", {"username": 1}) == (harness.provision(new).action, harness.searches)


def test_ids_that_differ_in_case_alone_are_two_people(harness: Harness) -> None:
    """No event of the second reaches the account of the first, and each is a dead letter with that code."""
    harness.provision(by_username("U-1"))
    before = harness.keycloak.users()
    codes = []
    for desired in (
        by_username("u-1", "eve@acme.example"),
        replace(by_username("u-1", "eve@acme.example"), intent=Intent.UPDATE),
        named("u-1", Intent.DISABLE),
        named("u-1", Intent.DELETE),
    ):
        with pytest.raises(ConflictError) as caught:
            harness.provision(desired)
        codes.append(caught.value.code)

    assert ["id-differs-in-case"] * 4 == codes
    assert before == harness.keycloak.users()


@pytest.mark.parametrize("link", [LinkPolicy.NEVER, LinkPolicy.VERIFIED_EMAIL])
def test_a_user_of_that_name_that_is_nobodys_is_not_taken_over(
    harness: Harness, link: LinkPolicy
) -> None:
    """Whoever made it: its attribute says nothing, and a username is no proof."""
    user_id = harness.keycloak.add_user(UserRepresentation(username="u-1", enabled=True))

    with pytest.raises(ConflictError) as caught:
        harness.provision(replace(by_username(), link=link))

    assert ("conflict", "bridgeUserId" in caught.value.message) == (caught.value.code, True)
    assert [user_id] == [user["id"] for user in harness.keycloak.users()]


@pytest.mark.parametrize("external_id", ["u1", "u 1", "u/1"])
def test_an_id_that_the_realm_refuses_as_a_username_has_a_code(
    harness: Harness, external_id: str
) -> None:
    """Another realm may take it: its user profile decides."""
    with pytest.raises(BridgeError) as caught:
        harness.provision(by_username(external_id))
    with harness.keycloak.usernames_unchecked():
        taken = harness.provision(by_username(external_id))

    assert ("id-refused", ["/user/username"]) == (
        caught.value.code,
        [one.pointer for one in caught.value.violations],
    )
    assert caught.value.is_final
    assert "created" == taken.action


def test_events_that_name_the_user_find_it_by_one_search(harness: Harness) -> None:
    """By its username, exactly."""
    harness.provision(by_username())
    result = harness.provision(named("U-1", Intent.DISABLE))

    assert ("updated", {"username": 1}) == (result.action, harness.searches)
    with pytest.raises(UnknownUserError):
        harness.provision(named("U-2", Intent.DISABLE))


def test_an_anonymised_user_is_still_found(harness: Harness) -> None:
    """Its username is its id and stays, as the attribute with the id does elsewhere: a replay must not bring it back."""
    harness.provision(by_username())
    harness.provision(named("U-1", Intent.ANONYMISE))
    again = harness.provision(by_username(), 1)
    (user,) = harness.keycloak.users()

    assert "stale" == again.reason
    assert ("u-1", ["U-1"], False) == (
        user["username"],
        user["attributes"]["bridgeUserId"],
        user["enabled"],
    )
    assert {"email", "firstName", "lastName"}.isdisjoint(user)


def test_an_anonymised_user_that_does_not_exist_yet_gets_its_id_as_the_username() -> None:
    """What several events come to is what one after the other would have left."""
    folded = fold(None, an_event("event-1"), by_username())
    folded = fold(folded, an_event("event-2", day=2), named("U-1", Intent.ANONYMISE))
    (created, *_) = plan_folded(folded, None, reserved=()).operations

    assert "u-1" == created.representation["username"]  # type: ignore[union-attr]


def test_a_username_that_the_realm_changed_counts_as_dropped() -> None:
    """A realm that makes the address the username would lose every user."""
    harness = Harness("always")
    with harness.keycloak.addresses_are_usernames(), pytest.raises(BridgeError) as caught:
        harness.provision(by_username())

    assert ("dropped-by-keycloak", ["/user/username"]) == (
        caught.value.code,
        [one.pointer for one in caught.value.violations],
    )


def test_planning_against_the_outcome_gives_nothing_to_do(harness: Harness) -> None:
    """Which is what idempotent means here."""
    harness.provision(by_username())
    found = harness.keycloak.find(by_username().matching)

    assert found is not None
    operations = plan_user(an_event("event-1"), by_username(), found).operations
    assert ["RequestInvitation"] == [type(one).__name__ for one in operations]
