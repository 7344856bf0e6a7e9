"""Records that Kafka takes and no client can read, and such as are larger than what the bridge may publish."""

import json
import random
from pathlib import Path

import pytest
from bridge_harness import STRUCTURED, Bench, an_event
from record_batches import NOT_UTF8, RawName

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = pytest.mark.integration

HUNDRED_MEGABYTES = 100 * 1024 * 1024
NOISE = random.Random(12).randbytes(900_000)  # noqa: S311 # the same each time


def test_what_no_client_can_read_and_what_no_topic_takes(
    sandbox: Sandbox, fresh_realm: FreshRealm, tmp_path: Path
) -> None:
    """Each is a dead letter that names it, as much of it as can be kept; everything around it is done and committed."""
    bench = Bench(sandbox, fresh_realm, fresh_realm.name[-6:], tmp_path).but(
        EVENTS_TOMBSTONES="dead-letter"
    )
    bench.create_topic("events", partitions=2)
    bench.create_topic("dead-letters", max_message_bytes="200000")
    bench.run_command("topics", "create", check=True)

    def sound(user_id: str) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
        return user_id.encode(), json.dumps(an_event(user_id)).encode(), STRUCTURED

    def publish(partition: int, key: bytes | None, value: bytes | None, headers: object, codec: str | None = None) -> int:  # fmt: skip
        with bench.producer(compression_type=codec) as producer:
            names = [(name, one) for name, one in headers]  # type: ignore[attr-defined]
            sent = producer.send(bench.topic("events"), value, key, names, partition)
            return int(sent.get(timeout=30).offset)

    publish(0, *sound("u-0"))
    key, value, headers = sound("u-bad")
    bad_name = publish(0, key, value, (*headers, (RawName(NOT_UTF8), b"1")))
    zeros = publish(0, b"zeros", bytes(HUNDRED_MEGABYTES), STRUCTURED, "gzip")
    tombstone = publish(0, NOISE, None, STRUCTURED)
    large = publish(0, b"noise", NOISE, STRUCTURED)
    damaged = publish(0, *sound("u-damaged"))
    publish(0, *sound("u-1"))
    publish(1, *sound("u-2"))
    damage(sandbox, f"{bench.topic('events')}-0", b"u-damaged")

    log = bench.catch_up()

    letters = {int(reason["kb-dlq-offset"]): (record, reason) for record, reason in bench.dead_letters()}  # fmt: skip
    assert {
        bad_name: "unreadable-record",
        zeros: "unreadable-record",
        tombstone: "body-omitted",
        large: "body-omitted",
        damaged: "unreadable-record",
    } == {offset: reason["kb-dlq-code"] for offset, (_, reason) in letters.items()}
    assert value == letters[bad_name][0].value
    assert ("x-\\xff", b"1") in letters[bad_name][0].headers
    assert letters[zeros][1]["kb-dlq-size"].startswith("1048")
    assert ("tombstone", "key") == tuple(letters[tombstone][1][f"kb-dlq-{name}"] for name in ("cause", "omitted"))  # fmt: skip
    assert "value" == letters[large][1]["kb-dlq-omitted"]
    assert "its batch is wrong" in letters[damaged][1]["kb-dlq-message"]
    assert {"u-0", "u-1", "u-2"} == {user["attributes"]["userId"][0] for user in bench.users()}
    assert {0: 7, 1: 1} == bench.committed()
    assert 3 == log.count('"action": "record-unreadable"')
    listed = bench.run_command("plan", "--from-topic")
    assert f"/0@{zeros}" in listed.stdout
    replayed = bench.run_command("dead-letters", "replay", "--all-open", "--yes")
    assert 1 == replayed.returncode
    assert 4 == replayed.stdout.count("publish the event again")
    bench.catch_up()
    assert "u-bad" in {user["attributes"]["userId"][0] for user in bench.users()}


def damage(sandbox: Sandbox, partition: str, near: bytes) -> None:
    """Change a byte of a batch on the broker's disk, as a failing disk does."""
    (folder,) = Path(str(sandbox._run_dir)).rglob(partition)
    (segment,) = folder.glob("*.log")
    with segment.open("r+b") as file:
        at = file.read().index(near)
        file.seek(at)
        file.write(b"X")
