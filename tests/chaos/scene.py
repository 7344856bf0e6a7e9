"""One scenario: a population, a realm and topics of its own, bridges, faults, and what can be seen of it."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bridge_harness import STRUCTURED, Bench
from fault_proxy import FaultProxy
from kafka import KafkaConsumer, TopicPartition
from population import Event, Population

from keycloak_bridge.sandbox import Mail

PARTITIONS = 8
LARGEST_RECORD = 16 * 1024 * 1024
TRICKLE, BURST = "trickle", "burst"
"""How users get into Keycloak: one by one, or in batches while a backlog stands."""

_TIMES_AS_MANY = 2

_FULL_USERS = 2000
_POLL_S = 0.2
_LOG_END = 3000
_GRACE_S = 120
_POLL_MS = 50


@dataclass(frozen=True, slots=True)
class Size:
    """How large the scenarios are: bounded by default, full by `make chaos`."""

    users: int
    kills: int
    seed: int | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read CHAOS_USERS, CHAOS_KILLS and CHAOS_SEED."""
        seed = environment.get("CHAOS_SEED")
        return cls(
            users=int(environment.get("CHAOS_USERS", "100")),
            kills=int(environment.get("CHAOS_KILLS", "4")),
            seed=None if seed is None else int(seed),
        )

    @property
    def is_full(self) -> bool:
        """Say whether outages last as long as they would in earnest."""
        return self.users >= _FULL_USERS

    def users_in(self, way: str) -> int:
        """Return how many users make a scenario; batches want more of them, and are quicker."""
        return self.users * _TIMES_AS_MANY if way == BURST and not self.is_full else self.users

    @property
    def outage_s(self) -> float:
        """How long a service is away."""
        return 30.0 if self.is_full else 8.0

    def limit_s(self, way: str) -> float:
        """How long a test waits for progress before it fails."""
        return 300.0 + self.users_in(way)


@dataclass(slots=True)
class Scene:
    """Everything that a scenario works with."""

    bench: Bench
    population: Population
    proxy: FaultProxy
    bridges: "Bridges"
    results: "ResultsTail"
    seed: int
    limit_s: float
    way: str = TRICKLE
    ends: list[tuple[float, str | None]] = field(default_factory=list)
    """When each fault ended (seconds since 1970), and the outcome that shows that work goes on."""
    _mails: Counter[str] = field(default_factory=Counter)
    _mails_seen: int = 0

    def publish(self, events: Sequence[Event]) -> None:
        """Publish events as user management does."""
        self.bench.publish(*events)

    def publish_compressed(self, events: Sequence[Event], codec: str) -> None:
        """Publish events in compressed batches."""
        records = [
            (event["subject"].encode(), json.dumps(event).encode(), STRUCTURED) for event in events
        ]
        self.bench.publish_raw(*records, compression_type=codec, linger_ms=20)

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        """Return once `condition()` holds; fail with `what` when it does not for very long."""
        deadline = time.monotonic() + self.limit_s
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text(errors="replace") for path in self.bridges.logs[-3:]]
                raise AssertionError(
                    f"{what} did not come true; {self.state()}; behind {self.behind()}; "
                    f"logs in {self.bench.folder}:\n"
                    + "\n---\n".join(log[-_LOG_END:] for log in logs)
                )
            time.sleep(_POLL_S)

    def wait_for_done(self, count: int) -> None:
        """Return once so many records have an outcome, of all that were ever published."""
        self.wait_until(lambda: self.done() >= count, f"{count} records with an outcome")

    def wait_for_everything(self, *, others: int = 0, unmailed: int = 0) -> None:
        """Return once every event and `others` besides have an outcome, and every mail is out but `unmailed`."""
        records = len(self.population.events) + others
        self.wait_until(lambda: self.done() >= records, f"{records} records with an outcome")
        due = len(self.population.invited) - unmailed
        self.wait_until(lambda: len(self.mails()) >= due, f"{due} mails")
        # the result of a mail comes after its mark
        self.wait_until(lambda: self.results_of_mails() >= due, f"{due} results of mails")
        # an event that looked at its user twice may have asked for a mark behind them all, and the result of a mail that
        # is given up counts as one of another record
        self.wait_until(lambda: not self.behind(), "everything committed")

    def state(self) -> str:
        """Return in one line how far the work is."""
        outcomes = Counter((one.outcome, one.data.get("reason")) for one in self.results.seen())
        return f"{self.done()} records done, {len(self.mails())} mailed, results {dict(outcomes)}"

    def behind(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Return committed and end offsets of the partitions that are not committed to their ends, by topic."""
        seen: dict[str, dict[int, tuple[int, int]]] = {}
        for topic, suffix in (("events", ""), ("invitations", "-invite")):
            committed = self.bench.committed(suffix)
            for partition, end in self.bench.end_offsets(topic).items():
                if committed.get(partition, 0) != end:
                    at = committed.get(partition, 0), end
                    seen.setdefault(topic, {})[partition] = at
        return seen

    def done(self) -> int:
        """Return how many records of the events topic have a result; a repeated result counts once."""
        told = [one for one in self.results.seen() if not one.is_of_a_mail]
        wanted = Counter(event["id"] for event in self.population.events)
        seen = Counter(one.data.get("eventId") for one in told)
        others = {one.id for one in told if one.data.get("eventId") not in wanted}
        return len(others) + sum(min(count, seen[one]) for one, count in wanted.items())

    def results_of_mails(self) -> int:
        """Return how many users have a result of their mail; after a crash it may say `already-invited`."""
        return len({one.data.get("userId") for one in self.results.seen() if one.is_of_a_mail})

    def mails(self) -> Counter[str]:
        """Return how many mails went to each address of this population."""
        messages: Sequence[Mail] = self.bench.sandbox.mail.messages
        for mail in messages[self._mails_seen :]:
            address = mail.recipients[0].lower()
            if address.endswith(f"@{self.bench.suffix}.example"):
                self._mails[address] += 1
        self._mails_seen = len(messages)
        return self._mails

    def batches(self) -> int:
        """Return how many batches the bridges wrote, as far as their logs tell."""
        return sum(path.read_bytes().count(b"batch-written") for path in self.bridges.logs)

    @contextmanager
    def fault(self, *, outcome: str | None = None) -> Iterator[None]:
        """Note when the fault inside ends; work goes on at the next result, of that outcome if one is named."""
        yield
        self.ends.append((time.time(), outcome))

    def recoveries_s(self) -> list[float]:
        """Return for each fault how long after its end the next result was written."""
        told = sorted((one.at_s, one.outcome) for one in self.results.seen())
        return [
            next(at_s - end_s for at_s, one in told if at_s > end_s and outcome in (None, one))
            for end_s, outcome in self.ends
        ]


class Bridges:
    """Bridges of one group, as processes that can be started, killed, frozen and asked to leave."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._count = 0
        self.members: list[subprocess.Popen[str]] = []

    @contextmanager
    def ended_at_last(self) -> Iterator[Self]:
        """Kill every member afterwards that still runs, frozen ones too."""
        try:
            yield self
        finally:
            for member in self.members:
                member.kill()
                member.wait()

    @property
    def logs(self) -> list[Path]:
        """The logs of all members that ever ran, oldest first."""
        return sorted(self._bench.folder.glob("bridge-*.log"))

    def start(self) -> subprocess.Popen[str]:
        """Start one more member and return at once."""
        self._count += 1
        log = self._bench.folder / f"bridge-{self._count:03}.log"
        member = self._bench.start("run", log=log)
        self.members.append(member)
        return member

    def kill(self, member: subprocess.Popen[str]) -> None:
        """End it without any chance to tidy up."""
        member.kill()
        member.wait()
        self.members.remove(member)

    def leave(self, member: subprocess.Popen[str]) -> None:
        """Ask it to end, and see that it does so in order."""
        member.terminate()
        code = member.wait(_GRACE_S)
        self.members.remove(member)
        assert 0 == code, f"a bridge ended with {code}; its log is one of {self._bench.folder}"

    def all_leave(self) -> None:
        """Ask every member to end."""
        for member in list(self.members):
            self.leave(member)


@dataclass(frozen=True, slots=True)
class SeenResult:
    """One result: when it was written (seconds since 1970), its own id, and what it reports."""

    at_s: float
    id: str
    data: Mapping[str, Any]

    @property
    def outcome(self) -> str:
        """What became of the record."""
        return str(self.data["outcome"])

    @property
    def is_of_a_mail(self) -> bool:
        """Say whether it is about a mail and not about an event."""
        return "eventType" not in self.data and self.data.get("keycloakId") is not None


class ResultsTail:
    """Every result so far. It bears outages of Kafka: what cannot be read now is read later."""

    def __init__(self, topic: str, bootstrap_servers: str) -> None:
        self._seen: list[SeenResult] = []
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            metrics_enabled=False,
            reconnect_backoff_max_ms=200,
        )
        numbers = self._consumer.partitions_for_topic(topic)
        self._consumer.assign([TopicPartition(topic, number) for number in sorted(numbers)])
        self._consumer.seek_to_beginning()

    def seen(self) -> list[SeenResult]:
        """Read what is new and return all results."""
        while batches := self._consumer.poll(timeout_ms=_POLL_MS):
            for batch in batches.values():
                self._seen += map(_seen_result, batch)
        return self._seen

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def _seen_result(record: Any) -> SeenResult:
    event = json.loads(record.value)
    return SeenResult(record.timestamp / 1000, event["id"], event["data"])
