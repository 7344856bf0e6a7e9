"""The dashboard: Grafana's own types made it, and what it asks for is there."""

import re
from typing import Any

import pytest

from monitoring import (
    OPERATING,
    RUNBOOKS,
    alerts,
    dashboard,
    exposed,
    metrics_in,
    panel_expressions,
    panels,
    queries,
    unknown_in,
)

TITLES = [one["title"] for one in panels()]


@pytest.mark.parametrize("panel", panels(), ids=TITLES)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """Unit and a sentence each; the alerts that it names exist."""
    named = re.findall(r"KeycloakBridge\w+", panel["description"])

    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert set(named) <= {rule["alert"] for rule in alerts()}


def test_the_data_source_is_a_variable() -> None:
    """Nothing names the Prometheus of somebody's own."""
    board = dashboard()
    first, *others = board["templating"]["list"]
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asked = [target for panel in panels() for target in panel["targets"]]

    assert ("datasource", "datasource", "prometheus") == (
        first["name"],
        first["type"],
        first["query"],
    )
    assert all(chosen == one["datasource"] for one in (*others, *panels(), *asked))


def test_grafana_can_import_it() -> None:
    """Version of the schema, an id each, and no panel over another."""
    board = dashboard()
    ids = [one["id"] for one in board["panels"]]
    cells = [
        (at["x"] + column, at["y"] + row)
        for at in (one["gridPos"] for one in board["panels"])
        for column in range(at["w"])
        for row in range(at["h"])
    ]

    assert 41 == board["schemaVersion"]
    assert "keycloak-bridge" == board["uid"]
    assert len(set(ids)) == len(ids)
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24


@pytest.mark.parametrize("expression", panel_expressions())
def test_an_expression_asks_for_what_the_bridge_exposes(expression: str) -> None:
    """Names and labels; the variables stand in matchers only."""
    assert set() == unknown_in(expression)
    assert set(re.findall(r"\$\w+", expression)) <= {"$job", "$instance", "$__rate_interval"}


def test_every_metric_is_looked_at() -> None:
    """One that neither the dashboard nor an alert nor a runbook asks for would be kept for nobody."""
    variables = [one.get("query", "") for one in dashboard()["templating"]["list"]]
    everything = [*panel_expressions(), *variables, *queries(RUNBOOKS), *queries(OPERATING)]
    asked = set().union(*map(metrics_in, [*everything, *(rule["expr"] for rule in alerts())]))
    families = {re.sub("_(bucket|sum|count)$", "", one) for one in asked}

    assert {re.sub("_(bucket|sum|count)$", "", one) for one in exposed()} - families <= {
        "process_open_fds"
    }
