import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaleout import Run, allowed, cores_used, doubt, ratios, table, verdicts


def run(number: int, sidecars: int, rate: float, problem: str | None = None) -> Run:
    """Return a run of two workers that used half a core for each sidecar."""
    used = {f"sidecar {one}": 0.5 for one in range(1, sidecars + 1)} | {"kafka": 0.1, "stub": 0.2}
    return Run(number, 2, sidecars, rate, used, 12.5, problem)


def result(number: int, **changed: str) -> bytes:
    """Return the value of the result of one event."""
    data = {"outcome": "provisioned", "eventId": f"e{number}", "userId": f"u{number}"}
    return json.dumps({"data": data | {"keycloakId": f"k{number}"} | changed}).encode()


def test_a_ratio_is_taken_within_its_round() -> None:
    """A slow round makes no ratio worse, and one whose single sidecar failed has none."""
    runs = [
        *(run(1, 1, 100), run(1, 3, 270)),
        *(run(2, 1, 50), run(2, 3, 150)),
        *(run(3, 1, 1, "lost"), run(3, 3, 300)),
    ]

    assert [0.9, 1.0] == pytest.approx(ratios(runs, 2, 3))


@given(share=st.floats(0.01, 2.0), rate=st.floats(50, 2000))
def test_an_even_use_of_the_cores_is_found(share: float, rate: float) -> None:
    """Whatever a process used all the time is its share, without what it took to start."""
    moments = [0.0, 1.0, 2.0, 3.0]
    cpu_s = [7.0 + share * at_s for at_s in moments]
    done = [round(rate * at_s) for at_s in moments]

    assert math.isclose(share, cores_used(moments, done, cpu_s, done[-1]), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([result(1), result(2)], None),
        ([result(1)], "1 results of 2 events"),
        ([result(1), result(2), result(2)], "3 results of 2 events"),
        ([result(1), result(2, eventId="e1")], "1 different eventId in 2 results"),
        ([result(1), result(2, userId="u1")], "1 different userId in 2 results"),
        ([result(1), result(2, keycloakId="k1")], "1 different keycloakId in 2 results"),
        ([result(1), result(2, outcome="skipped")], "1 of 2 events were not provisioned"),
    ],
)
def test_each_event_has_one_result_and_one_user(values: list[bytes], expected: str | None) -> None:
    """What is lost, doubled, mixed up or not done is told."""
    assert expected == doubt(values, 2)


def test_the_table_has_a_row_for_each_number_of_sidecars() -> None:
    """Medians and ratios in rows; a failed run counts for nothing and is told below."""
    runs = [run(1, 1, 100), run(1, 2, 190), run(2, 1, 120), run(2, 2, 9, "none more for 120 s")]
    rows = table(runs, 2).splitlines()

    assert (
        "| 2 | 1 | 110 (100–120) | 1 | 1 | 50 % | 10 % | 20 % | 80 % of 200 % | 12.5 ms |"
        == rows[2]
    )
    assert (
        "| 2 | 2 | 190 (190–190) | 1.90 | 2.00 | 50 % + 50 % | 10 % | 20 % | 130 % of 200 % | 12.5 ms |"
        == rows[3]
    )
    assert "Round 2, 2 sidecars of 2 workers: none more for 120 s" == rows[-1]


@pytest.mark.parametrize(
    ("rate", "possible", "words"),
    [
        (150, 150 / 180 * 2, "these cores do not allow the goal"),
        (230, 230 / 180 * 2, "the goal is **missed**"),
        (260, 260 / 180 * 2, "the goal is met"),
        (290, 3.0, "the goal is met"),
    ],
)
def test_what_the_cores_allow_is_told(rate: float, possible: float, words: str) -> None:
    """By the CPU that an event took all processes, and never more than the number of sidecars."""
    runs = [run(1, 1, 100), run(1, 3, rate)]
    (line,) = verdicts(runs, 2)

    assert possible == pytest.approx(allowed(runs, 2, 3, 2), abs=1e-9)
    assert words in line
    assert f"reach {rate / 100:.2f} of one" in line
