"""What every UserDirectory promises; the Keycloak in memory and the real one answer the same tests."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, cast
from uuid import uuid4

import pytest

from keycloak_bridge.domain.errors import (
    ConflictError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.users import (
    EXACT_ID,
    EXACT_ID_ATTRIBUTE,
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
    client_of,
    client_roles,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak
from keycloak_bridge.testing.realm_tools import AdminRealmTools

Tools = AdminRealmTools | InMemoryKeycloak

NOBODY = "00000000-0000-4000-8000-000000000000"
TERMS = InvitationTerms(("UPDATE_PASSWORD",), 3600)


class Service(NamedTuple):
    """A directory, and the administrator of the realm behind it."""

    directory: UserDirectory
    tools: Tools


def _in_memory() -> Service:
    keycloak = InMemoryKeycloak()
    return Service(keycloak, keycloak)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.integration)])
def service(request: pytest.FixtureRequest) -> Service:
    """The fake, or the realm that the fixtures `real_directory` and `real_realm_tools` work on."""
    if request.param == "memory":
        return _in_memory()
    return Service(
        request.getfixturevalue("real_directory"), request.getfixturevalue("real_realm_tools")
    )


@pytest.fixture
def directory(service: Service) -> UserDirectory:
    """The subject of the suite."""
    return service.directory


@pytest.fixture
def tools(service: Service) -> Tools:
    """What administrators do meanwhile."""
    return service.tools


@pytest.fixture
def user_id(directory: UserDirectory) -> str:
    """A new user."""
    return directory.create(a_user())


@pytest.fixture
def group(tools: Tools) -> str:
    """The path of a new group."""
    path = f"/{unique('group')}"
    tools.add_group(path)
    return path


def a_user(**fields: object) -> UserRepresentation:
    """Return a user whose names no other user has; the realm may be shared with other tests."""
    name = unique("user")
    user: dict[str, object] = {
        "username": name,
        "email": f"{name}@acme.example",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "enabled": True,
        "emailVerified": False,
        "attributes": {"userId": [name], "tenantId": ["t1"], "locale": ["de"]},
    }
    return cast("UserRepresentation", user | fields)


def filled(value: object, name: str) -> object:
    """Put a name into the place for it, if there is one."""
    return value.replace("{}", name) if isinstance(value, str) else value


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


def find(
    directory: UserDirectory,
    target: str,
    value: str,
    *kinds: str,
    identities: bool = False,
    sessions: bool = False,
) -> FoundUser | None:
    """Find by one criterion, with memberships of these kinds."""
    lookup = Lookup(frozenset(kinds), identities=identities, sessions=sessions)
    return directory.find([MatchCriterion(target, value)], lookup)


def seen(directory: UserDirectory, user_id: str, *kinds: str) -> FoundUser:
    """Return the user with its memberships of these kinds, its accounts and its sessions."""
    username = stored(directory, user_id)["username"]
    found = find(directory, "username", username, *kinds, identities=True, sessions=True)
    assert found is not None
    return found


def belongs_to(directory: UserDirectory, user_id: str, kind: str) -> frozenset[str]:
    """Return what the user belongs to of this kind."""
    return seen(directory, user_id, kind).memberships[kind]


def accounts(directory: UserDirectory, user_id: str) -> tuple[IdentityLink, ...]:
    """Return the user's accounts at identity providers."""
    return seen(directory, user_id).identities


def stored(directory: UserDirectory, user_id: str) -> UserRepresentation:
    """Return the user, who must be there."""
    user = directory.get(user_id)
    assert user is not None
    return user


# create, get, update


def test_created_user_reads_back_field_by_field(directory: UserDirectory) -> None:
    """Everything that was sent is stored."""
    user = a_user(requiredActions=["UPDATE_PASSWORD"])

    actual = stored(directory, directory.create(user))

    assert {key: actual.get(key) for key in user} == user


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"username": "MiXed-{}"}, {"username": "mixed-{}"}),
        ({"email": "MiXed-{}@ACME.example"}, {"email": "mixed-{}@acme.example"}),
        ({"enabled": None}, {"enabled": False}),
        (
            {"attributes": {"userId": ["u"], "shoeSize": ["42"]}},
            {"attributes": {"userId": ["u"]}},
        ),
        (
            {"firstName": "", "attributes": {"userId": [""], "tenantId": []}},
            {"firstName": None, "attributes": None},
        ),
        (
            {
                **dict.fromkeys(("email", "firstName", "lastName"), " \t"),
                "attributes": {"userId": ["u"], "department": ["  "], "tenantId": ["\n"]},
            },
            {
                **dict.fromkeys(("email", "firstName", "lastName")),
                "attributes": {"userId": ["u"]},
            },
        ),
        (
            {"requiredActions": ["NO_SUCH_ACTION", "UPDATE_PASSWORD"]},
            {"requiredActions": ["UPDATE_PASSWORD"]},
        ),
    ],
    ids=[
        "username",
        "email",
        "not-enabled",
        "unmanaged-attribute",
        "empty",
        "blank",
        "unknown-action",
    ],
)
def test_what_keycloak_makes_of_a_new_user(
    directory: UserDirectory, fields: dict[str, object], expected: dict[str, object]
) -> None:
    """Names in lower case, disabled unless said otherwise; the rest is dropped without an error: a plan must expect it."""
    name = uuid4().hex[:12]
    user = {key: filled(value, name) for key, value in a_user(**fields).items()}
    sent = {key: value for key, value in user.items() if value is not None}

    actual = stored(directory, directory.create(cast("UserRepresentation", sent)))

    assert {key: filled(value, name) for key, value in expected.items()} == {
        key: actual.get(key) for key in expected
    }


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        (lambda other: {"username": other["username"].upper()}, ["/user/username"]),
        (lambda other: {"email": other["email"].upper()}, ["/user/email"]),
        (lambda other: {"username": other["email"]}, ["/user/username"]),
        (lambda other: {"email": other["username"]}, None),
    ],
    ids=["username", "email", "username-is-anothers-email", "email-is-anothers-username"],
)
def test_create_with_what_is_taken_conflicts(
    directory: UserDirectory,
    change: Callable[[UserRepresentation], dict[str, object]],
    pointers: list[str] | None,
) -> None:
    """Names are compared without case, and both are names to log in with."""
    other = a_user() if pointers else a_user(username=f"{unique('name')}@acme.example")
    directory.create(other)

    with pytest.raises(KeycloakConflictError) as caught:
        directory.create(a_user(**change(other)))

    if pointers is not None:
        assert pointers == [violation.pointer for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"username": "ab"}, [("/user/username", "error-invalid-length")]),
        ({"username": "a b c"}, [("/user/username", "error-username-invalid-character")]),
        ({"username": "имя"}, [("/user/username", "error-username-invalid-character")]),
        ({"email": "not-an-address"}, [("/user/email", "error-invalid-email")]),
        ({"email": "ü@b.example"}, [("/user/email", "error-non-ascii-local-part-email")]),
        ({"firstName": "<b>"}, [("/user/firstName", "error-person-name-invalid-character")]),
        ({"lastName": "x" * 256}, [("/user/lastName", "error-invalid-length-too-long")]),
        (
            {"attributes": {"phoneNumber": ["1" * 33]}},
            [("/user/attributes/phoneNumber", "error-invalid-length-too-long")],
        ),
        (
            {"attributes": {"tenantId": ["a", "b"]}},
            [("/user/attributes/tenantId", "error-invalid-multivalued-size")],
        ),
        (
            {"username": "ab", "email": "not-an-address"},
            [("/user/username", "error-invalid-length"), ("/user/email", "error-invalid-email")],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_refused_user_names_every_broken_rule(
    directory: UserDirectory, fields: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    """A rejection points at the fields and carries Keycloak's keys, never a value."""
    with pytest.raises(KeycloakRejectedError) as caught:
        directory.create(a_user(**fields))

    actual = [(violation.pointer, violation.keyword) for violation in caught.value.violations]
    assert sorted(expected) == sorted(actual)
    assert "not-an-address" not in f"{caught.value} {caught.value.violations}"


@pytest.mark.parametrize("username", ["jd", "DOM\\j{}", "maria {}", "josé#{}"])
def test_a_realm_may_take_any_username(
    directory: UserDirectory, tools: Tools, username: str
) -> None:
    """Where its user profile has no validators for it."""
    user = a_user(username=username.replace("{}", uuid4().hex[:12]))

    with tools.usernames_unchecked():
        actual = stored(directory, directory.create(user))

    assert user["username"].lower() == actual["username"]


@pytest.mark.parametrize("local", ["o'donnell", "a&b", "plus+tag", "a/b#c!"])
def test_a_realm_may_take_the_address_as_the_username(
    directory: UserDirectory, tools: Tools, local: str
) -> None:
    """Whatever username is sent, or none; the characters that no other username has are fine in one that is an address."""
    email = f"{local}.{uuid4().hex[:12]}@acme.example"
    user = a_user(email=email, **({"username": email} if "+" not in local else {}))
    if local == "a&b":
        del user["username"]

    with tools.addresses_are_usernames():
        actual = stored(directory, directory.create(user))

    assert email == actual["email"] == actual["username"]


def test_user_without_username_is_refused(directory: UserDirectory) -> None:
    """The one thing that Keycloak requires."""
    with pytest.raises(KeycloakRejectedError) as caught:
        directory.create(UserRepresentation(enabled=True))

    assert [violation.pointer for violation in caught.value.violations] == ["/user/username"]


def test_update_erases_what_it_leaves_out(directory: UserDirectory) -> None:
    """Once attributes are given, absent names and attributes go; flags and actions stay."""
    user_id = directory.create(a_user(requiredActions=["UPDATE_PASSWORD"]))

    directory.update(user_id, {"attributes": {"userId": ["only"]}})

    actual = stored(directory, user_id)
    assert not {"email", "firstName", "lastName"} & actual.keys()
    assert actual["attributes"] == {"userId": ["only"]}
    assert (actual["enabled"], actual["requiredActions"]) == (True, ["UPDATE_PASSWORD"])


@pytest.mark.parametrize("erased", ["email", "firstName", "lastName", "tenantId"])
def test_update_erases_a_single_field(directory: UserDirectory, erased: str) -> None:
    """One that is absent from a body that is otherwise what was read."""
    before = stored(directory, directory.create(a_user()))
    attributes = {key: value for key, value in before["attributes"].items() if key != erased}
    after = {k: v for k, v in before.items() if k != erased} | {"attributes": attributes}

    directory.update(before["id"], cast("UserRepresentation", after))

    assert after == stored(directory, before["id"])


def test_username_changes_where_the_realm_lets_it(directory: UserDirectory, tools: Tools) -> None:
    """Off by default, and an update that tries is refused then."""
    before = stored(directory, directory.create(a_user()))
    name = unique("renamed")

    with tools.usernames_editable():
        directory.update(before["id"], {**before, "username": name})

    assert {**before, "username": name} == stored(directory, before["id"])


@pytest.mark.parametrize(
    "change", [{"firstName": "Augusta"}, {"requiredActions": ["VERIFY_EMAIL"]}]
)
def test_update_without_attributes_merges(
    directory: UserDirectory, change: UserRepresentation
) -> None:
    """Nothing else is lost; required actions are replaced, not added up."""
    before = stored(directory, directory.create(a_user(requiredActions=["UPDATE_PASSWORD"])))

    directory.update(before["id"], change)

    assert {**before, **change} == stored(directory, before["id"])


def test_update_to_a_taken_email_conflicts(directory: UserDirectory) -> None:
    """No other user's address is taken over."""
    other = a_user()
    directory.create(other)
    user = stored(directory, directory.create(a_user()))

    with pytest.raises(KeycloakConflictError):
        directory.update(user["id"], {**user, "email": other["email"]})


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [({"username": "another-name"}, "/user/username"), ({"email": "bad"}, "/user/email")],
)
def test_update_that_breaks_a_rule_is_refused(
    directory: UserDirectory, fields: UserRepresentation, pointer: str
) -> None:
    """Usernames cannot be changed in this realm; the rest is checked as for a new user."""
    user = stored(directory, directory.create(a_user()))

    with pytest.raises(KeycloakRejectedError) as caught:
        directory.update(user["id"], {**user, **fields})

    assert [pointer] == [violation.pointer for violation in caught.value.violations]


@pytest.mark.parametrize(
    "use",
    [
        lambda directory: directory.update(NOBODY, {"firstName": "Ada"}),
        lambda directory: directory.belongs_to(NOBODY, GROUPS),
        lambda directory: directory.has_credentials(NOBODY),
        lambda directory: directory.execute_actions_email(NOBODY, TERMS),
    ],
    ids=["update", "groups", "credentials", "mail"],
)
def test_a_user_that_does_not_exist_is_not_found(
    directory: UserDirectory, use: Callable[[UserDirectory], object]
) -> None:
    """It was deleted meanwhile, and the event is planned again; `get` asks and does not complain."""
    with pytest.raises(KeycloakNotFoundError) as caught:
        use(directory)

    assert caught.value.code == "not-found"
    assert directory.get(NOBODY) is None


@pytest.mark.parametrize("user_id", ["profile", "count", "..", ""])
def test_what_is_no_id_of_a_user_finds_none(directory: UserDirectory, user_id: str) -> None:
    """Keycloak has other things at such paths, and a forged invitation may name them."""
    assert directory.get(user_id) is None


# find


@pytest.mark.parametrize("target", ["username", "email"])
def test_found_by_name_without_case(directory: UserDirectory, target: str) -> None:
    """Username and e-mail are the same in any case."""
    user = a_user()
    user_id = directory.create(user)

    found = find(directory, target, str(user[target]).upper())  # type: ignore[literal-required]

    assert found == FoundUser(user_id, stored(directory, user_id), matched_by=target)


@pytest.mark.parametrize(
    "suffix",
    [
        "plain",
        "two words",
        "a:b",
        'say "so"',
        'a" userId:"b',
        "back\\slash",
        " padded ",
        "ünï-日本",
        "100%",
        "*",
        "a/b&c=d#e+f?",
        "tab\tbed",
    ],
)
def test_found_by_external_id_whatever_its_characters(
    directory: UserDirectory, suffix: str
) -> None:
    """An external id is user management's own; quoting is our business."""
    value = f"{unique('id')} {suffix}"
    user_id = directory.create(a_user(attributes={"userId": [value]}))

    found = find(directory, "attributes.userId", value)

    assert found == FoundUser(user_id, stored(directory, user_id), matched_by="attributes.userId")


@pytest.mark.parametrize("value", ["a\\\\b", 'a\\"b', "a\\", "half\ud800"])
def test_external_id_that_cannot_be_searched_is_refused(
    directory: UserDirectory, value: str
) -> None:
    """Keycloak would answer for another value, and the same event would make a second user."""
    with pytest.raises(KeycloakRejectedError) as caught:
        find(directory, "attributes.userId", value)

    assert caught.value.code == "unsearchable-value"


def test_unknown_target_is_a_programming_error(directory: UserDirectory) -> None:
    """Nothing may be searched by chance."""
    with pytest.raises(ValueError, match="firstName"):
        find(directory, "firstName", "Ada")


def test_external_ids_differ_by_case(directory: UserDirectory) -> None:
    """Keycloak compares attributes without case; the bridge must not."""
    value = unique("id")
    lower = directory.create(a_user(attributes={"userId": [f"{value}-x"]}))
    upper = directory.create(a_user(attributes={"userId": [f"{value}-X"]}))

    for user_id, wanted in ((lower, f"{value}-x"), (upper, f"{value}-X")):
        found = find(directory, "attributes.userId", wanted)
        assert found is not None
        assert user_id == found.user_id


def test_first_successful_criterion_wins(directory: UserDirectory) -> None:
    """Criteria are in order of precedence, and `matched_by` names the one that was met."""
    by_name, by_email = a_user(), a_user()
    directory.create(by_name)
    directory.create(by_email)

    found = directory.find(
        [
            MatchCriterion("attributes.userId", unique("none")),
            MatchCriterion("email", by_email["email"]),
            MatchCriterion("username", by_name["username"]),
        ],
    )

    assert found is not None
    assert ("email", by_email["username"]) == (found.matched_by, found.representation["username"])


@pytest.mark.parametrize("target", ["username", "email", "attributes.userId"])
@pytest.mark.parametrize("value", ["no-user-has-this", "", "{}", "{}*"])
def test_no_user_is_found_by_a_value_that_none_has(
    directory: UserDirectory, target: str, value: str
) -> None:
    """Not by an empty value, nor by a part of a name or a wildcard, which Keycloak's search knows."""
    user = a_user()
    directory.create(user)

    assert find(directory, target, value.replace("{}", user["username"][:-1])) is None


def test_nothing_more_is_found_unless_asked_for(directory: UserDirectory, group: str) -> None:
    """What costs a call is looked up on demand."""
    user = a_user(groups=[group])
    directory.create(user)

    found = find(directory, "username", user["username"])

    assert found is not None
    assert ({}, (), 0) == (found.memberships, found.identities, found.sessions)


def test_two_users_with_one_external_id_are_listed_and_ambiguous(directory: UserDirectory) -> None:
    """Keycloak keeps no attribute unique; compared exactly, and an empty one belongs to no user."""
    external_id = unique("Ext")
    for value in (external_id, external_id, external_id.lower(), f"{external_id}-more"):
        directory.create(a_user(attributes={"userId": [value]}))

    found = directory.having(MatchCriterion("attributes.userId", external_id))
    with pytest.raises(ConflictError) as caught:
        find(directory, "attributes.userId", external_id)

    assert [[external_id]] * 2 == [user["attributes"]["userId"] for user in found]
    assert len({user["id"] for user in found}) == 2
    assert () == tuple(directory.having(MatchCriterion("attributes.userId", "")))
    assert caught.value.code == "ambiguous"
    assert external_id not in str(caught.value)


def test_an_id_that_is_the_username_is_found_by_it_and_compared_exactly(
    directory: UserDirectory,
) -> None:
    """Keycloak lower-cases the username; whose id is written otherwise is another user, and nobody's user is none."""
    exact = unique("U/1 Ext").replace("/1 ", "-")
    user_id = directory.create(
        a_user(username=exact.lower(), attributes={EXACT_ID_ATTRIBUTE: [exact]})
    )
    nobodys = a_user(attributes={})
    directory.create(nobodys)

    found = find(directory, EXACT_ID, exact)
    carriers = directory.having(MatchCriterion(EXACT_ID, exact))
    with pytest.raises(ConflictError) as caught:
        find(directory, EXACT_ID, exact.upper())

    assert found is not None
    assert (user_id, [user_id]) == (found.user_id, [one["id"] for one in carriers])
    assert () == tuple(directory.having(MatchCriterion(EXACT_ID, exact.upper())))
    assert None is find(directory, EXACT_ID, nobodys["username"])
    assert None is find(directory, EXACT_ID, unique("u"))
    assert "id-differs-in-case" == caught.value.code
    assert exact.lower() not in str(caught.value).lower()


def test_users_of_another_external_id_are_no_candidates(
    directory: UserDirectory, tools: Tools
) -> None:
    """A family shares an address: found are the user itself, and one that is nobody's yet, not the others."""
    address = f"{unique('family')}@acme.example"

    def search(external_id: str) -> FoundUser | None:
        owner = MatchCriterion("attributes.userId", external_id)
        return directory.find([MatchCriterion("email", address)], owner=owner)

    with tools.addresses_shared():
        ids = [unique("u") for _ in range(2)]
        family = [
            directory.create(a_user(email=address, attributes={"userId": [one]})) for one in ids
        ]
        before = search(unique("u"))
        nobodys = directory.create(a_user(email=address, attributes={"tenantId": ["t1"]}))
        after = search(unique("u"))
        with pytest.raises(ConflictError) as caught:
            search(ids[0])
        directory.delete(nobodys)
        own = search(ids[0])

        assert before is None
        assert after is not None
        assert nobodys == after.user_id
        assert "ambiguous" == caught.value.code
        assert own is not None
        assert family[0] == own.user_id
        for one in family:
            directory.delete(one)


# memberships

KINDS = {
    "groups": GROUPS,
    "realm-roles": REALM_ROLES,
    "client-roles": "client-roles",
    "organizations": ORGANIZATIONS,
}


class Target(NamedTuple):
    """A kind of membership, and two things of that kind that the realm has."""

    kind: str
    names: tuple[str, str]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tools: Tools) -> Target:
    """Each kind in turn."""
    names = (unique("one"), unique("two"))
    if request.param == "groups":
        names = (f"/{names[0]}", f"/{names[1]}/inner")
    add = {
        "groups": tools.add_group,
        "realm-roles": tools.add_realm_role,
        "organizations": tools.add_organization,
    }
    if request.param == "client-roles":
        client_id = unique("client")
        tools.add_client(client_id, names)
        return Target(client_roles(client_id), names)
    for name in names:
        add[request.param](name)
    return Target(KINDS[request.param], names)


MISSING = {
    GROUPS: "group-not-found",
    REALM_ROLES: "role-not-found",
    client_roles("no-such-client"): "client-not-found",
    ORGANIZATIONS: "organization-not-found",
}


def test_user_joins_and_leaves(directory: UserDirectory, user_id: str, target: Target) -> None:
    """One of two, then both; each step again is harmless, and so is leaving what the realm does not have."""
    (one, two), at_first = target.names, belongs_to(directory, user_id, target.kind)

    def joined() -> frozenset[str]:
        return belongs_to(directory, user_id, target.kind) - at_first

    for names in ([one], [one, two], [one, two], []):
        directory.join(user_id, target.kind, names)
    assert {one, two} == joined()
    for names in ([one], []):
        directory.leave(user_id, target.kind, names)
    assert {two} == joined()
    for _ in range(2):
        directory.leave(user_id, target.kind, [one, two, unique("nope")])
    assert frozenset() == joined()


def test_a_user_that_does_not_exist_joins_nothing(directory: UserDirectory, target: Target) -> None:
    """It was deleted meanwhile, and the event is planned again; leaving is no error."""
    with pytest.raises(KeycloakNotFoundError):
        directory.join(NOBODY, target.kind, target.names)
    directory.leave(NOBODY, target.kind, target.names)

    assert directory.get(NOBODY) is None


@pytest.mark.parametrize("kind", MISSING)
def test_joining_what_is_missing_is_not_found(
    directory: UserDirectory, user_id: str, kind: str
) -> None:
    """The error has a code of its own and names what the realm lacks."""
    name = unique("nope")

    with pytest.raises(KeycloakNotFoundError) as caught:
        directory.join(user_id, kind, [name])

    assert MISSING[kind] == caught.value.code
    assert (client_of(kind) or name) in str(caught.value)


def test_missing_roles_are_named_and_nothing_is_granted(
    directory: UserDirectory, tools: Tools
) -> None:
    """A role that the realm or the client lacks is a mistake to be seen, not to be skipped."""
    known, missing, client_id = unique("role"), unique("nope"), unique("client")
    tools.add_realm_role(known)
    tools.add_client(client_id, [known])
    user_id = directory.create(a_user())

    for kind in (REALM_ROLES, client_roles(client_id)):
        with pytest.raises(KeycloakNotFoundError, match=missing) as caught:
            directory.join(user_id, kind, [known, missing])
        assert caught.value.code == "role-not-found"
        assert known not in belongs_to(directory, user_id, kind)


def test_roles_of_a_client_are_its_own(directory: UserDirectory, tools: Tools) -> None:
    """Two clients and the realm may all have a role of the same name."""
    role, clients = unique("role"), (unique("client"), unique("client"))
    tools.add_realm_role(role)
    for client_id in clients:
        tools.add_client(client_id, [role])
    user_id = directory.create(a_user())

    directory.join(user_id, client_roles(clients[0]), [role])

    assert frozenset({role}) == belongs_to(directory, user_id, client_roles(clients[0]))
    assert frozenset() == belongs_to(directory, user_id, client_roles(clients[1]))
    assert role not in belongs_to(directory, user_id, REALM_ROLES)


def test_missing_groups_are_named_as_given(directory: UserDirectory, tools: Tools) -> None:
    """With or without leading slash, and whatever the path contains; one that URLs would collapse names no group."""
    group = unique("group & Söhne 100%")
    tools.add_group(f"/{group}/inner")
    known = [group, f"/{group}", f"{group}/inner", f"/{group}/inner"]
    missing = [f"/{group}/outer", unique("nope"), f"/{group.upper()}", f"/{group}//inner"]
    missing += ["", "/", "..", "/../users", "."]

    assert tuple(missing) == directory.missing(GROUPS, [*known, *missing])


def test_missing_organizations_are_named_by_alias(directory: UserDirectory, tools: Tools) -> None:
    """In the very spelling; the name of an organization is not its alias."""
    alias = unique("Org")
    tools.add_organization(alias)
    missing = [alias.lower(), f"{alias} by name", alias[:-1], unique('a "b" \\'), "", "*"]

    assert tuple(missing) == directory.missing(ORGANIZATIONS, [alias, *missing])


@pytest.mark.parametrize("kind", [REALM_ROLES, client_roles("no-such-client")])
def test_no_role_is_said_to_be_missing(directory: UserDirectory, kind: str) -> None:
    """Without a user; one that the realm lacks is refused when a user is to have it."""
    assert () == directory.missing(kind, [unique("nope")])


def test_no_user_has_roles_of_a_missing_client(directory: UserDirectory, user_id: str) -> None:
    """A client that the realm lacks is no error."""
    assert set() == belongs_to(directory, user_id, client_roles("no-such-client"))


def test_group_is_known_as_soon_as_it_is_created(directory: UserDirectory, tools: Tools) -> None:
    """A missing group is looked up again each time: an administrator may just create it."""
    group = f"/{unique('group')}"
    before = directory.missing(GROUPS, [group])
    tools.add_group(group)

    assert ((group,), ()) == (before, directory.missing(GROUPS, [group]))


@pytest.mark.parametrize("prefix", ["", "/", "//"])
def test_user_is_created_into_its_groups(
    directory: UserDirectory, tools: Tools, prefix: str
) -> None:
    """Creating and joining are one call."""
    group = unique("group")
    tools.add_group(f"/{group}/inner")
    user_id = directory.create(a_user(groups=[f"{prefix}{group}", f"{prefix}{group}/inner"]))

    assert {f"/{group}", f"/{group}/inner"} == belongs_to(directory, user_id, GROUPS)


def test_create_into_a_missing_group_stores_nothing(directory: UserDirectory) -> None:
    """Keycloak answers 500, so the caller looks the groups up before."""
    user = a_user(groups=[unique("nope")])

    with pytest.raises(KeycloakUnavailableError):
        directory.create(user)

    assert find(directory, "username", user["username"]) is None


def test_group_is_joined_and_left_by_any_spelling_of_its_path(
    directory: UserDirectory, user_id: str, group: str
) -> None:
    """The leading slash may be missing."""
    directory.join(user_id, GROUPS, [group.lstrip("/")])
    joined = belongs_to(directory, user_id, GROUPS)
    directory.leave(user_id, GROUPS, [group.lstrip("/")])

    assert (frozenset({group}), frozenset()) == (joined, belongs_to(directory, user_id, GROUPS))


def test_a_deleted_group_is_missing_and_left_by_its_new_id(
    directory: UserDirectory, tools: Tools, user_id: str, group: str
) -> None:
    """What is remembered of a group does not outlive the first refusal."""
    directory.join(user_id, GROUPS, [group])
    tools.delete_group(group)
    tools.add_group(group)
    other_id = directory.create(a_user(groups=[group]))
    directory.leave(other_id, GROUPS, [group])
    assert frozenset() == belongs_to(directory, other_id, GROUPS)

    tools.delete_group(group)
    with pytest.raises(KeycloakNotFoundError):
        directory.join(user_id, GROUPS, [group])
    assert (group,) == directory.missing(GROUPS, [group])


def test_group_is_created_with_those_above_it(directory: UserDirectory) -> None:
    """And once more without an error; below one that is there, too."""
    top = unique("group & Söhne")
    for path in (f"/{top}/middle/inner", f"{top}/middle/inner", f"/{top}/other"):
        directory.create_group(path)

    known = [f"/{top}", f"/{top}/middle", f"/{top}/middle/inner", f"/{top}/other"]
    assert () == directory.missing(GROUPS, known)


UNSEEN = ["/new/a\u200bb", "/new/a\x01b", "/new/a\nb", "/new/sub ", "/new/\u3164"]
"""Paths of groups that look like others."""


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/../users",
        "a//b",
        "/" + "x" * 256,
        "/new/ /sub",
        "/new~/one/sub",
        "/new/\0",
        *UNSEEN,
    ],
)
def test_what_can_be_no_group_is_not_created(directory: UserDirectory, path: str) -> None:
    """A path that could not be found again, or not be told from another; nothing above it is created either."""
    with pytest.raises(KeycloakNotFoundError) as caught:
        directory.create_group(path)

    above = [path, "/new", "/new~"]
    assert ("group-not-found", tuple(above)) == (
        caught.value.code,
        directory.missing(GROUPS, above),
    )


def test_organizations_that_are_switched_off_are_said_to_be(
    directory: UserDirectory, tools: Tools, user_id: str
) -> None:
    """Every event of such a mapping would fail until the realm or the mapping is corrected."""
    alias = unique("org")
    tools.add_organization(alias)
    directory.join(user_id, ORGANIZATIONS, [alias])
    calls: list[Callable[[], object]] = [
        lambda: belongs_to(directory, user_id, ORGANIZATIONS),
        lambda: directory.missing(ORGANIZATIONS, [unique("nope")]),
        lambda: directory.join(user_id, ORGANIZATIONS, [alias]),
    ]

    with tools.organizations_off():
        for call in calls:
            with pytest.raises(KeycloakAuthError) as caught:
                call()
            assert caught.value.code == "organizations-disabled"

    assert frozenset({alias}) == belongs_to(directory, user_id, ORGANIZATIONS)


# identities


@pytest.fixture
def alias(tools: Tools) -> str:
    """An identity provider that the realm has."""
    name = unique("idp")
    tools.add_identity_provider(name)
    return name


def test_user_is_linked_and_unlinked(directory: UserDirectory, tools: Tools, alias: str) -> None:
    """With and without the name that it has there; links of several identity providers stay apart, ordered by alias."""
    other = f"a-{unique('idp')}"
    tools.add_identity_provider(other)
    named, nameless = directory.create(a_user()), directory.create(a_user())
    links = (IdentityLink(other, "same"), IdentityLink(alias, "Ext 1", "ada"))
    for link in reversed(links):
        directory.link_identity(named, link)
    directory.link_identity(nameless, IdentityLink(alias, "same"))
    linked = accounts(directory, named)
    for each in (alias, alias, unique("nope")):  # harmless where there is no link
        directory.unlink_identity(named, each)

    assert (links, links[:1]) == (linked, accounts(directory, named))
    assert (IdentityLink(alias, "same"),) == accounts(directory, nameless)


def test_one_link_takes_the_place_of_another(
    directory: UserDirectory, user_id: str, alias: str
) -> None:
    """Again, with another account, and with another name."""
    links = (
        IdentityLink(alias, "first", "ada"),
        IdentityLink(alias, "second", "ada"),
        IdentityLink(alias, "second", "augusta"),
    )
    seen = []
    for link in links:
        for _ in range(2):
            directory.link_identity(user_id, link)
            seen.append(accounts(directory, user_id))

    assert [(link,) for link in links for _ in range(2)] == seen


def test_unknown_identity_provider_is_not_found_each_time(
    directory: UserDirectory, tools: Tools, user_id: str
) -> None:
    """Keycloak would store the link and hide it; none is left behind for the day when the alias is there."""
    alias = unique("idp")
    for _ in range(2):
        with pytest.raises(KeycloakNotFoundError, match=alias) as caught:
            directory.link_identity(user_id, IdentityLink(alias, "ada"))
        assert caught.value.code == "identity-provider-not-found"
    tools.add_identity_provider(alias)

    assert () == accounts(directory, user_id)
    assert directory.identity_owner(alias, "ada") is None


def test_a_user_that_does_not_exist_is_not_linked(directory: UserDirectory, alias: str) -> None:
    """It was deleted meanwhile, and the event is planned again; it has no link left."""
    with pytest.raises(KeycloakNotFoundError) as caught:
        directory.link_identity(NOBODY, IdentityLink(alias, "ada"))
    directory.unlink_identity(NOBODY, alias)

    assert caught.value.code == "not-found"


def test_owner_of_an_account_is_found_exactly(
    directory: UserDirectory, user_id: str, alias: str
) -> None:
    """No other spelling, no pattern, and not by one half of it."""
    directory.link_identity(user_id, IdentityLink(alias, "Ext 1"))
    nobodys = ["ext 1", "Ext", "Ext%", "*", ""]

    assert user_id == directory.identity_owner(alias, "Ext 1")
    assert [None] * 5 == [directory.identity_owner(alias, each) for each in nobodys]
    assert directory.identity_owner(unique("nope"), "Ext 1") is None
    assert directory.identity_owner("", "Ext 1") is None


def test_account_of_two_users_is_taken(directory: UserDirectory, alias: str) -> None:
    """Keycloak links it to both without an error, and then no log-in by it works."""
    account = IdentityLink(alias, "shared")
    for _ in range(2):
        directory.link_identity(directory.create(a_user()), account)

    with pytest.raises(ConflictError) as caught:
        directory.identity_owner(alias, "shared")

    assert caught.value.code == "identity-taken"


# sessions, and the end


def test_sessions_are_counted_and_ended(
    directory: UserDirectory, tools: Tools, user_id: str
) -> None:
    """Those of this user only; a user without sessions, or none at all, is no error."""
    other_id = directory.create(a_user())
    directory.end_sessions(NOBODY)
    directory.end_sessions(user_id)
    before = seen(directory, user_id).sessions
    for each in (user_id, user_id, other_id):
        tools.log_in(each)
    during = seen(directory, user_id).sessions
    directory.end_sessions(user_id)

    assert (0, 2, 0) == (before, during, seen(directory, user_id).sessions)
    assert seen(directory, other_id).sessions == 1


def test_deleted_user_is_gone_with_all_it_held(
    directory: UserDirectory, tools: Tools, alias: str
) -> None:
    """Twice is harmless; its names are free again."""
    user = a_user()
    user_id = directory.create(user)
    directory.link_identity(user_id, IdentityLink(alias, "ada"))
    tools.log_in(user_id)
    for _ in range(2):
        directory.delete(user_id)

    assert directory.get(user_id) is None
    assert directory.identity_owner(alias, "ada") is None
    assert user_id != directory.create(user)


# credentials and invitations


def test_credentials_are_seen_once_set(
    directory: UserDirectory, user_id: str, tools: Tools
) -> None:
    """A user with a password needs no invitation."""
    before = directory.has_credentials(user_id)
    tools.set_password(user_id)

    assert (before, directory.has_credentials(user_id)) == (False, True)


@pytest.mark.parametrize(
    "terms",
    [
        TERMS,
        InvitationTerms(("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 60, "demo-app"),
        InvitationTerms(("UPDATE_PASSWORD",), 60, "demo-app", "http://localhost:8000/welcome"),
    ],
    ids=["plain", "client", "redirect"],
)
def test_link_is_mailed(
    directory: UserDirectory, tools: Tools, user_id: str, terms: InvitationTerms
) -> None:
    """One call, one mail."""
    directory.execute_actions_email(user_id, terms)

    assert tools.mails_sent(user_id) == 1


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (InvitationTerms((), 60), "no-actions"),
        (InvitationTerms(("NO_SUCH_ACTION",), 60), "unknown-action"),
        (InvitationTerms(("UPDATE_PASSWORD",), 60, "no-such-client"), "unknown-client"),
        (
            InvitationTerms(("UPDATE_PASSWORD",), 60, "demo-app", "https://evil.example/"),
            "invalid-redirect",
        ),
        (
            InvitationTerms(("UPDATE_PASSWORD",), 60, None, "http://localhost:8000/"),
            "invalid-redirect",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_terms_that_keycloak_refuses_mail_nothing(
    directory: UserDirectory, user_id: str, tools: Tools, terms: InvitationTerms, code: str
) -> None:
    """Each mistake of the terms has its own code."""
    with pytest.raises(KeycloakRejectedError) as caught:
        directory.execute_actions_email(user_id, terms)

    assert (code, 0) == (caught.value.code, tools.mails_sent(user_id))


@pytest.mark.parametrize(
    ("fields", "code"), [({"enabled": False}, "user-disabled"), ({"email": ""}, "no-email")]
)
def test_user_who_cannot_be_mailed_is_refused(
    directory: UserDirectory, fields: dict[str, object], code: str
) -> None:
    """The code says what the user lacks."""
    user_id = directory.create(a_user(**fields))

    with pytest.raises(KeycloakRejectedError) as caught:
        directory.execute_actions_email(user_id, TERMS)

    assert caught.value.code == code


def test_mails_can_be_looked_up(directory: UserDirectory) -> None:
    """The shipped realm records them and lets the bridge read that."""
    assert directory.can_look_up_mails() is True


def test_a_mail_is_on_record_once_it_was_sent(directory: UserDirectory, user_id: str) -> None:
    """Looked up right away, for this user only; the time narrows the search, and never so far that the mail is missed."""
    other, since = directory.create(a_user()), datetime.now(UTC)
    before = [directory.mail_recorded(user_id, at) for at in (None, since)]
    directory.execute_actions_email(user_id, TERMS)

    assert [False, False] == before
    assert [True, True] == [directory.mail_recorded(user_id, at) for at in (None, since)]
    assert directory.mail_recorded(other) is False


def test_a_mail_that_failed_is_not_on_record(
    directory: UserDirectory, tools: Tools, user_id: str
) -> None:
    """Neither one that Keycloak refused, nor one that the SMTP server did not take; that one can be sent later."""
    disabled = directory.create(a_user(enabled=False))
    with tools.mail_outage(), pytest.raises(MailDeliveryError):
        directory.execute_actions_email(user_id, TERMS)
    with pytest.raises(KeycloakRejectedError):
        directory.execute_actions_email(disabled, TERMS)
    assert (False, False) == (directory.mail_recorded(user_id), directory.mail_recorded(disabled))

    directory.execute_actions_email(user_id, TERMS)
    assert tools.mails_sent(user_id) == 1


def test_the_record_outlives_its_user(directory: UserDirectory, user_id: str, tools: Tools) -> None:
    """One that is gone, but not one that never was."""
    directory.execute_actions_email(user_id, TERMS)
    tools.delete_user(user_id)

    assert (True, False) == (directory.mail_recorded(user_id), directory.mail_recorded(NOBODY))


@pytest.mark.parametrize("pattern", ["*", "%", "_" * 36, ""])
def test_no_pattern_finds_another_users_mail(directory: UserDirectory, pattern: str) -> None:
    """Keycloak's search for paths knows wildcards; finding does not."""
    directory.execute_actions_email(directory.create(a_user()), TERMS)

    assert directory.mail_recorded(pattern) is False
