"""What keeps the bridge from working on a realm is reported before anything is consumed."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from keycloak_script import scripted_admin
from stub_adapter import StubAdapter

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import (
    IMPORT_GRACE_S,
    AccessFacts,
    InviteDelivery,
    Problem,
    RealmGate,
    check_access,
    gather,
    judge,
    realm_problems,
    refuse,
)
from keycloak_bridge.domain.errors import ConfigError, KeycloakUnavailableError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.settings.model import MappingSettings, Settings
from keycloak_bridge.testing.fake_clock import FakeClock

ADMIN_ONLY = {"edit": ["admin"], "view": ["admin"]}
PROFILE = {"attributes": [{"name": "userId", "permissions": ADMIN_ONLY}]}


def token_with(*roles: str) -> str:
    """Return a token that names these roles."""
    claims = {"resource_access": {"realm-management": {"roles": roles}}}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.s"


def facts(
    profile: dict[str, Any] | None = PROFILE,
    *,
    writes: bool = True,
    sees: bool | None = True,
    languages: bool | None = True,
    mail_ledger: bool | None = None,
) -> AccessFacts:
    return AccessFacts(writes, sees, profile, languages, mail_ledger)


@pytest.mark.parametrize(
    ("seen", "attributes", "expected"),
    [
        (facts(), ["userId", "locale"], []),
        (facts(languages=False), ["userId"], []),
        (facts(languages=None), ["userId", "locale"], []),
        (facts(languages=False), ["locale"], [("internationalization-off", "error")]),
        (facts(), ["tenantId"], [("attribute-unknown", "error")]),
        (facts({"unmanagedAttributePolicy": "ENABLED"}), ["tenantId"], []),
        (facts(writes=False), [], [("role-missing", "error")]),
        (facts(writes=False, sees=False), [], [("role-missing", "error")]),
        (facts(sees=False), [], [("role-missing", "error")]),
        (facts(sees=None), [], [("role-missing", "warning")]),
        (facts(None, languages=None), ["userId"], [("profile-unreadable", "warning")]),
    ],
)
def test_facts_are_judged(
    seen: AccessFacts, attributes: list[str], expected: list[tuple[str, str]]
) -> None:
    """Errors would lose or refuse users, warnings merely might."""
    actual = judge(seen, attributes)

    assert expected == [(problem.code, problem.severity) for problem in actual]
    assert all(problem.message and problem.remedy for problem in actual)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (PROFILE, []),
        ({**PROFILE, "unmanagedAttributePolicy": "ADMIN_EDIT"}, []),
        ({**PROFILE, "unmanagedAttributePolicy": "ADMIN_VIEW"}, []),
        ({**PROFILE, "unmanagedAttributePolicy": "ENABLED"}, ["bridgeEventId"]),
        ({"unmanagedAttributePolicy": "ENABLED"}, ["userId", "bridgeEventId"]),
        (
            {
                "attributes": [
                    {"name": "userId", "permissions": {"edit": ["admin", "user"], "view": []}},
                    {"name": "bridgeEventId"},
                    {"name": "tenantId", "permissions": {"edit": ["user"], "view": []}},
                ],
                "unmanagedAttributePolicy": "ENABLED",
            },
            ["userId"],
        ),
        (None, []),
    ],
)
def test_users_must_not_edit_what_identifies_them(
    profile: dict[str, Any] | None, expected: list[str]
) -> None:
    """A user that may edit its external id or the bookkeeping could pass for another; other attributes do not matter."""
    problems = judge(facts(profile), [], ["userId", "bridgeEventId"])
    found = [problem for problem in problems if problem.code == "attribute-user-editable"]

    assert len(expected) == len(found)
    assert all(problem.severity is Severity.ERROR for problem in found)
    for name, problem in zip(expected, found, strict=True):
        assert name in problem.message
        assert name in problem.remedy


@pytest.mark.parametrize(
    ("realm", "edit", "expected"),
    [
        ({}, ["admin", "user"], []),
        (None, ["admin", "user"], []),
        ({"registrationEmailAsUsername": True}, ["admin"], ["username-not-the-id"]),
        ({"editUsernameAllowed": True}, ["admin"], []),
        ({"editUsernameAllowed": True}, ["admin", "user"], ["username-user-editable"]),
    ],
)
def test_a_username_that_is_the_external_id_must_stay_it(
    realm: dict[str, Any] | None, edit: list[str], expected: list[str]
) -> None:
    """Neither the realm may make the address of it, nor a user another name; what may not be read is not judged."""
    profile = {"attributes": [{"name": "username", "permissions": {"edit": edit, "view": []}}]}
    problems = judge(replace(facts(profile), realm=realm), [])

    assert expected == [one.code for one in problems]
    assert all(one.severity is Severity.ERROR and one.remedy for one in problems)


@pytest.mark.parametrize(("matching", "asked"), [("username", 1), ("attributes.userId", 0)])
def test_the_settings_of_usernames_are_read_where_they_count(matching: str, asked: int) -> None:
    """The layout decides; nobody else's start costs a call more."""
    stub = StubAdapter()
    guarded = ("bridgeUserId" if matching == "username" else "userId",)
    stub.token = token_with("manage-users")
    stub.answer(200, PROFILE)
    stub.answer(200, {"attributes": []})
    stub.answer(200, {"realm": "acme", "registrationEmailAsUsername": True})

    problems = check_access(scripted_admin(stub), ("userId",), guarded)

    assert asked == sum(one.path.endswith("/admin/realms/acme") for one in stub.requests)
    assert asked == sum(one.code == "username-not-the-id" for one in problems)


@pytest.mark.parametrize("link", ["never", "matching-attribute"])
@pytest.mark.parametrize(
    ("edit", "policy", "refused"),
    [
        (["admin"], None, ()),
        (["admin", "user"], None, ("attribute-user-editable",)),
        (None, "ENABLED", ("attribute-user-editable",)),
        (None, "ADMIN_EDIT", ()),
    ],
)
def test_every_attribute_that_finds_a_user_is_guarded(
    tmp_path: Path, link: str, edit: list[str] | None, policy: str | None, refused: tuple[str, ...]
) -> None:
    """Whoever may write their own personnel number would be linked to, or stand in the way of, the person with that number."""
    (tmp_path / "mapping.toml").write_text(
        f'matching = ["attributes.userId", "attributes.number"]\nlink = "{link}"\n'
        '[user]\nusername = "data.username"\n'
        '[user.attributes]\nuserId = "data.userId"\nnumber = "data.tenantId"\n'
    )
    settings = replace(Settings(), mapping=MappingSettings(file=tmp_path / "mapping.toml"))
    names = ("userId", *BOOKKEEPING_ATTRIBUTES)
    attributes = [{"name": name, "permissions": ADMIN_ONLY} for name in names]
    if edit is not None:
        attributes.append({"name": "number", "permissions": {"edit": edit, "view": ["admin"]}})
    stub = StubAdapter()
    stub.token = token_with("manage-users")
    stub.answer(200, {"attributes": attributes, "unmanagedAttributePolicy": policy})
    stub.answer(200, {"attributes": []})
    stub.answer(200, {"adminEventsEnabled": True})

    problems = realm_problems(Interpretation(settings), scripted_admin(stub))

    assert refused == tuple(one.code for one in problems if one.severity is Severity.ERROR)
    assert all("number" in one.message for one in problems)


@pytest.mark.parametrize(
    ("mail_ledger", "invite_delivery", "expected"),
    [
        (True, "at-least-once", []),
        (False, "at-least-once", ["is sent again"]),
        (False, "at-most-once", ["is never sent again"]),
        (False, None, []),
        (None, "at-least-once", []),
    ],
)
def test_mails_that_cannot_be_looked_up_are_a_warning(
    mail_ledger: bool | None, invite_delivery: InviteDelivery | None, expected: list[str]
) -> None:
    """It says what happens to a mail in doubt then; a bridge that sends no mails gets no warning."""
    problems = judge(facts(mail_ledger=mail_ledger), ["userId"], invite_delivery=invite_delivery)

    assert len(expected) == len(problems)
    for then, problem in zip(expected, problems, strict=True):
        assert ("mail-ledger-missing", Severity.WARNING) == (problem.code, problem.severity)
        assert then in problem.message
        assert "view-events" in problem.remedy


def test_roles_are_read_from_a_token_that_names_them() -> None:
    """No calls are made to find out what is known."""
    stub = StubAdapter()
    stub.answer(200, PROFILE)
    stub.answer(200, {"attributes": [{"name": "locale"}]})

    gathered = gather(scripted_admin(stub), token_with("manage-users", "manage-realm"))

    assert AccessFacts(True, True, PROFILE, True) == gathered
    assert 2 == len(stub.requests)


MAY_NOT = (403, {"error": "HTTP 403 Forbidden"})
MAY = (400, {"errorMessage": "User name is missing"})


@pytest.mark.parametrize(
    ("named", "create", "realm", "expected"),
    [
        # fine-grained permissions: no token names them
        (["view-users"], MAY, None, (True, True)),
        (["query-users"], MAY, None, (True, False)),
        (["view-users"], MAY_NOT, None, (False, True)),
        # a token that names no role
        (None, MAY, (200, {"realm": "acme"}), (True, True)),
        (None, MAY, (200, {"realm": "acme", "adminPermissionsEnabled": True}), (True, None)),
        (None, MAY, MAY_NOT, (True, False)),
        (None, MAY_NOT, MAY_NOT, (False, False)),
    ],
)
def test_what_the_account_may_do_is_tried_where_the_token_does_not_say(
    named: list[str] | None,
    create: tuple[int, object],
    realm: tuple[int, object] | None,
    expected: tuple[bool, bool | None],
) -> None:
    """A user without a username cannot be created, and being allowed to try shows in the answer."""
    stub = StubAdapter()
    for answer in [(200, PROFILE), (200, {"attributes": []}), create, *([realm] if realm else [])]:
        stub.answer(*answer)

    gathered = gather(scripted_admin(stub), "opaque" if named is None else token_with(*named))

    assert AccessFacts(*expected, PROFILE, False) == gathered
    assert {} == stub.requests[2].json


def test_an_account_without_any_role() -> None:
    """Nothing can be read, and the reason comes first."""
    stub = StubAdapter()
    for _ in range(4):
        stub.answer(403, {"error": "HTTP 403 Forbidden"})

    problems = check_access(scripted_admin(stub), ["userId", "locale"])

    assert [problem.code for problem in problems] == ["role-missing", "profile-unreadable"]


@pytest.mark.parametrize(
    ("status", "body", "scripted_tokens", "code"),
    [
        (401, {"error": "unauthorized_client"}, True, "keycloak-credentials"),
        (404, {"error": "Realm does not exist"}, True, "realm-not-found"),
        # a token that another host name issued is refused by every call
        (401, {"error": "HTTP 401 Unauthorized"}, False, "keycloak-token-refused"),
    ],
)
def test_a_refusal_is_the_only_problem(
    status: int, body: object, scripted_tokens: bool, code: str
) -> None:
    """Everything else would follow from it."""
    stub = StubAdapter(scripted_tokens=scripted_tokens)
    for _ in range(1 if scripted_tokens else 2):
        stub.answer(status, body)

    (problem,) = check_access(scripted_admin(stub), ["userId"])

    assert (code, Severity.ERROR) == (problem.code, problem.severity)
    assert problem.remedy


def test_an_outage_is_no_problem_of_the_realm() -> None:
    """The bridge waits and checks again."""
    stub = StubAdapter()
    stub.answer(503)

    with pytest.raises(KeycloakUnavailableError):
        check_access(scripted_admin(stub), [])


# the check at start


MISSING = Problem("realm-not-found", "there is no such realm", "check keycloak.realm")


def test_a_missing_realm_may_be_on_its_way() -> None:
    """Keycloak answers before its import is through: first it is waited for, then it counts as misspelt."""
    clock = FakeClock()
    clock.advance(1000.0)
    gate = RealmGate(lambda: (MISSING,), clock)

    with pytest.raises(KeycloakUnavailableError):
        gate()
    clock.advance(IMPORT_GRACE_S - 1)
    with pytest.raises(KeycloakUnavailableError):
        gate()
    clock.advance(1)
    assert (MISSING,) == gate()


def test_other_problems_come_at_once() -> None:
    """A wrong secret does not fix itself."""
    wrong = Problem("keycloak-credentials", "the secret is wrong", "correct it")

    assert (wrong,) == RealmGate(lambda: (wrong,), FakeClock())()


def test_errors_are_refused_together_and_warnings_pass() -> None:
    """One sentence names every error with its remedy; a warning alone refuses nothing."""
    warning = Problem("odd", "something is odd", "look", Severity.WARNING)
    refuse((warning,))

    with pytest.raises(ConfigError) as caught:
        refuse((warning, MISSING, Problem("x", "another thing", "fix it")))

    assert "realm-not-found" == caught.value.code
    message = caught.value.message
    assert [True, True, False] == [
        text in message for text in ("check keycloak.realm", "fix it", "something is odd")
    ]
