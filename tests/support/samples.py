"""Events and users that unit tests share."""

from dataclasses import replace
from datetime import UTC, datetime

from keycloak_bridge.domain.events import Invitation, Purpose, UserEvent
from keycloak_bridge.domain.users import (
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    InvitationTerms,
    MatchCriterion,
    Membership,
    UserRepresentation,
)
from keycloak_bridge.planning.ownership import OwnUsers

OWN_USERS = OwnUsers("userId", frozenset(("admin",)), frozenset(("/admins",)))
TERMS = InvitationTerms(actions=("UPDATE_PASSWORD",), lifespan_s=3600)


def an_event(event_id: str = "event-1", *, user_id: str = "u-1", day: int = 1) -> UserEvent:
    """Return a validated event; its data has no meaning once there is a desired user."""
    return UserEvent(
        id=event_id,
        source="/user-management",
        type="user.created",
        subject=user_id,
        time=datetime(2026, 11, day, tzinfo=UTC),
        schema_id="urn:keycloak-bridge:schema:user.created:1.0",
        data={},
    )


def a_desired_user(
    *,
    user_id: str = "u-1",
    username: str = "ada",
    email: str = "ada@acme.example",
    groups: tuple[str, ...] = (),
    realm_roles: tuple[str, ...] = (),
    invitation: InvitationTerms | None = TERMS,
) -> DesiredUser:
    """Return what a mapping would make of an event."""
    return DesiredUser(
        representation=UserRepresentation(
            username=username,
            email=email,
            enabled=True,
            firstName="Ada",
            lastName="Lovelace",
            attributes={"userId": [user_id], "tenantId": ["tenant-1"]},
        ),
        matching=(
            MatchCriterion("attributes.userId", user_id),
            MatchCriterion("username", username),
            MatchCriterion("email", email),
        ),
        memberships=tuple(
            Membership(kind, names)
            for kind, names in ((GROUPS, groups), (REALM_ROLES, realm_roles))
            if names
        ),
        invitation=invitation,
    )


def a_due_user(mark: str = "due:event-1", **fields: object) -> UserRepresentation:
    """Return a user whose invitation has this mark; `fields` are added or replaced."""
    user: dict[str, object] = {
        "username": "ada",
        "email": "ada@acme.example",
        "enabled": True,
        "attributes": {"userId": ["u-1"], "bridgeInvitation": [mark]},
    }
    return UserRepresentation(**{**user, **fields})  # type: ignore[typeddict-item]


def an_invitation(
    keycloak_id: str,
    event_id: str = "event-1",
    purpose: Purpose = Purpose.INVITE,
    time: datetime = datetime(2026, 11, 1, tzinfo=UTC),
) -> Invitation:
    """Return what the provision stage publishes for a user."""
    actions = ("VERIFY_EMAIL",) if purpose is Purpose.VERIFY_EMAIL else TERMS.actions
    return Invitation(
        id=f"{event_id}/invitation",
        event_id=event_id,
        user_id="u-1",
        keycloak_id=keycloak_id,
        terms=replace(TERMS, actions=actions),
        time=time,
        purpose=purpose,
    )
