"""A real bridge, scraped by a real Prometheus that has the rules: what the alerts, the dashboard and the runbooks ask for is there."""

import contextlib
import json
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prometheus
import pytest
import requests
import yaml
from bridge_harness import Bench, about, an_event, free_port, wait_until

from monitoring import (
    OPERATING,
    RULES,
    RUNBOOKS,
    alerts,
    dashboard,
    metrics_in,
    panel_expressions,
    queries,
    with_values,
)

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **params: str) -> Any:
        """Return the data that the API answers with."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=params, timeout=30).json()
        assert "success" == answer["status"], (params, answer)
        return answer["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        samples: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return samples

    def is_up(self) -> bool:
        """Say whether the bridge was scraped."""
        with contextlib.suppress(requests.RequestException):  # not there yet, or not ready
            return [one["value"][1] for one in self.ask('up{job="keycloak-bridge"}')] == ["1"]
        return False


@contextlib.contextmanager
def scraping(target: str, folder: Path) -> Iterator[Server]:
    """Run a Prometheus with the rules of the repository that scrapes `target` every second."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "keycloak-bridge", "static_configs": [{"targets": [target]}]}
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                prometheus.find("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(f"http://{address}")
    finally:
        process.terminate()
        process.wait(60)


def of_variables() -> list[str]:
    """Return the expressions within the variables of the dashboard."""
    asked = (one.get("query", "") for one in dashboard()["templating"]["list"])
    return [name for query in asked for name in re.findall(r"label_values\((.*), \w+\)", query)]


@dataclass(frozen=True, slots=True)
class Watched:
    """A bridge that has had something of everything, and its Prometheus."""

    bench: Bench
    server: Server
    target: str
    user_id: str

    def exposition(self) -> str:
        """Return the metrics as the bridge gives them out."""
        return requests.get(f"http://{self.target}/metrics", timeout=30).text


@pytest.fixture(scope="module")
def watched(module_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """After a user of now and one of long ago, a change, a refusal, and the mails."""
    port = free_port()
    target, user_id = f"127.0.0.1:{port}", f"watched-{uuid.uuid4().hex[:8]}"
    bench = module_bench.but(HEALTH_PORT=str(port))
    now = datetime.now(UTC).isoformat()
    with bench.running(), scraping(target, tmp_path_factory.mktemp("prometheus")) as server:
        bench.publish(
            {**an_event(user_id), "time": now},
            an_event(f"{user_id}-backfilled"),
            about(f"{user_id}-backfilled", "user.updated", 1, department="Sales"),
            an_event(f"{user_id}-refused", email=None),
        )
        # the change may find its user while the mail goes out, and have that looked up: one result more
        wait_until(lambda: [one["outcome"] for one in bench.results()].count("invited") == 2)
        wait_until(lambda: len(bench.results()) >= 6)
        wait_until(server.is_up)
        yield Watched(bench, server, target, user_id)


def test_promtool_finds_nothing_to_improve(watched: Watched) -> None:
    """Names, units and texts are by Prometheus' conventions."""
    checked = subprocess.run(
        [prometheus.find("promtool"), "check", "metrics"],
        input=watched.exposition(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (checked.returncode, checked.stdout + checked.stderr)


def test_a_real_prometheus_evaluates_the_rules(watched: Watched) -> None:
    """All of them, and none fires."""

    def rules() -> list[dict[str, Any]]:
        groups = watched.server.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: {"unknown"}.isdisjoint(one["health"] for one in rules()))

    assert [(one["alert"], "ok") for one in alerts()] == [
        (one["name"], one["health"]) for one in rules()
    ]
    assert [] == watched.server.ask('ALERTS{alertstate="firing"}')


def test_every_expression_finds_its_metrics(watched: Watched) -> None:
    """Those of alerts, dashboard and pages parse; what a healthy flow has is there."""
    of_panels = {with_values(one) for one in panel_expressions()}
    asked = {
        *(rule["expr"] for rule in alerts()),
        *of_panels,
        *of_variables(),
        *queries(RUNBOOKS),
        *queries(OPERATING),
    }
    for expression in asked:
        watched.server.ask(expression)  # what does not parse is no success
    exposed = set(re.findall(r"^# TYPE (\w+) ", watched.exposition(), re.MULTILINE))
    named = {name for expression in asked for name in metrics_in(expression)}

    assert set() == {re.sub("_(bucket|sum|count)$", "", name) for name in named} - exposed
    troubled = {one for one in of_panels if re.search(_ONLY_SOMETIMES, one)}
    # a rate needs two scrapes
    wait_until(lambda: all(map(watched.server.ask, of_panels - troubled)))
    assert len(of_panels) > 2 * len(troubled)


def test_the_wait_of_a_user_and_of_its_mail_is_measured(watched: Watched) -> None:
    """An event of now counts in both stages; one that was published long after it happened in neither."""
    counts = re.findall(
        r'^keycloak_bridge_end_to_end_latency_seconds_count\{stage="(\w+)"\} (\S+)$',
        watched.exposition(),
        re.MULTILINE,
    )

    assert {("provision", "1.0"), ("invite", "1.0")} == set(counts)


def test_a_real_cause_has_its_one_alert(bench: Bench, tmp_path: Path) -> None:
    """What the bridge reports of a fault is what the rules look for, and no other alert comes beside it."""
    port = free_port()
    bench.publish(*(an_event(f"refused-{number}", email=None) for number in range(3)))

    def pending(server: Server) -> set[str]:
        return {
            one["metric"]["alertname"]
            for one in server.ask('ALERTS{alertname!="KeycloakBridgeDeadLetters"}')
        }

    with (
        bench.but(BRAKE_IN_A_ROW="1", HEALTH_PORT=str(port)).running(),
        scraping(f"127.0.0.1:{port}", tmp_path) as server,
    ):
        wait_until(server.is_up)
        wait_until(lambda: pending(server) == {"KeycloakBridgeBrakeEngaged"})


@pytest.mark.parametrize("page", [RUNBOOKS, OPERATING], ids=lambda page: page.name)
def test_every_command_of_an_operator_works(watched: Watched, page: Path) -> None:
    """In the order of the page, with a user, a dead letter and files that exist."""
    bench = watched.bench
    letter = bench.read("dead-letters")[0]
    known = an_event(f"{watched.user_id}-backfilled")
    columns = ("userId", "email", "givenName", "familyName", "tenantId")
    rows = [columns, [str(known["data"][name]) for name in columns]]
    (bench.folder / "events.ndjson").write_text(json.dumps(known), "utf-8")
    (bench.folder / "users.csv").write_text("\n".join(map(",".join, rows)), "utf-8")
    blocks = re.findall(
        r"^```console\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    commands = [
        one
        for one in dict.fromkeys("".join(blocks).splitlines())
        if one.startswith(("keycloak-bridge", "curl")) and one not in _ENDLESS
    ]
    for command in commands:
        program, *arguments = shlex.split(
            command.replace("28518867", watched.user_id)
            .replace("ada@acme.example", f"{watched.user_id}@acme.example")
            .replace("3/41", f"{letter.partition}/{letter.offset}")
            .replace("127.0.0.1:9090", watched.target)
        )
        if program == "curl":
            done = subprocess.run([program, "-f", *arguments], capture_output=True, text=True)  # noqa: PLW1510
            assert (0, True) == (done.returncode, bool(done.stdout)), command
            continue
        if command.startswith(_ASKING) and not {"--yes", "--dry-run"} & set(arguments):
            arguments.append("--yes")  # nobody is there to be asked
        found = bench.run_command(*arguments)
        expected = next(
            (codes for begin, codes in _FINDING.items() if command.startswith(begin)), {0}
        )
        assert found.returncode in expected, (command, found.stdout, found.stderr)

    assert 10 < len(commands)


_ASKING = ("keycloak-bridge dead-letters replay", "keycloak-bridge invitations resend")
_ENDLESS = {"keycloak-bridge log --follow"}

_FINDING = {
    # yellow and red are what it is for
    "keycloak-bridge doctor": {0, 1},
    # one event is refused, whatever is asked about all of them
    "keycloak-bridge plan --from-topic": {1},
    "keycloak-bridge reconcile --from-topic": {1},
    "keycloak-bridge plan --fold --exit-code": {0, 4},
    "keycloak-bridge dead-letters replay --dry-run --code schema-violation": {1},
}
"""The exit codes of commands that find something; all others succeed."""

_ONLY_SOMETIMES = '_problem|_batch|retries_total|outcome="skipped"'
"""What has no series while all goes well."""
