"""Have Keycloak mail one invitation, and never twice where that can be known."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from keycloak_bridge.core.errors import (
    BridgeError,
    HoldError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.core.model import Invitation, Outcome, Result, UserRepresentation
from keycloak_bridge.core.pace import Pace
from keycloak_bridge.core.plan import (
    invitation_marker_sending,
    invitation_marker_sent,
    invitation_state,
    with_invitation_sending,
    with_invitation_sent,
)
from keycloak_bridge.core.ports import Clock, UserDirectory
from keycloak_bridge.core.user_locks import UserLocks
from keycloak_bridge.keycloak_rejections import EXECUTE_ACTIONS_EMAIL
from keycloak_bridge.logs import log_event
from keycloak_bridge.mail_memory import DOUBTS, Attempt, Fate, MailKey, MailMemory

logger = logging.getLogger(__name__)

_REFUSALS = (KeycloakNotFoundError, KeycloakConflictError, KeycloakRejectedError)
_UNREACHABLE = "keycloak-unreachable"


@dataclass(frozen=True, slots=True)
class InviteOutcome:
    """The news about an invitation, and whether this very attempt sent a mail.

    `mailed` is False with the outcome `invited` when it was an earlier attempt's mail that is only told now.
    """

    result: Result
    mailed: bool


class _Token:
    """The right to send one mail now, given back unless it was spent."""

    spent = False


class Inviter:
    """Decides whether a mail is still wanted, has it sent, and marks the user as invited.

    Before the mail the user is marked as well (`sending`), so that after a crash the next process knows of which mails to
    ask Keycloak. To ask before each mail would cost more with every mail: Keycloak reads all admin events since then.
    Safe to share between threads as long as none has the same invitation as another. `settle_s` is how long a mail that got
    no answer may still be on its way. `at_most_once` decides where neither Keycloak's admin events nor this process
    know whether a mail went out: then no mail rather than perhaps a second one.
    """

    def __init__(
        self,
        directory: UserDirectory,
        locks: UserLocks | None = None,
        *,
        pace: Pace | None = None,
        clock: Clock | None = None,
        settle_s: float = 0.0,
        at_most_once: bool = False,
    ) -> None:
        self._directory = directory
        self._locks = locks or UserLocks()
        self._pace = pace or Pace(None)
        self._now_s = clock.monotonic if clock is not None else time.monotonic
        self._settle_s = settle_s
        self._at_most_once = at_most_once
        self._memory = MailMemory()

    def invite(self, invitation: Invitation) -> InviteOutcome:
        """Send the mail unless it went out before or would be wrong now; say what was done.

        The mark is written after the mail. If only the mark fails, the next attempt writes it without another mail.
        Raises HoldError (`pace`, `mail-in-doubt`) or another BridgeError.
        """
        key = (invitation.keycloak_id, invitation.event_id)
        last = self._memory.recall(key)
        if last is not None and last.fate is Fate.SENT:
            return self._settled(invitation, None)
        self._hold_while_in_doubt(last)
        with self._token() as token:
            try:
                return self._invite(invitation, key, last, token)
            except KeycloakNotFoundError:
                return self._skipped(invitation, "user-not-found")

    def confirm(self, invitation: Invitation) -> InviteOutcome:
        """Mark the user where Keycloak recorded the mail; mail nobody, since that was asked of somebody before."""
        user = self._directory.get(invitation.keycloak_id)
        reason = self._why_not(invitation, user)
        if user is None or reason is not None:
            return self._skipped(invitation, reason or "user-not-found")
        if self._recorded(invitation, user):
            return self._settled(invitation, "already-invited")
        return self._skipped(invitation, "not-mailed")

    def _invite(
        self, invitation: Invitation, key: MailKey, last: Attempt | None, token: _Token
    ) -> InviteOutcome:
        user = self._directory.get(invitation.keycloak_id)
        reason = self._why_not(invitation, user)
        if user is None or reason is not None:
            return self._skipped(invitation, reason or "user-not-found")
        announced = invitation_state(user) == invitation_marker_sending(invitation.event_id)
        if announced and last is None:
            # who announced it may be sending it right now, or have died in the middle
            last = self._remember(key, Fate.ANNOUNCED)
            self._hold_while_in_doubt(last)
        if last is not None and last.fate in DOUBTS:
            recorded = self._recorded(invitation, user)
            if recorded:
                # nobody has been told of our own mail
                own = last.fate is Fate.IN_DOUBT
                return self._settled(invitation, None if own else "already-invited")
            if recorded is None and self._at_most_once:
                return self._settled(invitation, "maybe-invited")
            if recorded is None:
                _log_repetition(invitation)
        if not announced:
            self._announce(invitation, key, last)
        self._mail(invitation, key, token)
        return self._settled(invitation, None, mailed=True)

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

    def _why_not(self, invitation: Invitation, user: UserRepresentation | None) -> str | None:
        """Return the code of the reason against a mail, None where it is due."""
        if user is None:
            return "user-not-found"
        if not user.get("enabled", False):
            return "user-disabled"
        if not user.get("email"):
            return "no-email"
        if invitation_state(user) == invitation_marker_sent(invitation.event_id):
            return "already-invited"
        if self._directory.has_credentials(invitation.keycloak_id):
            return "has-credentials"
        return None

    def _recorded(self, invitation: Invitation, user: UserRepresentation) -> bool | None:
        """Say whether Keycloak recorded a mail to the user; None where it cannot be asked."""
        if not self._directory.can_look_up_mails():
            return None
        created_ms = user.get("createdTimestamp")
        since = None if created_ms is None else datetime.fromtimestamp(created_ms / 1000, UTC)
        try:
            return self._directory.mail_recorded(invitation.keycloak_id, since)
        except KeycloakAuthError as error:
            if error.status == 403:  # the role was taken away just now
                return None
            raise

    def _announce(self, invitation: Invitation, key: MailKey, last: Attempt | None) -> None:
        """Mark the user before the mail, for whoever comes after a crash."""
        if last is None:
            # this write may take effect unanswered: the mark must not be mistaken for a mail then
            self._remember(key, Fate.NOT_SENT)
        try:
            self._mark(invitation, sent=False)
        except (KeycloakConflictError, KeycloakRejectedError) as error:
            if self._at_most_once:
                raise
            _log_unmarked(invitation, error)

    def _mail(self, invitation: Invitation, key: MailKey, token: _Token) -> None:
        fate = Fate.IN_DOUBT
        try:
            self._directory.execute_actions_email(invitation.keycloak_id, invitation.terms)
            fate = Fate.SENT
        except BridgeError as error:
            if not _may_have_mailed(error):
                fate = Fate.NOT_SENT
            raise
        finally:
            token.spent = fate is not Fate.NOT_SENT
            self._remember(key, fate)

    def _settled(
        self, invitation: Invitation, reason: str | None, *, mailed: bool = False
    ) -> InviteOutcome:
        """Mark the user as mailed, which no refusal can change, and tell: skipped for `reason`, else invited."""
        try:
            self._mark(invitation, sent=True)
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
        self._memory.remember(key, attempt)
        return attempt

    def _forget(self, invitation: Invitation) -> None:
        self._memory.forget((invitation.keycloak_id, invitation.event_id))

    def _mark(self, invitation: Invitation, *, sent: bool) -> None:
        # read again: the provision stage or an administrator may have written meanwhile
        with self._locks.of(invitation.user_id):
            user = self._directory.get(invitation.keycloak_id)
            if user is None:
                raise KeycloakNotFoundError("the user is gone", code="user-not-found")
            marked = with_invitation_sent if sent else with_invitation_sending
            self._directory.update(invitation.keycloak_id, marked(user, invitation.event_id))


def _may_have_mailed(error: BridgeError) -> bool:
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
