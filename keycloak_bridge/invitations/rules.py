"""The rules of invitations, without side effects: what rules out a mail, which mark follows, which mails count.

A mark says of which event the last mail is, how far it is (due, sending, sent), and when its link ends. It is the one
authority: the provision stage writes it before it asks for a mail, so a record without it asks for nothing.

| mark of the event | written | meaning for its invitation |
|---|---|---|
| `due` | with the user, or after a refusal | mail it |
| `sent-perhaps` | before the mail, where Keycloak records mails | if this process did not just mail it: ask Keycloak |
| `sending-until` | before the mail, where it does not | if this process did not just mail it: `invite.delivery` decides |
| `sent-until` | after the mail, or where an earlier link is kept | nothing is left to do |
"""

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from keycloak_bridge.domain.events import Invitation, Purpose
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.planning.bookkeeping import InvitationMark, MarkState, mark_of
from keycloak_bridge.planning.mail_due import mail_obstacle

ALREADY_INVITED = "already-invited"
ALREADY_VERIFIED = "already-verified"
HAS_CREDENTIALS = "has-credentials"
LINK_STILL_VALID = "link-still-valid"
NOT_DUE = "not-due"
SUPERSEDED = "superseded"

LINK_AHEAD_S = 60
"""How much longer an announced link is said to live: the mail takes its time, and may be tried again."""

_ENOUGH_AHEAD_S = 30

_MOMENT_MS = 5000


def reason_against(invitation: Invitation, user: UserRepresentation) -> str | None:
    """Return the code of what in the user itself rules out the mail, None where nothing does."""
    mark, obstacle = mark_of(user), mail_obstacle(user)
    if obstacle is not None:
        return obstacle
    if mark is None:
        return NOT_DUE
    if mark.is_sent(invitation.event_id):
        return ALREADY_INVITED
    if invitation.purpose is Purpose.VERIFY_EMAIL:
        if user.get("emailVerified", False):
            return ALREADY_VERIFIED
        # a later event's mail, which is due, may be one that this user does not get
        if awaits_another(mark, invitation.event_id):
            return None
    return None if mark.event_id == invitation.event_id else SUPERSEDED


def was_just_created(invitation: Invitation, user: UserRepresentation, now: datetime) -> bool:
    """Say whether the bridge created the user for this mail a moment ago: without credentials, as it always does.

    Whoever sets a password that soon races with the mail in any case. A user that was found instead has no first invitation.
    """
    mark, created_ms = mark_of(user), user.get("createdTimestamp")
    if created_ms is None or invitation.purpose is not Purpose.INVITE:
        return False
    is_first = mark == InvitationMark(MarkState.DUE, invitation.event_id)
    return is_first and abs(int(now.timestamp() * 1000) - created_ms) <= _MOMENT_MS


def awaits_another(mark: InvitationMark | None, event_id: str) -> bool:
    """Say whether the mail of another event is due, which must be a later one: no earlier one becomes due again."""
    return mark is not None and mark.state is MarkState.DUE and mark.event_id != event_id


class Link(StrEnum):
    """Whether the link of an earlier mail is valid: certainly not, certainly, or if that mail, which is in doubt, went out."""

    NONE = "none"
    VALID = "valid"
    PERHAPS = "perhaps"


def earlier_link(mark: InvitationMark | None, event_id: str, now: datetime) -> Link:
    """Return what `mark` says of an earlier link; one that was announced for `event_id` itself does not count."""
    if mark is None or mark.until_s is None or mark.until_s <= now.timestamp():
        return Link.NONE
    if mark.state is MarkState.SENDING or mark.has_begun(event_id):
        return Link.NONE
    return Link.PERHAPS if mark.in_doubt else Link.VALID


def announced(
    invitation: Invitation, mark: InvitationMark | None, now: datetime, *, recorded: bool
) -> InvitationMark | None:
    """Return the mark to write before the mail; None where `mark` says as much already.

    It has the latest end that the new link can have, so that this end is known even if the mail is never marked. Where
    the mail will be `recorded` by Keycloak, it is the last mark: only a record that comes again has to ask about it.
    """
    end_s = _end_s(invitation, now)
    state = MarkState.SENT if recorded else MarkState.SENDING
    if mark is None or not mark.has_begun(invitation.event_id):
        return InvitationMark(
            state, invitation.event_id, _later(end_s + LINK_AHEAD_S, mark), in_doubt=recorded
        )
    reaches = mark.until_s is not None and mark.until_s >= end_s + _ENOUGH_AHEAD_S
    if reaches and (recorded or not mark.is_settled):
        return None
    return InvitationMark(state, invitation.event_id, end_s + LINK_AHEAD_S, in_doubt=recorded)


def taken_back(
    invitation: Invitation, mark: InvitationMark | None, before: InvitationMark | None
) -> InvitationMark | None:
    """Return the mark to write when the announced mail certainly did not go out; None where `mark` stays as it is."""
    begun = mark is not None and mark.has_begun(invitation.event_id)
    return before if begun else None


class Settlement(StrEnum):
    """Why nothing is left to mail.

    This process mailed, Keycloak recorded the mail, it is unknown, an earlier link is valid, or Keycloak refuses for now.
    """

    MAILED = "mailed"
    RECORDED = "recorded"
    UNKNOWN = "unknown"
    KEPT = "kept"
    REFUSED = "refused"


def settled(
    invitation: Invitation, mark: InvitationMark | None, now: datetime, settlement: Settlement
) -> InvitationMark | None:
    """Return the mark to write when nothing is left to mail; None where `mark` stays as it is, as `sent-perhaps` does."""
    foreign = mark is not None and mark.event_id != invitation.event_id
    # a later event's mail that is due took over the end that was announced for this one's link
    if foreign and (
        settlement is not Settlement.MAILED or awaits_another(mark, invitation.event_id)
    ):
        return None
    if settlement is Settlement.REFUSED:
        return InvitationMark(MarkState.DUE, invitation.event_id)
    if mark is not None and mark.is_settled and not foreign:
        return None
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
    if not mark.has_begun(invitation.event_id):
        return max(end_s, mark.until_s)
    if settlement is Settlement.MAILED and mark.until_s <= end_s + LINK_AHEAD_S:
        return end_s  # sooner than was announced
    return mark.until_s


def counts_since(
    invitation: Invitation, user: UserRepresentation, mark: InvitationMark | None
) -> datetime | None:
    """Return since when a recorded mail counts as this invitation's; None for any age.

    Any mail counts for a first invitation. For later ones only what came after them, or the first mail would count; so
    does for a mail that is due by its mark and to be confirmed, since the mark may have been overwritten.
    """
    if invitation.confirm_only and mark is not None and mark.state is MarkState.DUE:
        return invitation.time
    since: list[datetime] = []
    if invitation.purpose is not Purpose.INVITE and not invitation.confirm_only:
        since.append(invitation.time)
    if invitation.purpose is not Purpose.INVITE or invitation.confirm_only:
        since += announced_at(invitation, mark)
    if since:
        return min(since)
    created_ms = user.get("createdTimestamp")
    return None if created_ms is None else datetime.fromtimestamp(created_ms / 1000, UTC)


def announced_at(invitation: Invitation, mark: InvitationMark | None) -> list[datetime]:
    """Return when the mail in doubt was announced: perhaps for this event, which may have been published twice."""
    ends = None if mark is None else mark.link_ends
    if mark is None or ends is None or mark.event_id != invitation.event_id:
        return []
    if mark.state is not MarkState.SENDING and not mark.in_doubt:
        return []
    lived = timedelta(seconds=invitation.terms.lifespan_s + LINK_AHEAD_S)
    return [ends - lived]


def _end_s(invitation: Invitation, now: datetime) -> int:
    return math.ceil(now.timestamp()) + invitation.terms.lifespan_s


def _later(end_s: int, mark: InvitationMark | None) -> int:
    return end_s if mark is None or mark.until_s is None else max(end_s, mark.until_s)
