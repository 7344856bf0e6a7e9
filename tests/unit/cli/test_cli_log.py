"""`log` over a results topic in memory."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli_harness import Bench, call
from dead_letter_cases import stored
from stage_harness import RESULTS

from keycloak_bridge.cli import log as command
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import Outcome, Record, Result
from keycloak_bridge.messages.results import result_message
from keycloak_bridge.outcome_log.log import OutcomeLog

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def publish(bench: Bench, second: int, **facts: Any) -> None:
    """Publish an outcome of that second after noon."""
    result = Result(
        **{
            "outcome": Outcome.PROVISIONED,
            "action": "created",
            "event_id": f"event-{second}",
            "event_type": "user.created",
            "user_id": "u-1",
            **facts,
        }
    )
    origin = Record("user-events", 3, 40 + second, 0, b"u-1", b"{}")
    time = NOON + timedelta(seconds=second)
    message = result_message(result, topic=RESULTS, time=time, origin=origin)
    bench.log[RESULTS].append(stored(message, (0, second)))


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A user was created and invited, another one was rejected."""
    publish(bench, 1)
    publish(bench, 2, outcome=Outcome.INVITED, action=None, event_type=None)
    publish(bench, 3, outcome=Outcome.REJECTED, action=None, reason="conflict", user_id="u-2")
    return bench


def test_people_read_one_line_an_outcome(bench: Bench) -> None:
    """The newest last, in the zone that was asked for."""
    lines = bench.run("log", "--utc").stdout.splitlines()

    assert [
        "time                  outcome              user  event    type          record",
        "2026-11-02 12:00:01Z  provisioned created  u-1   event-1  user.created  user-events/3@41",
        "2026-11-02 12:00:02Z  invited              u-1   event-2  -             user-events/3@42",
        "2026-11-02 12:00:03Z  rejected conflict    u-2   event-3  user.created  user-events/3@43",
    ] == lines


def test_programs_read_one_object_an_outcome(bench: Bench) -> None:
    """With everything that the result holds of ids and codes."""
    first, *_ = bench.lines("log")

    assert {
        "time": "2026-11-02T12:00:01.000000Z",
        "outcome": "provisioned",
        "action": "created",
        "reason": None,
        "eventId": "event-1",
        "eventType": "user.created",
        "userId": "u-1",
        "keycloakId": None,
        "schemaId": None,
        "changed": [],
        "mapping": None,
        "record": "user-events/3@41",
        "id": "user-events/3/41/provisioned",
    } == first


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--user", "u-2"), ["event-3"]),
        (("--event", "event-1", "--event", "event-3"), ["event-1", "event-3"]),
        (("--outcome", "invited"), ["event-2"]),
        (("--code", "conflict"), ["event-3"]),
        (("--type", "user.created"), ["event-1", "event-3"]),
        (("--since", "2026-11-02T12:00:02Z"), ["event-2", "event-3"]),
        (("--until", "2026-11-02T12:00:02Z"), ["event-1"]),
        (("--user", "u-1", "--code", "conflict"), []),
        (("--limit", "2"), ["event-2", "event-3"]),
        (("--limit", "0"), ["event-1", "event-2", "event-3"]),
    ],
)
def test_outcomes_are_chosen(bench: Bench, words: tuple[str, ...], expected: list[str]) -> None:
    """By each option, and by all of them together."""
    for outcome_time in bench.log[RESULTS]:
        assert outcome_time.timestamp_ms == 0
    # the bench looks for times by the record
    bench.log[RESULTS] = [
        Record(one.topic, one.partition, one.offset, int(NOON.timestamp() * 1000), one.key, one.value, one.headers)
        for one in bench.log[RESULTS]
    ]  # fmt: skip

    assert expected == [one["eventId"] for one in bench.lines("log", *words)]
    assert 0 == bench.open_readers


def test_a_limit_that_is_reached_is_said(bench: Bench) -> None:
    """On standard error, with the way to see all; and that there is nothing on standard output."""
    assert "--limit 0 shows all" in bench.run("log", "--limit", "3").stderr
    assert "" == bench.run("log").stderr
    assert "the results topic has no such outcome\n" == bench.run("log", "--user", "nobody").stdout
    assert "" == bench.run("log", "--user", "nobody", "--format", "json").stdout


def test_what_is_no_result_is_counted(bench: Bench) -> None:
    """It cannot be shown, and is not hidden either."""
    bench.log[RESULTS].append(Record(RESULTS, 0, 9, 0, None, b"\x1b[2J", ()))

    assert "1 records of the topic are no results" in bench.run("log").stderr


def test_what_comes_is_shown_until_the_operator_ends_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through an outage of Kafka, which is told."""
    monkeypatch.setattr(command, "_RETRY_S", 0)
    follow = OutcomeLog.follow
    calls: list[int] = []

    def following(self: OutcomeLog, chosen: Any) -> Iterator[Any]:
        calls.append(1)
        if len(calls) == 1:
            raise BrokerUnavailableError("Kafka does not answer")
        publish(bench, 4)
        coming = follow(self, chosen)
        yield next(coming)
        yield next(coming)
        raise KeyboardInterrupt

    monkeypatch.setattr(OutcomeLog, "follow", following)

    result = bench.run("log", "--follow", "--limit", "1", "--format", "json")

    assert ["event-3", "event-4"] == [
        json.loads(one)["eventId"] for one in result.stdout.splitlines()
    ]
    assert "Kafka does not answer" in result.stderr
    assert 130 == result.exit_code


@pytest.mark.parametrize(("option", "begun", "name"), [("--code", "schema-v", "schema-violation"), ("--type", "user.cr", "user.created"), ("--outcome", "inv", "invited")])  # fmt: skip
def test_a_shell_completes_codes_and_types(option: str, begun: str, name: str) -> None:
    """As the bridge knows them."""
    words = f"keycloak-bridge log {option} {begun}"
    found = call(_KEYCLOAK_BRIDGE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="3")

    assert name in found.stdout
