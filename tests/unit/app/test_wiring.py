"""The stages are built from the settings: what each has for itself, and what they share."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from bridge_harness import wait_until
from samples import OWN_USERS, a_due_user, an_invitation
from stage_harness import (
    DEAD_LETTERS,
    EVENTS,
    INVITATIONS,
    RESULTS,
    BrokerArchive,
    counted,
    event_of,
    interpretation,
    record_of,
    settled,
)

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.stages import Stage
from keycloak_bridge.app.wiring import StageBuilder, inviter, provision_policy, topic_output
from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.catch_up import CatchUp
from keycloak_bridge.delivery.consumer_loop import ConsumerOptions
from keycloak_bridge.delivery.delivery import DeliveryPolicy
from keycloak_bridge.domain.errors import HoldError, PartitionRevokedError
from keycloak_bridge.domain.events import Record, TopicPartition
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.keycloak.partial_import import RealmAccess
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.provisioning.provisioner import ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.settings.model import (
    BrakeSettings,
    BurstSettings,
    DeliverySettings,
    EventsSettings,
    InviteSettings,
    KafkaSettings,
    LifecycleSettings,
    LimitsSettings,
    RetrySettings,
    Settings,
    VerifySettings,
)
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter, InMemoryKeycloak
from keycloak_bridge.threads.named_locks import UserLocks

WRITES = {"create", "update", "join_group", "grant_realm_roles", "execute_actions_email"}
HERE = TopicPartition(EVENTS, 3)


class Assembled:
    """The stages of some settings over a Kafka and a Keycloak in memory."""

    def __init__(
        self, *, caught_up: bool = True, realm: RealmAccess | None = None, **sections: Any
    ) -> None:
        self.settings = replace(Settings(), **sections)
        self.broker = InMemoryBroker()
        self.letters = InMemoryBroker()
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.archive = BrokerArchive(self.letters)
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.locks = NotedLocks()
        self.stages: Sequence[Stage] = StageBuilder(
            self.settings,
            Interpretation(self.settings) if "events" in sections else interpretation(),
            self.keycloak,
            topic_output(self.settings, self.broker, self.letters, self.archive, self.clock),
            self.clock,
            self.metrics,
            self.locks,
            realm=realm,
        ).stages()
        if caught_up and self.catch_up is not None:
            self.catch_up.finish()

    @property
    def provision(self) -> Stage:
        """The stage that writes users."""
        return self.stages[0]

    @property
    def invite(self) -> Stage:
        """The stage that mails."""
        return self.stages[1]

    @property
    def catch_up(self) -> CatchUp | None:
        """What the mails wait for at first."""
        return self.provision.options.catch_up

    def writes(self) -> list[str]:
        """Return the calls to Keycloak that write."""
        return [call for call in self.keycloak.calls if call in WRITES]

    def an_invitation(self) -> Record:
        """Return the record of a new user's invitation."""
        self.handle(self.provision, record_of(event_of()))
        return self.broker.records(INVITATIONS)[-1]

    def handle(self, stage: Stage, record: Record) -> Handled:
        """Have the stage handle a record to its acknowledgements."""
        handled = stage.handler.handle(record).result()
        for acknowledgement in handled.acknowledgements:
            settled(acknowledgement)
        return handled

    def lose(self) -> None:
        """Let the first event of the user u-1 become a dead letter."""
        self.handle(self.provision, record_of(event_of(data={"email": ...}), offset=1))


class NotedLocks(UserLocks):
    """Locks that note whose they were."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []

    def of(self, user_id: str) -> Any:
        self.taken.append(user_id)
        return super().of(user_id)


BAD = event_of("u-9", data={"email": ...})


# which stages, and how they run


def test_a_stage_runs_as_the_settings_say() -> None:
    """Workers of its own, and four more that prepare mails; all else is the same for both. Giving up a partition takes a third of the session."""
    built = Assembled(
        kafka=KafkaSettings(session_timeout=9.0, lost_records="brake"),
        retry=RetrySettings(initial=0.3, max=7.0),
        delivery=DeliverySettings(
            workers=5, max_records=40, max_bytes=2048, max_attempts=3, drain=11.0, stuck_after=77.0
        ),
        invite=InviteSettings(workers=2),
    )

    delivery = DeliveryPolicy(RetryPolicy(0.3, 7.0), 40, 2048, 3, 3.0)
    assert [
        ConsumerOptions(
            delivery,
            workers,
            session_s=9.0,
            drain_s=11.0,
            stuck_after_s=77.0,
            brake_on_loss=True,
            catch_up=catch_up,
        )
        for workers, catch_up in ((5, built.catch_up), (2 + 4, None))
    ] == [stage.options for stage in built.stages]


def test_mails_wait_until_the_provision_stage_has_caught_up() -> None:
    """At the start nobody knows which of the users are deleted further on."""
    built = Assembled(caught_up=False)
    record = built.an_invitation()

    with pytest.raises(HoldError) as held:
        built.handle(built.invite, record)
    assert built.catch_up is not None
    built.catch_up.finish()
    built.handle(built.invite, record)

    assert ("catching-up", 1) == (held.value.code, len(built.keycloak.mails))


# what guards them


@pytest.mark.parametrize(
    ("answers", "roles", "writes"), [([False], [], []), ([True, False], ["viewer"], ["create"])]
)
def test_the_provision_stage_asks_its_fence_before_every_write(
    answers: list[bool], roles: list[str], writes: list[str]
) -> None:
    """A record that may be another member's by now is only read; the fence may close between two writes."""
    built = Assembled()
    question = iter(answers)

    with (
        built.provision.context.fence.around(lambda: next(question)),
        pytest.raises(PartitionRevokedError),
    ):
        built.provision.handler.handle(record_of(event_of(data={"roles": roles}))).result()

    assert (writes, []) == (built.writes(), built.broker.records(RESULTS))


def test_a_fence_guards_its_own_stage_only() -> None:
    """A rebalance of the events keeps no mail from going out, and the other way round; without its own, no mark either."""
    built = Assembled()

    with built.invite.context.fence.around(lambda: False):
        record = built.an_invitation()
        before = built.writes()
        with pytest.raises(PartitionRevokedError):
            built.invite.handler.handle(record)
    assert before == built.writes()
    with built.provision.context.fence.around(lambda: False):
        built.handle(built.invite, record)

    assert 1 == len(built.keycloak.mails)


def test_each_stage_has_a_brake_of_its_own() -> None:
    """With the limits of the settings; one that is engaged does not hold the other."""
    built = Assembled(brake=BrakeSettings(in_a_row=2, share=0))
    for offset in range(2):
        built.handle(built.provision, record_of(BAD, offset=offset))

    with pytest.raises(HoldError):
        built.provision.handler.handle(record_of(BAD, offset=2)).result()
    built.handle(built.invite, record_of(b"{", topic=INVITATIONS))
    assert ("2 dead letters in a row", None) == (
        built.provision.context.brake.reason,
        built.invite.context.brake.reason,
    )


@pytest.mark.parametrize("number", [0, 1], ids=["provision", "invite"])
def test_a_stage_knows_in_which_doubt_it_is(number: int) -> None:
    """Where its partition began decides whether a dead letter is looked up first."""
    built = Assembled(delivery=DeliverySettings(max_records=2))
    stage = built.stages[number]
    stage.context.sent_dead_letters.begin(HERE, 100)

    for offset in (119, 120):  # ten times as far as an earlier owner could have records in hand
        built.handle(stage, record_of(b"{", offset=offset))

    assert [119] == built.archive.asked


@pytest.mark.parametrize(
    ("after_dead_letter", "code"),
    [("park", "parked"), ("continue", "unknown-type"), ("stop", None)],
)
def test_the_settings_say_what_follows_a_dead_letter(
    after_dead_letter: Literal["park", "continue", "stop"], code: str | None
) -> None:
    """The stage knows which users are concerned; `stop` engages the brake that the health endpoint releases."""
    built = Assembled(events=EventsSettings(after_dead_letter=after_dead_letter))
    built.lose()
    record = record_of(event_of(type="user.renamed"), offset=2)

    if code is None:
        with pytest.raises(HoldError):
            built.provision.handler.handle(record)
        assert built.provision.context.brake.reason is not None
    else:
        built.handle(built.provision, record)
        letter = built.letters.records(DEAD_LETTERS)[-1]
        assert ("kb-dlq-code", code.encode()) in letter.headers
    assert built.provision.context.dead_lettered_users.knows(HERE, b"u-1")


def test_both_stages_take_the_same_locks() -> None:
    """An update and a mark of one user in one process never overlap."""
    built = Assembled()
    built.handle(built.invite, built.an_invitation())

    assert {"u-1"} == set(built.locks.taken)
    assert len(built.locks.taken) > 1


def test_a_user_that_is_being_invited_is_checked_again() -> None:
    """The invite stage of another process may have written its mark over the update."""
    built = Assembled()
    built.handle(built.provision, record_of(event_of()))
    later = event_of(event_id="event-2", time="2026-11-02T08:00:00Z", data={"department": "Sales"})

    with pytest.raises(HoldError) as caught:
        built.provision.handler.handle(record_of(later, offset=43)).result()
    handled = built.handle(built.provision, record_of(later, offset=43))

    assert ("second-look", True) == (caught.value.code, bool(handled.acknowledgements))


# how mails go out


def test_the_pace_of_mails_is_kept_by_the_stage() -> None:
    """The second one is held as long as it takes."""
    built = Assembled(invite=InviteSettings(pace=0.5))
    records = []
    for user_id in ("u-1", "u-2"):
        user = a_due_user(username=user_id, email=f"{user_id}@acme.example")
        invitation = an_invitation(built.keycloak.add_user(user))
        message = invitation_message(invitation, topic=INVITATIONS)
        records.append(Record(INVITATIONS, 0, 1, 0, message.key, message.value, message.headers))
    built.handle(built.invite, records[0])

    with pytest.raises(HoldError) as caught:
        built.invite.handler.handle(records[1])

    assert ("pace", 2.0, 1) == (caught.value.code, caught.value.wait_s, len(built.keycloak.mails))


@pytest.mark.parametrize(("owned_s", "waits"), [(5.0, True), (100.0, False)])
def test_a_mail_of_long_ago_is_looked_up_at_once(owned_s: float, waits: bool) -> None:
    """If this member has held the partition for so long that no other one can still be sending it."""
    built = Assembled()
    record = built.an_invitation()
    built.handle(built.invite, record)
    built.clock.advance(1000.0)
    since_s = built.clock.monotonic() - owned_s
    built.invite.context.backlog.begin(record.topic_partition, since_s)

    if waits:
        with pytest.raises(HoldError):
            built.handle(built.invite, record)
    else:
        built.handle(built.invite, record)
    assert 1 == len(built.keycloak.mails)


@pytest.mark.parametrize(
    ("delivery", "reason", "mails"),
    [("at-least-once", None, 1), ("at-most-once", "maybe-invited", 0)],
)
def test_a_mail_in_doubt_settles_and_is_then_decided(
    delivery: Literal["at-least-once", "at-most-once"], reason: str | None, mails: int
) -> None:
    """Where Keycloak does not record mails, the settings say whether one too many or one too few is worse."""
    keycloak = InMemoryKeycloak()
    keycloak.admin_events = False
    clock = FakeClock()
    invitation = an_invitation(keycloak.add_user(a_due_user(mark="sending:event-1")))
    settings = Settings(invite=InviteSettings(settle=30.0, delivery=delivery))
    mailing = inviter(keycloak, OWN_USERS, UserLocks(), settings, clock)

    with pytest.raises(HoldError) as caught:
        mailing.invite(invitation)
    clock.advance(30.0)
    outcome = mailing.invite(invitation)

    assert ("mail-in-doubt", 30.0) == (caught.value.code, caught.value.wait_s)
    assert (reason, mails) == (outcome.result.reason, len(keycloak.mails))


def test_the_guards_come_from_the_settings() -> None:
    """What is read back, how long an event waits for its user, and what engages the brake."""
    settings = Settings(
        verify=VerifySettings("always", 5), lifecycle=LifecycleSettings(unknown_user_wait=9.0)
    )
    mapping = Interpretation(settings).mapping

    assert ProvisionPolicy(
        mapping.reserved, VerificationPolicy("always", 5), 9.0
    ) == provision_policy(settings, mapping)


@pytest.mark.parametrize(
    ("records", "search_s", "allowed", "mode", "expected"),
    [
        (1000, 0.001, False, "auto", 1),
        (700, 0.001, False, "auto", 0),
        (700, 0.001, True, "auto", 1),
        (700, 0.001, True, "off", 0),
        (700, 0.08, False, "off", 1),
    ],
)
def test_a_backlog_has_the_realm_listed_where_searches_and_batches_make_up_for_it(
    records: int, search_s: float, allowed: bool, mode: Literal["auto", "off"], expected: int
) -> None:
    """A realm of 1,000 users costs 0.9 s; an event saves its search, and a part of the write where batches are allowed."""
    listed: list[str] = []

    def everybody() -> Iterator[UserRepresentation]:
        listed.append("listed")
        yield from ()

    counted_users = threading.Event()

    def count() -> int:
        counted_users.set()
        return 1000

    importer = InMemoryImporter(InMemoryKeycloak())
    importer.allowed = allowed
    made = Assembled(
        realm=RealmAccess(everybody, count, importer, lambda: search_s),
        burst=BurstSettings(mode=mode, backlog=1),
    )
    backlog = made.provision.context.backlog
    backlog.begin(HERE, made.clock.monotonic())
    backlog.note(1, records)
    made.handle(made.provision, record_of(event_of()))

    assert counted_users.wait(60.0)
    wait_until(lambda: "known-users" not in {one.name for one in threading.enumerate()})
    assert expected == len(listed)


def test_limits_engage_the_brake_of_their_own_stage() -> None:
    """One deletion and one mail are allowed; each second one stops its stage with the numbers."""
    made = Assembled(
        events=EventsSettings(tombstones="delete"),
        limits=LimitsSettings(disables=Limit(1, 60.0), mails=Limit(1, 60.0)),
    )
    for number in "12":
        data = {"email": f"{number}@acme.example"}
        made.handle(made.provision, record_of(event_of(f"u-{number}", number, data=data)))
    first, second = made.broker.records(INVITATIONS)
    made.handle(made.invite, first)
    made.handle(made.provision, record_of(None, key=b"u-1", offset=50))

    used = counted(made.metrics, "limited_changes")
    allowed = counted(made.metrics, "limited_changes_max")
    assert {("disables",): 1.0, ("mails",): 1.0, ("enables",): 0.0} == {
        limit: used[limit] for limit in (("disables",), ("mails",), ("enables",))
    }
    assert allowed.keys() == used.keys()
    assert (1.0, 1.0) == (allowed["disables",], allowed["mails",])
    for stage, record in ((made.invite, second), (made.provision, record_of(None, key=b"u-2"))):
        with pytest.raises(HoldError):
            stage.handler.handle(record).result()
        assert "1 " in (stage.context.brake.reason or "")
        assert "[limits]" in (stage.context.brake.reason or "")
