"""Nothing is written for a record that is another member's."""

from collections.abc import Callable

import pytest
from threads import in_threads

from keycloak_bridge.delivery.fencing import Fence, Lease, fenced
from keycloak_bridge.domain.errors import PartitionRevokedError
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import (
    GROUPS,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

ADA: UserRepresentation = {"username": "ada", "email": "ada@acme.example", "enabled": True}
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 3600)
ALL = Lookup(frozenset({GROUPS}), identities=True, sessions=True)


def behind_a_fence() -> tuple[InMemoryKeycloak, Fence, UserDirectory, str]:
    """Return a Keycloak with one user, behind a fence."""
    keycloak = InMemoryKeycloak(groups=["/staff", "/old"], identity_providers=["google", "old"])
    fence = Fence()
    user_id = keycloak.add_user({**ADA, "groups": ["/old"]})
    keycloak.link_identity(user_id, IdentityLink("old", "ada"))
    keycloak.log_in(user_id)
    return keycloak, fence, fenced(keycloak, fence), user_id


WRITES: dict[str, Callable[[UserDirectory, str], object]] = {
    "create": lambda users, _: users.create({"username": "eve", "enabled": True}),
    "update": lambda users, user: users.update(user, {**ADA, "enabled": False}),
    "delete": lambda users, user: users.delete(user),
    "join": lambda users, user: users.join(user, GROUPS, ["/staff"]),
    "leave": lambda users, user: users.leave(user, GROUPS, ["/old"]),
    "create_group": lambda users, _: users.create_group("/new"),
    "link_identity": lambda users, user: users.link_identity(user, IdentityLink("google", "ada")),
    "unlink_identity": lambda users, user: users.unlink_identity(user, "old"),
    "end_sessions": lambda users, user: users.end_sessions(user),
    "execute_actions_email": lambda users, user: users.execute_actions_email(user, TERMS),
}
READS: dict[str, Callable[[UserDirectory, str], object]] = {
    "find": lambda users, _: users.find([MatchCriterion("username", "ada")], ALL),
    "having": lambda users, _: users.having(MatchCriterion("username", "ada")),
    "get": lambda users, user: users.get(user),
    "belongs_to": lambda users, user: users.belongs_to(user, GROUPS),
    "missing": lambda users, _: users.missing(GROUPS, ["/staff", "/none"]),
    "identity_owner": lambda users, _: users.identity_owner("old", "ada"),
    "has_credentials": lambda users, user: users.has_credentials(user),
    "can_look_up_mails": lambda users, _: users.can_look_up_mails(),
    "mail_recorded": lambda users, user: users.mail_recorded(user),
}


def state(keycloak: InMemoryKeycloak) -> tuple[object, ...]:
    """Return all that a write would change."""
    found = keycloak.find([MatchCriterion("username", "ada")], ALL)
    missing = keycloak.missing(GROUPS, ["/new"])
    return (len(keycloak.users()), found, tuple(keycloak.mails), missing)


def test_every_call_is_in_one_of_the_tables() -> None:
    """Add a method of the port to one of them: does it write?"""
    methods = {name for name in vars(UserDirectory) if not name.startswith("_")}

    assert methods == WRITES.keys() | READS.keys()


@pytest.mark.parametrize("name", WRITES)
def test_a_write_goes_through_an_open_fence_only(name: str) -> None:
    """Behind a closed one it is refused before Keycloak gets it; the question is asked once for each write."""
    keycloak, fence, users, user_id = behind_a_fence()
    before = state(keycloak)
    answers = [True, False]

    with fence.around(answers.pop):
        with pytest.raises(PartitionRevokedError):
            WRITES[name](users, user_id)
        refused = state(keycloak)
        WRITES[name](users, user_id)

    assert ([], before) == (answers, refused)
    assert before != state(keycloak)


@pytest.mark.parametrize("name", READS)
def test_reading_is_always_allowed(name: str) -> None:
    """It answers as the directory itself does."""
    keycloak, fence, users, user_id = behind_a_fence()

    with fence.around(lambda: False):
        answer = READS[name](users, user_id)

    assert READS[name](keycloak, user_id) == answer


def test_a_fence_counts_for_its_thread_and_its_block_only() -> None:
    """Who handles no record (a check of the realm) may write, and so may another thread's record."""
    fence = Fence()
    refused: list[str] = []

    def other() -> None:
        try:
            fence.check()
        except PartitionRevokedError as error:
            refused.append(error.code)

    with fence.around(lambda: False):
        in_threads(other)
    other()

    assert [] == refused


@pytest.mark.parametrize(
    ("proofs_s", "now_s", "holds"),
    [
        ([], 0.0, False),
        ([10.0], 10.0, True),
        ([10.0], 14.9, True),
        ([10.0], 15.0, False),
        ([10.0], 1000.0, False),
        ([10.0, 14.0], 18.9, True),
        ([14.0, 10.0], 18.9, True),
        ([10.0, 30.0], 34.0, True),
    ],
)
def test_it_holds_for_its_length_after_the_latest_proof(
    proofs_s: list[float], now_s: float, holds: bool
) -> None:
    """Without one, never; an older proof that is reported later does not shorten it."""
    lease = Lease(5.0)
    for proof_s in proofs_s:
        lease.renew(proof_s)

    assert holds == lease.holds(now_s)
