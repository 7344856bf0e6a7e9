"""Batches that fail, crash, freeze, move or lose their answers: no user is there twice or lost, and no commit is early."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bulk_harness import BulkProcess, deleting, fields_of, nothing
from delivery_harness import GROUP, TOPIC, At, at_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stage_harness import DEAD_LETTERS, RESULTS, Flow, event_of, record_of

from keycloak_bridge.delivery.offsets import read_notes
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, TopicPartition, event_id_in
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

START = datetime(2026, 11, 1, 8, tzinfo=UTC)
SESSION_S = 6.0
ROUNDS = 80
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(2)]
MORTAL = ("u-1", "u-2")
"""They are created and deleted, again and again."""

LASTING = ("u-3", "u-4")
"""They are created, and then anything else happens to them."""

LIVES = {
    **dict.fromkeys(MORTAL, ("user.created", "user.created", "user.deleted")),
    **dict.fromkeys(
        LASTING, ("user.created", "user.created", "user.updated", "user.disabled", "user.enabled")
    ),
}
DOWN = KeycloakUnavailableError("down", status=503)
LOST = KeycloakUnavailableError("lost")
BARE = KeycloakUnavailableError("unknown_error", status=500)
BAD = KeycloakRejectedError("bad")

partitions = st.sampled_from(PARTITIONS)
steps = st.sampled_from(["work", "work", "flush", "flush", "list", "turn"])


def event(user: str, serial: int, kind: str) -> dict[str, Any]:
    """Return event number `serial` of a user's life; its address, and so its username, changes each time."""
    data: dict[str, Any] = {"userId": user}
    if kind in ("user.created", "user.updated"):
        email = f"{user}-{serial % 2}@acme.example"
        data |= {"email": email, "department": f"D{serial}", "roles": [], "groups": ["/staff"]}
    time = format_time(START + timedelta(minutes=serial))
    made = event_of(user, f"{user}/{serial}", type=kind, time=time, data=data)
    if kind not in ("user.created", "user.updated"):
        made["data"] = data
    return made


def a_realm() -> InMemoryKeycloak:
    """Return a realm in which an address may change with its username."""
    return InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])


class BulkMachine(RuleBasedStateMachine):
    """Up to two processes in one group, both in a backlog, and what is true of the world outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = InMemoryBroker(partitions=len(PARTITIONS))
        self.keycloak = a_realm()
        self.editable = self.keycloak.usernames_editable()
        self.editable.__enter__()
        self.clock = FakeClock()
        self.lives: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.places: dict[At, tuple[str, int]] = {}
        self.faults: list[str] = []
        self.evicted: list[BulkProcess] = []
        self.processes: list[BulkProcess | None] = [self._process(), None]

    def _process(self) -> BulkProcess:
        return BulkProcess(self.broker, self.keycloak, self.clock, deleting())

    def alive(self) -> list[BulkProcess]:
        """Return the processes that are there."""
        return [process for process in self.processes if process is not None]

    def members(self) -> list[BulkProcess]:
        """Return the processes that Kafka counts as members."""
        return [process for process in self.alive() if process not in self.evicted]

    # what happens

    @initialize(
        users=st.lists(st.sampled_from([*LIVES]), min_size=6, max_size=14), both=st.booleans()
    )
    def begin(self, users: list[str], both: bool) -> None:
        """There is something to do from the beginning, in most cases with the realm listed."""
        self.publish(users)
        if both:
            self.start()
        for process in self.alive():
            self._turn(process)
            process.list_now()

    def publish(self, users: Sequence[str]) -> None:
        """Have user management publish events of some users."""
        ours, self.broker.publish_errors = self.broker.publish_errors, []
        for user in users:
            serial = len(self.lives[user])
            kinds = LIVES[user]
            kind = kinds[0] if serial == 0 else kinds[serial % len(kinds)]
            one = event(user, serial, kind)
            self.lives[user].append(one)
            record = record_of(one)
            self.broker.publish(Message(TOPIC, record.key, record.value, headers=record.headers))
            stored = [at for at in self.broker.records(TOPIC) if at.key == record.key][-1]
            self.places[at_of(stored)] = (user, serial)
        self.broker.publish_errors = ours

    @rule(
        data=st.data(),
        users=st.lists(st.sampled_from([*LIVES]), max_size=4),
        seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, SESSION_S, 61.0]),
    )
    def work(self, data: st.DataObject, users: list[str], seconds: float) -> None:
        """News come, poll threads turn, workers take records, some batches are written."""
        self.publish(users)
        self.clock.advance(seconds)
        for process in self.alive():
            self._turn(process)
            for step in data.draw(st.lists(steps, max_size=6)):
                self._step(process, step)

    @precondition(lambda self: self.alive())
    @rule(
        data=st.data(),
        fate=st.sampled_from([None, DOWN, LOST, BARE, BAD]),
        after_effect=st.booleans(),
        times=st.integers(1, 3),
    )
    def batch(
        self, data: st.DataObject, fate: BridgeError | None, after_effect: bool, times: int
    ) -> None:
        """A batch meets its fate, and something happens before, on its way, or before its answer is there."""
        process = data.draw(st.sampled_from(self.alive()))
        if fate is not None:
            process.importer.fail(fate, times=times, after_effect=after_effect)
        moment = data.draw(st.sampled_from(["before", "after", "none"]))
        event_now = self._drawn(data)
        if moment == "before":
            process.importer.before = lambda users: self._on_its_way(users, event_now)
        elif moment == "after":
            process.importer.after = event_now
        process.writer.flush(data.draw(st.integers(1, 6)))
        process.importer.before, process.importer.after = lambda _: None, nothing
        process.importer._failures.clear()

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def awkward(self, data: st.DataObject) -> None:
        """Something happens in the middle of a listing, or between the look at the known users and the claim."""
        process = data.draw(st.sampled_from(self.alive()))
        if data.draw(st.booleans()):
            process.meanwhile = self._drawn(data)
            process.list_now()
            process.meanwhile = nothing
        else:
            process.importer.judging = self._drawn(data)
            process.hand.work(2)
            process.importer.judging = nothing

    @rule(partition=partitions, lost=st.booleans(), back=st.booleans(), data=st.data())
    def rebalance(
        self, data: st.DataObject, partition: TopicPartition, lost: bool, back: bool
    ) -> None:
        """A partition is taken from a member, whatever waits for its batch, and goes elsewhere or comes back at once."""
        self._rebalance(data, partition, lost=lost, back=back)

    @rule(
        data=st.data(),
        trouble=st.sampled_from(
            ["call", "call", "kafka", "freeze", "crash", "leave", "mend", "mend"]
        ),
    )
    def disturb(self, data: st.DataObject, trouble: str) -> None:
        """A call fails, a member goes, or all of it is over."""
        if trouble == "mend":
            self._mend()
        elif trouble == "call":
            call = data.draw(
                st.sampled_from(["find", "create", "update", "delete", "join", "having", "missing"])
            )
            self.keycloak.fail(call, LOST, after_effect=data.draw(st.booleans()))
        elif trouble == "kafka":
            self.broker.publish_errors.append(BrokerUnavailableError("lost"))
        elif self.members():
            process = data.draw(st.sampled_from(self.members()))
            match trouble:
                case "freeze":
                    self._freeze(process)
                case "crash":
                    self._evict(process)
                    self._forget(process)
                case "leave":
                    process.hand.delivery.stop()
                    process.drain()
                    process.hand.worker._finish()
                    process.writer.close()
                    self._forget(process)

    # how it happens

    def _drawn(self, data: st.DataObject) -> Any:
        """Draw something that may happen at any moment, and return what does it."""
        what = data.draw(st.sampled_from(["steps", "steps", "rebalance", "crash", "freeze"]))
        others = data.draw(st.lists(st.tuples(st.integers(0, 1), steps), max_size=5))
        partition, lost, back = (
            data.draw(partitions),
            data.draw(st.booleans()),
            data.draw(st.booleans()),
        )
        chosen = data.draw(st.integers(0, 1))

        def happen() -> None:
            members = self.members()
            if members:
                member = members[chosen % len(members)]
                match what:
                    case "rebalance":
                        member.hand.source.revoke(partition, lost=lost)
                        if back:
                            members[-1 - chosen % len(members)].hand.source.assign(partition)
                    case "crash":
                        self._evict(member)
                        self._forget(member)
                        self.start()
                    case "freeze":
                        self._freeze(member)
            for number, step in others:
                alive = self.alive()
                if alive:
                    self._step(alive[number % len(alive)], step)

        return happen

    def _on_its_way(self, users: Sequence[UserRepresentation], happen: Any) -> None:
        """Have something happen while an import is in the air.

        Where others have gone beyond the creation meanwhile, it never lands: no request of a member that was thrown out
        can be called back, be it an import or a POST.
        """
        ids = [user["attributes"]["userId"][0] for user in users]
        before = self._last_of(ids)
        happen()
        after = self._last_of(ids)
        for user, one in zip(users, ids, strict=True):
            created = (user["attributes"]["bridgeEventId"][0],)
            if after[one] not in (before[one], created):
                raise LOST

    def _last_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return the last events of these users, and which of them exist."""
        there = {
            user["attributes"]["userId"][0]: tuple(user["attributes"]["bridgeEventId"])
            for user in self.keycloak.users()
        }
        return {one: there.get(one, ()) for one in ids}

    def _step(self, process: BulkProcess, step: str) -> None:
        match step:
            case "work":
                process.hand.work(1)
            case "flush":
                process.writer.flush(3)
            case "list":
                process.list_now()
            case "turn":
                self._turn(process)

    def _turn(self, process: BulkProcess) -> None:
        if process in self.evicted:
            process.hand.source.commit_errors = [PartitionRevokedError("fenced")] * 3
        process.hand.turn()

    def _rebalance(
        self, data: st.DataObject, partition: TopicPartition, *, lost: bool, back: bool
    ) -> None:
        if self.members():
            data.draw(st.sampled_from(self.members())).hand.source.revoke(partition, lost=lost)
        if back and self.members():
            data.draw(st.sampled_from(self.members())).hand.source.assign(partition)

    def _freeze(self, process: BulkProcess) -> None:
        """Throw a process out that proves nothing for a whole session; it wakes up before it notices."""
        proven_at_s = process.hand.delivery._lease.proven_at_s
        if proven_at_s is not None:
            self.clock.advance(max(0.0, proven_at_s + SESSION_S - self.clock.monotonic()))
        self._evict(process)

    def _evict(self, process: BulkProcess) -> None:
        """Have Kafka give the partitions to others, without this process hearing of it."""
        source = process.hand.source
        group = source._group
        group.leave(source)
        group.free([at for at in source.assigned() if group._owners.get(at) is source])
        self.evicted.append(process)

    def _notice(self, process: BulkProcess) -> None:
        source = process.hand.source
        process.hand.delivery.release(source.assigned(), True)
        source._positions.clear()
        source._group.join(source)
        source.commit_errors.clear()
        self.evicted.remove(process)

    def _forget(self, process: BulkProcess) -> None:
        """A process is gone; nothing of it writes any more."""
        process.hand.delivery.release(frozenset(PARTITIONS), True)
        self.processes[self.processes.index(process)] = None

    def _mend(self) -> None:
        self.start()
        for process in self.alive():
            process.hand.brake.release()
            if process in self.evicted:
                self._notice(process)

    def start(self) -> None:
        """Have two processes run."""
        self.processes = [process or self._process() for process in self.processes]

    # what must hold

    @invariant()
    def no_user_is_there_twice(self) -> None:
        """Keycloak itself would not mind."""
        ids = [user["attributes"]["userId"][0] for user in self.keycloak.users()]
        assert sorted(set(ids)) == sorted(ids)

    @invariant()
    def nothing_is_committed_before_it_is_stored(self) -> None:
        """What is committed is visible in Keycloak, and has a result."""
        results = [record.value or b"" for record in self.broker.records(RESULTS)]
        stored = {
            user["attributes"]["userId"][0]: user["attributes"]["bridgeEventId"][0]
            for user in self.keycloak.users()
        }
        for user, last in self._passed().items():
            life = self.lives[user]
            assert any(f'"{user}/{last}"'.encode() in value for value in results)
            if user in stored:
                assert int(event_id_in(stored[user]).partition("/")[2]) >= last
            else:
                assert any(one["type"] == "user.deleted" for one in life[last:])

    def _passed(self) -> dict[str, int]:
        """Return the last event of each user that is committed."""
        passed: dict[str, int] = {}
        for partition, commit in self.broker.commits[GROUP].items():
            for offsets in (range(commit.offset), *read_notes(*commit).finished):
                for offset in offsets:
                    user, serial = self.places[partition.partition, offset]
                    passed[user] = max(serial, passed.get(user, 0))
        return passed

    def teardown(self) -> None:
        """When all trouble is over, everything is committed, and the realm is as one by one would have left it."""
        self.keycloak._failures.clear()
        self.broker.publish_errors.clear()
        self._mend()
        for process in self.alive():
            process.hand.source._group._placed.clear()
            process.hand.source.commit_errors.clear()
        ends = {at: self.broker.end(at) for at in PARTITIONS}
        for _ in range(ROUNDS):
            for process in self.alive():
                self._calm_round(process)
            if ends == self.broker.offsets(GROUP):
                break

        assert ends == self.broker.offsets(GROUP)
        assert [] == self.broker.records(DEAD_LETTERS)
        self.no_user_is_there_twice()
        self.nothing_is_committed_before_it_is_stored()
        self.editable.__exit__(None, None, None)
        assert self._one_by_one() == sorted(map(fields_of, self.keycloak.users()), key=str)

    def _calm_round(self, process: BulkProcess) -> None:
        process.hand.turn()
        if process.known_users.wanted:
            process.list_now()
        while process.hand.work() + process.writer.waiting:
            process.drain()
        self.clock.advance(2.0)
        process.hand.turn()

    def _one_by_one(self) -> list[dict[str, Any]]:
        """Return what becomes of the same events without a batch."""
        flow = Flow(keycloak=a_realm(), known=deleting())
        with flow.keycloak.usernames_editable():
            for life in self.lives.values():
                for one in life:
                    flow.handle(one)
        assert [] == flow.letters
        return sorted(map(fields_of, flow.keycloak.users()), key=str)


BulkMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestBulkMachine = BulkMachine.TestCase
