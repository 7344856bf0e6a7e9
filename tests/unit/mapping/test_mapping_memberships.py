"""What the user shall belong to, and what the mapping may take away."""

from typing import Any

import pytest
from mapping_cases import GROUPS, MINIMAL, ROLES, desired, mapping, names

from keycloak_bridge.domain.errors import MappingError
from keycloak_bridge.domain.users import Membership, client_roles

CLIENT = MINIMAL + '[user.clientRoles."my/app"]\nfrom = "data.roles.app"\nallow = ["reader"]\n'
ORGANIZATIONS = MINIMAL + '[user.organizations]\nfrom = "data.orgs"\nallow = ["acme", "globex"]\n'


def test_roles_of_clients_are_granted() -> None:
    """Each client has a kind of its own."""
    text = CLIENT + '[user.clientRoles.b]\nfrom = "data.tags"\nallow = ["x"]'
    user = desired(text, roles={"app": ["reader"]}, tags="x")

    assert ("reader",) == names(user, client_roles("my/app"))
    assert ("x",) == names(user, client_roles("b"))


def test_organizations_are_named_by_alias() -> None:
    """With the same keys as groups and roles."""
    text = ORGANIZATIONS + 'default = ["globex"]'

    assert ("acme",) == names(desired(text, orgs=["acme"]), "organizations")
    assert ("globex",) == names(desired(text), "organizations")


@pytest.mark.parametrize(
    ("text", "data", "code", "pointer"),
    [
        (
            CLIENT,
            {"roles": {"app": ["writer"]}},
            "role-not-allowed",
            "/user/clientRoles/my~1app/0",
        ),
        (ORGANIZATIONS, {"orgs": ["evil"]}, "organization-not-allowed", "/user/organizations/0"),
    ],
)
def test_nothing_else_is_given(text: str, data: dict[str, Any], code: str, pointer: str) -> None:
    """What is not allowed refuses the event, or is passed over."""
    with pytest.raises(MappingError) as caught:
        desired(text, **data)

    assert (code, [pointer]) == (
        caught.value.code,
        [one.pointer for one in caught.value.violations],
    )
    assert () == desired(text + 'otherwise = "ignore"', **data).memberships


@pytest.mark.parametrize("text", [ROLES, GROUPS, ORGANIZATIONS, CLIENT])
def test_nothing_named_and_nothing_owned_is_nothing(text: str) -> None:
    """So that Keycloak need not be asked for it."""
    assert () == desired(text).memberships


def test_what_is_managed_is_what_is_allowed() -> None:
    """The planner takes away what is owned and not named."""
    user = desired(ROLES + 'removal = "managed"', roles=["viewer"])
    nothing = desired(GROUPS + 'removal = "managed"')

    owned = frozenset({"viewer", "editor"})
    assert (Membership("realmRoles", ("viewer",), owned),) == user.memberships
    assert (Membership("groups", (), frozenset({"/staff"})),) == nothing.memberships


def test_missing_groups_can_be_created() -> None:
    """Only where the mapping says so."""
    create = desired(GROUPS + 'missing = "create"', groups="staff")
    reject = desired(GROUPS + 'missing = "reject"', groups="staff")

    assert [True, False] == [user.memberships[0].create_missing for user in (create, reject)]


def test_protected_groups_are_told_to_the_planner() -> None:
    """As Keycloak writes their paths."""
    user = desired('protected_groups = ["admins", "/ops/root/"]\n' + MINIMAL)

    assert frozenset({"/admins", "/ops/root"}) == user.protected_groups


def test_rules_are_found_by_kind() -> None:
    """None where the mapping has none."""
    rules = mapping(CLIENT).rules

    assert rules.membership("groups") is None
    assert (rule := rules.membership(client_roles("my/app"))) is not None
    assert "role" == rule.word
