"""`keycloak-bridge reconcile`: a whole population against the realm."""

from dataclasses import replace
from functools import partial
from typing import Any

import click

from keycloak_bridge.app.connections import all_users, user_directory
from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.cli.common import CHANGES, Invocation, bridge_command, format_option
from keycloak_bridge.cli.console import Report, with_progress
from keycloak_bridge.cli.event_sources import EventLog, event_log_options, read_population
from keycloak_bridge.cli.plan import comparison_row
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import BridgeError, HoldError
from keycloak_bridge.domain.events import USER_CREATED
from keycloak_bridge.population.population import Population
from keycloak_bridge.population.reconciliation import (
    Comparison,
    Finding,
    Reconciliation,
    bridged_users,
    orphans_among,
)
from keycloak_bridge.population.snapshot import users_to_plan_with

_EMPTY = "the population is empty"


@bridge_command(
    "keycloak-bridge reconcile --from-topic",
    "keycloak-bridge reconcile --orphans report users.csv",
    "keycloak-bridge reconcile --apply --orphans disable users.csv",
)
@event_log_options
@click.option("--type", "event_type", default=USER_CREATED, show_default=True, help="Event type whose data the rows of a CSV file are.")  # fmt: skip
@click.option("--orphans", type=click.Choice(["ignore", "report", "disable"]), default="ignore", show_default=True, help="What to do with users of the realm that have an id in user management and no event in the population.")  # fmt: skip
@click.option("--apply", "repairs", is_flag=True, help="Repair what differs. Without it nothing is written.")  # fmt: skip
@click.option("--invite", is_flag=True, help="With --apply, send the mails that are due.")
@format_option("one object for each row")
@click.option("--summary-only", is_flag=True, help="Print the totals only.")
@click.option(
    "--exit-code",
    "detailed_exit_code",
    is_flag=True,
    help=f"Exit {CHANGES} when something differs.",
)
def reconcile(
    invocation: Invocation,
    log: EventLog,
    event_type: str,
    orphans: str,
    repairs: bool,
    invite: bool,
    output: str,
    summary_only: bool,
    detailed_exit_code: bool,
) -> int:
    """Compare a whole population with the realm: list the users that are missing, differ or are orphaned.

    The population is the combined result of the events of a topic or of files, user by user. A FILE that ends in .csv has
    a header and one user in each row; its columns are named as the properties of the event's data
    (attributes.costCenter for a nested one), lists are written a;b. With --format json the last line is an object with
    the totals.

    Nothing is written without --apply. With it, what differs is written as `run` would do it, under the same limits: one
    that is reached stops the command with exit code 3, and what was written stays.

    Exit code 1 when an event was refused, or a user is in conflict with one that it does not own.
    """
    if orphans != "ignore" and (log.since is not None or log.until is not None):
        raise click.UsageError(
            "--orphans needs the whole population: leave out --since and --until"
        )
    if invite and not repairs:
        raise click.UsageError("--invite goes with --apply")
    if not invite:
        invocation = invocation.overriding("invite.mode=none")
    interpretation = invocation.interpretation(keycloak=True)
    settings, mappings = interpretation.settings, interpretation.mapping
    population = Population(interpretation)
    brake = Brake(0, 0, 1)
    provisioner = direct_provisioner(interpretation, brake=brake, mails=invite, writes=repairs)
    repairer = provisioner if repairs else None
    report = Report(output, summary_only=summary_only)
    # before the events: the event of a user that is created meanwhile may come too late to be read
    bridged = (
        []
        if orphans == "ignore"
        else list(bridged_users(all_users(settings), mappings.external_id))
    )
    log = replace(log, whole=orphans != "ignore")
    for place, row in read_population(log, population, interpretation, event_type):
        report.add(row, place)
    report.totals["ignored"] += population.ignored
    try:
        users = users_to_plan_with(
            settings,
            population,
            mappings.external_id,
            partial(with_progress, "listing the realm"),
        )
        planner = direct_provisioner(interpretation, directory=users)
        reconciliation = Reconciliation(planner, users, repairer)
        compared = reconciliation.compare_all(population, settings.delivery.workers)
        for one in with_progress("comparing", compared, len(population)):
            report.add(_row(one), prints=one.finding is not Finding.AGREES)
        if orphans != "ignore":
            listed = orphans_among(bridged, population, to_disable=orphans == "disable")
            if orphans == "disable":
                disabling = Reconciliation(provisioner, user_directory(settings), repairer)
                compared = disabling.disable_orphans(
                    listed,
                    mappings,
                    settings.delivery.workers,
                    ends_sessions=settings.lifecycle.end_sessions,
                )
            else:
                compared = (Comparison(one, Finding.ORPHANED, known_as) for one, known_as in listed)
            for one in compared:
                report.add(_row(one), prints=one.finding is not Finding.AGREES)
    except BridgeError as error:
        report.print_totals(writes=True, if_empty=_EMPTY)
        if isinstance(error, HoldError):
            raise _stopped(error, brake.reason) from error
        raise
    report.print_totals(writes=True, if_empty=_EMPTY)
    return report.exit_code(detailed_exit_code=detailed_exit_code)


def _row(compared: Comparison) -> dict[str, Any]:
    named = {"user": compared.user_id, "keycloakId": compared.keycloak_id}
    return {**named, **comparison_row(compared, compared.finding.value)}


def _stopped(error: HoldError, reason: str | None) -> BridgeError:
    raises_limit = ", and --set limits.… raises the limit" if reason else ""
    return BridgeError(
        f"stopped before the end: {reason or error.message}",
        code=error.code,
        remedy=f"look at what was written; the same command continues with the rest{raises_limit}",
    )
