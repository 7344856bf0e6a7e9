from collections.abc import Mapping
from typing import Any

import pytest

from bench import publish
from bench.goals import goals
from bench.table import spread, table

ONE = {"median": 1.0, "least": 1.0, "greatest": 1.0}


def results(bare_client: str = "Go", **shares: float) -> dict[str, Any]:
    """Return the results of one run on H2, with these ratios and CPU times of the contenders."""
    cpu = {"keycloak": ONE, "kafka": ONE}
    bare = {
        "runs": 1,
        "failed": 0,
        "rate": ONE,
        "ratio": ONE,
        "cpu_ms": cpu | {"contender": of(0.1)},
    }
    bridge = {**bare, "peak_mb": of(90.0), "cpu_ms": cpu | {"contender": of(0.7)}}
    single = {**bridge, "of_redpanda": of(shares.get("single", 1.0))}
    batches = {
        **bridge,
        "ratio": of(shares.get("batches", 2.0)),
        "cpu_ms": cpu | {"contender": of(0.4)},
    }
    found = {
        "figures": {"bare": bare, "trickle": single, "burst": batches},
        "warm_up": {"users": 1000, "steady": True},
        "runs": [{"round": 3}],
    }
    profile = {"trickle": {"kafka.net": 0.25, "jmespath": 0.75}, "burst": {"kafka.net": 1.0}}
    versions = {"cores": 2, "cpu": "any", "python": "3", "java": 25, "keycloak": "26", "kafka": "4"}
    return {
        "date": "2026-11-28",
        "machine": versions,
        "sizes": {"events": 12000},
        "rivals": {"bare_client": bare_client, "problem": None},
        "databases": {"H2": {**found, "profile": profile}},
    }


def of(value: float) -> Mapping[str, float]:
    """Return a spread of one value."""
    return {"median": value, "least": value, "greatest": value}


def test_goals_are_met_or_missed() -> None:
    """Each has what was wanted and measured; the CPU is of the call of the bare client, if that is the one in Go."""
    found = {goal.name.removeprefix("H2: "): goal for goal in goals(results(single=0.7))}

    assert {
        "single writes, of Redpanda Connect": False,
        "batches, of the bare client": True,
        "single writes, CPU for each event, of the bare client's call": False,
        "batches, CPU for each event, of the bare client's call": True,
        "largest memory": True,
    } == {name: goal.met for name, goal in found.items()}
    assert 3 == len(goals(results("Python")))


def test_a_missed_goal_is_told_with_the_profile() -> None:
    """The part for the README names the packages that most of the CPU goes to; without a miss it does not."""
    missed, met = table(results(single=0.7)), table(results("Python"))

    assert "| H2: single writes, of Redpanda Connect | at least 0.9 | 0.70 | **missed** |" in missed
    assert "single writes on H2, goes to kafka.net 25 %, jmespath 75 %." in missed
    assert "**missed**" not in met
    assert "goes to" not in met
    assert "| bare client in Python, `POST /users` | 1 | 1.00 |  | 0.10 | 1.00 | 1.00 |  |" in met


def test_the_page_says_which_rival_is_missing() -> None:
    """A comparison that could not be made is told, with the reason."""
    lacking = results("Python")
    lacking["rivals"]["problem"] = "Go is not installed"

    assert "Go is not installed, so a rival is missing." in table(lacking)


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [
        ({"users": 14_000, "steady": True}, "warmed with 14,000 users, 3 rounds"),
        ({"users": 60_000, "steady": False}, "60,000 users (its CPU was not steady yet), 3 rounds"),
    ],
    ids=str,
)
def test_the_page_says_whether_keycloak_was_warm(warm_up: dict[str, Any], expected: str) -> None:
    """Figures of a Keycloak that still compiled depend on the order of the runs."""
    found = results()
    found["databases"]["H2"]["warm_up"] = warm_up

    assert expected in table(found)


@pytest.mark.parametrize(
    ("least", "greatest", "expected"), [(1.5, 2.25, "2.0 (1.5 to 2.2)"), (2.0, 2.0, "2.0")]
)
def test_a_spread_is_a_median_and_its_range(least: float, greatest: float, expected: str) -> None:
    """A single value has no range."""
    values = {"median": 2.0, "least": least, "greatest": greatest}

    assert expected == spread(values, 1)


def test_the_readme_takes_its_part_again_and_again() -> None:
    """A new table replaces the old one and nothing around it."""
    readme = f"before\n{publish.BEGIN}old\n{publish.END}after\n"
    once = publish.renewed(readme, results())

    assert once.startswith(f"before\n{publish.BEGIN}Measured 2026-11-28")
    assert once.endswith(f"\n{publish.END}after\n")
    assert once == publish.renewed(once, results())


def test_a_readme_without_the_lines_is_refused() -> None:
    """Rather than written to a place that nobody chose."""
    with pytest.raises(ValueError, match="bench:begin"):
        publish.renewed("text", results())
