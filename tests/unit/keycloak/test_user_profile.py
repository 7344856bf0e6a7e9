"""What Keycloak's user profile takes and refuses of a user, and what only Keycloak can decide."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keycloak_bridge.keycloak.user_profile import (
    Answer,
    RealmProfile,
    java_length,
    java_pattern,
    judge_value,
    judge_values,
    length_limits,
    options_of,
    read_profile,
    uncertain_fields,
)

ADMIN = {"edit": ["admin"], "view": ["admin"]}


def profile(*attributes: dict[str, Any], policy: str | None = None) -> RealmProfile:
    answer: dict[str, Any] = {"attributes": [{"permissions": ADMIN, **one} for one in attributes]}
    return read_profile(
        answer if policy is None else {**answer, "unmanagedAttributePolicy": policy}
    )


LENGTH_3 = {"name": "tenantId", "validations": {"length": {"max": 3}}}


@pytest.mark.parametrize(
    ("read", "user", "expected"),
    [
        (profile(LENGTH_3), {"attributes": {"tenantId": ["abc"]}}, ()),
        (profile(LENGTH_3), {"attributes": {"tenantId": ["abcd"]}}, ("tenantId",)),
        (profile({**LENGTH_3, "multivalued": True}), {"attributes": {"tenantId": ["a", "b"]}}, ()),
        (
            profile({"name": "t", "multivalued": True, "validations": {"multivalued": {"min": 2}}}),
            {"attributes": {"t": ["a"]}},
            ("t",),
        ),
        (profile(), {"attributes": {"tenantId": ["a"], "locale": ["de"]}}, ("tenantId",)),
        (profile(), {"attributes": {"tenantId": [""]}}, ()),
        (profile(policy="ADMIN_EDIT"), {"attributes": {"tenantId": ["a"]}}, ()),
        (profile(policy="ADMIN_VIEW"), {"attributes": {"tenantId": ["a"]}}, ("tenantId",)),
        (profile(policy="ENABLED"), {"attributes": {"tenantId": ["a" * 2049]}}, ("tenantId",)),
        (
            profile({"name": "email", "validations": {"email": {}, "of-a-plugin": {}}}),
            {"email": "ada@acme.example"},
            ("email",),
        ),
        (
            profile({"name": "costCentre", "required": {"roles": ["admin"]}}),
            {"attributes": {"costCentre": [" "]}},
            ("costCentre",),
        ),
        (profile({"name": "lastName", "required": {}}), {}, ("lastName",)),
        (profile({"name": "lastName", "required": {"roles": ["user"]}}), {}, ()),
        (profile({"name": "lastName", "required": {"scopes": ["phone"]}}), {}, ()),
        (profile({"name": "x", "required": {}, "permissions": {"edit": ["user"]}}), {}, ()),
    ],
)
def test_what_keycloak_may_refuse_or_drop_is_named(
    read: RealmProfile, user: Any, expected: tuple[str, ...]
) -> None:
    """Refused, dropped or undecided: the user is left to POST then; tests/integration/import_cases.py has more."""
    assert expected == uncertain_fields(read, user)


def test_the_ways_to_break_a_rule_are_named() -> None:
    """Rules that are broken, and those that only Keycloak can decide about; never a value."""
    rules = {"length": {"max": 3}, "of-a-plugin": {}}
    attribute = profile({"name": "a", "validations": rules}).attributes["a"]

    assert judge_values(attribute, ["ab", "abcd"]) == (
        [
            "has 2 values, which the user profile does not allow",
            "breaks the rule 'length' of the user profile",
        ],
        ["of-a-plugin"],
    )


@pytest.mark.parametrize("answer", [{}, {"attributes": None}, {"attributes": ["x", {}]}])
def test_an_empty_profile_is_read(answer: dict[str, Any]) -> None:
    """What is not there is not invented."""
    assert RealmProfile() == read_profile(answer)


# validators

TAKEN, REFUSED, UNKNOWN = Answer


@pytest.mark.parametrize(
    ("validator", "config", "value", "expected"),
    [
        ("length", {"max": 2}, " ab ", TAKEN),
        ("length", {"max": 2, "trim-disabled": "true"}, " ab", REFUSED),
        ("length", {"max": 1}, "\N{GRINNING FACE}", REFUSED),
        ("length", {}, "anything", TAKEN),
        ("pattern", {"pattern": "[A-Z]{2}"}, "DE", TAKEN),
        ("pattern", {"pattern": "[A-Z]{2}"}, "DEU", REFUSED),
        ("pattern", {"pattern": "a.c"}, "a\nc", REFUSED),
        ("pattern", {"pattern": r"\d+"}, "٣", REFUSED),
        ("pattern", {"pattern": r"\p{L}+"}, "Ada", UNKNOWN),
        ("pattern", {"pattern": "[a-z&&[^b]]+"}, "a", UNKNOWN),
        ("pattern", {"pattern": "("}, "a", UNKNOWN),
        ("options", {}, "c", UNKNOWN),
        ("email", {}, "ada.lovelace+x@acme.example", TAKEN),
        ("email", {"max-local-length": 3}, "adam@acme.example", REFUSED),
        ("integer", {"min": 1, "max": "9"}, "9", TAKEN),
        ("integer", {}, "99999999999", UNKNOWN),
        ("double", {"min": 0.5}, "0.5", TAKEN),
        ("double", {"min": 0.5}, "0.4", REFUSED),
        ("double", {}, "1e3", UNKNOWN),
        ("iso-date", {}, "28.02.2026", REFUSED),
        ("uri", {}, "https://acme.example/a", TAKEN),
        ("uri", {}, "urn:x", UNKNOWN),
        ("person-name-prohibited-characters", {}, "O'Neill, Ada-María", TAKEN),
        ("username-prohibited-characters", {}, "ada\N{NO-BREAK SPACE}", REFUSED),
        ("of-a-plugin", {}, "ada", UNKNOWN),
        ("of-a-plugin", {}, "", TAKEN),
    ],
)
def test_values_are_judged(
    validator: str, config: dict[str, Any], value: str, expected: Answer
) -> None:
    """Only what is certain is called taken or refused; tests/integration/import_cases.py asks Keycloak itself."""
    assert expected is judge_value(validator, config, value)


@given(st.text(), st.integers(0, 50), st.integers(0, 50))
def test_length_agrees_with_javas_count(text: str, least: int, greatest: int) -> None:
    """Without trimming, a text is taken where its UTF-16 length is within the limits."""
    config = {"min": least, "max": greatest, "trim-disabled": True}
    fits = not text or least <= java_length(text) <= greatest

    assert (TAKEN if fits else REFUSED) is judge_value("length", config, text)


@example("[.", "0")  # an open class, which the meaning of the dot would close
@given(st.text(), st.text(max_size=30))
def test_no_pattern_is_too_strange(pattern: str, value: str) -> None:
    """Whatever a realm holds as a pattern gets an answer."""
    assert judge_value("pattern", {"pattern": pattern}, value) in tuple(Answer)


def test_the_end_of_a_pattern_is_the_very_end() -> None:
    """A line feed does not slip through."""
    compiled = java_pattern("^a$")

    assert compiled is not None
    assert (True, False) == (bool(compiled.fullmatch("a")), bool(compiled.fullmatch("a\n")))


def test_limits_and_options_are_read() -> None:
    """Numbers may be text in a profile, and nonsense is no limit."""
    assert (2, 5) == length_limits({"min": "2", "max": 5.0})
    assert (0, None) == length_limits({"min": "x", "max": True})
    assert frozenset({"1", "b"}) == options_of({"options": [1, "b"]})
    assert options_of({"options": "b"}) is None
