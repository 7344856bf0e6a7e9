"""What only the doctor asks Keycloak."""

from datetime import UTC, datetime

import pytest

from keycloak_bridge.diagnostics.probes import STRANGE_HOST, Discovery, KeycloakSurvey
from keycloak_bridge.domain.errors import MailDeliveryError
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.stub_adapter import StubAdapter

URL = "https://keycloak.example/auth"
ISSUER = "https://id.example.com/realms/acme"


def survey_of(stub: StubAdapter) -> KeycloakSurvey:
    """Return a survey over a script."""
    http = KeycloakHttp(KeycloakConnection(URL, "acme"), stub)
    return KeycloakSurvey(
        http, KeycloakAdmin(http, TokenSource(http, "bridge", lambda: "x", FakeClock()))
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Date": "Sun, 01 Nov 2026 08:00:00 GMT"}, datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ({"Date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_discovery(headers: dict[str, str], expected: datetime | None) -> None:
    """The issuer, and the time where a header names it."""
    stub = StubAdapter()
    stub.answer(200, {"issuer": ISSUER}, headers=headers)

    assert Discovery(ISSUER, expected) == survey_of(stub).discovery()
    assert f"{URL}/realms/acme/.well-known/openid-configuration" == stub.requests[0].url


@pytest.mark.parametrize(
    ("status", "issuer", "expected"),
    [
        (200, f"https://{STRANGE_HOST}/realms/acme", True),
        (200, ISSUER, False),
        (404, ISSUER, None),
        (502, ISSUER, None),
    ],
)
def test_whether_links_follow_the_caller(status: int, issuer: str, expected: bool | None) -> None:
    """Called by a strange name, Keycloak repeats it or not; a proxy may refuse it."""
    stub = StubAdapter()
    stub.answer(status, {"issuer": issuer})

    assert expected is survey_of(stub).follows_its_callers()
    assert STRANGE_HOST == stub.requests[0].headers["Host"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"systemInfo": {"version": "26.7.3"}}, "26.7.3"),
        (200, {"themes": {}}, None),
        (403, {"error": "HTTP 403 Forbidden"}, None),
    ],
)
def test_the_version(status: int, body: object, expected: str | None) -> None:
    """Where it may be asked."""
    stub = StubAdapter()
    stub.answer(status, body)

    assert expected == survey_of(stub).server_version()
    assert f"{URL}/admin/serverinfo" == stub.requests[0].url


@pytest.mark.parametrize(
    ("realm", "expected"),
    [
        ({"realm": "acme"}, None),
        ({"smtpServer": {}}, {}),
        ({"smtpServer": {"host": "h", "password": "planted"}}, {"host": "h"}),
    ],
)
def test_the_mail_server(realm: object, expected: object) -> None:
    """Without its password; None where it may not be read."""
    stub = StubAdapter()
    stub.answer(200, realm)

    assert expected == survey_of(stub).smtp()


@pytest.mark.parametrize("fails", [False, True])
def test_a_test_mail_leaves_no_user(fails: bool) -> None:
    """A user for the address is made, mailed and deleted, also when the mail failed."""
    stub = StubAdapter()
    stub.answer(201, headers={"Location": f"{URL}/admin/realms/acme/users/42"})
    stub.answer(500 if fails else 204, {"errorMessage": "Failed to send execute actions email"})
    stub.answer(204)
    survey = survey_of(stub)

    if fails:
        with pytest.raises(MailDeliveryError):
            survey.send_test_mail("ada@acme.example")
    else:
        survey.send_test_mail("ada@acme.example")

    assert [("POST", "users"), ("PUT", "execute-actions-email"), ("DELETE", "42")] == [
        (one.method, one.path.rsplit("/", 1)[-1]) for one in stub.requests
    ]
    assert "ada@acme.example" == stub.requests[0].json["email"]
