"""What the bridge counts, as Prometheus reads it."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from threads import in_threads

from keycloak_bridge import __version__
from keycloak_bridge.delivery.breaker import BreakerState
from keycloak_bridge.domain.events import Outcome
from keycloak_bridge.ops.metrics import OTHER, PREFIX, Metrics

Labels = dict[str, str]


def samples(metrics: Metrics) -> list[tuple[str, Labels, float]]:
    """Return every sample of the exposition, without the prefix of its name."""
    text = metrics.exposition().decode()
    return [
        (sample.name.removeprefix(f"{PREFIX}_"), sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def named(metrics: Metrics, name: str) -> list[tuple[Labels, float]]:
    """Return the samples of one name."""
    return [(labels, value) for found, labels, value in samples(metrics) if name == found]


def set_gauges(metrics: Metrics, *, breaker: str = "closed") -> None:
    """Note a stage with something in hand."""
    metrics.gauges(
        "provision",
        in_hand=5,
        in_hand_bytes=700,
        waiting=3,
        running=2,
        paused=True,
        breaker=breaker,
        brake_engaged=True,
        oldest_s=1.5,
    )


def touched() -> Metrics:
    """Return metrics of which each has a value."""
    metrics = Metrics()
    metrics.handled("provision", Outcome.REJECTED, "schema-violation", 0.2)
    metrics.dead_letter("provision", "schema-violation")
    metrics.retried("provision", "keycloak-unavailable")
    metrics.mail()
    metrics.batch(20, failed=False)
    metrics.committed("provision")
    set_gauges(metrics)
    metrics.lag("provision", 0, 7)
    metrics.ready(True)
    return metrics


def test_a_record_is_counted_and_timed() -> None:
    """One counter by stage, outcome and reason; a good record has no reason."""
    metrics = Metrics()
    metrics.handled("provision", Outcome.PROVISIONED, None, 0.2)
    metrics.handled("provision", Outcome.PROVISIONED, None, 0.4)
    metrics.handled("invite", Outcome.REJECTED, "not-an-invitation", 0.1)

    assert [
        ({"stage": "provision", "outcome": "provisioned", "reason": ""}, 2.0),
        ({"stage": "invite", "outcome": "rejected", "reason": "not-an-invitation"}, 1.0),
    ] == named(metrics, "records_total")
    assert [({"stage": "provision"}, 2.0), ({"stage": "invite"}, 1.0)] == named(
        metrics, "record_seconds_count"
    )
    assert [pytest.approx(0.6), pytest.approx(0.1)] == [
        value for _, value in named(metrics, "record_seconds_sum")
    ]


def test_batches_are_counted() -> None:
    """By whether they were taken whole, and the users of those that were."""
    metrics = Metrics()
    metrics.batch(20, failed=False)
    metrics.batch(30, failed=False)
    metrics.batch(30, failed=True)

    assert [50.0] == [value for _, value in named(metrics, "batched_users_total")]
    assert {"failed": 1.0, "written": 2.0} == {
        dict(labels)["outcome"]: value for labels, value in named(metrics, "batches_total")
    }


def test_failures_and_mails_are_counted() -> None:
    """Dead letters and retries by code, mails in all."""
    metrics = Metrics()
    metrics.dead_letter("provision", "not-json")
    metrics.retried("invite", "mail-not-sent")
    metrics.retried("invite", "mail-not-sent")
    metrics.mail()

    assert [({"stage": "provision", "code": "not-json"}, 1.0)] == named(
        metrics, "dead_letters_total"
    )
    assert [({"stage": "invite", "code": "mail-not-sent"}, 2.0)] == named(metrics, "retries_total")
    assert [({}, 1.0)] == named(metrics, "mails_total")


def test_a_commit_is_counted_and_dated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter goes up and the gauge holds the time."""
    metrics = Metrics()
    monkeypatch.setattr(time, "time", lambda: 1_793_577_600.0)
    metrics.committed("provision")

    assert [({"stage": "provision"}, 1.0)] == named(metrics, "commits_total")
    assert [({"stage": "provision"}, 1_793_577_600.0)] == named(
        metrics, "last_commit_timestamp_seconds"
    )


def test_a_stage_shows_how_it_is_doing() -> None:
    """Every number of the call has its gauge."""
    metrics = Metrics()
    set_gauges(metrics)

    assert {
        "in_hand_records": 5.0,
        "in_hand_bytes": 700.0,
        "waiting_records": 3.0,
        "running_records": 2.0,
        "fetching_paused": 1.0,
        "breaker_open": 0.0,
        "brake_engaged": 1.0,
        "oldest_unfinished_seconds": 1.5,
        "commits_total": 0.0,
    } == {
        name: value for name, labels, value in samples(metrics) if {"stage": "provision"} == labels
    }


@pytest.mark.parametrize(
    ("breaker", "value"),
    [
        (BreakerState.CLOSED, 0.0),
        (BreakerState.HALF_OPEN, 0.5),
        (BreakerState.OPEN, 1.0),
        ("unheard-of", 1.0),
    ],
)
def test_the_breaker_is_a_number(breaker: str, value: float) -> None:
    """Each state has its own; an unknown word is shown as open and breaks nothing."""
    metrics = Metrics()
    set_gauges(metrics, breaker=breaker)

    assert [({"stage": "provision"}, value)] == named(metrics, "breaker_open")


def test_the_lag_is_of_a_partition() -> None:
    """Each has its own, which is what was noted last."""
    metrics = Metrics()
    for partition, lag in ((0, 7), (1, 9), (0, 3)):
        metrics.lag("provision", partition, lag)

    assert {"0": 3.0, "1": 9.0} == {
        labels["partition"]: value for labels, value in named(metrics, "lag_records")
    }


def test_readiness_is_a_number() -> None:
    """0 until it is set."""
    metrics = Metrics()
    before = named(metrics, "ready")
    metrics.ready(True)

    assert ([({}, 0.0)], [({}, 1.0)]) == (before, named(metrics, "ready"))


def test_the_version_is_a_label() -> None:
    """So that a dashboard shows who runs what."""
    assert [({"version": __version__}, 1.0)] == named(Metrics(), "build_info")


@pytest.mark.parametrize(
    "text", ["ada.lovelace@acme.example", "Lovelace", "two words", "", "x" * 65, "a\nb"]
)
def test_only_codes_become_labels(text: str) -> None:
    """What does not look like a code is counted without being shown."""
    metrics = Metrics()
    metrics.dead_letter("provision", text)
    metrics.retried("provision", text)
    metrics.handled("provision", "provisioned", text or "-", 0.1)

    assert [OTHER] * 3 == [
        labels.get("code", labels.get("reason"))
        for name in ("dead_letters_total", "retries_total", "records_total")
        for labels, _ in named(metrics, name)
    ]


def test_every_metric_is_declared() -> None:
    """Name, kind and labels in the exposition are those of the list that the documentation is made of."""
    text = touched().exposition().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)

    assert found == {one.name: (one.kind, set(one.labels)) for one in touched().declared}
    assert all(one.name.startswith("keycloak_bridge_") for one in touched().declared)


def test_every_metric_says_what_it_means() -> None:
    """A sentence each; no name twice."""
    declared = Metrics().declared

    assert all(one.meaning.endswith(".") for one in declared)
    assert len(declared) == len({one.name for one in declared})


def test_the_exposition_is_no_larger_than_it_must_be() -> None:
    """The library's moments of creation would be one more metric each."""
    assert b"_created" not in touched().exposition()


def test_two_bridges_in_a_process_count_apart() -> None:
    """There is no registry that all share."""
    one, other = Metrics(), Metrics()
    one.mail()

    assert ([({}, 1.0)], [({}, 0.0)]) == (named(one, "mails_total"), named(other, "mails_total"))


def test_threads_lose_no_count() -> None:
    """All workers count into the same metrics."""
    metrics = Metrics()

    def work() -> None:
        for _ in range(500):
            metrics.handled("provision", "provisioned", None, 0.01)

    in_threads(*[work] * 4)

    assert [2000.0] == [value for _, value in named(metrics, "records_total")]
    assert [2000.0] == [value for _, value in named(metrics, "record_seconds_count")]
