"""Planning is pure: the fewest writes, and none the second time."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from plan_cases import CREATED, INVITED, NOON, TERMS, changed, desired, done, event, sent

from keycloak_bridge.core.model import (
    Change,
    CreateUser,
    DesiredUser,
    GrantRealmRoles,
    JoinGroups,
    Operation,
    Plan,
    RequestInvitation,
    UpdateUser,
)
from keycloak_bridge.core.plan import (
    describe,
    invitation_marker_due,
    invitation_marker_sending,
    invitation_marker_sent,
    invitation_state,
    plan_user,
    with_invitation_sending,
    with_invitation_sent,
)


def test_a_new_user_is_created_in_one_call() -> None:
    """Representation, groups and bookkeeping go into the create; roles and mail need their own calls."""
    assert plan_user(event(), desired(), None) == Plan(
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
                        "bridgeEventId": ["e1"],
                        "bridgeEventTime": ["2026-11-01T12:00:00.000000Z"],
                        "bridgeInvitation": ["due:e1"],
                    },
                    "groups": ["/staff"],
                }
            ),
            GrantRealmRoles(("viewer",)),
            RequestInvitation(TERMS),
        ),
    )


@pytest.mark.parametrize(
    "user",
    [
        desired(enabled=False),
        desired(email=""),
        replace(desired(), invitation=None),
    ],
    ids=["disabled", "no-email", "mode-none"],
)
def test_no_invitation_where_none_can_be(user: DesiredUser) -> None:
    """Disabled users, users without an address, and a bridge that invites nobody: no mark, no request."""
    create, *others = plan_user(event(), user, None).operations

    assert isinstance(create, CreateUser)
    assert "bridgeInvitation" not in create.representation["attributes"]
    assert not any(isinstance(one, RequestInvitation) for one in others)


def test_a_bare_user_needs_one_operation() -> None:
    """Without roles, groups and mail nothing but the create remains; an event without a time stores none."""
    bare = replace(desired(), groups=(), realm_roles=(), invitation=None)
    (create,) = plan_user(event(time=None), bare, None).operations

    assert isinstance(create, CreateUser)
    assert "groups" not in create.representation
    assert "bridgeEventTime" not in create.representation["attributes"]


def test_a_redelivered_event_writes_nothing() -> None:
    """After its own outcome only the mail that is still due is asked for, and after the mail nothing."""
    assert plan_user(event(), desired(), CREATED) == Plan("42", (RequestInvitation(TERMS),))
    assert plan_user(event(), desired(), INVITED) == Plan("42")


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("due:e1", (RequestInvitation(TERMS),)),
        ("sending:e1", (RequestInvitation(TERMS),)),
        ("sent:e1", ()),
        ("due:e0", ()),
        ("sending:e0", ()),
    ],
)
def test_the_mail_is_asked_for_until_it_is_marked_as_sent(
    mark: str, expected: tuple[Operation, ...]
) -> None:
    """One that may have gone out too: what is done about it is the inviter's to decide."""
    found = changed(CREATED, {"bridgeInvitation": [mark]})

    assert expected == plan_user(event(), desired(), found).operations


def test_redelivery_completes_what_a_crash_left() -> None:
    """Groups and roles that are missing are added, nothing else is written."""
    found = replace(INVITED, groups=frozenset(), realm_roles=frozenset())

    assert plan_user(event(), desired(), found) == Plan(
        "42", (JoinGroups(("/staff",)), GrantRealmRoles(("viewer",)))
    )


def test_redelivery_does_not_enable_a_user_that_was_disabled_since() -> None:
    """An administrator's word is newer than the same old event."""
    assert plan_user(event(), desired(), changed(INVITED, enabled=False)).operations == ()


def test_a_disabled_user_gets_no_mail_although_it_is_due() -> None:
    """Keycloak would refuse the mail."""
    assert plan_user(event(), desired(), changed(CREATED, enabled=False)).operations == ()


def test_a_newer_event_updates_what_differs() -> None:
    """One PUT with all changes; it keeps what others wrote and leaves volatile fields out."""
    found = changed(INVITED, {"theirs": ["x"]}, emailVerified=True, requiredActions=[])
    later = event("e2", NOON + timedelta(hours=1))
    (update,) = plan_user(later, desired(firstName="Augusta"), found).operations

    assert isinstance(update, UpdateUser)
    assert update.changes == (
        Change("firstName", "Ada", "Augusta"),
        Change("attributes.bridgeEventId", ["e1"], ["e2"]),
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
            "bridgeEventId": ["e2"],
            "bridgeEventTime": ["2026-11-01T13:00:00.000000Z"],
            "bridgeInvitation": ["sent:e1"],
        },
    }


def test_a_newer_event_disables_and_enables() -> None:
    """User management decides about its users."""
    later = event("e2", NOON + timedelta(hours=1))
    (update,) = plan_user(later, desired(enabled=False), INVITED).operations

    assert isinstance(update, UpdateUser)
    assert update.representation["enabled"] is False


def test_a_newer_event_asks_for_no_second_mail() -> None:
    """The mail belongs to the event that created the user, due or sent."""
    later = event("e2", NOON + timedelta(hours=1))

    for found in (CREATED, INVITED):
        operations = plan_user(later, desired(), found).operations
        assert [type(one) for one in operations] == [UpdateUser]


@pytest.mark.parametrize(
    ("stored", "time", "skipped"),
    [
        ("2026-11-01T12:00:00.000001Z", NOON, "stale"),
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
    later = plan_user(event("e2", NOON + timedelta(hours=1)), desired(firstName="A"), CREATED)
    found = done(later, CREATED)

    assert plan_user(event(), desired(), found) == Plan("42", (RequestInvitation(TERMS),), "stale")
    assert plan_user(event(), desired(), sent(found)) == Plan("42", (), "stale")


def test_invitation_marks() -> None:
    """The inviter reads and writes the mark through these, and its body is whole."""
    user = CREATED.representation

    assert invitation_state(user) == invitation_marker_due("e1")
    body = with_invitation_sending(user, "e1")
    assert invitation_state(body) == invitation_marker_sending("e1")
    body = with_invitation_sent(user, "e1")
    assert invitation_state(body) == invitation_marker_sent("e1")
    assert body["email"] == user["email"]
    assert "enabled" not in body
    assert invitation_state({"username": "ada"}) is None


def test_describes_every_operation() -> None:
    """People read a plan as rows."""
    create = plan_user(event(), desired(), None)
    found = replace(INVITED, groups=frozenset())
    update = plan_user(event("e2", None), desired(firstName="A"), found)

    assert ("create", "attributes.tenantId", None, ["t1"]) in describe(create)
    assert describe(create)[-2:] == (
        ("grant", "realmRoles", None, "viewer"),
        ("invite", "actions", None, ["UPDATE_PASSWORD"]),
    )
    assert describe(update) == (
        ("update", "firstName", "Ada", "A"),
        ("update", "attributes.bridgeEventId", ["e1"], ["e2"]),
        ("join", "groups", None, "/staff"),
    )
