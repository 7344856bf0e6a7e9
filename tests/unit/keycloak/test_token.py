"""The access token: asked for once, renewed in time, and what its refusal means."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import requests
from stub_adapter import StubAdapter

from keycloak_bridge.domain.errors import BridgeError, KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenFacts, TokenSource, granted_roles, token_facts
from keycloak_bridge.testing.fake_clock import FakeClock

SECRET = "s3cr3t-of-the-client"


class Bench:
    """A token source over a script, a clock, and a secret that can change."""

    def __init__(self) -> None:
        self.stub = StubAdapter(scripted_tokens=True)
        self.clock = FakeClock()
        self.secret = SECRET
        http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), self.stub)
        self.tokens = TokenSource(
            http, by_secret("keycloak-bridge", lambda: self.secret), self.clock
        )

    def grant(self, *tokens: str, expires_in: int = 300) -> None:
        for token in tokens:
            self.stub.answer(200, {"access_token": token, "expires_in": expires_in})


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("expires_in", "fresh_until_s"), [(300, 270), (60, 30), (40, 20), (2, 1), (0, 0)]
)
def test_token_is_kept_until_shortly_before_it_expires(
    bench: Bench, expires_in: int, fresh_until_s: int
) -> None:
    """Thirty seconds before its end, or at half of a short life."""
    bench.grant("a", "b", expires_in=expires_in)
    bench.tokens.token()

    bench.clock.advance(fresh_until_s - 0.5)
    before = bench.tokens.token() if fresh_until_s else "a"
    bench.clock.advance(0.5)

    assert (before, bench.tokens.token()) == ("a", "b")


def test_time_spent_asking_counts(bench: Bench) -> None:
    """The life of a token begins when it is made, not when it arrives."""
    bench.grant("a", "b")
    send = bench.stub.send

    def slow_send(request: requests.PreparedRequest, **given: object) -> requests.Response:
        bench.clock.advance(280)
        return send(request)

    bench.stub.send = slow_send  # type: ignore[method-assign,assignment]

    assert (bench.tokens.token(), bench.tokens.token()) == ("a", "b")


def test_many_threads_ask_once(bench: Bench) -> None:
    """One renewal at a time; the others wait for its token."""
    bench.grant("a")
    together = threading.Barrier(8)

    def token() -> str:
        together.wait()
        return bench.tokens.token()

    with ThreadPoolExecutor(8) as pool:
        seen = [one.result() for one in [pool.submit(token) for _ in range(8)]]

    assert seen == ["a"] * 8
    assert len(bench.stub.requests) == 1


def test_invalidated_token_is_never_given_out_again(bench: Bench) -> None:
    """After a 401 the next token is a new one; two threads that both saw the 401 renew once."""
    bench.grant("a", "b")
    old = bench.tokens.token()
    bench.tokens.invalidate(old)
    renewed = bench.tokens.token()
    bench.tokens.invalidate(old)

    assert (renewed, bench.tokens.token()) == ("b", "b")


def test_rotated_secret_is_used_at_the_next_renewal(bench: Bench) -> None:
    """No restart for a new secret."""
    bench.grant("a", "b")
    bench.tokens.token()
    bench.secret = "rotated"
    bench.clock.advance(300)
    bench.tokens.token()

    assert [sent.form["client_secret"] for sent in bench.stub.requests] == [SECRET, "rotated"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, {"error": "unauthorized_client"}, KeycloakAuthError, "keycloak-credentials"),
        (401, {"error": "invalid_client"}, KeycloakAuthError, "keycloak-credentials"),
        (400, {"error": "unauthorized_client"}, KeycloakAuthError, "keycloak-credentials"),
        (403, {"error": "access_denied"}, KeycloakAuthError, "keycloak-credentials"),
        (404, {"error": "Realm does not exist"}, KeycloakAuthError, "realm-not-found"),
        (404, {"error": "Unable to find matching ..."}, KeycloakAuthError, "realm-not-found"),
        (429, {}, KeycloakUnavailableError, "keycloak-busy"),
        (500, {"error": "unknown_error"}, KeycloakUnavailableError, "keycloak-unavailable"),
        (200, {"token_type": "Bearer"}, KeycloakUnavailableError, "not-keycloak"),
        (302, {}, KeycloakUnavailableError, "not-keycloak"),
        (200, None, KeycloakUnavailableError, "not-keycloak"),
        (302, None, KeycloakUnavailableError, "not-keycloak"),
        (403, None, KeycloakUnavailableError, "not-keycloak"),
        (404, None, KeycloakUnavailableError, "not-keycloak"),
        (502, None, KeycloakUnavailableError, "keycloak-unavailable"),
    ],
)
def test_refusal_is_told_apart_from_an_outage(
    bench: Bench, status: int, body: object, kind: type[BridgeError], code: str
) -> None:
    """Wrong settings need a person, an outage needs time."""
    bench.stub.answer(status, body, text=f"<html>{SECRET}</html>")

    with pytest.raises(kind) as caught:
        bench.tokens.token()

    assert code == caught.value.code
    assert SECRET not in f"{caught.value} {caught.value.remedy}"


def test_failed_renewal_is_tried_again_by_the_next_call(bench: Bench) -> None:
    """A failure is not remembered."""
    bench.stub.fail(requests.ConnectTimeout())
    bench.grant("a")
    with pytest.raises(KeycloakUnavailableError):
        bench.tokens.token()

    assert bench.tokens.token() == "a"


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.signature"


@pytest.mark.parametrize(
    ("token", "facts", "roles"),
    [
        ("", TokenFacts(), None),
        ("opaque", TokenFacts(), None),
        ("a.b.c", TokenFacts(), None),
        ("a.!!!.c", TokenFacts(), None),
        ("a.é.c", TokenFacts(), None),
        (jwt({}), TokenFacts(), None),
        (jwt([]), TokenFacts(), None),
        (jwt({"resource_access": None}), TokenFacts(), None),
        (
            jwt({"resource_access": {"account": {"roles": ["x"]}}}),
            TokenFacts(roles={"account": frozenset({"x"})}),
            None,
        ),
        (
            jwt({"resource_access": {"realm-management": {"roles": "manage-users"}}}),
            TokenFacts(),
            None,
        ),
        (jwt({"aud": "account"}), TokenFacts(audience=frozenset({"account"})), None),
        (
            jwt(
                {
                    "iss": "https://id.example.com/realms/acme",
                    "aud": ["a", "b"],
                    "iat": 0,
                    "resource_access": {
                        "realm-management": {"roles": ["manage-users", "ü>>?"]},
                        "d": "x",
                    },
                }
            ),
            TokenFacts(
                "https://id.example.com/realms/acme",
                frozenset({"a", "b"}),
                {"realm-management": frozenset({"manage-users", "ü>>?"})},
                datetime(1970, 1, 1, tzinfo=UTC),
            ),
            frozenset({"manage-users", "ü>>?"}),
        ),
    ],
)
def test_what_a_token_says_is_read(
    token: str, facts: TokenFacts, roles: frozenset[str] | None
) -> None:
    """What cannot be read is empty: a scope may keep roles out, and a token may be opaque."""
    assert (facts, roles) == (token_facts(token), granted_roles(token))
