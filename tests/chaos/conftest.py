"""The scene of a scenario: sized by CHAOS_USERS and CHAOS_KILLS, decided by CHAOS_SEED.

CHAOS_WAY says how users get into Keycloak: `trickle` (one by one), `burst` (in batches), or `both`. Without it only the
scenarios in which batches can make a difference run in both ways.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import Bench
from fault_proxy import FaultProxy
from population import Population, generate
from scene import BURST, LARGEST_RECORD, PARTITIONS, TRICKLE, Bridges, ResultsTail, Scene, Size

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import AdminRealmTools, FreshRealm, RealmAdministrator


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a scenario in the ways that CHAOS_WAY names."""
    if "way" in metafunc.fixturenames:
        differs = any(metafunc.definition.iter_markers("both_ways"))
        wanted = os.environ.get("CHAOS_WAY", "both" if differs else TRICKLE)
        ways = [TRICKLE, BURST] if wanted == "both" else [wanted]
        metafunc.parametrize("way", ways)


_IN_BATCHES = {"BURST_BACKLOG": "4", "DELIVERY_WORKERS": "2", "LOG_LEVEL": "DEBUG"}
"""A few events are a backlog, and do not all go one by one while the realm is listed; the log tells of each batch."""


@pytest.fixture(scope="session")
def size() -> Size:
    """How large the scenarios are."""
    return Size.from_environment(os.environ)


@pytest.fixture
def open_scene(
    sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path, size: Size, way: str
) -> Iterator[Callable[..., Scene]]:
    """Open a scene with these settings on top; `population` replaces the usual one."""
    if way == BURST:
        AdminRealmTools(RealmAdministrator.of(sandbox), fresh_realm.name).grant(
            fresh_realm.client_id, "manage-realm"
        )
    with ExitStack() as stack:

        def opened(
            population: Callable[[str, int], Population] | None = None,
            *,
            proxied: bool = False,
            **settings: str,
        ) -> Scene:
            bench = Bench(sandbox, fresh_realm, uuid.uuid4().hex[:8], tmp_path)
            proxy = stack.enter_context(FaultProxy(sandbox.keycloak_url).running())
            if proxied:
                settings = {"KEYCLOAK_URL": proxy.url, **settings}
            usual = {
                "TOPICS_PARTITIONS": str(PARTITIONS),
                # the shortest that Kafka allows: for so long a killed member keeps its partitions
                "KAFKA_SESSION_TIMEOUT": "6 s",
                **(_IN_BATCHES if way == BURST else {}),
            }
            bench = bench.but(**{**usual, **settings})
            bench.create_topic(
                "events", partitions=PARTITIONS, max_message_bytes=str(LARGEST_RECORD)
            )
            bench.run_command("topics", "create", check=True)
            seed = size.seed if size.seed is not None else time.time_ns() % 1_000_000
            users = size.users_in(way)
            make = population or (lambda suffix, chosen: generate(users, suffix, chosen))
            bridges = stack.enter_context(Bridges(bench).ended_at_last())
            results = ResultsTail(bench.topic("results"), sandbox.bootstrap_servers)
            stack.callback(results.close)
            print(f"\nchaos: seed {seed}, topics *-{bench.suffix}, logs in {tmp_path}")
            return Scene(
                bench=bench,
                population=make(bench.suffix, seed),
                proxy=proxy,
                bridges=bridges,
                results=results,
                seed=seed,
                limit_s=size.limit_s(way),
                way=way,
            )

        yield opened


@pytest.fixture
def scene(open_scene: Callable[..., Any]) -> Scene:
    """A scene with nothing between the bridge and Keycloak."""
    opened: Scene = open_scene()
    return opened


@pytest.fixture
def proxied(open_scene: Callable[..., Any]) -> Scene:
    """A scene with the fault proxy between the bridge and Keycloak."""
    opened: Scene = open_scene(proxied=True)
    return opened
