"""What is exported fits the tools that read it, holds everything that is needed, and no secret."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import hcl2
import pytest
from realm_rest import Json, RealmRest, new_realm

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import needs_of
from keycloak_bridge.realm.export import FORMATS, exported, keycloak_defaults
from keycloak_bridge.realm.needs import RealmNeeds
from keycloak_bridge.realm.plan import CreateGroups, CreateRoles, ReplaceProfile, plan_realm
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import (
    InviteSettings,
    KeycloakSettings,
    MappingSettings,
    Settings,
)

HERE = Path(__file__).parent
CLASSES: Mapping[str, Mapping[str, str]] = json.loads(
    (HERE / "representations.json").read_text("utf-8")
)["classes"]
TERRAFORM: Json = json.loads((HERE / "terraform_schema.json").read_text("utf-8"))
SETTINGS = Settings(keycloak=KeycloakSettings(realm="acme", client_secret=Secret("planted-secret")))
INSIDE = {
    ("RealmRepresentation", "clients"): "ClientRepresentation",
    ("RealmRepresentation", "users"): "UserRepresentation",
    ("RealmRepresentation", "roles"): "RolesRepresentation",
    ("RolesRepresentation", "realm"): "RoleRepresentation",
    ("RealmRepresentation", "groups"): "GroupRepresentation",
    ("GroupRepresentation", "subGroups"): "GroupRepresentation",
    ("RealmRepresentation", "requiredActions"): "RequiredActionProviderRepresentation",
    ("RealmRepresentation", "userProfile"): "UPConfig",
    ("UPConfig", "attributes"): "UPAttribute",
    ("UPConfig", "groups"): "UPGroup",
    ("UPAttribute", "permissions"): "UPAttributePermissions",
    ("UPAttribute", "required"): "UPAttributeRequired",
}
TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


def needs(tmp_path: Path, *, much: bool = True) -> RealmNeeds:
    """Return what a mapping with everything needs."""
    if not much:
        return needs_of(Interpretation(SETTINGS))
    file = tmp_path / "mapping.toml"
    file.write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.userId"\n'
        '[user.attributes]\nuserId = "data.userId"\nlocale = "data.locale"\n'
        '[user.groups]\nfrom = "data.groups"\nallow = ["/a ${b}/c\'d", "/x"]\n'
        '[user.realmRoles]\nfrom = "data.roles"\nallow = ["a\\"b", "%{c}"]\n'
        '[user.clientRoles."my app"]\nfrom = "data.roles"\nallow = ["reader"]\n'
        '[user.organizations]\nfrom = "data.groups"\nallow = ["acme"]\n'
    )
    invite = InviteSettings(actions=("UPDATE_PASSWORD", "CONFIGURE_RECOVERY_AUTHN_CODES"))
    return needs_of(
        Interpretation(replace(SETTINGS, mapping=MappingSettings(file=file), invite=invite))
    )


def text(needed: RealmNeeds, output: str) -> str:
    """Return the export for a realm with Keycloak's defaults."""
    return exported(needed, keycloak_defaults(needed), output)


def unknown(value: Json, kind: str, place: str = "") -> Iterator[str]:
    """Yield what Keycloak's class does not have, or not with this type."""
    known = {
        **CLASSES[kind],
        **({"userProfile": "object"} if kind == "RealmRepresentation" else {}),
    }
    for name, item in value.items():
        here = f"{place}/{name}"
        if known.get(name) != TYPES[type(item)]:
            yield f"{here}: {known.get(name)}"
        inner = INSIDE.get((kind, name))
        if inner is not None:
            for one in item if isinstance(item, list) else [item]:
                yield from unknown(one, inner, here)


@pytest.mark.parametrize("much", [False, True])
@pytest.mark.parametrize("output", ["realm-json", "config-cli"])
def test_representations_are_keycloaks(tmp_path: Path, output: str, much: bool) -> None:
    """Every key is one of Keycloak's classes, which keycloak-config-cli imports with, and has its type."""
    found = json.loads(text(needs(tmp_path, much=much), output))

    assert [] == list(unknown(found, "RealmRepresentation"))


def test_a_representation_has_all_that_is_needed(tmp_path: Path) -> None:
    """A realm made of it lacks nothing."""
    needed = needs(tmp_path)
    found = json.loads(text(needed, "realm-json"))
    state = keycloak_defaults(needed)
    (profile,) = found["components"]["org.keycloak.userprofile.UserProfileProvider"]
    (client,) = found["clients"]
    roles = frozenset(found["users"][0]["clientRoles"]["realm-management"])
    scope = frozenset(found["clientScopeMappings"]["realm-management"][0]["roles"])

    made = replace(
        state,
        realm=found,
        profile=json.loads(profile["config"]["kc.user.profile.config"][0]),
        client=client,
        account_roles=roles,
        mapped_roles=roles,
        scope_roles=scope,
        scoped_roles=scope,
        actions={one["alias"]: one["enabled"] for one in found["requiredActions"]},
        realm_roles=frozenset(one["name"] for one in found["roles"]["realm"]),
        client_roles={
            "my app": frozenset(one["name"] for one in found["roles"]["client"]["my app"])
        },
        groups=frozenset(paths(found["groups"])),
    )

    assert () == plan_realm(needed, made, exact=True).steps
    assert {"UPDATE_PASSWORD", "VERIFY_EMAIL", "CONFIGURE_RECOVERY_AUTHN_CODES"} < set(made.actions)


def paths(groups: list[Json], above: str = "") -> Iterator[str]:
    """Yield the path of each group."""
    for one in groups:
        yield f"{above}/{one['name']}"
        yield from paths(one.get("subGroups", []), f"{above}/{one['name']}")


@pytest.mark.parametrize("much", [False, True])
def test_terraform_fits_the_providers_schema(tmp_path: Path, much: bool) -> None:
    """Every argument and block is one of the provider's, and none that is required is missing."""
    found = hcl2.loads(text(needs(tmp_path, much=much), "terraform"))

    wrong = [
        f"{name}: {problem}"
        for kind in ("resource", "data")
        for block in found[kind]
        for name, labelled in block.items()
        for body in labelled.values()
        for problem in against(body, TERRAFORM[kind][bare(name)])
    ]
    assert [] == wrong


def bare(text: str) -> str:
    """Return a label or key without the quotes that hcl2 leaves around it."""
    return text.strip('"')


def against(body: Json, schema: Json) -> Iterator[str]:
    """Yield what a block has and its schema does not, or the other way round."""
    given = {bare(name): value for name, value in body.items() if not name.startswith("__")}
    attributes, blocks = schema["attributes"], schema.get("blocks", {})
    for name, value in given.items():
        if name in blocks:
            for one in value if isinstance(value, list) else [value]:
                yield from against(one, blocks[name])
        elif name not in attributes and name != "for_each":
            yield f"{name} is unknown"
    yield from (
        f"{name} is missing"
        for name, how in attributes.items()
        if how == "required" and name not in given
    )


def test_terraform_takes_no_value_for_an_expression(tmp_path: Path) -> None:
    """What would begin a template is escaped."""
    found = text(needs(tmp_path), "terraform")

    assert 'name     = "a $${b}"' in found
    assert '"%%{c}"' in found
    assert '"a\\"b"' in found


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_commands_are_those_of_the_plan(tmp_path: Path) -> None:
    """A shell runs them, whatever is in names; each gets the values as they are."""
    needed = needs(tmp_path)
    log = tmp_path / "log"
    stub = tmp_path / "kcadm.sh"
    stub.write_text(f'#!/bin/sh\nprintf "<%s>" "$@" >> {log}\necho >> {log}\ncase "$*" in *" -f -"*) cat > {tmp_path}/body-$(wc -l < {log});; esac\n[ "$1" = get ] && echo id-1\nexit 0\n')  # fmt: skip
    stub.chmod(0o700)
    script = tmp_path / "commands.sh"
    script.write_text(text(needed, "kcadm"))

    done = subprocess.run(
        ["sh", str(script)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "KEYCLOAK_BRIDGE_CLIENT_SECRET": "s"},
        capture_output=True,
        text=True,
        check=False,
    )

    called = log.read_text().splitlines()
    steps = plan_realm(needed, keycloak_defaults(needed)).steps
    assert (0, "") == (done.returncode, done.stderr)
    assert "<create><clients><-r><acme><-s><secret=s><-f><->" == called[0]
    for step in steps:
        match step.write:
            case CreateRoles(names, None):
                assert all(
                    f"<create><roles><-r><acme><-s><name={name}>" in called for name in names
                )
            case CreateGroups(groups):
                assert all(
                    f"<name={path.rpartition('/')[2]}>" in "".join(called) for path in groups
                )
            case ReplaceProfile(profile):
                bodies = [json.loads(file.read_text()) for file in tmp_path.glob("body-[0-9]*") if file.read_text().startswith("{")]  # fmt: skip
                assert profile in bodies
    assert "<get><group-by-path/a ${b}>" in "".join(called)
    assert any(
        "<register-required-action>" in one.replace("authentication/", "><") for one in called
    )


@pytest.mark.parametrize("output", FORMATS)
def test_no_secret_is_in_an_export(tmp_path: Path, output: str) -> None:
    """Not even of a client that is there already."""
    state = new_realm()
    state["clients"]["keycloak-bridge"] = {
        "id": "c-1",
        "clientId": "keycloak-bridge",
        "secret": "planted-in-realm",
    }
    needed = needs(tmp_path)

    found = exported(needed, RealmRest(state).administration().state(needed), output)

    assert "planted" not in found


def test_the_realm_as_it_is_is_extended(tmp_path: Path) -> None:
    """Attributes and event types of the owner stay in what replaces them."""
    state = new_realm()
    mine = {"name": "mine", "permissions": {"view": ["user"], "edit": ["user"]}}
    state["profile"]["attributes"].append(mine)
    state["events"] |= {"enabledEventTypes": ["LOGIN"], "eventsExpiration": 31_536_000, "eventsEnabled": True}  # fmt: skip
    needed = needs(tmp_path)

    found = json.loads(
        exported(needed, RealmRest(state).administration().state(needed), "config-cli")
    )

    assert mine in found["userProfile"]["attributes"]
    assert "LOGIN" in found["enabledEventTypes"]
    assert 31_536_000 == found["eventsExpiration"]
