import re

import report

from bench import publish
from bench.table import table
from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.failures import FailurePolicy
from keycloak_bridge.delivery.key_queues import Task
from keycloak_bridge.domain.errors import MailDeliveryError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.times import format_duration, parse_duration
from keycloak_bridge.keycloak.lookup_times import LISTED_S, SEARCHED_S
from keycloak_bridge.keycloak.partial_import import BATCHED_SAVES_S
from keycloak_bridge.provisioning.known_users import pays_to_list
from keycloak_bridge.settings.model import Settings

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


def test_the_table_of_what_is_listed_follows_from_the_rule() -> None:
    """docs/burst.md: for as many events the realm is listed, and for a tenth fewer it is not."""
    page = (publish.ROOT / "docs" / "burst.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) events and more \| (.*) \|$", page, re.MULTILINE)
    saved_s = {"with": SEARCHED_S + BATCHED_SAVES_S, "without": 0.08 + BATCHED_SAVES_S}
    before = ""
    for users, least, how in rows:
        before = before if how == "the same" else how.partition(" ")[0]
        wanted, waiting = (int(number.replace(",", "")) for number in (users, least))
        costs = {"listed_s": LISTED_S, "saved_s": saved_s[before]}

        assert pays_to_list(wanted, waiting, **costs), least
        assert not pays_to_list(wanted, waiting * 9 // 10, **costs), least
    assert 3 == len(rows)


def given_up_after_s(max_attempts: int, max_s: float) -> float:
    """Return how long a mailbox is tried that the mail server refuses, while nothing else fails."""
    failures = FailurePolicy(RetryPolicy(Settings().retry.initial, max_s), max_attempts)
    task = Task(Record("user-invitations", 0, 0, 0, b"ada", b"{}"), b"ada")
    refused = MailDeliveryError("refused", status=500)
    refused.server_greets = True
    now_s = 0.0
    while not failures.count_failure(task, refused):
        again_at_s = failures.failed(task, refused, now_s, 1.0)
        assert again_at_s is not None
        now_s = again_at_s
    return now_s


def test_the_page_says_how_long_a_record_is_tried_that_fails_alone() -> None:
    """docs/operating.md, for the defaults and for what an operator may choose."""
    page = (publish.ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)(.*?) \| (\d+ s)(.*?) \| (\d.*?) \|$", page, re.MULTILINE)
    settings = Settings()

    assert [(settings.delivery.max_attempts, settings.retry.max)] == [
        (int(attempts), parse_duration(longest))
        for attempts, first, longest, second, _ in rows
        if first and second
    ]
    assert 4 == len(rows)
    for attempts, _, longest, _, told in rows:
        assert format_duration(given_up_after_s(int(attempts), parse_duration(longest))) == told
