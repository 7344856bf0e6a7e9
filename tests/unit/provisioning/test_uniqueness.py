"""Two processes that create the same user at the same moment leave one of them."""

from collections.abc import Sequence

import pytest
from samples import a_desired_user, an_event

from keycloak_bridge.domain.errors import ConflictError, HoldError
from keycloak_bridge.domain.events import Invitation
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

TWIN = UserRepresentation(
    username="twin",
    enabled=True,
    attributes={"userId": ["u-1"], "bridgeEventId": ["event-0"]},
)


class RacingKeycloak(InMemoryKeycloak):
    """Another process creates the same user right after ours is created, with an age of its own.

    `older` says whether Keycloak dates the other one before ours.
    """

    def __init__(self, *, older: bool) -> None:
        super().__init__()
        self.older = older
        self.others: list[str] = []

    def create(self, representation: UserRepresentation) -> str:
        """Create ours and, the first time, the other one."""
        created = super().create(representation)
        if not self.others:
            self.others.append(self.add_user(TWIN))
        return created

    def having(self, external_id: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return the users with their ages."""
        return [
            {**user, "createdTimestamp": 1 if (user["id"] in self.others) == self.older else 2}
            for user in super().having(external_id)
        ]


def provisioner_of(
    keycloak: InMemoryKeycloak, invited: list[Invitation] | None = None
) -> Provisioner:
    """Return a provisioner that compares nothing, so that only the race makes it look."""

    def invite(invitation: Invitation) -> tuple[()]:
        (invited if invited is not None else []).append(invitation)
        return ()

    policy = ProvisionPolicy(verification=VerificationPolicy("off"))
    return Provisioner(keycloak, invite, FakeClock(), policy=policy)


def test_the_younger_one_is_deleted_and_the_older_one_brought() -> None:
    """Ours goes, and the event is applied to the other."""
    keycloak = RacingKeycloak(older=True)

    provisioner = provisioner_of(keycloak)
    with keycloak.usernames_editable():
        result = provisioner.provision(an_event(), a_desired_user(), one_partition=False).result

    (user,) = keycloak.users()
    assert keycloak.others == [user["id"]]
    assert ("updated", user["id"], ["event-1"]) == (
        result.action,
        result.keycloak_id,
        user["attributes"]["bridgeEventId"],
    )


def test_the_older_one_waits_until_the_younger_one_is_gone() -> None:
    """Its process deletes it meanwhile; nobody is invited before that."""
    keycloak, invited = RacingKeycloak(older=False), list[Invitation]()
    provisioner = provisioner_of(keycloak, invited)
    with pytest.raises(HoldError) as held:
        provisioner.provision(an_event(), a_desired_user(), one_partition=False)
    before = list(invited)
    keycloak.delete_user(*keycloak.others)

    provisioner.provision(an_event(), a_desired_user(), one_partition=False)

    assert ("duplicate-user", []) == (held.value.code, before)
    assert [keycloak.users()[0]["id"]] == [one.keycloak_id for one in invited]


def test_the_older_one_makes_way_for_a_younger_one_that_stays() -> None:
    """The other process had looked before ours could be seen, and counts its event as done."""
    keycloak = RacingKeycloak(older=False)
    provisioner = provisioner_of(keycloak)
    with pytest.raises(HoldError):
        provisioner.provision(an_event(), a_desired_user(), one_partition=False)

    with keycloak.usernames_editable():
        result = provisioner.provision(an_event(), a_desired_user(), one_partition=False).result

    assert keycloak.others == [user["id"] for user in keycloak.users()]
    assert "updated" == result.action


def test_users_that_were_there_before_are_left_alone() -> None:
    """Two of the same external id that this event did not create are for people to sort out."""
    keycloak = InMemoryKeycloak()
    keycloak.add_user(TWIN)
    keycloak.add_user({**TWIN, "username": "other"})

    with pytest.raises(ConflictError) as caught:
        provisioner_of(keycloak).provision(an_event(), a_desired_user(), one_partition=False)

    assert ("ambiguous", 2) == (caught.value.code, len(keycloak.users()))


@pytest.mark.parametrize(
    ("one_partition", "mode", "looks"),
    [
        (True, "off", 0),
        (False, "off", 1),
        (True, "always", 1),
        (False, "always", 1),
    ],
)
def test_who_cannot_race_is_not_looked_at(one_partition: bool, mode: str, looks: int) -> None:
    """The look costs a search; one for both questions is enough."""
    keycloak = InMemoryKeycloak()
    policy = ProvisionPolicy(verification=VerificationPolicy(mode))

    Provisioner(keycloak, lambda _: (), FakeClock(), policy=policy).provision(
        an_event(), a_desired_user(), one_partition=one_partition
    )

    assert looks == keycloak.calls.count("having")
