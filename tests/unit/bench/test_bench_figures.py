import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import samples, verdict
from bench.figures import figures


def run(contender: str, number: int, rate: float, problem: str | None = None) -> dict[str, object]:
    """Return a run as it stands in the results."""
    return {
        "contender": contender,
        "round": number,
        "users": 1000,
        "problem": problem,
        "rate": rate,
        "cpu_ms": {"keycloak": 2.0},
        "peak_mb": 0.0,
    }


@given(
    rate=st.floats(50, 5000),
    step_s=st.floats(0.1, 0.3),
    start_s=st.floats(0, 5),
)
def test_a_steady_course_has_its_own_rate(rate: float, step_s: float, start_s: float) -> None:
    """However it is sampled and however late it starts, users that come evenly give their rate."""
    total = 2000
    moments = [start_s + number * step_s for number in range(int(total / rate / step_s) + 2)]
    users = [round(rate * (at_s - start_s)) for at_s in moments]

    assert pytest.approx(rate, rel=0.02) == samples.steady_rate(moments, users, total)


def test_start_and_end_do_not_count() -> None:
    """A slow first and last fifth change nothing."""
    moments = [0.0, 100.0, 110.0, 300.0]
    users = [0, 200, 800, 1000]

    assert pytest.approx(60.0) == samples.steady_rate(moments, users, 1000)


def test_cpu_is_that_of_the_steady_part() -> None:
    """What a process used before 20 and after 80 percent of the users is left out."""
    moments, users, cpu_s = [0.0, 1.0, 3.0, 4.0], [0, 200, 800, 1000], [0.0, 5.0, 5.6, 9.0]

    assert pytest.approx(1.0) == samples.cpu_ms_per_user(moments, users, cpu_s, 1000)


def test_ratios_are_taken_within_a_round() -> None:
    """Each run is compared with the bare client of its own round, and the median is of those ratios."""
    measured = {
        "bare": (1000.0, 500.0, 800.0),
        "burst": (2000.0, 500.0, 1760.0),
        "redpanda": (500.0, 500.0, 440.0),
    }
    found = figures(
        [run(name, at, rate) for name, some in measured.items() for at, rate in enumerate(some, 1)]
    )

    assert {"median": 2.0, "least": 1.0, "greatest": 2.2} == found["burst"]["ratio"]
    assert {"median": 4.0, "least": 1.0, "greatest": 4.0} == found["burst"]["of_redpanda"]


def test_a_failed_run_counts_for_nothing_and_shows() -> None:
    """Its rate enters no median; the contender says how many failed."""
    found = figures([run("bare", 1, 10.0), run("trickle", 1, 99.0, "3 users are missing")])

    assert {"runs": 0, "failed": 1} == found["trickle"]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)]
)
def test_percentiles(share: float, expected: float) -> None:
    """The value at that share of the ordered values, the last one at most."""
    assert expected == samples.percentile([float(one) for one in range(100, 0, -1)], share)


def ratios(**of_bare: float) -> dict[str, object]:
    """Return results with these ratios to the bare client."""
    found = {name: {"ratio": {"median": ratio}} for name, ratio in of_bare.items()}
    return {"databases": {"H2": {"figures": {"bare": {"runs": 0}, **found}}}}


@pytest.mark.parametrize(("now", "complaints"), [(0.9, 0), (0.50, 0), (0.47, 1), (0.1, 1)], ids=str)
def test_only_what_is_far_below_the_record_is_a_regression(now: float, complaints: int) -> None:
    """Below 0.6 of the recorded ratio, and never by an absolute time."""
    recorded = ratios(trickle=0.8, burst=0.8)

    found = list(verdict.regressions(ratios(trickle=now, burst=0.8), recorded))

    assert complaints == len(found)


@pytest.mark.parametrize(("single", "batches", "complaints"), [(0.7, 1.0, 0), (0.5, 0.9, 2)])
def test_single_writes_are_never_faster_than_the_bare_client(
    single: float, batches: float, complaints: int
) -> None:
    """A record that says so was made on a busy machine; of batches it may be true."""
    recorded = ratios(trickle=1.6, burst=1.6)

    found = list(verdict.regressions(ratios(trickle=single, burst=batches), recorded))

    assert complaints == len(found)


@pytest.mark.parametrize(
    ("now", "recorded", "complaint"),
    [
        ({"trickle": 0.9}, {"trickle": 0.9, "burst": 2.0}, "was measured"),
        ({"trickle": 0.9, "burst": 2.0}, {"trickle": 0.9}, "was recorded"),
        ({"trickle": 0.9, "burst": 2.0}, None, "was recorded"),
    ],
)
def test_what_is_not_compared_is_told(
    now: dict[str, float], recorded: dict[str, float] | None, complaint: str
) -> None:
    """A check that compares nothing would pass for ever."""
    then = {"databases": {}} if recorded is None else ratios(**recorded)

    found = list(verdict.regressions(ratios(**now), then))

    assert found[-1] == f"H2, burst: no ratio to the bare client {complaint}"


def test_every_failed_run_is_told() -> None:
    """Those of the warm-up too."""
    bad = run("bare", 1, 0.0, "Keycloak answered 500")
    warm_up = {"batches": [bad], "trials": [bad]}
    found = {"runs": [bad, run("bare", 2, 1.0)], "warm_up": warm_up}

    assert ["H2, round 1, bare: Keycloak answered 500"] * 3 == list(
        verdict.failures({"databases": {"H2": found}})
    )
