"""What stands against a mail, what marks say of links, and since when mails count."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from samples import a_due_user, an_invitation

from keycloak_bridge.domain.events import Purpose
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.invitations.rules import (
    Link,
    Settlement,
    announced,
    counts_since,
    earlier_link,
    reason_against,
    settled,
    taken_back,
    was_just_created,
)
from keycloak_bridge.planning.bookkeeping import due_after, format_mark, mark_of, parse_mark

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
END_S = NOW_S + 3600
ASKED = NOW - timedelta(minutes=20)
CREATED = NOW - timedelta(days=9)
INVITATION = an_invitation("k1", "e2", time=ASKED)


def a_user(mark: str | None, **fields: object) -> UserRepresentation:
    if mark is None:
        fields["attributes"] = {}
    return a_due_user(mark or "", createdTimestamp=int(CREATED.timestamp() * 1000), **fields)


@pytest.mark.parametrize(
    ("mark", "fields", "purpose", "reason"),
    [
        ("due:e2", {}, Purpose.INVITE, None),
        (None, {}, Purpose.INVITE, "not-due"),
        ("due:e2", {"enabled": False}, Purpose.RESEND, "user-disabled"),
        ("due:e2", {"email": ""}, Purpose.RESEND, "no-email"),
        ("sent:e2", {}, Purpose.RESEND, "already-invited"),
        ("sent-until:5:e2", {}, Purpose.VERIFY_EMAIL, "already-invited"),
        ("sending:e2", {}, Purpose.RESEND, None),
        ("sent-perhaps:5:e2", {}, Purpose.INVITE, None),
        ("due:e3", {}, Purpose.INVITE, "superseded"),
        ("due-until:5:e3", {}, Purpose.RESEND, "superseded"),
        ("due:e3", {}, Purpose.VERIFY_EMAIL, None),
        ("sent:e1", {}, Purpose.RESEND, "superseded"),
        ("sending:e1", {}, Purpose.INVITE, "superseded"),
        ("sent:e3", {}, Purpose.VERIFY_EMAIL, "superseded"),
        ("due:e2", {"emailVerified": True}, Purpose.VERIFY_EMAIL, "already-verified"),
        ("due:e2", {"emailVerified": True}, Purpose.RESEND, None),
    ],
)
def test_reason_against(
    mark: str | None, fields: dict[str, object], purpose: Purpose, reason: str | None
) -> None:
    """The user's state and mark speak first."""
    invitation = replace(INVITATION, purpose=purpose)

    assert reason == reason_against(invitation, a_user(mark, **fields))


@pytest.mark.parametrize(
    ("mark", "purpose", "age_s", "expected"),
    [
        ("due:e2", Purpose.INVITE, 0, True),
        ("due:e2", Purpose.INVITE, 5, True),
        ("due:e2", Purpose.INVITE, -5, True),
        ("due:e2", Purpose.INVITE, 6, False),
        # by a clock that is late, any user is new
        ("due:e2", Purpose.INVITE, -6, False),
        ("due:e2", Purpose.INVITE, None, False),
        ("due:e2", Purpose.INVITE, -(10**400), False),
        # asked for once more: the user may be anybody's
        ("due:e2", Purpose.RESEND, 0, False),
        ("due:e2", Purpose.VERIFY_EMAIL, 0, False),
        ("due-until:0:e2", Purpose.INVITE, 0, False),
        ("sent-perhaps:9:e2", Purpose.INVITE, 0, False),
        ("due:e3", Purpose.INVITE, 0, False),
    ],
)
def test_was_just_created(mark: str, purpose: Purpose, age_s: int | None, expected: bool) -> None:
    """Only the first invitation of a user that is seconds old is known to go to somebody without credentials."""
    fields = {} if age_s is None else {"createdTimestamp": (NOW_S - age_s) * 1000}
    user = a_due_user(mark, **fields)

    assert expected == was_just_created(replace(INVITATION, purpose=purpose), user, NOW)


@pytest.mark.parametrize(
    ("mark", "begun", "stands", "may_stand"),
    [
        (None, False, False, False),
        ("due:e2", False, False, False),
        (f"due-until:{NOW_S}:e2", False, False, False),
        (f"due-until:{NOW_S + 1}:e2", False, True, False),
        (f"due-perhaps:{NOW_S + 1}:e2", False, False, True),
        (f"due-perhaps:{NOW_S}:e2", False, False, False),
        ("sending:e2", True, False, False),
        (f"sending-until:{END_S}:e2", True, False, False),
        (f"sending-until:{END_S}:e1", False, False, False),
        (f"sent-until:{END_S}:e1", False, True, False),
        (f"sent-perhaps:{END_S}:e1", False, False, True),
        ("sent:e1", False, False, False),
        (f"sent-until:{END_S}:e2", False, True, False),
        (f"sent-perhaps:{END_S}:e2", True, False, False),
    ],
)
def test_what_a_mark_says_of_mails_and_links(
    mark: str | None, begun: bool, stands: bool, may_stand: bool
) -> None:
    """Whether this event's mail may be out, and whether an earlier link is, or may be, valid."""
    found = mark_of(a_user(mark))

    assert (begun, stands, may_stand) == (
        found is not None and found.has_begun("e2"),
        earlier_link(found, "e2", NOW) is Link.VALID,
        earlier_link(found, "e2", NOW) is Link.PERHAPS,
    )


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (None, f"sending-until:{END_S + 60}:e2"),
        ("due:e2", f"sending-until:{END_S + 60}:e2"),
        ("sent:e1", f"sending-until:{END_S + 60}:e2"),
        (f"due-until:{END_S + 90}:e2", f"sending-until:{END_S + 90}:e2"),
        (f"sending-until:{END_S + 30}:e2", None),
        (f"sending-until:{END_S + 29}:e2", f"sending-until:{END_S + 60}:e2"),
        ("sending:e2", f"sending-until:{END_S + 60}:e2"),
        (f"sent-perhaps:{END_S + 29}:e2", f"sending-until:{END_S + 60}:e2"),
    ],
)
def test_the_mark_before_the_mail(mark: str | None, expected: str | None) -> None:
    """It has the latest end that the link can have, and is written once for quick attempts.

    Where Keycloak will record the mail, it says that the mail was sent, perhaps.
    """
    found = mark_of(a_user(mark))
    written = announced(INVITATION, found, NOW, recorded=False)
    last = announced(INVITATION, found, NOW, recorded=True)

    assert expected == (None if written is None else format_mark(written))
    perhaps = None if expected is None else expected.replace("sending-until", "sent-perhaps")
    assert perhaps == (None if last is None else format_mark(last))


def test_a_last_mark_is_no_last_one_where_the_mail_is_not_recorded_any_more() -> None:
    """Another must follow the mail, since nobody could look it up."""
    found = mark_of(a_user(f"sent-perhaps:{END_S + 30}:e2"))
    written = announced(INVITATION, found, NOW, recorded=False)

    assert written is not None
    assert f"sending-until:{END_S + 60}:e2" == format_mark(written)
    assert announced(INVITATION, found, NOW, recorded=True) is None


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (f"sent-perhaps:{END_S}:e2", "due:e2"),
        (f"sending-until:{END_S}:e2", "due:e2"),
        ("sent:e2", None),
        (f"due-perhaps:{END_S}:e3", None),
        (None, None),
    ],
)
def test_the_mark_after_a_refusal(mark: str | None, expected: str | None) -> None:
    """The mail is due as before, unless somebody else has written the mark meanwhile."""
    written = taken_back(INVITATION, mark_of(a_user(mark)), parse_mark("due:e2"))

    assert expected == (None if written is None else format_mark(written))


@pytest.mark.parametrize(
    ("mark", "settlement", "expected"),
    [
        (f"sending-until:{END_S + 60}:e2", Settlement.MAILED, f"sent-until:{END_S}:e2"),
        (f"sending-until:{END_S + 61}:e2", Settlement.MAILED, f"sent-until:{END_S + 61}:e2"),
        (f"sending-until:{END_S - 5}:e2", Settlement.RECORDED, f"sent-until:{END_S - 5}:e2"),
        ("sending:e2", Settlement.RECORDED, f"sent-until:{END_S}:e2"),
        (f"sending-until:{END_S}:e2", Settlement.UNKNOWN, f"sent-perhaps:{END_S}:e2"),
        (f"due-until:{NOW_S + 7}:e2", Settlement.KEPT, f"sent-until:{NOW_S + 7}:e2"),
        (f"due-perhaps:{NOW_S + 7}:e2", Settlement.KEPT, f"sent-until:{NOW_S + 7}:e2"),
        (f"due-until:{NOW_S + 7}:e2", Settlement.RECORDED, f"sent-until:{END_S}:e2"),
        (None, Settlement.MAILED, f"sent-until:{END_S}:e2"),
        ("sent:e1", Settlement.MAILED, f"sent-until:{END_S}:e2"),
        (f"sent-until:{END_S + 9}:e1", Settlement.MAILED, f"sent-until:{END_S + 9}:e2"),
        ("sent:e1", Settlement.RECORDED, None),
        (f"sent-until:{END_S}:e1", Settlement.KEPT, None),
        ("due:e3", Settlement.MAILED, None),
        ("due:e3", Settlement.UNKNOWN, None),
        (f"sent-perhaps:{END_S}:e2", Settlement.MAILED, None),
        (f"sent-perhaps:{END_S}:e2", Settlement.RECORDED, None),
        (f"sent-perhaps:{END_S}:e2", Settlement.REFUSED, "due:e2"),
    ],
)
def test_the_mark_after_the_mail(
    mark: str | None, settlement: Settlement, expected: str | None
) -> None:
    """It says when the user's last link ends; another event's work is left to that event."""
    written = settled(INVITATION, mark_of(a_user(mark)), NOW, settlement)

    assert expected == (None if written is None else format_mark(written))


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ("sent:e1", "due:e2"),
        ("sent-until:5:e1", "due-until:5:e2"),
        ("sending-until:5:e1", "due-perhaps:5:e2"),
        ("due-perhaps:5:e1", "due-perhaps:5:e2"),
        ("due-until:5:e1", "due-until:5:e2"),
        ("due:e1", "due:e2"),
    ],
)
def test_a_mail_that_is_due_again_knows_of_the_earlier_link(earlier: str, expected: str) -> None:
    """A link that may be valid is not forgotten, nor taken for certain."""
    assert expected == format_mark(due_after(parse_mark(earlier), "e2"))


@pytest.mark.parametrize(
    ("purpose", "confirm_only", "mark", "expected"),
    [
        (Purpose.INVITE, False, "sending:e2", CREATED),
        (Purpose.INVITE, False, f"sending-until:{END_S}:e2", CREATED),
        (Purpose.RESEND, False, "sending:e2", ASKED),
        (Purpose.VERIFY_EMAIL, False, "due:e2", ASKED),
        (Purpose.RESEND, False, f"sending-until:{END_S + 60}:e2", ASKED),
        (
            Purpose.RESEND,
            False,
            f"sending-until:{END_S - 7200}:e2",
            NOW - timedelta(seconds=7260),
        ),
        (Purpose.RESEND, False, f"due-perhaps:{END_S - 3000}:e2", NOW - timedelta(seconds=3060)),
        (Purpose.RESEND, False, f"due-until:{END_S - 3000}:e2", ASKED),
        (Purpose.INVITE, True, f"sending-until:{END_S}:e2", NOW - timedelta(seconds=60)),
        (Purpose.RESEND, True, "sending:e2", CREATED),
        (Purpose.INVITE, True, "due:e2", ASKED),
        (Purpose.INVITE, True, f"due-perhaps:{END_S}:e2", ASKED),
        (Purpose.INVITE, False, f"sent-perhaps:{END_S}:e2", CREATED),
        (Purpose.RESEND, False, f"sent-perhaps:{END_S - 7200}:e2", NOW - timedelta(seconds=7260)),
    ],
)
def test_since_when_a_mail_counts(
    purpose: Purpose, confirm_only: bool, mark: str, expected: datetime
) -> None:
    """Any mail is a first invitation; a later one must not be taken for one that was sent before it was asked for."""
    invitation = replace(INVITATION, purpose=purpose, confirm_only=confirm_only)
    user = a_user(mark)

    assert expected == counts_since(invitation, user, mark_of(user))
