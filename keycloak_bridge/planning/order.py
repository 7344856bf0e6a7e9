"""Which events of a user count: what describes the user goes by the newest time, and so does, by itself, who may log in.

Two things are remembered of a user. One is the time of the newest event that was applied; an event before it is stale. The
other is its access: the last event that let it in, the last that put it out, and which of the two counts. An event that puts
a user out loses only to one that lets in and is newer, so neither an update nor the clock of another producer can
make it stale.

Times are compared at the coarser precision of the two. A time of whole seconds may lie anywhere within its second, and of
events that cannot be told apart the later one in the topic counts.

Both are in the attribute `bridgeEventTime`: `<time>`, followed by `in <time> <event>` and `out <time> <event>`, where the first is
what counts; `-` says that no event has decided it. `erased <time> <event>` names the last event that anonymised the user. A
time alone, also as earlier versions wrote it, says that its event let the user in, if the user may log in now.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from keycloak_bridge.domain.events import (
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    UserEvent,
    event_occurrence,
)
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.domain.users import (
    Access,
    DesiredUser,
    Intent,
    Switch,
    UnknownUser,
    UserRepresentation,
    single_value,
)

_MOST_SWITCHES = 64
"""Of one user; of more, the last ones that can take effect decide."""

_MOST_OCCURRENCES = 3
"""Events of one time and direction that are told apart, so that the attribute stays below 255 characters."""

_PUTTING_OUT = (Intent.DISABLE, Intent.ANONYMISE, Intent.DELETE)
_UNDECIDED = "-"
_UNKNOWN = "-"
_ERASED = "erased"
_KINDS = (*Access, _ERASED)
_SECOND, _MILLISECOND = 1_000_000, 1000


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event let a user in, or put it out, and which one it was; several of one second.

    How such times compare depends on their precision, and so each event that is read again must be recognised itself.
    """

    time: datetime | None
    occurrences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied to a user: the time of the newest event, and its access."""

    time: datetime | None = None
    access: Access | None = None
    let_in: Moment | None = None
    put_out: Moment | None = None
    erased: Moment | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What of an event takes effect.

    `enabled` is what to write, None where the switch is left alone; `access` says that what the event does to the access
    takes effect, or took effect and is only to be finished; `erases` that it anonymises the user. `overruled` says that
    an event would put the user out, and a newer one lets it in. `after` is what is remembered of the user afterwards.
    """

    describes: bool
    access: bool
    enabled: bool | None
    erases: bool
    overruled: bool
    after: Applied

    @property
    def is_stale(self) -> bool:
        """Whether nothing of the event takes effect."""
        return not self.describes and not self.access


def is_before(one: datetime | None, other: datetime | None) -> bool:
    """Return whether `one` is certainly before `other`, at the coarser precision of the two."""
    if one is None or other is None:
        return False
    unit = max(_unit(one), _unit(other))
    return _floor(one, unit) < _floor(other, unit)


def switches_of(event: UserEvent, desired: DesiredUser) -> tuple[Switch, ...]:
    """Return what `event` does to the access of its user; of folded events, what each of them did, in order."""
    if desired.switches is not None:
        return desired.switches
    if desired.intent in _PUTTING_OUT:
        erases = desired.intent is Intent.ANONYMISE
        latest = event.stated_time
        return (Switch(Access.OUT, event.time, event.occurrence, erases=erases, latest=latest),)
    switches: list[Switch] = []
    enabled = desired.representation.get("enabled")
    # whoever is let in at an unknown time can be put out by whatever comes later in the topic
    since = None if event.clamped else event.time
    if not enabled and desired.intent.describes_user and desired.unknown is UnknownUser.CREATE:
        # a user that is created disabled is there nevertheless: what was said before is about an earlier one
        born = Switch(Access.IN, since, event.occurrence, for_new_users=True, tacit=True)
        switches.append(born)
    if enabled is not None:
        access = Access.IN if enabled else Access.OUT
        for_new_users = "enabled" in desired.create_only
        latest = event.stated_time
        time = since if enabled else event.time
        switches.append(Switch(access, time, event.occurrence, for_new_users, latest=latest))
    return tuple(switches)


def in_order(*parts: Iterable[Switch]) -> tuple[Switch, ...]:
    """Return the switches of `parts`, one after the other; of too many, the last of those that can take effect."""
    switches = tuple(chain.from_iterable(parts))
    if len(switches) <= _MOST_SWITCHES:
        return switches
    kept: list[Switch] = []
    newest: dict[Access, datetime | None] = {}
    for one in switches:
        if one.time is None:
            newest.clear()
        other = Access.OUT if one.access is Access.IN else Access.IN
        if not is_before(_latest(one), newest.get(other)):
            kept.append(one)
            if not one.for_new_users:
                newest[one.access] = _newest(one.time, newest.get(one.access))
    return tuple(kept[-_MOST_SWITCHES:])


def _latest(switch: Switch) -> datetime | None:
    """Return the newest time that a switch may have: that of a record cannot make a disable older than it says."""
    return _newest(switch.time, switch.latest) if switch.access is Access.OUT else switch.time


def judge(
    event: UserEvent,
    desired: DesiredUser,
    applied: Applied,
    *,
    new: bool = False,
    again: bool = False,
) -> Verdict:
    """Return what of `event` takes effect on a user to whom so much was `applied`.

    `new` says that it creates the user, `again` that this very event was the last one that was applied.
    """
    again = again and desired.switches is None
    deletes = desired.intent is Intent.DELETE  # there was no user any more, had it been done
    describes = not is_before(event.time, applied.time)
    after, access, enabled, erases, overruled = applied, False, None, False, False
    for one in switches_of(event, desired):
        if one.for_new_users and not new:
            continue
        before, moment, puts_out = after, _moment(one, after), one.access is Access.OUT
        if not deletes and _is_known(one, before, again=again):
            # a crash may have come between the switch and the end of the sessions
            wins = puts_out and before.access is Access.OUT
        elif _is_overruled(one, moment, before):
            wins = False
            overruled |= puts_out and not _has(before.put_out, one)
        else:
            after = _switched(before, one, moment)
            turns = puts_out or before.access is not Access.IN or _is_newer(one.time, before.let_in)
            wins = turns or after != before
            if turns and not one.tacit:
                enabled = not puts_out
        access |= wins
        if one.erases and wins and _erases(one, moment, applied, describes=describes):
            erases, after = True, replace(after, erased=moment)
    time = _newest(applied.time, event.time) if describes else applied.time
    return Verdict(describes, access, enabled, erases, overruled, replace(after, time=time))


def _moment(switch: Switch, applied: Applied) -> Moment:
    """Return when `switch` took effect, if it does.

    Without a time of its own, it is as new as another that was applied: so an event that lets in keeps nobody in whom a later
    one puts out. One that puts out is as new as what let the user in, where its producer says so and the clock of its
    record does not.
    """
    let_in, time = _time(applied.let_in), switch.time
    if switch.access is Access.IN:
        time = time or let_in
    elif time is None:
        time = _newest(let_in, _time(applied.put_out))
    elif is_before(time, let_in) and not is_before(_latest(switch), let_in):
        time = let_in
    return Moment(time, (switch.occurrence,))


def _is_known(switch: Switch, applied: Applied, *, again: bool) -> bool:
    """Return whether this very event decided the access before.

    One without a time that puts out never did: in doubt it is another event of that id, and the user is out.
    """
    let_in, put_out = applied.let_in, applied.put_out
    if switch.access is Access.IN:
        if switch.time is None:
            return again
        return _has(let_in, switch) or _has(put_out, switch)
    # with more events of one second than are told apart, one that was read again may have let the user in
    full = let_in is not None and len(let_in.occurrences) == _MOST_OCCURRENCES
    perhaps_let_in = full and applied.access is Access.IN
    return switch.time is not None and _has(put_out, switch) and not perhaps_let_in


def _is_overruled(switch: Switch, moment: Moment, applied: Applied) -> bool:
    """Return whether a newer event decided otherwise."""
    if switch.access is Access.OUT:
        return is_before(moment.time, _time(applied.let_in))
    put_out = applied.put_out
    if applied.access is not Access.OUT or put_out is None:
        return False
    if not put_out.occurrences:  # by hand, and after an event that is read again perhaps
        return not _is_newer(switch.time, put_out)
    return is_before(switch.time, put_out.time)


def _erases(switch: Switch, moment: Moment, applied: Applied, *, describes: bool) -> bool:
    """Return whether the user is to be anonymised; what came after it must not be erased when it is read again."""
    if switch.time is None:
        return True
    if _has(applied.erased, switch):
        return describes
    return not is_before(moment.time, _time(applied.erased))


def _switched(applied: Applied, switch: Switch, moment: Moment) -> Applied:
    if moment.time is None:
        # nothing can be compared with it, so that whatever comes next in the topic has effect
        return Applied(applied.time)
    if switch.access is Access.OUT:
        return replace(applied, access=Access.OUT, put_out=_newer(applied.put_out, moment))
    # without a time, the order of the topic alone counts: what puts the user out behind it does so once more when it
    # is read again
    put_out = None if switch.time is None else applied.put_out
    let_in = _newer(applied.let_in, moment)
    return replace(applied, access=Access.IN, let_in=let_in, put_out=put_out)


def _has(moment: Moment | None, switch: Switch) -> bool:
    return moment is not None and switch.occurrence in moment.occurrences


def _time(moment: Moment | None) -> datetime | None:
    return None if moment is None else moment.time


def _is_newer(time: datetime | None, moment: Moment | None) -> bool:
    since = _time(moment)
    return time is None or since is None or time > since


def _newer(stored: Moment | None, moment: Moment) -> Moment:
    if stored is None or stored.time is None or moment.time is None:
        return moment
    first, last = _floor(stored.time, _SECOND), _floor(moment.time, _SECOND)
    if first != last:
        return moment if first < last else stored
    others = [one for one in stored.occurrences if one not in moment.occurrences]
    both = (*others, *moment.occurrences)[-_MOST_OCCURRENCES:]
    return Moment(max(stored.time, moment.time), both)


def _newest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one is not None and other is not None else one or other


def _unit(time: datetime) -> int:
    if time.microsecond == 0:
        return _SECOND
    return _MILLISECOND if time.microsecond % _MILLISECOND == 0 else 1


def _floor(time: datetime, unit: int) -> datetime:
    return time.replace(microsecond=time.microsecond - time.microsecond % unit)


def applied_to(user: UserRepresentation) -> Applied:
    """Return what was applied to `user`, as its attributes say."""
    first, *rest = (single_value(user, EVENT_TIME_ATTRIBUTE) or "").split(" ")
    time = parse_time(first)
    if time is None:
        return Applied()
    if rest == [_UNDECIDED]:
        return Applied(time)
    moments: dict[str, Moment] = {}
    for at in range(0, len(rest) - 2, 3):
        kind, since, occurrence = rest[at : at + 3]
        if kind in _KINDS:
            known = () if occurrence == _UNKNOWN else tuple(occurrence.split(","))
            moments[kind] = Moment(parse_time(since), known)
    accesses = [Access(kind) for kind in moments if kind != _ERASED]
    if not accesses:
        identity = single_value(user, EVENT_ID_ATTRIBUTE)
        own = Moment(time, () if identity is None else (event_occurrence(identity, time),))
        moments[Access.IN] = own
        accesses = [Access.IN]
        if user.get("enabled") is False:  # by hand since, or by an event of an earlier version
            moments[Access.OUT] = Moment(time)
            accesses = [Access.OUT]
    return Applied(
        time,
        accesses[0],
        moments.get(Access.IN),
        moments.get(Access.OUT),
        moments.get(_ERASED),
    )


def format_applied(applied: Applied, identity: str) -> str | None:
    """Return the text that `applied_to` reads, None where there is nothing to remember.

    `identity` is that of the newest event, which stands in an attribute of its own.
    """
    if applied.time is None:
        return None
    time = format_time(applied.time)
    let_in = Moment(applied.time, (event_occurrence(identity, applied.time),))
    if applied.access is Access.IN and applied.put_out is None and applied.let_in == let_in:
        return time
    if applied.access is None:
        return f"{time} {_UNDECIDED}"
    moments = [(Access.IN, applied.let_in), (Access.OUT, applied.put_out)]
    if applied.access is Access.OUT:
        moments.reverse()
    parts = [time]
    for kind, moment in (*moments, (_ERASED, applied.erased)):
        if moment is not None:
            since = _UNKNOWN if moment.time is None else format_time(moment.time)
            parts += [kind, since, ",".join(moment.occurrences) or _UNKNOWN]
    return " ".join(parts)
