"""Both stages write the same user at the same time, and neither undoes the other."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from samples import a_desired_user, an_event

from keycloak_bridge.domain.events import Invitation
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.planning.bookkeeping import mark_of
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy, UserLocks
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak


class Interleaved(InMemoryKeycloak):
    """Lets something else happen between the mark's read and its write, as a second thread would."""

    meanwhile: threading.Thread | None = None

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user, and give the other thread its chance before the caller writes."""
        user = super().get(user_id)
        if self.mails and self.meanwhile is not None and not self.meanwhile.is_alive():
            self.meanwhile.start()
            # without a lock the other thread is through long before this ends
            self.meanwhile.join(timeout=0.5)
        return user


def test_marking_an_invitation_does_not_undo_an_update() -> None:
    """The mark is read, changed and written as one step; the update of the same user waits for it."""
    keycloak = Interleaved(groups=["/staff"])
    locks = UserLocks()
    invitations: list[Invitation] = []

    def remember(invitation: Invitation) -> Sequence[Acknowledgement]:
        invitations.append(invitation)
        return ()

    provisioner = Provisioner(
        keycloak,
        remember,
        FakeClock(),
        policy=ProvisionPolicy(),
        locks=locks,
    )
    first = a_desired_user()
    provisioner.provision(an_event("event-1", day=1), first)
    changed = replace(
        first,
        representation={
            **first.representation,
            "lastName": "King",
            "attributes": {"userId": ["u-1"]},
        },
    )
    update = threading.Thread(
        target=provisioner.provision, args=(an_event("event-2", day=2), changed), daemon=True
    )
    keycloak.meanwhile = update

    Inviter(keycloak, locks, clock=FakeClock()).invite(invitations[0])
    update.join(timeout=60)

    (user,) = keycloak.users()
    mark = mark_of(user)
    assert mark is not None
    assert ("King", ["event-2"], True) == (
        user["lastName"],
        user["attributes"]["bridgeEventId"],
        mark.is_sent("event-1"),
    )


def test_a_lock_can_be_taken_again_by_its_holder() -> None:
    """`apply` marks the invitation while it holds the user."""
    locks = UserLocks()

    with locks.of("u-1"), locks.of("u-1"):
        assert locks.of("u-1") is locks.of("u-1")
