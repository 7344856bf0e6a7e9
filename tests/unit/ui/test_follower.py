"""A thread that follows a topic, whatever the topic does."""

import itertools
import logging
import threading
from collections.abc import Generator

import pytest

from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.ui import follower as module
from keycloak_bridge.ui.follower import Follower

WAIT_S = 60


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)


class Topic:
    """A source that fails as often as `faults` say, and stands at its end afterwards."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.taken: list[str] = []
        self.problems: list[str | None] = []
        self.closed = 0
        self.at_end = threading.Event()
        self.follower = Follower(
            "the topic", self.source, lambda: self.taken.append("begin"), self.taken.append
        )

    def source(self) -> Generator[str | None, None, None]:
        self.problems.append(self.follower.problem)
        try:
            yield "one"
            if self.faults:
                raise self.faults.pop(0)
            yield "two"
            yield None
            self.at_end.set()
            while True:
                yield None
        finally:
            self.closed += 1

    def end(self) -> None:
        self.follower.stop()
        self.follower.join()
        while self.follower._thread.is_alive():
            self.follower.join()


def test_what_comes_is_handed_over() -> None:
    """And the end is said; closing it closes the source."""
    topic = Topic()
    topic.follower.start()
    assert topic.at_end.wait(WAIT_S)

    assert ["begin", "one", "two"] == topic.taken
    assert (True, None) == (topic.follower.caught_up, topic.follower.problem)
    topic.end()
    assert 1 == topic.closed


def test_after_a_failure_it_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    """An outage is a sentence on the page; a fault of the bridge is in the log too, and harms nothing else."""
    caplog.set_level(logging.ERROR)
    topic = Topic(BrokerUnavailableError("no broker answers"), ValueError("a secret"))
    topic.follower.start()
    assert topic.at_end.wait(WAIT_S)
    topic.end()

    assert ["begin", "one", "begin", "one", "begin", "one", "two"] == topic.taken
    assert [
        None,
        "no broker answers",
        "the bridge failed at reading it; its log says why",
    ] == topic.problems
    assert ["health-failed"] == [vars(one)["bridge_fields"]["action"] for one in caplog.records]
    assert 3 == topic.closed


def test_the_flow_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rests for twice the time that it worked, and takes everything all the same."""
    seconds = itertools.count()
    monkeypatch.setattr("keycloak_bridge.ui.follower.time.thread_time", lambda: next(seconds))
    rests: list[float | None] = []
    taken: list[int] = []
    follower = Follower(
        "the topic", lambda: (number for number in range(250)), lambda: None, taken.append
    )
    monkeypatch.setattr(follower._stop, "wait", rests.append)

    follower._follow(number for number in range(250))

    assert list(range(250)) == taken
    assert [2.0, 2.0] == rests


def test_one_that_never_started_can_be_stopped() -> None:
    """Where the bridge ends before."""
    Topic().end()
