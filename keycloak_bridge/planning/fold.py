"""Fold all events of one user into one desired user, so that they can be planned in one step.

A user is folded twice: once as if Keycloak had it before the first event, and once as if it had not, since an event about
an unknown user may be refused, may wait or may create it. Only the live user decides which of the two applies. Each half
keeps the last word on every target, group, role and identity.

Planning the folded user against live state brings Keycloak to the same user (fields, attributes, switches, memberships,
identities, or none) as planning and applying the events one by one, in their order, without those that are refused. The
differences are:

- one event is recorded on the user, the last; one mail is due, its own. A mail that an earlier event made due and that is
  still marked as due is left to that event;
- changes that another process made in Keycloak since an earlier event of the fold are overwritten, as by the last event;
  one by one the earlier event would be stale. Switches are left as they are: a user disabled since must not come back;
- sessions end once, and only those of a user that is disabled in the end;
- an address that was changed and changed back needs no verification;
- a user that does not exist and was anonymised in the fold is created with a username made of its external id, since its
  Keycloak id is not known yet.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.operations import Plan
from keycloak_bridge.domain.representation import is_erasable
from keycloak_bridge.domain.users import (
    DesiredUser,
    FoundUser,
    IdentityLink,
    Intent,
    MatchCriterion,
    Membership,
    Switch,
    UnknownUser,
    UserRepresentation,
    representation_of,
    targets_of,
)
from keycloak_bridge.mapping.reserved_names import anonymous_username
from keycloak_bridge.planning.bookkeeping import has_applied, is_last
from keycloak_bridge.planning.order import (
    Applied,
    applied_to,
    in_order,
    is_before,
    judge,
    switches_of,
)
from keycloak_bridge.planning.plan import STALE, VERIFIED, effective, plan_user

NEUTRAL: Mapping[Intent, Intent] = MappingProxyType(
    {Intent.INVITE: Intent.ENABLE, Intent.ANONYMISE: Intent.DISABLE}
)
"""What is left of an intent that does more than its representation says, once that was done."""

_IMPERSONAL = frozenset(("emailVerified", "requiredActions"))
"""Fields that an anonymised user keeps, since they identify nobody."""


@dataclass(frozen=True, slots=True)
class Course:
    """What the events made of a user that exists.

    `born` is the first of them and `event` the last that described the user. `applied` is what is remembered of a user to
    whom they all were applied, and `switches` is what each of them did to the access. The others are the last events that
    said whether the address is verified, anonymised the user and requested an invitation: they may have been applied to the live user or not.
    """

    born: UserEvent
    event: UserEvent
    desired: DesiredUser
    applied: Applied
    switches: tuple[Switch, ...] = ()
    verified: UserEvent | None = None
    anonymised: UserEvent | None = None
    invited: UserEvent | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """The fold from one beginning: whether the user exists by now, its course, and the event that deleted it last.

    `refused` is an event before the creation that is not older than it: a user that exists takes it.
    """

    exists: bool
    course: Course | None = None
    deleted: UserEvent | None = None
    refused: UserEvent | None = None


@dataclass(frozen=True, slots=True)
class FoldedUser:
    """All events of one user: the last one and what it wants, and both tracks; no event's data is kept."""

    event: UserEvent
    desired: DesiredUser
    there: Track = Track(exists=True)
    absent: Track = Track(exists=False)


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
    reserved: Collection[str],
) -> Plan:
    """Return the fewest operations that bring the user to the state that all its events describe.

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

    That is one event; two for a user that was deleted and created again; none where all are stale.
    """
    if found is None:
        return (_creating(folded, folded.absent),)
    # the track that led to `found`; older events that were refused before its creation are no part of it
    track = folded.there
    course = folded.absent.course
    if course is not None and has_applied(course.born, found.representation):
        track = folded.absent if folded.absent.refused is None else folded.there
    if track.deleted is not None and _deletes(track.deleted, folded, found):
        removing = (track.deleted, replace(folded.desired, intent=Intent.DELETE))
        return (removing,) if track.course is None else (removing, _creating(folded, track))
    if track.course is None:
        return ()
    return ((track.course.event, _against(track.course, found)),)


def _creating(folded: FoldedUser, track: Track) -> tuple[UserEvent, DesiredUser]:
    """Return what creates a user that Keycloak does not have; the last event where none does."""
    if track.course is None:
        return folded.event, folded.desired
    wanted = replace(track.course.desired, intent=Intent.PROVISION, unknown=UnknownUser.CREATE)
    return track.course.event, _with_switches(wanted, track.course)


def _deletes(deleted: UserEvent, folded: FoldedUser, found: FoundUser) -> bool:
    deleting = replace(folded.desired, intent=Intent.DELETE)
    user = found.representation
    return judge(deleted, deleting, applied_to(user), again=is_last(deleted, user)).access


def _with_switches(desired: DesiredUser, course: Course) -> DesiredUser:
    """Add what each event of the course did to the access, where that is more than its last event says itself."""
    if course.switches == switches_of(course.event, desired):
        return desired
    return replace(desired, switches=course.switches)


def _step(track: Track, event: UserEvent, desired: DesiredUser, *, created: bool) -> Track:
    course = track.course
    if not track.exists:
        creates = desired.intent.describes_user and desired.unknown is UnknownUser.CREATE
        refused = track.refused
        if not creates:
            newest = refused is None or event.time is None or is_before(refused.time, event.time)
            return replace(track, refused=event if newest else refused)
        if refused is not None and is_before(refused.time, event.time):
            refused = None
        verdict = judge(event, desired, Applied(), new=True)
        course = Course(event, event, desired, verdict.after, switches_of(event, desired))
        return Track(True, _noted(course, event, desired), track.deleted, refused)
    verdict = judge(event, desired, Applied() if course is None else course.applied)
    if desired.intent is Intent.DELETE:
        return Track(False, None, event) if verdict.access else track
    switches = in_order(
        () if course is None else course.switches,
        (one for one in switches_of(event, desired) if not one.for_new_users),
    )
    if course is not None:
        course = replace(course, switches=switches, applied=verdict.after)
        if verdict.is_stale:
            return replace(track, course=course)
    desired = effective(desired, verdict)
    created = created or track.deleted is not None
    username = _anonymous(desired.external_id) if created else None
    erases = desired.intent is Intent.ANONYMISE
    if course is None:
        first = _anonymised(desired, desired, username) if erases else desired
        first = replace(first, intent=NEUTRAL.get(first.intent, first.intent))
        course = Course(event, event, first, verdict.after, switches)
        return replace(track, course=_noted(course, event, desired))
    if erases:
        wanted = _anonymised(course.desired, desired, username)
    else:
        wanted = _overlaid(course.desired, desired)
    last = course.event
    if verdict.describes:
        # as the stored time is the newest, and stays where an event has none
        last = replace(event, time=verdict.after.time, stated_time=event.stated_time or event.time)
    return replace(
        track, course=_noted(replace(course, event=last, desired=wanted), event, desired)
    )


def _noted(course: Course, event: UserEvent, desired: DesiredUser) -> Course:
    if desired.intent is Intent.ANONYMISE:
        return replace(course, anonymised=event)
    if desired.intent is Intent.INVITE:
        return replace(course, invited=event)
    if VERIFIED & set(desired.representation) - desired.create_only:
        return replace(course, verified=event)
    return course


def _against(course: Course, found: FoundUser) -> DesiredUser:
    """Return what the course wants of a live user to which some of it was applied."""
    desired, user = _with_switches(course.desired, course), found.representation
    if course.verified is not None and has_applied(course.verified, user):
        desired = replace(desired, create_only=desired.create_only | VERIFIED)
    if course.anonymised is not None:
        # only a user to be created gets a username made of its external id; this one has a Keycloak id
        if desired.representation.get("username") == _anonymous(desired.external_id):
            representation = {**desired.representation}
            del representation["username"]
            desired = replace(desired, representation=cast("UserRepresentation", representation))
        if _is_to_be_anonymised(course.anonymised, desired, found):
            return replace(desired, intent=Intent.ANONYMISE)
    if course.invited is not None and not has_applied(course.invited, user):
        return replace(desired, intent=Intent.INVITE)
    return desired


def _is_to_be_anonymised(event: UserEvent, desired: DesiredUser, found: FoundUser) -> bool:
    user = found.representation
    if is_last(event, user):
        return False
    anonymising = replace(desired, intent=Intent.ANONYMISE, switches=None)
    return judge(event, anonymising, applied_to(user)).erases


def _overlaid(earlier: DesiredUser, later: DesiredUser) -> DesiredUser:
    """Return what brings a user to the state that `earlier` and then `later` would bring it to.

    The user exists by the time of `later`, so what that writes only at creation is ignored. Neither deletes or
    anonymises.
    """
    representation, create_only, cleared = _targets(earlier, later)
    intent = NEUTRAL.get(later.intent, later.intent)
    if earlier.intent.describes_user or later.intent.describes_user:
        intent = Intent.PROVISION
    sets_enabled = "enabled" in later.representation and "enabled" not in later.create_only
    describes = later.intent.describes_user
    identities = {one.alias: one for one in (*earlier.identities, *later.identities)}
    return replace(
        earlier,
        representation=representation,
        matching=max(later.matching, earlier.matching, key=len),
        create_only=create_only,
        cleared=cleared,
        memberships=_memberships(earlier, later),
        identities=tuple(identities.values()),
        link=later.link if describes else earlier.link,
        invitation=later.invitation or earlier.invitation,
        intent=intent,
        email_change=later.email_change if describes else earlier.email_change,
        ends_sessions=later.ends_sessions if sets_enabled else earlier.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def _anonymous(external_id: MatchCriterion) -> str:
    """Return the username of an anonymised user that has no Keycloak id yet; an id that is the username stays."""
    if external_id.is_username:
        return external_id.value.lower()
    return anonymous_username(external_id.value)


def _anonymised(earlier: DesiredUser, later: DesiredUser, username: str | None) -> DesiredUser:
    """Return what is left of `earlier` after `later` erased all personal data; memberships stay.

    `username` replaces the user's own, where it is known already.
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
        intent=earlier.intent if earlier.intent.describes_user else Intent.DISABLE,
        ends_sessions=later.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def _targets(
    earlier: DesiredUser, later: DesiredUser
) -> tuple[UserRepresentation, frozenset[str], frozenset[str]]:
    """Return the representation, the targets that are written only at creation, and those that are erased."""
    held = targets_of(earlier.representation)
    create_only, cleared = set(earlier.create_only), set(earlier.cleared)
    given = {
        target: value
        for target, value in targets_of(later.representation).items()
        if target not in later.create_only
    }
    for target, value in given.items():
        cleared.discard(target)
        if target == "emailVerified" and not value and target in held:
            continue  # an e-mail that was verified stays verified
        held[target] = value
        create_only.discard(target)
    for target in later.cleared - later.create_only - set(given):
        if is_erasable(target):
            held.pop(target, None)
            create_only.discard(target)
            cleared.add(target)
    return representation_of(held), frozenset(create_only), frozenset(cleared)


def _memberships(earlier: DesiredUser, later: DesiredUser) -> tuple[Membership, ...]:
    """Return by kind the names that were given last; `owned` is then only what was removed last."""
    kinds = {one.kind: one for one in earlier.memberships}
    for one in later.memberships:
        before = kinds.get(one.kind, Membership(one.kind, ()))
        removed = one.owned - set(one.names)
        kept = [name for name in before.names if name not in removed]
        names = tuple(dict.fromkeys([*kept, *one.names]))
        owned = ((before.owned - set(before.names)) | removed) - set(names)
        missing = before.create_missing or one.create_missing
        kinds[one.kind] = Membership(one.kind, names, frozenset(owned), missing)
    return tuple(kinds.values())
