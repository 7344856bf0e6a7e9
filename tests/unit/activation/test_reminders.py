"""Mails that follow a link which ended unused: in time, a few, never beside a living link, and none is lost."""

import pytest
from activation_harness import AHEAD_S, GRACE_S, LIFESPAN_S, Watch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keycloak_bridge.activation.reminders import (
    MOST_RESENDS,
    FollowingMail,
    MailKind,
    Reminders,
    mail_of,
)
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    ConfigError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import event_id_in, event_identity
from keycloak_bridge.settings.loading import read_settings

DAY_S = 86_400
OVER_S = AHEAD_S + GRACE_S + 10


def invited(reminders: Reminders, **options: float) -> Watch:
    """Return a user who got the first mail just now."""
    watch = Watch(reminders=reminders, **options)  # type: ignore[arg-type]
    watch.invite(mark="due:{}")
    watch.post()
    watch.turn()
    return watch


def pass_time(watch: Watch, seconds: float) -> None:
    """Let time pass, and both stages do what is due; never are two links alive."""
    watch.after(seconds)
    watch.post()
    watch.turn()
    assert watch.living_links() <= 1


def test_nothing_follows_unless_it_is_asked_for() -> None:
    watch = invited(Reminders())
    pass_time(watch, LIFESPAN_S + OVER_S)
    pass_time(watch, LIFESPAN_S)

    assert watch.outcomes() == [("u-1", "invitation-expired")]
    assert len(watch.keycloak.mails) == 1


def test_an_expired_invitation_is_mailed_again_a_few_times() -> None:
    watch = invited(Reminders(resend_expired=2))
    for _ in range(4):
        pass_time(watch, LIFESPAN_S + OVER_S)
        pass_time(watch, 10)

    assert watch.outcomes() == [("u-1", "invitation-expired")] * 3
    assert len({one["id"] for one in watch.results()}) == 3
    assert {one["data"]["eventId"] for one in watch.results()} == {"event-1"}
    assert [mail.terms.lifespan_s for mail in watch.keycloak.mails] == [LIFESPAN_S] * 3
    assert watch.members[0].ledger.open() == 0


def test_the_next_invitation_stays_open() -> None:
    """Though its record is read before the one that ended is closed."""
    watch = invited(Reminders(resend_expired=1))
    watch.producer.is_late = True
    watch.after(LIFESPAN_S + OVER_S)
    for _ in range(2):
        watch.producer.answer()
        watch.turn()

    assert watch.outcomes() == [("u-1", "invitation-expired")]
    assert watch.members[0].ledger.open() == 1


def test_a_reminder_parts_the_lifespan() -> None:
    watch = invited(Reminders(remind_before_s=DAY_S))
    pass_time(watch, LIFESPAN_S - DAY_S + OVER_S)

    assert watch.outcomes() == [], "the invitation goes on"
    assert [mail.terms.lifespan_s for mail in watch.keycloak.mails] == [2 * DAY_S, DAY_S]

    pass_time(watch, DAY_S + OVER_S)
    pass_time(watch, DAY_S + OVER_S)

    assert watch.outcomes() == [("u-1", "invitation-expired")]
    assert len(watch.keycloak.mails) == 2


def test_both_together() -> None:
    watch = invited(Reminders(remind_before_s=DAY_S, resend_expired=1))
    for _ in range(12):
        pass_time(watch, DAY_S)

    lifespans = [mail.terms.lifespan_s for mail in watch.keycloak.mails]
    assert lifespans == [2 * DAY_S, DAY_S, 2 * DAY_S, DAY_S]
    assert watch.outcomes() == [("u-1", "invitation-expired")] * 2


def test_who_sets_a_password_by_the_reminder_is_activated() -> None:
    watch = invited(Reminders(remind_before_s=DAY_S, resend_expired=3))
    pass_time(watch, LIFESPAN_S - DAY_S + OVER_S)
    watch.activate()
    for _ in range(5):
        pass_time(watch, DAY_S)

    assert watch.outcomes() == [("u-1", "activated")]
    assert len(watch.keycloak.mails) == 2


def test_no_mail_follows_to_who_cannot_be_mailed() -> None:
    watch = invited(Reminders(remind_before_s=DAY_S, resend_expired=1))
    user = watch.keycloak.get(watch.ids["u-1"])
    assert user is not None
    watch.keycloak.update(watch.ids["u-1"], {**user, "enabled": False})
    pass_time(watch, LIFESPAN_S)

    assert watch.outcomes() == [("u-1", "invitation-expired")]
    assert len(watch.keycloak.mails) == 1


def test_a_user_who_cannot_be_marked_expires() -> None:
    watch = invited(Reminders(remind_before_s=DAY_S, resend_expired=1))
    watch.keycloak.fail("update", KeycloakRejectedError("read-only", code="x"), times=9)
    pass_time(watch, LIFESPAN_S)

    assert watch.outcomes() == [("u-1", "invitation-expired")]
    assert len(watch.keycloak.mails) == 1


def test_no_mail_follows_an_old_invitation() -> None:
    """Counted from the first one."""
    watch = invited(Reminders(resend_expired=9), max_age_s=2 * LIFESPAN_S)
    for _ in range(5):
        pass_time(watch, LIFESPAN_S + OVER_S)

    assert len(watch.keycloak.mails) == 2
    assert [outcome for _, outcome in watch.outcomes()] == ["invitation-expired"] * 2


def test_a_newer_invitation_starts_over() -> None:
    watch = invited(Reminders(resend_expired=1))
    pass_time(watch, LIFESPAN_S + OVER_S)
    pass_time(watch, LIFESPAN_S + OVER_S)
    watch.invite(mark="due:{}", event="event-2")
    watch.post()
    for _ in range(3):
        pass_time(watch, LIFESPAN_S + OVER_S)

    assert len(watch.keycloak.mails) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["none", "get", "update", "publish", "kill", "rebalance"]),
            st.sampled_from([10, 400, DAY_S // 2, DAY_S]),
        ),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_fails_every_mail_goes_out_once(troubles: list[tuple[str, int]]) -> None:
    """Members are killed, Keycloak and Kafka fail; in the end the same mails and results are there."""
    watch = invited(Reminders(remind_before_s=DAY_S, resend_expired=1))
    for trouble, seconds in troubles:
        if trouble in ("get", "update"):
            watch.keycloak.fail(trouble, KeycloakUnavailableError("down", code="x"))
        elif trouble == "publish":
            watch.broker.publish_errors.append(BrokerUnavailableError("no"))
        elif trouble == "kill":
            watch.kill(watch.members[0])
            watch.join()
        elif trouble == "rebalance" and len(watch.members) < 3:
            watch.join()
        watch.after(seconds)
        watch.keycloak.recover()
        watch.post()
    watch.broker.publish_errors.clear()
    for _ in range(14):
        pass_time(watch, DAY_S)
        pass_time(watch, 3600)

    lifespans = [mail.terms.lifespan_s for mail in watch.keycloak.mails]
    assert lifespans == [2 * DAY_S, DAY_S, 2 * DAY_S, DAY_S]
    assert {outcome for _, outcome in watch.outcomes()} == {"invitation-expired"}
    assert len({one["id"] for one in watch.results()}) == 2


@given(st.text(max_size=300), st.sampled_from(MailKind), st.integers(0, MOST_RESENDS))
def test_a_mail_is_known_by_its_event(event_id: str, kind: MailKind, number: int) -> None:
    """By every member, whatever the first event's id is, and as a mail that follows any other of the same invitation."""
    first = event_identity(event_id, "/um", "user.created", "u-1")
    mail = FollowingMail(kind, number)
    identity = mail.identity(first, "u-1")

    assert mail_of(first, "u-1") is None
    assert mail_of(identity, "u-1") == mail
    assert mail_of(identity, "u-2") is None
    other = FollowingMail(MailKind.RESEND, 7)
    assert mail_of(other.identity(identity, "u-1"), "u-1") == other
    assert event_id_in(other.identity(identity, "u-1")) == event_id_in(identity)


def test_a_reminder_needs_a_link_before_it() -> None:
    read = read_settings(
        None, environ={}, overrides=("invite.remind_before=3 days", "invite.lifespan=3 days")
    )

    with pytest.raises(ConfigError, match="remind_before"):
        Interpretation(read.settings).check()
