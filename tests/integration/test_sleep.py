"""A machine that sleeps past its session loses its partitions and must not lose their records."""

import signal
import time

import pytest
from bridge_harness import Bench, an_event

pytestmark = pytest.mark.integration

USERS = 200
SLEEP_S = 14
"""Longer than `kafka.session_timeout`, so that the group gives up on the member."""


def test_a_frozen_bridge_loses_no_record(bench: Bench) -> None:
    """Frozen in the middle of a backlog, given up by the group, woken again: every user once, one mail each."""
    ids = [f"s{number}-{bench.suffix}" for number in range(USERS)]
    bench.publish(*(an_event(user_id) for user_id in ids))
    with bench.running() as process:
        deadline = time.monotonic() + 120
        while not bench.results() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        time.sleep(SLEEP_S)
        process.send_signal(signal.SIGCONT)
        time.sleep(5)
    bench.catch_up()

    assert set(ids) == {user["attributes"]["userId"][0] for user in bench.users()}
    assert USERS == len(bench.users())
    assert [] == bench.dead_letters()
    mailed = [len(bench.mails_to(f"{user_id}@acme.example")) for user_id in ids]
    assert [1] * USERS == mailed
