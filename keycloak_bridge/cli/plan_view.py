"""What people and programs are told of a plan: an outcome, changes, and how both are printed."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.operations import Plan, visible_changes
from keycloak_bridge.pipeline import preview

_STYLES = {
    "create": "green",
    "missing": "green",
    "update": "yellow",
    "differing": "yellow",
    "orphaned": "yellow",
    "refused": "red",
    "conflict": "red",
}


def outcome_of(planned: Plan) -> dict[str, Any]:
    """Return what people are told of a plan: the outcome, the reason of a skipped one, the changes."""
    reason = {"reason": planned.skipped} if planned.skipped else {}
    return {"outcome": preview.outcome_of(planned).value, **reason, "changes": changes_of(planned)}


def changes_of(planned: Plan) -> list[dict[str, Any]]:
    """Return what a plan changes, target by target, without the bridge's own bookkeeping."""
    return [
        {"operation": verb, "target": target, "before": before, "after": after}
        for verb, target, before, after in visible_changes(planned)
    ]


def refused(error: BridgeError) -> dict[str, Any]:
    """Return what people are told of a refused event."""
    told = {"outcome": "refused", "reason": error.code, "message": error.message}
    return {**told, "violations": [asdict(violation) for violation in error.violations]}


def print_row(console: Console, place: str, told: Mapping[str, Any]) -> None:
    """Print what is told of one event or user: a headline, broken rules, and a table of its changes."""
    who = f" user {told['user']}" if told.get("user") and place else ""
    reason = f" ({told['reason']})" if told.get("reason") else ""
    headline = f"{place or told.get('user')}: {told['outcome']}{who}{reason}"
    console.line(headline, style=_STYLES.get(told["outcome"]))
    if told.get("message"):
        console.line(f"  {told['message']}")
    for violation in told.get("violations", []):
        console.line(f"  {violation['pointer']}: {violation['message']} ({violation['keyword']})")
    if told.get("changes"):
        rows = [
            (f"  {c['operation']}", c["target"], _text(c["before"]), _text(c["after"]))
            for c in told["changes"]
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
