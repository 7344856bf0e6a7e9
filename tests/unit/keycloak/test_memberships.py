"""What is asked of Keycloak about memberships, and what is remembered of its answers."""

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import (
    ConflictError,
    KeycloakAuthError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
)
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    IdentityLink,
    client_roles,
)
from keycloak_bridge.keycloak.memberships import CACHE_TTL_S, AllMemberships, Identities

GROUP = {"id": "g1", "path": "/staff"}
VIEWER = {"id": "r1", "name": "viewer"}
EDITOR = {"id": "r2", "name": "editor"}
SHOP = {"id": "c1", "clientId": "shop"}
LINK = IdentityLink("google", "new", "ada")
SENT = {"identityProvider": "google", "userId": "new", "userName": "ada"}
LINKED = {"errorMessage": "User is already linked with provider"}
PATH = "/users/u1/federated-identity"
ACME = {"id": "o1", "alias": "acme", "name": "Acme Ltd"}


class Bench(KeycloakScript):
    """The subject over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.all = AllMemberships(self.admin, self.clock)
        self.identities = Identities(self.admin, self.clock)


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()


# groups


def test_group_is_remembered_for_a_minute(bench: Bench) -> None:
    """Two thousand users of one group cost one look-up."""
    for _ in range(2):
        bench.stub.answer(200, GROUP)
    bench.all.groups.missing(["/staff"])
    bench.clock.advance(CACHE_TTL_S - 1)
    bench.all.groups.missing(["staff", "/staff"])
    early = len(bench.stub.requests)
    bench.clock.advance(1)
    bench.all.groups.missing(["/staff"])

    assert (1, 2) == (early, len(bench.stub.requests))


def test_group_of_another_path_is_missing(bench: Bench) -> None:
    """Some databases find groups without regard to case."""
    bench.stub.answer(200, GROUP)

    assert ("/Staff",) == bench.all.groups.missing(["/Staff"])


def test_refused_join_forgets_the_group(bench: Bench) -> None:
    """The group may have been deleted and made anew, with another id."""
    bench.stub.answer(200, GROUP)
    bench.stub.answer(404, {"error": "Group not found"})
    bench.stub.answer(200, {**GROUP, "id": "g2"})
    bench.stub.answer(204)
    with pytest.raises(KeycloakNotFoundError):
        bench.all.groups.join("u1", ["/staff"])

    bench.all.groups.join("u1", ["/staff"])

    assert "PUT /users/u1/groups/g2" == bench.sent()[-1]


def test_refused_leave_is_tried_with_the_new_id(bench: Bench) -> None:
    """The user may be a member of the group that was made anew; a second refusal means that it is not."""
    for group_id in ("g1", "g2"):
        bench.stub.answer(200, {**GROUP, "id": group_id})
        bench.stub.answer(404, {"error": "Group not found"})

    bench.all.groups.leave("u1", ["/staff"])

    leaves = [sent for sent in bench.sent() if sent.startswith("DELETE")]
    assert ["DELETE /users/u1/groups/g1", "DELETE /users/u1/groups/g2"] == leaves


def test_group_is_created_below_what_is_there(bench: Bench) -> None:
    """Only what is missing."""
    bench.stub.answer(200, GROUP)
    bench.stub.answer(404, {"error": "Group path does not exist"})
    bench.stub.answer(201)
    bench.stub.answer(200, {"id": "g2", "path": "/staff/inner"})

    bench.all.groups.create("staff/inner")

    assert [
        "GET /group-by-path/staff",
        "GET /group-by-path/staff/inner",
        "POST /groups/g1/children",
        "GET /group-by-path/staff/inner",
    ] == bench.sent()
    assert {"name": "inner"} == bench.stub.requests[2].json


def test_group_that_somebody_else_creates_meanwhile_is_fine(bench: Bench) -> None:
    """Two lanes meet the same missing group."""
    bench.stub.answer(404, {"error": "Group path does not exist"})
    bench.stub.answer(409, {"errorMessage": "Top level group named 'staff' already exists."})
    bench.stub.answer(200, GROUP)

    bench.all.groups.create("/staff")

    assert () == bench.all.groups.missing(["/staff"])


# roles


def test_known_roles_are_granted_in_one_call(bench: Bench) -> None:
    """Whom the roles were looked up for does not matter."""
    bench.stub.answer(200, [VIEWER, EDITOR])
    bench.stub.answer(204)
    bench.stub.answer(204)
    bench.all.kind(REALM_ROLES).join("u1", ["viewer"])

    bench.all.kind(REALM_ROLES).join("u2", ["editor", "viewer"])

    assert [
        "GET /users/u1/role-mappings/realm/available",
        "POST /users/u1/role-mappings/realm",
        "POST /users/u2/role-mappings/realm",
    ] == bench.sent()
    assert [EDITOR, VIEWER] == bench.stub.requests[-1].json


def test_client_is_looked_up_once(bench: Bench) -> None:
    """Its id in Keycloak is remembered with its roles."""
    bench.stub.answer(200, [SHOP])
    bench.stub.answer(200, [VIEWER])
    bench.stub.answer(204)
    bench.stub.answer(204)

    for user_id in ("u1", "u2"):
        bench.all.kind(client_roles("shop")).join(user_id, ["viewer"])

    assert [
        "GET /clients",
        "GET /users/u1/role-mappings/clients/c1/available",
        "POST /users/u1/role-mappings/clients/c1",
        "POST /users/u2/role-mappings/clients/c1",
    ] == bench.sent()
    assert {"clientId": "shop"} == bench.stub.requests[0].params


def test_roles_that_the_user_has_are_not_available_and_not_missing(bench: Bench) -> None:
    """Keycloak lists as available only what is not mapped yet."""
    bench.stub.answer(200, [])
    bench.stub.answer(200, [VIEWER])

    bench.all.kind(REALM_ROLES).join("u1", ["viewer"])

    assert [
        "GET /users/u1/role-mappings/realm/available",
        "GET /users/u1/role-mappings/realm",
    ] == bench.sent()


@pytest.mark.parametrize(("kind", "before"), [(REALM_ROLES, []), (client_roles("shop"), [SHOP])])
def test_refused_grant_forgets_the_roles(bench: Bench, kind: str, before: list[object]) -> None:
    """A role, or a client, that was deleted and made anew has another id."""
    for role_id, status in (("r1", 404), ("r9", 204)):
        for _ in before:
            bench.stub.answer(200, before)
        bench.stub.answer(200, [{**VIEWER, "id": role_id}])
        bench.stub.answer(status, {"error": "Role not found"} if status == 404 else None)
    with pytest.raises(KeycloakNotFoundError):
        bench.all.kind(kind).join("u1", ["viewer"])

    bench.all.kind(kind).join("u1", ["viewer"])

    assert [{"id": "r9", "name": "viewer"}] == bench.stub.requests[-1].json


def test_only_mapped_roles_are_taken_away(bench: Bench) -> None:
    """By the ids that Keycloak tells with them; none of them, no call."""
    bench.stub.answer(200, [VIEWER])
    bench.stub.answer(204)
    bench.stub.answer(200, [VIEWER])

    bench.all.kind(REALM_ROLES).leave("u1", ["viewer", "editor"])
    bench.all.kind(REALM_ROLES).leave("u1", ["editor"])

    deletes = [sent for sent in bench.stub.requests if sent.method == "DELETE"]
    assert [[VIEWER]] == [sent.json for sent in deletes]


def test_clients_roles_are_told_by_name(bench: Bench) -> None:
    """A client that is gone has none, and its id is not believed any longer."""
    bench.stub.answer(200, [SHOP])
    bench.stub.answer(200, [VIEWER])
    bench.stub.answer(404, {"error": "Client not found"})
    bench.stub.answer(200, [])
    shop = bench.all.kind(client_roles("shop"))
    before = shop.of("u1")
    with pytest.raises(KeycloakNotFoundError):
        shop.of("u1")

    assert (frozenset({"viewer"}), frozenset()) == (before, shop.of("u1"))


def test_roles_of_a_client_that_is_missing_cannot_be_given(bench: Bench) -> None:
    """Nor taken away, which is harmless."""
    bench.stub.answer(200, [])
    bench.stub.answer(200, [{**SHOP, "clientId": "shop-2"}])

    bench.all.kind(client_roles("shop")).leave("u1", ["viewer"])
    with pytest.raises(KeycloakNotFoundError) as caught:
        bench.all.kind(client_roles("shop")).join("u1", ["viewer"])

    assert "client-not-found" == caught.value.code


@pytest.mark.parametrize(
    ("kind", "before", "owner"),
    [(REALM_ROLES, [], "the realm"), (client_roles("shop"), [SHOP], "client shop")],
)
def test_roles_that_are_missing_are_named(
    bench: Bench, kind: str, before: list[object], owner: str
) -> None:
    """And none is missing of nobody."""
    for body in (*([before] if before else []), [VIEWER], []):
        bench.stub.answer(200, body)
    role = bench.all.kind(kind)

    with pytest.raises(KeycloakNotFoundError, match=f"{owner} has no role editor") as caught:
        role.join("u1", ["viewer", "editor"])

    assert "role-not-found" == caught.value.code
    assert () == role.missing(["editor"])


@pytest.mark.parametrize("kind", [REALM_ROLES, client_roles("shop"), GROUPS, ORGANIZATIONS])
def test_joining_nothing_asks_nothing(bench: Bench, kind: str) -> None:
    """An empty list is no call."""
    bench.all.kind(kind).join("u1", [])

    assert [] == bench.sent()


# organizations


@pytest.mark.parametrize("other", [{**ACME, "alias": "ACME"}, {**ACME, "alias": "acme-2"}])
def test_organization_of_another_alias_is_missing(bench: Bench, other: dict[str, str]) -> None:
    """What Keycloak found is compared again."""
    bench.stub.answer(200, [other])

    assert ("acme",) == bench.all.kind(ORGANIZATIONS).missing(["acme"])


def test_membership_that_is_there_is_no_conflict(bench: Bench) -> None:
    """A redelivered event joins again; the body is a bare id."""
    bench.stub.answer(200, [ACME])
    bench.stub.answer(409, {"errorMessage": "User is already a member of the organization."})

    bench.all.kind(ORGANIZATIONS).join("u1", ["acme"])

    assert "POST /organizations/o1/members" == bench.sent()[-1]
    assert "u1" == bench.stub.requests[-1].json


def test_account_that_an_organization_owns_is_not_deleted(bench: Bench) -> None:
    """Keycloak deletes a managed member together with its membership."""
    bench.stub.answer(200, [ACME])
    bench.stub.answer(200, {"id": "u1", "membershipType": "MANAGED"})

    with pytest.raises(KeycloakRejectedError) as caught:
        bench.all.kind(ORGANIZATIONS).leave("u1", ["acme"])

    assert "managed-member" == caught.value.code
    assert not any(sent.startswith("DELETE") for sent in bench.sent())


def test_member_leaves(bench: Bench) -> None:
    """One that the organization does not own."""
    bench.stub.answer(200, [ACME])
    bench.stub.answer(200, {"id": "u1", "membershipType": "UNMANAGED"})
    bench.stub.answer(204)

    bench.all.kind(ORGANIZATIONS).leave("u1", ["acme"])

    assert "DELETE /organizations/o1/members/u1" == bench.sent()[-1]


def test_who_is_no_member_leaves_without_an_error(bench: Bench) -> None:
    """Looked up twice: the organization may have been made anew."""
    for _ in range(2):
        bench.stub.answer(200, [ACME])
        bench.stub.answer(404, {"error": "HTTP 404 Not Found"})

    bench.all.kind(ORGANIZATIONS).leave("u1", ["acme"])

    assert ["GET /organizations", "GET /organizations/o1/members/u1"] * 2 == bench.sent()


def test_refused_member_forgets_the_organization(bench: Bench) -> None:
    """It may have been deleted, and is missing then."""
    bench.stub.answer(200, [ACME])
    bench.stub.answer(404, {"errorMessage": "Organization not found."})
    bench.stub.answer(200, [])
    with pytest.raises(KeycloakNotFoundError):
        bench.all.kind(ORGANIZATIONS).join("u1", ["acme"])

    with pytest.raises(KeycloakNotFoundError) as caught:
        bench.all.kind(ORGANIZATIONS).join("u1", ["acme"])

    assert "organization-not-found" == caught.value.code


def test_alias_that_cannot_be_asked_for_is_missing(bench: Bench) -> None:
    """No organization can have it."""
    assert ("a\\",) == bench.all.kind(ORGANIZATIONS).missing(["a\\"])
    assert [] == bench.sent()


def test_realm_without_organizations_says_so(bench: Bench) -> None:
    """Its 404 is none of the user."""
    bench.stub.answer(404, {"errorMessage": "Organizations not enabled for this realm."})

    with pytest.raises(KeycloakAuthError) as caught:
        bench.all.kind(ORGANIZATIONS).of("u1")

    assert "organizations-disabled" == caught.value.code


# what it takes


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        (client_roles("shop"), "view-clients"),
        (ORGANIZATIONS, "manage-organizations"),
        (GROUPS, "manage-users"),
        (REALM_ROLES, "manage-users"),
    ],
)
def test_refusal_names_the_role_that_is_missing(bench: Bench, kind: str, role: str) -> None:
    """The shipped realm grants what everybody needs, and no more."""
    bench.stub.answer(403, {"error": "HTTP 403 Forbidden"})

    with pytest.raises(KeycloakAuthError) as caught:
        bench.all.kind(kind).of("u1")

    assert role in str(caught.value.remedy)


# identities


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
