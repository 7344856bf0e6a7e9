"""The alerts, the dashboard and the runbooks as tests read them."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "alerts.yaml"
RULE_TESTS = MONITORING / "alerts.test.yaml"
DASHBOARD = MONITORING / "grafana-dashboard.json"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
OPERATING = ROOT / "docs" / "operating.md"

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
