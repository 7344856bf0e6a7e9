"""Nobody who left long ago is mailed when the topic is read again."""

import pytest
from bridge_harness import Bench, about, an_event
from kafka import OffsetAndMetadata, TopicPartition

pytestmark = pytest.mark.integration

_LEFT, _STAYED = 12, 3


def test_an_offset_reset_mails_no_user_that_was_deleted(bench: Bench) -> None:
    """Each is created anew and deleted again, and no mail goes out in between; who stayed has one mail, as before."""
    bench = bench.but(LIFECYCLE_DELETED="delete")
    left = [f"left{number}-{bench.suffix}" for number in range(_LEFT)]
    stayed = [f"stayed{number}-{bench.suffix}" for number in range(_STAYED)]
    bench.publish(*map(an_event, left + stayed))
    bench.catch_up()
    bench.publish(*(about(one, "user.deleted", 24) for one in left))
    bench.catch_up()
    assert set(stayed) == {user["attributes"]["userId"][0] for user in bench.users()}

    with bench.kafka_admin() as admin:
        begin = {
            TopicPartition(bench.topic("events"), at): OffsetAndMetadata(0, "", -1)
            for at in bench.end_offsets("events")
        }
        admin.alter_group_offsets(f"bridge-{bench.suffix}", begin)
    log = bench.catch_up()

    assert [1] * len(left + stayed) == [
        len(bench.mails_to(f"{one}@acme.example")) for one in left + stayed
    ]
    assert set(stayed) == {user["attributes"]["userId"][0] for user in bench.users()}
    assert ["mails-held", "mails-released"] == [
        action for action in ("mails-held", "mails-released") if action in log
    ]
