"""What a realm lacks is found, written once, and nothing else of the realm changes."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_rest import BOTH, Json, RealmRest, new_realm

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import needs_of, problems_left
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.realm.export import FORMATS, exported
from keycloak_bridge.realm.needs import RealmNeeds
from keycloak_bridge.realm.plan import RealmPlan, plan_realm
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import (
    ActivationSettings,
    InviteSettings,
    KeycloakSettings,
    MappingSettings,
    Settings,
    TopicsSettings,
)

SETTINGS = Settings(keycloak=KeycloakSettings(realm="acme"))
INTERPRETATION = Interpretation(SETTINGS)
SECRET = "planted-client-secret"
BRIDGE = "keycloak-bridge"


def needs(settings: Settings = SETTINGS, **options: Any) -> RealmNeeds:
    """Return what these settings and the shipped mapping need."""
    return needs_of(INTERPRETATION if settings is SETTINGS else Interpretation(settings), **options)


def planned(rest: RealmRest, needed: RealmNeeds, **options: Any) -> RealmPlan:
    """Return the difference."""
    return plan_realm(needed, rest.administration().state(needed), **options)


def applied(rest: RealmRest, needed: RealmNeeds, **options: Any) -> RealmPlan:
    """Write the difference, and return what is left of it."""
    plan = planned(rest, needed, **options)
    for _ in rest.administration().carry_out(needed, plan.steps, SECRET):
        pass
    return planned(rest, needed, **options)


def settings_of(rest: RealmRest, needed: RealmNeeds, **options: Any) -> dict[str, tuple[Any, Any]]:
    """Return each setting that would change, with what it is and what it will be."""
    steps = planned(rest, needed, **options).steps
    return {change.setting: (change.now, change.then) for step in steps for change in step.changes}


def mapping(folder: Path, text: str) -> Settings:
    """Return settings with a mapping of the id, an address and `text`."""
    file = folder / "mapping.toml"
    file.write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.userId"\nemail = "data.email"\n'
        f'[user.attributes]\nuserId = "data.userId"\n{text}\n'
    )
    return replace(SETTINGS, mapping=MappingSettings(file=file))


@pytest.fixture
def rest() -> RealmRest:
    """A realm with Keycloak's defaults."""
    return RealmRest()


def test_a_new_realm_gets_everything_and_then_nothing_is_left(rest: RealmRest) -> None:
    """The client with its roles in its scope, the profile, languages, events, roles and groups."""
    needed = needs()

    left = applied(rest, needed)

    state = rest.state
    client = state["clients"][BRIDGE]
    assert () == left.steps
    assert (SECRET, True, False, False, False) == (
        client["secret"],
        client["serviceAccountsEnabled"],
        client["publicClient"],
        client["standardFlowEnabled"],
        client["fullScopeAllowed"],
    )
    roles = ["manage-users", "view-events", "view-realm"]
    assert roles == sorted(state["account"]) == sorted(state["scope"])
    assert {"approver", "auditor", "editor", "viewer"} == set(state["roles"][""])
    assert ["/customers", "/staff", "/staff/engineering"] == state["groups"]
    assert (True, "en") == (
        state["realm"]["internationalizationEnabled"],
        state["realm"]["defaultLocale"],
    )
    assert (True, 2_592_000, True, False) == tuple(
        state["events"][name]
        for name in (
            "eventsEnabled",
            "eventsExpiration",
            "adminEventsEnabled",
            "adminEventsDetailsEnabled",
        )
    )
    profile = {one["name"]: one for one in state["profile"]["attributes"]}
    assert {"edit": ["admin"], "view": ["admin", "user"]} == profile["userId"]["permissions"]
    assert {"edit": ["admin"], "view": ["admin"]} == profile["bridgeInvitation"]["permissions"]
    assert 2048 == profile["bridgeInvitation"]["validations"]["length"]["max"]
    assert "locale" not in profile


def test_nothing_is_written_twice(rest: RealmRest) -> None:
    """A second time there is nothing to write, and nothing is written."""
    needed = needs()
    applied(rest, needed)
    rest.writes.clear()

    applied(rest, needed)

    assert [] == rest.writes


def test_the_secret_is_in_no_plan(rest: RealmRest) -> None:
    """It only reaches Keycloak; a client that has another one is named."""
    needed = needs()
    without = planned(rest, needed)
    applied(rest, needed, secret=SECRET)
    rest.state["clients"][BRIDGE]["secret"] = "planted-in-realm"

    plan = planned(rest, needed, secret=SECRET)

    assert "planted" not in repr(plan)
    assert any("Keycloak makes one" in note.message for note in without.notes)
    assert [
        "the client keycloak-bridge has another secret than the settings (keycloak.client_secret)"
    ] == [note.message for note in plan.notes if "secret" in note.message]


@pytest.mark.parametrize(
    ("given", "authenticator", "attribute"),
    [
        ({"client_key": Secret("planted-key")}, "client-jwt", "jwks.string"),
        ({"client_assertion": Secret("planted-jwt")}, "federated-jwt", "jwt.credential.issuer"),
        ({"tls_cert_file": Path("client.pem")}, "client-x509", "x509.subjectdn"),
    ],
)
def test_the_client_authenticates_as_the_settings_say(
    rest: RealmRest, given: dict[str, Any], authenticator: str, attribute: str
) -> None:
    """Whom it believes is its owner's to say; a client that authenticates otherwise is changed."""
    needed = needs(replace(SETTINGS, keycloak=KeycloakSettings(realm="acme", **given)))

    left = applied(rest, needed)
    client = rest.state["clients"][BRIDGE]
    client["clientAuthenticatorType"] = "client-secret"
    changed = settings_of(rest, needed)
    client["attributes"] = {attribute: "planted"}

    def told(plan: RealmPlan) -> list[str]:
        return [note.message for note in plan.notes if "whom to believe" in note.message]

    assert ((), 1, 0) == (left.steps, len(told(left)), len(told(planned(rest, needed))))
    assert {"clientAuthenticatorType": ("client-secret", authenticator)} == changed
    for output in FORMATS:
        text = exported(needed, rest.administration().state(needed), output)
        assert output == "kcadm" or authenticator in text
        assert "CLIENT_SECRET" not in text.upper()
        assert "planted" not in text


UNRELATED = st.fixed_dictionaries(
    {
        "passwordPolicy": st.text(max_size=9),
        "attributes": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
        "loginTheme": st.text(max_size=9),
    }
)
ATTRIBUTE = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["mine", "userId", "tenantId", "bridgeEventId", "department"]),
        "permissions": st.fixed_dictionaries(
            {
                right: st.lists(st.sampled_from(["admin", "user"]), unique=True)
                for right in ("view", "edit")
            }
        ),
        "validations": st.fixed_dictionaries(
            {"length": st.fixed_dictionaries({"max": st.integers(1, 300)})}
        ),
        "annotations": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=1),
    }
)
OWN = {
    "attributes": {"adminEventsExpiration"},
    "realm": {"internationalizationEnabled", "supportedLocales", "defaultLocale", "attributes"},
    "events": {"eventsEnabled", "eventsExpiration", "enabledEventTypes", "adminEventsEnabled"},
}


@given(
    unrelated=UNRELATED,
    attributes=st.lists(ATTRIBUTE, unique_by=lambda one: str(one["name"])),
    events=st.fixed_dictionaries(
        {
            "eventsEnabled": st.booleans(),
            "eventsExpiration": st.integers(0, 9_000_000),
            "enabledEventTypes": st.lists(
                st.sampled_from(["LOGIN", "UPDATE_PASSWORD", "VERIFY_EMAIL"]), unique=True
            ),
            "adminEventsDetailsEnabled": st.booleans(),
        }
    ),
    policy=st.sampled_from([None, "ENABLED", "ADMIN_EDIT", "ADMIN_VIEW"]),
    account=st.lists(st.sampled_from(["view-users", "impersonation", "view-realm"]), unique=True),
    client=st.none() | st.fixed_dictionaries(
        {
            "enabled": st.booleans(),
            "publicClient": st.booleans(),
            "serviceAccountsEnabled": st.booleans(),
            "fullScopeAllowed": st.booleans(),
            "redirectUris": st.lists(st.text(max_size=5), max_size=2),
        }
    ),
    exact=st.booleans(),
)  # fmt: skip
def test_whatever_the_realm_is_it_ends_with_what_is_needed_and_all_else_stays(
    unrelated: Json,
    attributes: list[Json],
    events: Json,
    policy: str | None,
    account: list[str],
    client: Json | None,
    exact: bool,
) -> None:
    """After apply the plan is empty, a second one writes nothing, and what is not needed is as it was, byte for byte."""
    state = new_realm()
    usual = state["realm"]["attributes"]
    state["realm"] |= {**unrelated, "attributes": {**usual, **unrelated["attributes"]}}
    state["events"] |= events
    state["profile"]["attributes"] += attributes
    state["profile"]["unmanagedAttributePolicy"] = policy
    if client is not None:
        state["clients"][BRIDGE] = {**client, "id": "c-1", "clientId": BRIDGE}
        state["account"] += account if client["serviceAccountsEnabled"] else []
    rest, needed = RealmRest(state), needs()

    left = applied(rest, needed, exact=exact)
    written = len(rest.writes)
    applied(rest, needed, exact=exact)

    assert () == left.steps
    assert written == len(rest.writes)
    assert [] == [one for one in problems_left(INTERPRETATION, left, {}) if one.severity == "error"]
    for part in ("realm", "events"):
        assert _without(state[part], OWN[part]) == _without(rest.state[part], OWN[part])
    assert _without(state["realm"]["attributes"], OWN["attributes"]) == _without(
        rest.state["realm"]["attributes"], OWN["attributes"]
    )
    assert json.dumps(
        [one for one in state["profile"]["attributes"] if one["name"] == "mine"]
    ) == json.dumps([one for one in rest.state["profile"]["attributes"] if one["name"] == "mine"])
    assert state["profile"]["groups"] == rest.state["profile"]["groups"]
    assert exact or set(state["account"]) <= set(rest.state["account"])
    if client is not None:
        assert client["redirectUris"] == rest.state["clients"][BRIDGE]["redirectUris"]


def _without(values: Json, names: set[str]) -> str:
    return json.dumps(
        {name: value for name, value in values.items() if name not in names}, sort_keys=True
    )


def test_the_shipped_realm_has_it_all() -> None:
    """keycloak-config/ and the command agree on attributes, roles, groups, languages and events."""
    shipped = json.loads(
        (Path(__file__).parents[3] / "keycloak-config" / "acme-realm.json").read_text("utf-8")
    )
    state = new_realm()
    (profile,) = shipped["components"]["org.keycloak.userprofile.UserProfileProvider"]
    (bridge,) = (one for one in shipped["clients"] if one["clientId"] == BRIDGE)
    (account,) = shipped["users"]
    state["realm"] |= {
        name: shipped[name]
        for name in (
            "internationalizationEnabled",
            "supportedLocales",
            "defaultLocale",
            "smtpServer",
            "attributes",
        )
    }
    state["events"] |= {name: value for name, value in shipped.items() if "vents" in name}
    state["events"]["enabledEventTypes"] = shipped["enabledEventTypes"]
    state["profile"] = json.loads(profile["config"]["kc.user.profile.config"][0])
    state["clients"][BRIDGE] = {**bridge, "id": "c-1", "bearerOnly": False}
    state["account"] = account["clientRoles"]["realm-management"]
    state["scope"] = shipped["clientScopeMappings"]["realm-management"][0]["roles"]
    state["roles"][""] = [one["name"] for one in shipped["roles"]["realm"]]
    state["groups"] = ["/customers", "/staff", "/staff/engineering"]
    rest = RealmRest(state)

    plan = planned(rest, needs(), exact=True)

    assert ((), ()) == (plan.steps, plan.notes)
    assert shipped["supportedLocales"] == list(needs().locales or ())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s["events"].update(eventsEnabled=True, eventsExpiration=0), {"eventsEnabled": None}),
        (lambda s: s["events"].update(eventsEnabled=True, eventsExpiration=60), {"eventsExpiration": (60, 2_592_000)}),
        (
            lambda s: s["events"].update(enabledEventTypes=["LOGIN"]),
            {
                "enabledEventTypes": (
                    ["LOGIN"],
                    ["LOGIN", "UPDATE_CREDENTIAL", "UPDATE_PASSWORD"],
                )
            },
        ),
        (lambda s: s["realm"].update(internationalizationEnabled=True), {"supportedLocales": None}),
        (
            lambda s: s["realm"].update(supportedLocales=["fr"], defaultLocale="fr"),
            {"supportedLocales": None, "defaultLocale": None, "internationalizationEnabled": (False, True)},
        ),
        (lambda s: s["realm"].update(supportedLocales=["fr"]), {"defaultLocale": (None, "fr")}),
        (lambda s: s["actions"].update(UPDATE_PASSWORD=False), {"UPDATE_PASSWORD enabled": (False, True)}),
        (lambda s: s["groups"].append("/staff"), {"/staff": None, "/staff/engineering": (None, "created")}),
        (lambda s: s["roles"][""].append("viewer"), {"viewer": None, "editor": (None, "created")}),
        (
            lambda s: s["profile"]["attributes"].append({"name": "userId", "permissions": BOTH, "multivalued": True}),
            {"userId permissions.edit": (["admin", "user"], ["admin"]), "userId permissions.view": None},
        ),
        (
            lambda s: s["profile"]["attributes"].append({"name": "department", "permissions": BOTH}),
            {"department": None, "department permissions.edit": None},
        ),
        (
            lambda s: s["profile"]["attributes"].append(
                {"name": "department", "permissions": {}, "validations": {"length": {"max": "20"}}}
            ),
            {"department permissions.view": ([], ["admin"]), "department length.max": (20, 255)},
        ),
        (lambda s: s["profile"].update(unmanagedAttributePolicy="ADMIN_EDIT"), {"userId": None, "bridgeEventId": None}),
        (
            lambda s: s["profile"].update(unmanagedAttributePolicy="ENABLED"),
            {"department": None, "userId": (None, "edit: admin; view: admin, user; length: 255")},
        ),
    ],
)  # fmt: skip
def test_only_what_is_missing_changes(
    rest: RealmRest, change: Callable[[Json], None], expected: dict[str, Any]
) -> None:
    """What the realm has in its own way, and is enough, is left alone; None stands for no change."""
    change(rest.state)

    found = settings_of(rest, needs())

    assert expected == {name: found.get(name) for name in expected}


def test_events_are_kept_until_no_invitation_can_be_replayed(rest: RealmRest) -> None:
    """Retention of the dead letters, and how long links are valid, decide."""
    settings = replace(
        SETTINGS, topics=TopicsSettings(dead_letter_retention=100 * 86_400.0, retention=1.0)
    )

    found = settings_of(rest, needs(replace(settings, invite=InviteSettings(lifespan=86_400.0))))
    unwatched = settings_of(
        rest, needs(replace(SETTINGS, activation=ActivationSettings(enabled=False)))
    )
    quiet = settings_of(rest, needs(replace(SETTINGS, invite=InviteSettings(mode="none"))))

    assert (None, str(101 * 86_400)) == found["adminEventsExpiration"]
    assert ("eventsEnabled" in unwatched, "adminEventsEnabled" in unwatched) == (False, True)
    assert {"eventsEnabled", "adminEventsEnabled", "Realm settings > Events"}.isdisjoint(quiet)


def test_before_keycloak_26_7_another_role_is_for_organizations(
    rest: RealmRest, tmp_path: Path
) -> None:
    """The note says which; it allows more than is needed, so it is the owner's to choose, and enough where it is there."""
    settings = mapping(tmp_path, '[user.organizations]\nfrom = "data.groups"\nallow = ["acme"]')
    rest.state["roles"]["realm-management"].remove("manage-organizations")

    first = applied(rest, needs(settings)).notes[0]
    chosen = applied(rest, needs(settings, added=["manage-realm"]))

    assert "this Keycloak has no role manage-organizations of realm-management" == first.message
    assert first.remedy.endswith("update Keycloak, or allow more by the role manage-realm")
    for found in (chosen, planned(rest, needs(settings))):
        assert () == found.steps
        assert not [note for note in found.notes if "manage-organizations" in note.message]


def test_a_mapping_decides_roles_groups_and_attributes(rest: RealmRest, tmp_path: Path) -> None:
    """Client roles need view-clients; what only the owner can create is a note."""
    settings = mapping(
        tmp_path,
        '[user.clientRoles.app]\nfrom = "data.roles"\nallow = ["reader"]\n'
        '[user.clientRoles.gone]\nfrom = "data.roles"\nallow = ["reader"]\n'
        '[user.organizations]\nfrom = "data.groups"\nallow = ["acme"]\n'
        '[user.groups]\nfrom = "data.groups"\nallow = ["/new"]\nmissing = "create"\n'
        '[user.federatedIdentities.corporate]\nuserId = "data.userId"\n'
        '[invite]\nactions = ["UPDATE_PASSWORD", "webauthn-register", "NO_SUCH"]\nclient_id = "portal"\n',
    )
    rest.state["clients"]["app"] = {"id": "c-app", "clientId": "app"}
    rest.state["roles"]["realm-management"].remove("manage-organizations")

    needed = needs(settings)
    left = applied(rest, needed)

    assert () == left.steps
    assert ["reader"] == rest.state["roles"]["app"]
    assert ([], []) == (rest.state["groups"], rest.state["roles"][""])
    assert rest.state["realm"]["organizationsEnabled"]
    assert not rest.state["realm"]["internationalizationEnabled"]
    assert "view-clients" in rest.state["scope"]
    assert rest.state["actions"]["webauthn-register"]
    assert [
        "this Keycloak has no role manage-organizations of realm-management",
        "the realm has no mail server, or no sender address: no invitation can be sent",
        "this Keycloak has no required action NO_SUCH",
        "the realm has no client gone, which the settings or the mapping name",
        "the realm has no client portal, which the settings or the mapping name",
        "the realm has no organization acme, which the settings or the mapping name",
        "the realm has no identity provider corporate, which the settings or the mapping name",
    ] == [note.message for note in left.notes]


def test_what_the_client_has_beyond_its_needs(rest: RealmRest) -> None:
    """It is named, and taken away only where that is asked for; a role that implies another is replaced first."""
    rest.state["clients"][BRIDGE] = {"id": "c-1", "clientId": BRIDGE, "enabled": True, "serviceAccountsEnabled": True, "fullScopeAllowed": True, "standardFlowEnabled": True}  # fmt: skip
    rest.state["account"] += ["impersonation", "view-users", "manage-realm"]
    needed = needs()

    usual = applied(rest, needed)
    kept = copy.deepcopy(rest.state["account"])
    exact = applied(rest, needed, exact=True)

    assert {"impersonation", "manage-realm"} < set(kept)
    assert ["the service account also has the roles impersonation, manage-realm of realm-management, which allow more than it needs", "the client keycloak-bridge has 'Full scope allowed' on: a role that is given to it by accident takes effect"] == [note.message for note in usual.notes if "client" in note.message or "account" in note.message]  # fmt: skip
    assert set(needed.roles) == set(rest.state["account"]) == set(rest.state["scope"])
    assert (False, False) == tuple(rest.state["clients"][BRIDGE][one] for one in ("fullScopeAllowed", "standardFlowEnabled"))  # fmt: skip
    assert () == exact.steps


def test_a_role_that_stands_for_another_is_enough(rest: RealmRest, tmp_path: Path) -> None:
    """`manage-clients` is as good as `view-clients`; --exact replaces it."""
    needed = needs(
        mapping(tmp_path, '[user.clientRoles.app]\nfrom = "data.roles"\nallow = ["reader"]\n')
    )
    rest.state["clients"][BRIDGE] = {
        "id": "c-1",
        "clientId": BRIDGE,
        "secret": "planted",
        "serviceAccountsEnabled": True,
    }
    rest.state["account"].append("manage-clients")

    applied(rest, needed)
    usual = set(rest.state["account"])
    assert [] == [body for body in rest.bodies if body and "secret" in body]
    left = applied(rest, needed, exact=True)

    assert "view-clients" not in usual
    assert () == left.steps
    assert set(needed.roles) == set(rest.state["account"])


def test_an_account_that_writes_by_permissions_still_sees_all_users(rest: RealmRest) -> None:
    """`--without manage-users`."""
    needed = needs(left_out=["manage-users"])

    applied(rest, needed)

    assert {"view-users", "view-events", "view-realm"} == set(rest.state["account"])


def test_optional_roles_and_languages_are_chosen(rest: RealmRest) -> None:
    """`--with`, `--without` and `--locale`."""
    needed = needs(added=["manage-realm"], left_out=["view-realm"], locales=["de"])

    applied(rest, needed)

    assert {"manage-users", "view-events", "manage-realm"} == set(rest.state["account"])  # fmt: skip
    assert (["de"], "de") == (rest.state["realm"]["supportedLocales"], rest.state["realm"]["defaultLocale"])  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code"), [(403, "administrator-forbidden"), (404, "realm-not-found")]
)
def test_an_administrator_who_may_not(rest: RealmRest, status: int, code: str) -> None:
    """The message is about the administrator, and no traceback."""
    rest.status = status

    with pytest.raises(ConfigError) as caught:
        rest.administration().state(needs())

    assert code == caught.value.code
    assert "planted" not in f"{caught.value}{caught.value.remedy}"
