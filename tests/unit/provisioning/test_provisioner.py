"""One event after the other changes one user: found, planned, written once, and nothing lost when something fails."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from samples import TERMS, a_desired_user, an_event

from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConflictError,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
    MappingError,
    UnknownUserError,
    Violation,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Result
from keycloak_bridge.domain.operations import CreateUser, Plan, RequestInvitation
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    DesiredUser,
    IdentityLink,
    Intent,
    MatchCriterion,
    Membership,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    invitation_state,
    with_invitation_mark,
)
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

WRITES = {"create", "update", "join", "leave"}


class Harness:
    """A provisioner over a Keycloak in memory that keeps the invitations."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = FakeClock()
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.invitations: list[Invitation] = []
        self.steps: list[tuple[str, object]] = []
        self.provisioner = Provisioner(
            self.keycloak,
            self._invite,
            self.clock,
            policy=ProvisionPolicy(frozenset({"admin"})),
            limits=limits,
            trace=lambda step, detail: self.steps.append((step, detail)),
        )

    def provision(self, desired: DesiredUser | OutOfScope, day: int = 1) -> Result:
        """Apply `event-<day>`, which is of that day."""
        return self.provisioner.provision(an_event(f"event-{day}", day=day), desired).result

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        self.invitations.append(invitation)
        return ()

    @property
    def writes(self) -> list[str]:
        return [call for call in self.keycloak.calls if call in WRITES]


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_new_user_is_created_with_groups_roles_and_an_invitation(harness: Harness) -> None:
    """One event makes one whole user and one invitation that names the Keycloak id."""
    desired = a_desired_user(groups=("/staff",), realm_roles=("viewer",))

    result = harness.provision(desired)

    (user,) = harness.keycloak.users()
    assert (Outcome.PROVISIONED, "created", user["id"], "u-1") == (
        result.outcome,
        result.action,
        result.keycloak_id,
        result.user_id,
    )
    assert {"/staff"} == harness.keycloak.groups_of(user["id"])
    assert {"viewer"} == harness.keycloak.realm_roles_of(user["id"])
    assert [(user["id"], "event-1", "u-1", TERMS)] == [
        (i.keycloak_id, i.event_id, i.user_id, i.terms) for i in harness.invitations
    ]


def test_the_same_event_again_writes_nothing(harness: Harness) -> None:
    """Redelivery finds everything as it should be; only the mail that is still due is asked for again."""
    desired = a_desired_user(groups=("/staff",), realm_roles=("viewer",))
    harness.provision(desired)
    harness.keycloak.calls.clear()

    result = harness.provision(desired)

    assert ("unchanged", []) == (result.action, harness.writes)
    assert 2 == len(harness.invitations)


def test_an_event_out_of_scope_is_skipped(harness: Harness) -> None:
    """The `when` filter leaves Keycloak alone and says so."""
    result = harness.provision(OutOfScope("data.active"))

    assert (Outcome.SKIPPED, "out-of-scope") == (result.outcome, result.reason)
    assert [] == harness.keycloak.calls


def test_an_older_event_is_skipped_as_stale(harness: Harness) -> None:
    """A newer event was applied already, so the older one must not undo it."""
    harness.provision(a_desired_user(username="ada"), 2)
    older = a_desired_user(email="old@acme.example")

    result = harness.provision(older)

    assert (Outcome.SKIPPED, "stale") == (result.outcome, result.reason)
    assert "ada@acme.example" == harness.keycloak.users()[0]["email"]


def test_a_taken_username_is_a_conflict(harness: Harness) -> None:
    """An account that the bridge did not make is never taken over, and nothing is written."""
    harness.keycloak.add_user(UserRepresentation(username="ada", enabled=True))

    with pytest.raises(ConflictError) as caught:
        harness.provision(a_desired_user())

    assert "conflict" == caught.value.code
    assert [{"username": "ada"}] == [
        {"username": user["username"]} for user in harness.keycloak.users()
    ]


def test_an_email_that_is_another_users_name_is_a_conflict(harness: Harness) -> None:
    """Keycloak answers 409 for a user that no search by username or e-mail finds."""
    harness.keycloak.add_user(UserRepresentation(username="ada@acme.example", enabled=True))
    refused = KeycloakConflictError("409", violations=[Violation("/user/email", "unique", "taken")])
    harness.keycloak.fail("create", refused, times=2)

    with pytest.raises(ConflictError) as caught:
        harness.provision(a_desired_user())

    assert refused.violations == caught.value.violations


def test_a_lost_answer_does_not_make_a_second_user(harness: Harness) -> None:
    """The create took effect though its answer was lost: the next attempt finds the user."""
    lost = KeycloakUnavailableError("timed out")
    harness.keycloak.fail("create", lost, after_effect=True)
    with pytest.raises(KeycloakUnavailableError):
        harness.provision(a_desired_user())

    result = harness.provision(a_desired_user())

    assert (1, "unchanged") == (len(harness.keycloak.users()), result.action)
    assert 1 == len(harness.invitations)


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


def test_a_missing_role_ends_the_event_and_names_it(harness: Harness) -> None:
    """The role cannot appear by trying again."""
    with pytest.raises(BridgeError) as caught:
        harness.provision(a_desired_user(realm_roles=("auditor",)))

    assert "role-not-found" == caught.value.code
    assert "auditor" in caught.value.message


def test_plan_writes_nothing(harness: Harness) -> None:
    """`plan` shows the operations and touches no user."""
    found, plan = harness.provisioner.plan(an_event(), a_desired_user())

    assert found is None
    assert [CreateUser, RequestInvitation] == [type(operation) for operation in plan.operations]
    assert [] == harness.writes


def test_each_step_is_traced(harness: Harness) -> None:
    """In order: what was found, planned and done."""
    harness.provision(a_desired_user())

    assert ["found", "planned", "done", "done"] == [step for step, _ in harness.steps]
    assert isinstance(harness.steps[1][1], Plan)


def test_no_invitation_without_terms(harness: Harness) -> None:
    """`invite.mode = none` creates users and asks for no mail."""
    desired: DesiredUser = a_desired_user(invitation=None)

    harness.provision(desired)

    assert [] == harness.invitations
    assert "bridgeInvitation" not in harness.keycloak.users()[0]["attributes"]


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
        invitation_state(after),
    )
    assert (True, "updated") == (provisioned.raced, provisioned.result.action)
    again = harness.provisioner.provision(an_event("event-2"), renamed)
    assert (False, "event-1", "unchanged") == (again.raced, again.mailing, again.result.action)


# the whole life of a user


def changed(intent: Intent, **more: Any) -> DesiredUser:
    """Return what an event wants that names nothing but its user."""
    external_id = MatchCriterion("attributes.userId", "u-1")
    representation = UserRepresentation(attributes={"userId": ["u-1"]})
    if intent in (Intent.DISABLE, Intent.ANONYMISE):
        representation["enabled"] = False
    return DesiredUser(representation, (external_id,), intent=intent, **more)


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

    assert (True, "due:event-1") == (raced.raced, invitation_state(user))


def test_a_deleted_user_is_gone(harness: Harness) -> None:
    """The result says so, and names nothing that was written."""
    harness.provision(a_desired_user())
    gone = changed(Intent.DELETE, unknown=UnknownUser.SKIP)

    result = harness.provision(gone, 2)
    again = harness.provision(gone, 2)

    assert ("deleted", (), ()) == (result.action, result.changed, harness.keycloak.users())
    assert (Outcome.SKIPPED, "unknown-user") == (again.outcome, again.reason)


def test_a_disabled_user_is_logged_out(harness: Harness) -> None:
    """The switch first, so that the user cannot log in again; a redelivery does the rest."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.log_in(user["id"])
    harness.keycloak.fail("end_sessions", KeycloakUnavailableError("down"))
    off = changed(Intent.DISABLE, ends_sessions=True)
    with pytest.raises(KeycloakUnavailableError):
        harness.provision(off, 2)

    assert not harness.keycloak.users()[0]["enabled"]
    result = harness.provision(off, 2)
    assert ("updated", 0) == (result.action, harness.keycloak.sessions_of(user["id"]))


def test_a_username_that_must_stay_keeps_nothing_else_of_the_person(harness: Harness) -> None:
    """Where the realm does not allow to change it: all the rest is erased, an error says so, and a replay finishes it."""
    harness.provision(a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.log_in(user["id"])
    gone = changed(Intent.ANONYMISE, ends_sessions=True)

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


def test_memberships_and_links_are_removed(harness: Harness) -> None:
    """Of what the mapping owns, whatever the event does not name."""
    harness.keycloak.add_identity_provider("corp")
    first = replace(
        a_desired_user(groups=("/staff",)), identities=(IdentityLink("corp", "ada@corp"),)
    )
    harness.provision(first)
    later = replace(
        a_desired_user(),
        memberships=(Membership(GROUPS, (), owned=frozenset({"/staff"})),),
        identities=(IdentityLink("corp", None),),
    )

    result = harness.provision(later, 2)

    (user,) = harness.keycloak.users()
    assert ("groups", "identities.corp") == result.changed
    assert (frozenset(), ()) == (
        harness.keycloak.groups_of(user["id"]),
        harness.keycloak.identities_of(user["id"]),
    )


@pytest.mark.parametrize("existing", [False, True])
def test_a_missing_group_is_created_where_the_mapping_says_so(
    harness: Harness, existing: bool
) -> None:
    """Before the user, who is a member from the beginning."""
    if existing:
        harness.provision(a_desired_user())
    desired = replace(
        a_desired_user(),
        memberships=(Membership(GROUPS, ("/new/team", "/staff"), create_missing=True),),
    )

    harness.provision(desired, 2)

    (user,) = harness.keycloak.users()
    assert {"/new/team", "/staff"} == harness.keycloak.groups_of(user["id"])


def test_an_event_waits_for_its_user_and_not_forever(harness: Harness) -> None:
    """Ten minutes after this process saw it first, it becomes a dead letter."""
    waiting = changed(Intent.ENABLE, unknown=UnknownUser.WAIT)
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


def test_a_user_that_appears_ends_the_waiting(harness: Harness) -> None:
    """Its creation came through another partition."""
    waiting = changed(Intent.DISABLE, unknown=UnknownUser.WAIT)
    with pytest.raises(HoldError):
        harness.provision(waiting, 2)
    harness.provision(a_desired_user())

    result = harness.provision(waiting, 2)

    assert ("updated", ("enabled",)) == (result.action, result.changed)


def test_too_many_deletions_engage_the_brake_before_the_next_one() -> None:
    """What was done stays done; the rest waits until the operator has released the brake."""
    brake = Brake(0, 0, 10)
    harness = Harness(Limits(brake, {LimitedAction.DELETE: Limit(1, 3600)}))
    for number in "12":
        mine = a_desired_user(
            user_id=f"u-{number}", username=f"ada{number}", email=f"{number}@acme.example"
        )
        harness.provisioner.provision(an_event(f"created-{number}"), mine)

    def delete(number: str) -> None:
        gone = replace(
            changed(Intent.DELETE),
            representation={"attributes": {"userId": [f"u-{number}"]}},
            matching=(MatchCriterion("attributes.userId", f"u-{number}"),),
        )
        harness.provisioner.provision(an_event(f"deleted-{number}", day=2), gone)

    delete("1")
    with pytest.raises(HoldError) as held:
        delete("2")

    assert ("brake", 1) == (held.value.code, len(harness.keycloak.users()))
    assert "1 users were deleted or anonymised within 1 hour ([limits] deletes)" == brake.reason
    brake.release()
    delete("2")
    assert () == harness.keycloak.users()


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


def provisioner_of(
    keycloak: InMemoryKeycloak, invited: list[Invitation] | None = None
) -> Provisioner:
    """Return a provisioner that compares nothing, so that only the race makes it look."""

    def invite(invitation: Invitation) -> tuple[()]:
        (invited if invited is not None else []).append(invitation)
        return ()

    policy = ProvisionPolicy(verification=VerificationPolicy("off"))
    return Provisioner(keycloak, invite, FakeClock(), policy=policy)


def create(provisioner: Provisioner) -> Result:
    return provisioner.provision(an_event(), a_desired_user(), one_partition=False).result


def test_the_younger_one_is_deleted_and_the_older_one_updated() -> None:
    """Ours goes, and the event is applied to the other."""
    keycloak = RacingKeycloak(older=True)

    provisioner = provisioner_of(keycloak)
    with keycloak.usernames_editable():
        result = create(provisioner)

    (user,) = keycloak.users()
    assert keycloak.others == [user["id"]]
    assert ("updated", user["id"], ["event-1"]) == (
        result.action,
        result.keycloak_id,
        user["attributes"]["bridgeEventId"],
    )


def test_the_older_one_waits_until_the_younger_one_is_gone() -> None:
    """Its process deletes it meanwhile; no invitation before that."""
    keycloak, invited = RacingKeycloak(older=False), list[Invitation]()
    provisioner = provisioner_of(keycloak, invited)
    with pytest.raises(HoldError) as held:
        create(provisioner)
    before = list(invited)
    keycloak.delete_user(*keycloak.others)

    create(provisioner)

    assert ("duplicate-user", []) == (held.value.code, before)
    assert [keycloak.users()[0]["id"]] == [one.keycloak_id for one in invited]


def test_the_older_one_makes_way_for_a_younger_one_that_stays() -> None:
    """The other process had looked before ours could be seen, and counts its event as done."""
    keycloak = RacingKeycloak(older=False)
    provisioner = provisioner_of(keycloak)
    with pytest.raises(HoldError):
        create(provisioner)

    with keycloak.usernames_editable():
        result = create(provisioner)

    assert keycloak.others == [user["id"] for user in keycloak.users()]
    assert "updated" == result.action


def test_users_that_were_there_before_are_left_alone() -> None:
    """Two of the same external id that this event did not create are left to the operator."""
    keycloak = InMemoryKeycloak()
    keycloak.add_user(TWIN)
    keycloak.add_user({**TWIN, "username": "other"})

    with pytest.raises(ConflictError) as caught:
        create(provisioner_of(keycloak))

    assert ("ambiguous", 2) == (caught.value.code, len(keycloak.users()))


@pytest.mark.parametrize(
    ("one_partition", "mode", "looks"),
    [
        (True, "off", 0),
        (False, "off", 1),
        (True, "always", 1),
        (False, "always", 1),
    ],
)
def test_without_a_race_there_is_no_search(one_partition: bool, mode: str, looks: int) -> None:
    """One search for verification and duplicates is enough."""
    keycloak = InMemoryKeycloak()
    policy = ProvisionPolicy(verification=VerificationPolicy(mode))

    Provisioner(keycloak, lambda _: (), FakeClock(), policy=policy).provision(
        an_event(), a_desired_user(), one_partition=one_partition
    )

    assert looks == keycloak.calls.count("having")
