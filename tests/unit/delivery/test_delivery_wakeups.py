"""A crew of real threads, each woken only when there may be work for it: nobody must be forgotten."""

import random
import threading

import pytest
from delivery_harness import P0, TOPIC, stage_context

from keycloak_bridge.app.connections import SystemClock
from keycloak_bridge.delivery.fencing import Lease
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.delivery.scheduler import Delivery, DeliveryPolicy
from keycloak_bridge.domain.errors import HoldError, KeycloakUnavailableError
from keycloak_bridge.domain.events import Commit, Record
from keycloak_bridge.domain.ports import Dependency, Handled

RECORDS, USERS, CREW = 200, 17, 8
LONG_S = 60.0


def a_delivery() -> Delivery:
    """Return a delivery that has taken up one partition, with short pauses and a lease that holds."""
    clock = SystemClock()
    lease = Lease(LONG_S)
    lease.renew(clock.monotonic())
    policy = DeliveryPolicy(RetryPolicy(0.001, 0.004), max_attempts=RECORDS)
    delivery = Delivery(policy, lease, stage_context(clock=clock))
    delivery.start(P0, Commit(0))
    return delivery


@pytest.mark.parametrize("seed", range(5))
def test_all_is_done_without_another_poll(seed: int) -> None:
    """Whatever waits, fails or opens the breaker meanwhile: no word from outside is needed to go on."""
    chance = random.Random(seed)  # noqa: S311 # the same each time
    delivery = a_delivery()
    failures = {offset: chance.choice([0, 0, 0, 1, 2]) for offset in range(RECORDS)}
    left = set(range(RECORDS))
    all_done = threading.Event()

    def handle(task: Task) -> None:
        offset = task.record.offset
        if failures[offset]:
            failures[offset] -= 1
            held = offset % 2
            delivery.failed(
                task, HoldError("later", wait_s=0.002) if held else KeycloakUnavailableError("down")
            )
            return
        delivery.settle(task, Handled((), Dependency.KEYCLOAK))
        left.discard(offset)
        if not left:
            all_done.set()

    def work() -> None:
        while (task := delivery.take()) is not None:
            handle(task)

    worker_pool = [threading.Thread(target=work) for _ in range(CREW)]
    for thread in worker_pool:
        thread.start()
    delivery.accept(
        (Record(TOPIC, 0, offset, 0, b"k", b"v", ()), bytes([offset % USERS]))
        for offset in range(RECORDS)
    )
    all_done.wait(LONG_S)
    delivery.stop(dismiss=True)
    for thread in worker_pool:
        thread.join(LONG_S)

    assert left == set()
    assert not any(thread.is_alive() for thread in worker_pool)
