"""The list of metrics is in step with the code."""

import generate

from keycloak_bridge.ops.metrics import Metrics


def test_the_metrics_page_is_in_step() -> None:
    """docs/metrics.md is what `make docs` writes."""
    assert generate.metrics_page() == generate.METRICS.read_text(encoding="utf-8")


def test_every_metric_has_a_row() -> None:
    """Each name stands at the beginning of one row."""
    page = generate.METRICS.read_text(encoding="utf-8")

    assert [one.name for one in Metrics().declared] == [
        line.split("`")[1] for line in page.splitlines() if line.startswith("| `")
    ]
