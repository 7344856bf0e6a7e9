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
        if not sample.name.startswith("process_")
    ]


def named(metrics: Metrics, name: str) -> list[tuple[Labels, float]]:
    """Return the samples of one name."""
    return [(labels, value) for found, labels, value in samples(metrics) if name == found]


def touched(*, breaker: str = "closed") -> Metrics:
    """Return metrics of which each has a value."""
    metrics = Metrics()
    metrics.handled("provision", Outcome.PROVISIONED, None, 0.2)
    metrics.handled("provision", Outcome.PROVISIONED, None, 0.4)
    metrics.handled("invite", Outcome.REJECTED, "not-an-invitation", 0.1)
    metrics.dead_letter("provision", "not-json")
    metrics.lost("provision", 4)
    metrics.lost("provision", 2)
    metrics.position_reset("provision")
    metrics.retried("invite", "mail-not-sent")
    metrics.retried("invite", "mail-not-sent")
    metrics.mail()
    metrics.open_invitations(7)
    metrics.looked_up("attribute", 1.5)
    metrics.batch(20, failed=False)
    metrics.batch(30, failed=False)
    metrics.batch(30, failed=True)
    metrics.committed("provision")
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
    metrics.lag("provision", {0: 7, 1: 9})
    metrics.lag("provision", {0: 3, 1: 9})
    metrics.held("provision", {"unknown-user": 2, "under-way": 1})
    metrics.held("provision", {"unknown-user": 1})
    metrics.overruled()
    metrics.waited("provision", 7.5)
    metrics.limit("disables", 500, lambda: 12)
    metrics.exposition({"invite": "mail-not-sent"})
    return metrics


HERE = (("stage", "provision"),)
INVITE = (("stage", "invite"),)


def test_what_is_reported_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records by stage, outcome and reason, failures by code, batches by outcome; gauges are as of the last report."""
    monkeypatch.setattr(time, "time", lambda: 1_793_577_600.0)
    found = {
        (name, *labels.items()): value
        for name, labels, value in samples(touched())
        if not name.endswith(("_bucket", "_sum"))
    }

    assert found == {
        ("overruled_events_total",): 1.0,
        ("records_total", ("outcome", "provisioned"), ("reason", ""), *HERE): 2.0,
        ("records_total", ("outcome", "rejected"), ("reason", "not-an-invitation"), *INVITE): 1.0,
        ("lost_records_total", *HERE): 6.0,
        ("position_resets_total", *HERE): 1.0,
        ("record_seconds_count", *HERE): 2.0,
        ("record_seconds_count", *INVITE): 1.0,
        ("dead_letters_total", ("code", "not-json"), *HERE): 1.0,
        ("retries_total", ("code", "mail-not-sent"), *INVITE): 2.0,
        ("mails_total",): 1.0,
        ("lookup_seconds_count", ("kind", "attribute")): 1.0,
        ("batched_users_total",): 50.0,
        ("batches_total", ("outcome", "written")): 2.0,
        ("batches_total", ("outcome", "failed")): 1.0,
        ("commits_total", *HERE): 1.0,
        ("last_commit_timestamp_seconds", *HERE): 1_793_577_600.0,
        ("in_hand_records", *HERE): 5.0,
        ("in_hand_bytes", *HERE): 700.0,
        ("waiting_records", *HERE): 3.0,
        ("running_records", *HERE): 2.0,
        ("fetching_paused", *HERE): 1.0,
        ("breaker_open", *HERE): 0.0,
        ("brake_engaged", *HERE): 1.0,
        ("oldest_unfinished_seconds", *HERE): 1.5,
        ("lag_records", ("partition", "0"), *HERE): 3.0,
        ("lag_records", ("partition", "1"), *HERE): 9.0,
        ("held_records", ("code", "unknown-user"), *HERE): 1.0,
        ("held_records", ("code", "under-way"), *HERE): 0.0,
        ("end_to_end_latency_seconds_count", *HERE): 1.0,
        ("limited_changes", ("limit", "disables")): 12.0,
        ("open_invitations",): 7.0,
        ("activation_off",): 0.0,
        ("limited_changes_max", ("limit", "disables")): 500.0,
        ("problem", ("code", "mail-not-sent"), ("stage", "invite")): 1.0,
        ("ready",): 0.0,
        ("build_info", ("version", __version__)): 1.0,
    }
    assert [({}, 0.0)] == named(Metrics(), "ready")
    assert [pytest.approx(0.6), pytest.approx(0.1)] == [
        value for _, value in named(touched(), "record_seconds_sum")
    ]


def test_lag_is_reported_of_assigned_partitions_only() -> None:
    """What moved away leaves no sample, or it would be counted twice and for ever; other stages keep theirs."""
    metrics = touched()
    metrics.lag("invite", {0: 4, 1: 5})
    metrics.lag("provision", {1: 8, 2: 6})

    assert {
        ("invite", "0"): 4.0,
        ("invite", "1"): 5.0,
        ("provision", "1"): 8.0,
        ("provision", "2"): 6.0,
    } == {(at["stage"], at["partition"]): value for at, value in named(metrics, "lag_records")}


def test_a_stage_that_ended_is_only_counted() -> None:
    """No gauge says how it is doing; one that has not reported yet ends as well."""
    metrics = touched()
    metrics.ended("provision")
    metrics.ended("invite")
    of_it = {name for name, at, _ in samples(metrics) if at == {"stage": "provision"}}

    assert [] == named(metrics, "lag_records") + named(metrics, "held_records")
    assert {"commits_total", "lost_records_total"} <= of_it
    assert of_it.isdisjoint(
        {"in_hand_records", "breaker_open", "brake_engaged", "oldest_unfinished_seconds"}
    )


@pytest.mark.parametrize(
    ("breaker", "value"),
    [(BreakerState.HALF_OPEN, 0.5), (BreakerState.OPEN, 1.0), ("unheard-of", 1.0)],
)
def test_the_breaker_is_a_number(breaker: str, value: float) -> None:
    """Each state has its own; an unknown word is shown as open and breaks nothing."""
    metrics = touched(breaker=breaker)

    assert [({"stage": "provision"}, value)] == named(metrics, "breaker_open")


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
    """Name, kind and labels in the exposition are those of the list that the documentation is made of; a sentence each."""
    text = touched().exposition().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue  # those of prometheus_client, which every exporter has
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)

    declared = touched().declared
    assert found == {one.name: (one.kind, set(one.labels)) for one in declared}
    assert len(found) == len(declared)
    assert all(one.name.startswith("keycloak_bridge_") for one in declared)
    assert all(one.meaning.endswith(".") for one in declared)
    assert "_created" not in text  # the moments of creation would be one more metric each


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


def test_a_scrape_names_the_problems_of_its_moment() -> None:
    """What is over leaves no sample behind, and one that is no code becomes no label."""
    metrics = Metrics()
    metrics.exposition({"invite": "mail-not-sent", "provision": "Ada Lovelace"})
    before = named(metrics, "problem"), named(metrics, "ready")
    metrics.exposition({})

    assert [("mail-not-sent", 1.0), (OTHER, 1.0)] == [(at["code"], n) for at, n in before[0]]
    assert [({}, 0.0)] == before[1]
    assert ([], [({}, 1.0)]) == (named(metrics, "problem"), named(metrics, "ready"))


def test_the_process_is_measured_by_the_usual_names() -> None:
    """Start, memory and CPU are what every dashboard looks for."""
    text = Metrics().exposition().decode()

    for name in ("start_time_seconds", "resident_memory_bytes", "cpu_seconds_total", "open_fds"):
        assert f"\nprocess_{name} " in text
