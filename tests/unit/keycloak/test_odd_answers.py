"""Answers that no Keycloak gives, as from a gateway or another version: known errors, whatever is in them."""

import base64
import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keycloak_script import scripted_admin
from stub_adapter import SentRequest, StubAdapter

from keycloak_bridge.app.realm_check import gather, judge
from keycloak_bridge.domain.errors import BridgeError, KeycloakError
from keycloak_bridge.domain.users import Lookup, MatchCriterion
from keycloak_bridge.keycloak.activations import KeycloakActivations
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.partial_import import read_import_terms
from keycloak_bridge.keycloak.token import token_facts
from keycloak_bridge.keycloak.user_profile import read_profile, uncertain_fields
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.transport.http import MOST_BODY_BYTES, read_answer

BASE = "/admin/realms/acme"
USER = {
    "id": "u1",
    "username": "ada",
    "email": "ada@acme.example",
    "enabled": True,
    "emailVerified": False,
    "createdTimestamp": 1,
    "attributes": {"userId": ["a"]},
    "requiredActions": ["VERIFY_EMAIL"],
}
PROFILE = {
    "unmanagedAttributePolicy": "ADMIN_EDIT",
    "attributes": [
        {
            "name": "userId",
            "permissions": {"edit": ["admin"], "view": ["admin"]},
            "required": {"roles": ["admin"], "scopes": []},
            "multivalued": True,
            "validations": {"length": {"min": 1, "max": "9"}, "multivalued": {"min": 1, "max": 2}},
        }
    ],
}
ANSWERS: dict[str, Any] = {
    "/users": [USER],
    "/users/u1": USER,
    "/users/profile": PROFILE,
    "/users/profile/metadata": {"attributes": [{"name": "locale", "required": False}]},
    "/users/u1/groups": [{"id": "g1", "path": "/staff"}],
    "/group-by-path/staff": {"id": "g1", "path": "/staff"},
    "/users/u1/role-mappings/realm": [{"id": "r1", "name": "viewer"}],
    "/users/u1/role-mappings/realm/available": [{"id": "r2", "name": "editor"}],
    "/organizations": [{"id": "o1", "alias": "acme"}],
    "/organizations/members/u1/organizations": [{"id": "o1", "alias": "acme"}],
    "/users/u1/federated-identity": [{"identityProvider": "idp", "userId": "1", "userName": "a"}],
    "/users/u1/sessions": [{"id": "s1"}],
    "/users/u1/credentials": [{"type": "password", "createdDate": 5}],
    "/admin-events": [{"resourcePath": "users/u1/execute-actions-email", "time": 5}],
    "/events": [{"id": "e1", "type": "UPDATE_PASSWORD", "userId": "u1", "time": 5}],
    "/events/config": {
        "adminEventsEnabled": True,
        "eventsEnabled": True,
        "enabledEventTypes": ["UPDATE_PASSWORD"],
        "eventsExpiration": 60,
    },
    "/authentication/required-actions": [{"alias": "X", "enabled": True, "defaultAction": True}],
    "/components": [{"name": "p", "providerId": "x", "config": {"a": ["b"]}}],
    "": {"defaultRole": {"name": "d"}, "defaultGroups": ["/a"], "smtpServer": {"host": ""}},
}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
OWNER = MatchCriterion("attributes.userId", "a")
KINDS = frozenset(("groups", "realmRoles", "organizations"))
ROLES = {"resource_access": {"realm-management": {"roles": ["manage-users"]}}}
TOKEN = f"x.{base64.urlsafe_b64encode(json.dumps(ROLES).encode()).decode()}.y"


class Gateway(StubAdapter):
    """Answers by path; writes are done without a word."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self._answers = answers

    def _next(self, sent: SentRequest) -> None:
        path = sent.path.removeprefix(BASE)
        if sent.method == "GET":
            self.answer(200, text=json.dumps(self._answers.get(path, [])))
        else:
            self.answer(204)

    def send(self, request: Any, *rest: Any, **options: Any) -> Any:
        if not str(request.url).endswith("/token"):
            url = str(request.url)
            self._next(SentRequest(str(request.method), url, {}, "", None))
        return super().send(request, *rest, **options)


def directory(admin: KeycloakAdmin) -> KeycloakUserDirectory:
    return KeycloakUserDirectory(admin, FakeClock())


def profile_of(admin: KeycloakAdmin) -> object:
    profile = read_profile(admin.users_profile())
    return uncertain_fields(profile, {"username": "ada", "attributes": {"userId": ["a", "b"]}})


USES: tuple[Callable[[KeycloakAdmin], object], ...] = (
    lambda admin: directory(admin).find([OWNER], Lookup(KINDS, True, True), owner=OWNER),
    lambda admin: directory(admin).find([MatchCriterion("email", "ada@acme.example")]),
    lambda admin: directory(admin).having(OWNER),
    lambda admin: directory(admin).get("u1"),
    lambda admin: directory(admin).has_credentials("u1"),
    lambda admin: directory(admin).can_look_up_mails(),
    lambda admin: directory(admin).mail_recorded("u1"),
    lambda admin: KeycloakActivations(admin, FakeClock()).activated_at("u1"),
    lambda admin: KeycloakActivations(admin, FakeClock()).changes_since(NOON),
    lambda admin: directory(admin).identity_owner("idp", "1"),
    lambda admin: directory(admin).join("u1", "groups", ["/staff"]),
    lambda admin: directory(admin).join("u1", "realmRoles", ["editor"]),
    lambda admin: directory(admin).leave("u1", "realmRoles", ["viewer"]),
    lambda admin: directory(admin).missing("organizations", ["acme"]),
    lambda admin: judge(gather(admin, TOKEN), ["userId"]),
    read_import_terms,
    profile_of,
)
ODD: tuple[Any, ...] = (None, 10**400, "x", True, [[]], {"a": None})


def mutations(value: Any) -> Iterator[Any]:
    """Yield `value` with one place of it changed to each odd value, or left out."""
    yield from ODD
    places = enumerate(value) if isinstance(value, list) else list(getattr(value, "items", list)())
    for name, inner in places:
        for odd in mutations(inner):
            changed = copy.copy(value)
            changed[name] = odd
            yield changed
        left = copy.copy(value)
        del left[name]
        yield left


def paths_of(use: Callable[[KeycloakAdmin], object]) -> set[str]:
    """Return what is asked where all answers are sound."""
    gateway = Gateway(ANSWERS)
    with contextlib.suppress(BridgeError):
        use(scripted_admin(gateway))
    return {sent.path.removeprefix(BASE) for sent in gateway.requests}


@pytest.mark.parametrize("path", ANSWERS)
def test_odd_answers_are_known_errors(path: str) -> None:
    """Each place of each answer is of another kind, null or missing."""
    concerned = [use for use in USES if path in paths_of(use)]
    assert concerned
    for odd in mutations(ANSWERS[path]):
        for use in concerned:
            admin = scripted_admin(Gateway({**ANSWERS, path: odd}))
            try:
                use(admin)
            except BridgeError:
                continue


def test_nulls_of_a_database_are_no_values() -> None:
    """Oracle keeps an empty text as null."""
    user = {**USER, "attributes": {"userId": ["a", None], "department": [None]}}
    admin = scripted_admin(Gateway({**ANSWERS, "/users/u1": user}))

    assert {"userId": ["a"], "department": []} == admin.get_user("u1")["attributes"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"error":' * 100_000], ids=["list", "object"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_that_nests_deeply_is_none(text: str, status: int) -> None:
    stub = StubAdapter()
    stub.answer(status, text=text)

    with pytest.raises(KeycloakError):
        scripted_admin(stub).get_user("u1")


def test_a_body_in_tiny_pieces_takes_its_own_size_only() -> None:
    """Chunks of two bytes each, whose count nothing else bounds."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = iter((head, *[b"2\r\nab\r\n" * 9_000] * 10, b"0\r\n\r\n"))

    answer = read_answer(lambda _: next(pieces), "GET")

    assert b"ab" * 90_000 == answer.body
    assert len(answer.body) < MOST_BODY_BYTES


_CLAIMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(claims=st.dictionaries(st.sampled_from(["aud", "iss", "iat", "resource_access"]), _CLAIMS))
def test_any_token_is_read(claims: dict[str, Any]) -> None:
    """Its claims may be anything; what is no time, no role and no name says nothing."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()

    facts = token_facts(f"x.{payload}.y")

    assert all(isinstance(one, str) for one in facts.audience)


def test_a_token_that_lives_for_ever_is_renewed() -> None:
    """A life beyond any number of Python's is one day."""
    stub = StubAdapter(scripted_tokens=True)
    stub.answer(200, text=json.dumps({"access_token": "t", "expires_in": 10**400}))
    stub.answer(200, USER)

    assert "ada" == scripted_admin(stub).get_user("u1")["username"]
