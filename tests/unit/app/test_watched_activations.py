"""The ledger beside the stages: when it runs, and that it stops nothing."""

import threading
from unittest.mock import Mock

import pytest
from stage_harness import counted

from keycloak_bridge.activation.ledger import STAGE
from keycloak_bridge.app import activation
from keycloak_bridge.app.activation import watched_activations
from keycloak_bridge.domain.errors import BrokerAccessError
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.settings.loading import read_settings


def watched(runtime: Mock, *overrides: str) -> list[str]:
    """Return the names of the threads that run meanwhile."""
    settings = read_settings(None, environ={}, overrides=overrides).settings
    interpretation = Mock(settings=settings)
    with watched_activations(runtime, interpretation, Mock(), Mock(), Mock(), Mock()):
        return [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("override", "runs"),
    [
        ("activation.enabled=true", True),
        ("activation.enabled=false", False),
        ("invite.mode=none", False),
    ],
)
def test_it_runs_where_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, override: str, runs: bool
) -> None:
    monkeypatch.setattr(activation, "_watch", lambda *arguments: arguments[-1].wait(60))

    assert runs is (STAGE in watched(Mock(), override))


def test_the_end_does_not_wait_for_a_call_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(activation, "_watch", lambda *_: hangs.wait(60))

    watched(Mock(), "delivery.drain=1 ms")

    assert not hangs.is_set()
    hangs.set()


@pytest.mark.parametrize("error", [BrokerAccessError("not allowed"), ZeroDivisionError()])
def test_what_goes_wrong_is_a_note_and_a_metric(error: Exception) -> None:
    """Such as a group that Kafka does not let in, since an upgrade brought it and the ACLs do not know it."""
    status, metrics = Status(), Metrics()
    metrics.open_invitations(7)

    watched(Mock(status=status, metrics=metrics, wait_for=Mock(side_effect=error)))

    (note,) = status.noted()
    assert note.startswith("activation: results activated and invitation-expired are not published")
    assert status.why_not_ready() == ()
    assert ({(): 1.0}, {(): 0.0}) == (
        counted(metrics, "activation_off"),
        counted(metrics, "open_invitations"),
    )
