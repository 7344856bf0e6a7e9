"""Mapping, schema and user profile side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.keycloak.user_profile import read_profile
from keycloak_bridge.mapping.profile_findings import (
    Finding,
    MappedTarget,
    Severity,
    all_mapped_targets,
    check_mapping,
)
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.subschema import PropertyFacts

ADMIN = {"edit": ["admin"], "view": ["admin"]}
TEXT = frozenset({"string"})
LIST = frozenset({"array"})
TENANT = "attributes.tenantId"


def found(
    attribute: dict[str, Any],
    *facts: PropertyFacts | None,
    default: Any = None,
    target: str = TENANT,
) -> list[Finding]:
    name = target.removeprefix("attributes.")
    profile = read_profile({"attributes": [{"name": name, "permissions": ADMIN, **attribute}]})
    known = tuple(one for one in facts if one is not None)
    return list(check_mapping(profile, [MappedTarget(target, known, default)]))


def text(**facts: Any) -> PropertyFacts:
    return PropertyFacts(types=TEXT, **facts)


def rules(**validations: Any) -> dict[str, Any]:
    return {"validations": validations}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (text(), ["id-differs-in-case", "id-refused"]),
        (text(patterns=("^[A-Za-z0-9-]+$",)), ["id-differs-in-case"]),
        (text(patterns=("^U-[0-9]{6}$",)), []),
        (text(patterns=(r"^u-\d+$",)), []),
        (text(patterns=("^[a-z0-9]+(-[a-z0-9]+)*$",)), []),
        (text(patterns=("[a-z0-9]",)), ["id-differs-in-case", "id-refused"]),
        (text(patterns=("^[a-z0-9/]+$",)), ["id-differs-in-case", "id-refused"]),
        (text(patterns=("^.+$",)), ["id-differs-in-case", "id-refused"]),
        (text(values=("u-1", "u-2")), []),
        (text(values=("u-1", "U-1")), ["id-differs-in-case"]),
        (text(values=("u-1", "u/2")), ["id-refused"]),
        (text(formats=frozenset({"uuid"})), []),
        (text(partial=True), []),
        (PropertyFacts(types=frozenset({"integer"})), []),
    ],
)
def test_ids_that_cannot_be_usernames_show_in_the_schema(
    facts: PropertyFacts, expected: list[str]
) -> None:
    """Those that differ in case alone, and those with characters that the realm's profile refuses in usernames."""
    validations: dict[str, Any] = {"username-prohibited-characters": {}}
    rule = {"name": "username", "permissions": ADMIN, "validations": validations}
    own = {"name": "bridgeUserId", "permissions": ADMIN}
    target = MappedTarget("attributes.bridgeUserId", (facts,))
    found = check_mapping(read_profile({"attributes": [rule, own]}), [target])
    lenient = check_mapping(
        read_profile({"attributes": [{**rule, "validations": {}}, own]}), [target]
    )

    assert [(code, Severity.WARNING, "username") for code in expected] == [
        (one.code, one.severity, one.target) for one in found
    ]
    assert [one for one in expected if one != "id-refused"] == [one.code for one in lenient]


@pytest.mark.parametrize(
    ("attribute", "facts", "expected"),
    [
        (rules(length={"max": 9}), text(max_length=9), []),
        (rules(length={"max": 9}), text(max_length=10), ["attribute-length"]),
        (rules(length={"max": 9}), text(), ["attribute-length"]),
        (rules(length={"max": 9}), text(partial=True), []),
        (rules(length={"max": 9}), text(formats=frozenset({"uuid"})), []),
        (rules(length={"max": 9}), text(patterns=("^(a|b)$",)), []),
        (rules(length={"max": 9}), None, []),
        (rules(length={"min": 3}), text(max_length=9, min_length=1), ["attribute-length"]),
        (rules(length={"min": 3}), text(max_length=9, min_length=3), []),
        (rules(length={"min": 1}), text(max_length=9), []),
        (rules(length={"max": 9}), PropertyFacts(types=frozenset({"boolean"})), []),
        (rules(pattern={"pattern": "[a-z]+"}), text(patterns=("^[a-z]+$",)), []),
        (rules(pattern={"pattern": "^[a-z]+$"}), text(patterns=("[a-z]+",)), ["attribute-pattern"]),
        (rules(pattern={"pattern": "[a-z]+"}), text(), ["attribute-pattern"]),
        (rules(pattern={"pattern": ".*"}), text(), []),
        (rules(options={"options": ["a", "b"]}), text(values=("a", "b")), []),
        (rules(options={"options": ["a", "b"]}), text(values=("a", "c")), ["attribute-options"]),
        (rules(options={"options": ["a", "b"]}), text(), ["attribute-options"]),
        (rules(length={"max": 2}), text(values=("a", "ccc", None)), ["attribute-options"]),
        (rules(integer={}), text(), ["attribute-number"]),
        (rules(integer={}), text(patterns=("^[0-9]{2}$",)), []),
        (rules(integer={}), PropertyFacts(types=frozenset({"integer"})), []),
        ({}, PropertyFacts(types=LIST), ["attribute-multivalued"]),
        ({}, PropertyFacts(types=LIST, max_items=1), []),
        ({}, PropertyFacts(), []),
        ({"multivalued": True}, PropertyFacts(types=LIST), []),
        (
            {"multivalued": True, **rules(length={"max": 2})},
            PropertyFacts(types=LIST, item=text(max_length=3)),
            ["attribute-length"],
        ),
    ],
)
def test_what_the_schema_allows_and_the_profile_refuses(
    attribute: dict[str, Any], facts: PropertyFacts | None, expected: list[str]
) -> None:
    """It is a warning with a remedy, once for all versions of a schema, and only what can be decided is said."""
    findings = found(attribute, facts)

    assert [(code, Severity.WARNING, TENANT) for code in expected] == [
        (one.code, one.severity, one.target) for one in findings
    ]
    assert all("tenantId" in one.message and one.remedy for one in findings)
    assert findings == found(attribute, facts, facts)


@pytest.mark.parametrize(
    ("default", "expected"),
    [("abc", []), ("abcd", ["attribute-default"]), (["a", "b"], ["attribute-default"]), (True, [])],
)
def test_the_mappings_own_value_is_tried(default: Any, expected: list[str]) -> None:
    """A default that Keycloak refuses is an error at once; nothing about an event is guessed."""
    findings = found(rules(length={"max": 4} if default is True else {"max": 3}), default=default)

    assert [(code, Severity.ERROR) for code in expected] == [
        (one.code, one.severity) for one in findings
    ]


@pytest.mark.parametrize(
    ("target", "attribute", "expected"),
    [
        (
            "firstName",
            {"permissions": {"edit": ["user"], "view": ["admin"]}},
            ["attribute-no-edit"],
        ),
        (TENANT, {"permissions": {}}, ["attribute-no-edit", "attribute-no-view"]),
        ("attributes.locale", {"permissions": {}}, []),
        ("enabled", {"permissions": {}}, []),
    ],
)
def test_administrators_must_be_let_in(
    target: str, attribute: dict[str, Any], expected: list[str]
) -> None:
    """Fields count like attributes, where the profile has a say."""
    assert expected == [one.code for one in found(attribute, target=target)]


@pytest.mark.parametrize(
    ("target", "policy", "expected"),
    [
        (TENANT, None, ["attribute-unknown"]),
        (TENANT, "ADMIN_EDIT", []),
        ("lastName", None, ["attribute-unknown"]),
        ("email", None, []),
        ("requiredActions", None, []),
    ],
)
def test_what_would_vanish(target: str, policy: str | None, expected: list[str]) -> None:
    """An undeclared attribute is dropped, and so is a name that was removed from the profile."""
    profile = read_profile({"unmanagedAttributePolicy": policy})

    assert expected == [one.code for one in check_mapping(profile, [MappedTarget(target)])]


@pytest.mark.parametrize(
    ("targets", "whole", "expected"),
    [
        ([], True, [Severity.ERROR]),
        ([], False, []),
        ([MappedTarget(TENANT, always=False)], True, [Severity.WARNING]),
        ([MappedTarget(TENANT)], True, []),
        ([MappedTarget(TENANT), MappedTarget(TENANT, always=False)], True, []),
    ],
)
def test_what_the_profile_requires(
    targets: list[MappedTarget], whole: bool, expected: list[Severity]
) -> None:
    """Never mapped: every user is refused. Maybe absent: some are. The new user's target comes first."""
    one = {"name": "tenantId", "permissions": ADMIN, "required": {"roles": ["admin"]}}
    findings = check_mapping(read_profile({"attributes": [one]}), targets, whole=whole)

    assert [("attribute-required", TENANT, severity) for severity in expected] == [
        (finding.code, finding.target, finding.severity) for finding in findings
    ]


def test_the_bridges_own_attributes_are_not_shown() -> None:
    """Users that see the bookkeeping are worth a warning."""
    views = {"edit": ["admin"], "view": ["admin", "user"]}
    profile = read_profile({"attributes": [{"name": "bridgeEventId", "permissions": views}]})
    (finding,) = check_mapping(profile, [], hidden=["bridgeEventId", "bridgeInvitation"])

    assert ("attribute-user-visible", Severity.WARNING) == (finding.code, finding.severity)


REALM = Path(__file__).parents[3] / "keycloak-config" / "acme-realm.json"


def test_the_shipped_parts_agree() -> None:
    """Mapping, schemas and realm of this repository give no finding; what the schemas say is known of each target."""
    realm = json.loads(REALM.read_text(encoding="utf-8"))
    (component,) = realm["components"]["org.keycloak.userprofile.UserProfileProvider"]
    profile = read_profile(json.loads(component["config"]["kc.user.profile.config"][0]))
    interpretation = Interpretation(Settings())
    targets = all_mapped_targets(interpretation.mapping, interpretation.catalog)

    assert () == check_mapping(profile, targets, hidden=BOOKKEEPING_ATTRIBUTES)
    new = {one.target: one for one in reversed(targets)}
    assert ({255}, ()) == ({one.longest for one in new["firstName"].facts}, new["email"].facts)
    always = ("username", "email", "enabled", "attributes.userId")
    assert all(new[name].always for name in always)
    assert not new["attributes.department"].always
