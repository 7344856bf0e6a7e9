"""What the directory adds to single calls: comparing, remembering, and telling refusals apart."""

import pytest

from keycloak_bridge.core.errors import (
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.core.model import InvitationTerms, MatchCriterion
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak_token import TokenSource
from keycloak_bridge.keycloak_users import CACHE_TTL_S, KeycloakUserDirectory
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.stub_adapter import StubAdapter

GROUP = {"id": "g1", "path": "/staff"}
VIEWER = {"id": "r1", "name": "viewer"}
EDITOR = {"id": "r2", "name": "editor"}
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 60)


class Bench:
    """A directory over a script and a clock."""

    def __init__(self) -> None:
        self.stub = StubAdapter()
        self.clock = FakeClock()
        http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), self.stub)
        tokens = TokenSource(http, "bridge", lambda: "x", self.clock)
        self.directory = KeycloakUserDirectory(KeycloakAdmin(http, tokens), self.clock)

    def sent(self) -> list[str]:
        """Return what was asked, each as method and path below the realm."""
        return [
            f"{sent.method} {sent.path.removeprefix('/admin/realms/acme')}"
            for sent in self.stub.requests
        ]


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
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
    bench.stub.answer(200, [user])

    found = bench.directory.find([MatchCriterion(target, "ada")], groups=False, realm_roles=False)

    assert found is None


def test_computed_fields_are_left_out(bench: Bench) -> None:
    """`access` differs between two answers about the same user."""
    user = {"id": "u1", "username": "ada", "access": {"manage": True}}
    bench.stub.answer(200, [user])
    bench.stub.answer(200, {**user, "userProfileMetadata": {}})

    found = bench.directory.find(
        [MatchCriterion("username", "ada")], groups=False, realm_roles=False
    )

    assert found is not None
    assert found.representation == bench.directory.get("u1") == {"id": "u1", "username": "ada"}


def test_memberships_cost_a_call_each_only_when_asked_for(bench: Bench) -> None:
    """A mapping without groups and roles pays nothing for them."""
    for _ in range(2):
        bench.stub.answer(200, [{"id": "u1", "username": "ada"}])
    bench.stub.answer(200, [GROUP])
    bench.stub.answer(200, [VIEWER])
    ada = [MatchCriterion("username", "ada")]

    bench.directory.find(ada, groups=False, realm_roles=False)
    bench.directory.find(ada, groups=True, realm_roles=True)

    assert bench.sent() == [
        "GET /users",
        "GET /users",
        "GET /users/u1/groups",
        "GET /users/u1/role-mappings/realm",
    ]


@pytest.mark.parametrize("target", ["username", "email"])
def test_name_that_cannot_be_sent_is_refused(bench: Bench, target: str) -> None:
    """Half a surrogate pair is JSON, but no text."""
    with pytest.raises(KeycloakRejectedError) as caught:
        bench.directory.find([MatchCriterion(target, "\ud800")], groups=False, realm_roles=False)

    assert caught.value.code == "unsearchable-value"


def test_unknown_target_is_a_programming_error(bench: Bench) -> None:
    """The mapping is checked at start; nothing may be searched by chance."""
    with pytest.raises(ValueError, match="firstName"):
        bench.directory.find([MatchCriterion("firstName", "Ada")], groups=False, realm_roles=False)


def test_group_is_remembered_for_a_minute(bench: Bench) -> None:
    """Two thousand users of one group cost one look-up."""
    for _ in range(2):
        bench.stub.answer(200, GROUP)
    bench.directory.missing_groups(["/staff"])
    bench.clock.advance(CACHE_TTL_S - 1)
    bench.directory.missing_groups(["staff", "/staff"])
    early = len(bench.stub.requests)
    bench.clock.advance(1)
    bench.directory.missing_groups(["/staff"])

    assert (early, len(bench.stub.requests)) == (1, 2)


def test_group_of_another_path_is_missing(bench: Bench) -> None:
    """Some databases find groups without regard to case."""
    bench.stub.answer(200, GROUP)

    assert bench.directory.missing_groups(["/Staff"]) == ("/Staff",)


def test_refused_join_forgets_the_group(bench: Bench) -> None:
    """The group may have been deleted and made anew, with another id."""
    bench.stub.answer(200, GROUP)
    bench.stub.answer(404, {"error": "Group not found"})
    bench.stub.answer(200, {**GROUP, "id": "g2"})
    bench.stub.answer(204)
    with pytest.raises(KeycloakNotFoundError):
        bench.directory.join_group("u1", "/staff")

    bench.directory.join_group("u1", "/staff")

    assert bench.sent()[-1] == "PUT /users/u1/groups/g2"


def test_failed_create_forgets_its_groups(bench: Bench) -> None:
    """A group that was deleted meanwhile shows as a bare 500, and must not do so for ever."""
    bench.stub.answer(200, GROUP)
    bench.stub.answer(500, {"error": "unknown_error"})
    bench.stub.answer(404, {"error": "Group path does not exist"})
    bench.directory.missing_groups(["staff"])
    with pytest.raises(KeycloakUnavailableError):
        bench.directory.create({"username": "ada", "groups": ["staff"]})

    assert bench.directory.missing_groups(["staff"]) == ("staff",)


def test_groups_are_sent_as_keycloak_spells_them(bench: Bench) -> None:
    """`//staff` would be a 500."""
    bench.stub.answer(201, headers={"Location": "/users/u1"})

    bench.directory.create({"username": "ada", "groups": ["//staff/", "a/b"]})

    assert bench.stub.requests[0].json["groups"] == ["/staff", "/a/b"]


def test_known_roles_are_granted_in_one_call(bench: Bench) -> None:
    """Whom the roles were looked up for does not matter."""
    bench.stub.answer(200, [VIEWER, EDITOR])
    bench.stub.answer(204)
    bench.stub.answer(204)
    bench.directory.grant_realm_roles("u1", ["viewer"])

    bench.directory.grant_realm_roles("u2", ["editor", "viewer"])

    assert bench.sent() == [
        "GET /users/u1/role-mappings/realm/available",
        "POST /users/u1/role-mappings/realm",
        "POST /users/u2/role-mappings/realm",
    ]
    assert bench.stub.requests[-1].json == [EDITOR, VIEWER]


def test_roles_that_the_user_has_are_not_available_and_not_missing(bench: Bench) -> None:
    """Keycloak lists as available only what is not mapped yet."""
    bench.stub.answer(200, [])
    bench.stub.answer(200, [VIEWER])

    bench.directory.grant_realm_roles("u1", ["viewer"])

    assert bench.sent() == [
        "GET /users/u1/role-mappings/realm/available",
        "GET /users/u1/role-mappings/realm",
    ]


def test_refused_grant_forgets_the_roles(bench: Bench) -> None:
    """A role that was deleted and made anew has another id."""
    bench.stub.answer(200, [VIEWER])
    bench.stub.answer(404, {"error": "Role not found"})
    bench.stub.answer(200, [{**VIEWER, "id": "r9"}])
    bench.stub.answer(204)
    with pytest.raises(KeycloakNotFoundError):
        bench.directory.grant_realm_roles("u1", ["viewer"])

    bench.directory.grant_realm_roles("u1", ["viewer"])

    assert bench.stub.requests[-1].json == [{"id": "r9", "name": "viewer"}]


@pytest.mark.parametrize("kind", ["password", "otp", "webauthn-passwordless"])
def test_any_credential_counts(bench: Bench, kind: str) -> None:
    """Whoever can log in by a passkey needs no link either."""
    bench.stub.answer(200, [{"id": "c1", "type": kind}])

    assert bench.directory.has_credentials("u1") is True


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
    bench.stub.answer(400, {"errorMessage": "worded differently"})
    bench.stub.answer(200, user)

    with pytest.raises(KeycloakRejectedError) as caught:
        bench.directory.execute_actions_email("u1", TERMS)

    assert caught.value.code == code
