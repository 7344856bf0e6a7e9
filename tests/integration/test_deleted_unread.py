"""What retention deletes before the bridge has read it is told, and stops the flow where that is wanted."""

import json

import pytest
from bridge_harness import STRUCTURED, Bench, an_event
from kafka import TopicPartition

pytestmark = pytest.mark.integration


def test_records_that_were_deleted_unread_are_told(bench: Bench) -> None:
    """At the start in log and doctor; the rest is done after the brake, which the setting asked for, is released."""
    bench = bench.but(KAFKA_LOST_RECORDS="brake")
    at = TopicPartition(bench.topic("events"), 0)

    def publish(*users: str) -> None:
        with bench.producer() as producer:
            for user in users:
                value = json.dumps(an_event(user)).encode()
                sent = producer.send(at.topic, value, user.encode(), list(STRUCTURED), at.partition)
                sent.get(timeout=30)

    publish("u-0")
    bench.catch_up()
    publish("u-1", "u-2", "u-3")
    with bench.kafka_admin() as admin:
        admin.delete_records({at: 3})

    doctor = bench.run_command("doctor")
    held = bench.run_command("run", "--until-caught-up")
    bench.catch_up()  # a start releases the brake

    assert f"{at.topic} lost up to 2 records before" in doctor.stdout
    assert 3 == held.returncode
    assert '"records-lost"' in held.stderr
    assert f"{at.topic}/0 lost offsets 1 to 2" in held.stderr
    assert {"u-0", "u-3"} == {user["attributes"]["userId"][0] for user in bench.users()}
