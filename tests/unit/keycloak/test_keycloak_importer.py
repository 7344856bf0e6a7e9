"""When users may be imported, and what Keycloak's answer to an import says of each."""

import base64
import json
from typing import Any, cast

import pytest

from keycloak_bridge.domain.errors import BridgeError, KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak import partial_import as keycloak_importer
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.import_eligibility import ImportTerms, Way
from keycloak_bridge.keycloak.partial_import import KeycloakUserImporter
from keycloak_bridge.keycloak.user_profile import RealmProfile
from keycloak_bridge.testing.fake_clock import FakeClock

TERMS = ImportTerms(RealmProfile(), "default-roles-acme")


def token(*roles: str) -> str:
    """Return a token that names these roles of realm-management."""
    claims = {"resource_access": {"realm-management": {"roles": roles}}}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


class StubAdmin:
    """A Keycloak that answers what it is told to, and counts how often its terms are read."""

    def __init__(self, access_token: str) -> None:
        self.token = access_token
        self.reads = 0
        self.error: BridgeError | None = None
        self.results: list[dict[str, Any]] = []

    def access_token(self) -> str:
        """Return the token."""
        return self.token

    def import_users(self, _users: object) -> list[dict[str, Any]]:
        """Return the results, or fail."""
        if self.error is not None:
            raise self.error
        return self.results

    def terms(self) -> ImportTerms:
        """Return the terms, or fail."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return TERMS


class Scene:
    """An importer over a stub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, access_token: str) -> None:
        monkeypatch.setattr(keycloak_importer, "read_import_terms", StubAdmin.terms)
        self.clock = FakeClock()
        self.admin = StubAdmin(access_token)
        self.importer = KeycloakUserImporter(cast("KeycloakAdmin", self.admin), self.clock)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """An account that may import."""
    return Scene(monkeypatch, token("manage-users", "manage-realm"))


def users(*names: str) -> list[UserRepresentation]:
    """Return users of these names."""
    return [UserRepresentation(username=name) for name in names]


@pytest.mark.parametrize(
    ("access_token", "expected"),
    [
        (token("manage-realm"), True),
        (token("realm-admin"), True),
        (token("manage-users", "view-realm"), False),
        ("opaque", True),
    ],
)
def test_it_takes_the_role(
    monkeypatch: pytest.MonkeyPatch, access_token: str, expected: bool
) -> None:
    """A token that does not tell its roles is tried."""
    scene = Scene(monkeypatch, access_token)

    assert scene.importer.available() is expected
    assert scene.admin.reads == int(expected)


def test_the_realm_is_read_anew_now_and_then(scene: Scene) -> None:
    """Once in half a minute, however often it is asked."""
    for _ in range(3):
        scene.importer.available()
    scene.clock.advance(31.0)
    scene.importer.available()

    assert scene.admin.reads == 2


def test_a_role_that_is_granted_later_is_seen(scene: Scene) -> None:
    """Within some minutes, with the next token."""
    scene.admin.token = token("manage-users")
    before = scene.importer.available()
    scene.admin.token = token("manage-realm")
    soon = scene.importer.available()
    scene.clock.advance(301.0)

    assert (before, soon, scene.importer.available()) == (False, False, True)


def test_a_realm_that_cannot_be_read_is_not_imported_into(scene: Scene) -> None:
    """It is asked again later."""
    scene.admin.error = KeycloakUnavailableError("down")
    before = scene.importer.available()
    scene.admin.error = None
    scene.clock.advance(31.0)

    assert (before, scene.importer.available()) == (False, True)


def test_a_refusal_switches_imports_off_for_a_while(scene: Scene) -> None:
    """Users are written one by one until then."""
    before = scene.importer.available()
    scene.admin.error = KeycloakAuthError("forbidden", status=403)
    with pytest.raises(KeycloakAuthError):
        scene.importer.import_users(users("ada"))

    assert (before, scene.importer.available()) == (True, False)
    assert scene.importer.judge(users("ada")[0]).way is Way.SINGLE


def test_each_user_is_told_apart(scene: Scene) -> None:
    """In the order of the question, whatever the order and spelling of the answer."""
    scene.admin.results = [
        {"action": "SKIPPED", "resourceName": "eve", "id": "id-eve"},
        {"action": "ADDED", "resourceName": "Ada", "id": "id-ada"},
        {"action": "ADDED", "resourceName": "bob", "id": "id-bob"},
    ]

    assert scene.importer.import_users(users("ada", "bob", "eve")) == ["id-ada", "id-bob", None]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"action": "ADDED", "resourceName": "somebody", "id": "id"}],
        [{"action": "ADDED", "resourceName": "ada"}],
    ],
)
def test_an_answer_that_leaves_somebody_out_is_not_keycloaks(
    scene: Scene, results: list[dict[str, Any]]
) -> None:
    """The users are searched for then."""
    scene.admin.results = results
    with pytest.raises(KeycloakUnavailableError) as raised:
        scene.importer.import_users(users("ada"))

    assert raised.value.code == "not-keycloak"
