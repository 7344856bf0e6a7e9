"""`keycloak-bridge reconcile`: a whole population against the realm."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from keycloak_bridge.app.bridge import direct_provisioner
from keycloak_bridge.app.connections import all_users, user_directory
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
from keycloak_bridge.cli.plan_view import changes_of, print_row, totals_line
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.delivery.rate_limit import side_by_side
from keycloak_bridge.domain.errors import BridgeError, ConfigError, HoldError
from keycloak_bridge.domain.events import USER_CREATED
from keycloak_bridge.population.population import Population, Standing
from keycloak_bridge.population.reconciliation import (
    Comparison,
    Finding,
    Reconciliation,
    bridged,
    switched_off,
)

_AGREES = "agrees"
_FAILING = ("refused", "conflict")
_HANDFUL = 10
"""So many orphans may outnumber the population; a realm that small can be looked through."""
_FINDINGS = ("missing", "differing", "orphaned")


@click.command(
    epilog=examples(
        "keycloak-bridge reconcile --from-topic",
        "keycloak-bridge reconcile --orphans report users.csv",
        "keycloak-bridge reconcile --apply --orphans disable users.csv",
    ),
)
@event_log_options
@click.option("--type", "event_type", default=USER_CREATED, show_default=True, help="What the rows of a CSV file are the data of.")  # fmt: skip
@click.option("--orphans", type=click.Choice(["ignore", "report", "disable"]), default="ignore", show_default=True, help="Users of the realm with an id in user management of which the population does not speak.")  # fmt: skip
@click.option("--apply", "repairs", is_flag=True, help="Repair what differs; else nothing is written.")  # fmt: skip
@click.option("--invite", is_flag=True, help="With --apply, send the mails that are due.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--summary-only", is_flag=True, help="Print the totals only.")
@click.option(
    "--exit-code", "tells_changes", is_flag=True, help=f"Exit {CHANGES} when something differs."
)
@settings_options
@pass_invocation
def reconcile(
    invocation: Invocation,
    log: EventLog,
    event_type: str,
    orphans: str,
    repairs: bool,
    invite: bool,
    output: str,
    summary_only: bool,
    tells_changes: bool,
) -> int:
    """Compare a whole population with the realm: list the users that are missing, differ or are orphaned.

    The population is what the events of a topic or of files come to, user by user. A FILE that ends in .csv has a header
    and a user a row; its columns are named as the properties of the event's data (attributes.costCenter for one within
    another), lists are written a;b. With --format json the last line is an object with the totals.

    Nothing is written without --apply. With it, what differs is written as `run` would do it, under the same limits: one
    that is reached stops the command with exit code 3, and what was written stays.

    Exit code 1 when an event was refused, or a user is in conflict with one that it does not own.
    """
    _check(log, orphans, repairs=repairs, invite=invite)
    if not invite:
        invocation = invocation.overriding("invite.mode=none")
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    interpretation = Interpretation(settings)
    interpretation.check()
    population = Population()
    brake = Brake(0, 0, 1)
    reconciliation = Reconciliation(
        direct_provisioner(interpretation, brake=brake, mails=invite),
        user_directory(settings),
        repairs=repairs,
    )
    report = _Report(Console(), output, summary_only=summary_only)
    log = replace(log, whole=orphans != "ignore")
    # before the events: of a user that is created meanwhile, the event may come too late to be read
    users = [] if orphans == "ignore" else _bridged(interpretation)
    for place, told in read_population(log, population, interpretation, event_type):
        report.add(told, place)
    try:
        for compared in _each(reconciliation, population, settings.delivery.workers):
            report.add(_row(compared))
        if orphans != "ignore":
            _refuse_half_a_population(population)
            listed = [one for one in users if not population.speaks_of(one[0])]
            if orphans == "disable":
                _refuse_a_realm_of_orphans(len(listed), len(population))
            for compared in _orphans(reconciliation, listed, interpretation, orphans):
                report.add(_row(compared))
    except BridgeError as error:
        report.close(population)
        if isinstance(error, HoldError):
            raise _held(error, brake.reason) from error
        raise
    report.close(population)
    if report.counts(*_FAILING):
        return INVALID_EVENT
    return CHANGES if tells_changes and report.counts(*_FINDINGS) else 0


def _check(log: EventLog, orphans: str, *, repairs: bool, invite: bool) -> None:
    if orphans != "ignore" and (log.since is not None or log.until is not None):
        raise click.UsageError(
            "--orphans needs the whole population: leave out --since and --until"
        )
    if invite and not repairs:
        raise click.UsageError("--invite goes with --apply")


def _each(
    reconciliation: Reconciliation, population: Population, workers: int
) -> Iterator[Comparison]:
    """Yield how each user of the population stands, those in hand side by side.

    After a failure nothing is begun, and what was in hand is yielded before it is raised: it may have been written.
    """
    failures: list[BridgeError] = []

    def settle(standing: Standing) -> Comparison | None:
        if failures:
            return None
        try:
            return reconciliation.settle(standing)
        except BridgeError as error:
            failures.append(error)
            return None

    with progress_bar("comparing", len(population)) as advance:
        for compared in side_by_side(settle, population, workers):
            if compared is not None:
                advance(1)
                yield compared
    if failures:
        raise failures[0]


def _bridged(interpretation: Interpretation) -> list[tuple[str, str]]:
    """Return the id in user management and the Keycloak id of each user of the realm that may be an orphan."""
    users = all_users(interpretation.settings)
    return list(bridged(users, interpretation.mapping.external_id))


def _orphans(
    reconciliation: Reconciliation,
    listed: Sequence[tuple[str, str]],
    interpretation: Interpretation,
    wish: str,
) -> Iterator[Comparison]:
    """Yield the users of the realm of whom the population does not speak, and disable them where that is wished."""
    settings, mapping = interpretation.settings, interpretation.mapping
    run = uuid.uuid4().hex[:12]
    for user_id, keycloak_id in listed:
        if wish == "report":
            yield Comparison(user_id, Finding.ORPHANED, keycloak_id)
            continue
        event, desired = switched_off(
            user_id,
            mapping.external_id,
            f"reconcile-{run}/{user_id}",
            ends_sessions=settings.lifecycle.end_sessions,
            protected_groups=mapping.protected_groups,
        )
        yield reconciliation.settle_orphan(event, desired)


def _refuse_half_a_population(population: Population) -> None:
    """Nobody is an orphan of a population that is empty or could not be read whole."""
    if not len(population) or population.refused:
        why = "could not be read whole" if population.refused else "is empty"
        raise ConfigError(
            f"orphans cannot be told: the population {why}",
            remedy="mend what was refused, or leave out --orphans",
        )


def _refuse_a_realm_of_orphans(listed: int, population: int) -> None:
    """A file of another realm, or of one department, would disable nearly everybody."""
    if listed > max(population, _HANDFUL):
        raise ConfigError(
            f"{listed} users of the realm would be orphans, of a population of {population}: it is not this realm's",
            remedy="look at them with --orphans report; give the whole population, or disable them by events",
        )


class _Report:
    """Prints rows as they come, and the totals in the end."""

    def __init__(self, console: Console, output: str, *, summary_only: bool) -> None:
        self._console = console
        self._output = output
        self._summary_only = summary_only
        self._totals: Counter[str] = Counter()
        self._written: Counter[str] = Counter()

    def counts(self, *outcomes: str) -> int:
        """Return how many rows had one of `outcomes`."""
        return sum(self._totals[outcome] for outcome in outcomes)

    def add(self, told: dict[str, Any], place: str = "") -> None:
        """Count a row, and print it unless the user is as it shall be."""
        self._totals[told["outcome"]] += 1
        if told.get("action"):
            self._written[told["action"]] += 1
        if self._summary_only or told["outcome"] == _AGREES:
            return
        if self._output == "json":
            self._console.json({"place": place, **told} if place else told, indent=None)
        else:
            print_row(self._console, place, told)

    def close(self, population: Population) -> None:
        """Print the totals."""
        totals = {**self._totals, "ignored": population.ignored}
        told = {name: count for name, count in sorted(totals.items()) if count}
        written = dict(sorted(self._written.items()))
        if self._output == "json":
            self._console.json({"totals": told, "written": written}, indent=None)
            return
        self._console.line(totals_line(told) or "the population is empty")
        if written:
            self._console.line(f"written: {totals_line(written)}")


def _row(compared: Comparison) -> dict[str, Any]:
    """Return what is told of a user."""
    told: dict[str, Any] = {
        "user": compared.user_id,
        "keycloakId": compared.keycloak_id,
        "outcome": compared.finding.value,
    }
    if compared.reason:
        told["reason"] = compared.reason
    if compared.error is not None:
        told["message"] = compared.error.message
        told["violations"] = [asdict(violation) for violation in compared.error.violations]
        return told
    if compared.action:
        told["action"] = compared.action
    return {**told, "changes": [] if compared.plan is None else changes_of(compared.plan)}


def _held(error: HoldError, reason: str | None) -> BridgeError:
    return BridgeError(
        f"stopped before the end: {reason or error.message}",
        code=error.code,
        remedy="look at what was written; the same command goes on with the rest"
        + (", and --set limits.… raises the limit" if reason else ""),
    )
