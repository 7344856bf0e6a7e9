"""Planning is pure: the fewest writes, none the second time, and never to the account of another user."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import (
    CREATED,
    INVITED,
    LATER,
    NAMES,
    NOON,
    TERMS,
    changed,
    desired,
    done,
    event,
    identity,
    mapped,
    representations,
    sent,
    updating,
    wanting,
)

from keycloak_bridge.domain.errors import ConflictError, UnknownUserError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, Purpose, UserEvent
from keycloak_bridge.domain.operations import (
    Change,
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
    visible_changes,
)
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
    Membership,
    UnknownUser,
    client_roles,
)
from keycloak_bridge.planning.plan import plan_user

IDENTITY = IdentityLink("okta", "o1", "ada")
E2 = event("e2", LATER)
STARTED = ("due", "sending")


def only_update(plan: Plan) -> UpdateUser:
    (update,) = plan.operations
    assert isinstance(update, UpdateUser)
    return update


def test_a_new_user_is_created_in_one_call() -> None:
    """Groups and bookkeeping go with it; roles, identities and mail need their own calls. A complete update creates, too."""
    user = replace(desired(), identities=(IDENTITY, IdentityLink("azure", None)))
    updated = replace(user, intent=Intent.UPDATE)

    assert (
        plan_user(event(), updated, None)
        == plan_user(event(), user, None)
        == Plan(
            None,
            (
                CreateUser(
                    {
                        "username": "ada",
                        "email": "ada@acme.example",
                        "firstName": "Ada",
                        "enabled": True,
                        "attributes": {
                            "userId": ["u1"],
                            "tenantId": ["t1"],
                            "bridgeEventId": [identity("e1")],
                            "bridgeEventTime": ["2026-11-01T12:00:00.000000Z"],
                            "bridgeInvitation": [f"due:{identity('e1')}"],
                        },
                        "groups": ["/staff"],
                    }
                ),
                Join(REALM_ROLES, ("viewer",)),
                LinkIdentity(IDENTITY),
                RequestInvitation(TERMS),
            ),
        )
    )


def test_a_bare_user_needs_one_operation() -> None:
    """Without roles, groups and mail nothing but the create remains; an event without a time stores none."""
    bare = replace(desired(), memberships=(), invitation=None)
    (create,) = plan_user(event(time=None), bare, None).operations

    assert isinstance(create, CreateUser)
    assert "groups" not in create.representation
    assert "bridgeEventTime" not in create.representation["attributes"]


MAIL = (RequestInvitation(TERMS),)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (CREATED, MAIL),
        (INVITED, ()),
        *(
            (changed(CREATED, {"bridgeInvitation": [f"{one}:{identity('e1')}"]}), MAIL)
            for one in STARTED
        ),
        *((changed(CREATED, {"bridgeInvitation": [f"{one}:e0"]}), ()) for one in STARTED),
        (changed(CREATED, {"bridgeInvitation": [f"sent:{identity('e1')}"]}), ()),
        (
            replace(INVITED, memberships={}),
            (Join(GROUPS, ("/staff",)), Join(REALM_ROLES, ("viewer",))),
        ),
        (changed(INVITED, enabled=False), ()),
        (changed(CREATED, enabled=False), ()),
    ],
)
def test_a_redelivered_event_writes_only_what_is_missing(
    found: FoundUser, expected: tuple[Operation, ...]
) -> None:
    """It requests the mail until that is marked as sent, and enables no user that was disabled since."""
    assert Plan("42", expected) == plan_user(event(), desired(), found)


def test_a_newer_event_updates_what_differs() -> None:
    """One PUT with all changes; it keeps what others wrote and leaves volatile fields out."""
    found = changed(INVITED, {"theirs": ["x"]}, emailVerified=True, requiredActions=[])
    update = only_update(plan_user(E2, desired(firstName="Augusta"), found))

    assert update.changes == (
        Change("firstName", "Ada", "Augusta"),
        Change("attributes.bridgeEventId", [identity("e1")], [E2.identity]),
        Change(
            "attributes.bridgeEventTime",
            ["2026-11-01T12:00:00.000000Z"],
            ["2026-11-01T13:00:00.000000Z"],
        ),
    )
    assert update.representation == {
        "id": "42",
        "username": "ada",
        "email": "ada@acme.example",
        "firstName": "Augusta",
        "attributes": {
            "userId": ["u1"],
            "tenantId": ["t1"],
            "theirs": ["x"],
            "bridgeEventId": [E2.identity],
            "bridgeEventTime": ["2026-11-01T13:00:00.000000Z"],
            "bridgeInvitation": [f"sent:{identity('e1')}"],
        },
    }


def test_a_newer_event_asks_for_no_second_mail() -> None:
    """The mail belongs to the event that created the user, due or sent."""
    for found in (CREATED, INVITED):
        operations = plan_user(E2, desired(), found).operations
        assert [type(one) for one in operations] == [UpdateUser]


@pytest.mark.parametrize(
    ("stored", "time", "skipped"),
    [
        ("2026-11-01T12:00:01Z", NOON, "stale"),
        ("2026-11-01T12:00:00.000001Z", NOON, None),
        ("2026-11-01T14:00:00+02:00", NOON, None),
        ("2026-11-01T12:00:00Z", NOON, None),
        ("2026-11-01T11:00:00Z", NOON, None),
        ("2026-11-01T13:00:00Z", None, None),
        ("last week", NOON, None),
    ],
)
def test_an_older_event_is_stale(stored: str, time: datetime | None, skipped: str | None) -> None:
    """Points in time are compared, not texts; without two of them nothing is stale."""
    found = changed(INVITED, {"bridgeEventTime": [stored]})

    assert plan_user(event("e0", time), desired(), found).skipped == skipped


def test_a_stale_event_writes_nothing_but_its_mail_is_still_due() -> None:
    """A newer event must not swallow the invitation of the one that created the user."""
    later = plan_user(E2, desired(firstName="A"), CREATED)
    found = done(later, CREATED)

    assert plan_user(event(), desired(), found) == Plan("42", (RequestInvitation(TERMS),), "stale")
    assert plan_user(event(), desired(), sent(found)) == Plan("42", (), "stale")


@pytest.mark.parametrize(
    ("intent", "unknown"),
    [
        *(
            (one, policy)
            for one in Intent
            for policy in (UnknownUser.DEAD_LETTER, UnknownUser.WAIT)
        ),
        *((one, UnknownUser.CREATE) for one in (Intent.DISABLE, Intent.DELETE, Intent.INVITE)),
    ],
)
def test_an_unknown_user_is_refused(intent: Intent, unknown: UnknownUser) -> None:
    """An event that only names its user creates none, whatever the policy; the message names no user."""
    with pytest.raises(UnknownUserError) as caught:
        plan_user(event(), wanting(intent, unknown=unknown), None)
    assert caught.value.code == "unknown-user"
    assert "u1" not in f"{caught.value.message} {caught.value.remedy}"


def test_deleting_needs_one_operation_at_most() -> None:
    """None for a user that is gone already, or of which a newer event says that it exists."""
    gone = wanting(Intent.DELETE)
    found = done(plan_user(E2, desired(), INVITED), INVITED)

    assert plan_user(event(), gone, None) == Plan(None, (), "unknown-user")
    assert plan_user(E2, gone, INVITED) == Plan("42", (DeleteUser(),))
    assert plan_user(event(), gone, found) == Plan("42", (), "stale")


def test_disabling_ends_the_sessions() -> None:
    """The switch comes first, so that no session starts in between; sessions that a crash left are ended later."""
    disable = wanting(Intent.DISABLE)
    found = replace(INVITED, sessions=2)
    plan = plan_user(E2, disable, found)
    update, end = plan.operations
    after = done(plan, found)
    left = replace(after, sessions=1)

    assert isinstance(update, UpdateUser)
    assert update.representation["enabled"] is False
    assert end == EndSessions()
    assert plan_user(E2, disable, after).operations == ()
    assert plan_user(E2, disable, left).operations == (EndSessions(),)
    assert plan_user(E2, disable, changed(left, enabled=True)).operations == ()


def test_enabling_turns_the_switch_only() -> None:
    """Such an event knows nothing else of the user; one that describes the user may disable it."""
    disabling = only_update(plan_user(E2, desired(enabled=False), INVITED))
    found = changed(INVITED, enabled=False)
    update = only_update(plan_user(E2, wanting(Intent.ENABLE), found))

    assert disabling.representation["enabled"] is False
    assert [one.target for one in update.changes] == [
        "enabled",
        "attributes.bridgeEventId",
        "attributes.bridgeEventTime",
    ]


def test_anonymising_erases_all_that_names_a_person() -> None:
    """Left are the ids, the bookkeeping and the memberships, and no way in."""
    found = replace(
        changed(INVITED, {"theirs": ["x"]}, lastName="King"), sessions=1, identities=(IDENTITY,)
    )
    plan = plan_user(E2, wanting(Intent.ANONYMISE), found)
    after = done(plan, found)

    assert after.representation == {
        "id": "42",
        "username": "anonymous-42",
        "enabled": False,
        "attributes": {
            "userId": ["u1"],
            "bridgeEventId": [E2.identity],
            "bridgeEventTime": after.representation["attributes"]["bridgeEventTime"],
            "bridgeInvitation": [f"sent:{identity('e1')}"],
        },
    }
    assert (after.identities, after.sessions) == ((), 0)
    assert after.memberships == INVITED.memberships
    assert plan_user(E2, wanting(Intent.ANONYMISE), after).operations == ()


def test_what_is_cleared_is_absent_from_the_body() -> None:
    """Keycloak erases what a PUT lacks."""
    user = replace(updating(), cleared=frozenset({"firstName", "attributes.tenantId", "lastName"}))
    update = only_update(plan_user(E2, user, INVITED))

    assert update.changes[2:] == (
        Change("attributes.tenantId", ["t1"], None),
        Change("firstName", "Ada", None),
    )
    assert "firstName" not in update.representation
    assert "tenantId" not in update.representation["attributes"]


@pytest.mark.parametrize(
    ("held", "membership", "expected"),
    [
        ({"a"}, Membership(ORGANIZATIONS, ("a", "b")), (Join(ORGANIZATIONS, ("b",)),)),
        ({"a", "x"}, Membership(ORGANIZATIONS, ("a",)), ()),
        (
            {"a", "b", "x"},
            Membership(ORGANIZATIONS, ("c",), frozenset("abc")),
            (Join(ORGANIZATIONS, ("c",)), Leave(ORGANIZATIONS, ("a", "b"))),
        ),
        ({"a"}, Membership(ORGANIZATIONS, (), frozenset("ab")), (Leave(ORGANIZATIONS, ("a",)),)),
    ],
    ids=["missing", "only-adds", "managed", "managed-and-none"],
)
def test_memberships(
    held: set[str], membership: Membership, expected: tuple[Operation, ...]
) -> None:
    """What is missing is joined; left is only what the mapping owns."""
    found = replace(INVITED, memberships={ORGANIZATIONS: frozenset(held)})
    user = replace(desired(), memberships=(membership,))

    assert expected == plan_user(event(), user, found).operations


@pytest.mark.parametrize(
    ("held", "link", "expected"),
    [
        ((), IDENTITY, (LinkIdentity(IDENTITY),)),
        ((IDENTITY,), IDENTITY, ()),
        ((replace(IDENTITY, user_name="eve"),), IDENTITY, ()),
        (
            (replace(IDENTITY, user_id="o2"),),
            IDENTITY,
            (LinkIdentity(IDENTITY, replace(IDENTITY, user_id="o2")),),
        ),
        ((IDENTITY,), IdentityLink("okta", None), (UnlinkIdentity(IDENTITY),)),
        ((), IdentityLink("okta", None), ()),
    ],
    ids=["new", "same", "renamed-there", "another", "taken-away", "none-to-take-away"],
)
def test_identities(
    held: tuple[IdentityLink, ...], link: IdentityLink, expected: tuple[Operation, ...]
) -> None:
    """The account's id counts; its name is the provider's to change."""
    found = replace(INVITED, identities=held)

    assert expected == plan_user(event(), replace(desired(), identities=(link,)), found).operations


def test_a_person_comes_back_to_its_anonymised_user() -> None:
    """With what the new event says; the username that it never had a say in stays, and no second invitation is due."""
    gone = done(plan_user(E2, wanting(Intent.ANONYMISE), INVITED), INVITED)
    again = event("e3", LATER + timedelta(hours=1))
    plan = plan_user(again, desired(), gone)
    user = done(plan, gone).representation

    assert ("anonymous-42", "ada@acme.example", "Ada", True) == (
        user["username"],
        user["email"],
        user["firstName"],
        user["enabled"],
    )
    assert [UpdateUser] == [type(one) for one in plan.operations]


def test_describes_every_operation() -> None:
    """A plan is shown as rows of verb, target, value before and after."""
    plan = Plan(
        None,
        (
            CreateUser({"username": "ada", "attributes": {"tenantId": ["t1"]}}),
            UpdateUser({}, (Change("firstName", "Ada", None),)),
            Join(GROUPS, ("/a", "/b")),
            Join(REALM_ROLES, ("viewer",)),
            Leave(GROUPS, ("/c",)),
            Leave(client_roles("app"), ("user",)),
            LinkIdentity(IDENTITY),
            LinkIdentity(IdentityLink("okta", "o2"), IDENTITY),
            UnlinkIdentity(IDENTITY),
            EndSessions(),
            DeleteUser(),
            RequestInvitation(TERMS),
            RequestInvitation(TERMS, Purpose.RESEND),
        ),
    )

    assert visible_changes(plan) == [
        ("create", "username", None, "ada"),
        ("create", "attributes.tenantId", None, ["t1"]),
        ("update", "firstName", "Ada", None),
        ("join", "groups", None, "/a"),
        ("join", "groups", None, "/b"),
        ("grant", "realmRoles", None, "viewer"),
        ("leave", "groups", "/c", None),
        ("revoke", "clientRoles.app", "user", None),
        ("link", "identities.okta", None, "o1"),
        ("link", "identities.okta", "o1", "o2"),
        ("unlink", "identities.okta", "o1", None),
        ("end", "sessions", None, None),
        ("delete", "user", None, None),
        ("invite", "actions", None, ["UPDATE_PASSWORD"]),
        ("resend", "actions", None, ["UPDATE_PASSWORD"]),
    ]


TIMES = st.none() | st.sampled_from([NOON - timedelta(1), NOON, NOON + timedelta(1)])
EVENTS = st.builds(event, st.sampled_from(["e1", "e2"]), TIMES)
WANTED = st.builds(
    lambda user, link, terms, change: replace(
        user, link=link, invitation=terms, email_change=change
    ),
    mapped(),
    st.sampled_from(LinkPolicy),
    st.sampled_from([None, TERMS]),
    st.sampled_from(EmailChange),
)
FOUND = st.none() | st.builds(
    FoundUser,
    st.just("42"),
    representations(st.sampled_from([[], ["u1"], ["u2"]])),
    st.sampled_from(["attributes.userId", "username", "email"]),
    st.fixed_dictionaries({GROUPS: st.frozensets(NAMES), REALM_ROLES: st.frozensets(NAMES)}),
    st.lists(st.builds(IdentityLink, st.just("okta"), NAMES), max_size=1).map(tuple),
)


@given(st.lists(EVENTS, min_size=1, max_size=3), WANTED, FOUND)
def test_planning_again_gives_nothing_to_do(
    events: list[UserEvent], user: DesiredUser, found: FoundUser | None
) -> None:
    """Whatever happened before: the second time only a mail that is due remains; foreign users stay as they are."""
    for one in events:
        stored = [] if found is None else found.representation["attributes"].get("userId", [])
        try:
            plan = plan_user(one, user, found)
        except UnknownUserError:
            assert found is None
            return
        except ConflictError:
            assert stored != ["u1"]
            return
        assert stored in ([], ["u1"])
        after = done(plan, found)
        if found is not None:
            owned = set(user.representation["attributes"]) | set(BOOKKEEPING_ATTRIBUTES)
            owned |= {one.removeprefix("attributes.") for one in user.cleared}
            for name, values in found.representation["attributes"].items():
                assert name in owned or after.representation["attributes"][name] == values
        again = plan_user(one, user, after)
        assert all(isinstance(left, RequestInvitation) for left in again.operations)
        assert plan_user(one, user, sent(after, one.id)).operations == ()
        found = after


FOREIGN = FoundUser(
    "7",
    {"username": "ada", "email": "Ada@Acme.example", "enabled": True, "emailVerified": False},
    "username",
)


def verified(found: FoundUser) -> FoundUser:
    return changed(
        replace(found, representation={**found.representation, "attributes": {}}),
        emailVerified=True,
    )


@pytest.mark.parametrize(
    ("link", "found", "allowed"),
    [
        (LinkPolicy.NEVER, FOREIGN, False),
        (LinkPolicy.NEVER, verified(FOREIGN), False),
        (LinkPolicy.VERIFIED_EMAIL, FOREIGN, False),
        (LinkPolicy.VERIFIED_EMAIL, verified(FOREIGN), True),
        (LinkPolicy.VERIFIED_EMAIL, changed(verified(FOREIGN), email="eve@acme.example"), False),
        (LinkPolicy.VERIFIED_EMAIL, changed(verified(FOREIGN), email=None), False),
        (LinkPolicy.MATCHING_ATTRIBUTE, FOREIGN, False),
        (LinkPolicy.MATCHING_ATTRIBUTE, verified(replace(FOREIGN, matched_by="email")), False),
        (LinkPolicy.MATCHING_ATTRIBUTE, replace(FOREIGN, matched_by="attributes.badge"), True),
    ],
)
def test_an_existing_account_is_linked_only_by_policy(
    link: LinkPolicy, found: FoundUser, allowed: bool
) -> None:
    """An account without an external id is taken on only when the mapping says so."""
    user = replace(desired(), link=link)
    if allowed:
        plan = plan_user(event(), user, found)
        after = done(plan, found)
        assert after.representation["attributes"]["userId"] == ["u1"]
        assert not any(isinstance(one, RequestInvitation) for one in plan.operations)
        assert plan_user(event(), user, after).operations == ()
        return

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), user, found)
    assert caught.value.code == "conflict"
    assert caught.value.violations[0].pointer == f"/user/{found.matched_by}"
    assert "ada" not in f"{caught.value.message} {caught.value.remedy}"


ATTRIBUTE_LINK = replace(desired(), link=LinkPolicy.MATCHING_ATTRIBUTE)
OWN = changed(verified(FOREIGN), {"userId": ["u1"]})
ADMINS = frozenset({"/admins"})
JOINING = replace(
    desired(), memberships=(Membership(GROUPS, ("/admins",)),), protected_groups=ADMINS
)


@pytest.mark.parametrize(
    ("user", "found", "code"),
    [
        *(
            (replace(desired(), link=link), changed(OWN, {"userId": stored}), "conflict")
            for link in LinkPolicy
            for stored in (["u2"], ["U1"], ["u1", "u2"])
        ),
        *(
            (replace(desired(username=name), create_only=frozenset()), found, "reserved-user")
            for name in ("root", "service-account-billing")
            for found in (None, OWN)
        ),
        (ATTRIBUTE_LINK, changed(INVITED, serviceAccountClientId="demo-app"), "reserved-user"),
        (ATTRIBUTE_LINK, changed(INVITED, username="service-account-demo"), "reserved-user"),
        (ATTRIBUTE_LINK, changed(INVITED, username="root"), "reserved-user"),
        (ATTRIBUTE_LINK, changed(INVITED, username="r\u03bfo\u200bt"), "reserved-user"),
        (ATTRIBUTE_LINK, changed(INVITED, email="Root"), "reserved-user"),
        (JOINING, None, "protected-user"),
        (JOINING, INVITED, "protected-user"),
    ],
)
def test_users_out_of_reach(user: DesiredUser, found: FoundUser | None, code: str) -> None:
    """Users of another external id, reserved usernames and protected groups; the message quotes none of them."""
    with pytest.raises(ConflictError) as caught:
        plan_user(event(), user, found, reserved=frozenset({"root"}))

    assert code == caught.value.code
    text = f"{caught.value.message} {caught.value.remedy}"
    assert not any(one in text for one in ("root", "service-account-", "/admins", "u2"))


@pytest.mark.parametrize(
    "intent", [one for one in Intent if one not in (Intent.PROVISION, Intent.UPDATE)]
)
def test_only_a_whole_event_links(intent: Intent) -> None:
    """One that disables or removes a user must not begin with taking one on."""
    user = wanting(intent, link=LinkPolicy.MATCHING_ATTRIBUTE)

    with pytest.raises(ConflictError):
        plan_user(event(), user, replace(FOREIGN, matched_by="attributes.badge"))


@pytest.mark.parametrize(
    ("group", "allowed"),
    [("/admins", False), ("/admins/first", False), ("/admins2", True), ("/staff", True)],
)
@pytest.mark.parametrize("user", [desired(), wanting(Intent.DELETE)], ids=["whole", "delete"])
def test_members_of_protected_groups_are_out_of_reach(
    user: DesiredUser, group: str, allowed: bool
) -> None:
    """Whatever the event wants; a group hands its roles down to those below it."""
    guarded = replace(user, protected_groups=frozenset({"/admins"}))
    found = replace(INVITED, memberships={GROUPS: frozenset({group, "/other"})})
    if allowed:
        assert plan_user(event(), guarded, found).skipped is None
        return

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), guarded, found)
    assert caught.value.code == "protected-user"
