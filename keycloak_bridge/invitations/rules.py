"""What stands against the mail of an invitation, when the user's last link ends, and how far back mails count.

Ask Keycloak what stands against a mail, and whether it went out already.
"""

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from keycloak_bridge.domain.errors import KeycloakAuthError
from keycloak_bridge.domain.events import Invitation, Purpose
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.planning.bookkeeping import InvitationMark, MarkState, mark_of

ALREADY_INVITED = "already-invited"
ALREADY_VERIFIED = "already-verified"
HAS_CREDENTIALS = "has-credentials"
LINK_STILL_VALID = "link-still-valid"
SUPERSEDED = "superseded"

_AHEAD_S = 60
"""How much longer than from now on an announced link is said to live: the mail takes its time, and may be tried again."""

_ENOUGH_AHEAD_S = 30


def reason_against(invitation: Invitation, user: UserRepresentation) -> str | None:
    """Return the code of what the user itself says against the mail, None where it says nothing."""
    mark = mark_of(user)
    if not user.get("enabled", False):
        return "user-disabled"
    if not user.get("email"):
        return "no-email"
    if mark is not None and mark.is_sent(invitation.event_id):
        return ALREADY_INVITED
    if invitation.purpose is Purpose.VERIFY_EMAIL:
        return ALREADY_VERIFIED if user.get("emailVerified", False) else None
    return SUPERSEDED if awaits_another(mark, invitation.event_id) else None


def awaits_another(mark: InvitationMark | None, event_id: str) -> bool:
    """Say whether the mail of another event is due, which must be a later one: no earlier one becomes due again."""
    return mark is not None and mark.state is MarkState.DUE and mark.event_id != event_id


def may_have_begun(mark: InvitationMark | None, event_id: str) -> bool:
    """Say whether this event's mail may be out although this process did not send it.

    Whoever sent the mail of another event may have sent this one before, and been killed before either was committed.
    """
    if mark is None or mark.is_sent(event_id):
        return False
    return mark.state is not MarkState.DUE


def link_stands(mark: InvitationMark | None, event_id: str, now: datetime) -> bool:
    """Say whether a link of an earlier mail is still alive; what `event_id` itself has announced does not count."""
    return _may_stand(mark, event_id, now) and mark is not None and not mark.in_doubt


def link_may_stand(mark: InvitationMark | None, event_id: str, now: datetime) -> bool:
    """Say whether a link is still alive if an earlier mail, of which nobody knows, went out."""
    return _may_stand(mark, event_id, now) and mark is not None and mark.in_doubt


def _may_stand(mark: InvitationMark | None, event_id: str, now: datetime) -> bool:
    if mark is None or mark.until_s is None:
        return False
    if mark.event_id != event_id and mark.state is MarkState.SENDING:
        return False
    return not mark.is_sending(event_id) and mark.until_s > now.timestamp()


def announced(
    invitation: Invitation, mark: InvitationMark | None, now: datetime
) -> InvitationMark | None:
    """Return the mark to write before the mail; None where `mark` says as much already.

    It holds the latest end that the new link can have, so that this end is known even when nobody marks the mail.
    """
    end_s = _end_s(invitation, now)
    if mark is None or not mark.is_sending(invitation.event_id):
        return InvitationMark(
            MarkState.SENDING, invitation.event_id, _later(end_s + _AHEAD_S, mark)
        )
    if mark.until_s is not None and mark.until_s >= end_s + _ENOUGH_AHEAD_S:
        return None
    return InvitationMark(MarkState.SENDING, invitation.event_id, end_s + _AHEAD_S)


class Settlement(StrEnum):
    """Why nothing is left to mail.

    This process mailed, the mail is on record, nobody knows, an earlier link stands, or Keycloak refuses the user for now.
    """

    MAILED = "mailed"
    RECORDED = "recorded"
    UNKNOWN = "unknown"
    KEPT = "kept"
    REFUSED = "refused"


def settled(
    invitation: Invitation, mark: InvitationMark | None, now: datetime, settlement: Settlement
) -> InvitationMark | None:
    """Return the mark to write when nothing is left to mail; None where `mark` shall stay as it is."""
    foreign = mark is not None and mark.event_id != invitation.event_id
    # a later event's mail that is due took over the end that was announced for this one's link
    if foreign and (
        settlement is not Settlement.MAILED or awaits_another(mark, invitation.event_id)
    ):
        return None
    if settlement is Settlement.REFUSED:
        return InvitationMark(MarkState.DUE, invitation.event_id)
    end_s = _link_end_s(invitation, mark, now, settlement)
    in_doubt = settlement is Settlement.UNKNOWN
    return InvitationMark(MarkState.SENT, invitation.event_id, end_s, in_doubt)


def _link_end_s(
    invitation: Invitation, mark: InvitationMark | None, now: datetime, settlement: Settlement
) -> int:
    end_s = _end_s(invitation, now)
    if mark is None or mark.until_s is None:
        return end_s
    if settlement is Settlement.KEPT:
        return mark.until_s
    if not mark.is_sending(invitation.event_id):
        return max(end_s, mark.until_s)
    if settlement is Settlement.MAILED and mark.until_s <= end_s + _AHEAD_S:
        return end_s  # sooner than was announced
    return mark.until_s


def counts_since(
    invitation: Invitation, user: UserRepresentation, mark: InvitationMark | None
) -> datetime | None:
    """Return since when a mail on record counts as this invitation's; None for however old.

    Any mail will do for a first invitation. Later ones may count only what came after them, or else the first mail would
    count as theirs.
    """
    since: list[datetime] = []
    if invitation.purpose is not Purpose.INVITE and not invitation.confirm_only:
        since.append(invitation.time)
    if invitation.purpose is not Purpose.INVITE or invitation.confirm_only:
        since += _announced_at(invitation, mark)
    if since:
        return min(since)
    created_ms = user.get("createdTimestamp")
    return None if created_ms is None else datetime.fromtimestamp(created_ms / 1000, UTC)


def _announced_at(invitation: Invitation, mark: InvitationMark | None) -> list[datetime]:
    """Say when the mail in doubt was announced: perhaps for this event, which may have been published twice."""
    if mark is None or mark.until_s is None or mark.event_id != invitation.event_id:
        return []
    if mark.state is not MarkState.SENDING and not mark.in_doubt:
        return []
    lived = timedelta(seconds=invitation.terms.lifespan_s + _AHEAD_S)
    return [datetime.fromtimestamp(mark.until_s, UTC) - lived]


def _end_s(invitation: Invitation, now: datetime) -> int:
    return math.ceil(now.timestamp()) + invitation.terms.lifespan_s


def _later(end_s: int, mark: InvitationMark | None) -> int:
    return end_s if mark is None or mark.until_s is None else max(end_s, mark.until_s)


class MailInquiry:
    """Answers about one user at a time. Safe to share between threads.

    With `minds_links` a link of an earlier mail that is still alive stands against another one, except one that verifies a
    changed address: Keycloak killed the links of the old one. Every method raises BridgeError.
    """

    def __init__(self, directory: UserDirectory, clock: Clock, *, minds_links: bool) -> None:
        self._directory = directory
        self._clock = clock
        self._minds_links = minds_links

    def why_not(self, invitation: Invitation, user: UserRepresentation) -> str | None:
        """Return the code of the reason against a mail, None where it is due."""
        reason = reason_against(invitation, user)
        if reason is not None:
            return reason
        if invitation.purpose is Purpose.VERIFY_EMAIL:
            return self._why_not_verify(invitation, user)
        if self._directory.has_credentials(invitation.keycloak_id):
            return HAS_CREDENTIALS
        now = self._clock.now()
        if self._minds_links and link_stands(mark_of(user), invitation.event_id, now):
            return LINK_STILL_VALID
        return None

    def _why_not_verify(self, invitation: Invitation, user: UserRepresentation) -> str | None:
        """Leave it to a later event's invitation, whose link verifies too; a user with credentials will not get that."""
        if not awaits_another(mark_of(user), invitation.event_id):
            return None
        has_credentials = self._directory.has_credentials(invitation.keycloak_id)
        return None if has_credentials else SUPERSEDED

    def may_be_out(self, invitation: Invitation, user: UserRepresentation) -> bool:
        """Say whether another process may have sent this mail, or an earlier one whose link would stand against it."""
        mark = mark_of(user)
        if may_have_begun(mark, invitation.event_id) or self.may_be_joined(invitation, user):
            return True
        # a verification finds the mark of a later event only here: it may have taken the place of its own
        return awaits_another(mark, invitation.event_id)

    def may_be_joined(self, invitation: Invitation, user: UserRepresentation) -> bool:
        """Say whether the link would be a second one, if an earlier mail went out of which nobody knows."""
        if not self._minds_links or invitation.purpose is Purpose.VERIFY_EMAIL:
            return False
        return link_may_stand(mark_of(user), invitation.event_id, self._clock.now())

    def recorded(self, invitation: Invitation, user: UserRepresentation) -> bool | None:
        """Say whether Keycloak recorded the mail to the user; None where it cannot be asked."""
        if not self._directory.can_look_up_mails():
            return None
        since = counts_since(invitation, user, mark_of(user))
        try:
            return self._directory.mail_recorded(invitation.keycloak_id, since)
        except KeycloakAuthError as error:
            if error.status == 403:  # the role was taken away just now
                return None
            raise
