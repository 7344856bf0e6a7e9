"""What one event costs the processor on its way from bytes to what is published about it, step by step.

`python -m bench.cpu` takes the users of `tests/events` through the shipped schemas and the shipped mapping, without any
network. Times are of the processor, so that other work on the machine counts little.
"""

import argparse
import gc
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import starmap
from pathlib import Path
from typing import TypeVar

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import Invitation, Message, Record, Result, UserEvent
from keycloak_bridge.domain.operations import Plan, RequestInvitation
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.events.decode import decode
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.messages.results import result_message, result_of
from keycloak_bridge.ops.logs import configure_logging, log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.planning.plan import plan_user
from keycloak_bridge.settings.model import Settings

EVENTS = Path(__file__).parents[1] / "tests" / "events" / "user-created-2000.ndjson"
_NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
_KEYCLOAK_ID = "5f0c6c6e-3b0e-4b53-9c3c-0f2f3a8f7b11"
Given = TypeVar("Given")
Made = TypeVar("Made")
_logger = logging.getLogger("keycloak_bridge.delivery.results")


@dataclass(frozen=True, slots=True)
class Planned:
    """One event that is ready to be carried out, with the news of it."""

    record: Record
    event: UserEvent
    desired: DesiredUser
    plan: Plan
    result: Result


def measure(rounds: int) -> dict[str, list[float]]:
    """Return for each step the processor's µs per event, one number a round."""
    interpretation = Interpretation(Settings())
    interpretation.check()
    records = _records()
    metrics = Metrics()
    found: dict[str, list[float]] = {}
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure_logging(log_format="json", stream=nowhere)
        for turn in range(rounds + 1):  # the first only fills caches
            for step, cost_us in _round(records, interpretation, metrics):
                found.setdefault(step, []).extend([cost_us] if turn else [])
    return found


def _round(
    records: Sequence[Record], interpretation: Interpretation, metrics: Metrics
) -> Iterator[tuple[str, float]]:
    """Take all records through each step, and yield what the step cost."""
    rules, catalog, mappings = (
        interpretation.rules,
        interpretation.catalog,
        interpretation.mapping,
    )
    decoded, cost = _timed(lambda record: decode(record, rules), records)
    yield "decode", cost
    events, cost = _timed(catalog.validate, decoded)
    yield "validate", cost
    wanted, cost = _timed(mappings.apply, events)
    yield "map", cost
    desired = [one for one in wanted if isinstance(one, DesiredUser)]
    pairs = list(zip(events, desired, strict=True))
    plans, cost = _timed(lambda pair: plan_user(*pair, None), pairs)
    yield "plan", cost
    mapping = mappings.serving(events[0]).fingerprint
    results, cost = _timed(
        lambda one: _result(*one, mapping), list(zip(events, plans, strict=True))
    )
    yield "result", cost
    planned = list(starmap(Planned, zip(records, events, desired, plans, results, strict=True)))
    yield "messages", _timed(_messages, planned)[1]
    yield "log line", _timed(_log, planned)[1]
    yield "metrics", _timed(lambda one: _count(one, metrics), planned)[1]


def _timed(step: Callable[[Given], Made], given: Sequence[Given]) -> tuple[list[Made], float]:
    """Return what `step` makes of each, and the µs of processor that one took."""
    gc.collect()
    begun_ns = time.process_time_ns()
    made = [step(one) for one in given]
    return made, (time.process_time_ns() - begun_ns) / len(given) / 1000


def _result(event: UserEvent, plan: Plan, mapping: str) -> Result:
    return replace(result_of(event, plan, _KEYCLOAK_ID), mapping=mapping)


def _messages(one: Planned) -> tuple[Message, ...]:
    """Return the invitation and the news of it, as the stage publishes them."""
    invitations = (
        invitation_message(
            Invitation(
                id=f"{one.event.id}/invitation",
                event_id=one.event.id,
                user_id=one.desired.external_id.value,
                keycloak_id=_KEYCLOAK_ID,
                terms=operation.terms,
                time=_NOW,
                purpose=operation.purpose,
            ),
            topic="user-invitations",
        )
        for operation in one.plan.operations
        if isinstance(operation, RequestInvitation)
    )
    news = result_message(one.result, topic="user-results", time=_NOW, origin=one.record)
    return (*invitations, news)


def _log(one: Planned) -> None:
    """Write the one line of a record, as the outlets write it."""
    result = one.result
    log_event(
        _logger,
        result.outcome.value,
        topic=one.record.topic,
        partition=one.record.partition,
        offset=one.record.offset,
        event_id=result.event_id,
        event_type=result.event_type,
        user_id=result.user_id,
        keycloak_id=result.keycloak_id,
        operation=result.action,
        reason=result.reason,
        duration_ms=12.3,
    )


def _count(one: Planned, metrics: Metrics) -> None:
    metrics.handled("provision", one.result.outcome.value, one.result.reason, 0.0123)


def _records() -> list[Record]:
    lines = EVENTS.read_bytes().splitlines()
    return [
        Record("user-events", 0, offset, 1_790_000_000_000, _key(line), line)
        for offset, line in enumerate(lines)
    ]


def _key(line: bytes) -> bytes:
    return line.partition(b'"subject":"')[2].partition(b'"')[0]


def _table(found: dict[str, list[float]]) -> Iterator[str]:
    total = [sum(costs) for costs in zip(*found.values(), strict=True)]
    yield f"{'step':<10} {'median':>8} {'least':>8} {'most':>8}   µs of processor per event"
    for step, costs in {**found, "all": total}.items():
        yield f"{step:<10} {statistics.median(costs):8.1f} {min(costs):8.1f} {max(costs):8.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.cpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each step is timed")
    for line in _table(measure(parser.parse_args().rounds)):
        click.echo(line)


if __name__ == "__main__":
    main()
