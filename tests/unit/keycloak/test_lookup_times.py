"""How long look-ups take: counted by kind, and a warning where searches by attribute are slow."""

import logging

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.users import MatchCriterion
from keycloak_bridge.keycloak.lookup_times import SEARCHED_S, LookupKind, LookupTimes
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.testing.fake_clock import FakeClock


class Bench:
    """Look-ups that take as long as a test says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.times = LookupTimes(self.clock, self.metrics)

    def look_up(self, kind: LookupKind, took_s: float, times: int = 1) -> None:
        """Let so many look-ups take so long."""
        for _ in range(times):
            with self.times.timed(kind):
                self.clock.advance(took_s)


def counted(metrics: Metrics) -> dict[str, float]:
    """Return how many look-ups of each kind were counted."""
    name = 'keycloak_bridge_lookup_seconds_count{kind="'
    lines = metrics.exposition().decode().splitlines()
    found = [line.removeprefix(name).split('"} ') for line in lines if line.startswith(name)]
    return {kind: float(count) for kind, count in found}


def test_slow_searches_by_attribute_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """When half of the last fifty are slow: not before, not twice, and with what to do."""
    bench = Bench()
    bench.look_up(LookupKind.ATTRIBUTE, 1.5, times=49)
    early = len(caplog.records)
    bench.look_up(LookupKind.ATTRIBUTE, 1.5, times=60)
    (said,) = caplog.records

    assert 0 == early
    assert logging.WARNING == said.levelno
    assert "1500 ms" in said.getMessage()
    assert "docs/keycloak.md" in said.getMessage()


def test_other_look_ups_and_a_few_slow_ones_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A slow look-up by an indexed column has another cause, and a slow search now and then has none."""
    bench = Bench()
    bench.look_up(LookupKind.USERNAME, 1.5, times=60)
    for _ in range(60):
        bench.look_up(LookupKind.ATTRIBUTE, 0.004, times=2)
        bench.look_up(LookupKind.ATTRIBUTE, 1.5)

    assert [] == caplog.records
    assert {"attribute": 180, "username": 60} == counted(bench.metrics)


def test_the_quickest_search_tells_what_one_costs() -> None:
    """Once there were some: the others waited for their turn. One by an index costs the same however quick it is."""
    bench = Bench()
    seen = [bench.times.search_s()]
    for took_s in (1.5, 0.4, 0.09, 3.0, 0.7):
        bench.look_up(LookupKind.ATTRIBUTE, took_s)
        seen.append(bench.times.search_s())
    bench.look_up(LookupKind.USERNAME, 0.03)
    seen.append(bench.times.search_s())
    bench.look_up(LookupKind.ATTRIBUTE, 0.004)
    seen.append(bench.times.search_s())

    assert seen == pytest.approx([SEARCHED_S] * 5 + [0.09, 0.09, SEARCHED_S])


def test_without_metrics_nobody_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    """A command looks at few users; what a search costs is known all the same."""
    clock = FakeClock()
    times = LookupTimes(clock)
    for _ in range(60):
        with times.timed(LookupKind.ATTRIBUTE):
            clock.advance(1.5)

    assert [] == caplog.records
    assert times.search_s() == pytest.approx(1.5)


def test_the_directory_counts_what_it_looks_up() -> None:
    """By what Keycloak is asked; an answer that is an error is none."""
    script, metrics = KeycloakScript(), Metrics()
    directory = KeycloakUserDirectory(
        script.admin, script.clock, LookupTimes(script.clock, metrics)
    )
    script.answers([], [], [], {"id": "u1"}, (404, {"error": "User not found"}), [], [])
    targets = ("attributes.userId", "username", "email")
    directory.find([MatchCriterion(one, "ada") for one in targets])
    directory.get("u1")
    assert directory.get("u2") is None
    directory.identity_owner("acme", "1")
    directory.mail_recorded("u1")

    assert {
        "attribute": 1,
        "username": 1,
        "email": 1,
        "id": 1,
        "identity": 1,
        "mail": 1,
    } == counted(metrics)
