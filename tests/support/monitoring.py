"""The alerts, the dashboard and the runbooks as tests read them."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from keycloak_bridge.ops.metrics import Metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "alerts.yaml"
RULE_TESTS = MONITORING / "alerts.test.yaml"
DASHBOARD = MONITORING / "grafana-dashboard.json"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
OPERATING = ROOT / "docs" / "operating.md"

PROCESS = (
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
)
"""What prometheus_client says of the process, as far as docs/metrics.md names it."""

_VARIABLES = {"$job": "keycloak-bridge", "$instance": ".*", "$__rate_interval": "1m"}
_METRIC = re.compile(r"\b(?:keycloak_bridge|process)_[a-z_]+\b")


@cache
def alerts() -> tuple[dict[str, Any], ...]:
    """Return every rule."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return tuple(rule for group in groups for rule in group["rules"])


@cache
def runbooks() -> dict[str, str]:
    """Return the text of each runbook by the alert that it is about."""
    _, *sections = re.split(r"^## ", RUNBOOKS.read_text("utf-8"), flags=re.MULTILINE)
    return {name: text for name, _, text in (one.partition("\n") for one in sections)}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return loaded


def queries(page: Path) -> list[str]:
    """Return the expressions that a page of the documentation tells readers to ask."""
    text = page.read_text("utf-8")
    return [
        one.strip() for one in re.findall(r"^```promql\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def metrics_in(expression: str) -> set[str]:
    """Return the names of the metrics that an expression reads, without `up`, which is Prometheus' own."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without the rows between them."""
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def panel_expressions() -> list[str]:
    """Return every expression of the dashboard with its variables."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def with_values(expression: str) -> str:
    """Return an expression of the dashboard as Grafana sends it."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def exposed() -> dict[str, set[str]]:
    """Return the labels of each name that the bridge's metrics have in an exposition."""
    found: dict[str, set[str]] = {name: set() for name in PROCESS}
    for one in Metrics().declared:
        if one.kind == "histogram":
            for suffix in ("bucket", "sum", "count"):
                found[f"{one.name}_{suffix}"] = {*one.labels, *(["le"] * (suffix == "bucket"))}
        else:
            found[one.name] = set(one.labels)
    return found


def unknown_in(expression: str) -> set[str]:
    """Return the metrics and labels that an expression asks for and the bridge does not expose."""
    names = metrics_in(expression)
    asked = {
        label
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        for label in re.split(r",\s*", group)
    } | set(re.findall(r"[{,]\s*(\w+)(?:=~|!~|!=|=)", expression))
    have = exposed()
    labels = {label for name in names for label in have.get(name, ())} | {"job", "instance"}
    return (names - have.keys()) | (asked - labels)
