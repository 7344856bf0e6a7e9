"""Each of the invited ends as activated or as expired, and user management hears it once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from activation_harness import AHEAD_S, GRACE_S, GROUP, LIFESPAN_S, Watch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stage_harness import INVITATIONS, interpretation

from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import RESULT, Message, TopicPartition

INTERVAL_S = 10
AT = TopicPartition(INVITATIONS, 0)


def errors(event: dict[str, Any]) -> Any:
    """Return what of the result breaks its schema."""
    return interpretation().catalog.violations(RESULT, event["data"], event["dataschema"])


def test_a_password_is_published_with_its_time() -> None:
    watch = Watch()
    keycloak_id = watch.invite()
    watch.turn()
    watch.clock.advance(4000)
    watch.activate()
    watch.after(INTERVAL_S)
    watch.after(INTERVAL_S)

    (event,) = watch.results()

    assert event["time"] == "2026-11-01T13:06:40.000000Z"
    assert event["id"] == f"{keycloak_id}/2026-11-01T13:06:40.000000Z/activated"
    assert event["data"] == {
        "outcome": "activated",
        "eventId": "event-1",
        "userId": "u-1",
        "keycloakId": keycloak_id,
    }
    assert errors(event) == ()
    assert watch.members[0].ledger.open() == 0


def test_a_link_that_ends_unused_is_published_when_nobody_can_be_half_way() -> None:
    watch = Watch()
    watch.invite()
    watch.after(LIFESPAN_S)
    assert watch.outcomes() == []

    watch.after(AHEAD_S + GRACE_S)
    watch.after(INTERVAL_S)

    (event,) = watch.results()
    assert event["time"] == "2026-11-04T12:00:00.000000Z"
    assert event["data"]["outcome"] == "invitation-expired"
    assert errors(event) == ()


@pytest.mark.parametrize("seconds", [-150, 150])
def test_clocks_may_differ(seconds: int) -> None:
    """Or an event appear late, with the time at which its transaction began."""
    watch = Watch()
    watch.keycloak.now = lambda: watch.clock.now() + timedelta(seconds=seconds)
    watch.invite()
    watch.clock.advance(1000)
    watch.turn()
    watch.activate()
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]


def test_who_waits_costs_no_call() -> None:
    """With events, Keycloak is asked once for everybody."""
    watch = Watch()
    for number in range(50):
        watch.invite(f"u-{number}")
    watch.turn()
    watch.keycloak.calls.clear()
    for _ in range(10):
        watch.after(INTERVAL_S)

    assert set(watch.keycloak.calls) == {"changes_since"}
    assert len(watch.keycloak.calls) == 10


def test_an_activation_costs_two_calls() -> None:
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.keycloak.calls.clear()
    watch.activate()
    watch.after(INTERVAL_S)

    assert watch.keycloak.calls == ["changes_since", "activated_at", "get"]


@pytest.mark.parametrize("switch", ["user_events", "view_events"])
def test_without_events_everybody_is_looked_at_in_turn(switch: str) -> None:
    watch = Watch(pace_per_s=0.5)
    setattr(watch.keycloak, switch, False)
    for number in range(20):
        watch.invite(f"u-{number}")
    watch.turn()
    for number in (3, 17):
        watch.activate(f"u-{number}")
    watch.keycloak.calls.clear()
    watch.after(INTERVAL_S)
    assert watch.keycloak.calls.count("activated_at") == 5

    for _ in range(5):
        watch.after(INTERVAL_S)

    assert sorted(watch.outcomes()) == [("u-17", "activated"), ("u-3", "activated")]


def test_events_that_expired_during_an_absence_are_made_up_for() -> None:
    watch = Watch()
    watch.invite("u-1")
    watch.invite("u-2")
    watch.turn()
    watch.after(INTERVAL_S)
    watch.kill(watch.members[0])
    watch.activate("u-1")
    watch.clock.advance(100_000)
    watch.keycloak.events_kept_since = watch.clock.now() - timedelta(hours=1)
    watch.join()
    watch.turn()
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]
    watch.keycloak.calls.clear()
    watch.after(INTERVAL_S)
    assert watch.keycloak.calls == ["changes_since"], "and events do from then on"


def test_nobody_is_forgotten_who_set_a_password_while_events_were_off() -> None:
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.keycloak.user_events = False
    watch.activate()
    watch.keycloak.user_events = True
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)

    assert watch.outcomes() == [("u-1", "activated")]


def test_a_restart_repeats_nothing_that_was_published() -> None:
    watch = Watch()
    for number in range(30):
        watch.invite(f"u-{number}")
    watch.turn()
    for number in range(1, 30, 3):
        watch.activate(f"u-{number}")
    watch.after(INTERVAL_S)
    watch.after(INTERVAL_S)
    said = watch.outcomes()
    watch.kill(watch.members[0])
    watch.join()
    for _ in range(3):
        watch.after(INTERVAL_S)

    assert watch.members[0].ledger.open() == 20
    assert watch.outcomes() == said
    assert watch.broker.offsets(GROUP) == {AT: 0}


def test_what_was_published_again_has_the_same_id() -> None:
    """After a kill between the result and the commit."""
    watch = Watch()
    watch.invite("u-1")
    watch.invite("u-2")
    watch.turn()
    watch.activate("u-1")
    watch.clock.advance(INTERVAL_S)
    watch.members[0].source.commit_errors += [BrokerUnavailableError("no")] * 3
    with pytest.raises(BrokerUnavailableError):
        watch.turn()
    watch.kill(watch.members[0])
    watch.join()
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")] * 2
    assert len({one["id"] for one in watch.results()}) == 1


def test_a_result_that_kafka_refused_is_published_again() -> None:
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.activate()
    watch.broker.publish_errors.append(BrokerUnavailableError("no"))
    watch.after(INTERVAL_S)
    assert watch.outcomes() == []

    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_result_on_its_way_is_not_published_again(rounds: int) -> None:
    """However many rounds begin before Kafka answers, and with the one in which the answer is noticed."""
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.producer.is_late = True
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)
    for _ in range(rounds):
        watch.after(INTERVAL_S)
    watch.clock.advance(INTERVAL_S)
    watch.producer.answer()
    watch.turn()

    assert len(watch.results()) == 1
    assert watch.members[0].ledger.open() == 0


@pytest.mark.parametrize("method", ["changes_since", "activated_at", "get"])
def test_an_outage_of_keycloak_is_waited_for(method: str) -> None:
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.activate()
    watch.keycloak.fail(method, KeycloakUnavailableError("down", code="x"), times=3)
    for _ in range(6):
        watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]


def test_a_restart_within_an_outage_loses_nobody() -> None:
    """Until everybody was looked at, a commit does not say that the events are dealt with."""
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.activate()
    watch.keycloak.fail("activated_at", KeycloakUnavailableError("down", code="x"), times=3)
    for _ in range(3):
        watch.after(400)
    watch.kill(watch.members[0])
    watch.join()
    watch.keycloak.recover()
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]


def test_a_restart_before_everybody_had_its_turn_begins_again() -> None:
    watch = Watch(pace_per_s=0.1)
    people = [f"u-{number}" for number in range(6)]
    for user_id in people:
        watch.invite(user_id)
    watch.turn()
    watch.after(INTERVAL_S)
    watch.kill(watch.members[0])
    watch.activate("u-5")
    watch.clock.advance(50_000)
    watch.keycloak.events_kept_since = watch.clock.now() - timedelta(hours=1)
    watch.join()
    watch.turn()
    watch.after(INTERVAL_S)
    watch.kill(watch.members[0])
    watch.join()
    for _ in people:
        watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-5", "activated")]


def test_an_event_that_is_seen_before_the_record_counts() -> None:
    watch = Watch()
    watch.invite("u-1")
    watch.turn()
    watch.clock.advance(INTERVAL_S)
    watch.invite("u-2")
    watch.activate("u-2")
    ledger = watch.members[0].ledger
    ledger.work(frozenset(), watch.clock.monotonic() + 1, lambda: True)
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-2", "activated")]


def test_who_was_to_be_looked_at_is_found_again_after_a_rebalance() -> None:
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.activate()
    watch.keycloak.fail("activated_at", KeycloakUnavailableError("down", code="x"))
    watch.after(INTERVAL_S)
    watch.members[0].ledger.release(frozenset())
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-1", "activated")]


def test_a_mail_that_went_out_later_has_its_own_end() -> None:
    watch = Watch()
    end_s = int(watch.clock.now().timestamp()) + LIFESPAN_S + 1000
    watch.invite(mark=f"sent-until:{end_s}:" + "{}")
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)
    watch.after(1000 - AHEAD_S - GRACE_S + 5)
    assert watch.outcomes() == []

    watch.after(GRACE_S)

    assert watch.outcomes() == [("u-1", "invitation-expired")]


def test_a_user_for_whom_keycloak_fails_does_not_hold_up_the_others() -> None:
    watch = Watch()
    watch.invite("u-1")
    watch.invite("u-2")
    watch.turn()
    watch.activate("u-1")
    watch.activate("u-2")
    failure = KeycloakUnavailableError("broken", code="x")
    watch.keycloak.fail("get", failure, times=4)
    for _ in range(8):
        watch.after(INTERVAL_S)

    assert sorted(watch.outcomes()) == [("u-1", "activated"), ("u-2", "activated")]


def test_who_had_a_password_before_is_not_activated() -> None:
    """Such as a user who must verify a changed address, or who is invited again by mistake."""
    watch = Watch()
    watch.invite()
    watch.turn()
    watch.activate()
    watch.after(INTERVAL_S)
    watch.clock.advance(1000)
    watch.invite(event="event-2")
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)

    assert watch.outcomes() == [("u-1", "activated")]
    assert watch.members[0].ledger.open() == 0


def test_a_mail_that_is_late_is_waited_for() -> None:
    watch = Watch()
    watch.mails_done = False
    watch.invite(mark="due:{}")
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)
    assert watch.members[0].ledger.open() == 1

    watch.mails_done = True
    watch.after(3600)

    assert watch.outcomes() == []
    assert watch.members[0].ledger.open() == 0, "no mail went out, and its result says why"


def test_a_later_link_counts() -> None:
    watch = Watch()
    watch.invite()
    watch.after(1000)
    watch.invite(event="event-2")
    watch.after(LIFESPAN_S - 1000 + AHEAD_S + GRACE_S)
    assert watch.outcomes() == []

    watch.after(1000)

    ((user, outcome),) = watch.outcomes()
    assert (user, outcome) == ("u-1", "invitation-expired")
    assert watch.results()[0]["data"]["eventId"] == "event-2"


@pytest.mark.parametrize("mark", ["", "sent:{}", "what is that"])
def test_a_mark_without_an_end_ends_nothing(mark: str) -> None:
    watch = Watch()
    watch.invite(mark=mark)
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)

    assert watch.outcomes() == []
    assert watch.members[0].ledger.open() == 0


@pytest.mark.parametrize("year", [1, 1900, 1970, 9999])
@pytest.mark.parametrize("end_s", [1, 10**15 - 1])
def test_whatever_times_a_record_and_a_mark_have(year: int, end_s: int) -> None:
    """Anybody may write a record; the others are watched all the same."""
    watch = Watch()
    mark = f"sent-until:{end_s}:" + "{}"
    watch.invite("u-1", mark=mark, at=datetime(year, 1, 1, tzinfo=UTC))
    watch.invite("u-2")
    watch.turn()
    watch.activate("u-2")
    for _ in range(3):
        watch.after(INTERVAL_S)

    assert ("u-2", "activated") in watch.outcomes()


def test_a_deleted_user_is_not_watched() -> None:
    watch = Watch()
    watch.keycloak.delete_user(watch.invite())
    watch.after(LIFESPAN_S + AHEAD_S + GRACE_S)

    assert watch.outcomes() == []
    assert watch.members[0].ledger.open() == 0


def test_what_is_no_invitation_is_passed_over() -> None:
    watch = Watch()
    watch.broker.publish(_message(b"u-1", b"{"))
    watch.broker.publish(_message(None, None))
    watch.after(INTERVAL_S)

    assert watch.members[0].ledger.open() == 0
    assert watch.broker.offsets(GROUP) == {AT: 2}


def _message(key: bytes | None, value: bytes | None) -> Any:
    return Message(INVITATIONS, key, value)


def test_a_recreated_topic_starts_over() -> None:
    watch = Watch()
    watch.broker.topic_ids[INVITATIONS] = "one"
    watch.invite("u-1")
    watch.after(INTERVAL_S)
    watch.broker.recreate_topic(INVITATIONS, "two")
    watch.invite("u-2")
    watch.after(INTERVAL_S)
    watch.activate("u-2")
    watch.after(INTERVAL_S)

    assert watch.outcomes() == [("u-2", "activated")]


def test_many_people_end_in_one_state_each() -> None:
    """2,000 are invited, a third sets a password, a third lets the link end; members are killed twice, with results on their way."""
    watch = Watch(partitions=4)
    watch.join()
    people = [f"u-{number}" for number in range(2000)]
    for user_id in people[:1400]:
        watch.invite(user_id)
    watch.turn()
    for hour, user_id in enumerate(people[0:2000:3]):
        if hour * 3 < 1400:
            watch.activate(user_id)
        if hour in (100, 300):
            watch.producer.is_late = True
            watch.after(INTERVAL_S)
            watch.kill(watch.members[0])
            watch.producer.is_late = False
            watch.join()
        if hour % 50 == 0:
            watch.after(INTERVAL_S)
    watch.clock.advance(LIFESPAN_S - 3600)
    for user_id in people[1400:]:
        watch.invite(user_id)
    watch.after(3600 + AHEAD_S + GRACE_S)
    for _ in range(3):
        watch.after(INTERVAL_S)

    ends = watch.ends()
    activated = {user for user, found in ends.items() if {one for _, one in found} == {"activated"}}
    assert all(len(found) == 1 for found in ends.values())
    assert activated == set(people[0:1400:3])
    assert ends.keys() - activated == set(people[:1400]) - activated
    assert sum(member.ledger.open() for member in watch.members) == 600


class Life(RuleBasedStateMachine):
    """People are invited and set passwords, members come, go and are killed, events are lost, services fail."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch(partitions=3)
        self.people: list[str] = []
        self.active: set[str] = set()
        self.link_end_s: dict[str, float] = {}

    @rule()
    def invite(self) -> None:
        user_id = f"user-{len(self.people)}"
        self.people.append(user_id)
        self.watch.invite(user_id)
        self.link_end_s[user_id] = self.watch.clock.monotonic() + LIFESPAN_S

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def set_password(self, data: st.DataObject) -> None:
        user_id = data.draw(st.sampled_from(self.people))
        in_time = self.watch.clock.monotonic() < self.link_end_s[user_id] + GRACE_S
        if user_id not in self.active and in_time:
            self.active.add(user_id)
            self.watch.activate(user_id)

    @rule(seconds=st.sampled_from([1, 11, 600, 90_000, LIFESPAN_S]))
    def time_passes(self, seconds: int) -> None:
        self.watch.clock.advance(seconds)

    @rule()
    def work(self) -> None:
        self._turn()

    @rule()
    def join(self) -> None:
        if len(self.watch.members) < 3:
            self.watch.join()

    @precondition(lambda self: self.watch.members)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.watch.kill(data.draw(st.sampled_from(self.watch.members)))

    @precondition(lambda self: self.watch.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.watch.members))
        self.watch.members.remove(member)
        member.source.close()

    @precondition(lambda self: len(self.watch.members) > 1)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """Give a partition to another member, which its owner learns too late to commit."""
        loser, winner = data.draw(st.permutations(self.watch.members))[:2]
        partition = data.draw(st.sampled_from(self.watch.broker.partitions_of(INVITATIONS)))
        loser.source.revoke(partition, lost=True)
        winner.source.assign(partition)

    @rule(on=st.booleans())
    def delay_answers(self, on: bool) -> None:
        self.watch.producer.is_late = on

    @rule()
    def answer(self) -> None:
        self.watch.producer.answer()

    @rule(on=st.booleans())
    def switch_events(self, on: bool) -> None:
        self.watch.keycloak.user_events = on

    @rule()
    def events_expire(self) -> None:
        self.watch.keycloak.events_kept_since = self.watch.clock.now() - timedelta(minutes=5)

    @rule(method=st.sampled_from(["changes_since", "activated_at", "get"]))
    def fail(self, method: str) -> None:
        self.watch.keycloak.fail(method, KeycloakUnavailableError("down", code="x"))

    @rule()
    def fail_to_publish(self) -> None:
        self.watch.broker.publish_errors.append(BrokerUnavailableError("no"))

    def _turn(self) -> None:
        self.watch.clock.advance(INTERVAL_S)
        self.watch.turn()

    @invariant()
    def nobody_is_wrong(self) -> None:
        for user_id, ends in self.watch.ends().items():
            assert len(ends) == 1, ends
            ((_, outcome),) = ends
            assert (outcome == "activated") == (user_id in self.active)

    def teardown(self) -> None:
        self.watch.broker.publish_errors.clear()
        self.watch.keycloak.recover()
        self.watch.producer.is_late = False
        self.watch.producer.answer()
        if not self.watch.members:
            self.watch.join()
        self.watch.clock.advance(LIFESPAN_S + AHEAD_S + GRACE_S)
        for _ in range(12):
            self._turn()
        for _ in range(3):
            self.watch.clock.advance(3600)
            self._turn()
        self.nobody_is_wrong()
        assert self.watch.ends().keys() == set(self.people)


Life.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
