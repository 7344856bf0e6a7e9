"""`keycloak-bridge log`: what became of events, from the results topic."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from keycloak_bridge.cli.common import (
    Invocation,
    bridge_command,
    format_option,
    moment,
    options,
    report,
    shown_time,
    utc_option,
)
from keycloak_bridge.cli.console import Console, cell, in_batches, with_progress
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import USER_EVENTS, Outcome
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.messages.recommended_actions import RECOMMENDED_ACTIONS
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.outcome_log.log import MOST, OutcomeFilter, OutcomeLog

_HEADERS = ("time", "outcome", "user", "event", "type", "record")
_RETRY_S = 2.0
_BATCH = 1000

_Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _one_of(names: Mapping[str, Any] | tuple[str, ...]) -> _Completion:
    """Return what completes an option that takes any text to one of `names`."""

    def complete(_ctx: click.Context, _of: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in sorted(names) if name.startswith(begun)]

    return complete


_filter_options = options(
    click.option("--user", "users", multiple=True, help="The user's id in user management; may be repeated."),
    click.option("--event", "events", multiple=True, help="Id of the event; may be repeated."),
    click.option("--outcome", "outcomes", multiple=True, type=click.Choice([one.value for one in Outcome]), help="What became of it; may be repeated."),
    click.option("--code", "codes", multiple=True, shell_complete=_one_of(RECOMMENDED_ACTIONS), help="Reason code; may be repeated."),
    click.option("--type", "types", multiple=True, shell_complete=_one_of(USER_EVENTS), help="Type of the event; may be repeated."),
    click.option("--since", type=moment, metavar="TIME", help='At this time or later: ISO 8601 (UTC without an offset), or an age such as "2 hours".'),
    click.option("--until", type=moment, metavar="TIME", help="Before this time or age."),
)  # fmt: skip


@bridge_command(
    "keycloak-bridge log",
    "keycloak-bridge log --outcome rejected --outcome skipped --follow",
    'keycloak-bridge log --since "2 hours" --limit 0 --format json',
)
@_filter_options
@click.option("-n", "--limit", type=click.IntRange(0, MOST), default=50, show_default=True, metavar="N", help="How many of the newest to show; 0 shows all.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@utc_option
@format_option("one object for each outcome")
def log(
    invocation: Invocation, /, limit: int, follow: bool, utc: bool, output: str, **filters: Any
) -> None:
    """Show what became of events, the newest last: ids and codes, no personal data.

    It is read from the results topic, so it shows what all sidecars did, as far back as that topic goes. Different options
    are all met, one of the values of a repeated option is enough.
    """
    settings = invocation.settings()
    values: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, tuple) else value
        for name, value in filters.items()
    }
    chosen = OutcomeFilter(**values)
    console = Console()
    show = _printing(console, output, utc=utc)
    watched = partial(with_progress, "reading results")
    reader = OutcomeLog(settings.kafka, settings.topics.results, watched=watched)
    with contextlib.closing(reader) as outcomes:
        printed = 0
        for found in (
            [outcomes.newest(limit, chosen)] if limit else in_batches(outcomes.read(chosen), _BATCH)
        ):
            printed += len(found)
            show(found)
        if outcomes.foreign:
            click.echo(f"{outcomes.foreign} records of the topic are no results of the bridge", err=True)  # fmt: skip
        if follow:
            _follow(outcomes, chosen, show)
    if printed and printed == limit:
        click.echo(f"these are the newest {limit}; --limit 0 shows all", err=True)
    if not printed and output == "text":
        console.line("the results topic has no such outcome")


def _printing(
    console: Console, output: str, *, utc: bool
) -> Callable[[Sequence[PastOutcome]], None]:
    """Return a function that prints outcomes."""
    add = console.stream(_HEADERS)

    def show(outcomes: Sequence[PastOutcome]) -> None:
        if output == "json":
            for one in outcomes:
                console.json(_as_object(one), indent=None)
        elif outcomes:
            add([_row(one, utc=utc) for one in outcomes])

    return show


def _follow(
    outcomes: OutcomeLog, chosen: OutcomeFilter, show: Callable[[Sequence[PastOutcome]], None]
) -> None:
    """Show what comes, for ever; say on standard error that Kafka is away, and wait until it is back."""
    while True:
        try:
            for one in outcomes.follow(chosen):
                show([] if one is None else [one])
                sys.stdout.flush()
        except BrokerUnavailableError as error:
            report(error)
            time.sleep(_RETRY_S)


def _row(one: PastOutcome, *, utc: bool) -> tuple[str, ...]:
    what = " ".join(filter(None, (one.outcome, one.action, one.reason)))
    ids = (one.user_id, one.event_id, one.event_type, one.origin)
    return (shown_time(one.time, utc=utc), what, *map(cell, ids))


def _as_object(one: PastOutcome) -> dict[str, Any]:
    return {
        "time": None if one.time is None else format_time(one.time),
        "outcome": one.outcome,
        "action": one.action,
        "reason": one.reason,
        "eventId": one.event_id,
        "eventType": one.event_type,
        "userId": one.user_id,
        "keycloakId": one.keycloak_id,
        "schemaId": one.schema_id,
        "changed": list(one.changed),
        "mapping": one.mapping,
        "record": one.origin,
        "id": one.id,
    }
