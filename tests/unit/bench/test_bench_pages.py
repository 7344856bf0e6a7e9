from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import plot, publish
from bench.table import spread


def run(contender: str, rate: float, problem: str | None = None) -> dict[str, object]:
    """Return a run with the curve of its rate."""
    curve = [(0.0, 0), (500 / rate, 500), (1000 / rate, 1000)]
    return {"contender": contender, "users": 1000, "rate": rate, "problem": problem, "curve": curve}


@given(st.floats(0.01, 1e6))
def test_ticks_reach_the_greatest_value(greatest: float) -> None:
    """From 0 in even steps, and neither crowded nor sparse."""
    found = plot.ticks(greatest)
    gaps = {round(second - first, 9) for first, second in pairwise(found)}

    assert 0 == found[0]
    assert found[-1] >= greatest * 0.999999
    assert 1 == len(gaps) or max(gaps) - min(gaps) < 1e-6
    assert 2 <= len(found) <= 8


def test_the_plot_is_well_formed_and_names_every_line() -> None:
    """One panel a database, a line a good run, and each contender named once a panel."""
    runs = [run("bare", 1000), run("bare", 900), run("burst", 2000), run("trickle", 800, "lost")]
    picture = ET.fromstring(plot.plot({"Keycloak on H2": runs, "on <PostgreSQL>": runs}))  # noqa: S314
    lines = [one for one in picture.iter() if one.tag.endswith("polyline")]
    words = [one.text for one in picture.iter() if one.tag.endswith("text")]

    assert 6 == len(lines)
    assert [2, 2, 0] == [words.count(one) for one in ("bursts", "bare client", "single writes")]


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
    once = publish.renewed(readme, "| new |\n")
    part = publish.part("| new |\n")

    assert f"before\n{publish.BEGIN}{part}{publish.END}after\n" == once
    assert once == publish.renewed(once, "| new |\n")


def test_a_readme_without_the_lines_is_refused() -> None:
    """Rather than written to a place that nobody chose."""
    with pytest.raises(ValueError, match="bench:begin"):
        publish.renewed("text", "| new |\n")
