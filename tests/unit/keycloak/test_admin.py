"""Each endpoint: the request that goes out, and what is made of the answer."""

from collections.abc import Callable
from typing import Any

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

READS: list[tuple[str, Use, str, dict[str, str], object]] = [
    (
        "search",
        lambda admin: admin.search_users({"username": "ada", "exact": "true"}),
        "/users",
        SEARCH | {"username": "ada", "exact": "true"},
        [],
    ),
    (
        "by-attribute",
        lambda admin: admin.find_users_by_attribute("userId", 'a "b"'),
        "/users",
        SEARCH | {"q": r'"userId":"a \"b\""', "first": "0"},
        [],
    ),
    ("get", lambda admin: admin.get_user("u/1"), "/users/u%2F1", {}, {}),
    ("credentials", lambda admin: admin.credentials("u1"), "/users/u1/credentials", {}, []),
    ("groups", lambda admin: admin.user_groups("u1"), "/users/u1/groups", PAGE, []),
    (
        "group",
        lambda admin: admin.group_by_path("/a b/c%d?"),
        "/group-by-path/a%20b/c%25d%3F",
        {},
        {},
    ),
    (
        "available",
        lambda admin: admin.available_roles("u1"),
        "/users/u1/role-mappings/realm/available",
        {},
        [],
    ),
    (
        "mapped",
        lambda admin: admin.mapped_roles("u1"),
        "/users/u1/role-mappings/realm",
        {},
        [],
    ),
    (
        "available-of-client",
        lambda admin: admin.available_roles("u1", "c/1"),
        "/users/u1/role-mappings/clients/c%2F1/available",
        {},
        [],
    ),
    (
        "mapped-of-client",
        lambda admin: admin.mapped_roles("u1", "c1"),
        "/users/u1/role-mappings/clients/c1",
        {},
        [],
    ),
    ("clients", lambda admin: admin.clients("shop"), "/clients", {"clientId": "shop"}, []),
    (
        "organizations",
        lambda admin: admin.organizations_with_alias('a"b'),
        "/organizations",
        {"q": r'alias:"a\"b"'},
        [],
    ),
    (
        "organizations-of",
        lambda admin: admin.organizations_of("u1"),
        "/organizations/members/u1/organizations",
        {},
        [],
    ),
    (
        "organization-member",
        lambda admin: admin.organization_member("o1", "u1"),
        "/organizations/o1/members/u1",
        {},
        {},
    ),
    (
        "identities",
        lambda admin: admin.federated_identities("u1"),
        "/users/u1/federated-identity",
        {},
        [],
    ),
    ("sessions", lambda admin: admin.sessions("u1"), "/users/u1/sessions", {}, []),
    ("profile", lambda admin: admin.users_profile(), "/users/profile", {}, {}),
    (
        "metadata",
        lambda admin: admin.users_profile_metadata(),
        "/users/profile/metadata",
        {},
        {},
    ),
    ("events-config", lambda admin: admin.events_config(), "/events/config", {}, {}),
    ("events", lambda admin: admin.admin_events({"max": 5}), "/admin-events", {"max": "5"}, []),
    ("realm", lambda admin: admin.realm(), "", {}, {}),
]

WRITES: list[tuple[str, Use, str, str, dict[str, str], object, int]] = [
    (
        "update",
        lambda admin: admin.update_user("u1", {"firstName": "Ada"}),
        "PUT",
        "/users/u1",
        {},
        {"firstName": "Ada"},
        204,
    ),
    (
        "mail",
        lambda admin: admin.execute_actions_email("u1", ("UPDATE_PASSWORD",), lifespan_s=60),
        "PUT",
        "/users/u1/execute-actions-email",
        {"lifespan": "60"},
        ["UPDATE_PASSWORD"],
        204,
    ),
    (
        "mail-with-redirect",
        lambda admin: admin.execute_actions_email(
            "u1", ("A", "B"), lifespan_s=1, client_id="app", redirect_uri="https://a.example/?x=1"
        ),
        "PUT",
        "/users/u1/execute-actions-email",
        {"lifespan": "1", "client_id": "app", "redirect_uri": "https://a.example/?x=1"},
        ["A", "B"],
        204,
    ),
    (
        "grant",
        lambda admin: admin.map_roles("u1", [{"id": "r1", "name": "viewer"}]),
        "POST",
        "/users/u1/role-mappings/realm",
        {},
        [{"id": "r1", "name": "viewer"}],
        204,
    ),
    (
        "grant-of-client",
        lambda admin: admin.map_roles("u1", [{"id": "r1", "name": "viewer"}], "c1"),
        "POST",
        "/users/u1/role-mappings/clients/c1",
        {},
        [{"id": "r1", "name": "viewer"}],
        204,
    ),
    (
        "take-away",
        lambda admin: admin.unmap_roles("u1", [{"id": "r1", "name": "viewer"}]),
        "DELETE",
        "/users/u1/role-mappings/realm",
        {},
        [{"id": "r1", "name": "viewer"}],
        204,
    ),
    (
        "create-group",
        lambda admin: admin.create_group("a/b"),
        "POST",
        "/groups",
        {},
        {"name": "a/b"},
        201,
    ),
    (
        "create-child",
        lambda admin: admin.create_group("inner", "g/1"),
        "POST",
        "/groups/g%2F1/children",
        {},
        {"name": "inner"},
        201,
    ),
    (
        "join-organization",
        lambda admin: admin.join_organization("u1", "o1"),
        "POST",
        "/organizations/o1/members",
        {},
        "u1",
        201,
    ),
    (
        "link",
        lambda admin: admin.link_identity("u1", "a/b", {"userId": "1"}),
        "POST",
        "/users/u1/federated-identity/a%2Fb",
        {},
        {"userId": "1"},
        204,
    ),
    (
        "create",
        lambda admin: admin.create_user({"username": "ada"}),
        "POST",
        "/users",
        {},
        {"username": "ada"},
        201,
    ),
]

WITHOUT_BODY: list[tuple[str, Use, str, str]] = [
    ("join", lambda admin: admin.join_group("u1", "g1"), "PUT", "/users/u1/groups/g1"),
    ("leave", lambda admin: admin.leave_group("u1", "g1"), "DELETE", "/users/u1/groups/g1"),
    (
        "leave-organization",
        lambda admin: admin.leave_organization("u1", "o1"),
        "DELETE",
        "/organizations/o1/members/u1",
    ),
    (
        "unlink",
        lambda admin: admin.unlink_identity("u1", "a/b"),
        "DELETE",
        "/users/u1/federated-identity/a%2Fb",
    ),
    ("log-out", lambda admin: admin.log_out("u1"), "POST", "/users/u1/logout"),
    ("delete", lambda admin: admin.delete_user("u1"), "DELETE", "/users/u1"),
]

ALL: list[tuple[str, Use]] = [
    *((name, use) for name, use, *_ in READS),
    *((name, use) for name, use, *_ in WRITES),
    *((name, use) for name, use, *_ in WITHOUT_BODY),
]

every_endpoint = pytest.mark.parametrize("use", [use for _, use in ALL], ids=[n for n, _ in ALL])


@pytest.mark.parametrize(
    ("use", "path", "params", "body"), [row[1:] for row in READS], ids=[row[0] for row in READS]
)
def test_read_asks_its_endpoint(
    admin: KeycloakAdmin,
    stub: StubAdapter,
    use: Use,
    path: str,
    params: dict[str, str],
    body: object,
) -> None:
    """Method, encoded path, parameters, token."""
    stub.answer(200, body)

    assert body == use(admin)
    (sent,) = stub.requests
    assert ("GET", BASE + path, params) == (sent.method, sent.path, sent.params)
    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("use", "method", "path", "params", "body", "status"),
    [row[1:] for row in WRITES],
    ids=[row[0] for row in WRITES],
)
def test_write_sends_its_body(
    admin: KeycloakAdmin,
    stub: StubAdapter,
    use: Use,
    method: str,
    path: str,
    params: dict[str, str],
    body: object,
    status: int,
) -> None:
    """Method, encoded path, parameters, JSON."""
    stub.answer(status, headers={"Location": "https://keycloak.example/x/u9"})

    use(admin)

    (sent,) = stub.requests
    assert (method, BASE + path, params) == (sent.method, sent.path, sent.params)
    assert body == sent.json


@pytest.mark.parametrize(
    ("use", "method", "path"),
    [row[1:] for row in WITHOUT_BODY],
    ids=[row[0] for row in WITHOUT_BODY],
)
def test_path_alone_says_it(
    admin: KeycloakAdmin, stub: StubAdapter, use: Use, method: str, path: str
) -> None:
    """Nothing is sent in the body."""
    stub.answer(204)

    use(admin)

    (sent,) = stub.requests
    assert (method, BASE + path, "") == (sent.method, sent.path, sent.body)


def test_created_id_is_the_last_segment_of_location(
    admin: KeycloakAdmin, stub: StubAdapter
) -> None:
    """Keycloak tells the id nowhere else."""
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
    admin: KeycloakAdmin, stub: StubAdapter, use: Use, status: int, kind: type[BridgeError]
) -> None:
    """No status gets by unseen, and no id or value gets into the message."""
    stub.answer(status, {"error": "u1 ada"})

    with pytest.raises(kind) as caught:
        use(admin)

    assert not {"u1", "ada", "g1"} & set(str(caught.value).replace("/", " ").split())


@every_endpoint
@pytest.mark.parametrize("text", ["<html>Log in</html>", "null", '"text"', "[1]", ""])
def test_every_endpoint_mistrusts_a_200_that_is_not_keycloaks(
    admin: KeycloakAdmin, stub: StubAdapter, use: Use, text: str
) -> None:
    """A log-in page in front of Keycloak answers 200 to everything."""
    stub.answer(200, text=text)

    with pytest.raises(KeycloakUnavailableError) as caught:
        use(admin)

    assert caught.value.code == "not-keycloak"


@every_endpoint
def test_every_endpoint_translates_lost_answers(
    admin: KeycloakAdmin, stub: StubAdapter, use: Use
) -> None:
    """Nothing of `requests` escapes, and nothing is sent twice."""
    stub.fail(requests.ReadTimeout())

    with pytest.raises(KeycloakUnavailableError):
        use(admin)

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
