"""Every type of event wants something of its user; the policy decides where people want different things."""

from typing import Any

import pytest
from mapping_cases import HEAD, MINIMAL, TERMS, USER, event_of, mapping

from keycloak_bridge.domain.errors import KeyMismatchError, MappingError, UnknownSchemaError
from keycloak_bridge.domain.events import USER_EVENTS
from keycloak_bridge.domain.users import (
    DesiredUser,
    EmailChange,
    Intent,
    MatchCriterion,
    OutOfScope,
    UnknownUser,
)
from keycloak_bridge.mapping.lifecycle import LifecyclePolicy, Mappings

ACTIVE = MINIMAL.replace("[user]", '[user]\nenabled = "data.active"')
DEFAULT = mapping('protected_groups = ["/admins"]\n' + ACTIVE, invitation=TERMS)


def wanted(kind: str, /, data: dict[str, Any] | None = None, **policy: Any) -> DesiredUser:
    desired = Mappings(DEFAULT, policy=LifecyclePolicy(**policy)).apply(event_of(kind, data or {}))
    assert isinstance(desired, DesiredUser)
    return desired


@pytest.mark.parametrize(
    ("kind", "deleted", "intent", "enabled", "ends"),
    [
        ("user.disabled", Intent.DELETE, Intent.DISABLE, False, True),
        ("user.enabled", Intent.DELETE, Intent.ENABLE, True, False),
        ("user.invitation.requested", Intent.DELETE, Intent.INVITE, None, False),
        ("user.deleted", Intent.DISABLE, Intent.DISABLE, False, True),
        ("user.deleted", Intent.ANONYMISE, Intent.ANONYMISE, False, True),
        ("user.deleted", Intent.DELETE, Intent.DELETE, None, False),
    ],
)
def test_an_event_that_only_names_its_user(
    kind: str, deleted: Intent, intent: Intent, enabled: bool | None, ends: bool
) -> None:
    """Nothing of the mapping counts but the external id, the protected groups and the mail's terms."""
    user = wanted(kind, deleted=deleted)
    quiet = wanted(kind, deleted=deleted, end_sessions=False)

    assert (intent, ends) == (user.intent, user.ends_sessions)
    assert {"userId": ["u1"]} == user.representation["attributes"]
    assert enabled == user.representation.get("enabled")
    assert (MatchCriterion("attributes.userId", "u1"),) == user.matching
    assert frozenset({"/admins"}) == user.protected_groups
    assert (TERMS if intent in (Intent.INVITE, Intent.ENABLE) else None) == user.invitation
    assert quiet.ends_sessions is False


@pytest.mark.parametrize(
    ("kind", "data", "policy", "expected"),
    [
        ("user.updated", {"complete": True, "email": "ada@x.example"}, "create", "create"),
        ("user.updated", {}, "create", "dead-letter"),
        ("user.updated", {}, "wait", "wait"),
        ("user.disabled", {}, "create", "dead-letter"),
        ("user.enabled", {}, "wait", "wait"),
        ("user.invitation.requested", {}, "dead-letter", "dead-letter"),
        ("user.deleted", {}, "create", "skip"),
        ("user.deleted", {}, "wait", "skip"),
    ],
)
def test_unknown_users(kind: str, data: dict[str, Any], policy: str, expected: str) -> None:
    """Only what says everything creates a user, and a deleted one may be gone."""
    user = wanted(kind, data, unknown_user=UnknownUser(policy))

    assert UnknownUser(expected) is user.unknown


@pytest.mark.parametrize("kind", ["user.created", "user.updated", "user.enabled"])
def test_a_changed_address_follows_the_policy(kind: str) -> None:
    """Whichever event changes it, or enables the user who could not be mailed before."""
    data = {"email": "ada@acme.example"}

    assert EmailChange.VERIFY is wanted(kind, data, email_change=EmailChange.VERIFY).email_change
    assert EmailChange.TRUSTED is wanted(kind, data).email_change


@pytest.mark.parametrize(("active", "expected"), [(False, True), (True, False), (None, False)])
def test_an_update_that_switches_off_ends_sessions(active: bool | None, expected: bool) -> None:
    """It is a way to disable a user, and so is a later event that describes the whole of it again, which creates one."""
    user = wanted("user.updated", {"active": active})
    again = wanted("user.created", {"email": "ada@acme.example", "active": active})

    assert (Intent.UPDATE, expected) == (user.intent, user.ends_sessions)
    assert (Intent.PROVISION, expected) == (again.intent, again.ends_sessions)
    assert UnknownUser.CREATE is again.unknown
    assert TERMS == user.invitation
    assert wanted("user.updated", {"active": active}, end_sessions=False).ends_sessions is False


@pytest.mark.parametrize("kind", [kind for kind in USER_EVENTS if kind != "user.created"])
def test_every_event_must_say_whose_user_it_is(kind: str) -> None:
    """Without the id, or with another subject, it is refused."""
    with pytest.raises(MappingError, match="which user"):
        Mappings(DEFAULT).apply(event_of(kind, {"userId": " "}))
    with pytest.raises(KeyMismatchError):
        Mappings(DEFAULT).apply(event_of(kind, {}, subject="u2"))


@pytest.mark.parametrize("kind", USER_EVENTS)
def test_the_filter_holds_for_every_event(kind: str) -> None:
    """Where the event can answer it."""
    mappings = Mappings(mapping("when = \"data.n == '1'\"\n" + MINIMAL))

    assert isinstance(mappings.apply(event_of(kind, {"n": "2"})), OutOfScope)
    assert isinstance(mappings.apply(event_of(kind, {"n": "1", "username": "ada"})), DesiredUser)


@pytest.mark.parametrize("kind", ["user.moved", "user.invitation.due"])
def test_other_types_are_unknown(kind: str) -> None:
    """A schema alone does not make an event one that writes users."""
    with pytest.raises(UnknownSchemaError) as caught:
        Mappings(DEFAULT).apply(event_of(kind, {"email": "ada@acme.example"}))

    assert "unknown-type" == caught.value.code
    assert ["/type"] == [one.pointer for one in caught.value.violations]


OTHER = mapping('reserved = ["root"]\n' + MINIMAL + 'tags = "data.tags"')
SECOND = mapping(HEAD + USER + 'groups = "data.groups"\n[user.attributes]\nuserId = "data.userId"')
NUMBERED = mapping(
    'matching = ["attributes.userId", "username", "attributes.number"]\n'
    + USER
    + '[user.attributes]\nuserId = "data.userId"\nnumber = "data.tags"'
)
SEVERAL = Mappings(
    DEFAULT,
    by_type={"user.updated": OTHER},
    by_major={("user.created", 2): SECOND},
    majors={"urn:two": 2, "urn:one": 1},
)


@pytest.mark.parametrize(
    ("kind", "schema_id", "expected"),
    [
        ("user.created", "urn:one", DEFAULT),
        ("user.created", "urn:unheard-of", DEFAULT),
        ("user.created", "urn:two", SECOND),
        ("user.updated", "urn:two", OTHER),
        ("user.deleted", "urn:two", DEFAULT),
    ],
)
def test_which_mapping_serves(kind: str, schema_id: str, expected: object) -> None:
    """By type and major version, else by type, else the default."""
    assert expected is SEVERAL.serving(event_of(kind, {}, schema_id=schema_id))
    made = SEVERAL.apply(event_of(kind, {"tags": "x", "username": "ada"}, schema_id=schema_id))
    assert isinstance(made, DesiredUser)
    assert {"/admins"} == made.protected_groups
    assert (expected is OTHER) is ("tags" in made.representation["attributes"])


def test_what_several_mappings_have_together() -> None:
    """The realm must know the attributes of all, and no event may use a username that one reserves."""
    assert ("tags", "userId") == SEVERAL.attribute_names
    assert {"admin", "root"} == SEVERAL.reserved
    assert "userId" == SEVERAL.external_id
    assert ("userId", "number") == Mappings(DEFAULT, {"user.updated": NUMBERED}).matching_attributes
    assert {"/admins"} == SEVERAL.protected_groups
    assert (True, False) == (SEVERAL.accepts_every_group, Mappings(DEFAULT).accepts_every_group)
