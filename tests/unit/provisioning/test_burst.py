"""Events on their way through batches: the same users, news and dead letters as one by one."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from stage_harness import DEAD_LETTERS, RESULTS, Flow, event_of, interpretation, record_of

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.delivery.concurrency_limit import AdaptiveLimit, ConcurrencyLimit
from keycloak_bridge.delivery.dead_letters import DeadLetteredUsers
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

    def __init__(self, *there: Mapping[str, Any], proven: bool = True) -> None:
        clock = SystemClock()
        self.keycloak = InMemoryKeycloak(groups=["/staff"], realm_roles=["viewer"])
        for user in there:
            self.keycloak.add_user(UserRepresentation(**user))  # type: ignore[typeddict-item]
        self.flow = Flow(keycloak=self.keycloak)
        self.importer = InMemoryImporter(self.keycloak)
        self.backlog = Backlog(1)
        self.fence = Fence()
        self.mine = True
        self.proven = proven
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
        """Have one record handled to its end; return what came instead of its acknowledgements."""
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

    def told(self) -> list[tuple[str | None, ...]]:
        """Return outcome, action and reason of each result."""
        results = [
            json.loads(one.value or b"")["data"] for one in self.flow.broker.records(RESULTS)
        ]
        names = ("outcome", "action", "reason")
        return [tuple(data.get(name) for name in names) for data in results]

    def _stage(self, provisioner: Provisioner) -> ProvisionStage:
        known = interpretation()
        burst = BulkWriter(
            provisioner,
            self.importer,
            self.writer,
            self.known_users,
            self.backlog,
            self.fence,
            self.flow.brake,
        )
        if self.proven:
            burst.accepted(desired_of(record_of(event_of(data=EVERY_ATTRIBUTE))))
        return ProvisionStage(
            interpreter=known.interpreter,
            router=WriteRouter(
                MarkRaceCheck(provisioner, lambda _: (), SystemClock()), self.known_users, burst
            ),
            publisher=self.flow.publisher("provision"),
            lost=DeadLetteredUsers(),
        )


def desired_of(record: Record) -> DesiredUser:
    """Return what the shipped mapping makes of an event."""
    reading = interpretation().read(record)
    assert isinstance(reading, Prepared)
    assert isinstance(reading.desired, DesiredUser)
    return reading.desired


@pytest.fixture
def scene() -> Iterator[Scene]:
    """An empty realm."""
    opened = Scene()
    yield opened
    opened.writer.close()


def opened(*there: Mapping[str, Any], proven: bool = True) -> Scene:
    """Return a scene that ends with its test; its threads are daemons."""
    return Scene(*there, proven=proven)


def test_a_new_user_goes_by_a_batch(scene: Scene) -> None:
    """No search and no POST; the news and the mark of its invitation are those of the single way."""
    error = scene.handle(record_of(event_of()))

    (user,) = scene.keycloak.users()
    assert (error, scene.importer.batches) == (None, [(EMAIL,)])
    assert {"find", "create"}.isdisjoint(scene.keycloak.calls)
    assert user["attributes"]["bridgeInvitation"] == ["due:event-1"]
    assert scene.told() == [("provisioned", "created", None)]


def test_the_rest_of_its_plan_follows(scene: Scene) -> None:
    """Roles are given one by one, groups come with the batch."""
    scene.handle(record_of(event_of(data={"roles": ["viewer"], "groups": ["/staff"]})))

    (user,) = scene.keycloak.users()
    assert scene.keycloak.realm_roles_of(user["id"]) == {"viewer"}
    assert scene.keycloak.groups_of(user["id"]) == {"/staff"}


def test_the_same_event_again_writes_nothing(scene: Scene) -> None:
    """The user is known by then, and searched for."""
    scene.handle(record_of(event_of()))
    error = scene.handle(record_of(event_of(), offset=43))

    assert (error, len(scene.importer.batches)) == (None, 1)
    assert scene.told()[1:] == [("provisioned", "unchanged", None)]


def test_a_user_who_was_there_before_is_searched_for() -> None:
    """However its username and address have changed since."""
    there = {"username": "old", "email": "old@acme.example", "enabled": True}
    scene = opened({**there, "attributes": {"userId": ["u-1"]}})
    error = scene.handle(record_of(event_of()))

    assert (error, scene.importer.batches) == (None, [])
    assert scene.told() == [("provisioned", "updated", None)]


@pytest.mark.parametrize("held", [{"username": EMAIL}, {"username": "ada", "email": EMAIL}])
def test_an_account_of_somebody_else_is_a_conflict(held: dict[str, str]) -> None:
    """Whether Keycloak skips the user of the batch or fails it all: the single way says why."""
    scene = opened({**held, "enabled": True})
    first = scene.handle(record_of(event_of()))
    again = scene.handle(record_of(event_of()))

    assert isinstance(first, HoldError)
    assert (first.code, first.wait_s, again) == ("single-way", 0.0, None)
    assert len(scene.importer.batches) == 1
    assert scene.told() == [("rejected", None, "conflict")]


def test_an_address_that_is_somebodys_username_goes_alone() -> None:
    """An import would not see it."""
    scene = opened({"username": "ada@acme.example", "email": "x@acme.example", "enabled": True})
    scene.handle(record_of(event_of(data={"username": "lovelace", "email": "Ada@acme.example"})))

    assert scene.importer.batches == []
    assert scene.told() == [("rejected", None, "conflict")]


def test_what_only_keycloak_can_decide_goes_alone(scene: Scene) -> None:
    """It is created all the same."""
    scene.importer.uncertain.add(EMAIL)
    error = scene.handle(record_of(event_of()))

    assert (error, scene.importer.batches) == (None, [])
    assert scene.told() == [("provisioned", "created", None)]


def test_what_keycloak_would_refuse_is_refused_by_keycloak(scene: Scene) -> None:
    """The dead letter gives Keycloak's own reason, since the user is posted."""
    scene.importer.uncertain.add(EMAIL)
    error = scene.handle(record_of(event_of(data={"givenName": "<b>"})))

    assert (error, scene.importer.batches, scene.keycloak.users()) == (None, [], ())
    assert "create" in scene.keycloak.calls
    assert scene.told() == [("rejected", None, "keycloak-rejected")]
    assert len(scene.flow.broker.records(DEAD_LETTERS)) == 1


@pytest.mark.parametrize(
    ("key", "data"),
    [(b"", {}), (None, {"roles": ["admin"]})],
    ids=["key that pins nobody", "role that is not allowed"],
)
def test_what_goes_no_batch_at_all(scene: Scene, key: bytes | None, data: dict[str, Any]) -> None:
    """Its events may come by several partitions, or it can never be created."""
    record = record_of(event_of(data=data), key=key)
    scene.handle(record)

    assert scene.importer.batches == []


def test_an_attribute_that_is_new_to_keycloak_is_tried_out_first() -> None:
    """By one user on the single way: a server may keep it from administrators without telling anybody."""
    scene = opened(proven=False)
    errors = [
        scene.handle(
            record_of(
                event_of(name, f"e-{name}", data={"userId": name, "email": f"{name}@x.example"})
            )
        )
        for name in ("ada", "bob")
    ]

    assert (errors, scene.importer.batches) == ([None, None], [("bob@x.example",)])


def test_without_a_backlog_nobody_goes_by_a_batch(scene: Scene) -> None:
    """A few users are quicker one by one."""
    scene.backlog.note(0)
    scene.handle(record_of(event_of()))

    assert (scene.importer.batches, len(scene.keycloak.users())) == ([], 1)


def test_without_the_role_nobody_goes_by_a_batch(scene: Scene) -> None:
    """Everybody is written all the same."""
    scene.importer.allowed = False
    scene.handle(record_of(event_of()))

    assert (scene.importer.batches, len(scene.keycloak.users())) == ([], 1)


def test_an_outage_has_the_record_tried_again(scene: Scene) -> None:
    """Its answer may have been lost, so that the second time it is searched for."""
    scene.importer.fail(KeycloakUnavailableError("Keycloak is down", status=503))
    first = scene.handle(record_of(event_of()))
    second = scene.handle(record_of(event_of()))

    assert isinstance(first, KeycloakUnavailableError)
    assert (second, len(scene.importer.batches)) == (None, 1)
    assert "find" in scene.keycloak.calls
    assert scene.told() == [("provisioned", "created", None)]


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


def test_nothing_is_written_for_a_record_of_somebody_else(scene: Scene) -> None:
    """It was taken away while it waited for its batch."""
    scene.mine = False
    error = scene.handle(record_of(event_of()))

    assert isinstance(error, PartitionRevokedError)
    assert (scene.importer.batches, scene.told()) == ([], [])


def test_an_update_never_goes_by_a_batch(scene: Scene) -> None:
    """It is about somebody who should be there."""
    event = event_of(type="user.updated", data={"complete": True})
    scene.handle(record_of(event))

    assert scene.importer.batches == []
