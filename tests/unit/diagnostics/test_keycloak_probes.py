"""The probes of Keycloak, against a stub of the realm."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from stub_adapter import StubAdapter

from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.diagnostics.keycloak_probes import (
    KeycloakProbes,
    RealmSetup,
    is_internal,
    links_result,
)
from keycloak_bridge.diagnostics.keycloak_survey import (
    STRANGE_HOST,
    Discovery,
    FederationProvider,
    KeycloakSurvey,
)
from keycloak_bridge.diagnostics.probes import Light, Probe, ProbeResult, examine, green
from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakConflictError,
    MailDeliveryError,
)
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.realm.needs import MAPPING_ROLES
from keycloak_bridge.testing.fake_clock import FakeClock

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
ISSUER = "https://id.example.com/realms/acme"
USED = frozenset({"manage-users", "view-events", "view-realm"})
LDAP = FederationProvider("people", "ldap", "READ_ONLY")
RULES = {"passwordPolicy": "length(12)", "bruteForceProtected": True, "sslRequired": "external"}
PLANTED = "planted@acme.example"


def token(**claims: Any) -> str:
    """Return a token with these claims beside the usual ones."""
    usual = {
        "iss": ISSUER,
        "aud": ["realm-management"],
        "resource_access": {"realm-management": {"roles": ["manage-users", *MAPPING_ROLES]}},
    }
    body = base64.urlsafe_b64encode(json.dumps({**usual, **claims}).encode()).decode()
    return f"e30.{body}.s"


def survey(**answers: Any) -> Mock:
    """Return a survey with these answers, and those of a healthy realm; an exception is raised."""
    healthy = {
        "discovery": Discovery(ISSUER, NOW),
        "follows_its_callers": False,
        "server_version": "26.7.3",
        "smtp": {"host": "smtp.example.com", "from": "no-reply@example.com", "starttls": "true"},
        "password_rules": RULES,
        "user_federation": (),
        "user_events": ["UPDATE_PASSWORD"],
        "count_users": 12_000,
        "lookup_s": 0.004,
    }
    stub: Mock = create_autospec(KeycloakSurvey, instance=True)
    for name, answer in {**healthy, **answers}.items():
        failure = answer if isinstance(answer, Exception) else None
        getattr(stub, name).configure_mock(return_value=answer, side_effect=failure)
    return stub


SETUP = RealmSetup(
    url="http://keycloak:8080",
    name="acme",
    invites=True,
    watched_events=["UPDATE_PASSWORD"],
    attributes=lambda: ("locale", "userId"),
    external_id=lambda: "userId",
    used_roles=lambda: USED.union(MAPPING_ROLES),
    problems=tuple,
)


def examined(
    answers: Mock | None = None,
    realm: RealmSetup = SETUP,
    *,
    granted: str | None = None,
    test_mail: str | None = None,
    local: datetime = NOW,
) -> list[ProbeResult]:
    """Return the results for a healthy realm except for what is given."""

    def give() -> str:
        if granted == "refused":
            raise KeycloakAuthError("no token", code="keycloak-credentials", remedy="correct it")
        return token() if granted is None else granted

    probes = KeycloakProbes(
        realm, answers or survey(), give, lambda: local, test_mail=test_mail
    ).probes()
    return list(examine([Probe("mapping", lambda: [green("well")]), *probes]))[1:]


def not_green(results: Sequence[ProbeResult]) -> list[tuple[str, Light]]:
    """Return everything that is not green."""
    return [(one.probe, one.light) for one in results if one.light is not Light.GREEN]


@pytest.mark.parametrize(
    ("version", "light"),
    [
        (None, "gray"),
        ("26.7.3", "gray"),
        ("26.8.0", "yellow"),
        ("27.0.0-SNAPSHOT", "yellow"),
        ("nightly", "gray"),
    ],
)
def test_older_actions_are_named(version: str | None, light: str) -> None:
    """They leave the address unverified from Keycloak 26.8 on."""
    older = replace(SETUP, links_only_set_passwords=lambda: True)
    found = examined(survey(server_version=version), older)
    (result,) = [one for one in found if one.subject == "VERIFY_EMAIL"]

    assert (result.probe, result.light) == ("keycloak.version", Light(light))
    assert "VERIFY_EMAIL" in (result.remedy or "")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"discovery": Discovery("http://keycloak:8080/realms/acme", NOW)}, ("links", "yellow")),
        ({"follows_its_callers": True}, ("links", "yellow")),
        ({"server_version": None}, ("version", "gray")),
        ({"smtp": None}, ("mail-server", "gray")),
        ({"smtp": {}}, ("mail-server", "red")),
        ({"user_federation": None}, ("federation", "gray")),
        ({"user_events": ()}, ("user-events", "yellow")),
        ({"user_events": ["LOGIN"]}, ("user-events", "yellow")),
        ({"user_federation": [LDAP]}, ("federation", "yellow")),
        ({"user_federation": [replace(LDAP, edit_mode="UNSYNCED")]}, ("federation", "yellow")),
        ({"user_federation": [replace(LDAP, edit_mode=None)]}, ("federation", "yellow")),
        ({"smtp": {"host": "smtp.example.com"}}, ("mail-server", "red")),
        ({"smtp": {"host": "smtp.example.com", "from": "a@b.example"}}, ("mail-server", "yellow")),
        ({"password_rules": None}, ("passwords", "gray")),
        ({"password_rules": {**RULES, "passwordPolicy": ""}}, ("passwords", "yellow")),
        ({"password_rules": {**RULES, "bruteForceProtected": False}}, ("passwords", "yellow")),
        ({"password_rules": {**RULES, "sslRequired": "none"}}, ("passwords", "yellow")),
        ({"discovery": Discovery(ISSUER, NOW + timedelta(seconds=6))}, ("clock", "yellow")),
        ({"discovery": Discovery(ISSUER, NOW - timedelta(seconds=31))}, ("clock", "red")),
        ({"discovery": Discovery(ISSUER, None)}, ("clock", "gray")),
    ],
)
def test_one_thing_is_wrong(answers: dict[str, Any], expected: tuple[str, str]) -> None:
    """The right probe reports it."""
    found = not_green(examined(survey(**answers)))

    assert (f"keycloak.{expected[0]}", Light(expected[1])) in found
    # a token of another issuer than the one that Keycloak names is reported as well
    assert {expected[0], "token"} >= {probe.removeprefix("keycloak.") for probe, _ in found}


@pytest.mark.parametrize(
    ("seconds", "light"),
    [(0, None), (5, None), (6, Light.YELLOW), (30, Light.YELLOW), (31, Light.RED)],
)
def test_the_token_tells_the_time_where_no_header_does(seconds: int, light: Light | None) -> None:
    """Its time of issue is the server's clock."""
    issued = int(NOW.timestamp()) - seconds
    found = not_green(
        examined(survey(discovery=Discovery(ISSUER, None)), granted=token(iat=issued))
    )

    assert ([] if light is None else [("keycloak.clock", light)]) == found


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ("opaque", Light.GRAY),
        (token(aud="account", resource_access={"account": {"roles": ["x"]}}), Light.YELLOW),
        (token(aud="realm-management", resource_access={}), None),
        (token(iss="http://keycloak:8080/realms/acme"), Light.YELLOW),
    ],
)
def test_tokens(granted: str, expected: Light | None) -> None:
    """A token that is not meant for the Admin API, or that another host issued, is a risk."""
    found = [
        light for probe, light in not_green(examined(granted=granted)) if probe == "keycloak.token"
    ]

    assert ([] if expected is None else [expected]) == found


@pytest.mark.parametrize(
    ("code", "probe"),
    [
        ("role-missing", "roles"),
        ("attribute-unknown", "profile"),
        ("profile-unreadable", "profile"),
        ("internationalization-off", "languages"),
        ("mail-ledger-missing", "admin-events"),
    ],
)
@pytest.mark.parametrize("severity", list(Severity))
def test_problems_of_the_realm_go_to_their_probes(
    code: str, probe: str, severity: Severity
) -> None:
    """An error is red, a warning yellow, each once."""
    problem = Problem(code, "it is so", "fix it", severity)
    light = Light.RED if severity is Severity.ERROR else Light.YELLOW

    assert [(f"keycloak.{probe}", light)] == not_green(
        examined(realm=replace(SETUP, problems=lambda: [problem]))
    )


@pytest.mark.parametrize(
    ("role", "granted", "used", "expected"),
    [
        ("view-clients", ["view-clients"], ["view-clients"], [Light.GREEN]),
        ("view-clients", ["manage-clients"], ["view-clients"], [Light.GREEN]),
        ("view-clients", [], ["view-clients"], [Light.RED]),
        ("view-clients", [], [], [Light.GRAY]),
        ("view-clients", ["view-clients"], [], []),
        ("view-clients", None, ["view-clients"], [Light.GRAY]),
        ("manage-realm", ["manage-realm"], ["manage-realm"], [Light.YELLOW]),
        ("manage-realm", ["realm-admin"], ["manage-realm"], [Light.YELLOW]),
        ("manage-realm", ["manage-users"], ["manage-realm"], [Light.GRAY]),
        ("manage-realm", ["manage-realm"], [], []),
        ("manage-realm", None, ["manage-realm"], []),
    ],
)
def test_optional_roles(
    role: str, granted: list[str] | None, used: list[str], expected: list[Light]
) -> None:
    """Red only where the mapping needs the role: such events would wait for it. Batches only make a backlog faster."""
    found = [one.light for one in with_roles(granted, used) if one.subject == role]

    assert expected == found


@pytest.mark.parametrize(
    ("granted", "used", "expected"),
    [
        (["manage-users", "view-events", "view-realm"], [], None),
        (["manage-users"], [], None),
        # what a composite role brings along, or another role includes
        (["manage-users", "view-users", "query-users", "query-groups"], [], None),
        (["view-clients", "query-clients"], ["view-clients"], None),
        (["view-clients", "query-clients"], [], "view-clients"),
        (["view-clients", "manage-clients"], ["view-clients"], "manage-clients"),
        (["manage-users", "impersonation", "manage-events"], [], "impersonation, manage-events"),
        (["realm-admin", "manage-users", "impersonation"], ["manage-realm"], "realm-admin"),
        (["manage-realm"], [], "manage-realm"),
        (["manage-realm"], ["manage-realm"], None),
        # a Keycloak that has no smaller role for organizations
        (["manage-realm"], ["manage-organizations"], None),
        (["manage-realm", "manage-organizations"], ["manage-organizations"], "manage-realm"),
    ],
)
def test_roles_that_allow_more_than_the_bridge_needs(
    granted: list[str], used: list[str], expected: str | None
) -> None:
    """A yellow light, whose one sentence names them."""
    found = [one for one in with_roles(granted, used) if one.subject == "surplus"]

    assert ([] if expected is None else [Light.YELLOW]) == [one.light for one in found]
    assert all(f"has {expected} beyond what" in one.message for one in found)


def with_roles(granted: list[str] | None, used: list[str]) -> list[ProbeResult]:
    """Return the results for a token with these roles, None for one that names none."""
    access = {"realm-management": {"roles": granted}}
    given = "opaque" if granted is None else token(resource_access=access)
    return examined(realm=replace(SETUP, used_roles=lambda: USED.union(used)), granted=given)


def test_a_bridge_that_sends_no_mails() -> None:
    """Probes of mails are skipped, and so is the locale if no rule writes it."""
    realm = replace(SETUP, invites=False, attributes=lambda: ("userId",))

    assert [
        (f"keycloak.{one}", Light.GRAY)
        for one in ("links", "languages", "admin-events", "mail-server")
    ] == not_green(examined(survey(smtp=None), realm))


@pytest.mark.parametrize(
    ("error", "light", "remedy"),
    [
        (None, Light.GREEN, ""),
        (MailDeliveryError("the mail server failed"), Light.RED, ""),
        # usually the operator's own address, which says nothing about the mail server
        (KeycloakConflictError("a user of the realm holds it"), Light.GRAY, "another address"),
    ],
)
def test_a_test_mail(error: Exception | None, light: Light, remedy: str) -> None:
    """It is sent only on request, and neither message nor remedy repeats the address."""
    stub = survey(send_test_mail=error)
    result = examined(stub, test_mail=PLANTED)[-1]

    stub.send_test_mail.assert_called_once_with(PLANTED)
    assert ("keycloak.test-mail", light) == (result.probe, result.light)
    assert remedy in (result.remedy or "")
    assert PLANTED not in f"{result.message} {result.remedy}"


@pytest.mark.parametrize(
    ("issuer", "follows", "light", "text"),
    [
        ("https://id.example.com/realms/a", False, Light.GREEN, "https://id.example.com"),
        ("https://id.example.com/realms/a", None, Light.GREEN, "https://id.example.com"),
        ("https://id.example.com/realms/a", True, Light.YELLOW, "by that name"),
        ("http://id.example.com/realms/a", False, Light.YELLOW, "without encryption"),
        ("http://keycloak:8080/realms/a", True, Light.YELLOW, "cannot open"),
        ("http://keycloak:8080/realms/a", False, Light.YELLOW, "cannot open"),
    ],
)
def test_links_in_mails(issuer: str, follows: bool | None, light: Light, text: str) -> None:
    """The reader of the mail must be able to open them."""
    result = links_result(issuer, follows=follows)

    assert (light, True) == (result.light, text in result.message)
    assert (light is Light.GREEN) is (result.remedy is None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("keycloak", True),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("8.8.8.8", False),
        ("::1", True),
        ("keycloak.default.svc", True),
        ("id.example.com", False),
        ("", True),
    ],
)
def test_internal_hosts(host: str, expected: bool) -> None:
    """Private addresses, and names without a public domain."""
    assert expected is is_internal(host)


# what only the doctor asks Keycloak

URL = "https://keycloak.example/auth"


def survey_of(stub: StubAdapter) -> KeycloakSurvey:
    """Return a survey over a script."""
    http = KeycloakHttp(KeycloakConnection(URL, "acme"), stub)
    return KeycloakSurvey(
        http, KeycloakAdmin(http, TokenSource(http, by_secret("bridge", lambda: "x"), FakeClock()))
    )


DISCOVERED = f"{URL}/realms/acme/.well-known/openid-configuration"
ASKED = {
    "discovery": (DISCOVERED, None),
    "follows_its_callers": (DISCOVERED, STRANGE_HOST),
    "server_version": (f"{URL}/admin/serverinfo", None),
    "smtp": (f"{URL}/admin/realms/acme", None),
    "user_federation": (
        f"{URL}/admin/realms/acme/components?type=org.keycloak.storage.UserStorageProvider",
        None,
    ),
}


@pytest.mark.parametrize(
    ("question", "status", "body", "expected"),
    [
        ("discovery", 200, {"issuer": ISSUER}, Discovery(ISSUER, None)),
        # called by a strange name, Keycloak repeats it or not; a proxy may refuse it
        ("follows_its_callers", 200, {"issuer": f"https://{STRANGE_HOST}/realms/acme"}, True),
        ("follows_its_callers", 200, {"issuer": ISSUER}, False),
        ("follows_its_callers", 404, {"issuer": ISSUER}, None),
        ("follows_its_callers", 502, {"issuer": ISSUER}, None),
        ("server_version", 200, {"systemInfo": {"version": "26.7.3"}}, "26.7.3"),
        ("server_version", 200, {"themes": {}}, None),
        ("server_version", 403, {"error": "HTTP 403 Forbidden"}, None),
        ("user_federation", 403, {"error": "HTTP 403 Forbidden"}, None),
        ("user_federation", 200, [], []),
        (
            "user_federation",
            200,
            [
                {"name": "people", "providerId": "ldap", "config": {"editMode": ["READ_ONLY"]}},
                {"name": "old", "providerId": "kerberos", "config": {"enabled": ["false"]}},
            ],
            [LDAP, FederationProvider("old", "kerberos", None, enabled=False)],
        ),
        # without its password; None where it may not be read
        ("smtp", 200, {"realm": "acme"}, None),
        ("smtp", 200, {"smtpServer": {}}, {}),
        ("smtp", 200, {"smtpServer": {"host": "h", "password": "planted"}}, {"host": "h"}),
    ],
)
def test_what_keycloak_answers(question: str, status: int, body: object, expected: object) -> None:
    """Each question has one address, and an answer that says nothing is no error."""
    stub = StubAdapter()
    stub.answer(status, body)

    assert expected == getattr(survey_of(stub), question)()
    (asked,) = stub.requests
    assert ASKED[question] == (asked.url, asked.headers.get("Host"))


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 01 Nov 2026 08:00:00 GMT", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("yesterday", None),
    ],
)
def test_a_header_may_tell_the_time(date: str, expected: datetime | None) -> None:
    """Where it holds a date."""
    stub = StubAdapter()
    stub.answer(200, {"issuer": ISSUER}, headers={"Date": date})

    assert Discovery(ISSUER, expected) == survey_of(stub).discovery()


def test_a_test_mail_that_fails_leaves_no_user() -> None:
    """A user for the address is made, mailed and deleted."""
    stub = StubAdapter()
    stub.answer(201, headers={"Location": f"{URL}/admin/realms/acme/users/42"})
    stub.answer(500, {"errorMessage": "Failed to send execute actions email"})
    stub.answer(204)

    with pytest.raises(MailDeliveryError):
        survey_of(stub).send_test_mail("ada@acme.example")

    assert [("POST", "users"), ("PUT", "execute-actions-email"), ("DELETE", "42")] == [
        (one.method, one.path.rsplit("/", 1)[-1]) for one in stub.requests
    ]
    assert "ada@acme.example" == stub.requests[0].json["email"]


@pytest.mark.parametrize(
    ("took_s", "light"),
    [(0.02, Light.GREEN), (0.0204, Light.YELLOW), (0.2, Light.YELLOW), (0.2004, Light.RED)],
)
def test_a_slow_search_has_two_remedies(took_s: float, light: Light) -> None:
    """The index, with its statement, and the other layout; the number of users says how large the realm is."""
    (found,) = [one for one in examined(survey(lookup_s=took_s)) if one.probe == "keycloak.lookups"]

    assert light is found.light
    assert "by userId takes 20" in found.message
    assert "12000 users" in found.message
    assert light is Light.GREEN or all(
        named in str(found.remedy)
        for named in ("user_attribute (name, lower(value))", "username", "docs/keycloak.md")
    )


def test_a_search_is_measured_by_values_that_nobody_has() -> None:
    """Each is another one, so that no cache answers."""
    stub = StubAdapter()
    for _ in range(6):
        stub.answer(200, [])

    took_s = survey_of(stub).lookup_s("userId")
    asked = [one.url for one in stub.requests]

    assert 0 <= took_s
    assert 6 == len(set(asked))
    assert all("keycloak-bridge-doctor-" in one for one in asked)
