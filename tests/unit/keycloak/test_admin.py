"""Every endpoint: what is made of answers that a real Keycloak does not give, and what may go into a request."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from keycloak_script import scripted_admin
from stub_adapter import StubAdapter

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak.admin import KeycloakAdmin, quote_query

BASE = "/admin/realms/acme"

Use = Callable[[KeycloakAdmin], object]


@pytest.fixture
def stub() -> StubAdapter:
    return StubAdapter()


@pytest.fixture
def admin(stub: StubAdapter) -> KeycloakAdmin:
    return scripted_admin(stub)


USES: dict[str, Use] = {
    "search users": lambda admin: admin.search_users({"username": "ada"}),
    "find users by attribute": lambda admin: admin.find_users_by_attribute("userId", "a"),
    "get user": lambda admin: admin.get_user("u1"),
    "count users": lambda admin: admin.count_users(),
    "credentials": lambda admin: admin.credentials("u1"),
    "groups of a user": lambda admin: admin.user_groups("u1"),
    "group by path": lambda admin: admin.group_by_path("/a/b"),
    "available roles": lambda admin: admin.available_roles("u1"),
    "mapped roles": lambda admin: admin.mapped_roles("u1", "c1"),
    "clients": lambda admin: admin.clients("shop"),
    "organizations by alias": lambda admin: admin.organizations_with_alias("a"),
    "organizations of a user": lambda admin: admin.organizations_of("u1"),
    "member": lambda admin: admin.organization_member("o1", "u1"),
    "identities": lambda admin: admin.federated_identities("u1"),
    "sessions": lambda admin: admin.sessions("u1"),
    "user profile": lambda admin: admin.users_profile(),
    "user profile metadata": lambda admin: admin.users_profile_metadata(),
    "required actions": lambda admin: admin.required_actions(),
    "components": lambda admin: admin.components("x"),
    "events config": lambda admin: admin.events_config(),
    "user events": lambda admin: admin.user_events({"type": ("A", "B"), "dateFrom": 5}),
    "admin events": lambda admin: admin.admin_events({"max": 5}),
    "realm": lambda admin: admin.realm(),
    "create user": lambda admin: admin.create_user({"username": "ada"}),
    "update user": lambda admin: admin.update_user("u1", {"firstName": "Ada"}),
    "delete user": lambda admin: admin.delete_user("u1"),
    "log out": lambda admin: admin.log_out("u1"),
    "mail": lambda admin: admin.execute_actions_email("u1", ("UPDATE_PASSWORD",), lifespan_s=60),
    "map roles": lambda admin: admin.map_roles("u1", []),
    "unmap roles": lambda admin: admin.unmap_roles("u1", [], "c1"),
    "create group": lambda admin: admin.create_group("a/b"),
    "create inner group": lambda admin: admin.create_group("inner", "g1"),
    "join group": lambda admin: admin.join_group("u1", "g1"),
    "leave group": lambda admin: admin.leave_group("u1", "g1"),
    "join organization": lambda admin: admin.join_organization("u1", "o1"),
    "leave organization": lambda admin: admin.leave_organization("u1", "o1"),
    "link identity": lambda admin: admin.link_identity("u1", "a", {"userId": "1"}),
    "unlink identity": lambda admin: admin.unlink_identity("u1", "a"),
    "import": lambda admin: admin.import_users([{"username": "ada"}]),
}
every_endpoint = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.mark.parametrize(
    ("use", "url"),
    [
        (lambda admin: admin.get_user("u/1"), "/users/u%2F1"),
        (lambda admin: admin.group_by_path("/a b/c%d?"), "/group-by-path/a%20b/c%25d%3F"),
        (
            lambda admin: admin.mapped_roles("u1", "c/1"),
            "/users/u1/role-mappings/clients/c%2F1",
        ),
        (
            lambda admin: admin.user_events({"type": ("A", "B"), "dateFrom": 5}),
            "/events?type=A&type=B&dateFrom=5",
        ),
        (
            lambda admin: admin.admin_events({"resourcePath": "a/b&c"}),
            "/admin-events?resourcePath=a%2Fb%26c",
        ),
    ],
)
def test_names_and_values_are_encoded(
    admin: KeycloakAdmin, stub: StubAdapter, use: Use, url: str
) -> None:
    """Whatever is in them; the contract suite asks the real Keycloak at every endpoint."""
    stub.fail(requests.ReadTimeout())
    with pytest.raises(KeycloakUnavailableError):
        use(admin)

    assert f"https://keycloak.example{BASE}{url}" == stub.requests[0].url


def test_an_invitation_carries_its_terms(admin: KeycloakAdmin, stub: StubAdapter) -> None:
    """Parameters that are not given are not sent."""
    app = {"client_id": "app", "redirect_uri": "https://a.example/?x=1"}
    for terms in ({}, app):
        stub.answer(204)
        admin.execute_actions_email("u1", ("A", "B"), lifespan_s=60, **terms)

    assert [({"lifespan": "60"}, ["A", "B"]), ({"lifespan": "60", **app}, ["A", "B"])] == [
        (sent.params, sent.json) for sent in stub.requests
    ]


def test_created_user_without_location_is_to_be_found_again(
    admin: KeycloakAdmin, stub: StubAdapter
) -> None:
    """A proxy may drop headers; guessing an id would be worse."""
    stub.answer(201)

    with pytest.raises(KeycloakUnavailableError):
        admin.create_user({"username": "ada"})


@every_endpoint
@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (403, '{"error": "u1 ada"}', "keycloak-forbidden"),
        (409, '{"error": "u1 ada"}', "conflict"),
        (503, '{"error": "u1 ada"}', "keycloak-unavailable"),
        *((200, text, "not-keycloak") for text in ("<html>", "null", '"text"', "[1]", "")),
    ],
)
def test_every_endpoint_raises_typed_errors(
    admin: KeycloakAdmin, stub: StubAdapter, use: Use, status: int, text: str, code: str
) -> None:
    """No status gets by unseen, nor a log-in page that answers 200 to everything; no id or value gets into the message."""
    stub.answer(status, text=text)

    with pytest.raises(KeycloakError) as caught:
        use(admin)

    assert code == caught.value.code
    assert not {"u1", "ada", "g1"} & set(str(caught.value).replace("/", " ").split())


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
    for page, size in enumerate(sizes):
        groups = [{"id": f"{page}-{number}", "path": f"/{number}"} for number in range(size)]
        stub.answer(200, groups)

    assert len(admin.user_groups("u1")) == sum(sizes)
    assert [str(sum(sizes[:page])) for page in range(len(sizes))] == [
        sent.params["first"] for sent in stub.requests
    ]


def test_pages_that_repeat_have_an_end(admin: KeycloakAdmin, stub: StubAdapter) -> None:
    """A gateway may drop what says which page is asked for."""
    for _ in range(3):
        stub.answer(200, [{"id": f"{number}", "path": f"/{number}"} for number in range(100)])

    with pytest.raises(KeycloakError) as caught:
        admin.user_groups("u1")

    assert ("not-keycloak", 2) == (caught.value.code, len(stub.requests))


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


@example("")
@given(st.text(alphabet=st.sampled_from("ab:\"\\ '*%")))
def test_quoted_value_means_itself_or_is_refused(value: str) -> None:
    """No value is ever read as another one."""
    try:
        quoted = quote_query(value)
    except ValueError:
        assert not value or "\\" in value
        return

    assert {"userId": value} == parsed_query(f"{quote_query('userId')}:{quoted}")
