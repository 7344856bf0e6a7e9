"""A machine that sleeps past its session loses its partitions and must not lose their records."""

import signal

import pytest
from bridge_harness import Bench, an_event, wait_until

pytestmark = pytest.mark.integration

USERS = 100


def test_a_frozen_bridge_loses_no_record(bench: Bench) -> None:
    """Frozen in the middle of a backlog, given up by the group, woken again: every user once, one mail each."""
    ids = [f"s{number}-{bench.suffix}" for number in range(USERS)]
    bench.publish(*(an_event(user_id) for user_id in ids))
    with bench.but(KAFKA_SESSION_TIMEOUT="6 s").running() as process:
        wait_until(bench.results)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: bench.group_members() == 0)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: bench.group_members() == 1)
    bench.catch_up()

    assert set(ids) == {user["attributes"]["userId"][0] for user in bench.users()}
    assert USERS == len(bench.users())
    assert [] == bench.dead_letters()
    mailed = [len(bench.mails_to(f"{user_id}@acme.example")) for user_id in ids]
    assert [1] * USERS == mailed
