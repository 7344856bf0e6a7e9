"""How links are written although Keycloak checks nothing."""

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import ConflictError, KeycloakNotFoundError
from keycloak_bridge.domain.users import IdentityLink
from keycloak_bridge.keycloak.users import Identities

LINK = IdentityLink("google", "new", "ada")
SENT = {"identityProvider": "google", "userId": "new", "userName": "ada"}
LINKED = {"errorMessage": "User is already linked with provider"}
PATH = "/users/u1/federated-identity"


class Bench(KeycloakScript):
    """The subject over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.identities = Identities(self.admin, self.clock)


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()


def test_provider_is_checked_once_a_minute(bench: Bench) -> None:
    """The second user of a known identity provider costs one call."""
    bench.stub.answer(204)
    bench.stub.answer(200, [SENT])
    bench.stub.answer(204)

    bench.identities.link("u1", LINK)
    bench.identities.link("u2", LINK)

    assert [
        f"POST {PATH}/google",
        f"GET {PATH}",
        "POST /users/u2/federated-identity/google",
    ] == bench.sent()
    assert SENT == bench.stub.requests[0].json


def test_hidden_link_is_taken_away_again(bench: Bench) -> None:
    """Keycloak has no such identity provider, so it does not show the link."""
    bench.stub.answer(204)
    bench.stub.answer(200, [])
    bench.stub.answer(204)

    with pytest.raises(KeycloakNotFoundError):
        bench.identities.link("u1", LINK)

    assert f"DELETE {PATH}/google" == bench.sent()[-1]


def test_hidden_link_of_an_earlier_try_is_taken_away(bench: Bench) -> None:
    """The bridge was stopped before it could take it away."""
    bench.stub.answer(409, LINKED)
    bench.stub.answer(200, [])
    bench.stub.answer(204)

    with pytest.raises(KeycloakNotFoundError) as caught:
        bench.identities.link("u1", LINK)

    assert "identity-provider-not-found" == caught.value.code
    assert f"DELETE {PATH}/google" == bench.sent()[-1]


def test_other_account_is_replaced(bench: Bench) -> None:
    """Keycloak has no call that changes a link."""
    bench.stub.answer(409, LINKED)
    bench.stub.answer(200, [{**SENT, "userId": "old"}])
    bench.stub.answer(204)
    bench.stub.answer(204)

    bench.identities.link("u1", LINK)

    assert [
        f"POST {PATH}/google",
        f"GET {PATH}",
        f"DELETE {PATH}/google",
        f"POST {PATH}/google",
    ] == bench.sent()


def test_link_that_is_there_is_left_alone(bench: Bench) -> None:
    """A redelivered event links again."""
    bench.stub.answer(409, LINKED)
    bench.stub.answer(200, [SENT])

    bench.identities.link("u1", LINK)

    assert [f"POST {PATH}/google", f"GET {PATH}"] == bench.sent()


def test_link_to_no_account_is_a_programming_error(bench: Bench) -> None:
    """Taking a link away has a method of its own."""
    with pytest.raises(ValueError, match="unlink_identity"):
        bench.identities.link("u1", IdentityLink("google", None))


@pytest.mark.parametrize(("alias", "user_id"), [("", "1"), ("google", ""), ("", "")])
def test_half_an_account_is_nobodys(bench: Bench, alias: str, user_id: str) -> None:
    """Keycloak would answer with everybody."""
    assert bench.identities.owner(alias, user_id) is None
    assert [] == bench.sent()


def test_account_of_two_is_taken(bench: Bench) -> None:
    """One user too many."""
    bench.stub.answer(200, [{"id": "u1"}, {"id": "u2"}])

    with pytest.raises(ConflictError, match="google"):
        bench.identities.owner("google", "1")
