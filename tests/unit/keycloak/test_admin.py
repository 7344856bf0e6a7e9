"""Each endpoint: the request that goes out, and what is made of the answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from keycloak_script import scripted_admin

from keycloak_bridge.domain.errors import (
    BridgeError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak.admin import KeycloakAdmin, quote_query
from keycloak_bridge.testing.stub_adapter import TOKEN, StubAdapter

BASE = "/admin/realms/acme"

Use = Callable[[KeycloakAdmin], object]


@pytest.fixture
def stub() -> StubAdapter:
    """The other end."""
    return StubAdapter()


@pytest.fixture
def admin(stub: StubAdapter) -> KeycloakAdmin:
    """The subject."""
    return scripted_admin(stub)


SEARCH = {"briefRepresentation": "false", "max": "100"}
PAGE = {"first": "0", "max": "100"}
VIEWER = {"id": "r1", "name": "viewer"}
REALM_ROLES = "/users/u1/role-mappings/realm"
CLIENT_ROLES = "/users/u1/role-mappings/clients"


class Endpoint(NamedTuple):
    """A method, the request that it makes, and Keycloak's usual answer."""

    request: str
    use: Use
    answer: object = None
    body: object = None
    params: dict[str, str] = {}  # noqa: RUF012
    created: bool = False


ENDPOINTS = [
    Endpoint(
        "GET /users",
        lambda admin: admin.search_users({"username": "ada", "exact": "true"}),
        [],
        params=SEARCH | {"username": "ada", "exact": "true"},
    ),
    Endpoint(
        "GET /users",
        lambda admin: admin.find_users_by_attribute("userId", 'a "b"'),
        [],
        params=SEARCH | {"q": r'"userId":"a \"b\""', "first": "0"},
    ),
    Endpoint("GET /users/u%2F1", lambda admin: admin.get_user("u/1"), {}),
    Endpoint("GET /users/count", lambda admin: admin.count_users(), 3),
    Endpoint("GET /users/u1/credentials", lambda admin: admin.credentials("u1"), []),
    Endpoint("GET /users/u1/groups", lambda admin: admin.user_groups("u1"), [], params=PAGE),
    Endpoint(
        "GET /group-by-path/a%20b/c%25d%3F", lambda admin: admin.group_by_path("/a b/c%d?"), {}
    ),
    Endpoint(f"GET {REALM_ROLES}/available", lambda admin: admin.available_roles("u1"), []),
    Endpoint(f"GET {REALM_ROLES}", lambda admin: admin.mapped_roles("u1"), []),
    Endpoint(
        f"GET {CLIENT_ROLES}/c%2F1/available", lambda admin: admin.available_roles("u1", "c/1"), []
    ),
    Endpoint(f"GET {CLIENT_ROLES}/c1", lambda admin: admin.mapped_roles("u1", "c1"), []),
    Endpoint("GET /clients", lambda admin: admin.clients("shop"), [], params={"clientId": "shop"}),
    Endpoint(
        "GET /organizations",
        lambda admin: admin.organizations_with_alias('a"b'),
        [],
        params={"q": r'alias:"a\"b"'},
    ),
    Endpoint(
        "GET /organizations/members/u1/organizations",
        lambda admin: admin.organizations_of("u1"),
        [],
    ),
    Endpoint(
        "GET /organizations/o1/members/u1", lambda admin: admin.organization_member("o1", "u1"), {}
    ),
    Endpoint(
        "GET /users/u1/federated-identity", lambda admin: admin.federated_identities("u1"), []
    ),
    Endpoint("GET /users/u1/sessions", lambda admin: admin.sessions("u1"), []),
    Endpoint("GET /users/profile", lambda admin: admin.users_profile(), {}),
    Endpoint("GET /users/profile/metadata", lambda admin: admin.users_profile_metadata(), {}),
    Endpoint("GET /authentication/required-actions", lambda admin: admin.required_actions(), []),
    Endpoint("GET /components", lambda admin: admin.components("x"), [], params={"type": "x"}),
    Endpoint("GET /events/config", lambda admin: admin.events_config(), {}),
    Endpoint(
        "GET /admin-events", lambda admin: admin.admin_events({"max": 5}), [], params={"max": "5"}
    ),
    Endpoint("GET ", lambda admin: admin.realm(), {}),
    Endpoint(
        "POST /users",
        lambda admin: admin.create_user({"username": "ada"}),
        created=True,
        body={"username": "ada"},
    ),
    Endpoint(
        "PUT /users/u1",
        lambda admin: admin.update_user("u1", {"firstName": "Ada"}),
        body={"firstName": "Ada"},
    ),
    Endpoint("DELETE /users/u1", lambda admin: admin.delete_user("u1")),
    Endpoint("POST /users/u1/logout", lambda admin: admin.log_out("u1")),
    Endpoint(
        "PUT /users/u1/execute-actions-email",
        lambda admin: admin.execute_actions_email("u1", ("UPDATE_PASSWORD",), lifespan_s=60),
        params={"lifespan": "60"},
        body=["UPDATE_PASSWORD"],
    ),
    Endpoint(
        "PUT /users/u1/execute-actions-email",
        lambda admin: admin.execute_actions_email(
            "u1", ("A", "B"), lifespan_s=1, client_id="app", redirect_uri="https://a.example/?x=1"
        ),
        params={"lifespan": "1", "client_id": "app", "redirect_uri": "https://a.example/?x=1"},
        body=["A", "B"],
    ),
    Endpoint(f"POST {REALM_ROLES}", lambda admin: admin.map_roles("u1", [VIEWER]), body=[VIEWER]),
    Endpoint(
        f"POST {CLIENT_ROLES}/c1",
        lambda admin: admin.map_roles("u1", [VIEWER], "c1"),
        body=[VIEWER],
    ),
    Endpoint(
        f"DELETE {REALM_ROLES}", lambda admin: admin.unmap_roles("u1", [VIEWER]), body=[VIEWER]
    ),
    Endpoint(
        "POST /groups", lambda admin: admin.create_group("a/b"), created=True, body={"name": "a/b"}
    ),
    Endpoint(
        "POST /groups/g%2F1/children",
        lambda admin: admin.create_group("inner", "g/1"),
        created=True,
        body={"name": "inner"},
    ),
    Endpoint("PUT /users/u1/groups/g1", lambda admin: admin.join_group("u1", "g1")),
    Endpoint("DELETE /users/u1/groups/g1", lambda admin: admin.leave_group("u1", "g1")),
    Endpoint(
        "POST /organizations/o1/members",
        lambda admin: admin.join_organization("u1", "o1"),
        created=True,
        body="u1",
    ),
    Endpoint(
        "DELETE /organizations/o1/members/u1", lambda admin: admin.leave_organization("u1", "o1")
    ),
    Endpoint(
        "POST /users/u1/federated-identity/a%2Fb",
        lambda admin: admin.link_identity("u1", "a/b", {"userId": "1"}),
        body={"userId": "1"},
    ),
    Endpoint(
        "DELETE /users/u1/federated-identity/a%2Fb",
        lambda admin: admin.unlink_identity("u1", "a/b"),
    ),
]

every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=[one.request for one in ENDPOINTS]
)


@every_endpoint
def test_each_method_asks_its_endpoint(
    admin: KeycloakAdmin, stub: StubAdapter, endpoint: Endpoint
) -> None:
    """Method, encoded path, parameters, token, JSON if any; what is read is returned."""
    status = 201 if endpoint.created else 200 if endpoint.answer is not None else 204
    stub.answer(status, endpoint.answer, headers={"Location": "https://keycloak.example/x/u9"})

    result = endpoint.use(admin)

    (sent,) = stub.requests
    assert endpoint.request == f"{sent.method} {sent.path.removeprefix(BASE)}"
    assert endpoint.params == sent.params
    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"
    assert endpoint.body == (sent.json if sent.body else None)
    if sent.method == "GET":
        assert endpoint.answer == result


def test_created_id_is_the_last_segment_of_location(
    admin: KeycloakAdmin, stub: StubAdapter
) -> None:
    """Keycloak names the id nowhere else."""
    stub.answer(201, headers={"Location": "http://internal:8080/admin/realms/acme/users/u-42"})

    assert admin.create_user({"username": "ada"}) == "u-42"


def test_created_user_without_location_is_to_be_found_again(
    admin: KeycloakAdmin, stub: StubAdapter
) -> None:
    """A proxy may drop headers; guessing an id would be worse."""
    stub.answer(201)

    with pytest.raises(KeycloakUnavailableError):
        admin.create_user({"username": "ada"})


@every_endpoint
@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, KeycloakAuthError), (409, KeycloakConflictError), (503, KeycloakUnavailableError)],
)
def test_every_endpoint_raises_typed_errors(
    admin: KeycloakAdmin,
    stub: StubAdapter,
    endpoint: Endpoint,
    status: int,
    kind: type[BridgeError],
) -> None:
    """No status gets by unseen, and no id or value gets into the message."""
    stub.answer(status, {"error": "u1 ada"})

    with pytest.raises(kind) as caught:
        endpoint.use(admin)

    assert not {"u1", "ada", "g1"} & set(str(caught.value).replace("/", " ").split())


@every_endpoint
@pytest.mark.parametrize("text", ["<html>Log in</html>", "null", '"text"', "[1]", ""])
def test_every_endpoint_mistrusts_a_200_that_is_not_keycloaks(
    admin: KeycloakAdmin, stub: StubAdapter, endpoint: Endpoint, text: str
) -> None:
    """A log-in page in front of Keycloak answers 200 to everything."""
    stub.answer(200, text=text)

    with pytest.raises(KeycloakUnavailableError) as caught:
        endpoint.use(admin)

    assert caught.value.code == "not-keycloak"


@every_endpoint
def test_every_endpoint_translates_lost_answers(
    admin: KeycloakAdmin, stub: StubAdapter, endpoint: Endpoint
) -> None:
    """Nothing of `requests` escapes, and nothing is sent twice."""
    stub.fail(requests.ReadTimeout())

    with pytest.raises(KeycloakUnavailableError):
        endpoint.use(admin)

    assert len(stub.requests) == 1


def test_stale_token_is_renewed_once(stub: StubAdapter) -> None:
    """Keycloak was restarted, or an administrator revoked the sessions."""
    scripted = StubAdapter(scripted_tokens=True)
    scripted.answer(200, {"access_token": "old", "expires_in": 300})
    scripted.answer(401, {"error": "HTTP 401 Unauthorized"})
    scripted.answer(200, {"access_token": "new", "expires_in": 300})
    scripted.answer(200, {"id": "u1"})

    assert scripted_admin(scripted).get_user("u1") == {"id": "u1"}
    assert [sent.headers.get("Authorization") for sent in scripted.requests] == [
        None,
        "Bearer old",
        None,
        "Bearer new",
    ]


def test_refused_fresh_token_is_an_access_error(admin: KeycloakAdmin, stub: StubAdapter) -> None:
    """A third try would change nothing."""
    stub.answer(401, {})
    stub.answer(401, {})

    with pytest.raises(KeycloakAuthError) as caught:
        admin.get_user("u1")

    assert caught.value.code == "keycloak-token-refused"


@pytest.mark.parametrize("name", ["", ".", ".."])
@pytest.mark.parametrize(
    "use",
    [
        lambda admin, name: admin.get_user(name),
        lambda admin, name: admin.update_user(name, {}),
        lambda admin, name: admin.group_by_path(f"/a/{name}/b"),
        lambda admin, name: admin.join_group("u1", name),
    ],
)
def test_segment_that_urls_collapse_is_not_found(
    admin: KeycloakAdmin, stub: StubAdapter, use: Callable[[KeycloakAdmin, str], Any], name: str
) -> None:
    """`/users/..` would be another endpoint."""
    with pytest.raises(KeycloakNotFoundError):
        use(admin, name)

    assert stub.requests == []


@pytest.mark.parametrize("sizes", [[0], [99], [100, 0], [100, 100, 7]])
def test_all_pages_are_read(admin: KeycloakAdmin, stub: StubAdapter, sizes: list[int]) -> None:
    """A short page is the last one."""
    for size in sizes:
        stub.answer(200, [{"path": f"/{number}"} for number in range(size)])

    assert len(admin.user_groups("u1")) == sum(sizes)
    assert [str(sum(sizes[:page])) for page in range(len(sizes))] == [
        sent.params["first"] for sent in stub.requests
    ]


def parsed_query(query: str) -> dict[str, str]:
    """Read `q` the way Keycloak does: a model of its parser, for text that `quote_query` made."""
    found: dict[str, str] = {}
    rest = query.strip()
    words: list[str] = []
    word, quoted, i = "", False, 0
    while i < len(rest):
        pair = rest[i : i + 2]
        if pair == '\\"':
            word += '"'
            i += 2
        elif pair == "\\\\":
            i += 2  # Keycloak drops both
        elif rest[i] == '"':
            quoted = not quoted
            i += 1
        elif rest[i] == ":" and not words:
            words.append(word)
            word = ""
            i += 1
        else:
            word += rest[i]
            i += 1
    assert not quoted
    found[words[0]] = word
    return found


@given(st.text(alphabet=st.sampled_from("ab:\"\\ '*%"), min_size=1))
def test_quoted_value_means_itself_or_is_refused(value: str) -> None:
    """No value is ever read as another one."""
    try:
        quoted = quote_query(value)
    except ValueError:
        assert "\\" in value
        return

    assert {"userId": value} == parsed_query(f"{quote_query('userId')}:{quoted}")


@pytest.mark.parametrize("value", ["", "a\\", "a\\\\b", 'a\\"', "\ud800"])
def test_value_without_a_spelling_is_refused(value: str) -> None:
    """What Keycloak would misread is not asked."""
    with pytest.raises(ValueError):  # noqa: PT011  (no more is promised)
        quote_query(value)
