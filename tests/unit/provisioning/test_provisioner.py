"""One event after the other changes one user: found, planned, written once, and nothing lost when something fails."""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from samples import OWN_USERS, TERMS, a_desired_user, an_event

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    ConflictError,
    DroppedError,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MappingError,
    UnknownUserError,
    Violation,
)
from keycloak_bridge.domain.events import Invitation, Result, event_id_in
from keycloak_bridge.domain.operations import Plan
from keycloak_bridge.domain.ports import NOTHING_MORE, Acknowledgement
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    DesiredUser,
    EmailChange,
    FoundUser,
    IdentityLink,
    Intent,
    LinkPolicy,
    Lookup,
    MatchCriterion,
    Membership,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    mark_of,
    mark_text,
    with_invitation_mark,
)
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak
from keycloak_bridge.threads.named_locks import UserLocks

WRITES = {"create", "update", "join", "leave", "create_group"}


class Harness:
    """A provisioner over a Keycloak in memory that keeps the invitations."""

    def __init__(
        self,
        keycloak: InMemoryKeycloak | None = None,
        mode: str = "sampled",
        locks: UserLocks | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.keycloak = keycloak or InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.invitations: list[Invitation] = []
        self.steps: list[tuple[str, object]] = []
        self.provisioner = Provisioner(
            self.keycloak,
            self._invite,
            self.clock,
            policy=ProvisionPolicy(frozenset({"admin"}), VerificationPolicy(mode)),
            locks=locks,
            trace=lambda step, detail: self.steps.append((step, detail)),
        )

    def provision(self, desired: DesiredUser | OutOfScope, day: int = 1) -> Result:
        """Apply `event-<day>`, which is of that day."""
        return self.provisioner.provision(an_event(f"event-{day}", day=day), desired).result

    def create(self, *, one_partition: bool = False) -> Result:
        """Apply the first event, of which another partition may have a part."""
        return self.provisioner.provision(
            an_event(), a_desired_user(), one_partition=one_partition
        ).result

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        self.invitations.append(invitation)
        return ()

    @property
    def writes(self) -> list[str]:
        return [call for call in self.keycloak.calls if call in WRITES]


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_an_email_that_is_another_users_name_is_a_conflict(harness: Harness) -> None:
    """Keycloak answers 409 for a user that no search by username or e-mail finds."""
    harness.keycloak.add_user(UserRepresentation(username="ada@acme.example", enabled=True))
    refused = KeycloakConflictError("409", violations=[Violation("/user/email", "unique", "taken")])
    harness.keycloak.fail("create", refused, times=2)

    with pytest.raises(ConflictError) as caught:
        harness.provision(a_desired_user())

    assert refused.violations == caught.value.violations


def test_a_user_that_vanishes_meanwhile_is_planned_again(harness: Harness) -> None:
    """A 404 on update means that the user was deleted: it is created again."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.fail("update", KeycloakNotFoundError("gone"))
    moved = a_desired_user(email="new@acme.example")

    result = harness.provision(moved, 2)

    assert ("updated", user["id"]) == (result.action, result.keycloak_id)


REFUSED: dict[str, tuple[DesiredUser, str, list[str]]] = {
    # Keycloak would answer a missing group with a bare 500
    "group": (a_desired_user(groups=("/staff", "/nope")), "group-missing", ["/user/groups/1"]),
    # one group of several that may be created cannot be: none is, nor any above it
    "group to create": (
        replace(
            a_desired_user(),
            memberships=(
                Membership(GROUPS, ("/made", "/new~/nope/sub", "/new/ "), create_missing=True),
            ),
        ),
        "group-missing",
        ["/user/groups/1", "/user/groups/2"],
    ),
    "group that nobody could tell from another": (
        replace(
            a_desired_user(),
            memberships=(Membership(GROUPS, ("/nope", "/sta\u200bff"), create_missing=True),),
        ),
        "group-missing",
        ["/user/groups/1"],
    ),
    "organization": (
        replace(a_desired_user(), memberships=(Membership(ORGANIZATIONS, ("acme", "nope")),)),
        "organization-missing",
        ["/user/organizations/1"],
    ),
    # Keycloak would link one account to two users
    "account": (
        replace(a_desired_user(), identities=(IdentityLink("corp", "nope@corp"),)),
        "identity-taken",
        ["/user/identities/corp"],
    ),
}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(("desired", "code", "pointers"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_written(
    harness: Harness, desired: DesiredUser, code: str, pointers: list[str], existing: bool
) -> None:
    """The error points at the place in the user, and does not repeat what the event says."""
    keycloak = harness.keycloak
    keycloak.add_organization("acme")
    keycloak.add_identity_provider("corp")
    owner = keycloak.add_user(UserRepresentation(username="owner", enabled=True))
    keycloak.link_identity(owner, IdentityLink("corp", "nope@corp"))
    if existing:
        harness.provision(a_desired_user())
    keycloak.calls.clear()

    with pytest.raises(BridgeError) as caught:
        harness.provision(desired, 2)

    assert (code, pointers, []) == (
        caught.value.code,
        [violation.pointer for violation in caught.value.violations],
        harness.writes,
    )
    assert "nope" not in caught.value.message


def in_new_groups(desired: DesiredUser) -> DesiredUser:
    """Return the user, who shall be in a group of the realm and in one that may be created."""
    paths = ("/staff", "/new/sub")
    others = tuple(one for one in desired.memberships if one.kind != GROUPS)
    joins = Membership(GROUPS, paths, create_missing=True)
    return replace(desired, memberships=(joins, *others))


def with_field(desired: DesiredUser, **fields: Any) -> DesiredUser:
    """Return the user with these fields."""
    user = {**desired.representation, **fields}
    return replace(desired, representation=cast("UserRepresentation", user))


REFUSED_BY_KEYCLOAK: dict[str, tuple[DesiredUser, str]] = {
    "name": (with_field(a_desired_user(), firstName="a<b"), "keycloak-rejected"),
    "username": (with_field(a_desired_user(), username="x y"), "keycloak-rejected"),
    "address of another user": (a_desired_user(email="taken@acme.example"), "conflict"),
    "role": (a_desired_user(realm_roles=("nope",)), "role-not-found"),
    "identity provider": (
        replace(a_desired_user(), identities=(IdentityLink("nope", "ada"),)),
        "identity-provider-not-found",
    ),
    "name, and the user is disabled": (
        with_field(a_desired_user(), firstName="a<b", enabled=False),
        "keycloak-rejected",
    ),
}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(("desired", "code"), REFUSED_BY_KEYCLOAK.values(), ids=REFUSED_BY_KEYCLOAK)
def test_no_group_is_created_for_an_event_that_keycloak_refuses(
    harness: Harness, desired: DesiredUser, code: str, existing: bool
) -> None:
    """A dead letter leaves no group behind, whatever of its user is refused."""
    keycloak = harness.keycloak
    keycloak.add_user({"username": "other", "email": "taken@acme.example", "enabled": True})
    if existing:
        harness.provision(a_desired_user())

    with keycloak.usernames_editable(), pytest.raises(BridgeError) as caught:
        harness.provision(in_new_groups(desired), 2)

    assert (code, True) == (caught.value.code, caught.value.is_final)
    assert ("/new", "/new/sub") == keycloak.missing(GROUPS, ("/new", "/new/sub"))


@pytest.mark.parametrize("existing", [False, True])
def test_a_new_group_is_created_once_its_user_is_written(harness: Harness, existing: bool) -> None:
    """Before its mail, with one call for each group and one to join them."""
    if existing:
        harness.provision(a_desired_user())
    harness.keycloak.calls.clear()
    seen: list[frozenset[str]] = []

    def invite(invitation: Invitation) -> Sequence[Acknowledgement]:
        seen.append(harness.keycloak.groups_of(invitation.keycloak_id))
        return ()

    bridge = Provisioner(harness.keycloak, invite, harness.clock, policy=ProvisionPolicy())
    desired = in_new_groups(a_desired_user(email="new@acme.example"))
    result = bridge.provision(an_event("event-2", day=2), desired).result

    written = ["update", "join"] if existing else ["create"]
    assert [*written, "create_group", "join"] == harness.writes
    assert [frozenset({"/staff", "/new/sub"})] == seen
    assert "groups" in result.changed


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["create", "create_group", "join"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_new_group_that_was_not_joined_is_joined_by_the_redelivery(
    harness: Harness, step: str, after_effect: bool, existing: bool
) -> None:
    """No group that a user wants is lost where the process ends in between."""
    if existing:
        harness.provision(a_desired_user())
    harness.keycloak.fail(step, KeycloakUnavailableError("lost"), after_effect=after_effect)

    with contextlib.suppress(KeycloakUnavailableError):
        harness.provision(in_new_groups(a_desired_user()), 2)
    harness.keycloak.recover()
    harness.provision(in_new_groups(a_desired_user()), 2)

    (user,) = harness.keycloak.users()
    assert {"/staff", "/new/sub"} == harness.keycloak.groups_of(user["id"])


def test_a_user_of_a_new_group_goes_into_no_batch(harness: Harness) -> None:
    """What the batch finds out of the user comes after its groups: it is written by itself."""
    desired = in_new_groups(a_desired_user())

    assert harness.provisioner.draft(an_event(), desired) is None
    assert ("/new/sub",) == harness.keycloak.missing(GROUPS, ("/new/sub",))
    harness.provision(desired)
    assert harness.provisioner.draft(an_event(), desired) is not None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/new~/sub", "escaped slash"),
        ("/new/ ", "blank name"),
        ("/" + "x" * 256, "more than 255"),
        ("/sta\u200bff", "nobody sees"),
        ("/sta\x01ff", "nobody sees"),
        ("/sta\nff", "nobody sees"),
        ("/staff\u00a0", "space at the end"),
    ],
)
def test_why_a_group_is_not_created_is_said(harness: Harness, path: str, why: str) -> None:
    """It stands in no log otherwise what is wrong with a path that looks right; joiners of Persian are seen."""
    joins = Membership(GROUPS, (path,), create_missing=True)
    with pytest.raises(MappingError) as caught:
        harness.provision(replace(a_desired_user(), memberships=(joins,)))

    assert why in caught.value.violations[0].message
    persian = Membership(GROUPS, ("/\u0645\u06cc\u200c\u0634\u0648\u062f",), create_missing=True)
    harness.provision(replace(a_desired_user(), memberships=(persian,)))
    assert () == harness.keycloak.missing(GROUPS, persian.names)


def test_each_step_is_traced(harness: Harness) -> None:
    """In order: what was found, planned and done."""
    harness.provision(a_desired_user())

    assert ["found", "planned", "done", "done"] == [step for step, _ in harness.steps]
    assert isinstance(harness.steps[1][1], Plan)


def test_a_mark_that_came_meanwhile_is_kept(harness: Harness) -> None:
    """What the invite stage marked between finding the user and writing it is written along, and reported as a race."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()

    def mark(step: str, _: object) -> None:
        if step == "planned":
            sending = InvitationMark(MarkState.SENDING, "event-1")
            harness.keycloak.update(user["id"], with_invitation_mark(user, sending))

    racing = Provisioner(
        harness.keycloak, lambda _: (), FakeClock(), policy=ProvisionPolicy(), trace=mark
    )
    first = a_desired_user()
    renamed = replace(first, representation={**first.representation, "lastName": "King"})
    provisioned = racing.provision(an_event("event-2"), renamed)

    (after,) = harness.keycloak.users()
    assert ("King", "sending:event-1") == (
        after["lastName"],
        mark_text(after),
    )
    assert (True, "updated") == (provisioned.raced, provisioned.result.action)
    again = harness.provisioner.provision(an_event("event-2"), renamed)
    assert (False, "event-1", "unchanged") == (again.raced, again.mailing, again.result.action)


# the whole life of a user


def test_a_user_whose_mail_is_on_its_way_is_not_judged(harness: Harness) -> None:
    """Another process may put back what it had read before its mark; a second look fixes that, without a dead letter."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()
    update = harness.keycloak.update

    def undone(user_id: str, representation: UserRepresentation) -> None:
        update(user_id, {**representation, "email": user["email"]})

    harness.keycloak.update = undone  # type: ignore[method-assign]

    raced = harness.provisioner.provision(
        an_event("event-2", day=2), a_desired_user(email="eve@acme.example", invitation=None)
    )

    assert (True, f"due:{harness.invitations[0].event_id}") == (
        raced.raced,
        mark_text(user),
    )


def test_a_username_that_must_stay_keeps_nothing_else_of_the_person(harness: Harness) -> None:
    """Where the realm does not allow to change it: all the rest is erased, an error says so, and a replay finishes it."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.log_in(user["id"])
    gone = switched(Intent.ANONYMISE, enabled=False, ends_sessions=True)

    with pytest.raises(MappingError) as caught:
        harness.provision(gone, 2)

    (left,) = harness.keycloak.users()
    assert ("username-kept", user["username"]) == (caught.value.code, left["username"])
    assert (False, 0) == (left["enabled"], harness.keycloak.sessions_of(user["id"]))
    assert {"email", "firstName", "lastName"}.isdisjoint(left)
    with harness.keycloak.usernames_editable():
        harness.provision(gone, 2)
    (anonymous,) = harness.keycloak.users()
    assert f"anonymous-{user['id']}" == anonymous["username"]


def test_an_anonymous_user_that_is_refused_a_second_time_is_disabled(harness: Harness) -> None:
    """The username is all that Keycloak names at first; without it, it refuses something else."""
    harness.provision(a_desired_user())
    refused = KeycloakRejectedError("400", violations=[Violation("/user/lastName", "x", "x")])
    update = harness.keycloak.update

    def once_more(user_id: str, representation: UserRepresentation) -> None:
        if representation.get("username") == "ada":
            raise refused
        update(user_id, representation)

    harness.keycloak.update = once_more  # type: ignore[method-assign]

    with pytest.raises(KeycloakRejectedError) as caught:
        harness.provision(switched(Intent.ANONYMISE, enabled=False, ends_sessions=True), 2)

    (user,) = harness.keycloak.users()
    assert (refused, "ada", False) == (caught.value, user["username"], user["enabled"])


@pytest.fixture
def listed(harness: Harness) -> str:
    """The Keycloak id of a user of a read-only directory, who is logged in."""
    user_id = harness.keycloak.add_directory_user(a_desired_user().representation)
    harness.keycloak.log_in(user_id)
    return user_id


def test_a_user_of_a_read_only_directory_is_disabled(harness: Harness, listed: str) -> None:
    """Without the mark of the event, which the result says; again and again with the same outcome."""
    gone = switched(Intent.DISABLE, enabled=False, ends_sessions=True)

    first = harness.provision(gone, 2)
    again = harness.provision(gone, 2)

    (user,) = harness.keycloak.users()
    assert (False, 0) == (user["enabled"], harness.keycloak.sessions_of(listed))
    assert ("updated", "only-switched", ("enabled",)) == (
        first.action,
        first.reason,
        first.changed,
    )
    assert ("unchanged", "only-switched", ()) == (again.action, again.reason, again.changed)
    assert "bridgeEventId" not in user["attributes"]


def test_a_user_of_a_read_only_directory_is_enabled(harness: Harness, listed: str) -> None:
    """As a switch, like the other way."""
    harness.keycloak.update(listed, {"enabled": False})

    result = harness.provision(switched(Intent.ENABLE, enabled=True), 2)

    assert ("only-switched", True) == (result.reason, harness.keycloak.users()[0]["enabled"])


@pytest.mark.parametrize("enables", [False, True])
def test_no_mail_is_requested_of_a_user_that_cannot_be_marked(
    harness: Harness, enables: bool
) -> None:
    """The invite stage would take its record for one that nobody asked for; the result says that there is no mail.

    The mark of an earlier event is from the time when the directory could be written to.
    """
    user = with_field(a_desired_user(), enabled=not enables).representation
    wanted = named(Intent.INVITE, invitation=TERMS)
    if enables:
        user["attributes"] = {**user["attributes"], "bridgeInvitation": ["due:event-0"]}
        wanted = switched(Intent.ENABLE, enabled=True, invitation=TERMS)
    harness.keycloak.add_directory_user(user)

    result = harness.provision(wanted, 2)

    assert ([], "only-switched") == (harness.invitations, result.reason)
    assert (("enabled",) if enables else ()) == result.changed
    assert "no mail" in str(result.message)


@pytest.mark.parametrize("known", [False, True])
def test_a_user_of_a_read_only_directory_is_refused_as_a_whole_or_only_disabled(
    harness: Harness, listed: str, known: bool
) -> None:
    """A change that cannot be made is an error as ever; one that disables, too, does that much before."""
    changed = a_desired_user(email="new@acme.example")
    if known:
        off = {**changed.representation, "enabled": False}
        changed = replace(
            changed, representation=cast("UserRepresentation", off), ends_sessions=True
        )

    with pytest.raises(KeycloakRejectedError) as caught:
        harness.provision(changed, 2)

    (user,) = harness.keycloak.users()
    assert "/user/email" in {one.pointer for one in caught.value.violations}
    assert "ada@acme.example" == user["email"]
    assert (not known, int(not known)) == (user["enabled"], harness.keycloak.sessions_of(listed))


def test_a_user_of_a_read_only_directory_that_is_to_be_anonymised_is_disabled(
    harness: Harness, listed: str
) -> None:
    """Keycloak names all that it refuses at once, the username among it; the dead letter does so, too."""
    with pytest.raises(KeycloakRejectedError) as caught:
        harness.provision(switched(Intent.ANONYMISE, enabled=False, ends_sessions=True), 2)

    (user,) = harness.keycloak.users()
    pointers = [one.pointer for one in caught.value.violations]
    assert {"/user/username", "/user/email", "/user/lastName"} < {*pointers}
    assert len({*pointers}) == len(pointers)
    assert (False, 0, "ada@acme.example") == (
        user["enabled"],
        harness.keycloak.sessions_of(listed),
        user["email"],
    )


def test_a_user_that_comes_back_from_its_directory_is_disabled(
    harness: Harness, listed: str
) -> None:
    """Keycloak answers 204 to its deletion, and imports it again at the next look."""
    result = harness.provision(named(Intent.DELETE), 2)

    (user,) = harness.keycloak.users()
    assert (False, True) == (user["enabled"], user["id"] != listed)
    assert ("updated", "deleted-user-returned", ("enabled",), user["id"]) == (
        result.action,
        result.reason,
        result.changed,
        result.keycloak_id,
    )


def test_a_user_that_keycloak_refuses_to_change_is_disabled_all_the_same(harness: Harness) -> None:
    """A stricter user profile refuses what was stored before it, and with it every update of the whole user."""
    harness.provision(a_desired_user())
    refused = KeycloakRejectedError("400", violations=[Violation("/user/lastName", "x", "x")])
    harness.keycloak.fail("update", refused)

    result = harness.provision(switched(Intent.DISABLE, enabled=False), 2)

    assert ("only-switched", ("enabled",)) == (result.reason, result.changed)
    assert not harness.keycloak.users()[0]["enabled"]


def test_what_was_written_is_named_without_values(harness: Harness) -> None:
    """Targets as in the mapping; what the bridge remembers for itself is left out."""
    first = a_desired_user()
    harness.provision(first)
    later = replace(
        a_desired_user(email="new@acme.example", groups=("/staff",), realm_roles=("viewer",)),
        identities=(IdentityLink("corp", "ada@corp"),),
    )
    harness.keycloak.add_identity_provider("corp")

    result = harness.provision(later, 2)

    assert ("email", "groups", "realmRoles", "identities.corp") == result.changed
    assert "updated" == result.action


def test_an_event_waits_for_its_user_and_not_forever(harness: Harness) -> None:
    """Ten minutes after this process saw it first, it becomes a dead letter."""
    waiting = named(Intent.ENABLE, unknown=UnknownUser.WAIT)
    for passed_s in (0.0, 300.0, 299.0):
        harness.clock.advance(passed_s)
        with pytest.raises(HoldError) as held:
            harness.provision(waiting)
        assert ("unknown-user", 2.0) == (held.value.code, held.value.wait_s)

    harness.clock.advance(1.0)
    with pytest.raises(UnknownUserError):
        harness.provision(waiting)
    with pytest.raises(HoldError):
        harness.provision(waiting)


@pytest.mark.parametrize("existing", [False, True])
def test_no_user_is_invited_into_half_an_account(existing: bool) -> None:
    """What Keycloak did not store is found by the look back, which comes before the mail."""
    managed = {"userId": 50, "bridgeEventId": 50, "bridgeEventTime": 50, "bridgeInvitation": 99}
    harness = Harness(InMemoryKeycloak(managed=managed), "always")
    if existing:
        harness.keycloak.add_user({**TWIN, "username": "ada", "attributes": {"userId": ["u-1"]}})

    with pytest.raises(DroppedError) as caught:
        harness.create(one_partition=True)

    assert (["/user/attributes/tenantId"], []) == (
        [one.pointer for one in caught.value.violations],
        harness.invitations,
    )


# two processes that create the same user at the same moment leave one of them

TWIN = UserRepresentation(
    username="twin",
    enabled=True,
    attributes={"userId": ["u-1"], "bridgeEventId": ["event-0"]},
)


class RacingKeycloak(InMemoryKeycloak):
    """Another process creates the same user right after ours is created, with an age of its own.

    `older` says whether Keycloak dates the other one before ours.
    """

    def __init__(self, *, older: bool) -> None:
        super().__init__()
        self.older = older
        self.others: list[str] = []

    def create(self, representation: UserRepresentation) -> str:
        """Create ours and, the first time, the other one."""
        created = super().create(representation)
        if not self.others:
            self.others.append(self.add_user(TWIN))
        return created

    def having(self, external_id: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return the users with their ages."""
        return [
            {**user, "createdTimestamp": 1 if (user["id"] in self.others) == self.older else 2}
            for user in super().having(external_id)
        ]


def test_the_younger_one_is_deleted_and_the_older_one_updated() -> None:
    """Ours goes, and the event is applied to the other."""
    keycloak = RacingKeycloak(older=True)

    with keycloak.usernames_editable():
        result = Harness(keycloak, "off").create()

    (user,) = keycloak.users()
    assert keycloak.others == [user["id"]]
    assert ("updated", user["id"], ["event-1"]) == (
        result.action,
        result.keycloak_id,
        [event_id_in(one) for one in user["attributes"]["bridgeEventId"]],
    )


def test_the_older_one_waits_until_the_younger_one_is_gone() -> None:
    """Its process deletes it meanwhile; no invitation before that."""
    keycloak = RacingKeycloak(older=False)
    harness = Harness(keycloak, "off")
    with pytest.raises(HoldError) as held:
        harness.create()
    before = list(harness.invitations)
    keycloak.delete_user(*keycloak.others)

    harness.create()

    assert ("duplicate-user", []) == (held.value.code, before)
    assert [keycloak.users()[0]["id"]] == [one.keycloak_id for one in harness.invitations]


def test_the_older_one_makes_way_for_a_younger_one_that_stays() -> None:
    """The other process had looked before ours could be seen, and counts its event as done."""
    keycloak = RacingKeycloak(older=False)
    harness = Harness(keycloak, "off")
    with pytest.raises(HoldError):
        harness.create()

    with keycloak.usernames_editable():
        result = harness.create()

    assert keycloak.others == [user["id"] for user in keycloak.users()]
    assert "updated" == result.action


def test_users_that_were_there_before_are_left_alone() -> None:
    """Two of the same external id that this event did not create are left to the operator."""
    keycloak = InMemoryKeycloak()
    keycloak.add_user(TWIN)
    keycloak.add_user({**TWIN, "username": "other"})

    with pytest.raises(ConflictError) as caught:
        Harness(keycloak, "off").create()

    assert ("ambiguous", 2) == (caught.value.code, len(keycloak.users()))


@pytest.mark.parametrize(
    ("one_partition", "mode", "looks"),
    [
        (True, "off", 0),
        (False, "off", 1),
        (True, "always", 0),
        (False, "always", 1),
    ],
)
def test_without_a_race_there_is_no_search(one_partition: bool, mode: str, looks: int) -> None:
    """A user is read back by its id, and one search for verification and duplicates is enough."""
    keycloak = InMemoryKeycloak()

    Harness(keycloak, mode).create(one_partition=one_partition)

    assert looks == keycloak.calls.count("having")
    assert (one_partition and mode == "always") == ("get" in keycloak.calls)


class Interleaved(InMemoryKeycloak):
    """Lets something else happen between the last mark's read and its write, as a second thread would."""

    meanwhile: threading.Thread | None = None

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user, and give the other thread its chance before the caller writes."""
        user = super().get(user_id)
        last = bool(self.mails) is not self.can_look_up_mails()
        if last and self.meanwhile is not None and not self.meanwhile.is_alive():
            self.meanwhile.start()
            # without a lock the other thread is through long before this ends
            self.meanwhile.join(timeout=0.5)
        return user


@pytest.mark.parametrize("ledger", [True, False])
def test_marking_an_invitation_does_not_undo_an_update(ledger: bool) -> None:
    """The mark is read, changed and written as one step; the update of the same user waits for it."""
    keycloak, locks = Interleaved(), UserLocks()
    keycloak.view_events = ledger
    harness = Harness(keycloak, locks=locks)
    first = a_desired_user()
    harness.provision(first)
    renamed = replace(first, representation={**first.representation, "lastName": "King"})
    update = threading.Thread(target=harness.provision, args=(renamed, 2), daemon=True)
    keycloak.meanwhile = update

    Inviter(keycloak, OWN_USERS, locks, clock=FakeClock()).invite(harness.invitations[0])
    update.join(timeout=60)

    (user,) = keycloak.users()
    mark = mark_of(user)
    assert mark is not None
    assert ("King", ["event-2"], True) == (
        user["lastName"],
        [event_id_in(one) for one in user["attributes"]["bridgeEventId"]],
        mark.is_settled,
    )


# a crash at any point between the calls for one event: its redelivery does the rest, and asks for no other mail

MANAGED = (
    Membership(GROUPS, ("/customers",), frozenset({"/staff", "/customers"})),
    Membership(REALM_ROLES, (), frozenset({"viewer"})),
)
NEW = replace(
    a_desired_user(groups=("/staff",), realm_roles=("viewer",)),
    identities=(IdentityLink("corp", "ada@corp"),),
)
_NAMED = DesiredUser(
    UserRepresentation(attributes={"userId": ["u-1"]}),
    (MatchCriterion("attributes.userId", "u-1"),),
    unknown=UnknownUser.DEAD_LETTER,
)


def named(intent: Intent, **changes: Any) -> DesiredUser:
    """Return what an event wants that only names its user."""
    return replace(_NAMED, intent=intent, **changes)


def switched(intent: Intent, *, enabled: bool, **changes: Any) -> DesiredUser:
    """Return what an event wants that turns the switch."""
    user = {**_NAMED.representation, "enabled": enabled}
    return named(intent, representation=cast("UserRepresentation", user), **changes)


def moved(email_change: EmailChange, *identities: IdentityLink) -> DesiredUser:
    """Return what an update wants that changes the address and the memberships."""
    user = {**_NAMED.representation, "email": "ada@new.example"}
    return named(
        Intent.UPDATE,
        representation=cast("UserRepresentation", user),
        memberships=MANAGED,
        identities=identities,
        invitation=TERMS,
        email_change=email_change,
    )


EVENTS: dict[str, tuple[DesiredUser, ...]] = {
    "created": (NEW,),
    "updated": (NEW, moved(EmailChange.TRUSTED, IdentityLink("corp", "ada2@corp"))),
    "verified": (NEW, moved(EmailChange.VERIFY, IdentityLink("corp", None))),
    "created again": (NEW, replace(NEW, representation={**NEW.representation, "email": "x@y.zz"})),
    "disabled": (NEW, switched(Intent.DISABLE, enabled=False, ends_sessions=True)),
    "anonymised": (NEW, switched(Intent.ANONYMISE, enabled=False, ends_sessions=True)),
    "enabled": (
        replace(NEW, representation={**NEW.representation, "enabled": False}),
        switched(Intent.ENABLE, enabled=True, invitation=TERMS),
    ),
    "moved and enabled": (
        NEW,
        switched(Intent.DISABLE, enabled=False, ends_sessions=True),
        moved(EmailChange.VERIFY),
        switched(Intent.ENABLE, enabled=True, invitation=TERMS, email_change=EmailChange.VERIFY),
    ),
    "asked for": (NEW, named(Intent.INVITE, invitation=TERMS)),
    "deleted": (NEW, named(Intent.DELETE, unknown=UnknownUser.SKIP)),
}
STEPS = (
    "create",
    "update",
    "join",
    "leave",
    "link_identity",
    "unlink_identity",
    "end_sessions",
    "delete",
    "invite",
)


class CrashRealm:
    """A realm, and the mails that were asked for by the last event."""

    def __init__(self) -> None:
        self.keycloak = InMemoryKeycloak(groups=["/staff", "/customers"], realm_roles=["viewer"])
        self.keycloak.add_identity_provider("corp")
        self.asked: dict[str, None] = {}
        self.refusals = 0

    def provision(self, number: int, desired: DesiredUser) -> None:
        """Provision by a bridge that knows nothing of an earlier attempt."""
        self.asked.clear()
        bridge = Provisioner(self.keycloak, self._invite, FakeClock(), policy=ProvisionPolicy())
        bridge.provision(an_event(f"event-{number}", day=number), desired)

    def prepare(self, earlier: Sequence[DesiredUser]) -> None:
        """Bring the user to where the last event finds it, logged in."""
        for number, desired in enumerate(earlier, 1):
            self.provision(number, desired)
        for user in self.keycloak.users():
            self.keycloak.log_in(user["id"])

    def state(self) -> list[Any]:
        """Return all that the realm has of its users, except what differs with every run."""
        return [
            (
                {
                    name: value.replace(user["id"], "ID") if isinstance(value, str) else value
                    for name, value in user.items()
                    if name not in ("id", "createdTimestamp")
                },
                self.keycloak.groups_of(user["id"]),
                self.keycloak.realm_roles_of(user["id"]),
                self.keycloak.identities_of(user["id"]),
                self.keycloak.sessions_of(user["id"]),
            )
            for user in self.keycloak.users()
        ]

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        if self.refusals:
            self.refusals -= 1
            raise BrokerUnavailableError("down")
        self.asked[f"{invitation.event_id} {invitation.purpose}"] = None
        return ()


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
def test_redelivery_does_what_a_crash_left(
    events: tuple[DesiredUser, ...], step: str, after_effect: bool
) -> None:
    """The user is as if nothing had happened, and the same mails are asked for."""
    *earlier, last = events
    smooth, crashed = CrashRealm(), CrashRealm()
    for realm in (smooth, crashed):
        realm.prepare(earlier)
    crashed.keycloak.fail(step, KeycloakUnavailableError("lost"), after_effect=after_effect)
    crashed.refusals = int(step == "invite")

    with smooth.keycloak.usernames_editable(), crashed.keycloak.usernames_editable():
        smooth.provision(len(events), last)
        try:
            crashed.provision(len(events), last)
        except (KeycloakUnavailableError, BrokerUnavailableError):
            crashed.provision(len(events), last)

    assert (smooth.state(), list(smooth.asked)) == (crashed.state(), list(crashed.asked))


# people who share an address


FAMILY = "family@acme.example"
STRANGER: UserRepresentation = {
    "username": "stranger",
    "email": FAMILY,
    "emailVerified": True,
    "enabled": True,
}


def relative(name: str, link: LinkPolicy = LinkPolicy.VERIFIED_EMAIL) -> DesiredUser:
    """Return one of the family, whom another user with the verified address may be linked to."""
    return replace(a_desired_user(user_id=f"u-{name}", username=name, email=FAMILY), link=link)


class LinkedMeanwhile(InMemoryKeycloak):
    """After the first search that finds a user, another event links it."""

    linked = False

    def find(
        self,
        criteria: Sequence[MatchCriterion],
        lookup: Lookup = NOTHING_MORE,
        *,
        owner: MatchCriterion | None = None,
    ) -> FoundUser | None:
        """Return the user as it was before."""
        found = super().find(criteria, lookup, owner=owner)
        if found is not None and not self.linked:
            self.linked = True
            self.update(
                found.user_id, {**found.representation, "attributes": {"userId": ["u-other"]}}
            )
        return found


@pytest.mark.parametrize("link", list(LinkPolicy))
def test_each_of_a_family_gets_an_account(harness: Harness, link: LinkPolicy) -> None:
    """Those who carry another external id are no candidates, neither for a link nor for a conflict."""
    family = [relative(name, link) for name in ("anna", "bert", "cleo")]

    with harness.keycloak.addresses_shared():
        created = [harness.provision(one).action for one in family]
        again = [harness.provision(one).action for one in family]

    assert (["created"] * 3, ["unchanged"] * 3) == (created, again)
    assert {"anna", "bert", "cleo"} == {one["username"] for one in harness.keycloak.users()}


@pytest.mark.parametrize("shared", [True, False])
def test_a_user_is_linked_once(shared: bool) -> None:
    """Of two events that find the same user of nobody, the later one looks again: it never takes the account over."""
    keycloak = LinkedMeanwhile()
    keycloak.add_user(STRANGER)
    harness = Harness(keycloak)

    with keycloak.addresses_shared() if shared else contextlib.nullcontext():
        try:
            outcome = harness.provision(relative("anna")).action
        except ConflictError as error:
            outcome = f"{error.code} {error.violations[0].pointer}"

    assert ("created" if shared else "conflict /user/email") == outcome
    (stranger,) = (one for one in keycloak.users() if one["username"] == "stranger")
    assert ["u-other"] == stranger["attributes"]["userId"]


@pytest.mark.parametrize("link", list(LinkPolicy))
@pytest.mark.parametrize(
    ("holder", "pointer"),
    [
        ({"username": "anna"}, "/user/username"),
        ({"username": "other", "email": FAMILY}, "/user/email"),
    ],
)
def test_a_taken_name_says_whose_it_is(
    link: LinkPolicy, holder: dict[str, str], pointer: str
) -> None:
    """A user of another external id stands in the way where names are unique; a preview foresees it in the same words."""
    harness = Harness()
    harness.keycloak.add_user(
        cast("UserRepresentation", {**holder, "attributes": {"userId": ["u-9"]}})
    )

    for call in (
        lambda: harness.provision(relative("anna", link)),
        lambda: harness.provisioner.plan(an_event(), relative("anna", link)),
    ):
        with pytest.raises(ConflictError, match="its userId differs") as caught:
            call()
        assert pointer == caught.value.violations[0].pointer


def test_a_preview_knows_a_shared_address_where_it_sees_one() -> None:
    """Two who have it already prove that the realm allows that; one alone proves nothing, and a repair does not ask."""
    harness = Harness()
    plan = harness.provisioner.plan
    with harness.keycloak.addresses_shared():
        harness.provision(relative("anna"))
        with pytest.raises(ConflictError):
            plan(an_event(), relative("bert"))
        assert plan(an_event(), relative("bert"), foresees=False)[1].operations
        harness.provision(relative("bert"))
        assert plan(an_event(), relative("cleo"))[1].operations
