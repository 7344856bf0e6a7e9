import report

from bench import publish
from bench.table import table

README = publish.README.read_text(encoding="utf-8")
RESULTS = publish.recorded()
PAGE = (publish.RECORDED / "table.md").read_text(encoding="utf-8")
ROW = {
    "scenario": "4 Kafka killed",
    "within_s": 5.0,
    "users": 2000,
    "events": 2900,
    "batches": 0,
    "writes": 9000,
    "repeats": 3,
    "mails": 1940,
    "dead_letters": 0,
    "recoveries_s": [1.04, 5.26],
}


def test_the_page_takes_the_table_again_and_again() -> None:
    """A report replaces what the one before has left, and nothing around it."""
    page = report.PAGE.read_text(encoding="utf-8")
    once = report.renewed(page, report.table([ROW]))

    assert once == report.renewed(once, report.table([ROW]))
    assert page.partition(report.BEGIN)[0] == once.partition(report.BEGIN)[0]
    assert page.partition(report.END)[2] == once.partition(report.END)[2]


def test_a_recovery_that_takes_longer_than_promised_is_marked() -> None:
    """The worst one counts; a scenario without a fault has none."""
    calm = {**ROW, "scenario": "2 calm", "within_s": None, "recoveries_s": []}
    *_, first, second = report.table([ROW, calm]).splitlines()

    assert "| 2 calm | 2,000 | 2,900 | 0 | 9,000 | 3 | 1,940 | 0 | | |" == first
    assert (
        "| 4 Kafka killed | 2,000 | 2,900 | 0 | 9,000 | 3 | 1,940 | 0 | 5.3 s (late) | 5 s |"
        == second
    )


def test_the_pages_show_the_recorded_figures() -> None:
    """README.md and docs/benchmark/table.md follow from docs/benchmark/results.json."""
    assert table(RESULTS) == PAGE
    assert publish.renewed(README, RESULTS) == README


def test_the_record_holds_no_failed_run() -> None:
    """What failed is never recorded."""
    runs = [run for one in RESULTS["databases"].values() for run in one["runs"]]

    assert [] == [run for run in runs if run["problem"]]
    assert runs
