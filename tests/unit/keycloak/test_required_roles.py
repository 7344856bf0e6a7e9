"""The table of calls and roles has every call that the bridge makes, and the message of a refused one says what it takes."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest
from admin_calls import Targets, every_call
from keycloak_script import scripted_admin
from stub_adapter import StubAdapter

import keycloak_bridge
from keycloak_bridge.domain.errors import KeycloakAuthError
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.calls import REQUIRED_ROLES, Call

WITHOUT_A_CALL = {"access_token", "close"}
TARGETS = Targets("u1", "g1", "c1", "o1", {"name": "r"}, {"name": "r"}, spare_user=lambda: "u2")


@pytest.fixture(scope="module")
def refused() -> Mapping[str, KeycloakAuthError]:
    """The error of every method, all of which are refused."""
    stub = StubAdapter()
    admin, found = scripted_admin(stub), {}
    for name, call in every_call(TARGETS).items():
        stub.answer(403, {"error": "HTTP 403 Forbidden"})
        with pytest.raises(KeycloakAuthError) as caught:
            call(admin)
        found[name] = caught.value
    return found


def test_every_method_is_walked(refused: Mapping[str, KeycloakAuthError]) -> None:
    """A method that is added is missing here first."""
    methods = {name for name, _ in inspect.getmembers(KeycloakAdmin, inspect.isfunction)}

    assert {name for name in methods if not name.startswith("_")} - WITHOUT_A_CALL == {
        name.partition(" ")[0] for name in refused
    }


def test_the_table_has_every_call_and_no_other(refused: Mapping[str, KeycloakAuthError]) -> None:
    """What the methods send is what the table names."""
    made = {Call(str(error.method), str(error.path)) for error in refused.values()}

    assert set(REQUIRED_ROLES) == made


def test_a_refused_call_says_which_role_it_takes(refused: Mapping[str, KeycloakAuthError]) -> None:
    """One sentence with the call and the role; the remedy names the feature that needs it."""
    for error in refused.values():
        access = REQUIRED_ROLES[Call(str(error.method), str(error.path))]
        assert "keycloak-forbidden" == error.code
        assert f"takes the role {access.role} of realm-management" in error.message
        assert access.feature in str(error.remedy)


def test_nothing_else_calls_keycloak_as_the_service_account() -> None:
    """Besides the token and what the doctor asks without a role; `realm` has the token of an administrator."""
    package = Path(keycloak_bridge.__file__).parent
    callers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "http.send(" in file.read_text("utf-8")
    }

    assert {
        "diagnostics/keycloak_survey.py",
        "keycloak/admin.py",
        "keycloak/token.py",
    } == callers
