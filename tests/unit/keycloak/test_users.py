"""What the directory adds to single calls: comparing, remembering, explaining refusals, listing, and mails on record."""

import bisect
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.users import (
    GROUPS,
    REALM_ROLES,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.keycloak.admin import KeycloakAdmin, Params
from keycloak_bridge.keycloak.memberships import CACHE_TTL_S
from keycloak_bridge.keycloak.users import KeycloakUserDirectory, each_user

GROUP = {"id": "g1", "path": "/staff"}
ADA: UserRepresentation = {"id": "u1", "username": "ada"}
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 60)


class Bench(KeycloakScript):
    """A directory over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = KeycloakUserDirectory(self.admin, self.clock)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("target", "user"),
    [
        ("username", {"id": "u1", "username": "adam"}),
        ("email", {"id": "u1", "email": "adam"}),
        ("email", {"id": "u1"}),
        ("attributes.userId", {"id": "u1", "attributes": {"userId": ["ADA"]}}),
        ("attributes.userId", {"id": "u1", "attributes": {"other": ["ada"]}}),
        ("attributes.userId", {"id": "u1"}),
    ],
)
def test_what_keycloak_found_is_compared_again(
    bench: Bench, target: str, user: dict[str, object]
) -> None:
    """Databases compare in their own ways; a user that merely resembles is not the one."""
    bench.answers([user])

    found = bench.directory.find([MatchCriterion(target, "ada")])

    assert found is None


def test_computed_fields_are_left_out(bench: Bench) -> None:
    """`access` differs between two answers about the same user."""
    user = {"id": "u1", "username": "ada", "access": {"manage": True}}
    bench.answers([user], {**user, "userProfileMetadata": {}})

    found = bench.directory.find([MatchCriterion("username", "ada")])

    assert found is not None
    assert found.representation == bench.directory.get("u1") == {"id": "u1", "username": "ada"}


def test_each_look_up_costs_a_call_only_when_asked_for(bench: Bench) -> None:
    """A mapping without groups and roles pays nothing for them."""
    bench.answers([ADA], [ADA], [], [], [], [])
    ada = [MatchCriterion("username", "ada")]

    bench.directory.find(ada)
    bench.directory.find(
        ada, Lookup(frozenset({GROUPS, REALM_ROLES}), identities=True, sessions=True)
    )

    assert ["GET /users"] * 2 == bench.sent()[:2]
    assert len(bench.sent()) == 6


@pytest.mark.parametrize("target", ["username", "email"])
def test_name_that_cannot_be_sent_is_refused(bench: Bench, target: str) -> None:
    """Half a surrogate pair is JSON, but no text."""
    with pytest.raises(KeycloakRejectedError) as caught:
        bench.directory.find([MatchCriterion(target, "\ud800")])

    assert caught.value.code == "unsearchable-value"


def test_an_unknown_kind_is_a_programming_error(bench: Bench) -> None:
    """Nothing may be joined by chance."""
    with pytest.raises(ValueError, match="roles"):
        bench.directory.join("u1", "roles", ["viewer"])


def test_failed_create_forgets_its_groups(bench: Bench) -> None:
    """A group that was deleted meanwhile shows as a bare 500, and must not do so forever."""
    bench.answers(
        GROUP, (500, {"error": "unknown_error"}), (404, {"error": "Group path does not exist"})
    )
    bench.directory.missing(GROUPS, ["staff"])
    with pytest.raises(KeycloakUnavailableError):
        bench.directory.create({"username": "ada", "groups": ["staff"]})

    assert bench.directory.missing(GROUPS, ["staff"]) == ("staff",)


@pytest.mark.parametrize("kind", ["password", "otp", "webauthn-passwordless"])
def test_any_credential_counts(bench: Bench, kind: str) -> None:
    """A user that can log in by a passkey needs no link either."""
    bench.answers([{"id": "c1", "type": kind}])

    assert bench.directory.has_credentials("u1") is True


def test_a_password_that_every_user_of_a_directory_seems_to_have_does_not_count(
    bench: Bench,
) -> None:
    """Keycloak does not know whether an LDAP directory has one; a new user there must be invited."""
    bench.answers([{"type": "password", "createdDate": -1, "federationLink": "people"}])

    assert bench.directory.has_credentials("u1") is False


@pytest.mark.parametrize(
    ("user", "code"),
    [
        ({"enabled": False, "email": "a@b"}, "user-disabled"),
        ({"email": "a@b"}, "user-disabled"),
        ({"enabled": True}, "no-email"),
        ({"enabled": True, "email": "a@b"}, "keycloak-rejected"),
    ],
)
def test_refused_mail_is_explained_by_the_user(
    bench: Bench, user: dict[str, object], code: str
) -> None:
    """Keycloak's sentences may change; what the user lacks is a fact."""
    bench.answers((400, {"errorMessage": "worded differently"}), {"id": "u1", **user})

    with pytest.raises(KeycloakRejectedError) as caught:
        bench.directory.execute_actions_email("u1", TERMS)

    assert caught.value.code == code


# mails on record

FORBIDDEN = {"error": "HTTP 403 Forbidden"}


@pytest.mark.parametrize(
    ("status", "body", "text", "expected"),
    [
        (200, {"adminEventsEnabled": True}, "", True),
        (200, {"adminEventsEnabled": False}, "", False),
        (200, {}, "", False),
        (403, FORBIDDEN, "", False),
        (403, None, "<html>", False),
        (404, None, "<html>", False),
    ],
)
def test_mails_can_be_looked_up_when_events_are_on_and_may_be_read(
    bench: Bench, status: int, body: object, text: str, expected: bool
) -> None:
    """Neither a missing role nor a gateway that lets no such call pass is an outage."""
    bench.stub.answer(status, body, text=text)

    assert expected == bench.directory.can_look_up_mails()
    assert ["/admin/realms/acme/events/config"] == [sent.path for sent in bench.stub.requests]


@pytest.mark.parametrize("first", [True, False])
def test_it_is_asked_again_after_a_minute(bench: Bench, first: bool) -> None:
    """The role may be granted, or events switched off, while the bridge runs."""
    bench.answers({"adminEventsEnabled": first}, {"adminEventsEnabled": not first})
    seen = [bench.directory.can_look_up_mails()]
    bench.clock.advance(CACHE_TTL_S - 1)
    seen.append(bench.directory.can_look_up_mails())
    bench.clock.advance(1)
    seen.append(bench.directory.can_look_up_mails())

    assert [first, first, not first] == seen


@pytest.mark.parametrize(
    ("status", "answers", "error"),
    [(503, 1, KeycloakUnavailableError), (401, 2, KeycloakAuthError)],  # a 401 is tried again
)
def test_an_outage_is_no_answer(
    bench: Bench, status: int, answers: int, error: type[Exception]
) -> None:
    """It is asked again at once afterwards."""
    bench.answers(*[(status, {"error": "no"})] * answers, {"adminEventsEnabled": True})
    with pytest.raises(error):
        bench.directory.can_look_up_mails()

    assert bench.directory.can_look_up_mails() is True


SINCE = (
    datetime(2026, 11, 2, 0, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 22, 30, tzinfo=timezone(timedelta(hours=-2))),
)


@pytest.mark.parametrize("since", SINCE)
def test_since_is_asked_by_milliseconds(bench: Bench, since: datetime) -> None:
    """From a minute before on, by which clocks may differ: Keycloak reads all that it recorded since then."""
    bench.answers([])

    bench.directory.mail_recorded("u1", since)

    assert "1793579340000" == bench.stub.requests[0].params["dateFrom"]


@pytest.mark.parametrize("since", SINCE)
def test_a_keycloak_that_knows_days_only_is_asked_by_the_day_before(
    bench: Bench, since: datetime
) -> None:
    """Keycloak takes a day in its own time zone, which is not known here; it is not asked by milliseconds again."""
    bench.answers((400, {"errorMessage": "Invalid value for 'Date(From)'"}), [], [])

    bench.directory.mail_recorded("u1", since)
    bench.directory.mail_recorded("u1", since)

    days = ["2026-11-01", "2026-11-01"]
    assert days == [request.params["dateFrom"] for request in bench.stub.requests[1:]]


@pytest.mark.parametrize(
    ("older_s", "expected"), [(-5, True), (0, True), (60, True), (61, False), (7200, False)]
)
def test_an_older_mail_does_not_count(bench: Bench, older_s: int, expected: bool) -> None:
    """A user's second mail is not on record because of the first one; clocks may differ by a minute."""
    since = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    time_ms = int((since.timestamp() - older_s) * 1000)
    path = "users/u1/execute-actions-email"
    bench.answers([{"time": time_ms, "resourcePath": path}])

    assert expected == bench.directory.mail_recorded("u1", since)


def test_a_mail_that_is_not_found_may_not_have_been_recorded(bench: Bench) -> None:
    """Whether mails are recorded is asked anew after a look that found none, sooner than after a minute."""
    bench.answers({"adminEventsEnabled": True}, [], {"adminEventsEnabled": False})

    assert [True, False, False] == [
        bench.directory.can_look_up_mails(),
        bench.directory.mail_recorded("u1"),
        bench.directory.can_look_up_mails(),
    ]


@pytest.mark.parametrize(
    ("status", "error", "usable"),
    [(403, KeycloakAuthError, False), (503, KeycloakUnavailableError, True)],
)
def test_only_a_refusal_says_that_mails_cannot_be_looked_up(
    bench: Bench, status: int, error: type[Exception], usable: bool
) -> None:
    """A role that was taken away is noticed at once; an outage changes nothing."""
    bench.answers({"adminEventsEnabled": True}, (status, FORBIDDEN))
    before = bench.directory.can_look_up_mails()
    with pytest.raises(error):
        bench.directory.mail_recorded("u1")

    assert (True, usable) == (before, bench.directory.can_look_up_mails())
    assert 2 == len(bench.stub.requests)


# listing


@dataclass
class ChangingRealm:
    """A realm whose users come and go between two pages, in the order of their names."""

    names: list[str]
    changes: list[tuple[bool, int]]
    constant: set[str] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names.sort()
        self.constant = set(self.names)

    def search_users(self, params: Params) -> list[UserRepresentation]:
        """Return a page, and then add or remove a user."""
        first, most = int(str(params["first"])), int(str(params["max"]))
        self.asked.append(first)
        page = [UserRepresentation(id=name) for name in self.names[first : first + most]]
        if self.changes:
            comes, number = self.changes.pop(0)
            if comes:
                bisect.insort(self.names, f"n{number:03}x")
            elif self.names:
                self.constant.discard(self.names.pop(number % len(self.names)))
        return page


@given(st.integers(0, 13))
def test_pages_are_asked_for_until_one_is_not_full(count: int) -> None:
    """Each user once; an empty realm is asked once."""
    realm = ChangingRealm([f"n{number:03}" for number in range(count)], [])
    found = each_user(cast("KeycloakAdmin", realm), page_size=2)

    assert realm.names == [user["id"] for user in found]
    assert list(range(0, count + 1, 2)) == realm.asked


@given(st.integers(0, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=12))
def test_no_user_who_stays_is_left_out(count: int, changes: list[tuple[bool, int]]) -> None:
    """Whatever changes between the pages; one user goes at a time, fewer than the overlap covers."""
    realm = ChangingRealm([f"n{number:03}" for number in range(count)], changes)
    found = {user["id"] for user in each_user(cast("KeycloakAdmin", realm), page_size=6, overlap=2)}

    assert realm.constant <= found


def test_the_next_pages_are_made_meanwhile() -> None:
    """In their order; a realm of one page costs one call."""
    names = [f"n{number:02}" for number in range(20)]
    together = threading.Barrier(3)  # the second page and two ahead of it

    asked: list[int] = []

    class Realm:
        def search_users(self, params: Params) -> list[UserRepresentation]:
            first = int(str(params["first"]))
            asked.append(first)
            if 0 < first < 16:
                together.wait(60)
            return [UserRepresentation(id=name) for name in names[first : first + 6]]

    realm = cast("KeycloakAdmin", Realm())
    found = [user["id"] for user in each_user(realm, page_size=6, overlap=1, ahead=2)]
    del names[5:]
    asked.clear()
    few = list(each_user(realm, page_size=6, overlap=1, ahead=2))

    assert (
        [f"n{number:02}" for number in range(20)]
        == sorted(set(found))
        == list(dict.fromkeys(found))
    )
    assert (5, [0]) == (len(few), asked)


def test_too_many_deletions_are_noticed() -> None:
    """Another user may have been missed."""
    realm = ChangingRealm([f"n{number:03}" for number in range(20)], [])
    pages = each_user(cast("KeycloakAdmin", realm), page_size=6, overlap=2)
    for _ in range(6):
        next(pages)
    del realm.names[:6]

    with pytest.raises(KeycloakUnavailableError) as raised:
        next(pages)

    assert raised.value.code == "realm-in-motion"


@pytest.mark.parametrize("pages", [1, 2, 3, 5])
@pytest.mark.parametrize("overlap", [0, 2])
def test_pages_that_repeat_have_an_end(pages: int, overlap: int) -> None:
    """A gateway may drop what says which page is asked for, or answer from a cache in any round."""
    realm = RepeatingRealm(pages)

    with pytest.raises(KeycloakError) as raised:
        for _ in each_user(cast("KeycloakAdmin", realm), page_size=6, overlap=overlap):
            pass

    assert "not-keycloak" == raised.value.code
    assert realm.asked <= 4 * pages


@dataclass
class RepeatingRealm:
    """A server that returns so many full pages in a round, each with two users of the one before."""

    pages: int
    asked: int = 0

    def search_users(self, _: Params) -> list[UserRepresentation]:
        """Return the next page."""
        users = self.pages * 4
        begin = self.asked % self.pages * 4
        self.asked += 1
        return [UserRepresentation(id=f"n{(begin + at) % users}") for at in range(6)]
