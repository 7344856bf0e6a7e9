"""What each answer of Keycloak, or of something in front of it, means."""

import json
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
    Violation,
)
from keycloak_bridge.keycloak.calls import EXECUTE_ACTIONS_EMAIL, Call
from keycloak_bridge.keycloak.errors import error_for
from keycloak_bridge.keycloak.http import from_response

CREATE = Call("POST", "/users")
DAY = "Mon, 02 Nov 2026"
MAIL = Call("PUT", EXECUTE_ACTIONS_EMAIL)


def response(
    status: int, body: object = None, *, text: str = "", headers: dict[str, str] | None = None
) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = (text if body is None else json.dumps(body)).encode()
    made.headers.update(headers or {})
    return made


@pytest.mark.parametrize(
    ("call", "status", "body", "kind", "code"),
    [
        (CREATE, 400, {"errorMessage": "x"}, KeycloakRejectedError, "keycloak-rejected"),
        (CREATE, 422, {"error": "x"}, KeycloakRejectedError, "keycloak-rejected"),
        (CREATE, 413, {"error": "x"}, KeycloakRejectedError, "too-large"),
        (CREATE, 401, {"error": "HTTP 401"}, KeycloakAuthError, "keycloak-token-refused"),
        (CREATE, 403, {"error": "HTTP 403"}, KeycloakAuthError, "keycloak-forbidden"),
        (CREATE, 404, {"error": "User not found"}, KeycloakNotFoundError, "not-found"),
        (CREATE, 404, {"error": "Realm not found."}, KeycloakAuthError, "realm-not-found"),
        (
            CREATE,
            404,
            {"error": "Unable to find matching target resource method"},
            KeycloakAuthError,
            "realm-not-found",
        ),
        (CREATE, 409, {"errorMessage": "x"}, KeycloakConflictError, "conflict"),
        (
            CREATE,
            409,
            {"error": "conflict", "error_description": "Duplicate resource error"},
            KeycloakConflictError,
            "conflict",
        ),
        (CREATE, 408, {}, KeycloakUnavailableError, "keycloak-busy"),
        (CREATE, 429, {}, KeycloakUnavailableError, "keycloak-busy"),
        (CREATE, 500, {"error": "unknown_error"}, KeycloakUnavailableError, "keycloak-unavailable"),
        (CREATE, 503, {}, KeycloakUnavailableError, "keycloak-unavailable"),
        (CREATE, 302, {}, KeycloakUnavailableError, "not-keycloak"),
        (CREATE, 200, {}, KeycloakUnavailableError, "not-keycloak"),
        (MAIL, 500, {"errorMessage": "Failed to send"}, MailDeliveryError, "mail-not-sent"),
        (
            MAIL,
            500,
            {"errorMessage": "Failed to send execute actions email: Invalid address '.a@b.c'. If"},
            KeycloakRejectedError,
            "invalid-address",
        ),
        (
            MAIL,
            500,
            {
                "errorMessage": "Failed to send execute actions email: Invalid sender address '.a@b.c'."
            },
            MailDeliveryError,
            "mail-not-sent",
        ),
        (MAIL, 500, {"error": "unknown_error"}, KeycloakUnavailableError, "keycloak-unavailable"),
        (MAIL, 503, {"errorMessage": "x"}, KeycloakUnavailableError, "keycloak-unavailable"),
        (MAIL, 400, {"errorMessage": "User is disabled"}, KeycloakRejectedError, "user-disabled"),
        (MAIL, 400, {"errorMessage": "User email missing"}, KeycloakRejectedError, "no-email"),
        (
            MAIL,
            400,
            {"errorMessage": "Client is not enabled"},
            KeycloakRejectedError,
            "client-disabled",
        ),
    ],
)
def test_status_and_shape_become_a_typed_error(
    call: Call, status: int, body: dict[str, Any], kind: type[KeycloakError], code: str
) -> None:
    """Status decides first, Keycloak's own words only where they are fixed."""
    error = from_response(call, response(status, body))

    assert (kind, code) == (type(error), error.code)
    assert (status, call.method, call.path) == (error.status, error.method, error.path)
    assert str(call) in str(error)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        *(
            (status, text)
            for status in (200, 302, 400, 404, 405, 409)
            for text in ("<html>not here</html>", '"text"', "[]")
        ),
        (404, ""),  # Keycloak says what it did not find; an ingress without a backend does not
    ],
)
def test_answer_that_is_not_keycloaks_is_an_outage(status: int, text: str) -> None:
    """A proxy's page in between must not send users to the dead letters."""
    error = from_response(CREATE, response(status, text=text))

    assert (KeycloakUnavailableError, "not-keycloak") == (type(error), error.code)


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        *((status, "", "keycloak-rejected") for status in (400, 405)),
        *((status, "<html>", "too-large") for status in (413, 414, 431)),
    ],
)
def test_some_refusals_are_final_without_a_body_of_keycloaks(
    status: int, text: str, code: str
) -> None:
    """Keycloak's HTTP layer refuses what it cannot read without a body; waiting makes no request smaller."""
    error = from_response(CREATE, response(status, text=text))

    assert (KeycloakRejectedError, code) == (type(error), error.code)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": f"{DAY} 10:01:30 GMT", "Date": f"{DAY} 10:00:00 GMT"}, 90.0),
        ({"Retry-After": f"{DAY} 09:00:00 GMT", "Date": f"{DAY} 10:00:00 GMT"}, 0.0),
        ({"Retry-After": f"{DAY} 10:01:30 GMT"}, None),
        ({"Retry-After": f"{DAY} 10:01:30 GMT", "Date": "yesterday"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "²"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read(status: int, headers: dict[str, str], expected: float | None) -> None:
    """Seconds or a date; nonsense is no wish."""
    assert expected == from_response(CREATE, response(status, {}, headers=headers)).retry_after_s


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {
                "errors": [
                    {"field": "email", "errorMessage": "error-invalid-email", "params": ["e", "v"]},
                    {"field": "firstName", "errorMessage": "error-person-name-invalid-character"},
                    "nonsense",
                ]
            },
            [
                ("/user/email", "error-invalid-email"),
                ("/user/firstName", "error-person-name-invalid-character"),
            ],
        ),
        (
            {"error": 'Invalid json representation. Unrecognized field "foo" at line 1 column 5.'},
            [("/user/foo", "unknown-field")],
        ),
        ({"errorMessage": "User name is missing"}, [("/user/username", "required")]),
        ({"field": 3, "errorMessage": ["?"], "params": 5}, [("/user", "invalid")]),
        ({"field": "a/b", "errorMessage": "Ada's own words"}, [("/user", "invalid")]),
        ({"errorMessage": "Could not create user!"}, []),
    ],
)
def test_rejection_points_at_the_fields(
    body: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """What is odd in them too; the contract suite has what the real Keycloak says of each rule."""
    error = error_for(CREATE, 400, body)

    assert expected == [(violation.pointer, violation.keyword) for violation in error.violations]


def test_limits_are_named() -> None:
    """Numbers are the rule's, and help."""
    body = {"field": "username", "errorMessage": "error-invalid-length", "params": ["u", 3, 255]}
    (violation,) = error_for(CREATE, 400, body).violations

    assert violation == Violation(
        "/user/username",
        "error-invalid-length",
        "the realm's user profile says error-invalid-length (limits: 3, 255)",
    )


@given(
    status=st.sampled_from([200, 302, 400, 401, 403, 404, 409, 413, 429, 500]),
    call=st.sampled_from([CREATE, MAIL]),
    where=st.sampled_from(["errorMessage", "error", "error_description", "params", "text"]),
)
def test_no_answer_carries_a_value_into_an_error(status: int, call: Call, where: str) -> None:
    """Whatever Keycloak repeats of a user stays with Keycloak."""
    value = "ada.lovelace@acme.example said so"
    body: dict[str, Any] = {"field": "email", "errorMessage": "error-invalid-email"}
    body[where] = ["email", value] if where == "params" else value

    error = from_response(
        call, response(status, text=value) if where == "text" else response(status, body)
    )

    assert "ada" not in f"{error} {error.remedy} {error.code} {error.violations}"
