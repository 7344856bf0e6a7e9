"""An account at an identity provider belongs to one user, whoever links it at the same moment."""

import threading
from dataclasses import replace

import pytest
from samples import a_desired_user, an_event
from threads import in_threads

from keycloak_bridge.domain.errors import BridgeError, ConflictError, KeycloakUnavailableError
from keycloak_bridge.domain.users import DesiredUser, IdentityLink
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

ACCOUNT = IdentityLink("corp", "a-1")
OLD = IdentityLink("corp", "a-0")


class Realm:
    """A provisioner over a Keycloak in memory with an identity provider."""

    def __init__(self, keycloak: InMemoryKeycloak) -> None:
        keycloak.add_identity_provider("corp")
        self.keycloak = keycloak
        self.provisioner = Provisioner(
            keycloak, lambda _: (), FakeClock(), policy=ProvisionPolicy(frozenset())
        )

    def provision(self, user_id: str, link: IdentityLink, event_id: str = "") -> None:
        """Apply an event that links a user to an account."""
        event = an_event(event_id or f"event-{user_id}", user_id=user_id)
        self.provisioner.provision(event, wanting(user_id, link))

    def linked(self, account: str = "a-1") -> list[str]:
        """Return the usernames of those who have the account."""
        return [
            user["username"]
            for user in self.keycloak.users()
            if any(link.user_id == account for link in self.keycloak.identities_of(user["id"]))
        ]


def wanting(user_id: str, link: IdentityLink) -> DesiredUser:
    """Return a user with an account."""
    user = a_desired_user(user_id=user_id, username=user_id, email=f"{user_id}@acme.example")
    return replace(user, identities=(link,))


class Faster(InMemoryKeycloak):
    """Another process links the account to another user right after it was found free."""

    other: str | None = None

    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Answer, and then have the account linked."""
        owner = super().identity_owner(alias, user_id)
        if self.other is not None and user_id == ACCOUNT.user_id:
            other, self.other = self.other, None
            self._accounts[other].identities["corp"] = ACCOUNT
        return owner


@pytest.fixture
def raced() -> Realm:
    """A realm in which another process is faster."""
    keycloak = Faster()
    realm = Realm(keycloak)
    realm.provision("other", OLD)
    (user,) = keycloak.users()
    keycloak.unlink_identity(user["id"], "corp")
    keycloak.other = user["id"]
    return realm


def test_a_link_is_taken_back_where_another_process_was_faster(raced: Realm) -> None:
    """The event is a conflict, and the account stays with the other user."""
    with pytest.raises(ConflictError) as caught:
        raced.provision("u-1", ACCOUNT)

    assert ("identity-taken", ["other"]) == (caught.value.code, raced.linked())


def test_the_link_that_was_replaced_is_given_back(raced: Realm) -> None:
    """The user keeps what it had."""
    raced.provision("u-1", OLD, "event-0")

    with pytest.raises(ConflictError):
        raced.provision("u-1", ACCOUNT)

    assert (["other"], ["u-1"]) == (raced.linked(), raced.linked("a-0"))


def test_the_link_of_a_user_of_a_batch_is_taken_back(raced: Realm) -> None:
    """A batch creates the user; its account is linked afterwards, in the same way."""
    draft = raced.provisioner.draft(an_event("event-1"), wanting("u-1", ACCOUNT))
    assert draft is not None
    created = raced.keycloak.add_user(draft.representation)

    with pytest.raises(ConflictError) as caught:
        raced.provisioner.complete(draft, created)

    assert ("identity-taken", ["other"]) == (caught.value.code, raced.linked())


def test_a_redelivered_event_looks_again(raced: Realm) -> None:
    """The attempt before it linked the account and ended there: it looks like done."""
    raced.keycloak.fail("link_identity", KeycloakUnavailableError("lost"), after_effect=True)
    with pytest.raises(KeycloakUnavailableError):
        raced.provision("u-1", ACCOUNT)
    assert ["other", "u-1"] == raced.linked()

    with pytest.raises(ConflictError) as caught:
        raced.provision("u-1", ACCOUNT)

    assert ("identity-taken", ["other"]) == (caught.value.code, raced.linked())


class Together(InMemoryKeycloak):
    """All users find the account free before one of them links it."""

    def __init__(self, users: int) -> None:
        super().__init__()
        self._all = threading.Barrier(users)
        self._met: set[int] = set()

    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Answer; the first time of each thread, once all have asked."""
        owner = super().identity_owner(alias, user_id)
        if threading.get_ident() not in self._met:
            self._met.add(threading.get_ident())
            self._all.wait(60)
        return owner


def test_of_users_in_one_process_exactly_one_gets_the_account() -> None:
    """The first one that links it keeps it; the others are conflicts."""
    realm = Realm(Together(8))
    outcomes: list[str | None] = []

    def provision(user_id: str) -> None:
        try:
            realm.provision(user_id, ACCOUNT)
        except BridgeError as error:
            outcomes.append(error.code)
        else:
            outcomes.append(None)

    in_threads(*[lambda at=at: provision(f"user-{at}") for at in range(8)])

    assert [None, *["identity-taken"] * 7] == sorted(outcomes, key=lambda one: one or "")
    assert len(realm.linked()) == 1
