"""Every metric of the bridge, declared once with its name, its labels and its meaning.

A label is a stage, a partition, an outcome or a stable code: nothing that a person typed, and few values.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)

from keycloak_bridge import __version__

PREFIX = "keycloak_bridge"

OTHER = "other"
"""The label of what does not look like a code."""

_MOST_SERIES = 1000
"""So many are remembered; beyond that each is looked up."""

_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86_400.0
_LATENCY_BUCKETS_S = (
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(_MINUTE_S, 5 * _MINUTE_S, 15 * _MINUTE_S),
    *(_HOUR_S, 4 * _HOUR_S, _DAY_S, 3 * _DAY_S),
)
"""From a healthy flow to an outage over a weekend."""

_OPENNESS = {"closed": 0.0, "half-open": 0.5}
_STAGE_GAUGES = {
    "in_hand": ("in_hand_records", "Records that are fetched and not finished."),
    "in_hand_bytes": ("in_hand_bytes", "Bytes of these records."),
    "waiting": (
        "waiting_records",
        "Of these, records that wait for an earlier record or for their next attempt.",
    ),
    "running": ("running_records", "Of these, records that a worker is processing."),
    "paused": (
        "fetching_paused",
        "1 while fetching is paused because enough records are in memory, else 0.",
    ),
    "breaker": (
        "breaker_open",
        (
            "1 while the circuit breaker is open because Keycloak, Kafka or the mail server fails, "
            "0.5 while one record probes it, else 0."
        ),
    ),
    "brake_engaged": (
        "brake_engaged",
        "1 while the brake stops the flow (too many dead letters, or a limit is reached), else 0.",
    ),
    "oldest_s": (
        "oldest_unfinished_seconds",
        "How long the slowest partition has waited for its first unfinished record.",
    ),
}


@dataclass(frozen=True, slots=True)
class Declared:
    """Name, kind, labels and meaning of one metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """The counters, gauges and histograms of one bridge, apart from every other's; safe to call from any thread."""

    content_type: ClassVar[str] = "text/plain; version=0.0.4; charset=utf-8"
    """The media type of `exposition`: Prometheus' text format."""

    def __init__(self) -> None:
        self._registry = _Registry()
        self._scraping = threading.Lock()
        ProcessCollector(registry=self._registry)  # process_*, as every exporter names them
        self.declared: list[Declared] = []
        """Every metric, with its full name, in the order of the documentation."""
        self._handled: dict[tuple[str, str, str | None], tuple[Counter, Histogram]] = {}
        self._records = self._counter(
            "records_total",
            "Finished records by outcome; `reason` is empty if the record succeeded.",
            "stage",
            "outcome",
            "reason",
        )
        self._seconds = self._histogram(
            "record_seconds", "Seconds from the first attempt of a record to its end.", "stage"
        )
        self._latency = self._histogram(
            "end_to_end_latency_seconds",
            "Seconds from an event's time until Keycloak had its user written (stage `provision`), or had sent its mail "
            "(stage `invite`).",
            "stage",
            buckets=_LATENCY_BUCKETS_S,
        )
        self._dead_letters = self._counter(
            "dead_letters_total", "Dead letters by their code.", "stage", "code"
        )
        self._lost = self._counter(
            "lost_records_total",
            "Offsets that Kafka deleted before they were read; a few of them may have been no records.",
            "stage",
        )
        self._position_resets = self._counter(
            "position_resets_total",
            "Times that reading began at the beginning again: a topic was made anew, or a partition ended before its commit.",
            "stage",
        )
        self._retries = self._counter(
            "retries_total", "Failed attempts that are retried.", "stage", "code"
        )
        self._overruled = self._counter(
            "overruled_events_total",
            "Disables and deletions without effect, because a newer event lets the user in.",
        )
        self._mails = self._counter("mails_total", "Mails that Keycloak sent for the bridge.")
        self._open_invitations = self._gauge(
            "open_invitations",
            "Invitations whose person has not set a password yet, and whose link has not ended, as far as this process watches them.",
        )
        self._activation_off = self._gauge(
            "activation_off",
            "1 once this process has given up watching who sets a password and whose link ends, since it cannot until it is started "
            "again, else 0.",
        )
        self._lookups = self._histogram(
            "lookup_seconds",
            "Seconds that Keycloak takes to look something up, by what it is asked by: `attribute`, `username`, `email`, "
            "`id`, `identity` (an account of an identity provider) or `mail` (an admin event).",
            "kind",
        )
        self._batches = self._counter(
            "batches_total",
            "Batches of new users that Keycloak accepted (`written`) or failed (`failed`).",
            "outcome",
        )
        self._batched = self._counter("batched_users_total", "Users in the accepted batches.")
        self._commits = self._counter(
            "commits_total", "Commits that advanced a partition.", "stage"
        )
        self._last_commit = self._gauge(
            "last_commit_timestamp_seconds", "Unix time of the last commit.", "stage"
        )
        self._of_stage = {
            field: self._gauge(name, meaning, "stage")
            for field, (name, meaning) in _STAGE_GAUGES.items()
        }
        self._lag = self._gauge(
            "lag_records",
            "Records of an assigned partition that are not committed.",
            "stage",
            "partition",
        )
        self._lag_of: dict[str, frozenset[int]] = {}
        self._held = self._gauge(
            "held_records",
            "Records that wait although nothing failed, by why: for a user that is yet to come (`unknown-user`), until the events "
            "are done that stood in the topic at the start (`catching-up`), for `invite.pace` (`pace`), or for what another event of their user does.",
            "stage",
            "code",
        )
        self._held_by: dict[str, frozenset[str]] = {}
        self._ready = self._gauge(
            "ready", "1 while `/ready` answers 200, else 0; determined at each scrape."
        )
        self._problems = self._gauge(
            "problem",
            "1 for each problem that `/ready` names, by its code; no sample where there is none. Before the stages run, `stage` is "
            "`startup`, `kafka` or `keycloak`.",
            "stage",
            "code",
        )
        self._limited = self._gauge(
            "limited_changes",
            "Changes within the window of a limit, by its name in `[limits]`.",
            "limit",
        )
        self._limited_max = self._gauge(
            "limited_changes_max", "How many changes a limit allows within its window.", "limit"
        )
        version = self._gauge("build_info", "Always 1; the label is the version.", "version")
        version.labels(__version__).set(1)

    def handled(self, stage: str, outcome: str, reason: str | None, seconds: float) -> None:
        """Count a record that was done with, and the time that it took."""
        key = (stage, outcome, reason)
        series = self._handled.get(key)
        if series is None:
            labels = (stage, _code(outcome), _code(reason) if reason else "")
            series = (self._records.labels(*labels), self._seconds.labels(stage))
            if len(self._handled) < _MOST_SERIES:
                self._handled[key] = series
        records, durations = series
        records.inc()
        durations.observe(seconds)

    def waited(self, stage: str, seconds: float) -> None:
        """Note how long after its event a user was written, or a mail sent."""
        self._latency.labels(stage).observe(seconds)

    def dead_letter(self, stage: str, code: str) -> None:
        """Count a dead letter."""
        self._dead_letters.labels(stage, _code(code)).inc()

    def lost(self, stage: str, offsets: int) -> None:
        """Count what was deleted unread."""
        self._lost.labels(stage).inc(offsets)

    def position_reset(self, stage: str) -> None:
        """Count that a topic or a partition is read from its beginning again."""
        self._position_resets.labels(stage).inc()

    def retried(self, stage: str, code: str) -> None:
        """Count a failed attempt that is made again."""
        self._retries.labels(stage, _code(code)).inc()

    def overruled(self) -> None:
        """Count a disable or deletion that had no effect."""
        self._overruled.inc()

    def mail(self) -> None:
        """Count a mail."""
        self._mails.inc()

    def open_invitations(self, count: int) -> None:
        """Note how many invitations are watched."""
        self._open_invitations.set(count)

    def activation_off(self) -> None:
        """Note that invitations are not watched any more."""
        self._open_invitations.set(0)
        self._activation_off.set(1)

    def looked_up(self, kind: str, seconds: float) -> None:
        """Note how long a look-up of this kind took."""
        self._lookups.labels(kind).observe(seconds)

    def batch(self, users: int, *, failed: bool) -> None:
        """Count a batch that Keycloak took, or failed."""
        self._batches.labels("failed" if failed else "written").inc()
        if not failed:
            self._batched.inc(users)

    def committed(self, stage: str) -> None:
        """Count a commit that Kafka took just now."""
        self._commits.labels(stage).inc()
        self._last_commit.labels(stage).set_to_current_time()

    def gauges(self, stage: str, *, breaker: str, **values: float) -> None:
        """Note how a stage is doing, by the keys of _STAGE_GAUGES; `breaker` is closed, half-open, or else open."""
        values["breaker"] = _OPENNESS.get(breaker, 1.0)
        for key, gauge in self._of_stage.items():
            gauge.labels(stage).set(values[key])
        # a rate over a series that does not exist yet would be nothing instead of 0, and an alert on it silent
        self._commits.labels(stage)
        self._lost.labels(stage)
        self._position_resets.labels(stage)

    def lag(self, stage: str, lag: Mapping[int, int]) -> None:
        """Note how many records of each assigned partition are not committed; of any other nothing is reported any more.

        To be called from one thread for each stage.
        """
        before = self._lag_of.get(stage, frozenset())
        for partition in before - lag.keys():
            self._lag.remove(stage, partition)  # its new owner reports it
        for partition, count in lag.items():
            self._lag.labels(stage, partition).set(count)
        self._lag_of[stage] = frozenset(lag)

    def held(self, stage: str, records: Mapping[str, int]) -> None:
        """Note how many records wait although nothing failed, by code; to be called from one thread for each stage."""
        codes = {_code(code): count for code, count in records.items()}
        before = self._held_by.get(stage, frozenset())
        for code in before | codes.keys():
            # 0 and not gone: a scrape between two calls would find nothing held
            self._held.labels(stage, code).set(codes.get(code, 0))
        self._held_by[stage] = before | codes.keys()

    def ended(self, stage: str) -> None:
        """Report no more how a stage is doing that has ended, while others go on; what was counted stays."""
        self.lag(stage, {})
        for code in self._held_by.pop(stage, ()):
            self._held.remove(stage, code)
        for gauge in self._of_stage.values():
            with contextlib.suppress(KeyError):  # it may have ended before its first report
                gauge.remove(stage)

    def limit(self, name: str, most: int, used: Callable[[], float]) -> None:
        """Report a limit; `used` is called at each scrape and returns how much of it is used."""
        self._limited.labels(name).set_function(used)
        self._limited_max.labels(name).set(most)

    def exposition(self, problems: Mapping[str, str] | None = None) -> bytes:
        """Return all values in Prometheus' text format.

        `problems` are the codes of what `/ready` names, by component; None leaves what was known of them.
        """
        with self._scraping:
            if problems is not None:
                self._ready.set(not problems)
                self._problems.clear()
                for component, code in problems.items():
                    self._problems.labels(component, _code(code)).set(1)
            return generate_latest(self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        full = self._declare(name, "counter", meaning, labels)
        return Counter(full, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        full = self._declare(name, "gauge", meaning, labels)
        return Gauge(full, meaning, labels, registry=self._registry)

    def _histogram(
        self, name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _BUCKETS_S
    ) -> Histogram:
        full = self._declare(name, "histogram", meaning, labels)
        return Histogram(full, meaning, labels, registry=self._registry, buckets=buckets)

    def _declare(self, name: str, kind: str, meaning: str, labels: tuple[str, ...]) -> str:
        self.declared.append(Declared(f"{PREFIX}_{name}", kind, labels, meaning))
        return self.declared[-1].name


class _Registry(CollectorRegistry):
    """A registry without `_created` samples: in the text format each would be one more metric."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family


def _code(text: str) -> str:
    """Return `text` when it has the form of a code: a sentence or an address must never become a label."""
    return text if _CODE.fullmatch(text) else OTHER
