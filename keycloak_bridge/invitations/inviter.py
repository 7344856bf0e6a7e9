"""Have Keycloak mail one invitation, and never twice where that can be known.

Write on the user how far its mail is.

What this process knows of mails whose invitation is not settled yet.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from keycloak_bridge.delivery.bounded import BoundedDict
from keycloak_bridge.delivery.rate_limit import RateLimiter
from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.events import Invitation, Outcome, Purpose, Result
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.invitations.rules import (
    ALREADY_INVITED,
    LINK_STILL_VALID,
    SUPERSEDED,
    MailInquiry,
    Settlement,
    announced,
    awaits_another,
    settled,
)
from keycloak_bridge.keycloak.errors import EXECUTE_ACTIONS_EMAIL
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.planning.bookkeeping import InvitationMark, mark_of, with_invitation_mark
from keycloak_bridge.provisioning.provisioner import UserLocks

_Next = Callable[[UserRepresentation], InvitationMark | None]


class InvitationMarker:
    """Marks users, and changes nothing else of them. Safe to share between threads.

    Each user is read again before: the provision stage or an administrator may have written meanwhile. Every method
    raises BridgeError, KeycloakNotFoundError for a user that is gone.
    """

    def __init__(self, directory: UserDirectory, locks: UserLocks, clock: Clock) -> None:
        self._directory = directory
        self._locks = locks
        self._clock = clock

    def announce(self, invitation: Invitation) -> bool:
        """Mark the mail as about to go out; False where a later event's mail is due by now instead.

        That does not stop a verification; it goes out unmarked.
        """
        superseded = False

        def sending(user: UserRepresentation) -> InvitationMark | None:
            nonlocal superseded
            mark = mark_of(user)
            superseded = awaits_another(mark, invitation.event_id)
            return None if superseded else announced(invitation, mark, self._clock.now())

        self._mark(invitation, sending)
        return not superseded or invitation.purpose is Purpose.VERIFY_EMAIL

    def settle(self, invitation: Invitation, settlement: Settlement) -> None:
        """Mark the user so that nothing is mailed for this event any more; a later event's mail stays due."""

        def sent(user: UserRepresentation) -> InvitationMark | None:
            return settled(invitation, mark_of(user), self._clock.now(), settlement)

        self._mark(invitation, sent)

    def _mark(self, invitation: Invitation, following: _Next) -> None:
        with self._locks.of(invitation.user_id):
            user = self._directory.get(invitation.keycloak_id)
            if user is None:
                raise KeycloakNotFoundError("the user is gone", code="user-not-found")
            mark = following(user)
            if mark is not None:
                self._directory.update(invitation.keycloak_id, with_invitation_mark(user, mark))


MailKey = tuple[str, str]
"""The Keycloak id of a user, and the event that caused the invitation."""

_UNREACHABLE = "keycloak-unreachable"


class Fate(StrEnum):
    """What became of the last attempt to mail.

    Certainly nothing, nobody knows, the mail is out, or another process announced it and nobody knows.
    """

    NOT_SENT = "not-sent"
    IN_DOUBT = "in-doubt"
    SENT = "sent"
    ANNOUNCED = "announced"


DOUBTS = frozenset((Fate.IN_DOUBT, Fate.ANNOUNCED))


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt to mail an invitation, and when it ended, or was first heard of, on the monotonic clock."""

    fate: Fate
    ended_s: float


def may_have_mailed(error: BridgeError) -> bool:
    """Say whether the mail may be out although the call for it failed.

    Keycloak's own word that it could not hand the mail over counts, and so does every refusal; an answer that got lost or
    that something in front of Keycloak made up says nothing.
    """
    if not isinstance(error, KeycloakUnavailableError) or isinstance(error, MailDeliveryError):
        return False
    if error.path not in (None, EXECUTE_ACTIONS_EMAIL):
        return False  # it was a call for a token, or about a mail that was refused
    if error.status is None:
        return error.code != _UNREACHABLE
    return error.status >= 500 or 200 <= error.status < 300


logger = logging.getLogger(__name__)

_NOT_NOW = frozenset(("user-disabled", "no-email"))
"""What became of the user since it was looked at; the mail is due again once that changes back."""

_REFUSALS = (KeycloakNotFoundError, KeycloakConflictError, KeycloakRejectedError)


@dataclass(frozen=True, slots=True)
class InviteOutcome:
    """The news about an invitation, and whether this very attempt sent a mail.

    `mailed` is False with the outcome `invited` when it was an earlier attempt's mail that is only told now.
    """

    result: Result
    mailed: bool


class _SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class _Token:
    """The right to send one mail now, given back unless it was spent."""

    spent = False


class Inviter:
    """Decides whether a mail is still wanted, has it sent, and marks the user as invited.

    Before the mail the user is marked as well (`sending`), so that after a crash the next process knows of which mails to
    ask Keycloak. To ask before each mail would cost more with every mail: Keycloak reads all admin events since then.
    Safe to share between threads as long as none has the same invitation as another. `settle_s` is how long a mail that got
    no answer may still be on its way. `at_most_once` decides where neither Keycloak's admin events nor this process
    know whether a mail went out: then no mail rather than perhaps a second one. `resend` says whether a user whose last
    link is still alive gets another one: `always`, or `when-expired`; a link to verify a changed address is not asked.
    """

    def __init__(
        self,
        directory: UserDirectory,
        locks: UserLocks | None = None,
        *,
        pace: RateLimiter | None = None,
        clock: Clock | None = None,
        settle_s: float = 0.0,
        at_most_once: bool = False,
        resend: str = "when-expired",
    ) -> None:
        self._directory = directory
        self._pace = pace or RateLimiter(None)
        self._clock = clock or _SystemClock()
        self._now_s = self._clock.monotonic
        self._marker = InvitationMarker(directory, locks or UserLocks(), self._clock)
        minds_links = resend != "always"
        self._inquiry = MailInquiry(directory, self._clock, minds_links=minds_links)
        self._settle_s = settle_s
        self._at_most_once = at_most_once
        # an attempt is remembered until it is settled; forgetting one is like a restart of the process
        self._attempts: BoundedDict[MailKey, Attempt] = BoundedDict()

    def invite(self, invitation: Invitation) -> InviteOutcome:
        """Send the mail unless it went out before or would be wrong now; say what was done.

        The mark is written after the mail. If only the mark fails, the next attempt writes it without another mail.
        Raises HoldError (`pace`, `mail-in-doubt`) or another BridgeError.
        """
        key = (invitation.keycloak_id, invitation.event_id)
        last = self._attempts.get(key)
        if last is not None and last.fate is Fate.SENT:
            return self._settled(invitation, Settlement.MAILED)
        self._hold_while_in_doubt(last)
        with self._token() as token:
            try:
                return self._invite(invitation, key, last, token)
            except KeycloakNotFoundError:
                return self._skipped(invitation, "user-not-found")
            except KeycloakRejectedError as error:
                if error.code not in _NOT_NOW:
                    raise
                return self._settled(invitation, Settlement.REFUSED, error.code)

    def confirm(self, invitation: Invitation) -> InviteOutcome:
        """Mark the user where Keycloak recorded the mail; mail nobody, since that was asked of somebody before."""
        user = self._directory.get(invitation.keycloak_id)
        if user is None:
            return self._skipped(invitation, "user-not-found")
        reason = self._inquiry.why_not(invitation, user)
        if reason is not None:
            return self._skipped(invitation, reason)
        if self._inquiry.recorded(invitation, user):
            return self._settled(invitation, Settlement.RECORDED, ALREADY_INVITED)
        return self._skipped(invitation, "not-mailed")

    def _invite(
        self, invitation: Invitation, key: MailKey, last: Attempt | None, token: _Token
    ) -> InviteOutcome:
        user = self._directory.get(invitation.keycloak_id)
        if user is None:
            return self._skipped(invitation, "user-not-found")
        reason = self._inquiry.why_not(invitation, user)
        if reason == LINK_STILL_VALID:
            return self._settled(invitation, Settlement.KEPT, reason)
        if reason is not None:
            return self._skipped(invitation, reason)
        may_be_out = self._inquiry.may_be_out(invitation, user)
        if last is None and may_be_out:
            # who announced it may be sending it right now, or have died in the middle
            last = self._remember(key, Fate.ANNOUNCED)
            self._hold_while_in_doubt(last)
        if last is not None and (
            last.fate is Fate.IN_DOUBT or (may_be_out and last.fate in DOUBTS)
        ):
            settled = self._settled_doubt(invitation, user, last)
            if settled is not None:
                return settled
        if not self._announce(invitation, key, last):
            return self._skipped(invitation, SUPERSEDED)
        self._mail(invitation, key, token)
        return self._settled(invitation, Settlement.MAILED, mailed=True)

    def _settled_doubt(
        self, invitation: Invitation, user: UserRepresentation, last: Attempt
    ) -> InviteOutcome | None:
        """Ask Keycloak about a mail in doubt; None where it goes out now."""
        recorded = self._inquiry.recorded(invitation, user)
        if recorded:
            if last.fate is Fate.IN_DOUBT:  # nobody has been told of our own mail
                return self._settled(invitation, Settlement.MAILED)
            if self._inquiry.may_be_joined(invitation, user):
                return self._settled(invitation, Settlement.KEPT, LINK_STILL_VALID)
            return self._settled(invitation, Settlement.RECORDED, ALREADY_INVITED)
        if recorded is None and self._at_most_once:
            return self._settled(invitation, Settlement.UNKNOWN, "maybe-invited")
        if recorded is None:
            _log_repetition(invitation)
        return None

    def _hold_while_in_doubt(self, last: Attempt | None) -> None:
        if last is None or last.fate not in DOUBTS:
            return
        wait_s = last.ended_s + self._settle_s - self._now_s()
        if wait_s > 0:
            raise HoldError(
                "a mail that got no answer may still be on its way",
                wait_s=wait_s,
                code="mail-in-doubt",
            )

    @contextmanager
    def _token(self) -> Iterator[_Token]:
        wait_s = self._pace.take(self._now_s())
        if wait_s > 0:
            raise HoldError("the pace of invitations is kept", wait_s=wait_s, code="pace")
        token = _Token()
        try:
            yield token
        finally:
            if not token.spent:
                self._pace.give_back()

    def _announce(self, invitation: Invitation, key: MailKey, last: Attempt | None) -> bool:
        """Mark the user before the mail, for whoever comes after a crash; False where a later event's mail is due."""
        if last is None:
            # this write may take effect unanswered: the mark must not be mistaken for a mail then
            self._remember(key, Fate.NOT_SENT)
        try:
            return self._marker.announce(invitation)
        except (KeycloakConflictError, KeycloakRejectedError) as error:
            if self._at_most_once:
                raise
            _log_unmarked(invitation, error)
            return True

    def _mail(self, invitation: Invitation, key: MailKey, token: _Token) -> None:
        fate = Fate.IN_DOUBT
        try:
            self._directory.execute_actions_email(invitation.keycloak_id, invitation.terms)
            fate = Fate.SENT
        except BridgeError as error:
            if not may_have_mailed(error):
                fate = Fate.NOT_SENT
            raise
        finally:
            token.spent = fate is not Fate.NOT_SENT
            self._remember(key, fate)

    def _settled(
        self,
        invitation: Invitation,
        settlement: Settlement,
        reason: str | None = None,
        *,
        mailed: bool = False,
    ) -> InviteOutcome:
        """Mark the user so that no mail follows, which no refusal can change, and tell: skipped for `reason`, else invited."""
        try:
            self._marker.settle(invitation, settlement)
        except _REFUSALS as error:
            _log_unmarked(invitation, error)
        if reason is not None:
            return self._skipped(invitation, reason)
        self._forget(invitation)
        return InviteOutcome(_result(invitation, Outcome.INVITED, None), mailed)

    def _skipped(self, invitation: Invitation, reason: str) -> InviteOutcome:
        self._forget(invitation)
        return InviteOutcome(_result(invitation, Outcome.SKIPPED, reason), mailed=False)

    def _remember(self, key: MailKey, fate: Fate) -> Attempt:
        attempt = Attempt(fate, self._now_s())
        self._attempts.put(key, attempt)
        return attempt

    def _forget(self, invitation: Invitation) -> None:
        self._attempts.pop((invitation.keycloak_id, invitation.event_id))


def _log_unmarked(invitation: Invitation, error: BridgeError) -> None:
    log_event(
        logger,
        "invitation-not-marked",
        level=logging.WARNING,
        message="the user could not be marked; only Keycloak's admin events can tell of its mail",
        reason=error.code,
        event_id=invitation.event_id,
        keycloak_id=invitation.keycloak_id,
    )


def _log_repetition(invitation: Invitation) -> None:
    log_event(
        logger,
        "mail-may-repeat",
        level=logging.WARNING,
        message="the mail goes out although an earlier one got no answer (invite.delivery)",
        event_id=invitation.event_id,
        keycloak_id=invitation.keycloak_id,
    )


def _result(invitation: Invitation, outcome: Outcome, reason: str | None) -> Result:
    return Result(
        outcome,
        reason=reason,
        event_id=invitation.event_id,
        user_id=invitation.user_id or None,
        keycloak_id=invitation.keycloak_id,
    )
