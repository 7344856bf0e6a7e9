"""How the rate grows with the number of sidecars in one consumer group: `python -m bench.scaleout`.

A stub answers in Keycloak's place after 10 ms (`bench.stub_keycloak`), so that what is measured is the bridge and Kafka's
groups. The events are in Kafka before the sidecars start, so many for each sidecar that all runs take as long, and longer
by far than a group takes to share its partitions: the rate counts from 20 percent of the events on. Two series:
few workers, where a sidecar waits for answers and uses little CPU; and the default of workers, where the cores end. What
the cores allow is told beside the rate: as many events as all cores have CPU for, by what an event took all processes in
that run, and no more than N times the rate of one. On a busy machine the cores end before: the last column of the table
says what a call really took a client that does nothing else. `--write` renews the table of docs/scaling.md.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from typing import Any

import click
import requests
from kafka import KafkaConsumer, TopicPartition

from bench.figures import spread
from bench.goals import SIDECARS
from bench.machine import machine
from bench.publish import LATEST, ROOT, renew
from bench.samples import FROM, TO, StandstillError, follow, level, moment, steady_rate
from bench.stubbed import (
    Service,
    create_topics,
    delete,
    ends,
    environment,
    flood,
    kafka,
    running,
    stub,
)

PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- scaleout:begin -->\n", "<!-- scaleout:end -->\n"
_PARTITIONS, _DELAY_MS, _FEW = 12, 10.0, 2
_HTTP_S = 10.0
_PAUSE_S = 0.05
_HEAD = (
    "| workers each | sidecars | events/s | of one | the cores allow | CPU: each sidecar | Kafka | stub | all "
    "| one call |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs share."""

    folder: str
    kafka: Service
    stub: Service
    partitions: int
    delay_ms: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run: so many sidecars with so many workers, its steady rate, and cores that each process used meanwhile.

    `call_ms` is the median time that one call took a client beside the sidecars; on cores that are not full it is little
    more than the stub's delay.
    """

    round: int
    workers: int
    sidecars: int
    rate: float
    cores: Mapping[str, float]
    call_ms: float
    problem: str | None = None


def measure(ground: Ground, number: int, workers: int, sidecars: int, events: int) -> Run:
    """Return one run; `events` are for each of the sidecars."""
    suffix, total = uuid.uuid4().hex[:8], events * sidecars
    more = {"DELIVERY_WORKERS": str(workers), "BURST_MODE": "off"}
    settings = environment(
        ground.kafka.address, ground.stub.address, suffix, ground.partitions, **more
    )
    create_topics(settings, ground.folder)
    try:
        flood(ground.kafka.address, f"events-{suffix}", suffix, total)
        _ask(ground.stub, "POST", "reset")
        with (
            ends(ground.kafka.address, f"results-{suffix}", ground.partitions) as done,
            running(settings, ground.folder, sidecars) as bridges,
        ):
            pids = {f"sidecar {number}": one.pid for number, one in enumerate(bridges, 1)}
            others = {"kafka": ground.kafka.pid, "stub": ground.stub.pid}
            all_pids = pids | {name: pid for name, pid in others.items() if pid is not None}
            with _calling(ground.stub) as calls_ms:
                samples = follow(done, total, all_pids)
        rate = steady_rate(samples.at_s, samples.users, total)
        used = {
            name: cores_used(samples.at_s, samples.users, cpu_s, total)
            for name, cpu_s in samples.cpu_s.items()
        }
        problem = _problem(ground, f"results-{suffix}", total)
        return Run(number, workers, sidecars, rate, used, statistics.median(calls_ms), problem)
    except (StandstillError, OSError) as error:
        return Run(number, workers, sidecars, 0.0, {}, 0.0, f"{type(error).__name__}: {error}")
    finally:
        delete(ground.kafka.address, suffix)


@contextlib.contextmanager
def _calling(stub: Service) -> Iterator[list[float]]:
    """Call the stub now and then meanwhile; lend the list of what each call took, in ms."""
    took_ms: list[float] = []
    over = threading.Event()

    def call() -> None:
        connection = HTTPConnection(stub.address.removeprefix("http://"), timeout=_HTTP_S)
        while not over.wait(_PAUSE_S):
            begin = time.perf_counter()
            connection.request("GET", "/admin/realms/acme/users/count")
            connection.getresponse().read()
            took_ms.append(1000 * (time.perf_counter() - begin))
        connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield took_ms
    finally:
        over.set()
        thread.join()


def _problem(ground: Ground, topic: str, total: int) -> str | None:
    """Return what is wrong with the results, or with what the stub was asked for."""
    created = _ask(ground.stub, "GET", "tally").get("POST /users", 0)
    if created != total:
        return f"{created} users were posted for {total} events"
    return doubt(_values(ground, topic, total), total)


def _values(ground: Ground, topic: str, total: int) -> list[bytes]:
    """Return the values of all records of a topic."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=ground.kafka.address,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        places = [TopicPartition(topic, number) for number in range(ground.partitions)]
        consumer.assign(places)
        found: list[bytes] = []
        while len(found) < total:
            polled = consumer.poll(timeout_ms=5000)
            if not polled:
                break
            found.extend(one.value for records in polled.values() for one in records)
        return found
    finally:
        consumer.close()


def _ask(stub: Service, method: str, path: str) -> dict[str, int]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, f"{stub.address}/stub/{path}", timeout=_HTTP_S)
        found: dict[str, int] = answer.json()
        return found


def three_of_one(broker: Service, number: int, events: int) -> dict[str, object]:
    """Return the runs of one and three sidecars with two workers each, and how the rates compare: 1 is linear."""
    with (
        tempfile.TemporaryDirectory() as folder,
        stub(folder, "--delay-ms", str(_DELAY_MS)) as stand_in,
    ):
        ground = Ground(folder, broker, stand_in, _PARTITIONS, _DELAY_MS)
        runs = list(rounds(ground, number, {_FEW: events}, (1, 3)))
    found = ratios(runs, _FEW, 3)
    return {"runs": [asdict(one) for one in runs]} | ({"ratio": spread(found)} if found else {})


def rounds(
    ground: Ground, number: int, series: Mapping[int, int], counts: Sequence[int] = (1, 2, 3)
) -> Iterator[Run]:
    """Yield the runs of all rounds, every other one backwards; `series` are the events for each number of workers."""
    kinds = [(workers, sidecars) for workers in series for sidecars in counts]
    for turn in range(1, number + 1):
        for workers, sidecars in kinds if turn % 2 else reversed(kinds):
            yield measure(ground, turn, workers, sidecars, series[workers])


def cores_used(
    at_s: Sequence[float], done: Sequence[int], cpu_s: Sequence[float], total: int
) -> float:
    """Return how many cores one process used while the rate was steady; 1.0 is one core all the time."""
    begin, end = moment(at_s, done, FROM * total), moment(at_s, done, TO * total)
    return (level(at_s, cpu_s, end) - level(at_s, cpu_s, begin)) / (end - begin)


def ratios(runs: Sequence[Run], workers: int, sidecars: int) -> list[float]:
    """Return rate(N) / (N × rate(1)), each within a round."""
    alone = {one.round: one.rate for one in _good(runs, workers, 1)}
    return [
        one.rate / (sidecars * alone[one.round])
        for one in _good(runs, workers, sidecars)
        if one.round in alone
    ]


def allowed(runs: Sequence[Run], workers: int, sidecars: int, cores: int) -> float:
    """Return how many times the rate of one the sidecars could reach if all `cores` were theirs, Kafka's and the stub's.

    Both are medians. It is no more than the number of sidecars.
    """
    alone = statistics.median(one.rate for one in _good(runs, workers, 1))
    possible = statistics.median(
        cores * one.rate / sum(one.cores.values()) for one in _good(runs, workers, sidecars)
    )
    return min(float(sidecars), possible / alone)


def doubt(values: Iterable[bytes], expected: int) -> str | None:
    """Return what is wrong with the results of `expected` events of as many users, None when each has exactly one."""
    told = [json.loads(value)["data"] for value in values]
    if len(told) != expected:
        return f"{len(told)} results of {expected} events"
    for name in ("eventId", "userId", "keycloakId"):
        distinct = len({one.get(name) for one in told})
        if distinct != expected:
            return f"{distinct} different {name} in {expected} results"
    others = sum(one["outcome"] != "provisioned" for one in told)
    return f"{others} of {expected} events were not provisioned" if others else None


def table(runs: Sequence[Run], cores: int) -> str:
    """Return the table of medians in Markdown; a run with a problem counts for nothing and is told below it."""
    kinds = sorted({(one.workers, one.sidecars) for one in runs})
    rows = "".join(_row(runs, *kind, cores) for kind in kinds if _good(runs, *kind))
    return _HEAD + rows + "".join(_problems(runs))


def _row(runs: Sequence[Run], workers: int, sidecars: int, cores: int) -> str:
    good = _good(runs, workers, sidecars)
    rates = [one.rate for one in good]
    share = statistics.median(ratios(runs, workers, sidecars) or [float("nan")])
    possible = allowed(runs, workers, sidecars, cores) if _good(runs, workers, 1) else float("nan")
    used = {name: statistics.median(one.cores[name] for one in good) for name in good[0].cores}
    each = [value for name, value in used.items() if name.startswith("sidecar")]
    used_by_all = statistics.median(sum(one.cores.values()) for one in good)
    cells = (
        str(workers),
        str(sidecars),
        f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})",
        "1" if sidecars == 1 else f"{sidecars * share:.2f}",
        "1" if sidecars == 1 else f"{possible:.2f}",
        " + ".join(_percent(value) for value in each),
        _percent(used.get("kafka")),
        _percent(used.get("stub")),
        f"{_percent(used_by_all)} of {cores * 100} %",
        f"{statistics.median(one.call_ms for one in good):.1f} ms",
    )
    return f"| {' | '.join(cells)} |\n"


def _problems(runs: Sequence[Run]) -> Iterator[str]:
    for one in runs:
        if one.problem is not None:
            yield f"\nRound {one.round}, {one.sidecars} sidecars of {one.workers} workers: {one.problem}\n"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _good(runs: Sequence[Run], workers: int, sidecars: int) -> list[Run]:
    return [
        one
        for one in runs
        if (one.workers, one.sidecars) == (workers, sidecars) and one.problem is None
    ]


def verdicts(runs: Sequence[Run], cores: int) -> Iterator[str]:
    """Yield for each number of workers whether three sidecars reach the goal, where the cores allow it."""
    for workers in sorted({one.workers for one in runs}):
        shares = ratios(runs, workers, 3)
        if not shares:
            continue
        reached, possible = 3 * statistics.median(shares), allowed(runs, workers, 3, cores)
        if reached >= SIDECARS:
            words = "the goal is met"
        elif possible >= SIDECARS:
            words = "the goal is **missed**"
        else:
            words = "these cores do not allow the goal"
        yield (
            f"With {workers} workers each, three sidecars reach {reached:.2f} of one, and {cores} cores allow {possible:.2f} "
            f"(goal: {SIDECARS:g}): {words}."
        )


def page(runs: list[Run], partitions: int, delay_ms: float) -> str:
    """Return the part of docs/scaling.md."""
    where = machine()
    times, cores = max(one.round for one in runs), int(str(where["cores"]))
    return (
        f"{table(runs, cores)}\n" + "".join(f"{line}  \n" for line in verdicts(runs, cores)) + "\n"
        f"{where['cores']} cores ({where['cpu']}), Python {where['python']}, Kafka {where['kafka']}; {partitions} "
        f"partitions, answers after {delay_ms:g} ms, medians of {times} rounds (least–greatest).\n"
    )


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaleout", description=__doc__)
    parser.add_argument("--bootstrap", help="a running Kafka; else the sandbox's is started")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=_PARTITIONS, help="best a multiple of 6")
    parser.add_argument("--delay-ms", type=float, default=_DELAY_MS, help="how long the stub takes")
    parser.add_argument("--few", type=int, default=_FEW, help="workers of the first series")
    parser.add_argument("--few-events", type=int, default=5000, help="for each of its sidecars")
    parser.add_argument("--many", type=int, default=16, help="workers of the second series")
    parser.add_argument("--many-events", type=int, default=20_000, help="for each of its sidecars")
    parser.add_argument("--write", action="store_true", help="renew docs/scaling.md")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table and keep the raw figures; events of 0 leave a series out."""
    chosen = _chosen()
    series = {chosen.few: chosen.few_events, chosen.many: chosen.many_events}
    wanted = {workers: events for workers, events in series.items() if events}
    runs: list[Run] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = (
            Service(chosen.bootstrap, None) if chosen.bootstrap else stack.enter_context(kafka())
        )
        stand_in = stack.enter_context(stub(folder, "--delay-ms", str(chosen.delay_ms)))
        ground = Ground(folder, broker, stand_in, chosen.partitions, chosen.delay_ms)
        for run in rounds(ground, chosen.rounds, wanted):
            runs.append(run)
            click.echo(json.dumps(asdict(run)), err=True)
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    raw = json.dumps([asdict(one) for one in runs], indent=1) + "\n"
    LATEST.with_name("scaleout.json").write_text(raw, encoding="utf-8")
    text = page(runs, chosen.partitions, chosen.delay_ms)
    click.echo(text)
    if chosen.write:
        renew(PAGE, BEGIN, END, text)


if __name__ == "__main__":
    main()
