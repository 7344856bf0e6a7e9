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
from keycloak_bridge.domain.events import Invitation, Outcome
from keycloak_bridge.domain.limits import Limit
from keycloak_bridge.domain.operations import CreateUser, Plan, RequestInvitation
from keycloak_bridge.domain.ports import Acknowledgement
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

    def _invite(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        self.invitations.append(invitation)
        return ()

    @property
    def writes(self) -> list[str]:
        return [call for call in self.keycloak.calls if call in WRITES]


def test_a_new_user_is_created_with_groups_roles_and_an_invitation() -> None:
    """One event makes one whole user and one invitation that names the Keycloak id."""
    harness = Harness()
    desired = a_desired_user(groups=("/staff",), realm_roles=("viewer",))

    result = harness.provisioner.provision(an_event(), desired).result

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


def test_the_same_event_again_writes_nothing() -> None:
    """Redelivery finds everything as it should be; only the mail that is still due is asked for again."""
    harness = Harness()
    desired = a_desired_user(groups=("/staff",), realm_roles=("viewer",))
    harness.provisioner.provision(an_event(), desired)
    harness.keycloak.calls.clear()

    result = harness.provisioner.provision(an_event(), desired).result

    assert ("unchanged", []) == (result.action, harness.writes)
    assert 2 == len(harness.invitations)


def test_an_event_out_of_scope_is_skipped() -> None:
    """The `when` filter leaves Keycloak alone and says so."""
    harness = Harness()

    result = harness.provisioner.provision(an_event(), OutOfScope("data.active")).result

    assert (Outcome.SKIPPED, "out-of-scope") == (result.outcome, result.reason)
    assert [] == harness.keycloak.calls


def test_an_older_event_is_skipped_as_stale() -> None:
    """A newer event was applied already, so the older one must not undo it."""
    harness = Harness()
    harness.provisioner.provision(an_event("event-2", day=2), a_desired_user(username="ada"))
    older = a_desired_user(email="old@acme.example")

    result = harness.provisioner.provision(an_event("event-1", day=1), older).result

    assert (Outcome.SKIPPED, "stale") == (result.outcome, result.reason)
    assert "ada@acme.example" == harness.keycloak.users()[0]["email"]


def test_a_taken_username_is_a_conflict() -> None:
    """An account that the bridge did not make is never taken over, and nothing is written."""
    harness = Harness()
    harness.keycloak.add_user(UserRepresentation(username="ada", enabled=True))

    with pytest.raises(ConflictError) as caught:
        harness.provisioner.provision(an_event(), a_desired_user())

    assert "conflict" == caught.value.code
    assert [{"username": "ada"}] == [
        {"username": user["username"]} for user in harness.keycloak.users()
    ]


def test_an_email_that_is_another_users_name_is_a_conflict() -> None:
    """Keycloak answers 409 for a user that no search by username or e-mail finds."""
    harness = Harness()
    harness.keycloak.add_user(UserRepresentation(username="ada@acme.example", enabled=True))
    refused = KeycloakConflictError("409", violations=[Violation("/user/email", "unique", "taken")])
    harness.keycloak.fail("create", refused, times=2)

    with pytest.raises(ConflictError) as caught:
        harness.provisioner.provision(an_event(), a_desired_user())

    assert refused.violations == caught.value.violations


def test_a_lost_answer_does_not_make_a_second_user() -> None:
    """The create took effect though its answer was lost: the next attempt finds the user."""
    harness = Harness()
    lost = KeycloakUnavailableError("timed out")
    harness.keycloak.fail("create", lost, after_effect=True)
    with pytest.raises(KeycloakUnavailableError):
        harness.provisioner.provision(an_event(), a_desired_user())

    result = harness.provisioner.provision(an_event(), a_desired_user()).result

    assert (1, "unchanged") == (len(harness.keycloak.users()), result.action)
    assert 1 == len(harness.invitations)


def test_a_user_that_vanishes_meanwhile_is_planned_anew() -> None:
    """A 404 on update means that somebody deleted the user: it is created again."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.fail("update", KeycloakNotFoundError("gone"))
    moved = a_desired_user(email="new@acme.example")

    result = harness.provisioner.provision(an_event("event-2", day=2), moved).result

    assert ("updated", user["id"]) == (result.action, result.keycloak_id)


@pytest.mark.parametrize("existing", [False, True])
def test_a_missing_group_is_named_before_anything_is_written(existing: bool) -> None:
    """Keycloak would answer a bare 500; the bridge points at the missing group, whose path is the event's."""
    harness = Harness()
    if existing:
        harness.provisioner.provision(an_event(), a_desired_user())
    harness.keycloak.calls.clear()

    with pytest.raises(MappingError) as caught:
        harness.provisioner.provision(
            an_event("event-2", day=2), a_desired_user(groups=("/staff", "/nope"))
        )

    assert ("group-missing", ["/user/groups/1"]) == (
        caught.value.code,
        [violation.pointer for violation in caught.value.violations],
    )
    assert "nope" not in caught.value.message
    assert [] == harness.writes


def test_a_missing_role_ends_the_event_and_names_it() -> None:
    """The role cannot appear by trying again."""
    harness = Harness()

    with pytest.raises(BridgeError) as caught:
        harness.provisioner.provision(an_event(), a_desired_user(realm_roles=("auditor",)))

    assert "role-not-found" == caught.value.code
    assert "auditor" in caught.value.message


def test_plan_writes_nothing() -> None:
    """`plan` shows the operations and touches no user."""
    harness = Harness()

    found, plan = harness.provisioner.plan(an_event(), a_desired_user())

    assert found is None
    assert [CreateUser, RequestInvitation] == [type(operation) for operation in plan.operations]
    assert [] == harness.writes


def test_each_step_is_told() -> None:
    """A listener hears what was found, planned and done, in this order."""
    harness = Harness()

    harness.provisioner.provision(an_event(), a_desired_user())

    assert ["found", "planned", "done", "done"] == [step for step, _ in harness.steps]
    assert isinstance(harness.steps[1][1], Plan)


def test_no_invitation_without_terms() -> None:
    """`invite.mode = none` creates users and asks for no mail."""
    harness = Harness()
    desired: DesiredUser = a_desired_user(invitation=None)

    harness.provisioner.provision(an_event(), desired)

    assert [] == harness.invitations
    assert "bridgeInvitation" not in harness.keycloak.users()[0]["attributes"]


def test_a_mark_that_came_meanwhile_is_kept() -> None:
    """What the invite stage marked between finding the user and writing it is written along, and told as a race."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
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
    """Return what an event wants that only names its user."""
    external_id = MatchCriterion("attributes.userId", "u-1")
    representation = UserRepresentation(attributes={"userId": ["u-1"]})
    if intent in (Intent.DISABLE, Intent.ANONYMISE):
        representation["enabled"] = False
    return DesiredUser(representation, (external_id,), intent=intent, **more)


def test_a_user_whose_mail_is_on_its_way_is_not_judged() -> None:
    """Another process may put back what it had read before its mark; a second look sees to that, and no dead letter."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
    (user,) = harness.keycloak.users()
    update = harness.keycloak.update

    def undone(user_id: str, representation: UserRepresentation) -> None:
        update(user_id, {**representation, "email": user["email"]})

    harness.keycloak.update = undone  # type: ignore[method-assign]

    raced = harness.provisioner.provision(
        an_event("event-2", day=2), a_desired_user(email="eve@acme.example", invitation=None)
    )

    assert (True, "due:event-1") == (raced.raced, invitation_state(user))


def test_a_deleted_user_is_gone() -> None:
    """The result says so, and names nothing that was written."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
    gone = changed(Intent.DELETE, unknown=UnknownUser.SKIP)

    result = harness.provisioner.provision(an_event("event-2", day=2), gone).result
    again = harness.provisioner.provision(an_event("event-2", day=2), gone).result

    assert ("deleted", (), ()) == (result.action, result.changed, harness.keycloak.users())
    assert (Outcome.SKIPPED, "unknown-user") == (again.outcome, again.reason)


def test_a_disabled_user_is_logged_out() -> None:
    """The switch first, so that nobody logs in again behind it; what is left over is done by redelivery."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.log_in(user["id"])
    harness.keycloak.fail("end_sessions", KeycloakUnavailableError("down"))
    off = changed(Intent.DISABLE, ends_sessions=True)
    with pytest.raises(KeycloakUnavailableError):
        harness.provisioner.provision(an_event("event-2", day=2), off)

    assert not harness.keycloak.users()[0]["enabled"]
    result = harness.provisioner.provision(an_event("event-2", day=2), off).result
    assert ("updated", 0) == (result.action, harness.keycloak.sessions_of(user["id"]))


def test_a_username_that_must_stay_keeps_nothing_else_of_the_person() -> None:
    """Where the realm lets nobody change it: all the rest is erased, it is told, and a replay finishes it."""
    harness = Harness()
    harness.provisioner.provision(an_event(), a_desired_user())
    (user,) = harness.keycloak.users()
    harness.keycloak.log_in(user["id"])
    gone = changed(Intent.ANONYMISE, ends_sessions=True)

    with pytest.raises(MappingError) as caught:
        harness.provisioner.provision(an_event("event-2", day=2), gone)

    (left,) = harness.keycloak.users()
    assert ("username-kept", user["username"]) == (caught.value.code, left["username"])
    assert (False, 0) == (left["enabled"], harness.keycloak.sessions_of(user["id"]))
    assert {"email", "firstName", "lastName"}.isdisjoint(left)
    with harness.keycloak.usernames_editable():
        harness.provisioner.provision(an_event("event-2", day=2), gone)
    (anonymous,) = harness.keycloak.users()
    assert f"anonymous-{user['id']}" == anonymous["username"]


def test_what_was_written_is_named_without_values() -> None:
    """Targets as in the mapping; what the bridge remembers for itself is left out."""
    harness = Harness()
    first = a_desired_user()
    harness.provisioner.provision(an_event(), first)
    later = replace(
        a_desired_user(email="new@acme.example", groups=("/staff",), realm_roles=("viewer",)),
        identities=(IdentityLink("corp", "ada@corp"),),
    )
    harness.keycloak.add_identity_provider("corp")

    result = harness.provisioner.provision(an_event("event-2", day=2), later).result

    assert ("email", "groups", "realmRoles", "identities.corp") == result.changed
    assert "updated" == result.action


def test_memberships_and_links_are_taken_away() -> None:
    """Of what the mapping owns, whatever the event does not name."""
    harness = Harness()
    harness.keycloak.add_identity_provider("corp")
    first = replace(
        a_desired_user(groups=("/staff",)), identities=(IdentityLink("corp", "ada@corp"),)
    )
    harness.provisioner.provision(an_event(), first)
    later = replace(
        a_desired_user(),
        memberships=(Membership(GROUPS, (), owned=frozenset({"/staff"})),),
        identities=(IdentityLink("corp", None),),
    )

    result = harness.provisioner.provision(an_event("event-2", day=2), later).result

    (user,) = harness.keycloak.users()
    assert ("groups", "identities.corp") == result.changed
    assert (frozenset(), ()) == (
        harness.keycloak.groups_of(user["id"]),
        harness.keycloak.identities_of(user["id"]),
    )


def test_an_account_of_another_user_is_not_linked() -> None:
    """Keycloak would link one account twice; nothing is written of an event that asks for that."""
    harness = Harness()
    harness.keycloak.add_identity_provider("corp")
    owner = harness.keycloak.add_user(UserRepresentation(username="owner", enabled=True))
    harness.keycloak.link_identity(owner, IdentityLink("corp", "ada@corp"))
    desired = replace(a_desired_user(), identities=(IdentityLink("corp", "ada@corp"),))

    with pytest.raises(ConflictError) as caught:
        harness.provisioner.provision(an_event(), desired)

    assert ("identity-taken", ["/user/identities/corp"], []) == (
        caught.value.code,
        [violation.pointer for violation in caught.value.violations],
        harness.writes,
    )


@pytest.mark.parametrize("existing", [False, True])
def test_a_missing_group_is_created_where_the_mapping_says_so(existing: bool) -> None:
    """Before the user, who is a member from the beginning."""
    harness = Harness()
    if existing:
        harness.provisioner.provision(an_event(), a_desired_user())
    desired = replace(
        a_desired_user(),
        memberships=(Membership(GROUPS, ("/new/team", "/staff"), create_missing=True),),
    )

    harness.provisioner.provision(an_event("event-2", day=2), desired)

    (user,) = harness.keycloak.users()
    assert {"/new/team", "/staff"} == harness.keycloak.groups_of(user["id"])


def test_a_missing_organization_is_named_before_anything_is_written() -> None:
    """Whoever runs the realm creates organizations."""
    harness = Harness()
    harness.keycloak.add_organization("acme")
    desired = replace(
        a_desired_user(), memberships=(Membership(ORGANIZATIONS, ("acme", "nowhere")),)
    )

    with pytest.raises(MappingError) as caught:
        harness.provisioner.provision(an_event(), desired)

    assert ("organization-missing", ["/user/organizations/1"], []) == (
        caught.value.code,
        [violation.pointer for violation in caught.value.violations],
        harness.writes,
    )


def test_an_event_waits_for_its_user_and_not_for_ever() -> None:
    """Ten minutes after this process has seen it first, it becomes a dead letter."""
    harness = Harness()
    waiting = changed(Intent.ENABLE, unknown=UnknownUser.WAIT)
    for passed_s in (0.0, 300.0, 299.0):
        harness.clock.advance(passed_s)
        with pytest.raises(HoldError) as held:
            harness.provisioner.provision(an_event(), waiting)
        assert ("unknown-user", 2.0) == (held.value.code, held.value.wait_s)

    harness.clock.advance(1.0)
    with pytest.raises(UnknownUserError):
        harness.provisioner.provision(an_event(), waiting)
    with pytest.raises(HoldError):
        harness.provisioner.provision(an_event(), waiting)


def test_a_user_that_appears_ends_the_waiting() -> None:
    """Its creation came by another partition."""
    harness = Harness()
    waiting = changed(Intent.DISABLE, unknown=UnknownUser.WAIT)
    with pytest.raises(HoldError):
        harness.provisioner.provision(an_event("event-2", day=2), waiting)
    harness.provisioner.provision(an_event(), a_desired_user())

    result = harness.provisioner.provision(an_event("event-2", day=2), waiting).result

    assert ("updated", ("enabled",)) == (result.action, result.changed)


def test_too_many_deletions_engage_the_brake_before_the_next_one() -> None:
    """What was done stays done; the rest waits until somebody has looked."""
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
