"""Events that are written in batches: the same users, results and dead letters as one by one."""

import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from delivery_harness import stage_context
from stage_harness import DEAD_LETTERS, RESULTS, Flow, event_of, interpretation, record_of

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.delivery.concurrency_limit import AdaptiveLimit, ConcurrencyLimit
from keycloak_bridge.delivery.fencing import Fence
from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.errors import (
    BridgeError,
    HoldError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.users import DesiredUser, UserRepresentation
from keycloak_bridge.pipeline.interpret import Prepared
from keycloak_bridge.pipeline.provision import ProvisionStage
from keycloak_bridge.provisioning.batches import BatchSize, BatchWriter
from keycloak_bridge.provisioning.bulk_writer import BulkWriter, WriteRouter
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Provisioner
from keycloak_bridge.testing.in_memory_keycloak import InMemoryImporter, InMemoryKeycloak

WAIT_S = 30.0
EMAIL = "planted.mail@acme.example"
EVERY_ATTRIBUTE = {"department": "R&D", "locale": "de"}


class Scene:
    """A provision stage in the middle of a backlog; `there` are the users of the realm when it is listed."""

    def __init__(self, *there: Mapping[str, Any], accepted: bool = True) -> None:
        clock = SystemClock()
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        for user in there:
            self.keycloak.add_user(UserRepresentation(**user))  # type: ignore[typeddict-item]
        self.flow = Flow(keycloak=self.keycloak)
        self.importer = InMemoryImporter(self.keycloak)
        self.backlog = Backlog(1)
        self.fence = Fence()
        self.mine = True
        self.accepted = accepted
        self.writer = BatchWriter(
            self.importer,
            ConcurrencyLimit(AdaptiveLimit(1, 4, 2), clock),
            BatchSize(1, 20, 20),
            clock,
            self.flow.metrics,
            threads=2,
        )
        self.known_users = KnownUsers(
            self.keycloak.users, lambda: len(there), "userId", self.backlog, clock
        )
        self.stage = self._stage(self.flow.provisioner)
        place = record_of(event_of()).topic_partition
        self.backlog.begin(place, clock.monotonic() - 1.0)
        self.backlog.note(1)
        nobody = desired_of(record_of(event_of("nobody")))
        deadline_s = time.monotonic() + WAIT_S
        while not self.known_users.excludes(place, nobody):
            assert time.monotonic() < deadline_s
            threading.Event().wait(0.001)
        self.keycloak.calls.clear()

    def handle(self, record: Record) -> BridgeError | None:
        """Have one record handled to its end; return the error that came instead of an acknowledgement."""
        arrived: list[BridgeError | None] = []
        all_in = threading.Event()
        with self.fence.around(lambda: self.mine):
            acknowledgements = self.stage.handle(record).acknowledgements

        def note(error: BridgeError | None) -> None:
            arrived.append(error)
            if len(arrived) == len(acknowledgements):
                all_in.set()

        for acknowledgement in acknowledgements:
            acknowledgement.then(note)
        assert all_in.wait(WAIT_S)
        return next((error for error in arrived if error is not None), None)

    def results(self) -> list[tuple[str | None, ...]]:
        """Return outcome, action and reason of each result."""
        data = [json.loads(one.value or b"")["data"] for one in self.flow.broker.records(RESULTS)]
        names = ("outcome", "action", "reason")
        return [tuple(one.get(name) for name in names) for one in data]

    def _stage(self, provisioner: Provisioner) -> ProvisionStage:
        known = interpretation()
        bulk_writer = BulkWriter(
            provisioner,
            self.importer,
            self.writer,
            self.known_users,
            stage_context(brake=self.flow.brake, fence=self.fence, backlog=self.backlog),
        )
        if self.accepted:
            bulk_writer.accepted(desired_of(record_of(event_of(data=EVERY_ATTRIBUTE))))
        return ProvisionStage(
            interpreter=known.interpreter,
            router=WriteRouter(
                MarkRaceCheck(provisioner, lambda _: (), SystemClock()),
                self.known_users,
                bulk_writer,
            ),
            publisher=self.flow.publisher("provision"),
        )


def desired_of(record: Record) -> DesiredUser:
    """Return what the shipped mapping makes of an event."""
    reading = interpretation().read(record)
    assert isinstance(reading, Prepared)
    assert isinstance(reading.desired, DesiredUser)
    return reading.desired


@pytest.fixture
def scene() -> Scene:
    """An empty realm; the threads of the writer are daemons."""
    return Scene()


def test_a_new_user_is_created_in_a_batch(scene: Scene) -> None:
    """No search and no POST; groups come with the batch, roles after it; result and mark as if it came by itself.

    The same event again finds the user and writes nothing.
    """
    event = event_of(data={"roles": ["viewer"], "groups": ["/staff"]})
    error = scene.handle(record_of(event))

    (user,) = scene.keycloak.users()
    assert (error, scene.importer.batches) == (None, [(EMAIL,)])
    assert {"find", "create"}.isdisjoint(scene.keycloak.calls)
    assert user["attributes"]["bridgeInvitation"] == ["due:event-1"]
    assert scene.keycloak.realm_roles_of(user["id"]) == {"viewer"}
    assert scene.keycloak.groups_of(user["id"]) == {"/staff"}
    scene.handle(record_of(event, offset=43))
    assert len(scene.importer.batches) == 1
    assert scene.results() == [("provisioned", action, None) for action in ("created", "unchanged")]


def test_a_user_who_was_there_before_is_searched_for() -> None:
    """However its username and address have changed since."""
    there = {"username": "old", "email": "old@acme.example", "enabled": True}
    scene = Scene({**there, "attributes": {"userId": ["u-1"]}})
    error = scene.handle(record_of(event_of()))

    assert (error, scene.importer.batches) == (None, [])
    assert scene.results() == [("provisioned", "updated", None)]


def without_backlog(scene: Scene) -> None:
    scene.backlog.note(0)


def without_role(scene: Scene) -> None:
    scene.importer.allowed = False


def uncertain(scene: Scene) -> None:
    scene.importer.uncertain.add(EMAIL)


CREATED, REJECTED = ("provisioned", "created", None), "rejected"
BY_ITSELF: dict[str, tuple[Any, dict[str, Any], bytes | None, tuple[Any, ...]]] = {
    "without a backlog, it is faster": (without_backlog, {}, None, CREATED),
    "a batch needs one role more": (without_role, {}, None, CREATED),
    "only Keycloak can decide": (uncertain, {}, None, CREATED),
    "another key than its external id": (None, {}, b"", (REJECTED, None, "key-mismatch")),
    "it can never be created": (
        None,
        {"data": {"roles": ["admin"]}},
        None,
        (REJECTED, None, "role-not-allowed"),
    ),
    "an update is about a user that should be there": (
        None,
        {"type": "user.updated", "data": {"complete": True}},
        None,
        (REJECTED, None, "unknown-user"),
    ),
}


@pytest.mark.parametrize(("prepare", "changes", "key", "result"), BY_ITSELF.values(), ids=BY_ITSELF)
def test_what_is_written_by_itself(
    scene: Scene,
    prepare: Callable[[Scene], None] | None,
    changes: dict[str, Any],
    key: bytes | None,
    result: tuple[Any, ...],
) -> None:
    """The outcome is the same as that of a batch."""
    if prepare is not None:
        prepare(scene)
    error = scene.handle(record_of(event_of(**copy.deepcopy(changes)), key=key))

    assert (error, scene.importer.batches) == (None, [])
    assert scene.results() == [result]


def test_an_address_that_is_another_users_name_is_written_by_itself() -> None:
    """An import would not notice."""
    scene = Scene({"username": "ada@acme.example", "email": "x@acme.example", "enabled": True})
    scene.handle(record_of(event_of(data={"username": "lovelace", "email": "Ada@acme.example"})))

    assert scene.importer.batches == []
    assert scene.results() == [("rejected", None, "conflict")]


@pytest.mark.parametrize("held", [{"username": EMAIL}, {"username": "ada", "email": EMAIL}])
def test_an_account_of_another_user_is_a_conflict(held: dict[str, str]) -> None:
    """Whether Keycloak skips the user of the batch or fails it all: written by itself, it says why."""
    scene = Scene({**held, "enabled": True})
    first = scene.handle(record_of(event_of()))
    again = scene.handle(record_of(event_of()))

    assert isinstance(first, HoldError)
    assert (first.code, first.wait_s, again) == ("single-way", 0.0, None)
    assert len(scene.importer.batches) == 1
    assert scene.results() == [("rejected", None, "conflict")]


def test_what_keycloak_would_refuse_is_refused_by_keycloak(scene: Scene) -> None:
    """The dead letter has Keycloak's own reason, since the user is posted."""
    scene.importer.uncertain.add(EMAIL)
    error = scene.handle(record_of(event_of(data={"givenName": "<b>"})))

    assert (error, scene.importer.batches, scene.keycloak.users()) == (None, [], ())
    assert "create" in scene.keycloak.calls
    assert scene.results() == [("rejected", None, "keycloak-rejected")]
    assert len(scene.flow.broker.records(DEAD_LETTERS)) == 1


def test_an_attribute_that_is_new_to_keycloak_is_tried_first() -> None:
    """With one user by itself: a user profile may hide it from administrators without saying so."""
    scene = Scene(accepted=False)
    errors = [
        scene.handle(
            record_of(
                event_of(name, f"e-{name}", data={"userId": name, "email": f"{name}@x.example"})
            )
        )
        for name in ("ada", "bob")
    ]

    assert (errors, scene.importer.batches) == ([None, None], [("bob@x.example",)])


def test_after_an_outage_the_record_is_tried_again(scene: Scene) -> None:
    """Its answer may have been lost, so that the second time it is searched for."""
    scene.importer.fail(KeycloakUnavailableError("Keycloak is down", status=503))
    first = scene.handle(record_of(event_of()))
    second = scene.handle(record_of(event_of()))

    assert isinstance(first, KeycloakUnavailableError)
    assert (second, len(scene.importer.batches)) == (None, 1)
    assert "find" in scene.keycloak.calls
    assert scene.results() == [("provisioned", "created", None)]


def test_what_fails_after_the_batch_is_finished_later(scene: Scene) -> None:
    """The user is there by then, and the roles come with the second attempt."""
    scene.keycloak.fail("join", KeycloakUnavailableError("Keycloak is down", status=503))
    record = record_of(event_of(data={"roles": ["viewer"]}))
    first = scene.handle(record)
    second = scene.handle(record)

    (user,) = scene.keycloak.users()
    assert isinstance(first, KeycloakUnavailableError)
    assert second is None
    assert scene.keycloak.realm_roles_of(user["id"]) == {"viewer"}


def test_nothing_is_written_for_a_record_of_another_member(scene: Scene) -> None:
    """It was taken away while it waited for its batch."""
    scene.mine = False
    error = scene.handle(record_of(event_of()))

    assert isinstance(error, PartitionRevokedError)
    assert (scene.importer.batches, scene.results()) == ([], [])
