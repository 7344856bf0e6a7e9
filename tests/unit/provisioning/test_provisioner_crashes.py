"""A crash at any point between the calls for one event: its redelivery does the rest, and asks for no other mail."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from samples import TERMS, a_desired_user, an_event

from keycloak_bridge.domain.errors import BrokerUnavailableError, KeycloakUnavailableError
from keycloak_bridge.domain.events import Invitation
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.users import (
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    EmailChange,
    IdentityLink,
    Intent,
    MatchCriterion,
    Membership,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

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


class Realm:
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
    smooth, crashed = Realm(), Realm()
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
