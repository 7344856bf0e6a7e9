"""`keycloak-bridge plan`: what events would change in the realm."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.cli.common import CHANGES, Invocation, bridge_command, format_option
from keycloak_bridge.cli.console import Report, changes_of, refused, with_progress
from keycloak_bridge.cli.event_sources import EventLog, Row, event_log_options, read_population
from keycloak_bridge.domain.events import Record
from keycloak_bridge.pipeline.preview import Preview, outcome_of, preview
from keycloak_bridge.population.population import Population, PopulationUser
from keycloak_bridge.population.reconciliation import Comparison, Reconciliation
from keycloak_bridge.population.side_by_side import side_by_side
from keycloak_bridge.population.snapshot import users_to_plan_with
from keycloak_bridge.provisioning.provisioner import Provisioner


@bridge_command(
    "keycloak-bridge --config bridge.toml plan event.json",
    'keycloak-bridge plan --from-topic --since "1 day" --summary-only',
    "keycloak-bridge plan --fold --exit-code events.ndjson",
)
@event_log_options
@click.option("--fold", is_flag=True, help="Plan the combined result of all events of each user, not each event. A topic is always folded.")  # fmt: skip
@format_option("one object for each row")
@click.option("--summary-only", is_flag=True, help="Print the totals only.")
@click.option(
    "--exit-code",
    "detailed_exit_code",
    is_flag=True,
    help=f"Exit {CHANGES} when there are changes.",
)
def plan(
    invocation: Invocation,
    log: EventLog,
    fold: bool,
    output: str,
    summary_only: bool,
    detailed_exit_code: bool,
) -> int:
    """Show what events would change in the realm, attribute by attribute; write nothing.

    A FILE contains one event, a JSON array of events or one event a line (NDJSON); - is standard input. Each event of a file
    is compared with the realm as it is now, not with what earlier events of the file would make of it.

    With --fold or --from-topic the events of each user are folded first, and there is one row for each user and for each
    event that would be refused; with --format json the last line is an object with the totals.

    Exit code 1 when an event would be refused, or a user is in conflict with one that it does not own.
    """
    interpretation = invocation.interpretation(keycloak=True)
    provisioner = direct_provisioner(interpretation)
    report = Report(output, summary_only=summary_only)
    if fold or log.is_topic:
        population = Population(interpretation)
        for place, row in _folded(log, population, interpretation):
            report.add(row, place)
        report.totals["ignored"] += population.ignored
    else:
        for place, row in _single(log, interpretation, provisioner):
            report.add(row, place)
    if summary_only or (report.totals.total() > 1 if output == "text" else fold or log.is_topic):
        if output == "text" and not summary_only:
            report.console.line()
        report.print_totals(if_empty="nothing to plan")
    return report.exit_code(detailed_exit_code=detailed_exit_code)


def _single(
    log: EventLog, interpretation: Interpretation, provisioner: Provisioner
) -> Iterator[Row]:
    def row(record: Record) -> Row:
        seen = preview(partial(interpretation.read, record), provisioner)
        return log.place(record), _event_row(seen)

    settings = interpretation.settings
    with log.opened(settings) as records:
        yield from side_by_side(row, records, settings.delivery.workers)


def _outcome_row(seen: Preview) -> dict[str, Any]:
    if seen.error is not None:
        return refused(seen.error)
    reason = {"reason": seen.reason} if seen.reason else {}
    changes = {} if seen.plan is None else {"changes": changes_of(seen.plan)}
    return {"outcome": seen.outcome.value, **reason, **changes}


def _event_row(seen: Preview) -> dict[str, Any]:
    if seen.prepared is None or seen.error is not None:
        return _outcome_row(seen)
    event = seen.prepared.event
    row: dict[str, Any] = {"event": event and event.id, "user": event and event.subject}
    if seen.plan is not None and seen.desired is not None:
        row["user"] = seen.desired.external_id.value
        row["keycloakId"] = None if seen.found is None else seen.found.user_id
    return {**row, **_outcome_row(seen)}


def _folded(
    log: EventLog,
    population: Population,
    interpretation: Interpretation,
) -> Iterator[Row]:
    yield from read_population(log, population, interpretation)
    settings = interpretation.settings
    users = users_to_plan_with(
        settings,
        population,
        interpretation.mapping.external_id,
        partial(with_progress, "listing the realm"),
    )
    planner = direct_provisioner(interpretation, directory=users)
    reconciliation = Reconciliation(planner, users)
    plan_user = partial(_user_row, reconciliation=reconciliation)
    rows = side_by_side(plan_user, population, settings.delivery.workers)
    for row in with_progress("planning", rows, len(population)):
        yield "", row


def _user_row(user: PopulationUser, reconciliation: Reconciliation) -> dict[str, Any]:
    compared = reconciliation.compare(user)
    row = {"user": compared.user_id, "event": user.folded.event.id, "events": user.events}
    if compared.plan is None:
        return {**row, **comparison_row(compared, compared.finding.value)}
    named = {"keycloakId": compared.keycloak_id}
    return {**row, **named, **comparison_row(compared, outcome_of(compared.plan).value)}


def comparison_row(compared: Comparison, outcome: str) -> dict[str, Any]:
    """Return what a row says of a user that was compared: outcome, reason, and changes or what is wrong."""
    if compared.error is not None:
        return {**refused(compared.error), "outcome": outcome}
    named = {"reason": compared.reason, "action": compared.action}
    changes = [] if compared.plan is None else changes_of(compared.plan)
    return {"outcome": outcome, **{k: v for k, v in named.items() if v}, "changes": changes}
