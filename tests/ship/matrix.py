"""Run the bridge on a choice of versions: `python -m tests.ship.matrix [--row N]... [--tests NAME]... [--python PATH]...`.

Each row is a Keycloak, a Kafka, a Python, a database under Keycloak and a set of dependencies. What a group of tests comes to
is one line of `matrix.ndjson`, in the place of the line that was there for the same row and group, and the table of README.md is
made from that file. So a single row, or a group of it, can be run again at any time.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import click

from bench.postgres import DATABASE_VARIABLE
from bench.publish import between
from keycloak_bridge.sandbox.distribution import VERSION_VARIABLES

from .environments import python_environment
from .machine import ShipError

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("matrix.ndjson")
README = ROOT / "README.md"
BEGIN, END = "<!-- matrix:begin -->\n", "<!-- matrix:end -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One choice of versions."""

    keycloak: str
    kafka: str
    python: str
    database: str = "H2"
    dependencies: str = "newest"


ROWS = (
    Row("26.0.8", "3.9.2", "3.11", dependencies="oldest"),
    Row("26.2.5", "4.0.2", "3.12"),
    Row("26.4.7", "4.3.1", "3.13"),
    Row("26.6.4", "4.0.2", "3.11"),
    Row("26.7.5", "4.4.0", "3.13"),
    Row("26.7.5", "4.4.0", "3.12", database="PostgreSQL"),
)
TESTS: Mapping[str, Sequence[str]] = {
    "flow": (
        "tests/integration/test_flow.py",
        "tests/integration/test_sandbox.py::test_the_chosen_versions_run",
    ),
    "life cycle": ("tests/integration/test_lifecycle.py", "tests/integration/test_activation.py"),
    "realm": (
        "tests/integration/test_realm_config.py",
        "tests/integration/test_realm_command.py",
        "tests/integration/test_targets.py",
    ),
    "browser": ("tests/e2e/test_invitation_in_browser.py",),
}
"""The groups of tests, by the name that the table has for them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group of tests came to on a row."""

    row: Row
    tests: str
    passed: int
    failed: int
    skipped: int
    date: str

    @property
    def well(self) -> bool:
        """Tell whether tests ran and all of them passed."""
        return self.failed == 0 and self.passed > 0

    @classmethod
    def from_json(cls, line: str) -> "Outcome":
        """Return what one line of the record says."""
        values = json.loads(line)
        return cls(**{**values, "row": Row(**values["row"])})


def recorded() -> list[Outcome]:
    """Return what the record says."""
    lines = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else []
    return [Outcome.from_json(line) for line in lines]


def renewed(record: Iterable[Outcome], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the record with outcomes in the place of what the same tests came to on the same row before.

    Rows and groups that are run no longer are left out, and the order is that of ROWS and TESTS.
    """
    known = {(one.row, one.tests): one for one in (*record, *outcomes)}
    wanted = [(row, name) for row in ROWS for name in TESTS]
    return [known[key] for key in wanted if key in known]


def table(record: Iterable[Outcome]) -> str:
    """Return the table of the README: what is not recorded is `not run`, what failed is named as failed."""
    known = {(one.row, one.tests): one for one in record}
    head = ["Keycloak", "on", "Kafka", "Python", "dependencies", *TESTS]
    lines = [_line(head), _line("---" for _ in head)]
    for row in ROWS:
        cells = [_cell(known.get((row, name))) for name in TESTS]
        lines.append(
            _line([row.keycloak, row.database, row.kafka, row.python, row.dependencies, *cells])
        )
    dates = sorted(one.date for one in known.values())
    span = (
        f"Run {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "")
        if dates
        else "Not run"
    )
    return "\n".join(lines) + f"\n\n{span}; the cells count the tests that passed.\n"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not run"
    if outcome.well:
        return str(outcome.passed)
    return f"**{outcome.failed} failed**" if outcome.failed else "**none ran**"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def publish(record: Sequence[Outcome]) -> None:
    """Write the record and the table of the README."""
    lines = [json.dumps(asdict(outcome)) + "\n" for outcome in record]
    RECORD.write_text("".join(lines), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(between(text, BEGIN, END, table(record), README.name), encoding="utf-8")


def run(row: Row, names: Sequence[str], python: Path) -> list[Outcome]:
    """Run groups of tests on a row, on one Kafka and one Keycloak; what pytest prints comes as it is printed."""
    environment = {
        **os.environ,
        VERSION_VARIABLES["keycloak"]: row.keycloak,
        VERSION_VARIABLES["kafka"]: row.kafka,
        DATABASE_VARIABLE: row.database,
        "PYTHONPATH": str(ROOT),
        "HYPOTHESIS_PROFILE": "ci",
    }
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        command = [str(python), "-m", "pytest", "-q", "-m", "not full", f"--junitxml={report}"]
        tests = [test for name in names for test in TESTS[name]]
        subprocess.run(
            [*command, "-p", "no:cacheprovider", *tests], cwd=ROOT, env=environment, check=False
        )
        # pytest has just written it
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314
    today = datetime.now(UTC).date().isoformat()
    return [outcome_of(row, name, cases, today) for name in names]


def outcome_of(row: Row, name: str, cases: Iterable[ET.Element], date: str) -> Outcome:
    """Return what a group of tests came to, by the cases of pytest's report."""
    modules = {
        test.partition("::")[0].removesuffix(".py").replace("/", ".") for test in TESTS[name]
    }
    counts: Counter[str] = Counter()
    for case in cases:
        if case.get("classname") in modules:
            ends = {child.tag for child in case} & {"failure", "error", "skipped"}
            counts["skipped" if ends == {"skipped"} else "failed" if ends else "passed"] += 1
    return Outcome(row, name, counts["passed"], counts["failed"], counts["skipped"], date)


@click.command()
@click.option("--row", "numbers", type=click.IntRange(1, len(ROWS)), multiple=True, help="Number of a row, from 1 (default: all).")  # fmt: skip
@click.option("--tests", "names", type=click.Choice(list(TESTS)), multiple=True, help="A group of tests (default: all).")  # fmt: skip
@click.option("--python", "pythons", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True, help="An interpreter where none is found.")  # fmt: skip
@click.option("--table", "only_table", is_flag=True, help="Only make the table again.")
def main(
    numbers: Sequence[int], names: Sequence[str], pythons: Sequence[Path], only_table: bool
) -> None:
    """Run rows of the matrix and renew their lines of the table."""
    if only_table:
        publish(recorded())
        return
    failed = False
    for number in numbers or range(1, len(ROWS) + 1):
        row = ROWS[number - 1]
        python = python_environment(row.python, row.dependencies, pythons)
        click.echo(f"row {number}: {asdict(row)}")
        outcomes = run(row, list(names or TESTS), python)
        # another run may have renewed other rows meanwhile
        publish(renewed(recorded(), outcomes))
        failed = failed or not all(outcome.well for outcome in outcomes)
    sys.exit(int(failed))


if __name__ == "__main__":
    try:
        main()
    except ShipError as error:
        sys.exit(str(error))
