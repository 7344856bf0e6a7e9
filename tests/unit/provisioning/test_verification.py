"""What Keycloak did not store is found by reading back, always or in samples."""

import pytest

from keycloak_bridge.domain.errors import DroppedError, KeycloakNotFoundError
from keycloak_bridge.domain.operations import Change, CreateUser, UpdateUser
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.provisioning.verification import (
    Verification,
    VerificationPolicy,
    dropped_of_changes,
    dropped_of_new,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SENT = UserRepresentation(
    username="ada",
    email="ada@acme.example",
    firstName="Ada",
    enabled=True,
    requiredActions=["CONFIGURE_TOTP"],
    groups=["/staff"],
    attributes={
        "userId": ["u-1"],
        "team": ["b", "a"],
        "bridgeEventId": ["event-1"],
        "bridgeInvitation": ["due:event-1"],
    },
)
STORED: UserRepresentation = {
    **SENT,
    "id": "kc-1",
    "createdTimestamp": 7,
    "emailVerified": False,
    "attributes": {**SENT["attributes"], "team": ["a", "b"]},
}
del STORED["groups"]  # Keycloak reports them elsewhere


def but(user: UserRepresentation, **attributes: list[str]) -> UserRepresentation:
    """Return the user with other attributes; an empty one is taken away."""
    merged = {**user["attributes"], **attributes}
    return {**user, "attributes": {name: values for name, values in merged.items() if values}}


FEDERATED = UserRepresentation(**{**STORED, "firstName": "Ada Maria", "federationLink": "ldap-1"})


NEW: dict[str, tuple[UserRepresentation, tuple[str, ...]]] = {
    "all stored": (STORED, ()),
    "without an attribute": (but(STORED, team=[]), ("attributes.team",)),
    "with part of an attribute": (but(STORED, team=["a"]), ("attributes.team",)),
    "without the external id": (but(STORED, userId=[]), ("attributes.userId",)),
    "mailed by another process meanwhile": (
        but(STORED, team=[], bridgeInvitation=["sending-until:5:event-1"]),
        (),
    ),
    "without the mark": (but(STORED, bridgeInvitation=[]), ("attributes.bridgeInvitation",)),
    "without the action": ({**STORED, "requiredActions": []}, ("requiredActions",)),
    "with the realm's default actions": (
        {**STORED, "requiredActions": ["UPDATE_PROFILE", "CONFIGURE_TOTP"]},
        (),
    ),
    "another username": ({**STORED, "username": "eve"}, ("username",)),
    "the e-mail address as username": ({**STORED, "username": "ada@acme.example"}, ()),
    "federated": (FEDERATED, ()),
    "federated, without the external id": (but(FEDERATED, userId=[]), ("attributes.userId",)),
    "another name": ({**STORED, "firstName": "Eve"}, ("firstName",)),
    "evened out": ({**STORED, "username": "Ada", "email": "ADA@acme.example"}, ()),
    "trimmed": (but({**STORED, "firstName": " Ada "}, team=["b ", "a"]), ()),
    "written by a later event": (but(STORED, bridgeEventId=["event-2"], team=[]), ()),
    "without the event's id": (but(STORED, bridgeEventId=[]), ("attributes.bridgeEventId",)),
}


@pytest.mark.parametrize(("stored", "expected"), NEW.values(), ids=NEW)
def test_what_a_new_user_lacks_is_named(
    stored: UserRepresentation, expected: tuple[str, ...]
) -> None:
    """What Keycloak evens out by itself does not count, nor what a later event wrote."""
    assert expected == dropped_of_new(SENT, stored)


CHANGED: dict[str, tuple[Change, UserRepresentation, tuple[str, ...]]] = {
    "stored": (Change("firstName", "A", "Ada"), STORED, ()),
    "not stored": (
        Change("attributes.department", None, ["Sales"]),
        STORED,
        ("attributes.department",),
    ),
    "erased": (Change("lastName", "King", None), STORED, ()),
    "not erased": (Change("email", "ada@acme.example", None), STORED, ("email",)),
    "attribute not erased": (
        Change("attributes.team", ["a", "b"], None),
        STORED,
        ("attributes.team",),
    ),
    "not disabled": (Change("enabled", True, False), STORED, ("enabled",)),
    "disabled": (Change("enabled", True, False), {**STORED, "enabled": False}, ()),
    "the mark, which the invite stage has moved on": (
        Change("attributes.bridgeInvitation", None, ["due:event-1"]),
        but(STORED, bridgeInvitation=["sent:event-1"]),
        (),
    ),
    "an action that the user did meanwhile": (
        Change("requiredActions", [], ["UPDATE_PASSWORD"]),
        {**STORED, "requiredActions": []},
        (),
    ),
}


@pytest.mark.parametrize(("change", "stored", "expected"), CHANGED.values(), ids=CHANGED)
def test_what_a_change_did_not_reach_is_named(
    change: Change, stored: UserRepresentation, expected: tuple[str, ...]
) -> None:
    """Only what was changed is judged: the rest may have been changed by others."""
    assert expected == dropped_of_changes(SENT, (change,), stored)


ACTIONS: dict[str, tuple[list[str], list[str], str]] = {
    "no such action": (
        ["ACCEPT_MY_TERMS", "CONFIGURE_TOTP"],
        ["/user/requiredActions/0"],
        "no required action ACCEPT_MY_TERMS",
    ),
    "its name spelt otherwise": (
        ["CONFIGURE_TOTP", "webauthn_register"],
        ["/user/requiredActions/1"],
        "no required action webauthn_register",
    ),
    "nothing that is fit to be shown": (
        ["ada@acme.example", "Ada Lovelace"],
        ["/user/requiredActions/0", "/user/requiredActions/1"],
        "no required action such as the event's",
    ),
}


@pytest.mark.parametrize(("actions", "pointers", "said"), ACTIONS.values(), ids=ACTIONS)
def test_a_required_action_that_keycloak_lacks_is_named(
    actions: list[str], pointers: list[str], said: str
) -> None:
    """What to do is about the action, not about the user profile."""
    keycloak = InMemoryKeycloak()
    user = UserRepresentation(username="ada", enabled=True, requiredActions=actions)
    user_id = keycloak.add_user(user)

    with pytest.raises(DroppedError) as caught:
        Verification(keycloak, ALWAYS).created(user_id, CreateUser(user), keycloak.users())

    remedy = str(caught.value.remedy)
    assert pointers == [one.pointer for one in caught.value.violations]
    assert said in remedy
    assert "user profile" not in remedy
    assert "ada" not in remedy.lower()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"locale": ["de"]}, ["internationalization"]),
        ({"team": ["x"]}, ["attribute team", "user profile"]),
        ({"locale": ["de"], "team": ["x"]}, ["internationalization", "attribute team"]),
    ],
)
def test_what_to_do_is_about_what_is_missing(
    attributes: dict[str, list[str]], said: list[str]
) -> None:
    """An attribute is named; the language is not a matter of the user profile."""
    user = UserRepresentation(username="ada", enabled=True, attributes=attributes)
    stored = UserRepresentation(username="ada", enabled=True, id="kc-1")

    with pytest.raises(DroppedError) as caught:
        Verification(InMemoryKeycloak(), ALWAYS).created("kc-1", CreateUser(user), [stored])

    assert all(one in str(caught.value.remedy) for one in said)


def test_an_action_is_looked_for_until_it_was_stored_once() -> None:
    """Keycloak drops one that it does not know without a word, so that a sample is not enough."""
    keycloak = InMemoryKeycloak()
    sampled = Verification(keycloak, VerificationPolicy("sampled", share_percent=0, first=0))
    wants = [sampled.wants("event-1"), sampled.wants("event-1", ["CONFIGURE_TOTP"])]
    user = UserRepresentation(username="ada", enabled=True, requiredActions=["CONFIGURE_TOTP"])
    user_id = keycloak.add_user(user)

    sampled.created(user_id, CreateUser(user), keycloak.users())

    wants.append(sampled.wants("event-1", ["CONFIGURE_TOTP"]))
    wants.append(sampled.wants("event-1", ["CONFIGURE_TOTP", "NO_SUCH_ACTION"]))
    off = Verification(keycloak, VerificationPolicy("off"))
    assert [False, True, False, True, False] == [*wants, off.wants("event-1", ["NO_SUCH_ACTION"])]


# which users are read back

USER = UserRepresentation(
    username="ada", enabled=True, attributes={"userId": ["u-1"], "team": ["x"]}
)
ALWAYS = VerificationPolicy("always")


def test_a_user_without_its_external_id_is_read_by_itself() -> None:
    """No user has the external id, since the profile does not know that attribute."""
    keycloak = InMemoryKeycloak(managed={"team": 10})
    user_id = keycloak.add_user(USER)

    with pytest.raises(DroppedError) as caught:
        Verification(keycloak, ALWAYS).created(user_id, CreateUser(USER), ())

    assert ["/user/attributes/userId"] == [one.pointer for one in caught.value.violations]


def test_a_user_that_is_gone_is_planned_again() -> None:
    """It was deleted between the write and the check."""
    with pytest.raises(KeycloakNotFoundError):
        Verification(InMemoryKeycloak(), ALWAYS).updated("kc-1", UpdateUser(USER, ()))


@pytest.mark.parametrize(("mode", "expected"), [("always", True), ("off", False)])
def test_the_mode_decides(mode: str, expected: bool) -> None:
    """Whatever the share is."""
    policy = VerificationPolicy(mode, share_percent=50)

    assert {expected} == {
        Verification(InMemoryKeycloak(), policy).wants(str(number)) for number in range(50)
    }


def test_a_sample_is_the_first_ones_and_then_its_share() -> None:
    """The first until so many agree; the same few of a thousand in any process."""
    keycloak = InMemoryKeycloak()
    whole = UserRepresentation(username="eve", enabled=True, attributes={"userId": ["u-2"]})
    user_id = keycloak.add_user(whole)
    one, other = (
        Verification(keycloak, VerificationPolicy("sampled", share_percent=1, first=first))
        for first in (3, 0)
    )
    wanted = [one.wants("event-1")]
    for _ in range(3):
        wanted.append(one.wants("event-1"))
        one.created(user_id, CreateUser(whole), keycloak.users())
    wanted.append(one.wants("event-1"))
    sampled = [number for number in range(10_000) if one.wants(f"event-{number}")]

    assert [True, True, True, True, False] == wanted
    assert 50 < len(sampled) < 200
    assert sampled == [number for number in range(10_000) if other.wants(f"event-{number}")]


def test_a_difference_makes_the_sample_whole_again() -> None:
    """Where one lacks something, the next ones may as well."""
    keycloak = InMemoryKeycloak()
    user_id = keycloak.add_user(USER)
    whole = UserRepresentation(username="ada", attributes={"userId": ["u-1"]})
    sampled = Verification(keycloak, VerificationPolicy("sampled", share_percent=0, first=1))
    sampled.created(user_id, CreateUser(whole), keycloak.users())
    before = sampled.wants("event-1")
    with pytest.raises(DroppedError):
        sampled.created(user_id, CreateUser(USER), keycloak.users())

    assert (False, True) == (before, sampled.wants("event-1"))
