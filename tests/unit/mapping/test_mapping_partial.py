"""A partial `user.updated` makes what it decides, and a managed target is cleared by what a complete event leaves out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_cases import (
    ATTRIBUTES,
    GROUPS,
    HEAD,
    MINIMAL,
    ROLES,
    USER,
    desired,
    event_of,
    mapping,
    names,
    updated,
)

from keycloak_bridge.domain.errors import MappingError
from keycloak_bridge.domain.users import DesiredUser, IdentityLink, Membership, OutOfScope
from keycloak_bridge.expressions.expression import Expression, compile_expression
from keycloak_bridge.mapping.mapping import EventData, is_present, properties_read

TAGS = MINIMAL + 'tags = "data.tags"\n'
DEFAULT_TAGS = MINIMAL + 'tags = { from = "data.tags", default = "none" }'
MANAGED_TAGS = MINIMAL + 'tags = { from = "data.tags", removal = "managed" }\n'
NAMED = HEAD + USER + 'firstName = "data.given"\nenabled = { from = "data.active", default = true }'
WHOLE = (
    NAMED
    + ATTRIBUTES
    + 'tags = "data.tags"\nboth = "data.n || data.username"\n'
    + '[user.groups]\nfrom = "data.groups"\nallow = ["a"]\nremoval = "managed"\n'
    + '[user.federatedIdentities.idp]\nuserId = "data.n"\n'
)


def test_a_partial_update_makes_what_it_speaks_of() -> None:
    """The external id and what is there; nothing is added that counts for new users."""
    user = updated(NAMED + ATTRIBUTES, given="Ada")

    assert {"firstName": "Ada", "attributes": {"userId": ["u1"]}} == user.representation
    assert ["attributes.userId"] == [one.target for one in user.matching]
    assert (frozenset(), frozenset()) == (user.create_only, user.cleared)


def test_a_changed_address_is_a_criterion() -> None:
    """So that the planner finds another user that has it."""
    user = updated(MINIMAL, email="New@acme.example")

    assert ["attributes.userId", "email"] == [one.target for one in user.matching]
    assert "username" not in user.representation


@pytest.mark.parametrize(
    ("text", "data", "cleared"),
    [
        (TAGS, {"tags": None}, {"attributes.tags"}),
        (TAGS, {"tags": ""}, {"attributes.tags"}),
        (TAGS, {"tags": []}, {"attributes.tags"}),
        (NAMED + ATTRIBUTES, {"given": None, "email": None}, {"email", "firstName"}),
        (HEAD + USER + 'enabled = "data.active"' + ATTRIBUTES, {"active": None}, set()),
        (DEFAULT_TAGS, {"tags": None}, set()),
        (MANAGED_TAGS, {"tags": ["x"]}, set()),
    ],
)
def test_an_explicit_null_clears(text: str, data: dict[str, Any], cleared: set[str]) -> None:
    """And so does what is empty; switches are left alone, and a default, where there is one, is set instead."""
    user = updated(text, **data)

    assert cleared == user.cleared
    assert "enabled" not in user.representation
    assert (text == DEFAULT_TAGS) is (["none"] == user.representation["attributes"].get("tags"))
    assert updated(NAMED + ATTRIBUTES, active=None).representation["enabled"] is True


def test_a_username_cannot_be_cleared() -> None:
    """Where it follows the events, an empty one is refused in a partial event."""
    text = HEAD + '[user]\nusername = { from = "data.username", apply = "always" }' + ATTRIBUTES
    text = text.replace(', "email"', "")

    with pytest.raises(MappingError) as caught:
        updated(text, username=None)

    assert "invalid-username" == caught.value.code


def test_what_belongs_together_must_come_together() -> None:
    """Half of what a target reads says nothing about it, unless it counts at creation only."""
    text = MINIMAL + 'tags = "[data.tags, data.n]"'

    with pytest.raises(MappingError) as caught:
        updated(text, tags="x")

    assert "incomplete-update" == caught.value.code
    assert ["x", "1"] == updated(text, tags="x", n=1).representation["attributes"]["tags"]
    assert {"userId"} == updated(MINIMAL, username="ada").representation["attributes"].keys()


def test_constants_are_left_alone() -> None:
    """A partial event says nothing about what no property of it decides."""
    text = MINIMAL + 'tags = "\'x\'"\nn = "source"\n[user.groups]\nfrom = "\'staff\'"'

    assert {"userId": ["u1"]} == updated(text).representation["attributes"]
    assert () == updated(text).memberships


def test_memberships_that_are_not_spoken_of_are_left_alone() -> None:
    """Absent, they are no list without entries."""
    text = ROLES + 'removal = "managed"\ndefault = ["viewer"]'

    assert () == updated(text).memberships
    assert ("viewer",) == names(updated(text, roles=None), "realmRoles")
    assert ("editor",) == names(updated(text, roles=["editor"]), "realmRoles")


def test_an_update_takes_away_what_is_managed_only() -> None:
    """An empty list means nothing for what is only added to."""
    managed = updated(GROUPS + 'removal = "managed"', groups=[])

    assert () == updated(GROUPS, groups=[]).memberships
    assert (Membership("groups", (), frozenset({"/staff"})),) == managed.memberships


@pytest.mark.parametrize("kind", ["user.created", "user.updated"])
@pytest.mark.parametrize(("text", "cleared"), [(TAGS, set()), (MANAGED_TAGS, {"attributes.tags"})])
def test_a_complete_event_clears_what_is_managed(kind: str, text: str, cleared: set[str]) -> None:
    """What it does not name is not so; without `managed` it is left alone."""
    data = {"email": "ada@acme.example", "complete": True}
    user = mapping(text).apply(event_of(kind, data))

    assert isinstance(user, DesiredUser)
    assert cleared == user.cleared
    assert {"username", "enabled"} == user.create_only
    assert frozenset() == desired(text, tags=["x"]).cleared


IDENTITY = (
    MINIMAL + '[user.federatedIdentities."my idp"]\nuserId = "data.n"\nuserName = "data.given"\n'
)


@pytest.mark.parametrize(
    ("removal", "data", "partial", "expected"),
    [
        ("add-only", {"n": 7, "given": "ada"}, False, (IdentityLink("my idp", "7", "ada"),)),
        ("add-only", {"n": 7}, False, (IdentityLink("my idp", "7"),)),
        ("add-only", {}, False, ()),
        ("managed", {}, False, (IdentityLink("my idp", None),)),
        ("managed", {}, True, ()),
        ("add-only", {"n": None, "given": None}, True, (IdentityLink("my idp", None),)),
        ("add-only", {"n": "7", "given": None}, True, (IdentityLink("my idp", "7"),)),
        ("managed", {"given": "ada"}, True, ()),
    ],
)
def test_accounts_elsewhere(
    removal: str, data: dict[str, Any], partial: bool, expected: tuple[IdentityLink, ...]
) -> None:
    """Linked where the event names the id; unlinked by a managed rule, or by an explicit null."""
    text = f'{IDENTITY}removal = "{removal}"'
    user = updated(text, **data) if partial else desired(text, **data)

    assert expected == user.identities


@pytest.mark.parametrize(
    ("data", "code"),
    [({"n": 7}, "incomplete-update"), ({"n": [7], "given": None}, "mapping-failed")],
)
def test_an_account_that_is_half_named_is_refused(data: dict[str, Any], code: str) -> None:
    """The id without the name, and several ids."""
    with pytest.raises(MappingError) as caught:
        updated(IDENTITY, **data)

    assert code == caught.value.code
    assert "my idp" not in caught.value.message or "federatedIdentities" in caught.value.message


@pytest.mark.parametrize(
    ("kind", "data", "asked"),
    [
        ("user.created", {}, True),
        ("user.updated", {"complete": True}, True),
        ("user.updated", {}, False),
        ("user.updated", {"active": False}, True),
        ("user.deleted", {}, False),
        ("user.deleted", {"active": None}, True),
    ],
)
def test_the_filter_is_asked_where_the_event_can_answer(
    kind: str, data: dict[str, Any], asked: bool
) -> None:
    """An event that lacks what `when` reads passes, unless it says everything."""
    text = 'when = "data.active"\n' + MINIMAL

    assert (OutOfScope("data.active") if asked else None) == mapping(text).out_of_scope(
        event_of(kind, data)
    )


VALUES = {
    "email": st.none() | st.just("a@b.example"),
    "given": st.none() | st.text(alphabet="ab", max_size=2),
    "active": st.none() | st.booleans(),
    "tags": st.none() | st.lists(st.sampled_from("ab"), max_size=2),
    "groups": st.none() | st.lists(st.just("a"), max_size=1),
    "n": st.none() | st.integers(0, 2),
    "username": st.none() | st.just("ada"),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_an_update_touches_only_what_its_properties_reach(data: dict[str, Any]) -> None:
    """What no property of the event reaches is neither written, nor cleared, nor removed."""
    reaches = {
        "email": {"email"},
        "given": {"firstName"},
        "active": {"enabled"},
        "tags": {"attributes.tags"},
        "groups": {"groups"},
        "n": {"attributes.both", "idp"},
        "username": {"attributes.both"},
    }
    if ("n" in data) != ("username" in data):
        with pytest.raises(MappingError, match="only a part"):
            updated(WHOLE, **data)
        return

    user = updated(WHOLE, **data)

    touched = {
        *(name for name in user.representation if name != "attributes"),
        *(f"attributes.{name}" for name in user.representation["attributes"]),
        *user.cleared,
        *(one.kind for one in user.memberships),
        *(one.alias for one in user.identities),
    }
    assert touched - {"attributes.userId"} <= set().union(*(reaches[name] for name in data))


def expression(text: str) -> Expression:
    """Return `text` compiled, whatever it reads."""
    return compile_expression(text, tables={"t": {}}, has_property=lambda _: True)


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        ({}, ("a",), False),
        ({"a": None}, ("a",), True),
        ({"a": {}}, ("a",), True),
        ({"a": {}}, ("a", "b"), False),
        ({"a": {"b": None}}, ("a", "b"), True),
        ({"a": None}, ("a", "b"), True),
        ({"a": []}, ("a", "b"), True),
        ({"a": [{"c": 1}]}, ("a", "b"), True),
        ({"a": "text"}, ("a", "b"), True),
        ({"b": 1}, ("a", "b"), False),
    ],
)
def test_what_is_present(data: dict[str, Any], path: tuple[str, ...], expected: bool) -> None:
    """A key counts, null too; null or a list for the whole is an answer for its parts."""
    assert expected is is_present(data, path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'constant'", set()),
        ("time", set()),
        ("data.a", {("a",)}),
        ("data.a || data.b", {("a",), ("b",)}),
        ("data.a.b", {("a", "b")}),
        ('data.roles."my-app"', {("roles", "my-app")}),
        ("(data.a || data.b).c", {("a", "c"), ("b", "c")}),
        ("data.list[].lower(@)", {("list",)}),
        ("data.list[?kind == 'x'].value | [0]", {("list", "kind"), ("list", "value")}),
        ("lookup('t', data.a)", {("a",)}),
    ],
)
def test_which_properties_decide(text: str, expected: set[tuple[str, ...]]) -> None:
    """What only leads to another property does not count."""
    assert expected == properties_read([expression(text)])


def test_a_part_of_what_a_target_is_made_of_is_refused() -> None:
    """The error names what must come together, points at what is absent and quotes nothing."""
    event = EventData({"first": "Planted", "o": {}}, partial=True)

    with pytest.raises(MappingError) as caught:
        event.decides(
            "/user/username", expression("join('.', [data.first, data.last, data.o.\"a/b\"])")
        )

    assert "incomplete-update" == caught.value.code
    assert ["/data/last", "/data/o/a~1b"] == [one.pointer for one in caught.value.violations]
    assert "data.first, data.last, data.o.a/b" in (caught.value.remedy or "")
    assert "Planted" not in f"{caught.value.message}{caught.value.remedy}"


STEPS = ("a", "b", "c")
LEAVES = st.none() | st.booleans() | st.text(max_size=2)
DATA = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(STEPS), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))
PATHS = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map(tuple)


@given(DATA, st.lists(PATHS, min_size=1, max_size=3))
def test_all_some_or_none(data: dict[str, Any], read: list[Any]) -> None:
    """A partial event has all properties of a target, or none, or is refused."""
    one = expression(" || ".join("data." + ".".join(each) for each in read))
    present = [is_present(data, each) for each in properties_read([one])]

    try:
        outcome: object = EventData(data, partial=True).decides("/user/email", one)
    except MappingError as error:
        outcome = error.code
    expected = True if all(present) else "incomplete-update" if any(present) else False

    assert expected == outcome
    assert any(present) is EventData(data, partial=True).mentions(one)
    assert all(present) is EventData(data, partial=True).has_all(one)
    assert EventData(data, partial=False).decides("/user/email", one)
