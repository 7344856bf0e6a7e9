"""What is deleted before the bridge has read it, by retention or with its topic, is told, and skips nothing that is there."""

import json

import pytest
from bridge_harness import STRUCTURED, Bench, an_event, wait_until
from kafka import TopicPartition

pytestmark = pytest.mark.integration


def publish(bench: Bench, *users: str) -> None:
    """Write the creation of these users to the first partition."""
    with bench.producer() as producer:
        for user in users:
            value = json.dumps(an_event(user)).encode()
            sent = producer.send(
                bench.topic("events"), value, user.encode(), list(STRUCTURED), partition=0
            )
            sent.get(timeout=30)


def test_records_that_were_deleted_unread_are_told(bench: Bench) -> None:
    """At the start in log and doctor; the rest is done after the brake, which the setting asked for, is released."""
    bench = bench.but(KAFKA_LOST_RECORDS="brake")
    at = TopicPartition(bench.topic("events"), 0)

    publish(bench, "u-0")
    bench.catch_up()
    publish(bench, "u-1", "u-2", "u-3")
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


def test_a_commit_of_a_topic_that_was_made_anew_skips_nothing(bench: Bench) -> None:
    """Kafka drops the commits with the topic; a member that was cut off meanwhile, or a backup, may bring them back."""
    name, group = bench.topic("events"), f"bridge-{bench.suffix}"
    publish(bench, "old-0", "old-1", "old-2")
    bench.catch_up()
    with bench.kafka_admin() as admin:
        commits = admin.list_group_offsets(group)[group]
        admin.delete_topics([name])
        wait_until(lambda: name not in admin.list_topics())
        bench.create_topic("events", partitions=4)
        admin.alter_group_offsets(
            group, {at: one for at, one in commits.items() if at.topic == name}
        )
    publish(bench, *(f"new-{number}" for number in range(8)))

    doctor = bench.run_command("doctor")
    log = bench.catch_up()

    assert f"bridge-{bench.suffix} has commits that are not of {name} as it is now" in doctor.stdout
    assert '"topic-made-anew"' in log
    assert 11 == len(bench.users())
    assert 8 == bench.committed()[0]
    assert "has commits that are not of" not in bench.run_command("doctor").stdout
