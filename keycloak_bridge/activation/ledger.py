"""What became of the invited: each has set a password, or the link ended unused, and either is published.

The table of open invitations (open_invitations.py) says who is watched. Who is looked at now, and why:

- Keycloak recorded that the user set a credential: one question for all, every `interval_s`;
- the user's link has ended, as far as that is known from the invitation;
- where Keycloak's events cannot be read, or are missing for some time: everybody in turn, at a pace.

An event is a hint only. What counts is the user's credentials, which are there for as long as the user is, and whose time
makes the id of the result: whoever finds the same again publishes it under the same id. Only where another mail follows
(reminders.py), the user is marked for it, as the provision stage does.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import SimpleQueue
from typing import Protocol

from keycloak_bridge.activation.open_invitations import OpenInvitations, Person
from keycloak_bridge.activation.reminders import FollowingMail, MailKind, Reminders, mail_of
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
)
from keycloak_bridge.domain.events import (
    Commit,
    Invitation,
    Outcome,
    Purpose,
    Record,
    Result,
    TopicPartition,
    event_id_in,
)
from keycloak_bridge.domain.fingerprint import fingerprint
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Activations,
    Clock,
    CredentialChanges,
    UserDirectory,
)
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import InvitationTerms, UserRepresentation, single_value
from keycloak_bridge.invitations.rules import LINK_AHEAD_S
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.planning.bookkeeping import (
    InvitationMark,
    MarkState,
    due_after,
    mark_of,
    with_invitation_mark,
)
from keycloak_bridge.planning.mail_due import can_be_invited
from keycloak_bridge.threads.bounded_dict import BoundedDict
from keycloak_bridge.threads.named_locks import UserLocks

logger = logging.getLogger(__name__)

STAGE = "activation"

_OVERLAP = timedelta(minutes=3)
"""An event appears when its transaction ends, with the time of its beginning, and by Keycloak's clock."""

_CLOCKS_DIFFER_S = 60

_ASK_AGAIN_S = 3600
"""Pause before a person is looked at again whose mail is not out yet, or whose user Keycloak does not show."""

_EARLIEST_S = 86_400
"""A record may say any time; Keycloak takes no date before 1970."""

_PAUSE_S = 5.0
_MOST_ATTEMPTS = 5


class ActivationOutput(Protocol):
    """Where the ledger publishes. Safe to share between threads."""

    def result(self, result: Result, time: datetime) -> Acknowledgement:
        """Publish what became of a person at `time`."""
        ...

    def invitation(self, invitation: Invitation) -> Acknowledgement:
        """Ask the invite stage for a mail."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """How often Keycloak is asked, how many people a second are looked at without a hint, and how long the last click may take.

    `external_id` is the attribute with the user's id in user management. No mail follows an invitation that is older than
    `max_age_s`.
    """

    external_id: str
    interval_s: float = 10.0
    pace_per_s: float = 20.0
    grace_s: float = 300.0
    reminders: Reminders = field(default_factory=Reminders)
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """A person to be looked at, and why: an event of this moment, the end of the link, or its turn."""

    person: Person
    partition: TopicPartition
    hint: datetime | None = None
    is_due: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class _InFlight:
    """What was published of a person and is not acknowledged; `steps` publish what comes after that."""

    last_offset: int
    steps: tuple[Callable[[], Acknowledgement], ...]


@dataclass(slots=True)
class _Watch:
    """A partition in hand.

    `heard_s` is until when events were dealt with. Behind `sweep_from` everybody is to be looked at in turn, None where nobody
    is; `sweep_counts` says whether events could be read ever since that began, so that it need not begin again.
    """

    table: OpenInvitations
    heard_s: int | None
    sweep_from: int | None = None
    sweep_counts: bool = False


class Ledger:
    """Watches the open invitations of the partitions in hand. Used by one thread, but for the acknowledgements."""

    def __init__(
        self,
        policy: LedgerPolicy,
        read: Callable[[Record], Invitation],
        directory: UserDirectory,
        activations: Activations,
        output: ActivationOutput,
        clock: Clock,
        metrics: Metrics,
        mails_done: Callable[[], Mapping[TopicPartition, int]],
        locks: UserLocks | None = None,
    ) -> None:
        """`read` returns the invitation of a record or raises BridgeError.

        `mails_done` returns how far the invite stage is, per partition. `locks` are those of all who write users.
        """
        self._policy = policy
        self._read = read
        self._directory = directory
        self._activations = activations
        self._output = output
        self._clock = clock
        self._metrics = metrics
        self._mails_done = mails_done
        self._locks = locks or UserLocks()
        self._may_write: Callable[[], bool] = lambda: False
        self._watches: dict[TopicPartition, _Watch] = {}
        self._looks: dict[str, _Look] = {}
        self._in_flight: dict[str, _InFlight] = {}
        self._arrived: SimpleQueue[tuple[str, BridgeError | None]] = SimpleQueue()
        self._known_changes: BoundedDict[str, None] = BoundedDict()
        self._closed: dict[str, int] = {}
        self._scheduled: dict[str, int] = {}
        self._round_at_s = self._paused_until_s = float("-inf")
        self._heard_after_round: dict[TopicPartition, int] = {}
        self._events_readable: bool | None = None

    # the partitions

    def start(self, partition: TopicPartition, commit: Commit, notes: str) -> None:
        """Begin with a partition where the group left off."""
        table = OpenInvitations(commit, notes)
        self._watches[partition] = _Watch(table, table.seen_s)

    def partitions(self) -> frozenset[TopicPartition]:
        """Return the partitions in hand."""
        return frozenset(self._watches)

    def release(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, Commit]:
        """Forget `partitions` and return what may be committed for them at last."""
        self._apply()
        commits = {at: one.table.commit() for at, one in self._watches.items() if at in partitions}
        for partition in commits:
            del self._watches[partition]
        # what was to be looked at of the others is found again
        self._looks.clear()
        self._heard_after_round.clear()
        self._known_changes = BoundedDict()
        self._round_at_s = float("-inf")
        return commits

    def commits(self) -> dict[TopicPartition, Commit]:
        """Return what may be committed now."""
        self._apply()
        return {at: one.table.commit() for at, one in self._watches.items()}

    def open(self) -> int:
        """Return how many invitations are open."""
        return sum(len(one.table) for one in self._watches.values())

    def accept(self, record: Record) -> None:
        """Take a record of the invitations topic; one that is none, or closed already, is passed over."""
        watch = self._watches.get(record.topic_partition)
        if watch is None:
            return
        if record.offset < watch.table.next_offset:  # the log was cut
            watch.table = OpenInvitations(Commit(record.offset))
        if not watch.table.accept(record.offset):
            return
        try:
            invitation = self._read(record)
        except BridgeError:
            return
        invitation = self._policy.reminders.on_terms(invitation)
        since_s = max(_EARLIEST_S, int(self._began(invitation).timestamp()))
        sent_s = int(invitation.time.timestamp())
        look_s = sent_s + invitation.terms.lifespan_s + LINK_AHEAD_S + int(self._policy.grace_s)
        event = _fingerprint(invitation.event_id)
        origin = (invitation.event_type, invitation.schema_id)
        watch.table.add(record.offset, invitation.keycloak_id, event, since_s, look_s, origin)

    def _began(self, invitation: Invitation) -> datetime:
        """Return since when the person is invited: a mail that follows another says that in the place of its event's time."""
        if invitation.event_time is None or not self._policy.reminders.enabled:
            return invitation.time
        follows = mail_of(invitation.event_id, invitation.user_id) is not None
        return invitation.event_time if follows else invitation.time

    # the work

    def is_waiting(self) -> bool:
        """Say whether a result was published that Kafka has not acknowledged."""
        self._apply()
        return bool(self._in_flight)

    def is_busy(self) -> bool:
        """Say whether somebody is to be looked at now."""
        return bool(self._looks) and self._clock.monotonic() >= self._paused_until_s

    def work(
        self,
        read_to_end: frozenset[TopicPartition],
        until_s: float,
        may_write: Callable[[], bool],
    ) -> None:
        """Ask Keycloak where that is due, and look at people until `until_s` on the monotonic clock.

        `read_to_end` are the partitions of which nothing is left to read. `may_write` says whether the partitions are still
        this member's, or raises BrokerError. An outage of Keycloak is waited for.
        """
        self._may_write = may_write
        self._apply()  # what was acknowledged must not be found open again
        now_s = self._clock.monotonic()
        if now_s >= self._paused_until_s:
            try:
                if now_s >= self._round_at_s and not self._looks:
                    self._round_at_s = now_s + self._policy.interval_s
                    self._begin_round(read_to_end)
                self._look_at_people(until_s)
            except KeycloakError as error:
                self._paused_until_s = self._clock.monotonic() + _PAUSE_S
                log_event(
                    logger, "activation-paused", level=logging.DEBUG, stage=STAGE, reason=error.code
                )
        self._apply()
        if self._heard_after_round and not self._looks and not self._in_flight:
            self._end_round()

    def _begin_round(self, read_to_end: frozenset[TopicPartition]) -> None:
        asked_s = int(self._clock.now().timestamp())
        watched = {at: one for at, one in self._watches.items() if len(one.table)}
        changes: CredentialChanges | None = CredentialChanges(())
        if watched:
            changes = self._activations.changes_since(self._since(watched, asked_s))
            self._report(readable=changes is not None)
        for watch in watched.values():
            if changes is None:
                watch.sweep_from = -1 if watch.sweep_from is None else watch.sweep_from
                watch.sweep_counts = False
            elif not watch.sweep_counts and (watch.sweep_from is not None or not changes.complete):
                watch.sweep_from, watch.sweep_counts = -1, True
        if changes is not None:
            self._heard_after_round = dict.fromkeys(read_to_end & self._watches.keys(), asked_s)
            self._take_hints(changes)
        self._choose(watched, math.ceil(self._policy.pace_per_s * self._policy.interval_s))

    def _since(self, watched: Mapping[TopicPartition, _Watch], asked_s: int) -> datetime:
        """Return since when events are missing to us: since the first invitation where nobody dealt with any before."""
        earliest = [one.heard_s or one.table.earliest_s() or asked_s for one in watched.values()]
        return datetime.fromtimestamp(min([asked_s, *earliest]), UTC) - _OVERLAP

    def _take_hints(self, changes: CredentialChanges) -> None:
        """Have everybody looked at who is watched and set a credential, each change once."""
        new = [one for one in changes.changes if one.id not in self._known_changes]
        hints = {one.user_id: one.at for one in new}
        self._enqueue(hints, lambda person, at, keycloak_id: _Look(person, at, hints[keycloak_id]))
        for one in new:
            if one.user_id in self._looks:
                self._known_changes.put(one.id, None)

    def _choose(self, watched: Mapping[TopicPartition, _Watch], most: int) -> None:
        """Have up to `most` people looked at without a hint: whose link has ended, then whose turn it is."""
        now_s = self._clock.now().timestamp()
        due: list[str] = []
        for watch in watched.values():
            due += watch.table.due(now_s, most - len(due))
        self._enqueue(due, lambda person, at, _: _Look(person, at, is_due=True))
        most -= len(due)
        for watch in watched.values():
            if watch.sweep_from is None or most <= 0:
                continue
            names, sweep_from = watch.table.after(watch.sweep_from, most)
            most -= len(names)
            self._enqueue(names, lambda person, at, _: _Look(person, at))
            if sweep_from is None and not watch.sweep_counts:
                sweep_from = -1
            watch.sweep_from = sweep_from

    def _enqueue(
        self,
        keycloak_ids: Collection[str],
        look: Callable[[Person, TopicPartition, str], _Look],
    ) -> None:
        wanted = [
            one for one in keycloak_ids if one not in self._looks and one not in self._in_flight
        ]
        for partition, watch in self._watches.items():
            for keycloak_id, person in watch.table.people(wanted).items():
                self._looks[keycloak_id] = look(person, partition, keycloak_id)

    def _end_round(self) -> None:
        """Note until when events are dealt with; a commit says so only once nobody is left to be looked at in turn."""
        for partition, heard_s in self._heard_after_round.items():
            watch = self._watches.get(partition)
            if watch is not None:
                watch.heard_s = heard_s
                if watch.sweep_from is None:
                    watch.sweep_counts = False
                    watch.table.seen_s = heard_s
        self._heard_after_round = {}

    def _look_at_people(self, until_s: float) -> None:
        while self._looks and self._clock.monotonic() < until_s:
            keycloak_id, look = next(iter(self._looks.items()))
            del self._looks[keycloak_id]
            try:
                self._look_at(keycloak_id, look)
            except KeycloakNotFoundError:
                self._close(keycloak_id, look)
            except KeycloakError as error:
                if look.attempts + 1 < _MOST_ATTEMPTS:
                    self._looks[keycloak_id] = replace(look, attempts=look.attempts + 1)
                    raise
                self._postpone(keycloak_id, error)

    def _look_at(self, keycloak_id: str, look: _Look) -> None:
        at = self._activations.activated_at(keycloak_id)
        if at is None and look.hint is None and not look.is_due:
            return
        user = self._directory.get(keycloak_id)
        mark = None if user is None else mark_of(user)
        user_id = None if user is None else self._external_id(user)
        if user is None or mark is None or user_id is None:
            self._close(keycloak_id, look)  # deleted, or not the bridge's own
            return
        if at is None and user.get("federationLink"):
            at = (
                look.hint
            )  # the password is in the directory, and only the event says when it was set
        if at is not None and at.timestamp() < look.person.since_s - _CLOCKS_DIFFER_S:
            self._close(keycloak_id, look)  # had one before the invitation
        elif at is not None:
            self._publish(
                keycloak_id, look, self._result(Outcome.ACTIVATED, at, user_id, user, mark)
            )
        else:
            self._consider_end(keycloak_id, look, user_id, user, mark)

    def _consider_end(
        self,
        keycloak_id: str,
        look: _Look,
        user_id: str,
        user: UserRepresentation,
        mark: InvitationMark,
    ) -> None:
        """Publish that the link ended unused, or have the person looked at again when it has."""
        now_s = self._clock.now().timestamp()
        ended_s = mark.until_s
        following = mail_of(mark.event_id, user_id) if self._policy.reminders.enabled else None
        if mark.state is MarkState.DUE and following is not None:
            if _fingerprint(mark.event_id) not in look.person.events:
                # a member was ended after it had marked the user and before it asked for the mail
                self._mail_again(keycloak_id, look, user_id, user, mark, following)
                return
            if self._is_mailed(look) and following.kind is MailKind.RESEND:
                self._close(
                    keycloak_id, look
                )  # refused; that the link before it ended was published
                return
        if mark.state is not MarkState.SENT and not self._is_mailed(look):
            self._scheduled[keycloak_id] = int(now_s) + _ASK_AGAIN_S
        elif not ended_s:
            self._close(keycloak_id, look)  # no mail went out, and its result says why
        elif now_s < (end_s := ended_s + self._policy.grace_s):
            self._scheduled[keycloak_id] = math.ceil(end_s)
        else:
            mail = self._mail_after(look, user_id, user, mark)
            try:
                if mail is not None and not self._mark_due(keycloak_id, user_id, mark, mail):
                    return
            except (KeycloakConflictError, KeycloakRejectedError):
                mail = None  # the user cannot be marked, such as one of a read-only directory
            if mail is not None:
                self._mail_again(keycloak_id, look, user_id, user, mark, mail)
            else:
                self._publish(keycloak_id, look, self._expired(ended_s, user_id, user, mark))

    def _mail_after(
        self, look: _Look, user_id: str, user: UserRepresentation, mark: InvitationMark
    ) -> FollowingMail | None:
        """Return the mail that follows now, None where none may."""
        max_age_s = self._policy.max_age_s
        age_s = self._clock.now().timestamp() - look.person.since_s
        if mark.state is not MarkState.SENT or not can_be_invited(user):
            return None
        if max_age_s is not None and age_s > max_age_s:
            return None
        return self._policy.reminders.after(mark.event_id, user_id)

    def _mark_due(
        self, keycloak_id: str, user_id: str, mark: InvitationMark, mail: FollowingMail
    ) -> bool:
        """Mark the user so that the invite stage mails; False where it is another member's, or was changed just now."""
        with self._locks.of(user_id):
            user = self._directory.get(keycloak_id)
            if user is None or mark_of(user) != mark or not self._may_write():
                return False
            due = due_after(mark, mail.identity(mark.event_id, user_id))
            self._directory.update(keycloak_id, with_invitation_mark(user, due))
            return True

    def _mail_again(
        self,
        keycloak_id: str,
        look: _Look,
        user_id: str,
        user: UserRepresentation,
        mark: InvitationMark,
        mail: FollowingMail,
    ) -> None:
        """Ask for the mail that the user is marked for, and publish that the invitation before it expired, if it did.

        `mark` is that of the mail before, or that of this one.
        """
        event_type, schema_id = look.person.origin
        identity = mail.identity(mark.event_id, user_id)
        invitation = Invitation(
            f"{identity}/invitation",
            identity,
            user_id,
            keycloak_id,
            InvitationTerms((), 0),  # the invite stage knows
            self._clock.now(),
            purpose=Purpose.RESEND,
            event_type=event_type,
            schema_id=schema_id,
            event_time=datetime.fromtimestamp(look.person.since_s, UTC),
        )
        log_event(
            logger,
            "invitation-again",
            stage=STAGE,
            reason=mail.kind.value,
            event_id=invitation.shown_event_id,
            user_id=user_id,
            keycloak_id=keycloak_id,
        )
        expired: tuple[Result, datetime] | None = None
        if mail.kind is MailKind.RESEND and mark.until_s:
            expired = self._expired(mark.until_s, user_id, user, mark)
        self._publish(keycloak_id, look, expired, invitation)

    def _is_mailed(self, look: _Look) -> bool:
        """Say whether the invite stage is done with the person's last invitation."""
        try:
            return self._mails_done().get(look.partition, 0) > look.person.last_offset
        except BrokerError:
            return False

    def _expired(
        self, ended_s: int, user_id: str, user: UserRepresentation, mark: InvitationMark
    ) -> tuple[Result, datetime]:
        """Return that the link ended unused, which was not later than now whatever the mark says."""
        end_s = min(ended_s, int(self._clock.now().timestamp()))
        end = datetime.fromtimestamp(end_s, UTC)
        return self._result(Outcome.INVITATION_EXPIRED, end, user_id, user, mark)

    def _result(
        self,
        outcome: Outcome,
        at: datetime,
        user_id: str,
        user: UserRepresentation,
        mark: InvitationMark,
    ) -> tuple[Result, datetime]:
        result = Result(
            outcome,
            event_id=event_id_in(mark.event_id),
            user_id=user_id,
            keycloak_id=user["id"],
            identity=f"{user['id']}/{format_time(at)}",
        )
        return result, at

    def _publish(
        self,
        keycloak_id: str,
        look: _Look,
        result_at: tuple[Result, datetime] | None,
        invitation: Invitation | None = None,
    ) -> None:
        """Publish a result, a request for a mail or one after the other; once Kafka has all, the invitations are closed.

        The request comes second: the mail that it brings would hide that the result is missing.
        """
        steps = []
        if result_at is not None:
            self._report_result(*result_at)
            steps.append(partial(self._output.result, *result_at))
        if invitation is not None:
            steps.append(partial(self._output.invitation, invitation))
        self._take_step(keycloak_id, _InFlight(look.person.last_offset, tuple(steps)))

    def _take_step(self, keycloak_id: str, flight: _InFlight) -> None:
        step, *later = flight.steps
        self._in_flight[keycloak_id] = replace(flight, steps=tuple(later))
        try:
            published = step()
        except BrokerError as error:
            self._arrived.put((keycloak_id, error))
        else:
            published.then(lambda error: self._arrived.put((keycloak_id, error)))

    def _report_result(self, result: Result, at: datetime) -> None:
        log_event(
            logger,
            result.outcome.value,
            stage=STAGE,
            event_id=result.event_id,
            user_id=result.user_id,
            keycloak_id=result.keycloak_id,
        )
        age_s = max(0.0, (self._clock.now() - at).total_seconds())
        self._metrics.handled(STAGE, result.outcome.value, None, age_s)

    def _close(self, keycloak_id: str, look: _Look) -> None:
        self._closed[keycloak_id] = look.person.last_offset

    def _note_arrivals(self) -> None:
        while not self._arrived.empty():
            keycloak_id, error = self._arrived.get()
            flight = self._in_flight.pop(keycloak_id)
            if error is None and flight.steps:
                self._take_step(keycloak_id, flight)
            elif error is None:
                self._closed[keycloak_id] = flight.last_offset
            else:
                self._scheduled[keycloak_id] = int(self._clock.now().timestamp())

    def _apply(self) -> None:
        """Bring into the tables what was found out, in one pass each."""
        self._note_arrivals()
        for watch in self._watches.values():
            watch.table.schedule(self._scheduled)
            watch.table.close(self._closed)
        self._scheduled, self._closed = {}, {}
        self._metrics.open_invitations(self.open())

    def _postpone(self, keycloak_id: str, error: KeycloakError) -> None:
        self._scheduled[keycloak_id] = int(self._clock.now().timestamp()) + _ASK_AGAIN_S
        log_event(
            logger,
            "activation-postponed",
            level=logging.WARNING,
            message="Keycloak fails for this user alone; it is asked again in an hour",
            stage=STAGE,
            reason=error.code,
            keycloak_id=keycloak_id,
        )

    def _external_id(self, user: UserRepresentation) -> str | None:
        return single_value(user, self._policy.external_id)

    def _report(self, *, readable: bool) -> None:
        """Log once whether events can be read, and when that changes."""
        if readable is self._events_readable:
            return
        self._events_readable = readable
        if readable:
            log_event(logger, "credential-events-readable", stage=STAGE)
        else:
            log_event(
                logger,
                "credential-events-unreadable",
                level=logging.WARNING,
                message="Keycloak's events do not say who set a password (role view-events, Realm settings > Events > User "
                "events settings): everybody who was invited is looked at in turn (activation.pace)",
                stage=STAGE,
            )


def _fingerprint(event_id: str) -> int:
    return fingerprint(event_id.encode("utf-8", "surrogatepass"))
