"""`keycloak-bridge plan`: what events would change in the realm."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import click

from keycloak_bridge.app.bridge import direct_provisioner
from keycloak_bridge.app.connections import user_directory
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    CHANGES,
    INVALID_EVENT,
    Invocation,
    examples,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console, progress_bar
from keycloak_bridge.cli.event_sources import EventLog, event_log_options, read_population
from keycloak_bridge.cli.plan_view import outcome_of, print_row, refused, totals_line
from keycloak_bridge.delivery.rate_limit import side_by_side
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.users import OutOfScope
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.population.population import Population, Standing
from keycloak_bridge.population.reconciliation import Reconciliation
from keycloak_bridge.provisioning.provisioner import Provisioner

Row = tuple[str, dict[str, Any]]
"""Where an event stands, nothing for a user, and what is told of it."""

_FAILING = frozenset(("refused", "conflict"))
_CHANGING = frozenset(("create", "update"))


@click.command(
    epilog=examples(
        "keycloak-bridge --config bridge.toml plan event.json",
        'keycloak-bridge plan --from-topic --since "1 day" --summary-only',
        "keycloak-bridge plan --fold --exit-code events.ndjson",
    ),
)
@event_log_options
@click.option("--fold", is_flag=True, help="Plan what the events of each user come to in the end, not each by itself. A topic is always folded.")  # fmt: skip
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--summary-only", is_flag=True, help="Print the totals only.")
@click.option(
    "--exit-code", "tells_changes", is_flag=True, help=f"Exit {CHANGES} when there are changes."
)
@settings_options
@pass_invocation
def plan(
    invocation: Invocation,
    log: EventLog,
    fold: bool,
    output: str,
    summary_only: bool,
    tells_changes: bool,
) -> int:
    """Show what events would change in the realm, attribute by attribute; write nothing.

    A FILE holds one event, a JSON array of events or one event a line (NDJSON); - is standard input. Each event of a file
    is compared with the realm as it is now, not with what the events before it would make of it.

    With --fold or --from-topic the events of each user are folded first, and there is one row a user, besides one for each
    event that would be refused; with --format json the last line is an object with the totals.

    Exit code 1 when an event would be refused, or a user is in conflict with one that it does not own.
    """
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    interpretation = Interpretation(settings)
    interpretation.check()
    provisioner = direct_provisioner(interpretation)
    fold = fold or log.is_topic
    console = Console()
    totals: Counter[str] = Counter()
    rows = (_folded if fold else _single)(log, interpretation, provisioner, totals)
    for place, told in rows:
        totals[told["outcome"]] += 1
        if summary_only:
            continue
        if output == "json":
            console.json({"place": place, **told} if place else told, indent=None)
        else:
            print_row(console, place, told)
    _print_totals(console, totals, output, fold=fold, summary_only=summary_only)
    if any(totals[outcome] for outcome in _FAILING):
        return INVALID_EVENT
    return CHANGES if tells_changes and any(totals[outcome] for outcome in _CHANGING) else 0


def _print_totals(
    console: Console, totals: Mapping[str, int], output: str, *, fold: bool, summary_only: bool
) -> None:
    """Print the totals, for programs only where they asked for them."""
    if output == "json":
        if fold or summary_only:
            console.json({"totals": dict(sorted(totals.items()))}, indent=None)
        return
    counted = sum(totals.values())
    if counted > 1 or summary_only:
        if not summary_only:
            console.line()
        console.line(totals_line(totals) or "nothing to plan")


def _single(
    log: EventLog, interpretation: Interpretation, provisioner: Provisioner, _: Counter[str]
) -> Iterator[Row]:
    """Yield what would become of each event; only what keeps every event from being planned is raised."""
    with log.opened(interpretation.settings) as (records, _advance):
        for record in records:
            try:
                told = _planned(interpretation.read(record), provisioner)
            except BridgeError as error:
                if not error.is_final:
                    raise
                told = refused(error)
            yield log.place(record), told


def _folded(
    log: EventLog,
    interpretation: Interpretation,
    provisioner: Provisioner,
    totals: Counter[str],
) -> Iterator[Row]:
    """Yield each event that would be refused, then what the others come to for each user."""
    population = Population()
    yield from read_population(log, population, interpretation)
    if population.ignored:
        totals["ignored"] = population.ignored
    settings = interpretation.settings
    reconciliation = Reconciliation(provisioner, user_directory(settings))
    ask = partial(_planned_user, reconciliation=reconciliation)
    with progress_bar("planning", len(population)) as advance:
        for told in side_by_side(ask, population, settings.delivery.workers):
            advance(1)
            yield "", told


def _planned(reading: Prepared | Skipped, provisioner: Provisioner) -> dict[str, Any]:
    """Return what would become of an event; raises BridgeError."""
    event = reading.event
    told: dict[str, Any] = {"event": event and event.id, "user": event and event.subject}
    if isinstance(reading, Skipped):
        return {**told, "outcome": "ignored", "reason": reading.reason}
    desired = reading.desired
    if isinstance(desired, OutOfScope):
        return {**told, "outcome": "skip", "reason": "out-of-scope"}
    found, planned = provisioner.plan(reading.event, desired)
    return {
        **told,
        "user": desired.external_id.value,
        "keycloakId": None if found is None else found.user_id,
        **outcome_of(planned),
    }


def _planned_user(standing: Standing, reconciliation: Reconciliation) -> dict[str, Any]:
    """Return what would become of a user; raises only what keeps every user from being planned."""
    compared = reconciliation.settle(standing)
    told: dict[str, Any] = {
        "user": compared.user_id,
        "event": standing.folded.event.id,
        "events": standing.events,
    }
    if compared.error is not None:
        told |= {**refused(compared.error), "outcome": compared.finding.value}
    if compared.plan is None:
        return told
    return {**told, "keycloakId": compared.keycloak_id, **outcome_of(compared.plan)}
