"""An imported user is what POST makes of it, and what POST refuses is never imported: on the real Keycloak."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from import_cases import ADMIN, CASES, IMPORTED, PROFILE, REFUSED

from keycloak_bridge.domain.errors import KeycloakRejectedError
from keycloak_bridge.domain.representation import without_blanks
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.partial_import import ImportTerms, import_body, read_import_terms
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import RealmAdministrator, bridge_admin, temporary_realm

pytestmark = pytest.mark.integration

_TIMEOUT_S = 60
_OWN = ("id", "createdTimestamp", "access")


@dataclass
class Realm:
    """A realm with defaults and rules, the bridge's account in it, and the administrator's hands."""

    sandbox: Sandbox
    name: str
    admin: KeycloakAdmin

    def call(self, method: str, path: str, json: object = None) -> Any:
        """Return what Keycloak answers its administrator."""
        administrator = RealmAdministrator.of(self.sandbox)
        return administrator.call(method, f"/{self.name}{path}", json=json)

    def prepare(self) -> None:
        """Give it everything that POST adds to a new user, and a rule of each kind."""
        self.call("POST", "/groups", {"name": "odd/name"})
        for group in self.call("GET", "/groups"):
            if group["name"] in ("customers", "odd/name"):
                self.call("PUT", f"/default-groups/{group['id']}")
        for action in self.call("GET", "/authentication/required-actions"):
            if action["alias"] in ("UPDATE_PROFILE", "TERMS_AND_CONDITIONS"):
                path = f"/authentication/required-actions/{action['alias']}"
                self.call("PUT", path, {**action, "defaultAction": True})
        profile = self.call("GET", "/users/profile")
        profile["attributes"] += PROFILE
        self.call("PUT", "/users/profile", profile)
        self.call("PUT", "", {"verifyEmail": True, "organizationsEnabled": True})

    def stored(self, username: str) -> dict[str, Any]:
        """Return all that the realm holds of the user."""
        (found,) = self.admin.search_users({"username": username.lower(), "exact": "true"})
        user_id = found["id"]
        user: dict[str, Any] = {**self.admin.get_user(user_id)}
        assert user["createdTimestamp"] > 0
        default = f"default-roles-{self.name}"
        mappings = self.call("GET", f"/users/{user_id}/role-mappings")
        for name in _OWN:
            user.pop(name, None)
        return {
            **user,
            "requiredActions": sorted(user["requiredActions"]),
            "attributes": {k: sorted(v) for k, v in user.get("attributes", {}).items()},
            "groups": sorted(one["path"] for one in self.call("GET", f"/users/{user_id}/groups")),
            "realm roles": sorted(
                "default" if one["name"] == default else one["name"]
                for one in mappings.get("realmMappings", ())
            ),
            "client roles": sorted(mappings.get("clientMappings", ())),
            "credentials": self.call("GET", f"/users/{user_id}/credentials"),
            "identities": self.call("GET", f"/users/{user_id}/federated-identity"),
            "unmanaged": self.call("GET", f"/users/{user_id}/unmanagedAttributes"),
        }


@contextmanager
def a_realm(sandbox: Sandbox) -> Iterator[Realm]:
    """Lend one whose service account may import."""
    with (
        temporary_realm(sandbox, "manage-realm") as fresh,
        bridge_admin(sandbox, fresh) as admin,
    ):
        realm = Realm(sandbox, fresh.name, admin)
        realm.prepare()
        yield realm


@pytest.fixture(scope="module")
def posted(sandbox: Sandbox) -> Iterator[Realm]:
    """The realm where each user is created by POST."""
    with a_realm(sandbox) as realm:
        yield realm


@pytest.fixture(scope="module")
def imported(sandbox: Sandbox) -> Iterator[Realm]:
    """The realm that users are imported into."""
    with a_realm(sandbox) as realm:
        yield realm


@pytest.fixture(scope="module")
def terms(imported: Realm) -> ImportTerms:
    """What the bridge reads of that realm."""
    return read_import_terms(imported.admin)


def test_the_terms_are_read(imported: Realm, terms: ImportTerms) -> None:
    """What POST gives to every new user, and what the realm is set to."""
    assert terms.default_role == f"default-roles-{imported.name}"
    assert set(terms.default_groups) == {"/customers", "/odd/name"}
    assert terms.default_actions == ("UPDATE_PROFILE",)
    assert {"VERIFY_EMAIL", "TERMS_AND_CONDITIONS"} <= terms.known_actions
    assert (terms.internationalized, terms.login_with_email) == (True, True)
    assert (terms.post_only, terms.email_as_username) == (False, False)
    assert terms.wanted == frozenset()


def test_what_is_certain_is_imported(terms: ImportTerms) -> None:
    """As many as can be known to end well; what is uncertain or would be refused is left to POST."""
    imported = {name for name, _, user in CASES if import_body(terms, user) is not None}  # type: ignore[arg-type]

    assert {name for name, way, _ in CASES if way == IMPORTED} == imported


def test_imported_users_are_what_post_makes_of_them(
    posted: Realm, imported: Realm, terms: ImportTerms
) -> None:
    """Field by field, role by role, group by group."""
    users: list[Any] = [user for _, way, user in CASES if way == IMPORTED]
    for user in users:
        posted.admin.create_user(without_blanks(user))  # as the bridge does, either way

    results = imported.admin.import_users([body_of(terms, user) for user in users])

    names = [user["username"].lower() for user in users]
    assert ["ADDED"] * len(users) == [one["action"] for one in results]
    assert sorted(names) == sorted(one["resourceName"] for one in results)
    assert {name: posted.stored(name) for name in names} == {
        name: imported.stored(name) for name in names
    }


def test_what_the_profile_refuses_is_refused_by_post(posted: Realm) -> None:
    """So none of these is kept from a batch without need."""
    for _, way, user in CASES:
        if way == REFUSED:
            with pytest.raises(KeycloakRejectedError) as caught:
                posted.admin.create_user(user)  # type: ignore[arg-type]
            assert caught.value.violations


@pytest.mark.parametrize(
    ("settings", "user"),
    [
        ({"registrationEmailAsUsername": True}, {"username": "o'donnell.a/b#c!@acme.example"}),
        (
            {"loginWithEmailAllowed": False, "duplicateEmailsAllowed": True},
            {"username": "as-two@acme.example", "email": "other@acme.example"},
        ),
    ],
    ids=["email-as-username", "no-login-by-email"],
)
def test_realms_with_other_names(
    posted: Realm, imported: Realm, settings: dict[str, Any], user: dict[str, Any]
) -> None:
    """What else a realm may make of username and e-mail address."""
    usual = {name: not value for name, value in settings.items()}
    whole: Any = {"email": user["username"], "attributes": {"needed": ["x"]}, **user}
    for realm in (posted, imported):
        realm.call("PUT", "", settings)

    body = body_of(read_import_terms(imported.admin), whole)
    posted.admin.create_user(whole)
    imported.admin.import_users([body])

    for realm in (posted, imported):
        realm.call("PUT", "", usual)
    assert posted.stored(user["username"]) == imported.stored(user["username"])


def test_every_import_is_an_admin_event(posted: Realm, imported: Realm) -> None:
    """Who watches the admin events sees an imported user by the same path, but as the realm's, not a user's."""
    user: Any = {"username": "watched", "attributes": {"needed": ["x"]}}
    user_id = posted.admin.create_user(user)
    body = body_of(read_import_terms(imported.admin), user)
    (result,) = imported.admin.import_users([body])

    seen = [
        [
            (one["operationType"], one["resourceType"])
            for one in realm.call("GET", "/admin-events?operationTypes=CREATE&max=1000")
            if one["resourcePath"] == f"users/{known}"
        ]
        for realm, known in ((posted, user_id), (imported, result["id"]))
    ]

    assert [[("CREATE", "USER")], [("CREATE", "REALM")]] == seen


def test_a_rule_of_counts_and_a_default_are_left_to_post(imported: Realm) -> None:
    """Keycloak demands a least number of values of users that have none, and fills in defaults."""
    with a_realm(imported.sandbox) as realm:
        profile = realm.call("GET", "/users/profile")
        profile["attributes"] += [
            {
                "name": "several",
                "permissions": ADMIN,
                "multivalued": True,
                "validations": {"multivalued": {"min": 2, "max": 3}},
            },
            {"name": "given", "permissions": ADMIN, "defaultValue": "x"},
        ]
        realm.call("PUT", "/users/profile", profile)
        terms = read_import_terms(realm.admin)
        user: Any = {"username": "ada", "attributes": {"needed": ["x"]}}
        whole: Any = {
            **user,
            "attributes": {"needed": ["x"], "several": ["a", "b"], "given": ["y"]},
        }

        assert {"several", "given"} == terms.wanted
        assert import_body(terms, user) is None
        assert import_body(terms, whole) is not None


def body_of(terms: ImportTerms, user: Any) -> UserRepresentation:
    """Return the body of a user that may be imported."""
    body = import_body(terms, user)
    assert body is not None
    return body
