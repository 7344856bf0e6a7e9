"""A Keycloak as the doctor sees it, here a stand-in."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.diagnostics.keycloak_probes import KeycloakProbes
from keycloak_bridge.diagnostics.probe import Light, Probe, Verdict, examine, green
from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakConflictError,
    MailDeliveryError,
)
from keycloak_bridge.keycloak.survey import Discovery, KeycloakSurvey
from keycloak_bridge.mapping.profile_findings import Severity

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
ISSUER = "https://id.example.com/realms/acme"
PLANTED = "planted@acme.example"


def token(**claims: Any) -> str:
    """Return a token with these claims beside the usual ones."""
    usual = {
        "iss": ISSUER,
        "aud": ["realm-management"],
        "resource_access": {"realm-management": {"roles": ["manage-users"]}},
    }
    body = base64.urlsafe_b64encode(json.dumps({**usual, **claims}).encode()).decode()
    return f"e30.{body}.s"


class StubSurvey(KeycloakSurvey):
    """Answers with what it was given."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "discovery": Discovery(ISSUER, NOW),
            "follows": False,
            "version": "26.7.3",
            "smtp": {"host": "smtp.example.com", "from": "no-reply@example.com"},
            "mail": None,
            **answers,
        }
        self.mailed: list[str] = []

    def discovery(self) -> Discovery:
        found: Discovery = self._answer("discovery")
        return found

    def follows_its_callers(self) -> bool | None:
        follows: bool | None = self._answer("follows")
        return follows

    def server_version(self) -> str | None:
        version: str | None = self._answer("version")
        return version

    def smtp(self) -> Mapping[str, Any] | None:
        server: Mapping[str, Any] | None = self._answer("smtp")
        return server

    def send_test_mail(self, address: str) -> None:
        self.mailed.append(address)
        self._answer("mail")

    def _answer(self, name: str) -> Any:
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class StubRealm:
    """A realm of the settings."""

    url: str = "http://keycloak:8080"
    name: str = "acme"
    invites: bool = True
    attributes: Sequence[str] = ("locale", "userId")
    optional_roles: dict[str, bool] = field(default_factory=dict)
    bursts: bool = False
    found: Sequence[Problem] = ()

    def problems(self) -> Sequence[Problem]:
        return self.found


def examined(
    survey: StubSurvey | None = None,
    realm: StubRealm | None = None,
    *,
    granted: str | None = None,
    test_mail: str | None = None,
    local: datetime = NOW,
) -> list[Verdict]:
    """Return what the probes say of a healthy realm but for what is given."""

    def give() -> str:
        if granted == "refused":
            raise KeycloakAuthError("no token", code="keycloak-credentials", remedy="correct it")
        return token() if granted is None else granted

    probes = KeycloakProbes(
        realm or StubRealm(), survey or StubSurvey(), give, lambda: local, test_mail=test_mail
    ).probes()
    return list(examine([Probe("mapping", lambda: [green("well")]), *probes]))[1:]


def ill(verdicts: Sequence[Verdict]) -> list[tuple[str, Light]]:
    """Return everything that is not green."""
    return [
        (one.probe, one.sighting.light) for one in verdicts if one.sighting.light is not Light.GREEN
    ]


def test_a_healthy_realm() -> None:
    """Everything is green."""
    verdicts = examined()

    assert [] == ill(verdicts)
    assert 10 == len(verdicts)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"discovery": Discovery("http://keycloak:8080/realms/acme", NOW)}, ("links", "yellow")),
        ({"follows": True}, ("links", "yellow")),
        ({"version": None}, ("version", "gray")),
        ({"smtp": None}, ("mail-server", "gray")),
        ({"smtp": {}}, ("mail-server", "red")),
        ({"smtp": {"host": "smtp.example.com"}}, ("mail-server", "red")),
        ({"discovery": Discovery(ISSUER, NOW + timedelta(seconds=6))}, ("clock", "yellow")),
        ({"discovery": Discovery(ISSUER, NOW - timedelta(seconds=31))}, ("clock", "red")),
        ({"discovery": Discovery(ISSUER, None)}, ("clock", "gray")),
    ],
)
def test_one_thing_is_wrong(answers: dict[str, Any], expected: tuple[str, str]) -> None:
    """The right probe says it."""
    found = ill(examined(StubSurvey(**answers)))

    assert (f"keycloak.{expected[0]}", Light(expected[1])) in found
    # a token of another issuer than the one that Keycloak names is told as well
    assert {expected[0], "token"} >= {probe.removeprefix("keycloak.") for probe, _ in found}


@pytest.mark.parametrize(
    ("seconds", "light"),
    [(0, None), (5, None), (6, Light.YELLOW), (30, Light.YELLOW), (31, Light.RED)],
)
def test_the_token_tells_the_time_where_no_header_does(seconds: int, light: Light | None) -> None:
    """Its time of issue is the server's clock."""
    issued = int(NOW.timestamp()) - seconds
    found = ill(examined(StubSurvey(discovery=Discovery(ISSUER, None)), granted=token(iat=issued)))

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
    """What the Admin API is not meant by, or another host issued, is worth a look."""
    found = [light for probe, light in ill(examined(granted=granted)) if probe == "keycloak.token"]

    assert ([] if expected is None else [expected]) == found


def test_a_refused_token_stops_what_needs_it() -> None:
    """Links and connection are looked at all the same."""
    verdicts = examined(granted="refused")
    found = {one.probe: one.sighting.light for one in verdicts}

    assert Light.RED is found.pop("keycloak.token")
    assert [Light.GREEN] * 2 == [found.pop(f"keycloak.{one}") for one in ("connection", "links")]
    assert {Light.GRAY} == set(found.values())


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
    problem = Problem(code, "it is so", "mend it", severity)
    light = Light.RED if severity is Severity.ERROR else Light.YELLOW

    assert [(f"keycloak.{probe}", light)] == ill(examined(realm=StubRealm(found=[problem])))


@pytest.mark.parametrize(
    ("granted", "used", "expected"),
    [
        (["view-clients"], True, Light.GREEN),
        (["manage-clients"], True, Light.GREEN),
        ([], True, Light.RED),
        ([], False, Light.GRAY),
        (None, True, Light.GRAY),
    ],
)
def test_optional_roles(granted: list[str] | None, used: bool, expected: Light) -> None:
    """Where the mapping makes use of it, every event that does waits for it, and holds all others in the end."""
    access = {"realm-management": {"roles": granted}}
    given = "opaque" if granted is None else token(resource_access=access)
    realm = StubRealm(optional_roles={"view-clients": used})
    found = [
        one.sighting.light
        for one in examined(realm=realm, granted=given)
        if one.sighting.subject == "view-clients"
    ]

    assert [expected] == found


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        (["manage-realm"], [Light.GREEN]),
        (["realm-admin"], [Light.GREEN]),
        (["manage-users"], [Light.GRAY]),
        (None, []),
    ],
)
def test_the_role_for_batches(granted: list[str] | None, expected: list[Light]) -> None:
    """Nothing fails without it; a backlog only takes longer."""
    access = {"realm-management": {"roles": granted}}
    given = "opaque" if granted is None else token(resource_access=access)
    found = [
        one.sighting.light
        for one in examined(realm=StubRealm(bursts=True), granted=given)
        if one.sighting.subject == "manage-realm"
    ]

    assert expected == found


def test_a_bridge_that_sends_no_mails() -> None:
    """What is about mails is not judged, nor locale that nobody writes."""
    realm = StubRealm(invites=False, attributes=("userId",))

    assert [
        (f"keycloak.{one}", Light.GRAY)
        for one in ("links", "languages", "admin-events", "mail-server")
    ] == ill(examined(StubSurvey(smtp=None), realm))


@pytest.mark.parametrize(("answer", "light"), [(None, Light.GREEN), ("fails", Light.RED)])
def test_a_test_mail(answer: str | None, light: Light) -> None:
    """It is sent when asked for, and the address is not repeated."""
    error = None if answer is None else MailDeliveryError("the mail server failed")
    survey = StubSurvey(mail=error)
    verdict = examined(survey, test_mail=PLANTED)[-1]

    assert ([PLANTED], "keycloak.test-mail", light) == (
        survey.mailed,
        verdict.probe,
        verdict.sighting.light,
    )
    assert PLANTED not in verdict.sighting.message


def test_a_test_mail_to_a_user_of_the_realm() -> None:
    """Most of the time it is the operator's own address. It says nothing about the mail server; what to do instead is told."""
    survey = StubSurvey(mail=KeycloakConflictError("another user of the realm holds it"))
    verdict = examined(survey, test_mail=PLANTED)[-1]

    assert (Light.GRAY, "keycloak.test-mail") == (verdict.sighting.light, verdict.probe)
    assert "another address" in (verdict.sighting.remedy or "")
    assert PLANTED not in f"{verdict.sighting.message} {verdict.sighting.remedy}"
