"""What is asked of Keycloak about memberships and identities, and what is remembered of its answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import (
    BridgeError,
    KeycloakAuthError,
    KeycloakNotFoundError,
)
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    IdentityLink,
    client_roles,
)
from keycloak_bridge.keycloak.memberships import CACHE_TTL_S, AllMemberships, Identities

SHOP_ROLES = client_roles("shop")
GROUP = {"id": "g1", "path": "/staff"}
VIEWER = {"id": "r1", "name": "viewer"}
EDITOR = {"id": "r2", "name": "editor"}
SHOP = {"id": "c1", "clientId": "shop"}
ACME = {"id": "o1", "alias": "acme", "name": "Acme Ltd"}
LINK = IdentityLink("google", "new", "ada")
LINKED = {"identityProvider": "google", "userId": "new", "userName": "ada"}
FORBIDDEN = (403, {"error": "HTTP 403 Forbidden"})
NOT_FOUND = (404, {"error": "Could not find it"})
CONFLICT = (409, {"errorMessage": "It exists already"})
AVAILABLE = "GET /users/u1/role-mappings/realm/available"
MAPPED = "GET /users/u1/role-mappings/realm"
USER = "GET /users/u1"
MAPS_ROLES, MAPS_NONE = ({"id": "u1", "access": {"mapRoles": may}} for may in (True, False))
IDENTITIES = "/users/u1/federated-identity"


class Bench(KeycloakScript):
    """The subjects over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.all = AllMemberships(self.admin, self.clock)
        self.identities = Identities(self.admin, self.clock)

    def join(self, kind: str, *names: str, user: str = "u1") -> "Bench":
        self.all.kind(kind).join(user, names)
        return self

    def leave(self, kind: str, *names: str) -> "Bench":
        self.all.kind(kind).leave("u1", names)
        return self

    def refused(self, kind: str, *names: str, user: str = "u1") -> "Bench":
        with pytest.raises(KeycloakNotFoundError):
            self.join(kind, *names, user=user)
        return self

    def link(self, user: str = "u1") -> "Bench":
        self.identities.link(user, LINK)
        return self


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Case(NamedTuple):
    """What is done, Keycloak's answers, and the requests; `code` is that of the error in the end."""

    why: str
    use: Callable[[Bench], object]
    answers: list[object]
    sent: list[str]
    body: object = None
    code: str | None = None


CASES = [
    Case(
        "a group that was deleted and created again has another id",
        lambda bench: bench.refused(GROUPS, "/staff").join(GROUPS, "/staff"),
        [GROUP, NOT_FOUND, {**GROUP, "id": "g2"}, 204],
        [
            "GET /group-by-path/staff",
            "PUT /users/u1/groups/g1",
            "GET /group-by-path/staff",
            "PUT /users/u1/groups/g2",
        ],
    ),
    Case(
        "another thread may create the same group meanwhile",
        lambda bench: bench.all.groups.create("/staff"),
        [NOT_FOUND, CONFLICT, GROUP],
        ["GET /group-by-path/staff", "POST /groups", "GET /group-by-path/staff"],
    ),
    Case(
        "roles that were seen for one user are mapped to another in one call",
        lambda bench: bench.join(REALM_ROLES, "viewer").join(
            REALM_ROLES, "editor", "viewer", user="u2"
        ),
        [[VIEWER, EDITOR], 204, 204],
        [
            AVAILABLE,
            "POST /users/u1/role-mappings/realm",
            "POST /users/u2/role-mappings/realm",
        ],
        body=[EDITOR, VIEWER],
    ),
    Case(
        "a client is looked up once",
        lambda bench: bench.join(SHOP_ROLES, "viewer").join(SHOP_ROLES, "viewer", user="u2"),
        [[SHOP], [VIEWER], 204, 204],
        [
            "GET /clients",
            "GET /users/u1/role-mappings/clients/c1/available",
            "POST /users/u1/role-mappings/clients/c1",
            "POST /users/u2/role-mappings/clients/c1",
        ],
    ),
    Case(
        "roles that the user has are not available, and not missing",
        lambda bench: bench.join(REALM_ROLES, "viewer"),
        [[], [VIEWER]],
        [AVAILABLE, MAPPED],
    ),
    Case(
        "a role that was deleted and created again has another id",
        lambda bench: bench.refused(REALM_ROLES, "viewer").join(REALM_ROLES, "viewer"),
        [[VIEWER], NOT_FOUND, [{**VIEWER, "id": "r9"}], 204],
        [AVAILABLE, "POST /users/u1/role-mappings/realm"] * 2,
        body=[{**VIEWER, "id": "r9"}],
    ),
    Case(
        "a role whose name is another role's by now is never mapped by its id",
        lambda bench: (
            bench.join(REALM_ROLES, "viewer")
            .refused(REALM_ROLES, "viewer", user="u2")
            .join(REALM_ROLES, "viewer", user="u2")
        ),
        [[VIEWER], 204, NOT_FOUND, [{"id": "r1", "name": "admin"}, {**VIEWER, "id": "r9"}], 204],
        [
            AVAILABLE,
            "POST /users/u1/role-mappings/realm",
            "POST /users/u2/role-mappings/realm",
            "GET /users/u2/role-mappings/realm/available",
            "POST /users/u2/role-mappings/realm",
        ],
        body=[{**VIEWER, "id": "r9"}],
    ),
    Case(
        "a role that became one of administrators may not be mapped any more, as if it were missing",
        lambda bench: bench.join(REALM_ROLES, "viewer").join(REALM_ROLES, "viewer"),
        [[VIEWER], 204, FORBIDDEN, [], [], MAPS_ROLES],
        [
            AVAILABLE,
            "POST /users/u1/role-mappings/realm",
            "POST /users/u1/role-mappings/realm",
            AVAILABLE,
            MAPPED,
            USER,
        ],
        code="role-not-found",
    ),
    Case(
        "nor may it be taken away: the event is at fault, and no outage of Keycloak",
        lambda bench: bench.leave(REALM_ROLES, "viewer"),
        [[VIEWER, EDITOR], FORBIDDEN, MAPS_ROLES],
        [MAPPED, "DELETE /users/u1/role-mappings/realm", USER],
        code="role-not-found",
    ),
    Case(
        "an account that may take no role away any more is refused, and no event is at fault",
        lambda bench: bench.leave(REALM_ROLES, "viewer"),
        [[VIEWER, EDITOR], FORBIDDEN, MAPS_NONE],
        [MAPPED, "DELETE /users/u1/role-mappings/realm", USER],
        code="keycloak-forbidden",
    ),
    Case(
        "nor is one at fault where Keycloak calls no role available, as it does then",
        lambda bench: bench.join(REALM_ROLES, "viewer").join(REALM_ROLES, "viewer"),
        [[VIEWER], 204, FORBIDDEN, [], [], MAPS_NONE],
        [AVAILABLE, *["POST /users/u1/role-mappings/realm"] * 2, AVAILABLE, MAPPED, USER],
        code="keycloak-forbidden",
    ),
    Case(
        "an account that may see no role is refused",
        lambda bench: bench.leave(REALM_ROLES, "viewer"),
        [FORBIDDEN],
        [MAPPED],
        code="keycloak-forbidden",
    ),
    Case(
        "an account that may map no role at all is refused",
        lambda bench: bench.join(REALM_ROLES, "viewer").join(REALM_ROLES, "viewer"),
        [[VIEWER], 204, FORBIDDEN, FORBIDDEN],
        [AVAILABLE, *["POST /users/u1/role-mappings/realm"] * 2, AVAILABLE],
        code="keycloak-forbidden",
    ),
    Case(
        "a client that was deleted and created again has other roles",
        lambda bench: bench.refused(SHOP_ROLES, "viewer").join(SHOP_ROLES, "viewer"),
        [[SHOP], [VIEWER], NOT_FOUND, [SHOP], [{**VIEWER, "id": "r9"}], 204],
        [
            "GET /clients",
            "GET /users/u1/role-mappings/clients/c1/available",
            "POST /users/u1/role-mappings/clients/c1",
        ]
        * 2,
        body=[{**VIEWER, "id": "r9"}],
    ),
    Case(
        "roles of a missing client cannot be given, nor taken away, which is harmless",
        lambda bench: bench.leave(SHOP_ROLES, "viewer").join(SHOP_ROLES, "viewer"),
        [[], [{**SHOP, "clientId": "shop-2"}]],
        ["GET /clients"] * 2,
        code="client-not-found",
    ),
    Case(
        "an account that an organization owns does not leave: Keycloak would delete it",
        lambda bench: bench.leave(ORGANIZATIONS, "acme"),
        [[ACME], {"id": "u1", "membershipType": "MANAGED"}],
        ["GET /organizations", "GET /organizations/o1/members/u1"],
        code="managed-member",
    ),
    Case(
        "an organization that was deleted is missing after the first refusal",
        lambda bench: bench.refused(ORGANIZATIONS, "acme").join(ORGANIZATIONS, "acme"),
        [[ACME], NOT_FOUND, []],
        [
            "GET /organizations",
            "POST /organizations/o1/members",
            "GET /organizations",
        ],
        code="organization-not-found",
    ),
    Case(
        "the second user of a known identity provider costs one call",
        lambda bench: bench.link().link("u2"),
        [204, [LINKED], 204],
        [
            f"POST {IDENTITIES}/google",
            f"GET {IDENTITIES}",
            "POST /users/u2/federated-identity/google",
        ],
        body=LINKED,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_what_is_asked(bench: Bench, case: Case) -> None:
    """These requests and no others; `body` is the last JSON that is sent."""
    bench.answers(*case.answers)
    if case.code is None:
        case.use(bench)
    else:
        with pytest.raises(BridgeError) as caught:
            case.use(bench)
        assert case.code == caught.value.code

    assert case.sent == bench.sent()
    if case.body is not None:
        assert case.body == [sent.json for sent in bench.stub.requests if sent.body][-1]


def test_group_is_remembered_for_a_minute(bench: Bench) -> None:
    """Two thousand users of one group cost one look-up."""
    bench.answers(GROUP, GROUP)
    bench.all.groups.missing(["/staff"])
    bench.clock.advance(CACHE_TTL_S - 1)
    bench.all.groups.missing(["staff", "/staff"])
    early = len(bench.stub.requests)
    bench.clock.advance(1)
    bench.all.groups.missing(["/staff"])

    assert (1, 2) == (early, len(bench.stub.requests))


@pytest.mark.parametrize(
    ("kind", "answers", "joins"),
    [
        (REALM_ROLES, [[VIEWER], 204, 204], "POST /users/u1/role-mappings/realm"),
        (ORGANIZATIONS, [[ACME], 201, 201], "POST /organizations/o1/members"),
    ],
)
def test_what_keeps_its_id_is_looked_up_once(
    bench: Bench, kind: str, answers: list[object], joins: str
) -> None:
    """A year later, one call suffices."""
    bench.answers(*answers)
    name = "viewer" if kind == REALM_ROLES else "acme"
    bench.join(kind, name)
    bench.clock.advance(31_536_000)
    bench.join(kind, name)

    assert [joins, joins] == bench.sent()[1:]


def test_a_role_that_another_user_has_is_known(bench: Bench) -> None:
    """The roles of a found user name their ids, too."""
    bench.answers([VIEWER], 204)
    bench.all.kind(REALM_ROLES).of("u2")
    bench.join(REALM_ROLES, "viewer")

    assert "POST /users/u1/role-mappings/realm" == bench.sent()[1]


@pytest.mark.parametrize(
    ("kind", "answer", "name"),
    [
        (GROUPS, GROUP, "/Staff"),
        (ORGANIZATIONS, [{**ACME, "alias": "ACME"}], "acme"),
        (ORGANIZATIONS, [{**ACME, "alias": "acme-2"}], "acme"),
    ],
)
def test_what_keycloak_found_is_compared_again(
    bench: Bench, kind: str, answer: Any, name: str
) -> None:
    """Some databases compare without regard to case."""
    bench.answers(answer)

    assert (name,) == bench.all.kind(kind).missing([name])


def test_a_client_that_is_gone_has_no_roles(bench: Bench) -> None:
    """Its id is not believed any longer after the first refusal."""
    bench.answers([SHOP], [VIEWER], NOT_FOUND, [])
    shop = bench.all.kind(SHOP_ROLES)
    before = shop.of("u1")
    with pytest.raises(KeycloakNotFoundError):
        shop.of("u1")

    assert (frozenset({"viewer"}), frozenset()) == (before, shop.of("u1"))


@pytest.mark.parametrize("kind", [REALM_ROLES, SHOP_ROLES, GROUPS, ORGANIZATIONS])
def test_joining_nothing_asks_nothing(bench: Bench, kind: str) -> None:
    """An empty list is no call."""
    bench.join(kind)

    assert [] == bench.sent()


@pytest.mark.parametrize(
    ("kind", "answer", "named"),
    [
        (SHOP_ROLES, FORBIDDEN, "view-clients (for [user.clientRoles] of the mapping)"),
        (
            ORGANIZATIONS,
            FORBIDDEN,
            "manage-organizations (for [user.organizations] of the mapping)",
        ),
        (GROUPS, FORBIDDEN, "view-users (for finding users)"),
        (REALM_ROLES, FORBIDDEN, "view-users (for finding users)"),
        (
            ORGANIZATIONS,
            (404, {"errorMessage": "Organizations not enabled for this realm."}),
            "organizations-disabled",
        ),
    ],
)
def test_a_refusal_names_the_role_or_setting_that_is_missing(
    bench: Bench, kind: str, answer: object, named: str
) -> None:
    """It is no fault of the user."""
    bench.answers(answer)

    with pytest.raises(KeycloakAuthError) as caught:
        bench.all.kind(kind).of("u1")

    assert named in f"{caught.value.code} {caught.value.remedy}"


def test_link_to_no_account_is_a_programming_error(bench: Bench) -> None:
    """Removing a link has a method of its own."""
    with pytest.raises(ValueError, match="unlink_identity"):
        bench.identities.link("u1", IdentityLink("google", None))
