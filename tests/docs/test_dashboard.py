"""The dashboard: Grafana's own types made it, and what it asks for is there."""

import re
import subprocess
from pathlib import Path
from typing import Any

import prometheus
import pytest
import yaml

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
    with_values,
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


LETTERS = 'keycloak_bridge_dead_letters_total{job="keycloak-bridge", instance="a:9090", stage="provision", code="not-json"}'


@pytest.mark.parametrize(
    ("values", "at", "expected"),
    [
        ("_x10 1x100", "60m", 1),
        ("_x10 2x20 3x100", "60m", 3),
        ("_x10 2x20 stale", "120m", 2),
        ("5x1560", "26h", 0),
        ("5x1500 7x60", "26h", 2),
        ("_x100", "60m", 0),
    ],
    ids=["first of its code", "more of it", "restarted since", "yesterday", "known code", "none"],
)
def test_a_dead_letter_of_today_is_counted(
    tmp_path: Path, values: str, at: str, expected: int
) -> None:
    """The first of its code too, whose series begins at 1, and one from before a restart."""
    (panel,) = (one for one in panels() if one["title"] == "Dead letters today")
    expression = f"round({with_values(panel['targets'][0]['expr'])})"

    assert_is(tmp_path, values, expression, at, [{"labels": "{}", "value": expected}])


@pytest.mark.parametrize(("at", "expected"), [("31m", 1), ("32m", 0), ("20m", None)])
def test_the_first_dead_letter_of_a_code_is_seen(
    tmp_path: Path, at: str, expected: int | None
) -> None:
    """In the interval in which it comes, and in no other."""
    (panel,) = (one for one in panels() if one["title"] == "Dead letters")
    expression = panel["targets"][0]["expr"].replace("$__rate_interval", "2m")
    labels = '{stage="provision", code="not-json"}'
    samples = [] if expected is None else [{"labels": labels, "value": expected}]

    assert_is(tmp_path, "_x30 1x60", f"round({with_values(expression)})", at, samples)


def assert_is(
    folder: Path, values: str, expression: str, at: str, samples: list[dict[str, Any]]
) -> None:
    """Have promtool compare what an expression finds in a series of dead letters, a sample a minute."""
    test = {
        "interval": "1m",
        "input_series": [{"series": LETTERS, "values": values}],
        "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": samples}],
    }
    file = folder / "dashboard.test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}), "utf-8")
    tested = subprocess.run(
        [prometheus.find("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == tested.returncode, tested.stdout + tested.stderr


def test_every_metric_is_looked_at() -> None:
    """One that neither the dashboard nor an alert nor a runbook asks for would be kept for nobody."""
    variables = [one.get("query", "") for one in dashboard()["templating"]["list"]]
    everything = [*panel_expressions(), *variables, *queries(RUNBOOKS), *queries(OPERATING)]
    asked = set().union(*map(metrics_in, [*everything, *(rule["expr"] for rule in alerts())]))
    families = {re.sub("_(bucket|sum|count)$", "", one) for one in asked}

    assert {re.sub("_(bucket|sum|count)$", "", one) for one in exposed()} - families <= {
        "process_open_fds"
    }
