"""Fold all events of one user into what they come to, so that it can be planned in one step.

A user is folded twice: once as if Keycloak had it before the first event, once as if it had not, since an event about an
unknown user may be refused, may wait or may create it. Only the live user decides which of the two holds. Each half is
the last word on every target, group, role and identity, in the space of one desired user.

What holds: planning the folded user against live state brings Keycloak to the same user (fields, attributes, switches,
memberships, identities, or none) as planning and applying the events one by one, in their order, with those left out
that are refused. It differs in this:

- one event is stamped on the user, the last; one mail is due, its own. A mail that an earlier event made due and that is
  still marked as such is left to that event;
- what somebody changed in Keycloak since an earlier event of the fold is set right, as the last event's targets are; one
  by one the earlier event would be stale. Switches are left as they are: a user disabled since must not come back;
- sessions end once, and only of a user that is disabled in the end;
- an address that was changed and changed back needs no verification;
- a user that is not there and was anonymised in the fold is created with a username made of its external id, since its
  Keycloak id is not known yet.

Lay one desired user over another: the last word on every target, membership and identity of a user that exists.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.operations import Plan, is_erasable
from keycloak_bridge.domain.users import (
    DesiredUser,
    FoundUser,
    IdentityLink,
    Intent,
    Membership,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.rules import ATTRIBUTE_PREFIX, DEFAULT_RESERVED
from keycloak_bridge.planning.bookkeeping import has_applied, is_stale
from keycloak_bridge.planning.plan import STALE, SWITCHES, anonymous_username, plan_user

NEUTRAL: Mapping[Intent, Intent] = MappingProxyType(
    {Intent.INVITE: Intent.ENABLE, Intent.ANONYMISE: Intent.DISABLE}
)
"""What is left of an intent that does more than its representation says, once that was done."""

_IMPERSONAL = frozenset(("emailVerified", "requiredActions"))
"""Fields that an anonymised user keeps, since they name nobody."""

_BRINGING = (Intent.PROVISION, Intent.UPDATE)


def overlaid(earlier: DesiredUser, later: DesiredUser) -> DesiredUser:
    """Return what brings a user to the state that `earlier` and then `later` would bring it to.

    Both are of the same user, which exists by the time of `later`: what that writes at creation only is passed over.
    Neither deletes or anonymises.
    """
    representation, create_only, cleared = _targets(earlier, later)
    speaks_of_enabled = "enabled" in later.representation
    brings = later.intent in _BRINGING
    return replace(
        earlier,
        representation=representation,
        matching=max(later.matching, earlier.matching, key=len),
        create_only=create_only,
        cleared=cleared,
        memberships=_memberships(earlier, later),
        identities=_identities(earlier, later),
        link=later.link if brings else earlier.link,
        invitation=later.invitation or earlier.invitation,
        intent=_intent(earlier, later),
        email_change=later.email_change if brings else earlier.email_change,
        ends_sessions=later.ends_sessions if speaks_of_enabled else earlier.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def anonymised(earlier: DesiredUser, later: DesiredUser, username: str | None) -> DesiredUser:
    """Return what is left of `earlier` once `later` erased all that names the person; memberships stay.

    `username` is what takes the place of the user's own, where that is known already.
    """
    user = cast("dict[str, Any]", earlier.representation)
    kept = {name: user[name] for name in _IMPERSONAL if name in user}
    left: dict[str, Any] = {**kept, **later.representation, "enabled": False}
    if username is not None:
        left["username"] = username
    return replace(
        earlier,
        representation=cast("UserRepresentation", left),
        create_only=earlier.create_only & _IMPERSONAL,
        cleared=earlier.cleared & _IMPERSONAL,
        identities=tuple(IdentityLink(one.alias, None) for one in earlier.identities),
        intent=earlier.intent if earlier.intent in _BRINGING else Intent.DISABLE,
        ends_sessions=later.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def _intent(earlier: DesiredUser, later: DesiredUser) -> Intent:
    if earlier.intent in _BRINGING or later.intent in _BRINGING:
        return Intent.PROVISION
    return NEUTRAL.get(later.intent, later.intent)


def _targets(
    earlier: DesiredUser, later: DesiredUser
) -> tuple[UserRepresentation, frozenset[str], frozenset[str]]:
    """Return the representation, and which of its targets are written at creation only or are erased."""
    held = dict(_flat(earlier.representation))
    create_only, cleared = set(earlier.create_only), set(earlier.cleared)
    spoken = {
        target: value
        for target, value in _flat(later.representation)
        if target not in later.create_only
    }
    for target, value in spoken.items():
        cleared.discard(target)
        if target == "emailVerified" and not value and target in held:
            continue  # an e-mail that was verified stays verified, be it by the creation or later
        held[target] = value
        create_only.discard(target)
    for target in later.cleared - later.create_only - set(spoken):
        if is_erasable(target):
            held.pop(target, None)
            create_only.discard(target)
            cleared.add(target)
    return _nested(held), frozenset(create_only), frozenset(cleared)


def _flat(representation: UserRepresentation) -> Iterator[tuple[str, Any]]:
    for name, value in representation.items():
        if name != "attributes":
            yield name, value
    for name, values in representation.get("attributes", {}).items():
        yield ATTRIBUTE_PREFIX + name, values


def _nested(targets: Mapping[str, Any]) -> UserRepresentation:
    user: dict[str, Any] = {"attributes": {}}
    for target, value in targets.items():
        if target.startswith(ATTRIBUTE_PREFIX):
            user["attributes"][target.removeprefix(ATTRIBUTE_PREFIX)] = value
        else:
            user[target] = value
    return cast("UserRepresentation", user)


def _memberships(earlier: DesiredUser, later: DesiredUser) -> tuple[Membership, ...]:
    """Return per kind who was named last and who was taken away last; `owned` is then only what is taken away."""
    kinds = {one.kind: one for one in earlier.memberships}
    for one in later.memberships:
        before = kinds.get(one.kind)
        kinds[one.kind] = one if before is None else _membership(before, one)
    return tuple(kinds.values())


def _membership(earlier: Membership, later: Membership) -> Membership:
    left_later = later.owned - set(later.names)
    left_earlier = earlier.owned - set(earlier.names)
    kept = [name for name in earlier.names if name not in left_later]
    names = tuple(dict.fromkeys([*kept, *later.names]))
    owned = (left_earlier | left_later) - set(names)
    return Membership(
        later.kind, names, frozenset(owned), earlier.create_missing or later.create_missing
    )


def _identities(earlier: DesiredUser, later: DesiredUser) -> tuple[IdentityLink, ...]:
    links = {one.alias: one for one in earlier.identities}
    links |= {one.alias: one for one in later.identities}
    return tuple(links.values())


@dataclass(frozen=True, slots=True)
class Course:
    """What the events made of a user that exists.

    `born` is the first of them and `event` the last that was not stale. The others are the last events that turned a
    switch, erased the person and asked for an invitation: the live user may have seen them or not.
    """

    born: UserEvent
    event: UserEvent
    desired: DesiredUser
    switched: UserEvent | None = None
    anonymised: UserEvent | None = None
    invited: UserEvent | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """The fold from one beginning: whether the user exists by now, its course, and what deleted it last."""

    exists: bool
    course: Course | None = None
    deleted: UserEvent | None = None


@dataclass(frozen=True, slots=True)
class FoldedUser:
    """All events of one user: the last one and what it wants, and both tracks; no event's data is kept."""

    event: UserEvent
    desired: DesiredUser
    there: Track = Track(exists=True)
    absent: Track = Track(exists=False)

    @property
    def in_absence(self) -> DesiredUser | None:
        """What to create where Keycloak has no such user; None where nothing is."""
        return None if self.absent.course is None else self.absent.course.desired


def fold(earlier: FoldedUser | None, event: UserEvent, desired: DesiredUser) -> FoldedUser:
    """Return `earlier` with one more event, the next in the order of the topic; begin with None."""
    event = replace(event, data={})
    start = FoldedUser(event, desired) if earlier is None else earlier
    return FoldedUser(
        event,
        desired,
        _step(start.there, event, desired, created=False),
        _step(start.absent, event, desired, created=True),
    )


def plan_folded(
    folded: FoldedUser,
    found: FoundUser | None,
    *,
    reserved: Collection[str] = DEFAULT_RESERVED,
) -> Plan:
    """Return the fewest operations that make the user what all its events say; see the module for what holds.

    A user that was deleted and created again is removed first. Raises as `plan_user`: ConflictError, or UnknownUserError
    when the last event is about a user that Keycloak does not have.
    """
    steps = steps_of(folded, found)
    if not steps:
        return Plan(None if found is None else found.user_id, skipped=STALE)
    first, *others = [
        plan_user(event, desired, found if at == 0 else None, reserved=reserved)
        for at, (event, desired) in enumerate(steps)
    ]
    return replace(first, operations=sum((one.operations for one in others), first.operations))


def steps_of(
    folded: FoldedUser, found: FoundUser | None
) -> tuple[tuple[UserEvent, DesiredUser], ...]:
    """Return the events, with what they want, whose provisioning does what `plan_folded` plans.

    That is one event; two for a user that was deleted and created again; none where all of them are stale.
    """
    if found is None:
        return (_creating(folded, folded.absent),)
    track = _track_of(folded, found)
    if track.deleted is not None and not is_stale(track.deleted, found.representation):
        removing = (track.deleted, replace(folded.desired, intent=Intent.DELETE))
        return (removing,) if track.course is None else (removing, _creating(folded, track))
    if track.course is None:
        return ()
    return ((track.course.event, _against(track.course, found)),)


def _creating(folded: FoldedUser, track: Track) -> tuple[UserEvent, DesiredUser]:
    """Return what becomes of a user that Keycloak does not have; the last event where nothing creates it."""
    if track.course is None:
        return folded.event, folded.desired
    wanted = replace(track.course.desired, intent=Intent.PROVISION, unknown=UnknownUser.CREATE)
    return track.course.event, wanted


def _track_of(folded: FoldedUser, found: FoundUser) -> Track:
    """Return the track that led to `found`; the events that were refused before its creation are no part of it."""
    course = folded.absent.course
    created = course is not None and has_applied(course.born, found.representation)
    return folded.absent if created else folded.there


def _step(track: Track, event: UserEvent, desired: DesiredUser, *, created: bool) -> Track:
    if not track.exists:
        creates = desired.intent in _BRINGING and desired.unknown is UnknownUser.CREATE
        if not creates:
            return track
        return Track(True, _begun(event, desired), track.deleted)
    course = track.course
    if course is not None and _is_older(event, course.event):
        return track
    if desired.intent is Intent.DELETE:
        return Track(False, None, event)
    known = created or track.deleted is not None
    return replace(track, course=_continued(course, event, desired, created=known))


def _begun(event: UserEvent, desired: DesiredUser) -> Course:
    """Return the course of a user from its first event on."""
    course = Course(event, event, desired)
    return _noted(course, event, desired)


def _continued(
    course: Course | None, event: UserEvent, desired: DesiredUser, *, created: bool
) -> Course:
    username = anonymous_username(desired.external_id.value) if created else None
    if course is None:
        first = anonymised(desired, desired, username) if _erases(desired) else desired
        return _noted(Course(event, event, _neutral(first)), event, desired)
    if event.time is None:
        event = replace(event, time=course.event.time)  # as the stored time stays
    if _erases(desired):
        course = replace(course, desired=anonymised(course.desired, desired, username))
    else:
        course = replace(course, desired=overlaid(course.desired, desired))
    return _noted(replace(course, event=event), event, desired)


def _noted(course: Course, event: UserEvent, desired: DesiredUser) -> Course:
    """Remember which event turned a switch, erased or invited last."""
    if _erases(desired):
        return replace(course, switched=event, anonymised=event)
    if desired.intent is Intent.INVITE:
        return replace(course, invited=event)
    if SWITCHES & set(desired.representation) - desired.create_only:
        return replace(course, switched=event)
    return course


def _against(course: Course, found: FoundUser) -> DesiredUser:
    """Return what the course wants of a live user that has seen some of it."""
    desired, user = course.desired, found.representation
    if course.switched is not None and has_applied(course.switched, user):
        desired = replace(desired, create_only=desired.create_only | SWITCHES)
    if course.anonymised is not None:
        desired = _under_its_own_id(desired)
        if not has_applied(course.anonymised, user):
            return replace(desired, intent=Intent.ANONYMISE)
    if course.invited is not None and not has_applied(course.invited, user):
        return replace(desired, intent=Intent.INVITE)
    return desired


def _under_its_own_id(desired: DesiredUser) -> DesiredUser:
    """Return `desired` without the username that only a user to be created gets; this one has a Keycloak id."""
    user = desired.representation
    if user.get("username") != anonymous_username(desired.external_id.value):
        return desired
    rest = {name: value for name, value in user.items() if name != "username"}
    return replace(desired, representation=cast("UserRepresentation", rest))


def _neutral(desired: DesiredUser) -> DesiredUser:
    return replace(desired, intent=NEUTRAL.get(desired.intent, desired.intent))


def _erases(desired: DesiredUser) -> bool:
    return desired.intent is Intent.ANONYMISE


def _is_older(event: UserEvent, applied: UserEvent) -> bool:
    return event.time is not None and applied.time is not None and event.time < applied.time
