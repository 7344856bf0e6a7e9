"""A mail is due once, under the event that the mark on the user names."""

from dataclasses import replace

import pytest
from plan_cases import (
    CREATED,
    INVITED,
    LATER,
    TERMS,
    changed,
    desired,
    done,
    event,
    identity,
    sent,
    updating,
    wanting,
)

from keycloak_bridge.domain.events import Purpose
from keycloak_bridge.domain.operations import CreateUser, Plan, RequestInvitation
from keycloak_bridge.domain.users import (
    DesiredUser,
    EmailChange,
    FoundUser,
    Intent,
    InvitationTerms,
)
from keycloak_bridge.planning.bookkeeping import mark_text
from keycloak_bridge.planning.plan import plan_user

RESEND = RequestInvitation(TERMS, Purpose.RESEND)
VERIFY = RequestInvitation(replace(TERMS, actions=("VERIFY_EMAIL",)), Purpose.VERIFY_EMAIL)
E2 = event("e2", LATER)
MOVED = updating(email="ada@new.example")
VERIFIED_MOVE = replace(MOVED, email_change=EmailChange.VERIFY)
LINKED = changed(CREATED, {"bridgeInvitation": []}, emailVerified=True)


def mails(plan: Plan) -> tuple[RequestInvitation, ...]:
    """Return the mails that `plan` requests, which come last."""
    found = tuple(one for one in plan.operations if isinstance(one, RequestInvitation))
    assert plan.operations[len(plan.operations) - len(found) :] == found
    return found


@pytest.mark.parametrize(
    ("user", "mark"),
    [
        (desired(enabled=False), [f"due:{identity('e1')}"]),
        (desired(email=""), [f"due:{identity('e1')}"]),
        (replace(desired(), invitation=None), None),
    ],
    ids=["disabled", "no-email", "invitations-off"],
)
def test_a_new_user_that_is_not_mailed(user: DesiredUser, mark: list[str] | None) -> None:
    """One that cannot be mailed yet is marked, for later; a bridge without invitations marks none."""
    create, *others = plan_user(event(), user, None).operations

    assert isinstance(create, CreateUser)
    assert create.representation["attributes"].get("bridgeInvitation") == mark
    assert not any(isinstance(one, RequestInvitation) for one in others)


WITHOUT_ADDRESS = done(plan_user(event(), desired(email=""), None), None)
ASKED_WHILE_DISABLED = done(
    plan_user(E2, wanting(Intent.INVITE), changed(INVITED, enabled=False)),
    changed(INVITED, enabled=False),
)


@pytest.mark.parametrize(
    ("user", "found", "expected"),
    [
        (updating(email="ada@acme.example"), WITHOUT_ADDRESS, (RequestInvitation(TERMS),)),
        (updating(email="ada@acme.example"), changed(INVITED, email="Ada@Acme.Example"), ()),
        (MOVED, LINKED, ()),
        (wanting(Intent.INVITE), LINKED, (RESEND,)),
        (wanting(Intent.INVITE, invitation=None), LINKED, ()),
        (wanting(Intent.INVITE), changed(INVITED, enabled=False), ()),
        (wanting(Intent.ENABLE), ASKED_WHILE_DISABLED, (RequestInvitation(TERMS),)),
    ],
    ids=[
        "gets an address",
        "only in capitals",
        "existed before the bridge",
        "existed before, requested",
        "existed before, invitations off",
        "requested while disabled",
        "enabled after the request",
    ],
)
def test_who_is_mailed(
    user: DesiredUser, found: FoundUser, expected: tuple[RequestInvitation, ...]
) -> None:
    """A user is mailed once it can be; one that existed before the bridge only on request, and stays verified."""
    plan = plan_user(event("e3", LATER), user, found)

    assert expected == mails(plan)
    verified = [one.representation.get("emailVerified") for one in (found, done(plan, found))]
    assert verified[0] == verified[1]


@pytest.mark.parametrize("mark", [f"due:{identity('e1')}", f"sending:{identity('e1')}"])
@pytest.mark.parametrize(
    "enabling", [wanting(Intent.ENABLE), updating(enabled=True), desired(enabled=True)]
)
def test_a_user_that_is_enabled_is_invited_then(enabling: DesiredUser, mark: str) -> None:
    """Under the event that enables: what was asked for under the first one is refused, or may be right now."""
    found = changed(CREATED, {"bridgeInvitation": [mark]}, enabled=False)
    plan = plan_user(E2, enabling, found)
    after = done(plan, found)

    assert mails(plan) == (RequestInvitation(TERMS),)
    assert mark_text(after.representation) == f"due:{E2.identity}"
    assert plan_user(E2, enabling, after) == Plan("42", mails(plan))
    assert mails(plan_user(event(), desired(enabled=False), after)) == ()
    assert plan_user(E2, enabling, sent(after, "e2")).operations == ()


@pytest.mark.parametrize(
    "found",
    [
        changed(INVITED, enabled=False),
        changed(LINKED, enabled=False),
        changed(CREATED),
    ],
    ids=["invited-before", "never-to-be-invited", "enabled-already"],
)
def test_enabling_invites_nobody_else(found: FoundUser) -> None:
    """Neither who was invited, nor who was there before the bridge, nor who waits for a mail that is on its way."""
    plan = plan_user(E2, wanting(Intent.ENABLE), found)

    assert mails(plan) == ()
    assert mark_text(done(plan, found).representation) == mark_text(found.representation)


@pytest.mark.parametrize("found", [CREATED, INVITED], ids=["due", "sent"])
def test_a_changed_address_makes_the_invitation_due_again(found: FoundUser) -> None:
    """Keycloak invalidates the link that was mailed to the old one."""
    plan = plan_user(E2, MOVED, found)
    after = done(plan, found)

    assert mails(plan) == (RESEND,)
    assert mark_text(after.representation) == f"due-until:0:{E2.identity}"
    assert plan_user(E2, MOVED, after) == Plan("42", (RESEND,))
    assert plan_user(E2, MOVED, sent(after, "e2")).operations == ()
    # where the address is erased there is nowhere to send another
    erased = plan_user(E2, replace(updating(), cleared=frozenset({"email"})), found)
    without = done(erased, found)
    assert mails(erased) == ()
    assert mark_text(without.representation) == f"due-until:0:{E2.identity}"
    assert mails(plan_user(event("e3", LATER), MOVED, without)) == (RESEND,)


def test_a_changed_address_is_verified() -> None:
    """In the same write it counts as unverified; an invitation comes first, since its link verifies as well."""
    found = changed(INVITED, emailVerified=True)
    plan = plan_user(E2, VERIFIED_MOVE, found)
    after = done(plan, found)

    assert mails(plan) == (RESEND, VERIFY)
    assert after.representation["emailVerified"] is False
    assert plan_user(E2, VERIFIED_MOVE, after) == Plan("42", (RESEND, VERIFY))
    assert plan_user(E2, VERIFIED_MOVE, sent(after, "e2")).operations == ()
    # a verified address in the mapping then counts for new users only
    mapped = replace(updating(emailVerified=True), email_change=EmailChange.VERIFY)
    unverified = changed(INVITED, emailVerified=False)
    kept = done(plan_user(E2, mapped, unverified), unverified)
    assert kept.representation["emailVerified"] is False


def test_a_user_that_is_never_invited_verifies_too() -> None:
    """It gets that mail only; without terms its link is valid as long as Keycloak's own."""
    for terms, lifespan_s in ((TERMS, 43200), (replace(TERMS, lifespan_s=60), 60), (None, 43200)):
        plan = plan_user(E2, replace(VERIFIED_MOVE, invitation=terms), LINKED)
        assert mails(plan) == (
            RequestInvitation(InvitationTerms(("VERIFY_EMAIL",), lifespan_s), Purpose.VERIFY_EMAIL),
        )


@pytest.mark.parametrize("terms", [TERMS, None], ids=["inviting", "without-invitations"])
@pytest.mark.parametrize(
    "enabling", [wanting(Intent.ENABLE), updating(enabled=True)], ids=["enabled", "updated"]
)
def test_an_address_that_changed_while_disabled_is_verified_once_enabled(
    enabling: DesiredUser, terms: InvitationTerms | None
) -> None:
    """Keycloak mails no disabled user; one with a password would never be asked again."""
    found = changed(INVITED, enabled=False, emailVerified=True)
    move = replace(VERIFIED_MOVE, invitation=terms)
    enable = replace(enabling, invitation=terms, email_change=EmailChange.VERIFY)
    moved = plan_user(E2, move, found)
    e3 = event("e3", LATER)
    enabled = plan_user(e3, enable, done(moved, found))
    after = done(enabled, done(moved, found))

    assert mails(moved) == ()
    assert [one.purpose for one in mails(enabled)] == (
        [Purpose.VERIFY_EMAIL] if terms is None else [Purpose.RESEND, Purpose.VERIFY_EMAIL]
    )
    assert plan_user(e3, enable, after) == Plan("42", mails(enabled))
    assert plan_user(e3, enable, sent(after, "e3")) == Plan("42")


def test_an_invitation_that_is_asked_for() -> None:
    """Bookkeeping only; asked for until it is sent, and never again by the same event."""
    again = wanting(Intent.INVITE)
    found = changed(INVITED, {"bridgeInvitation": ["sent-until:5:e1"]})
    plan = plan_user(E2, again, found)
    after = done(plan, found)

    assert mails(plan) == (RESEND,)
    assert mark_text(after.representation) == f"due-until:5:{E2.identity}"
    assert plan_user(E2, again, after) == Plan("42", (RESEND,))
    assert plan_user(E2, again, sent(after, "e2")) == Plan("42")
