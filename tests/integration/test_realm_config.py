"""The realm that keycloak-config/ brings works for the bridge, its users and nobody else."""

import base64
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from keycloak_bridge.app.realm_check import Problem, check_access
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.sandbox import Mail, Sandbox
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    FreshRealm,
    RealmAdministrator,
    bridge_admin,
)

pytestmark = pytest.mark.integration

MAPPED = ("userId", "tenantId", "department", "phoneNumber")
BOOKKEEPING = ("bridgeEventId", "bridgeEventTime", "bridgeInvitation", "bridgeUserId")
ROLES = {"viewer", "editor", "approver", "auditor"}
ENGLISH = "Update Your Account"
SAMPLE_LOCALES = (
    *("ar", "cs", "de", "el", "es", "fi", "fr", "hu", "it", "ja", "nl"),
    *("pl", "pt", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
)
WITHOUT_MAIL_TEXTS = ("en", "he", "hi", "ko")
MAIL_TEXTS_SINCE = {"vi": (26, 7)}
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Account:
    """A session in the realm with somebody's token."""

    session: requests.Session
    root: str
    token: str

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the Admin REST API of the realm."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.session.request(
            method, self.root + path, headers=headers, timeout=TIMEOUT_S, **options
        )

    def create_user(self, **representation: Any) -> str:
        """Create a user with a name of its own; returns the id."""
        name = f"user-{uuid.uuid4().hex[:12]}"
        body = {
            "username": name,
            "email": f"{name}@acme.example",
            "firstName": "Ada",
            "lastName": "Lovelace",
            "enabled": True,
            **representation,
        }
        answer = self.call("POST", "/users", json=body)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].rsplit("/", 1)[-1]

    def user(self, user_id: str) -> dict[str, Any]:
        """Return a user."""
        found: dict[str, Any] = self.call("GET", f"/users/{user_id}").json()
        return found

    def invite(self, sandbox: Sandbox, user_id: str) -> Mail:
        """Have Keycloak send the link; returns the mail, which is there when the call returns."""
        answer = self.call(
            "PUT",
            f"/users/{user_id}/execute-actions-email",
            params={"lifespan": 3600, "client_id": "demo-app"},
            json=["UPDATE_PASSWORD"],
        )
        assert answer.status_code == 204, answer.text
        return sandbox.mail.sent_to(self.user(user_id)["email"])[-1]


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A connection that no proxy of the environment bends."""
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


@pytest.fixture
def bridge(sandbox: Sandbox, session: requests.Session) -> Account:
    """The bridge's service account."""
    answer = session.post(
        f"{sandbox.keycloak_url}/realms/{sandbox.realm}/protocol/openid-connect/token",
        data={"grant_type": "client_credentials"},
        auth=(sandbox.client_id, sandbox.client_secret),
        timeout=TIMEOUT_S,
    )
    root = f"{sandbox.keycloak_url}/admin/realms/{sandbox.realm}"
    return Account(session, root, answer.json()["access_token"])


@pytest.fixture
def admin(sandbox: Sandbox, session: requests.Session) -> Account:
    """The administrator of the server."""
    root = f"{sandbox.keycloak_url}/admin/realms/{sandbox.realm}"
    return Account(session, root, RealmAdministrator.of(sandbox).token())


def in_realm(admin: Account, sandbox: Sandbox, realm: FreshRealm) -> Account:
    """Return the administrator's session in another realm."""
    return Account(admin.session, f"{sandbox.keycloak_url}/admin/realms/{realm.name}", admin.token)


def checked(sandbox: Sandbox, realm: FreshRealm) -> list[Problem]:
    """Return what the bridge finds wrong with a realm at its start."""
    with bridge_admin(sandbox, realm) as keycloak:
        return list(
            check_access(
                keycloak,
                (*MAPPED, *BOOKKEEPING_ATTRIBUTES),
                ("userId", *BOOKKEEPING_ATTRIBUTES),
                invite_delivery="at-least-once",
            )
        )


def client(admin: Account, client_id: str) -> dict[str, Any]:
    """Return one client of the realm."""
    (found,) = admin.call("GET", "/clients", params={"clientId": client_id}).json()
    representation: dict[str, Any] = found
    return representation


def test_the_service_account_has_exactly_its_roles(bridge: Account) -> None:
    """The token carries what the bridge needs, and nothing else."""
    body = bridge.token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    granted = {"manage-users", "view-events", "view-realm"}

    assert {"realm-management": {"roles": granted}} == {
        name: {"roles": set(access["roles"])} for name, access in claims["resource_access"].items()
    }
    assert "realm_access" not in claims


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users?max=1", 200),
        ("/users/profile", 200),
        ("/group-by-path/staff/engineering", 200),
        ("/events/config", 200),
        ("/admin-events?max=1", 200),
        ("/components", 200),
        ("/roles", 200),
        ("/client-scopes", 403),
        ("/identity-provider/instances", 403),
    ],
)
def test_the_service_account_reaches_what_it_needs(bridge: Account, path: str, status: int) -> None:
    """Users, groups, the profile, the record of mails and the realm's settings can be read, and no more."""
    assert status == bridge.call("GET", path).status_code


def test_the_service_account_sees_no_client(bridge: Account) -> None:
    """Keycloak refuses; before 26.4 it answers with an empty list."""
    answer = bridge.call("GET", "/clients")

    assert answer.status_code == 403 or answer.json() == []


def test_the_service_account_sees_no_secret_of_the_realm(
    sandbox: Sandbox, fresh_realm: FreshRealm, admin: Account
) -> None:
    """Keycloak masks the passwords of the mail server and of a directory, and shows no private key."""
    realm = in_realm(admin, sandbox, fresh_realm)
    settings = realm.call("GET", "").json()["smtpServer"]
    secret = f"secret-{uuid.uuid4().hex}"
    account = {"auth": "true", "user": "bridge", "password": secret}
    directory = {
        "name": "directory",
        "providerId": "ldap",
        "providerType": "org.keycloak.storage.UserStorageProvider",
        "config": {
            "editMode": ["READ_ONLY"],
            "vendor": ["other"],
            "connectionUrl": ["ldap://127.0.0.1:1"],
            "usersDn": ["ou=people"],
            "authType": ["simple"],
            "bindDn": ["cn=admin"],
            "bindCredential": [secret],
            "usernameLDAPAttribute": ["uid"],
            "rdnLDAPAttribute": ["uid"],
            "uuidLDAPAttribute": ["entryUUID"],
            "userObjectClasses": ["inetOrgPerson"],
        },
    }
    assert realm.call("PUT", "", json={"smtpServer": settings | account}).ok
    assert realm.call("POST", "/components", json=directory).ok
    with bridge_admin(sandbox, fresh_realm) as keycloak:
        bridge = replace(realm, token=keycloak.access_token())
    read = [bridge.call("GET", path) for path in ("", "/components", "/keys")]

    assert [200, 200, 200] == [answer.status_code for answer in read]
    assert "**********" == read[0].json()["smtpServer"]["password"]
    assert any(one.get("name") == "directory" for one in read[1].json())
    assert not any(secret in answer.text or "PRIVATE KEY" in answer.text for answer in read)
    assert all("**********" == key for key in private_keys(read[1].json()))


def private_keys(components: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is shown of the secrets of the realm's key providers."""
    configs = [one.get("config", {}) for one in components]
    return [
        value
        for config in configs
        for name in ("privateKey", "secret")
        for value in config.get(name, [])
    ]


def test_the_service_account_cannot_change_the_realm(bridge: Account) -> None:
    """Neither realm settings nor imports are within its reach."""
    settings = bridge.call("PUT", "", json={"displayName": "Taken over"})
    batch = bridge.call("POST", "/partialImport", json={"ifResourceExists": "SKIP", "users": []})

    assert (403, 403) == (settings.status_code, batch.status_code)


def test_nobody_logs_in_with_a_placeholder(sandbox: Sandbox, session: requests.Session) -> None:
    """The secret is the environment's: neither the placeholder nor an empty one is accepted."""
    url = f"{sandbox.keycloak_url}/realms/{sandbox.realm}/protocol/openid-connect/token"
    answers = [
        session.post(
            url,
            data={"grant_type": "client_credentials"},
            auth=(sandbox.client_id, guess),
            timeout=TIMEOUT_S,
        ).status_code
        for guess in ("${KEYCLOAK_BRIDGE_CLIENT_SECRET}", "", "demo-only-bridge-client")
    ]

    assert [401, 401, 401] == answers


def test_every_declared_attribute_is_stored(bridge: Account) -> None:
    """Mapped attributes, the locale and the bookkeeping; the profile is closed to others on purpose (docs/keycloak.md)."""
    attributes = {name: [f"value of {name}"] for name in MAPPED + BOOKKEEPING}
    attributes |= {"locale": ["de"], "phoneNumber": ["+4912345678"]}

    user_id = bridge.create_user(attributes={**attributes, "shoeSize": ["43"]})

    assert attributes == bridge.user(user_id)["attributes"]


def test_only_administrators_write_attributes(bridge: Account) -> None:
    """Nothing that user management owns can be edited by the user, and the bookkeeping is not even shown."""
    profile = bridge.call("GET", "/users/profile").json()
    permissions = {one["name"]: one["permissions"] for one in profile["attributes"]}

    assert {"username", "email", "firstName", "lastName", *MAPPED, *BOOKKEEPING} == set(permissions)
    assert all(["admin"] == one["edit"] for one in permissions.values())
    assert all(["admin"] == permissions[name]["view"] for name in BOOKKEEPING)
    assert "unmanagedAttributePolicy" not in profile


@pytest.mark.parametrize("policy", [None, "ADMIN_EDIT"])
def test_the_shipped_profile_guards_what_the_bridge_relies_on(
    sandbox: Sandbox, fresh_realm: FreshRealm, admin: Account, policy: str | None
) -> None:
    """Neither as it is nor with attributes that administrators make up can a user edit them."""
    realm = in_realm(admin, sandbox, fresh_realm)
    if policy is not None:
        profile = realm.call("GET", "/users/profile").json()
        changed = realm.call(
            "PUT", "/users/profile", json={**profile, "unmanagedAttributePolicy": policy}
        )
        assert 200 == changed.status_code

    assert [] == checked(sandbox, fresh_realm)


def test_attributes_that_users_may_edit_are_told(
    sandbox: Sandbox, fresh_realm: FreshRealm, admin: Account
) -> None:
    """An external id open to users, and bookkeeping that an open policy gives away, are errors by name."""
    realm = in_realm(admin, sandbox, fresh_realm)
    profile = realm.call("GET", "/users/profile").json()
    kept = [one for one in profile["attributes"] if one["name"] != "bridgeEventId"]
    for attribute in kept:
        if attribute["name"] in ("userId", "department"):
            attribute["permissions"] = {"edit": ["admin", "user"], "view": ["admin", "user"]}
    changed = realm.call(
        "PUT",
        "/users/profile",
        json={**profile, "attributes": kept, "unmanagedAttributePolicy": "ENABLED"},
    )
    problems = checked(sandbox, fresh_realm)

    assert 200 == changed.status_code
    assert ["attribute-user-editable"] * 2 == [problem.code for problem in problems]
    assert "userId" in problems[0].message
    assert "bridgeEventId" in problems[1].message


@pytest.mark.parametrize("lacking", ["role", "events"])
def test_a_realm_without_a_record_of_mails_is_told(
    sandbox: Sandbox, fresh_realm: FreshRealm, admin: Account, lacking: str
) -> None:
    """Without view-events, or with admin events off, no mail can be looked up; everything else works."""
    realm = in_realm(admin, sandbox, fresh_realm)
    if lacking == "role":
        tools = AdminRealmTools(RealmAdministrator.of(sandbox), fresh_realm.name)
        tools.take_away(fresh_realm.client_id, "view-events")
    else:
        realm.call("PUT", "", json={"adminEventsEnabled": False})
    problems = checked(sandbox, fresh_realm)
    with bridge_admin(sandbox, fresh_realm) as keycloak:
        usable = KeycloakUserDirectory(keycloak, SystemClock()).can_look_up_mails()

    assert [("mail-ledger-missing", "warning")] == [
        (problem.code, problem.severity) for problem in problems
    ]
    assert usable is False


def test_groups_are_joined_by_path(bridge: Account) -> None:
    """Every group that the sample events name exists."""
    paths = ["/customers", "/staff", "/staff/engineering"]

    user_id = bridge.create_user(groups=paths)

    found = bridge.call("GET", f"/users/{user_id}/groups").json()
    assert paths == sorted(group["path"] for group in found)


def test_roles_can_be_found_and_mapped(bridge: Account) -> None:
    """The roles of the sample events are offered to the bridge, although it may not list the realm's."""
    user_id = bridge.create_user()
    path = f"/users/{user_id}/role-mappings/realm"

    offered = bridge.call("GET", f"{path}/available").json()
    wanted = [role for role in offered if role["name"] in ROLES]
    mapped = bridge.call("POST", path, json=wanted)

    assert ROLES == {role["name"] for role in wanted}
    assert 204 == mapped.status_code
    assert {role["name"] for role in bridge.call("GET", path).json()} >= ROLES


@pytest.mark.parametrize("locale", SAMPLE_LOCALES + WITHOUT_MAIL_TEXTS)
def test_the_mail_speaks_the_users_language(bridge: Account, sandbox: Sandbox, locale: str) -> None:
    """Where Keycloak has texts for a mail; docs/keycloak.md names the languages that get English."""
    user_id = bridge.create_user(attributes={"locale": [locale]})

    subject = bridge.invite(sandbox, user_id).subject

    running = sandbox._distribution.keycloak_version
    without = locale in WITHOUT_MAIL_TEXTS or running < MAIL_TEXTS_SINCE.get(locale, running)
    assert without == (subject == ENGLISH)
    assert [locale] == bridge.user(user_id)["attributes"]["locale"]


def test_two_languages_are_two_mails(bridge: Account, sandbox: Sandbox) -> None:
    """German is German, and a region falls back on its language."""
    subjects = [
        bridge.invite(sandbox, bridge.create_user(attributes={"locale": [locale]})).subject
        for locale in ("de", "de-AT", "fr")
    ]

    assert ["Aktualisieren Sie Ihr Konto"] * 2 + ["Mettre à jour votre compte"] == subjects


def test_the_mail_is_on_record_without_personal_data(bridge: Account, sandbox: Sandbox) -> None:
    """An admin event tells that the mail was sent, found by its path, and holds no representation."""
    user_id = bridge.create_user(firstName="Grace")
    bridge.invite(sandbox, user_id)

    def recorded(path: str) -> list[dict[str, Any]]:
        answer = bridge.call("GET", "/admin-events", params={"resourcePath": path})
        events: list[dict[str, Any]] = answer.json()
        return events

    (mailed,) = recorded(f"users/{user_id}/execute-actions-email")
    (created,) = recorded(f"users/{user_id}")

    assert ("ACTION", "CREATE") == (mailed["operationType"], created["operationType"])
    assert "Grace" not in json.dumps([mailed, created])
    assert "representation" not in mailed.keys() | created.keys()


def test_events_are_kept_for_a_while(admin: Account) -> None:
    """User and admin events are recorded; they expire after 30 and after 90 days."""
    realm = admin.call("GET", "").json()

    assert (True, True, False) == (
        realm["eventsEnabled"],
        realm["adminEventsEnabled"],
        realm["adminEventsDetailsEnabled"],
    )
    assert (2592000, "7776000") == (
        realm["eventsExpiration"],
        realm["attributes"]["adminEventsExpiration"],
    )
    assert {"UPDATE_PASSWORD", "UPDATE_CREDENTIAL", "LOGIN"} <= set(realm["enabledEventTypes"])


def test_the_login_page_asks_for_a_name_and_a_password(
    sandbox: Sandbox, session: requests.Session
) -> None:
    """The demo client starts with the authorization code flow; without PKCE it is turned away."""
    request = {
        "client_id": "demo-app",
        "response_type": "code",
        "scope": "openid",
        "redirect_uri": f"{sandbox.options.demo_app_url}/callback",
    }
    challenge = {"code_challenge": "A" * 43, "code_challenge_method": "S256"}
    url = f"{sandbox.keycloak_url}/realms/{sandbox.realm}/protocol/openid-connect/auth"

    page = session.get(url, params=request | challenge, timeout=TIMEOUT_S)
    refused = session.get(url, params=request, timeout=TIMEOUT_S, allow_redirects=False)

    assert 200 == page.status_code
    assert all(f'name="{field}"' in page.text for field in ("username", "password"))
    assert "error=invalid_request" in refused.headers["Location"]


@pytest.mark.parametrize("kind", ["id-token", "access-token"])
def test_tokens_carry_the_mapped_attributes(bridge: Account, admin: Account, kind: str) -> None:
    """ID and access token of the demo client hold user id, tenant, department, phone, locale, roles, groups."""
    user_id = bridge.create_user(
        groups=["/staff/engineering"],
        attributes={
            "userId": ["u-1"],
            "tenantId": ["t-1"],
            "department": ["R&D"],
            "phoneNumber": ["+4912345678"],
            "locale": ["de"],
        },
    )
    roles = f"/users/{user_id}/role-mappings/realm"
    offered = bridge.call("GET", f"{roles}/available").json()
    bridge.call("POST", roles, json=[role for role in offered if role["name"] == "viewer"])

    claims = admin.call(
        "GET",
        f"/clients/{client(admin, 'demo-app')['id']}/evaluate-scopes/generate-example-{kind}",
        params={"userId": user_id, "scope": "openid"},
    ).json()

    expected = {
        "user_id": "u-1",
        "tenant_id": "t-1",
        "department": "R&D",
        "phone_number": "+4912345678",
        "locale": "de",
        "roles": ["viewer"],
        "groups": ["/staff/engineering"],
    }
    assert expected == {name: claims.get(name) for name in expected}


@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("short", 400),
        ("correct horse battery", 204),
        ("{username}", 400),
        ("{email}", 400),
    ],
)
def test_the_password_policy_holds(bridge: Account, password: str, status: int) -> None:
    """Twelve characters at least, whatever they are, but neither user name nor e-mail address."""
    user_id = bridge.create_user()
    value = password.format_map(bridge.user(user_id))
    credential = {"type": "password", "value": value, "temporary": False}

    answer = bridge.call("PUT", f"/users/{user_id}/reset-password", json=credential)

    assert status == answer.status_code
