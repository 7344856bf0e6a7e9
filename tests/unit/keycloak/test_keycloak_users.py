"""What the directory adds to single calls: comparing, remembering, and telling refusals apart."""

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import KeycloakRejectedError, KeycloakUnavailableError
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.keycloak.users import KeycloakUserDirectory

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

    found = bench.directory.find([MatchCriterion(target, "ada")])

    assert found is None


def test_computed_fields_are_left_out(bench: Bench) -> None:
    """`access` differs between two answers about the same user."""
    user = {"id": "u1", "username": "ada", "access": {"manage": True}}
    bench.stub.answer(200, [user])
    bench.stub.answer(200, {**user, "userProfileMetadata": {}})

    found = bench.directory.find([MatchCriterion("username", "ada")])

    assert found is not None
    assert found.representation == bench.directory.get("u1") == {"id": "u1", "username": "ada"}


def test_each_look_up_costs_a_call_only_when_asked_for(bench: Bench) -> None:
    """A mapping without groups and roles pays nothing for them."""
    answers = {
        "GET /users/u1/groups": [{"id": "g1", "path": "/staff"}],
        "GET /organizations/members/u1/organizations": [{"id": "o1", "alias": "acme"}],
        "GET /users/u1/role-mappings/realm": [{"id": "r1", "name": "viewer"}],
        "GET /users/u1/federated-identity": [{"identityProvider": "google", "userId": "1"}],
        "GET /users/u1/sessions": [{"id": "s1"}, {"id": "s2"}],
    }
    for body in ([ADA], [ADA], *answers.values()):
        bench.stub.answer(200, body)
    ada = [MatchCriterion("username", "ada")]

    bench.directory.find(ada)
    kinds = frozenset({GROUPS, REALM_ROLES, ORGANIZATIONS})
    found = bench.directory.find(ada, Lookup(kinds, identities=True, sessions=True))

    assert ["GET /users", "GET /users", *answers] == bench.sent()
    assert found == FoundUser(
        "u1",
        ADA,
        "username",
        {
            GROUPS: frozenset({"/staff"}),
            REALM_ROLES: frozenset({"viewer"}),
            ORGANIZATIONS: frozenset({"acme"}),
        },
        (IdentityLink("google", "1"),),
        2,
    )


def test_everybody_with_an_external_id_is_compared_again(bench: Bench) -> None:
    """Keycloak compares attributes without case."""
    users = [{"id": name, "attributes": {"userId": [name]}, "access": {}} for name in ("u", "U")]
    bench.stub.answer(200, users)

    found = bench.directory.having(MatchCriterion("attributes.userId", "u"))

    assert found == ({"id": "u", "attributes": {"userId": ["u"]}},)


@pytest.mark.parametrize("target", ["username", "email"])
def test_name_that_cannot_be_sent_is_refused(bench: Bench, target: str) -> None:
    """Half a surrogate pair is JSON, but no text."""
    with pytest.raises(KeycloakRejectedError) as caught:
        bench.directory.find([MatchCriterion(target, "\ud800")])

    assert caught.value.code == "unsearchable-value"


def test_unknown_target_is_a_programming_error(bench: Bench) -> None:
    """The mapping is checked at start; nothing may be searched by chance."""
    with pytest.raises(ValueError, match="firstName"):
        bench.directory.find([MatchCriterion("firstName", "Ada")])


def test_failed_create_forgets_its_groups(bench: Bench) -> None:
    """A group that was deleted meanwhile shows as a bare 500, and must not do so for ever."""
    bench.stub.answer(200, GROUP)
    bench.stub.answer(500, {"error": "unknown_error"})
    bench.stub.answer(404, {"error": "Group path does not exist"})
    bench.directory.missing(GROUPS, ["staff"])
    with pytest.raises(KeycloakUnavailableError):
        bench.directory.create({"username": "ada", "groups": ["staff"]})

    assert bench.directory.missing(GROUPS, ["staff"]) == ("staff",)


def test_groups_are_sent_as_keycloak_spells_them(bench: Bench) -> None:
    """`//staff` would be a 500."""
    bench.stub.answer(201, headers={"Location": "/users/u1"})

    bench.directory.create({"username": "ada", "groups": ["//staff/", "a/b"]})

    assert bench.stub.requests[0].json["groups"] == ["/staff", "/a/b"]


def test_unknown_kind_of_membership_is_a_programming_error(bench: Bench) -> None:
    """Nothing may be joined by chance."""
    with pytest.raises(ValueError, match="roles"):
        bench.directory.join("u1", "roles", ["viewer"])


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


def test_whatever_is_gone_is_deleted_and_logged_out(bench: Bench) -> None:
    """A redelivered event does it again."""
    for _ in range(2):
        bench.stub.answer(404, {"error": "User not found"})

    bench.directory.delete("u1")
    bench.directory.end_sessions("u1")

    assert ["DELETE /users/u1", "POST /users/u1/logout"] == bench.sent()


def test_memberships_and_links_are_written_by_their_kind(bench: Bench) -> None:
    """Each to its own endpoint."""
    group = {"id": "g1", "path": "/staff"}
    script: list[tuple[int, object]] = [
        (200, group),
        (204, None),
        (204, None),
        (404, {}),
        (200, []),
    ]
    for status, body in script:
        bench.stub.answer(status, body)

    bench.directory.join("u1", GROUPS, ["/staff"])
    bench.directory.leave("u1", GROUPS, ["/staff"])
    bench.directory.create_group("/staff")
    bench.directory.unlink_identity("u1", "google")
    owner = bench.directory.identity_owner("google", "1")

    assert owner is None
    assert [
        "GET /group-by-path/staff",
        "PUT /users/u1/groups/g1",
        "DELETE /users/u1/groups/g1",
        "DELETE /users/u1/federated-identity/google",
        "GET /users",
    ] == bench.sent()
