"""What keeps the bridge from working on a realm, told before anything is consumed."""

import base64
import json
from typing import Any

import pytest
from keycloak_script import scripted_admin

from keycloak_bridge.app.realm_check import (
    NEEDED_ROLES,
    AccessFacts,
    InviteDelivery,
    check_access,
    gather,
    judge,
)
from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.mapping.profile_findings import MappedTarget, Severity
from keycloak_bridge.testing.stub_adapter import StubAdapter
from keycloak_bridge.validation.property_facts import PropertyFacts

ALL = frozenset(NEEDED_ROLES)
ADMIN_ONLY = {"edit": ["admin"], "view": ["admin"]}
PROFILE = {"attributes": [{"name": "userId", "permissions": ADMIN_ONLY}]}


def token_with(*roles: str) -> str:
    """Return a token that names these roles."""
    claims = {"resource_access": {"realm-management": {"roles": roles}}}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.s"


@pytest.mark.parametrize(
    ("facts", "attributes", "expected"),
    [
        (AccessFacts(ALL, PROFILE, True), ["userId", "locale"], []),
        (AccessFacts(ALL, PROFILE, False), ["userId"], []),
        (AccessFacts(ALL, PROFILE, None), ["userId", "locale"], []),
        (AccessFacts(ALL, PROFILE, False), ["locale"], [("internationalization-off", "error")]),
        (AccessFacts(ALL, PROFILE, True), ["tenantId"], [("attribute-unknown", "error")]),
        (
            AccessFacts(ALL, {**PROFILE, "unmanagedAttributePolicy": "ADMIN_VIEW"}, True),
            ["tenantId"],
            [("attribute-unknown", "error")],
        ),
        (
            AccessFacts(ALL, {**PROFILE, "unmanagedAttributePolicy": "ADMIN_EDIT"}, True),
            ["tenantId"],
            [],
        ),
        (
            AccessFacts(ALL, {"unmanagedAttributePolicy": "ENABLED"}, True),
            ["tenantId"],
            [],
        ),
        (
            AccessFacts(ALL, {"attributes": [{"name": "userId"}]}, True),
            ["userId"],
            [("attribute-no-edit", "error"), ("attribute-no-view", "error")],
        ),
        (
            AccessFacts(
                ALL,
                {
                    "attributes": [
                        {"name": "userId", "permissions": {"edit": ["admin"], "view": ["user"]}}
                    ],
                    "unmanagedAttributePolicy": "ENABLED",
                },
                True,
            ),
            ["userId"],
            [("attribute-no-view", "error")],
        ),
        (AccessFacts(frozenset(), PROFILE, True), [], [("role-missing", "error")]),
        (
            AccessFacts(frozenset({"manage-users"}), PROFILE, True),
            [],
            [("role-missing", "warning")],
        ),
        (AccessFacts(ALL - {"manage-users"}, PROFILE, True), [], [("role-missing", "error")]),
        (AccessFacts(ALL, None, None), ["userId"], [("profile-unreadable", "warning")]),
    ],
)
def test_facts_are_judged(
    facts: AccessFacts, attributes: list[str], expected: list[tuple[str, str]]
) -> None:
    """Errors would lose or refuse users, warnings merely might."""
    actual = judge(facts, attributes)

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
def test_what_decides_whose_user_it_is_belongs_to_administrators(
    profile: dict[str, Any] | None, expected: list[str]
) -> None:
    """A user that may edit its external id or the bookkeeping could pass for another; the rest is nobody's concern."""
    problems = judge(AccessFacts(ALL, profile, True), [], ["userId", "bridgeEventId"])
    found = [problem for problem in problems if problem.code == "attribute-user-editable"]

    assert len(expected) == len(found)
    assert all(problem.severity is Severity.ERROR for problem in found)
    for name, problem in zip(expected, found, strict=True):
        assert name in problem.message
        assert name in problem.remedy


def test_guarded_attributes_reach_the_verdict() -> None:
    """What the caller guards is judged by the realm's own profile."""
    stub = StubAdapter()
    stub.answer(200, [])
    stub.answer(400, {"errorMessage": "User name is missing"})
    editable = {"edit": ["admin", "user"], "view": ["admin", "user"]}
    stub.answer(200, {"attributes": [{"name": "userId", "permissions": editable}]})
    stub.answer(200, {"attributes": []})

    problems = check_access(scripted_admin(stub), ["userId"], ["userId"])

    assert ["attribute-user-editable"] == [problem.code for problem in problems]


def test_targets_are_held_to_the_profile() -> None:
    """What is known of the mapped properties is compared; attributes of the bridge's own are merely looked up."""
    profile = {
        "attributes": [
            {"name": "userId", "permissions": ADMIN_ONLY, "validations": {"length": {"max": 5}}},
            {"name": "lastName", "permissions": ADMIN_ONLY, "required": {}},
            {
                "name": "bridgeEventId",
                "permissions": {"edit": ["admin"], "view": ["admin", "user"]},
            },
        ]
    }
    facts = PropertyFacts(types=frozenset({"string"}), max_length=9)
    targets = [MappedTarget("attributes.userId", (facts,))]

    problems = judge(
        AccessFacts(ALL, profile, True),
        ["userId", "bridgeEventId", "bridgeInvitation"],
        targets=targets,
    )

    assert [
        ("attribute-length", Severity.WARNING),
        ("attribute-unknown", Severity.ERROR),
        ("attribute-required", Severity.ERROR),
        ("attribute-user-visible", Severity.WARNING),
    ] == [(problem.code, problem.severity) for problem in problems]


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
def test_mails_that_cannot_be_looked_up_are_worth_a_warning(
    mail_ledger: bool | None, invite_delivery: InviteDelivery | None, expected: list[str]
) -> None:
    """It says what becomes of a mail in doubt then; a bridge that sends no mail hears nothing of it."""
    facts = AccessFacts(ALL, PROFILE, True, mail_ledger)

    problems = judge(facts, ["userId"], invite_delivery=invite_delivery)

    assert len(expected) == len(problems)
    for then, problem in zip(expected, problems, strict=True):
        assert ("mail-ledger-missing", Severity.WARNING) == (problem.code, problem.severity)
        assert then in problem.message
        assert "view-events" in problem.remedy


@pytest.mark.parametrize(
    ("status", "config", "expected"),
    [
        (200, {"adminEventsEnabled": True}, []),
        (200, {"adminEventsEnabled": False}, ["mail-ledger-missing"]),
        (200, {}, ["mail-ledger-missing"]),
        (403, {"error": "HTTP 403 Forbidden"}, ["mail-ledger-missing"]),
    ],
)
def test_the_ledger_is_asked_for_where_mails_are_sent(
    status: int, config: dict[str, object], expected: list[str]
) -> None:
    """The role is optional: whether it is there shows in the answer."""
    stub = StubAdapter()
    stub.answer(200, [])
    stub.answer(400, {"errorMessage": "User name is missing"})
    stub.answer(200, PROFILE)
    stub.answer(200, {"attributes": []})
    stub.answer(status, config)

    problems = check_access(scripted_admin(stub), ["userId"], invite_delivery="at-least-once")

    assert expected == [problem.code for problem in problems]


def test_problem_names_what_is_missing() -> None:
    """One sentence is enough to act on."""
    (role, attribute) = judge(
        AccessFacts(frozenset({"query-users"}), PROFILE, True), ["userId", "tenantId"]
    )

    assert "manage-users, view-users" in role.message
    assert "query-users" not in role.message
    assert "tenantId" in attribute.message


def test_roles_are_read_from_the_token_when_it_tells() -> None:
    """No calls are made to find out what is known."""
    stub = StubAdapter()
    stub.answer(200, PROFILE)
    stub.answer(200, {"attributes": [{"name": "locale"}]})

    facts = gather(scripted_admin(stub), token_with("manage-users", "manage-realm"))

    assert AccessFacts(frozenset({"manage-users"}), PROFILE, True) == facts


@pytest.mark.parametrize(
    ("search", "create", "expected"),
    [
        (200, 400, {"manage-users", "view-users", "query-users"}),
        (200, 403, {"view-users", "query-users"}),
        (403, 403, set()),
    ],
)
def test_roles_are_tried_out_when_the_token_is_silent(
    search: int, create: int, expected: set[str]
) -> None:
    """A user without a username cannot be created, and being allowed to try shows in the answer."""
    stub = StubAdapter()
    stub.answer(search, [] if search == 200 else {"error": "HTTP 403 Forbidden"})
    stub.answer(create, {"errorMessage": "User name is missing"})
    stub.answer(200, PROFILE)
    stub.answer(200, {"attributes": []})

    facts = gather(scripted_admin(stub), "opaque")

    assert AccessFacts(frozenset(expected), PROFILE, False) == facts
    assert stub.requests[1].json == {}


def test_account_without_any_role_is_told_so() -> None:
    """Nothing can be read, and the reason comes first."""
    stub = StubAdapter()
    for _ in range(4):
        stub.answer(403, {"error": "HTTP 403 Forbidden"})

    problems = check_access(scripted_admin(stub), ["userId", "locale"])

    assert [problem.code for problem in problems] == ["role-missing", "profile-unreadable"]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"error": "unauthorized_client"}, "keycloak-credentials"),
        (404, {"error": "Realm does not exist"}, "realm-not-found"),
    ],
)
def test_refused_log_in_is_the_only_problem(status: int, body: object, code: str) -> None:
    """Everything else would follow from it."""
    stub = StubAdapter(scripted_tokens=True)
    stub.answer(status, body)

    (problem,) = check_access(scripted_admin(stub), ["userId"])

    assert (code, Severity.ERROR) == (problem.code, problem.severity)
    assert problem.remedy


def test_refused_token_is_a_problem() -> None:
    """A token that another host name made is refused by every call."""
    stub = StubAdapter()
    for _ in range(2):
        stub.answer(401, {"error": "HTTP 401 Unauthorized"})

    (problem,) = check_access(scripted_admin(stub), [])

    assert problem.code == "keycloak-token-refused"


def test_outage_is_no_verdict() -> None:
    """Whoever starts the bridge waits and checks again."""
    stub = StubAdapter()
    stub.answer(503)

    with pytest.raises(KeycloakUnavailableError):
        check_access(scripted_admin(stub), [])
