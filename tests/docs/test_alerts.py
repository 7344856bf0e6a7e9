"""The alerts: each fires when it should and is quiet else, and leads to a runbook; checked with Prometheus' own promtool."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import prometheus
import pytest
import yaml
from retried_codes import retried_codes

from keycloak_bridge.ops.status import STARTING_UP
from keycloak_bridge.transport.http import Failure
from monitoring import (
    OPERATING,
    ROOT,
    RULE_TESTS,
    RULES,
    RUNBOOKS,
    alerts,
    exposed,
    metrics_in,
    queries,
    runbooks,
    unknown_in,
)

NAMES = [rule["alert"] for rule in alerts()]
TESTS = yaml.safe_load(RULE_TESTS.read_text("utf-8"))["tests"]


def shell_commands() -> list[str]:
    """Return the commands of the section about alerts that are not the bridge's own."""
    section = (
        OPERATING.read_text("utf-8").partition("## Metrics and alerts")[2].partition("\n## ")[0]
    )
    blocks = re.findall(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [line for line in "".join(blocks).splitlines() if line.startswith(("promtool", "sed"))]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run(
        [prometheus.find("promtool"), *arguments], capture_output=True, text=True, check=False
    )


def labels_of(series: str) -> dict[str, str]:
    """Return the labels in the notation of a series."""
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


def firing(test: dict[str, Any]) -> list[dict[str, str]]:
    """Return the labels of the alerts that a test of the rules expects to fire."""
    return [
        labels_of(sample["labels"])
        for one in test["promql_expr_test"]
        for sample in one["exp_samples"]
    ]


def test_prometheus_takes_the_rules() -> None:
    """Syntax, expressions and the templates of the annotations."""
    checked = promtool("check", "rules", str(RULES))

    assert (0, f"{len(NAMES)} rules found") == (
        checked.returncode,
        checked.stdout.strip().rpartition(": ")[2],
    )


def test_each_alert_fires_alone_and_none_without_cause() -> None:
    """The tests beside the rules, as an operator runs them after changing a threshold."""
    tested = promtool("test", "rules", str(RULE_TESTS))

    assert 0 == tested.returncode, tested.stdout + tested.stderr


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_an_alert_says_what_an_operator_needs(rule: dict[str, Any]) -> None:
    """How long, how bad, what, and where to read on."""
    annotations = rule["annotations"]

    assert re.fullmatch(r"[1-9]\d*m", rule["for"])
    assert {"severity"} == rule["labels"].keys()
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == annotations.keys()
    assert annotations["description"].endswith(".")
    assert not annotations["summary"].endswith(".")
    assert f"docs/runbooks.md#{rule['alert'].lower()}" == annotations["runbook_url"]


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_an_alert_fires_in_a_test_with_the_labels_of_its_texts(rule: dict[str, Any]) -> None:
    """A label that is not there would be a hole in the sentence."""
    fired = [one for test in TESTS for one in firing(test) if one["alertname"] == rule["alert"]]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))

    assert fired
    assert all(named <= one.keys() for one in fired)
    assert all(rule["labels"]["severity"] == one["severity"] for one in fired)


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_an_alert_is_quiet_although_its_metrics_are_there(rule: dict[str, Any]) -> None:
    """The healthy bridge has every metric of the expression, and nothing fires."""
    healthy = TESTS[0]
    there = {one["series"].partition("{")[0] for one in healthy["input_series"]}

    assert [] == firing(healthy)
    assert metrics_in(rule["expr"]) <= there


@pytest.mark.parametrize(
    "expression",
    [*(rule["expr"] for rule in alerts()), *queries(RUNBOOKS), *queries(OPERATING)],
)
def test_an_expression_asks_for_what_the_bridge_exposes(expression: str) -> None:
    """Names of metrics, and the labels by which they are chosen or summed."""
    assert set() == unknown_in(expression)


def test_a_code_that_is_asked_for_exists() -> None:
    """A misspelt one would never fire."""
    names = json.loads((ROOT / "tests" / "snapshot" / "names.json").read_text("utf-8"))
    known = {*names["codes"], *(one["code"] for one in names["errors"].values()), STARTING_UP}
    known |= {f"{service}-{one}" for service in ("keycloak", "registry") for one in Failure}
    known |= retried_codes()
    asked = {
        code
        for rule in alerts()
        for value in re.findall(r'code(?:=~|!~|!=|=)"([^"]+)"', rule["expr"])
        for code in value.split("|")
    }

    assert 10 < len(asked)
    assert [] == [code for code in asked if not any(re.fullmatch(code, one) for one in known)]


WAITS = [*sorted(retried_codes()), "workers-stuck"]
"""What `/ready` may name for minutes."""


@pytest.mark.parametrize("code", WAITS)
def test_a_code_that_is_waited_out_stands_in_a_runbook(code: str) -> None:
    """An operator looks for the code that the alert and `/ready` name."""
    assert f"`{code}`" in RUNBOOKS.read_text("utf-8")


def test_a_code_that_is_waited_out_has_one_alert(tmp_path: Path) -> None:
    """Whether everything fails with it or one record, and at the start; its runbook names the code.

    A mailbox that is refused has none yet.
    """
    with_code = {
        code: "|".join(name for name, text in runbooks().items() if f"`{code}`" in text)
        for code in WAITS
    }
    stage = 'job="keycloak-bridge", instance="a:9090", stage="provision"'
    tests = [
        {
            "name": f"{code}, breaker {breaker}",
            "interval": "1m",
            "input_series": [
                {"series": 'up{job="keycloak-bridge", instance="a:9090"}', "values": "1x20"},
                {"series": f'keycloak_bridge_problem{{{stage}, code="{code}"}}', "values": "1x20"},
                {"series": f"keycloak_bridge_breaker_open{{{stage}}}", "values": f"{breaker}x20"},
            ],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertstate="firing", alertname=~"{names}"}})',
                    "eval_time": "10m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
                for names in (".+", *([with_code[code]] if breaker == "0" else []))
            ],
        }
        for code in WAITS
        for breaker in ("0", "1", "_")
        if code != "mail-not-sent" or breaker == "1"
    ]
    file = tmp_path / "codes.test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}), "utf-8")
    tested = promtool("test", "rules", str(file))

    assert 100 < len(tests)
    assert 0 == tested.returncode, tested.stdout + tested.stderr


def test_the_series_of_the_tests_are_those_of_the_bridge() -> None:
    """A test with a label that no bridge has would prove nothing."""
    have = exposed() | {"up": set()}
    for test in TESTS:
        for one in test.get("input_series", ()):
            name = one["series"].partition("{")[0]
            assert labels_of(one["series"]).keys() == {"job", "instance", *have[name]}, one


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """In the same order."""
    assert NAMES == list(runbooks())


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_has_symptom_check_and_remedy(name: str) -> None:
    """What is seen, where to look, what helps; in this order."""
    parts = re.findall(r"^\*\*(\w+)\.\*\*", runbooks()[name], re.MULTILINE)

    assert ["Symptom", "Check", "Remedy"] == parts


def test_links_into_pages_lead_to_a_heading() -> None:
    """A runbook at night must not end at the top of a long page."""
    for target, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", RUNBOOKS.read_text("utf-8")):
        page = RUNBOOKS.parent / target if target else RUNBOOKS
        headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("command", shell_commands())
def test_the_commands_around_the_rules_work(command: str) -> None:
    """As the page has them, from the root of the repository."""
    folder = Path(prometheus.find("promtool")).parent
    done = subprocess.run(  # noqa: S602  (a command of the documentation)
        command,
        shell=True,
        cwd=ROOT,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    if command.startswith("sed"):
        rewritten = yaml.safe_load(done.stdout)["groups"][0]["rules"]
        assert all(
            one["annotations"]["runbook_url"].startswith("https://git.example.com/")
            for one in rewritten
        )
