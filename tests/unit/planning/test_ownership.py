"""An event never changes the account of another user."""

from dataclasses import replace

import pytest
from plan_cases import INVITED, changed, desired, done, event, wanting

from keycloak_bridge.domain.errors import ConflictError
from keycloak_bridge.domain.operations import RequestInvitation
from keycloak_bridge.domain.users import (
    GROUPS,
    DesiredUser,
    FoundUser,
    Intent,
    LinkPolicy,
    Membership,
)
from keycloak_bridge.planning.plan import plan_user

FOREIGN = FoundUser(
    "7",
    {"username": "ada", "email": "Ada@Acme.example", "enabled": True, "emailVerified": False},
    "username",
)


def verified(found: FoundUser) -> FoundUser:
    """Return `found` with its e-mail verified."""
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
