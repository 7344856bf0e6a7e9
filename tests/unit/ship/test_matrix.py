"""The matrix of versions: what it covers, how it keeps a record, and what the README says of it."""

import re
from configparser import ConfigParser
from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from ship.environments import find_python
from ship.machine import ShipError
from ship.matrix import (
    BEGIN,
    END,
    README,
    ROOT,
    ROWS,
    TESTS,
    Outcome,
    outcome_of,
    recorded,
    renewed,
    table,
)

from bench.publish import between
from keycloak_bridge.sandbox.distribution import lock_file

ROW = ROWS[0]
GOOD = Outcome(ROW, "flow", 7, 0, 0, "2026-11-29")


def pythons() -> list[str]:
    """Return the versions of Python that the package names."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])


def test_every_version_has_a_row_and_the_ends_meet() -> None:
    """Each pinned version and each named Python is run; the oldest of all with each other, and the newest."""
    keycloak, kafka = (list(lock_file()[name]["versions"]) for name in ("keycloak", "kafka"))
    ends = [(row.keycloak, row.kafka, row.python, row.dependencies) for row in ROWS]

    assert {row.keycloak for row in ROWS} == set(keycloak)
    assert {row.kafka for row in ROWS} == set(kafka)
    assert {row.python for row in ROWS} == set(pythons())
    assert {row.database for row in ROWS} == {"H2", "PostgreSQL"}
    assert (keycloak[0], kafka[0], pythons()[0], "oldest") in ends
    assert (keycloak[-1], kafka[-1], pythons()[-1], "newest") in ends


def test_the_readme_has_the_table_of_the_record() -> None:
    """Every row and group was run and passed, and the table is the one that the record makes."""
    record, readme = recorded(), README.read_text(encoding="utf-8")

    assert [(one.row, one.tests) for one in record] == list(product(ROWS, TESTS))
    assert all(one.well for one in record)
    assert between(readme, BEGIN, END, table(record), "README.md") == readme


def test_tests_that_are_named_are_there() -> None:
    """A file that was moved is no group that passes."""
    assert all(
        (ROOT / name.partition("::")[0]).is_file() for group in TESTS.values() for name in group
    )


def test_a_second_run_takes_the_place_of_the_first() -> None:
    """One line for each row and group; rows that are no longer run are left out."""
    gone = replace(GOOD, row=replace(ROW, keycloak="1.0.0"))
    other = replace(GOOD, tests="browser")

    assert renewed([other, gone, GOOD], [replace(GOOD, failed=1)]) == [
        replace(GOOD, failed=1),
        other,
    ]


@pytest.mark.parametrize(
    ("outcome", "cell"),
    [
        (GOOD, "7"),
        (replace(GOOD, failed=2), "**2 failed**"),
        (replace(GOOD, passed=0), "**none ran**"),
    ],
)
def test_the_table_hides_no_failure(outcome: Outcome, cell: str) -> None:
    """What failed or did not run is in the row's cell."""
    line = table([outcome]).splitlines()[2]

    assert line == f"| 26.0.8 | H2 | 3.9.2 | 3.11 | oldest | {cell} |" + " not run |" * (
        len(TESTS) - 1
    )
    assert table([]).count(" not run |") == len(ROWS) * len(TESTS)


def test_cases_of_a_report_are_counted_by_their_group() -> None:
    """Cases of other groups do not count, and an error is a failure."""
    report = ET.fromstring(  # noqa: S314
        '<t><testcase classname="tests.integration.test_flow"/>'
        '<testcase classname="tests.integration.test_flow"><error/></testcase>'
        '<testcase classname="tests.integration.test_flow"><skipped/></testcase>'
        '<testcase classname="tests.e2e.test_invitation_in_browser"><failure/></testcase></t>'
    )

    found = outcome_of(ROW, "flow", report.iter("testcase"), "2026-11-29")

    assert found == Outcome(ROW, "flow", 1, 1, 1, "2026-11-29")
    assert not found.well


def test_a_python_that_is_not_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is in the message; what does not run is no interpreter."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    with pytest.raises(ShipError, match=r"No Python 3\.99 is here: .* --python"):
        find_python("3.99", [tmp_path / "nothing"])
