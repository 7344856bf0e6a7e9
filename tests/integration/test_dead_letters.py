"""Dead letters are listed, shown and replayed: exactly once, also when the command is killed."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import STRUCTURED, Bench, about, an_event, wait_until
from kafka import OffsetAndMetadata
from kafka import TopicPartition as KafkaTopicPartition

from keycloak_bridge.domain.errors import EventValidationError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.messages.dead_letters import dead_letter_message
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = pytest.mark.integration

_STEP_S = 0.1
NOW_MS = int(time.time() * 1000)
DEFAULT_MAPPING = Path(__file__).parents[2] / "keycloak_bridge" / "default_mapping.toml"


@pytest.fixture
def bench(sandbox: Sandbox, module_realm: FreshRealm, tmp_path: Path) -> Bench:
    """The realm of the module, and fresh topics."""
    return Bench.open(sandbox, module_realm, tmp_path)


def letters(bench: Bench, *words: str) -> list[dict[str, Any]]:
    """Return what `list` says of each letter."""
    done = bench.run_command("dead-letters", "list", "--format", "json", *words, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def replay(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `replay` without a question."""
    return bench.run_command("dead-letters", "replay", "--yes", *words)


def replays(bench: Bench) -> Counter[str]:
    """Return how often each letter was published anew."""
    marks = [dict(record.headers).get("kb-replay-of", b"") for record in committed_events(bench)]
    return Counter(mark.decode() for mark in marks if mark)


def committed_events(bench: Bench) -> list[Any]:
    """Return every event that no open transaction holds back."""
    return bench.read("events", isolation_level="read_committed")


def given_up(bench: Bench, count: int, *, topic: str | None = None) -> None:
    """Put letters into the dead-letter topic as the bridge writes them."""
    with bench.producer() as sender:
        for number in range(count):
            event = an_event(f"user{number}-{bench.suffix}")
            letter = dead_letter_message(
                Record(
                    topic or bench.topic("events"),
                    number % 4,
                    number // 4,
                    0,
                    event["subject"].encode(),
                    json.dumps(event).encode(),
                    STRUCTURED,
                ),
                EventValidationError("the data breaks its schema"),
                topic=bench.topic("dead-letters"),
                step="schema",
                group="test",
                schema_id=None,
                event_id=event["id"],
                time=datetime.now(UTC),
                bridge_version="0",
            )
            sender.send(letter.topic, key=letter.key, value=letter.value, headers=list(letter.headers))  # fmt: skip
        sender.flush()


def strict(bench: Bench) -> Bench:
    """Return the bench with a mapping that allows one realm role only."""
    text = DEFAULT_MAPPING.read_text(encoding="utf-8")
    allowed = 'allow = ["viewer", "editor", "approver", "auditor"]'
    assert allowed in text
    file = bench.folder / "mapping.toml"
    file.write_text(text.replace(allowed, 'allow = ["viewer"]'), encoding="utf-8")
    return bench.but(MAPPING_FILE=str(file))


def test_mended_letters_are_replayed_once(bench: Bench) -> None:
    """List and show say what is wrong; the dry run what would be now; then the users are there, and never twice."""
    editors = [an_event(f"editor{number}-{bench.suffix}", roles=["editor"]) for number in range(3)]
    broken = an_event(f"broken-{bench.suffix}", email="nobody")
    bench.publish(*editors, broken)
    strict(bench).catch_up()

    listed = letters(bench)
    (bad,) = (one for one in listed if one["code"] == "schema-violation")
    shown = bench.run_command("dead-letters", "show", bad["letter"], check=True).stdout
    before = strict(bench).run_command("dead-letters", "replay", "--dry-run", "--all-open")
    now = bench.run_command("dead-letters", "replay", "--dry-run", "--all-open")
    by_code = ("--code", "role-not-allowed")
    first, second = replay(bench, *by_code), replay(bench, *by_code)
    bench.catch_up()

    assert Counter({"role-not-allowed": 3, "schema-violation": 1}) == Counter(one["code"] for one in listed)  # fmt: skip
    assert {event["subject"] for event in (*editors, broken)} == {one["userId"] for one in listed}
    assert '"email": "nobody",   ← /data/email:' in shown
    assert (1, 1) == (before.returncode, now.returncode)
    assert "4 would be refused" in before.stdout
    assert "3 would be created, 1 would be refused" in now.stdout
    assert (0, 0) == (first.returncode, second.returncode)
    assert "replayed 3 dead letters" in first.stdout
    assert "nothing to replay" in second.stdout
    assert {one["letter"]: 1 for one in listed if one != bad} == replays(bench)
    for event in editors:
        user = bench.user(event["subject"])
        assert "editor" in bench.realm_roles_of(user["id"])
        assert 1 == len(bench.mails_to(event["data"]["email"]))
    assert [bad] == letters(bench)
    assert [1, 3] == [
        Counter(one["state"] for one in letters(bench, "--all"))[state] for state in ("open", "replayed")
    ]  # fmt: skip
    assert 4 == len(bench.dead_letters())
    assert 0 == bench.run_command("dead-letters", "replay", "--dry-run", *by_code).returncode


def test_a_replay_without_invitation_sends_no_mail(bench: Bench) -> None:
    """The users are there, and no mail is due for them, now or later."""
    event = an_event(f"quiet-{bench.suffix}", roles=["editor"])
    bench.publish(event)
    strict(bench).catch_up()

    done = replay(bench, "--all-open", "--no-invite")
    bench.catch_up()
    bench.publish(event)
    bench.catch_up()

    assert 0 == done.returncode
    assert bench.user(event["subject"])
    assert () == bench.mails_to(event["data"]["email"])


def test_a_record_that_keeps_failing_is_left_alone(bench: Bench) -> None:
    """Each failure is a new letter that counts on, until the cap; the headers never pile up."""
    bench.publish(an_event(f"hopeless-{bench.suffix}", email="nobody"))
    bench.catch_up()
    for _ in range(2):
        assert 0 == replay(bench, "--all-open", "--max-attempts", "3").returncode
        bench.catch_up()

    capped = replay(bench, "--all-open", "--max-attempts", "3")

    assert 0 == capped.returncode
    assert "was given up 3 times" in capped.stdout
    assert "nothing to replay" in capped.stdout
    assert [1, 2, 3] == sorted(one["attempts"] for one in letters(bench, "--all"))
    assert [3] == [one["attempts"] for one in letters(bench)]
    names = [[name for name, _ in record.headers] for record, _ in bench.dead_letters()]
    assert all(len(each) == len(set(each)) for each in names)


def test_a_killed_replay_is_finished_by_the_next(bench: Bench) -> None:
    """Killed between two transactions or within one: the next run replays the rest, nothing twice, in order."""
    count = 4000
    given_up(bench, count)
    command = [sys.executable, "-m", "keycloak_bridge", "dead-letters", "replay", "--yes", "--all-open"]  # fmt: skip
    with subprocess.Popen(command, env=bench.environment, cwd=bench.folder) as process:
        # in short steps, so that it cannot end between two looks
        while not replays(bench):
            process.send_signal(signal.SIGCONT)
            time.sleep(_STEP_S)
            process.send_signal(signal.SIGSTOP)
            assert process.poll() is None
        process.kill()
    at_the_kill = sum(replays(bench).values())

    done = replay(bench, "--all-open")

    assert 0 < at_the_kill < count
    assert 0 == done.returncode, done.stderr
    counts = replays(bench)
    assert (count, {1}) == (len(counts), set(counts.values()))
    assert [] == letters(bench)
    origins: dict[int, list[int]] = {}
    for record in committed_events(bench):
        partition, offset = map(int, dict(record.headers)["kb-replay-origin"].split(b"/"))
        assert partition == record.partition
        origins.setdefault(partition, []).append(offset)
    assert all(offsets == sorted(offsets) for offsets in origins.values())


def test_two_operators_replay_each_letter_once(bench: Bench) -> None:
    """Whoever comes later shuts the other out, and nobody replays what the other did."""
    count = 2000
    given_up(bench, count)
    command = [sys.executable, "-m", "keycloak_bridge", "dead-letters", "replay", "--yes", "--all-open"]  # fmt: skip
    operators = [
        subprocess.Popen(
            command, env=bench.environment, cwd=bench.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [operator.communicate(timeout=120)[1] for operator in operators]

    counts = replays(bench)

    assert 0 in [operator.returncode for operator in operators], said
    for operator, text in zip(operators, said, strict=True):
        assert operator.returncode == 0 or "another replay has begun" in text, text
    assert (count, {1}) == (len(counts), set(counts.values()))


def test_a_letter_of_another_topic_is_told(bench: Bench) -> None:
    """Exit code 1; the letters of the topics in the settings are replayed."""
    given_up(bench, 2, topic=f"other-{bench.suffix}")
    given_up(bench, 3)

    done = replay(bench, "--all-open")

    assert 1 == done.returncode
    assert 2 == done.stdout.count(f"foreign-topic: topic other-{bench.suffix} is neither")
    assert "replayed 3 dead letters" in done.stdout
    assert 3 == sum(replays(bench).values())
    with bench.kafka_admin() as admin:
        assert f"other-{bench.suffix}" not in admin.list_topics()


def test_a_topic_made_anew_has_dead_letters_of_its_own(bench: Bench) -> None:
    """At offsets that had one before, and even of an equal record; read again, each record still has one."""
    same, other = (b"u-1", b"{oops", STRUCTURED), (b"u-1", b"[oops", STRUCTURED)

    def read_from_the_start(*records: tuple[bytes, bytes, Any]) -> list[tuple[bytes, str]]:
        with bench.producer() as sender:
            for key, value, headers in records:
                sender.send(
                    bench.topic("events"), key=key, value=value, headers=list(headers), timestamp_ms=NOW_MS, partition=0
                ).get(timeout=30)  # fmt: skip
        with bench.kafka_admin() as admin:
            offsets = {KafkaTopicPartition(bench.topic("events"), 0): OffsetAndMetadata(0, "", -1)}
            admin.alter_group_offsets(f"bridge-{bench.suffix}", offsets)
        bench.catch_up()
        return [
            (letter.value, headers["kb-dlq-topic-id"]) for letter, headers in bench.dead_letters()
        ]

    bench.catch_up()
    first = read_from_the_start(same)
    with bench.kafka_admin() as admin:
        admin.delete_topics([bench.topic("events")])
        wait_until(lambda: bench.topic("events") not in admin.list_topics())
    bench.create_topic("events")
    second = read_from_the_start(other, same)
    third = read_from_the_start()

    assert [b"{oops"] == [value for value, _ in first]
    assert second == third
    assert [b"[oops", b"{oops", b"{oops"] == sorted(value for value, _ in second)
    assert 3 == len(set(second))


def test_only_a_real_replay_is_not_parked(bench: Bench) -> None:
    """A producer can write the headers of one, and its record is parked nevertheless."""
    user_id = f"parked-{bench.suffix}"
    lost, later = (about(user_id, "user.updated", hours, department=name) for hours, name in ((1, "A"), (2, "B")))  # fmt: skip
    lost["data"]["roles"] = ["editor"]
    bench.publish(an_event(user_id), lost, later)
    strict(bench).catch_up()
    (parked,) = (one for one in letters(bench) if one["code"] == "parked")
    forged = (*STRUCTURED, ("kb-replay-of", parked["letter"].encode()))
    bench.publish_raw((user_id.encode(), json.dumps(later).encode(), forged))
    said = bench.catch_up()
    before = Counter(one["code"] for one in letters(bench))

    done = replay(bench, "--all-open")
    bench.catch_up()

    assert "replay-not-confirmed" in said
    assert Counter({"role-not-allowed": 1, "parked": 2}) == before
    assert (0, []) == (done.returncode, letters(bench))
    user = bench.user(user_id)
    assert ["B"] == user["attributes"]["department"]
    assert "editor" in bench.realm_roles_of(user["id"])
