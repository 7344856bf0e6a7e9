"""Events that are written in batches: the same users, results and dead letters as one by one, also at awkward moments."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bulk_harness import BulkProcess, HandBatchWriter, deleting, fields_of
from delivery_harness import P0, P1, TOPIC
from stage_harness import RESULTS, STRUCTURED, event_of, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerUnavailableError,
    HoldError,
    InternalError,
    KeycloakConflictError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Message, Record, event_id_in
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Handled
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.settings.model import MappingSettings, Settings
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter, InMemoryKeycloak

WAIT_S = 30.0


class World:
    """A realm, a Kafka with two partitions, and members of one group that have listed the realm."""

    def __init__(self) -> None:
        self.broker = InMemoryBroker(partitions=2)
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        self.clock = FakeClock()

    def member(self, known: Interpretation | None = None) -> BulkProcess:
        """Return one more member, in the middle of a backlog."""
        process = BulkProcess(self.broker, self.keycloak, self.clock, known or deleting())
        process.hand.turn()
        for partition in (P0, P1):
            process.backlog.begin(partition, self.clock.monotonic())
        process.backlog.note(1)
        process.list_now()
        return process

    def publish(self, *events: dict[str, Any]) -> None:
        """Write these events to the topic."""
        for event in events:
            record = record_of(event)
            self.broker.publish(Message(TOPIC, record.key, record.value, headers=record.headers))

    def results(self) -> list[tuple[str | None, ...]]:
        """Return outcome, action and reason of each result."""
        data = [json.loads(one.value or b"")["data"] for one in self.broker.records(RESULTS)]
        return [tuple(one.get(name) for name in ("outcome", "action", "reason")) for one in data]

    def ids(self) -> list[str]:
        """Return the external id of each user of the realm."""
        return sorted(user["attributes"]["userId"][0] for user in self.keycloak.users())


def event(user: str, number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return an event about a user, whose address is one of its own."""
    data = {"userId": user, "email": f"{user}@acme.example", **changes.pop("data", {})}
    time = f"2026-11-01T08:{number:02}:00Z"
    return event_of(user, f"{user}/{number}", time=time, data=data, **changes)


def handle(process: BulkProcess, record: Record) -> list[BridgeError | None]:
    """Have the stage handle a record, and return a list that will have its outcome."""
    arrived: list[BridgeError | None] = []

    def ended(handled: Future[Handled]) -> None:
        error = handled.exception()
        if error is not None:
            assert isinstance(error, BridgeError)
            arrived.append(error)
            return
        for acknowledgement in handled.result().acknowledgements:
            acknowledgement.then(arrived.append)

    try:
        process.stage.handle(record).add_done_callback(ended)
    except HoldError as error:
        return [error]
    return arrived


def placed(one: dict[str, Any], partition: int, offset: int = 0) -> Record:
    """Return the record of an event in this partition, whatever its key says."""
    record = record_of(one)
    return Record(TOPIC, partition, offset, 0, record.key, record.value, STRUCTURED)


def write(process: BulkProcess, record: Record) -> BridgeError | None:
    """Have a record handled, and every batch written; return the error that came instead of an acknowledgement."""
    arrived = handle(process, record)
    process.drain()
    return next((error for error in arrived if error is not None), None)


@pytest.fixture
def world() -> World:
    """An empty realm."""
    return World()


EMAIL = "u-1@acme.example"
WHOLE = event("u-1", data={"roles": ["viewer"], "groups": ["/staff"]})


def test_a_new_user_is_created_in_a_batch(world: World) -> None:
    """No search and no POST; groups come with the batch, roles after it; result and mark as if it came by itself.

    The same event again finds the user and writes nothing.
    """
    process = world.member()
    error = write(process, placed(WHOLE, 0))

    (user,) = world.keycloak.users()
    assert (error, process.importer.batches) == (None, [(EMAIL,)])
    assert {"find", "create"}.isdisjoint(world.keycloak.calls)
    assert [event_id_in(one) for one in user["attributes"]["bridgeInvitation"]] == ["due:u-1/1"]
    assert world.keycloak.realm_roles_of(user["id"]) == {"viewer"}
    assert world.keycloak.groups_of(user["id"]) == {"/staff"}
    write(process, placed(WHOLE, 0, 43))
    assert len(process.importer.batches) == 1
    assert world.results() == [("provisioned", action, None) for action in ("created", "unchanged")]


def test_a_batch_takes_no_user_whose_username_is_another_ones_id(
    world: World, tmp_path: Path
) -> None:
    """Keycloak skips a name that is there, whosever it is; the search that follows compares the exact id."""
    (tmp_path / "mapping.toml").write_text(
        'matching = ["username"]\n[user]\nusername = "data.userId"\nemail = "data.email"\n'
    )
    mapping = MappingSettings(file=tmp_path / "mapping.toml")
    by_username = Interpretation(Settings(mapping=mapping, lifecycle=deleting().settings.lifecycle))
    for name, exact in (("u-1", ["U-1"]), ("x-2", []), ("y-3", ["Y-3"])):
        attributes = {"bridgeUserId": exact} if exact else {}
        world.keycloak.add_user(UserRepresentation(username=name, attributes=attributes))
    before = world.keycloak.users()
    process = world.member(by_username)
    process.backlog.note(1)
    ids = ("u-1", "x-2", "Z-4", "z-4")
    arrived = [
        handle(process, placed(event(one, data={"email": f"{at}@acme.example"}), 0, at))
        for at, one in enumerate(ids)
    ]
    process.drain()

    assert [[None]] * 4 == [one[-1:] for one in arrived]
    assert before == world.keycloak.users()[:3]
    assert ["Z-4"] == world.keycloak.users()[3]["attributes"]["bridgeUserId"]
    assert 4 == len(world.keycloak.users())
    assert [("u-1", "x-2", "z-4"), ("z-4",)] == process.importer.batches
    reasons = [reason for _, _, reason in world.results()]
    assert sorted(map(str, reasons)) == [
        "None",
        "conflict",
        "id-differs-in-case",
        "id-differs-in-case",
    ]


def test_a_user_who_was_there_before_is_searched_for(world: World) -> None:
    """However its username and address have changed since."""
    old = UserRepresentation(username="old", email="old@acme.example", enabled=True)
    world.keycloak.add_user({**old, "attributes": {"userId": ["u-1"]}})
    process = world.member()
    error = write(process, placed(WHOLE, 0))

    assert (error, process.importer.batches) == (None, [])
    assert world.results() == [("provisioned", "updated", None)]


def without_backlog(process: BulkProcess) -> None:
    process.backlog.note(0)


def without_role(process: BulkProcess) -> None:
    process.importer.allowed = False


def uncertain(process: BulkProcess) -> None:
    process.importer.uncertain.add(EMAIL)


CREATED, REJECTED = ("provisioned", "created", None), "rejected"
BY_ITSELF: dict[str, tuple[Any, dict[str, Any], bytes, tuple[Any, ...]]] = {
    "without a backlog, it is faster": (without_backlog, {}, b"u-1", CREATED),
    "a batch needs one role more": (without_role, {}, b"u-1", CREATED),
    "only Keycloak can decide": (uncertain, {}, b"u-1", CREATED),
    "Keycloak refuses it, with its own reason": (
        uncertain,
        {"data": {"givenName": "<b>"}},
        b"u-1",
        (REJECTED, None, "keycloak-rejected"),
    ),
    "another key than its external id": (None, {}, b"u-2", (REJECTED, None, "key-mismatch")),
    "it can never be created": (
        None,
        {"data": {"roles": ["admin"]}},
        b"u-1",
        (REJECTED, None, "role-not-allowed"),
    ),
    "the realm lacks its group": (
        None,
        {"data": {"groups": ["/customers"]}},
        b"u-1",
        (REJECTED, None, "group-missing"),
    ),
    "an update is about a user that should be there": (
        None,
        {"type": "user.updated", "data": {"complete": True}},
        b"u-1",
        (REJECTED, None, "unknown-user"),
    ),
}


@pytest.mark.parametrize(("prepare", "changes", "key", "result"), BY_ITSELF.values(), ids=BY_ITSELF)
def test_what_is_written_by_itself(
    world: World,
    prepare: Callable[[BulkProcess], None] | None,
    changes: dict[str, Any],
    key: bytes,
    result: tuple[Any, ...],
) -> None:
    """The outcome is the same as that of a batch."""
    process = world.member()
    if prepare is not None:
        prepare(process)
    error = write(process, replace(placed(event("u-1", **changes), 0), key=key))

    assert (error, process.importer.batches) == (None, [])
    assert world.results() == [result]


def test_an_address_that_is_another_users_name_is_written_by_itself(world: World) -> None:
    """An import would not notice."""
    world.keycloak.add_user({"username": EMAIL, "email": "x@acme.example", "enabled": True})
    process = world.member()
    write(process, placed(event("u-1", data={"username": "ada", "email": EMAIL.upper()}), 0))

    assert process.importer.batches == []
    assert world.results() == [("rejected", None, "conflict")]


@pytest.mark.parametrize("held", [{"username": EMAIL}, {"username": "ada", "email": EMAIL}])
def test_an_account_of_another_user_is_a_conflict(world: World, held: dict[str, str]) -> None:
    """Whether Keycloak skips the user of the batch or fails it all: written by itself, it says why."""
    world.keycloak.add_user(UserRepresentation(**{**held, "enabled": True}))  # type: ignore[typeddict-item]
    process = world.member()
    error = write(process, placed(event("u-1"), 0))

    assert (error, len(process.importer.batches)) == (None, 1)
    assert world.results() == [("rejected", None, "conflict")]


@pytest.mark.parametrize("error", [KeycloakNotFoundError("gone"), KeycloakConflictError("taken")])
def test_whoever_cannot_be_finished_is_planned_again_at_once(
    world: World, error: BridgeError
) -> None:
    """Another writer was faster: with all searches, in the thread of the batch, and not decoded again."""
    process = world.member()
    arrived = handle(process, placed(WHOLE, 0))
    world.keycloak.fail("join", error)
    process.drain()

    (user,) = world.keycloak.users()
    assert {None} == set(arrived)
    assert world.keycloak.realm_roles_of(user["id"]) == {"viewer"}
    assert "find" in world.keycloak.calls
    assert [outcome for outcome, _, _ in world.results()] == ["provisioned"]


def test_an_attribute_that_is_new_to_keycloak_is_tried_first(world: World) -> None:
    """With one user by itself: a user profile may hide it from administrators without saying so."""
    process = world.member()
    process.bulk_writer._accepted_attributes.clear()
    errors = [write(process, placed(event(name), 0, at)) for at, name in enumerate(("u-1", "u-2"))]

    assert (errors, process.importer.batches) == ([None, None], [("u-2@acme.example",)])


# what another thread, another partition or another member does in between


def test_a_user_in_two_partitions_is_created_once(world: World) -> None:
    """A topic that got more partitions has events of one user in both: the second waits for the batch of the first."""
    process = world.member()
    first, second = (event("u-1", n, data={"email": f"{n}@acme.example"}) for n in (1, 2))
    arrived = handle(process, placed(first, 0))
    (waits,) = handle(process, placed(second, 1))
    process.drain()
    with world.keycloak.usernames_editable():
        handle(process, placed(second, 1))

    assert {None} == set(arrived)
    assert isinstance(waits, HoldError)
    assert "under-way" == waits.code
    assert [("u-1", "2@acme.example")] == [
        (user["attributes"]["userId"][0], user["email"]) for user in world.keycloak.users()
    ]


def test_a_user_that_came_between_look_and_claim_is_written_by_itself(world: World) -> None:
    """An event from another partition was faster."""
    process = world.member()
    other = placed(event("u-1", 2, data={"email": "2@acme.example"}), 1)

    def meanwhile() -> None:
        handle(process, other)
        process.drain()

    process.importer.judging = meanwhile
    handle(process, placed(event("u-1", 1), 0))
    process.drain()

    assert ["u-1"] == world.ids()


def test_swapped_names_are_kept_apart(world: World) -> None:
    """One has the username of the other's address: both are there, each under its own."""
    process = world.member()
    for user, name, email in (("u-1", "ada", "bob@x.example"), ("u-2", "bob", "ada@x.example")):
        handle(process, placed(event(user, data={"username": name, "email": email}), 0))
    process.drain()

    assert [("u-1", "ada"), ("u-2", "bob")] == sorted(
        (user["attributes"]["userId"][0], user["username"]) for user in world.keycloak.users()
    )


def record_partition(world: World) -> Any:
    """Return where the only event stands."""
    return world.broker.records(TOPIC)[0].topic_partition


def test_a_record_that_came_back_is_not_written_by_its_old_batch(world: World) -> None:
    """It was taken away and given back to the same process while it waited; only the second time counts."""
    world.publish(event("u-1"))
    process = world.member()
    process.hand.work()
    partition = record_partition(world)
    process.hand.source.revoke(partition)
    process.hand.source.assign(partition)
    process.hand.turn()
    world.keycloak.calls.clear()
    process.drain()
    written_by_the_old = list(process.importer.batches)
    process.hand.turn(1.0)
    process.hand.work()
    process.drain()
    process.hand.turn(2.0)

    assert [] == written_by_the_old
    assert (["u-1"], 1) == (world.ids(), process.hand.committed[partition])


def state(world: World) -> list[Any]:
    """Return all that the realm has of its users, except what differs with every run."""
    return [
        (
            fields_of(user),
            user["attributes"]["bridgeInvitation"],
            world.keycloak.groups_of(user["id"]),
            world.keycloak.realm_roles_of(user["id"]),
        )
        for user in world.keycloak.users()
    ]


@pytest.mark.parametrize("crash", [False, True], ids=["same process", "another process"])
@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("status", [None, 500, 503])
@pytest.mark.parametrize("step", ["import", "join", "invite"])
def test_redelivery_does_what_a_failure_left(
    step: str, status: int | None, after_effect: bool, crash: bool
) -> None:
    """In the batch or after it, by the same process or by one that knows nothing: as if nothing had happened.

    A user whose batch failed with a bare 500 is written by itself at once.
    """
    smooth, failing = World(), World()
    lost = KeycloakUnavailableError("lost", status=status)
    first, process = smooth.member(), failing.member()
    match step:
        case "import":
            process.importer.fail(lost, after_effect=after_effect)
        case "invite":
            failing.broker.publish_errors.append(BrokerUnavailableError("down"))
        case _:
            failing.keycloak.fail(step, lost, after_effect=after_effect)
    write(first, placed(WHOLE, 0))
    arrived = handle(process, placed(WHOLE, 0))
    process.drain()
    second = failing.member() if crash else process
    write(second, placed(WHOLE, 0))

    assert ((step, status) == ("import", 500)) == (arrived[0] is None)
    assert state(smooth) == state(failing)


def test_dead_letters_that_overtake_a_batch_are_not_in_a_row(world: World) -> None:
    """The good ones between them are just not written yet; only bad ones in a row after that engage the brake."""
    process = world.member()
    brake = process.hand.brake
    brake._in_a_row = 2
    handle(process, placed(event("u-1"), 0))
    bad = [placed(event(f"u-{n}", data={"email": 7}), 0, n) for n in range(2, 7)]
    held = [handle(process, one)[0] for one in bad[:3]]
    before = brake.reason
    process.drain()
    after = [handle(process, one)[0] for one in bad[2:4]]
    last = handle(process, bad[4])[0]

    assert [None, None, HoldError] == [one and type(one) for one in held]
    assert (None, [None, None]) == (before, after)
    assert isinstance(last, HoldError)
    assert "2 dead letters in a row" == brake.reason


def test_nothing_more_is_written_for_what_was_revoked_with_its_batch(world: World) -> None:
    """The user is there, and what is left of it is up to the next owner."""
    one = event("u-1", data={"roles": ["viewer"]})
    world.publish(one)
    process = world.member()
    process.hand.work()
    partition = record_partition(world)
    process.importer.after = lambda: process.hand.source.revoke(partition)
    world.keycloak.calls.clear()
    process.drain()
    left = [name for name in world.keycloak.calls if name in ("join", "update", "delete")]

    assert (["u-1"], []) == (world.ids(), left)
    assert 0 == process.hand.committed.get(partition, 0)


def test_whoever_a_batch_leaves_is_not_written_once_it_was_revoked(world: World) -> None:
    """The name is taken, so that Keycloak skips the user: the bridge writes it by itself, where it still may."""
    world.publish(event("u-1", data={"username": "ada"}))
    world.keycloak.add_user(UserRepresentation(username="ada", enabled=True))
    process = world.member()
    process.hand.work()
    process.importer.after = lambda: process.hand.source.revoke(record_partition(world))
    world.keycloak.calls.clear()
    process.drain()
    left = [name for name in world.keycloak.calls if name in ("create", "update")]

    assert ([], []) == (left, world.results())


class Slow:
    """A limit at which a batch waits, while something happens."""

    def __init__(self) -> None:
        self.mine = True
        self.clock = FakeClock()
        self.keycloak = InMemoryKeycloak()
        self.importer = InMemoryImporter(self.keycloak)
        self.limit = ConcurrencyLimit(self.clock, most=1, start=1)
        self.writer = HandBatchWriter(self.importer, self.limit, self.clock, Metrics(), threads=0)
        self.created: list[Future[str | None]] = []

    def submit(self, name: str) -> None:
        """Have a user wait for its batch."""
        user = UserRepresentation(username=name, enabled=True)
        self.created.append(self.writer.submit(user, lambda: self.mine))

    @property
    def errors(self) -> list[type]:
        """What became of each, which must be certain by now."""
        return [type(one.exception()) for one in self.created]


def test_what_is_revoked_while_its_batch_waits_is_not_written() -> None:
    """A loaded Keycloak may keep it waiting for longer than another member needs to go beyond it."""
    slow = Slow()
    slow.submit("ada")
    with slow.limit.turn():  # all that may run does
        thread = threading.Thread(target=slow.writer.flush)
        thread.start()
        while not len(slow.limit._waiting):
            pass
        slow.mine = False
    thread.join(WAIT_S)

    assert [] == slow.importer.batches
    assert [PartitionRevokedError] == slow.errors


def test_a_fault_of_the_bridge_is_reported_for_all_of_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise they would block their partitions forever, and silently."""
    slow = Slow()
    monkeypatch.setattr(slow.importer, "import_users", lambda users: users[0]["nonsense"])
    for name in ("ada", "bob"):
        slow.submit(name)
    slow.writer.flush()

    assert [InternalError] * 2 == slow.errors


def test_a_user_who_gets_into_no_batch_is_not_claimed_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while it is handed over is the record's alone; the next attempt writes it."""
    process = world.member()
    with monkeypatch.context() as failing:
        failing.setattr(process.writer, "submit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(process, placed(WHOLE, 0))
    error = write(process, placed(WHOLE, 0))

    assert (error, world.ids()) == (None, ["u-1"])
