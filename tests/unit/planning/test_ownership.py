"""An event never touches somebody else's account."""

from dataclasses import replace
from typing import Any

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


@pytest.mark.parametrize("found", [None, changed(verified(FOREIGN), {"userId": ["u1"]})])
@pytest.mark.parametrize("username", ["root", "service-account-billing"])
def test_no_event_makes_a_reserved_username(found: FoundUser | None, username: str) -> None:
    """Neither by creating its user nor by renaming it, even where only another mapping reserves the name."""
    user = replace(desired(username=username), create_only=frozenset())

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), user, found, reserved=frozenset({"root"}))

    assert "reserved-user" == caught.value.code
    assert username not in caught.value.message


@pytest.mark.parametrize("stored", [["u2"], ["U1"], ["u1", "u2"]])
@pytest.mark.parametrize("link", list(LinkPolicy))
def test_another_external_id_is_always_a_conflict(stored: list[str], link: LinkPolicy) -> None:
    """No policy lets an event touch a user of somebody else."""
    found = changed(verified(FOREIGN), {"userId": stored})

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), replace(desired(), link=link), found)
    assert caught.value.code == "conflict"


@pytest.mark.parametrize(
    "fields",
    [
        {"serviceAccountClientId": "demo-app"},
        {"username": "service-account-demo-app"},
        {"username": "admin"},
    ],
)
def test_reserved_users_are_out_of_reach(fields: dict[str, Any]) -> None:
    """Neither the external id nor a policy opens them."""
    user = replace(desired(), link=LinkPolicy.MATCHING_ATTRIBUTE)

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), user, changed(INVITED, **fields))
    assert caught.value.code == "reserved-user"


def test_reserved_names_are_the_mappings() -> None:
    """The mapping's own list decides."""
    with pytest.raises(ConflictError):
        plan_user(event(), desired(), INVITED, reserved={"ada"})


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


@pytest.mark.parametrize("found", [None, INVITED], ids=["new", "known"])
def test_nobody_joins_a_protected_group(found: FoundUser | None) -> None:
    """The user would be out of reach of its own next event."""
    user = replace(
        desired(),
        memberships=(Membership(GROUPS, ("/admins",)),),
        protected_groups=frozenset({"/admins"}),
    )

    with pytest.raises(ConflictError) as caught:
        plan_user(event(), user, found)
    assert caught.value.code == "protected-user"
    assert "/admins" not in f"{caught.value.message} {caught.value.remedy}"
