"""How previews and comparisons are printed: one row for each event or user, and the totals in the end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from keycloak_bridge.cli.common import CHANGES, INVALID_EVENT, violation_text
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import BridgeError, Violation
from keycloak_bridge.domain.operations import Plan, visible_changes
from keycloak_bridge.pipeline.preview import Preview
from keycloak_bridge.population.reconciliation import Comparison

_STYLES = {
    "create": "green",
    "missing": "green",
    "update": "yellow",
    "differing": "yellow",
    "orphaned": "yellow",
    "refused": "red",
    "conflict": "red",
}
_CHANGING = ("create", "update", "missing", "differing", "orphaned")


class Report:
    """Prints rows as they come, and counts them by outcome and by what was written."""

    def __init__(self, output: str, *, summary_only: bool) -> None:
        self.console = Console()
        self.totals: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._output = output
        self._summary_only = summary_only

    def add(self, row: Mapping[str, Any], place: str = "", *, prints: bool = True) -> None:
        """Count a row, and print it unless only the totals are asked for."""
        self.totals[row["outcome"]] += 1
        if row.get("action"):
            self._written[row["action"]] += 1
        if self._summary_only or not prints:
            return
        if self._output == "json":
            self.console.json({"place": place, **row} if place else row, indent=None)
        else:
            print_row(self.console, place, row)

    def print_totals(self, *, writes: bool = False, if_empty: str) -> None:
        """Print the totals, with `writes` also what was written."""
        written = dict(sorted(self._written.items())) if writes else {}
        if self._output == "json":
            totals = {name: count for name, count in sorted(self.totals.items()) if count}
            self.console.json(
                {"totals": totals, **({"written": written} if writes else {})}, indent=None
            )
            return
        self.console.line(totals_line(self.totals) or if_empty)
        if written:
            self.console.line(f"written: {totals_line(written)}")

    def exit_code(self, *, detailed_exit_code: bool) -> int:
        """Return 1 after a refusal or a conflict, 4 for changes where that was asked for, else 0."""
        if self.totals["refused"] or self.totals["conflict"]:
            return INVALID_EVENT
        return CHANGES if detailed_exit_code and any(self.totals[one] for one in _CHANGING) else 0


def row_of(seen: Preview) -> dict[str, Any]:
    """Return what a row says of a preview: outcome, reason, and changes or what is wrong."""
    if seen.error is not None:
        return refused(seen.error)
    reason = {"reason": seen.reason} if seen.reason else {}
    changes = {} if seen.plan is None else {"changes": changes_of(seen.plan)}
    return {"outcome": seen.outcome.value, **reason, **changes}


def comparison_row(compared: Comparison, outcome: str) -> dict[str, Any]:
    """Return what a row says of a user that was compared: outcome, reason, and changes or what is wrong."""
    if compared.error is not None:
        return {**refused(compared.error), "outcome": outcome}
    named = {"reason": compared.reason, "action": compared.action}
    changes = [] if compared.plan is None else changes_of(compared.plan)
    return {"outcome": outcome, **{k: v for k, v in named.items() if v}, "changes": changes}


def changes_of(plan: Plan) -> list[dict[str, Any]]:
    """Return what a plan changes, target by target, without the bridge's own bookkeeping."""
    return [
        {"operation": verb, "target": target, "before": before, "after": after}
        for verb, target, before, after in visible_changes(plan)
    ]


def refused(error: BridgeError) -> dict[str, Any]:
    """Return what a row says of a refused event."""
    row = {"outcome": "refused", "reason": error.code, "message": error.message}
    return {**row, "violations": [asdict(violation) for violation in error.violations]}


def print_row(console: Console, place: str, row: Mapping[str, Any]) -> None:
    """Print a row for people: a headline, broken rules, and a table of changes."""
    who = f" user {row['user']}" if row.get("user") and place else ""
    reason = f" ({row['reason']})" if row.get("reason") else ""
    headline = f"{place or row.get('user')}: {row['outcome']}{who}{reason}"
    console.line(headline, style=_STYLES.get(row["outcome"]))
    if row.get("message"):
        console.line(f"  {row['message']}")
    for violation in row.get("violations", []):
        console.line(f"  {violation_text(Violation(**violation))}")
    if row.get("changes"):
        rows = [
            (f"  {c['operation']}", c["target"], _text(c["before"]), _text(c["after"]))
            for c in row["changes"]
        ]
        console.table(("  what", "target", "now", "then"), rows)


def totals_line(totals: Mapping[str, int]) -> str:
    """Return how many there are of each outcome, by name."""
    counted = sorted((name, count) for name, count in totals.items() if count)
    return ", ".join(f"{count} {name}" for name, count in counted)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
