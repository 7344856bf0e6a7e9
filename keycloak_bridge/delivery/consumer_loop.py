"""Poll one topic, have its records handled in order of their keys, commit what is done."""

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from keycloak_bridge.delivery.catch_up import CatchUp
from keycloak_bridge.delivery.delivery import Delivery, DeliveryPolicy, InHand
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.group_position import (
    group_positions,
    is_of_another_topic,
    restarted_commit,
)
from keycloak_bridge.delivery.lost_records import LostRecords
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.delivery.worker_pool import WorkerPool
from keycloak_bridge.domain.errors import (
    BrakeError,
    BridgeError,
    BrokerError,
    BrokerUnavailableError,
    PartitionRevokedError,
    UndecidedMailError,
)
from keycloak_bridge.domain.events import Commit, Record, TopicPartition
from keycloak_bridge.domain.ports import RecordConsumer, RecordHandler
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.stage_reports import StageReport
from keycloak_bridge.ops.status import JOINING, Readiness

logger = logging.getLogger(__name__)

_COMMIT_EVERY_S = 1.0
_COMMIT_EVERY_RECORDS = 500
_CHECK_EVERY_S = 5.0
_PAUSE_S = 0.5
"""Between requests to a Kafka that does not answer."""
_LEASE_MARGIN_S = 1.0

Until = Callable[[], Mapping[TopicPartition, int] | None]
"""Returns the offsets to reach, or None while they are not known yet."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How the records of a stage are delivered; times in seconds. `session_s` is Kafka's session time-out.

    `brake_on_loss` engages the brake where records were deleted unread.
    `catch_up` is told how far the stage is, where another one waits for it.
    """

    delivery: DeliveryPolicy
    workers: int = 16
    session_s: float = 6.0
    drain_s: float = 20.0
    stuck_after_s: float = 120.0
    brake_on_loss: bool = False
    catch_up: CatchUp | None = None


class ConsumerLoop:
    """Runs one stage until it is stopped or has caught up."""

    def __init__(
        self,
        context: StageContext,
        source: RecordConsumer,
        handler: RecordHandler,
        options: ConsumerOptions,
    ) -> None:
        self._context = context
        self._source = source
        self._handler = handler
        self._options = options
        self._clock = context.clock
        self._status = context.status
        self._lease = Lease(options.session_s - min(_LEASE_MARGIN_S, options.session_s / 4))
        self._renew_s = options.session_s / 4
        self.delivery = Delivery(options.delivery, self._lease, context)
        self._worker_pool = WorkerPool(context, options.workers, self.delivery, handler)
        self._kafka_problem: BridgeError | None = None
        self._readiness = Readiness(context.name, context.status)
        self._committed_at_s = self._renew_at_s = self._check_at_s = 0.0
        self._poll_timeout = PollTimeout(context.clock.monotonic())
        self._paused_until_s = 0.0
        self._topic_id: str | None = None
        self._lost = LostRecords(context, options.brake_on_loss)
        self._offset_resets: dict[TopicPartition, int] = {}
        self._warned_of: str | None = None
        self._lag: dict[int, int] = {}
        self._passed_over = False
        """Whether the consumer may stand behind records that were read and not accepted."""

        self._group_check_at_s: float | None = None if context.stamp is not None else math.inf

    def run(self, stop: threading.Event, until: Until | None = None) -> None:
        """Handle records until `stop` is set, or until the group's commits reach the offsets of `until`.

        `until` is called after each turn and returns None while the end is not known yet. At the end, what is being
        written may finish within the drain time, and whatever is done is committed; the rest is left to the next run.
        Raises BridgeError when the flow must stop: with `until` also BrakeError, since it may run without an operator, and
        UndecidedMailError where nothing else is left.
        """
        self._status.set_problem(self._context.name, JOINING)
        self._source.when_revoked(self.delivery.release)
        self._worker_pool.start()
        try:
            while not stop.is_set():
                self.turn()
                if until is not None:
                    self._check_brake()
                    if self._caught_up(until):
                        if self._options.catch_up is not None:
                            self._options.catch_up.finish()  # nobody here looks any more
                        break
        finally:
            self._finish()

    def turn(self) -> InHand:
        """Start what was assigned, fetch, commit what is due, report how it goes.

        The poll comes in every turn, whatever else fails: nothing but polls brings a rebalance to its end.
        """
        self._status.beat(self._context.name, self._clock.monotonic())
        in_hand = self.delivery.look()
        with self._tolerating_outages():
            self._read_again()
            self._start_assigned()
        with self._tolerating_outages():
            now_s = self._clock.monotonic()
            self._fetch(self._poll_timeout.poll_s(in_hand.records, in_hand.finished, now_s))
            in_hand = self.delivery.look()
            self._commit_if_due(in_hand)
            self._check_kafka()
            self._follow_catch_up()
        self._report(in_hand)
        return in_hand

    @contextlib.contextmanager
    def _tolerating_outages(self) -> Iterator[None]:
        """Note what Kafka cannot do now; the next turn tries again."""
        try:
            yield
        except PartitionRevokedError as error:
            # the next poll resolves it; until then nothing proves that the partitions are still ours
            log_event(logger, "rebalancing", level=logging.DEBUG, reason=error.code)
        except BrokerUnavailableError as error:
            self._kafka_problem = error
            self._paused_until_s = self._clock.monotonic() + _PAUSE_S
            self._check_at_s = 0.0

    def _start_assigned(self) -> None:
        """Begin each new partition where its group left off, whatever position kafka-python has for it.

        A partition that was lost and came back within one poll may stand behind records that were dropped meanwhile.
        """
        self._leave_deleted_topic()
        new = self._source.assigned() - self.delivery.partitions()
        if not new:
            return
        asked_at_s = self._clock.monotonic()
        commits = dict(self._source.commits(new))
        self._check_stamps(commits)
        begins = self._source.begin_offsets(new)
        for partition in new:
            begin = begins.get(partition, 0)
            commit = self._commit_to_start_at(partition, commits.get(partition), begin)
            self._context.backlog.begin(partition, self._clock.monotonic())
            self._source.seek(partition, max(commit.offset, begin))
            self.delivery.start(partition, commit, self._topic_id)
        self._renew_at_s = min(self._renew_at_s, asked_at_s)
        self._check_at_s = 0.0  # how much waits there is known before the first of it is done

    def _commit_to_start_at(
        self, partition: TopicPartition, commit: Commit | None, begin: int
    ) -> Commit:
        """Return the partition's commit, or its beginning where it has none that is about this topic."""
        if commit is None:
            return Commit(begin)
        if self._topic_id is not None and is_of_another_topic(commit, self._topic_id):
            self._lost.note_another_topic(partition.topic, self._topic_id)
            commit = restarted_commit(commit, begin)
        elif commit.offset < begin:
            self._lost.note(partition, commit.offset, begin)
        self._context.sent_dead_letters.begin(partition, commit.offset)
        return commit

    def _leave_deleted_topic(self) -> None:
        """Let go of all partitions where the topic was deleted and made anew while they were in hand.

        They begin again at once. Reading on would pass over what stands before the offset that the old log had reached.
        """
        topic_id = self._source.topic_id()
        if topic_id is None or topic_id == self._topic_id:
            return
        before, self._topic_id = self._topic_id, topic_id
        if before is None:
            return
        for topic in {one.topic for one in self._source.assigned()}:
            self._lost.note_another_topic(topic, topic_id)
        self.delivery.release(self.delivery.partitions(), True)
        self._hold_mails()

    def _hold_mails(self) -> None:
        """Let no mail out before the events are read again, and commit at once that they are not read yet."""
        self._renew_at_s = 0.0
        if self._options.catch_up is not None:
            self._options.catch_up.restart()

    def _check_stamps(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Raise ConfigError where another realm's bridge had one of these partitions; warn once of another mapping."""
        stamp = self._context.stamp
        if stamp is None:
            return
        another = stamp.mapping_of(commit.metadata for commit in commits.values())
        if another is not None and another != self._warned_of:
            self._warned_of = another
            log_event(
                logger,
                "foreign-mapping",
                level=logging.WARNING,
                message=f"the group {stamp.group_id} was served with another mapping ({another}, here {stamp.mapping}): "
                "as long as a bridge with it runs too, the users are shared out between both",
                stage=self._context.name,
                group=stamp.group_id,
            )

    def _read_again(self) -> None:
        """Go back to what comes after the records that were accepted, where a poll failed, or what followed it."""
        if self._passed_over:
            for partition, offset in self.delivery.next_offsets().items():
                self._source.seek(partition, offset)
            self._passed_over = False

    def _fetch(self, timeout_s: float) -> None:
        passed_over, self._passed_over = self._passed_over, True
        records = self._source.poll(timeout_s, self.delivery.held)
        self.delivery.accept([(record, self._ordering_key(record)) for record in records])
        self._passed_over = passed_over
        self._offset_resets.update(self._source.take_offset_resets())
        self._note_offset_resets()

    def _ordering_key(self, record: Record) -> bytes:
        """Return the record's ordering key; what cannot be read has one of its own, and its worker meets the fault."""
        try:
            return self._handler.ordering_key(record)
        except Exception:  # noqa: BLE001 # one record must not stop the others
            return f"@{record.offset}".encode()

    def _note_offset_resets(self) -> None:
        """Report what Kafka deleted while it waited to be read."""
        if not self._offset_resets:
            return
        begins = self._source.begin_offsets(self._offset_resets)
        for partition, unread in self._offset_resets.items():
            self._lost.note(partition, unread, begins[partition])
            if begins[partition] <= unread:
                self._hold_mails()
        self._offset_resets.clear()

    def _commit_if_due(self, in_hand: InHand) -> None:
        now_s = self._clock.monotonic()
        since_s = now_s - self._committed_at_s
        renew = now_s >= self._renew_at_s
        many = in_hand.finished >= _COMMIT_EVERY_RECORDS
        caught_up = in_hand.finished and not in_hand.records and since_s >= BUSY_POLL_S
        due = renew or many or caught_up or since_s >= _COMMIT_EVERY_S
        if due and now_s >= self._paused_until_s:
            self._commit(now_s, unchanged=renew)

    def _commit(self, now_s: float, *, unchanged: bool) -> None:
        self._forget_unassigned()
        positions = {} if self._passed_over else self._source.positions()
        commits = self.delivery.commits(positions, unchanged=unchanged)
        if not commits:
            return
        before = self.delivery.offsets()
        self._source.commit(commits)
        self.delivery.committed(commits, now_s)
        self._committed_at_s, self._renew_at_s = now_s, now_s + self._renew_s
        self._kafka_problem = None
        if any(before.get(partition) != commit.offset for partition, commit in commits.items()):
            self._context.metrics.committed(self._context.name)

    def _forget_unassigned(self) -> None:
        """Release what was taken away while it was being started: a commit would rewind its new owner."""
        gone = self.delivery.partitions() - self._source.assigned()
        if gone:
            self.delivery.release(gone, True)

    def _check_kafka(self) -> None:
        """Ask Kafka something now and then: a poll that brings nothing does not show that it is gone."""
        now_s = self._clock.monotonic()
        if now_s < max(self._check_at_s, self._paused_until_s):
            return
        self._check_at_s = now_s + _CHECK_EVERY_S
        ends = self._source.end_offsets()
        self._kafka_problem = None
        if self._group_check_at_s is None and self._committed_at_s:
            self._group_check_at_s = now_s + _CHECK_EVERY_S
        elif self._group_check_at_s is not None and now_s >= self._group_check_at_s:
            # another realm's bridge may have joined at the same moment, when no commit said so yet
            self._check_stamps(self._source.commits(ends.keys()))
            self._group_check_at_s = math.inf
        self._lag = {
            partition.partition: ends.get(partition, offset) - offset
            for partition, offset in self.delivery.offsets().items()
        }

    def _follow_catch_up(self) -> None:
        catch_up = self._options.catch_up
        if catch_up is not None and not catch_up.done and self._source.joined():
            catch_up.look(self._source, braked=self._context.brake.reason is not None)

    def _report(self, in_hand: InHand) -> None:
        brake = self._context.brake.reason
        mine = {partition.partition for partition in self.delivery.partitions()}
        self._lag = {number: lag for number, lag in self._lag.items() if number in mine}
        self._context.metrics.lag(self._context.name, self._lag)
        self._context.metrics.held(self._context.name, in_hand.held)
        self._context.backlog.note(in_hand.records, sum(self._lag.values()))
        self._context.metrics.gauges(
            self._context.name,
            in_hand=in_hand.records,
            in_hand_bytes=in_hand.size_bytes,
            waiting=in_hand.records - in_hand.running,
            running=in_hand.running,
            paused=in_hand.full,
            oldest_s=in_hand.oldest_s,
            breaker=in_hand.breaker.value,
            brake_engaged=brake is not None,
        )
        report = StageReport(
            in_hand=in_hand.records,
            running=in_hand.running,
            paused=in_hand.full,
            oldest_s=in_hand.oldest_s,
            breaker=in_hand.breaker.value,
            brake=brake,
            done=in_hand.done,
            lag=self._lag,
        )
        self._status.reports.put(self._context.name, report, self._clock.monotonic())
        stuck = self._worker_pool.stuck(self._options.stuck_after_s)
        problems = (self._kafka_problem, self._source.trouble(), in_hand.problem, stuck)
        self._readiness.update(brake, problems, joined=self._source.joined())

    def _check_brake(self) -> None:
        reason = self._context.brake.reason
        if reason is not None:
            raise BrakeError(
                f"the brake holds the flow: {reason}",
                remedy="look at `keycloak-bridge dead-letters list`, fix the cause, then run again; nothing is lost",
            )

    def _check_undecided(self) -> None:
        mails = self.delivery.undecided_mails()
        if mails:
            raise UndecidedMailError(
                f"only mails that cannot be sent are left to do ({mails}): the mail server refuses them, or does not work",
                remedy="look at the realm's mail server (keycloak-bridge doctor); give the service account the role view-realm, so "
                "that a refused mail becomes a dead letter (docs/keycloak.md); nothing is lost, the next run tries again",
            )

    def _caught_up(self, until: Until) -> bool:
        if not self._source.joined():
            return False
        try:
            targets = until()  # at once, whatever is in hand: a topic may always get new records
            if targets is None:
                return False
            self._check_undecided()
            mine = self.delivery.offsets()
            if any(mine.get(at, offset) < offset for at, offset in targets.items()):
                return False
            # partitions of other members count too, so the group's commits are read, not ours
            positions = group_positions(self._source, targets)
        except PartitionRevokedError:
            return False
        except BrokerUnavailableError as error:
            self._kafka_problem = error
            return False
        return all(positions[at].offset >= offset for at, offset in targets.items())

    def _finish(self) -> None:
        """Let what is being written end, commit, leave; the next member handles what is not done."""
        self.delivery.stop()
        deadline_s = self._clock.monotonic() + self._options.drain_s
        while self.delivery.running() and (now_s := self._clock.monotonic()) < deadline_s:
            self._status.beat(self._context.name, now_s)
            try:
                self._fetch(BUSY_POLL_S)
                if now_s >= self._renew_at_s:
                    self._commit(now_s, unchanged=True)  # else the lease would expire meanwhile
            except BridgeError:  # what ended the run may be there still
                self.delivery.wait_idle(BUSY_POLL_S)
        try:
            self._commit(self._clock.monotonic(), unchanged=False)
        except BrokerError as error:
            log_event(logger, "commit-failed", level=logging.WARNING, reason=error.code)
        self.delivery.stop(dismiss=True)
        self._status.forget(self._context.name)
        self._context.metrics.ended(self._context.name)
        with contextlib.suppress(BrokerError):
            self._source.close()
        self._worker_pool.join()


BUSY_POLL_S = 0.1
"""With records in hand: what gets done meanwhile should be committed soon."""

_IDLE_POLL_S = 0.5
_QUIET_POLL_S = 1.0
_QUIET_AFTER_S = 10.0


class PollTimeout:
    """How long a poll may wait for records: each turn costs CPU, and a record ends a poll at once in any case."""

    def __init__(self, now_s: float) -> None:
        self._busy_at_s = now_s

    def poll_s(self, in_hand: int, finished: int, now_s: float) -> float:
        """Return the time for the next poll, with that many records in hand and finished since the last commit."""
        if in_hand or finished:
            self._busy_at_s = now_s
        if in_hand:
            return BUSY_POLL_S
        quiet = now_s - self._busy_at_s >= _QUIET_AFTER_S
        return _QUIET_POLL_S if quiet else _IDLE_POLL_S
