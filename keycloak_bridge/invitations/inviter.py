"""Have Keycloak mail an invitation, and never twice where that can be known: whether, when and how, in one place.

The life of an invitation, as `Inviter.invite` takes it, and what it asks of Keycloak:

1. Is the user the bridge's own, and the mail still wanted? Only the user in Keycloak says so: its external id, groups, state,
   mark and credentials. Nothing proves who wrote the record (rules.py and planning/ownership.py decide). *GET the user, GET
   its credentials unless it was created a moment ago; where groups are protected, GET its groups.*
2. May the mail be out already, because an earlier attempt got no answer or the mark says that one was announced? Then wait
   until it cannot be on its way any more, and ask Keycloak's admin events. *GET the events, in doubt only.*
3. Announce the mail by a mark on the user, so that after a crash whoever gets the record again knows that it has to ask. *PUT
   the user*, as it was read: no writer of this process comes between, since the lock of the user is held; one of another
   process that did finds that out (provisioning/mark_races.py).
4. Have Keycloak send the mail, within pace and limits. *PUT the mail.*
5. Where Keycloak records its mails, and Kafka delivers the invitation again unless it is finished, that is all: the mark
   (`sent-perhaps`) is settled for everybody but a record that comes again, which asks. Only a mail that the SMTP server refused
   makes the mark due again. Otherwise the mark before the mail says `sending`, and a second one `sent`. *GET and PUT the user*; if only that fails, the next
   attempt does it without another mail.

So a mail costs three or four calls, two more where Keycloak does not record it. Why a mark before the mail and not after it: a record that
comes again must be told from one that was never tried, and Kafka knows that only of records below its last commit, of which
a backlog may have thousands; each would have to ask.

The mark is an attribute of the user (planning.bookkeeping). What this process knows of unsettled mails is kept in memory.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.delivery.guards import LimitedAction, Limits
from keycloak_bridge.delivery.rate_limit import RateLimiter
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConflictError,
    HoldError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Purpose, Result
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import GROUPS, UserRepresentation
from keycloak_bridge.invitations.rules import (
    ALREADY_INVITED,
    HAS_CREDENTIALS,
    LINK_STILL_VALID,
    NOT_DUE,
    SUPERSEDED,
    Link,
    Settlement,
    announced,
    announced_at,
    awaits_another,
    counts_since,
    earlier_link,
    reason_against,
    settled,
    taken_back,
    was_just_created,
)
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.planning.bookkeeping import InvitationMark, mark_of, with_invitation_mark
from keycloak_bridge.planning.ownership import OwnUsers
from keycloak_bridge.threads.bounded_dict import BoundedDict
from keycloak_bridge.threads.named_locks import UserLocks

logger = logging.getLogger(__name__)

_CLOCKS_DIFFER_S = 60.0

_NOT_NOW = frozenset(("user-disabled", "no-email"))
"""What the user may have become since it was read; the mail is due again once that changes back."""

_REFUSALS = (KeycloakNotFoundError, KeycloakConflictError, KeycloakRejectedError)


class Fate(StrEnum):
    """What became of the last attempt to mail.

    Certainly nothing, unknown, the mail is out, or another process announced it and the rest is unknown.
    """

    NOT_SENT = "not-sent"
    IN_DOUBT = "in-doubt"
    SENT = "sent"
    ANNOUNCED = "announced"


_DOUBTS = frozenset((Fate.IN_DOUBT, Fate.ANNOUNCED))


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt to mail an invitation, and when it ended or became known, on the monotonic clock."""

    fate: Fate
    ended_s: float


@dataclass(frozen=True, slots=True)
class InviteOutcome:
    """The result of an invitation, and whether this very attempt sent a mail.

    `mailed` is False with the outcome `invited` when it was an earlier attempt's mail that is only reported now.
    """

    result: Result
    mailed: bool


@dataclass(frozen=True, slots=True)
class _Announced:
    """That a mail is to be sent now: the mark to go back to if it is refused, and whether no mark has to follow it."""

    before: InvitationMark | None = None
    is_last: bool = False


class _Token:
    """The right to send one mail now, given back unless it was spent."""

    spent = False


class Inviter:
    """Decides whether a mail is still wanted, has it sent, and marks the user as invited.

    Safe to share between threads as long as no two have the same invitation; Keycloak sends `at_once` mails at a time, and
    meanwhile other threads see to the next ones. `limits` count the mails. `settle_s` is how long a mail that got no answer
    may still be on its way. `at_most_once` decides where neither Keycloak's admin events nor this process know whether a
    mail went out: then no mail rather than perhaps a second one. `comes_again` says whether an invitation whose attempt was
    broken off is delivered again, as Kafka does: otherwise only the mark can say that it is open. `resend` says whether a
    user whose last link is still valid gets another one: `always`, or `when-expired`; a link to verify a changed address
    is sent in any case, since Keycloak has invalidated the links of the old address.
    """

    def __init__(
        self,
        directory: UserDirectory,
        own_users: OwnUsers,
        locks: UserLocks | None = None,
        *,
        clock: Clock,
        at_once: int = 1,
        pace: RateLimiter | None = None,
        limits: Limits | None = None,
        settle_s: float = 0.0,
        at_most_once: bool = False,
        comes_again: bool = True,
        resend: str = "when-expired",
    ) -> None:
        self._directory = directory
        self._own_users = own_users
        self._locks = locks or UserLocks()
        self._clock = clock
        self._under_way = threading.Semaphore(at_once)
        self._pace = pace or RateLimiter(None)
        self._limits = limits
        self._settle_s = settle_s
        self._at_most_once = at_most_once
        self._comes_again = comes_again
        self._respects_links = resend != "always"
        # an attempt is remembered until it is settled; forgetting one is like a restart of the process
        self._attempts: BoundedDict[tuple[str, str], Attempt] = BoundedDict()

    def invite(self, invitation: Invitation, owned_since_s: float | None = None) -> InviteOutcome:
        """Send the mail unless it went out before or would be wrong now; return what was done.

        `owned_since_s`, on the monotonic clock, is since when no other process gets the invitation, None where any may have
        it. Where the invitation only asks for it, confirm an earlier mail and send none. Raises ConflictError (`foreign-user`, `reserved-user`,
        `protected-user`) for a user that is not the bridge's own, HoldError (`brake`, `pace`, `mail-in-doubt`) or another
        BridgeError.
        """
        if invitation.confirm_only:
            return self._confirm(invitation)
        if self._limits is None:
            return self._invite(invitation, owned_since_s)
        # a mail that may have been sent counts, however its attempt ended and however often its record is there
        counted = f"{invitation.keycloak_id} {invitation.id}"
        new = self._limits.admit((LimitedAction.MAIL,), counted, self._clock.monotonic())
        mailed = True
        try:
            outcome = self._invite(invitation, owned_since_s)
            mailed = outcome.mailed
        except (HoldError, ConflictError):  # both before anything is mailed
            mailed = False
            raise
        finally:
            if new and not mailed:
                self._limits.take_back(LimitedAction.MAIL, counted)
        return outcome

    def _confirm(self, invitation: Invitation) -> InviteOutcome:
        """Mark the user if Keycloak recorded the mail."""
        user = self._directory.get(invitation.keycloak_id)
        if user is None:
            return self._done(invitation, "user-not-found")
        self._own_users.refuse_another(user, invitation.user_id)
        mark = mark_of(user)
        if mark is None or mark.event_id != invitation.event_id:
            return self._done(invitation, NOT_DUE if mark is None else SUPERSEDED)
        if mark.is_settled:
            return self._done(invitation, ALREADY_INVITED)
        if self._is_recorded(invitation, user):
            return self._settle(invitation, Settlement.RECORDED, ALREADY_INVITED)
        return self._done(invitation, "not-mailed")

    def _invite(self, invitation: Invitation, owned_since_s: float | None) -> InviteOutcome:
        last = self._attempts.get(_key(invitation))
        if last is not None and last.fate is Fate.NOT_SENT and last.ended_s < (owned_since_s or 0):
            last = None  # another process had the record meanwhile
        if last is not None and last.fate is Fate.SENT:
            return self._settle(invitation, Settlement.MAILED)
        self._hold_while_in_doubt(last)
        with self._token() as token:
            try:
                with self._locks.of(invitation.user_id):
                    decided = self._decide(invitation, last, owned_since_s)
                if isinstance(decided, InviteOutcome):
                    return decided
                self._mail(invitation, decided, token)
                if decided.is_last:
                    return self._done(invitation, mailed=True)
                return self._settle(invitation, Settlement.MAILED, mailed=True)
            except KeycloakNotFoundError:
                return self._done(invitation, "user-not-found")
            except KeycloakRejectedError as error:
                # nothing was mailed, and a replay need not find that out again
                outcome = self._settle(invitation, Settlement.REFUSED, error.code)
                if error.code not in _NOT_NOW:
                    raise
                return outcome

    def _decide(
        self, invitation: Invitation, last: Attempt | None, owned_since_s: float | None
    ) -> InviteOutcome | _Announced:
        """Return why there is no mail, or announce it. The user is not written by this process meanwhile."""
        user = self._directory.get(invitation.keycloak_id)
        if user is None:
            return self._done(invitation, "user-not-found")
        self._own_users.refuse_another(user, invitation.user_id)
        reason = self._reason_against(invitation, user)
        if reason == LINK_STILL_VALID:
            return self._settle(invitation, Settlement.KEPT, reason, user=user)
        if reason is not None:
            return self._done(invitation, reason)
        may_be_out = self._may_be_out(invitation, mark_of(user))
        if last is None and may_be_out:
            # the process that announced it may be sending it right now, or may have died in the middle
            since_s = self._settling_since_s(invitation, user, owned_since_s)
            last = self._remember(invitation, Fate.ANNOUNCED, since_s)
            self._hold_while_in_doubt(last)
        if last is not None and (
            last.fate is Fate.IN_DOUBT or (may_be_out and last.fate in _DOUBTS)
        ):
            outcome = self._settle_doubt(invitation, user, last)
            if outcome is not None:
                return outcome
            # others may have written the user while Keycloak looked for its mail
            user = self._directory.get(invitation.keycloak_id)
            if user is None:
                return self._done(invitation, "user-not-found")
            if reason := reason_against(invitation, user):
                return self._done(invitation, reason)
        return self._announce(invitation, user, last)

    def _reason_against(self, invitation: Invitation, user: UserRepresentation) -> str | None:
        """Return the code of the reason against a mail, None where it is due; raises ConflictError (`protected-user`)."""
        mark = mark_of(user)
        reason = reason_against(invitation, user)
        if reason is not None:
            return reason
        if self._own_users.protected_groups:
            groups = self._directory.belongs_to(invitation.keycloak_id, GROUPS)
            self._own_users.refuse_protected(groups)
        if invitation.purpose is Purpose.VERIFY_EMAIL:
            # a later event's invitation verifies the address too, but a user with credentials will not get that
            if not awaits_another(mark, invitation.event_id):
                return None
            has_credentials = self._directory.has_credentials(invitation.keycloak_id)
            return None if has_credentials else SUPERSEDED
        just_created = was_just_created(invitation, user, self._clock.now())
        if not just_created and self._directory.has_credentials(invitation.keycloak_id):
            return HAS_CREDENTIALS
        valid = self._earlier_link(invitation, mark) is Link.VALID
        return LINK_STILL_VALID if valid else None

    def _may_be_out(self, invitation: Invitation, mark: InvitationMark | None) -> bool:
        """Say whether another process may have sent this mail, or an earlier one whose link rules this one out."""
        if mark is not None and mark.has_begun(invitation.event_id):
            return True
        # a verification finds the mark of a later event only here: it may have replaced its own
        replaced = awaits_another(mark, invitation.event_id)
        return replaced or self._earlier_link(invitation, mark) is Link.PERHAPS

    def _earlier_link(self, invitation: Invitation, mark: InvitationMark | None) -> Link:
        """Return the earlier link beside which this mail would bring a second one, if that matters."""
        if not self._respects_links or invitation.purpose is Purpose.VERIFY_EMAIL:
            return Link.NONE
        return earlier_link(mark, invitation.event_id, self._clock.now())

    def _is_recorded(self, invitation: Invitation, user: UserRepresentation) -> bool | None:
        """Say whether Keycloak recorded the mail to the user; None where it cannot be asked.

        Only asked in doubt: the call becomes slower with every mail, since Keycloak reads all admin events since then.
        """
        if not self._directory.can_look_up_mails():
            return None
        since = counts_since(invitation, user, mark_of(user))
        try:
            recorded = self._directory.mail_recorded(invitation.keycloak_id, since)
            # none is no proof where mails were no longer recorded, which is asked anew then
            return recorded or (False if self._directory.can_look_up_mails() else None)
        except KeycloakAuthError as error:
            if error.status == 403:  # the role was removed just now
                return None
            raise

    def _settle_doubt(
        self, invitation: Invitation, user: UserRepresentation, last: Attempt
    ) -> InviteOutcome | None:
        """Ask Keycloak about a mail in doubt; None where it is to be sent now."""
        recorded = self._is_recorded(invitation, user)
        if recorded:
            if last.fate is Fate.IN_DOUBT:  # our own mail, which was not reported yet
                return self._settle(invitation, Settlement.MAILED)
            if self._earlier_link(invitation, mark_of(user)) is Link.PERHAPS:
                return self._settle(invitation, Settlement.KEPT, LINK_STILL_VALID)
            return self._settle(invitation, Settlement.RECORDED, ALREADY_INVITED)
        if recorded is None and self._at_most_once:
            return self._settle(invitation, Settlement.UNKNOWN, "maybe-invited")
        if recorded is None:
            _log_repetition(invitation)
        return None

    def _settling_since_s(
        self, invitation: Invitation, user: UserRepresentation, owned_since_s: float | None
    ) -> float:
        """Return since when nobody else can have begun the mail in doubt: now, unless all that is known says earlier.

        A mark may be misread, by another clock or after its lifespan was changed, and other processes mail too (`apply`).
        """
        now_s = self._clock.monotonic()
        at = announced_at(invitation, mark_of(user))
        if not at or owned_since_s is None:
            return now_s
        age_s = (self._clock.now() - at[0]).total_seconds() - _CLOCKS_DIFFER_S
        return max(owned_since_s, now_s - max(0.0, age_s))

    def _hold_while_in_doubt(self, last: Attempt | None) -> None:
        if last is None or last.fate not in _DOUBTS:
            return
        wait_s = last.ended_s + self._settle_s - self._clock.monotonic()
        if wait_s > 0:
            raise HoldError(
                "a mail that got no answer may still be on its way",
                wait_s=wait_s,
                code="mail-in-doubt",
            )

    @contextmanager
    def _token(self) -> Iterator[_Token]:
        wait_s = self._pace.take(self._clock.monotonic())
        if wait_s > 0:
            raise HoldError("the pace of invitations is kept", wait_s=wait_s, code="pace")
        token = _Token()
        try:
            yield token
        finally:
            if not token.spent:
                self._pace.give_back()

    def _announce(
        self, invitation: Invitation, user: UserRepresentation, last: Attempt | None
    ) -> _Announced:
        """Mark the user before the mail, for whoever gets the record again.

        A verification goes out in any case, without a mark where a later event's mail is due.
        """
        before = mark_of(user)
        if awaits_another(before, invitation.event_id):
            return _Announced()
        recorded = self._comes_again and self._directory.can_look_up_mails()
        mark = announced(invitation, before, self._clock.now(), recorded=recorded)
        if mark is None:
            return _Announced(is_last=before is not None and before.is_settled)
        if last is None:
            # this write may take effect unanswered: the mark must not be mistaken for a mail then
            self._remember(invitation, Fate.NOT_SENT)
        try:
            self._directory.update(invitation.keycloak_id, with_invitation_mark(user, mark))
        except (KeycloakConflictError, KeycloakRejectedError) as error:
            if self._at_most_once:
                raise
            _log_unmarked(invitation, error)
            return _Announced()
        return _Announced(before if recorded else None, is_last=recorded)

    def _mail(self, invitation: Invitation, announcement: _Announced, token: _Token) -> None:
        fate = Fate.IN_DOUBT
        try:
            with self._under_way:
                self._directory.execute_actions_email(invitation.keycloak_id, invitation.terms)
            fate = Fate.SENT
        except BridgeError as error:
            if not error.may_have_taken_effect:
                fate = Fate.NOT_SENT
            if isinstance(error, MailDeliveryError) and announcement.before is not None:
                self._take_back(invitation, announcement.before)
            raise
        finally:
            token.spent = fate is not Fate.NOT_SENT
            self._remember(invitation, fate)

    def _take_back(self, invitation: Invitation, before: InvitationMark) -> None:
        """Have the mail due again; if that fails, only this process and the admin events know that it is."""
        try:
            self._mark(invitation, lambda user: taken_back(invitation, mark_of(user), before))
        except KeycloakError as error:
            _log_unmarked(invitation, error)

    def _settle(
        self,
        invitation: Invitation,
        settlement: Settlement,
        reason: str | None = None,
        *,
        user: UserRepresentation | None = None,
        mailed: bool = False,
    ) -> InviteOutcome:
        """Mark the user so that no mail follows, and return the outcome: skipped for `reason`, else invited.

        `user` was read just now, under the lock. A refusal of the mark changes nothing. A later event's mail stays due.
        """

        def sent(user: UserRepresentation) -> InvitationMark | None:
            return settled(invitation, mark_of(user), self._clock.now(), settlement)

        try:
            self._mark(invitation, sent, user)
        except _REFUSALS as error:
            _log_unmarked(invitation, error)
        return self._done(invitation, reason, mailed=mailed)

    def _done(
        self, invitation: Invitation, reason: str | None = None, *, mailed: bool = False
    ) -> InviteOutcome:
        """Return the outcome: skipped for `reason`, else invited."""
        self._attempts.pop(_key(invitation))
        result = Result(
            Outcome.INVITED if reason is None else Outcome.SKIPPED,
            reason=reason,
            event_id=invitation.shown_event_id,
            user_id=invitation.user_id or None,
            keycloak_id=invitation.keycloak_id,
            identity=invitation.id,
        )
        return InviteOutcome(result, mailed)

    def _mark(
        self,
        invitation: Invitation,
        following: Callable[[UserRepresentation], InvitationMark | None],
        user: UserRepresentation | None = None,
    ) -> None:
        """Write the mark that follows, and nothing else.

        Unless `user` was read just now, it is read again before: the provision stage may have written it meanwhile.
        """
        with self._locks.of(invitation.user_id):
            user = user or self._directory.get(invitation.keycloak_id)
            if user is None:
                raise KeycloakNotFoundError("the user is gone", code="user-not-found")
            mark = following(user)
            if mark is not None:
                self._directory.update(invitation.keycloak_id, with_invitation_mark(user, mark))

    def _remember(
        self, invitation: Invitation, fate: Fate, ended_s: float | None = None
    ) -> Attempt:
        attempt = Attempt(fate, self._clock.monotonic() if ended_s is None else ended_s)
        self._attempts.put(_key(invitation), attempt)
        return attempt


def _key(invitation: Invitation) -> tuple[str, str]:
    """Name the mail by its user and the event that caused it."""
    return invitation.keycloak_id, invitation.event_id


def _log_unmarked(invitation: Invitation, error: BridgeError) -> None:
    log_event(
        logger,
        "invitation-not-marked",
        level=logging.WARNING,
        message="the user could not be marked; only Keycloak's admin events know of its mail",
        reason=error.code,
        event_id=invitation.shown_event_id,
        keycloak_id=invitation.keycloak_id,
    )


def _log_repetition(invitation: Invitation) -> None:
    log_event(
        logger,
        "mail-may-repeat",
        level=logging.WARNING,
        message="the mail goes out although an earlier one got no answer (invite.delivery)",
        event_id=invitation.shown_event_id,
        keycloak_id=invitation.keycloak_id,
    )
