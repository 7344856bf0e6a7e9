"""Traces: what is exported, whose trace it belongs to, and that a collector that is away harms nothing."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otlp_collector import PARENT, TRACE, TRACEPARENT, KeptSpans, collector
from pytest_socket import enable_socket

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops import otel, tracing
from keycloak_bridge.ops.logs import _Formatter, log_event
from keycloak_bridge.ops.otel import OtelTracer
from keycloak_bridge.ops.tracing import NO_SPAN, Kind, active, current, open_tracer

logger = logging.getLogger("keycloak_bridge.testing")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing from outside set up the exporter."""
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def kept() -> Iterator[KeptSpans]:
    spans = KeptSpans()
    yield spans
    spans.tracer.close()


def test_spans_arrive_at_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTLP over HTTP in protobuf, set up by the standard variables; the end of the bridge exports what is left."""
    enable_socket()
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        tracer = open_tracer()
        carriers = [{"traceparent": TRACEPARENT, "tracestate": "vendor=1"}]
        span = tracer.start("process user-events", Kind.CONSUMER, {"n": 1}, parents=carriers)
        below = span.start("POST /users", Kind.CLIENT, {})
        below.fail("409")
        below.end()
        span.end()
        tracer.close()

    assert {"/v1/traces"} == set(taken.paths)
    (resource, *_) = taken.resources
    assert {
        "service.name": "keycloak-bridge",
        "deployment.environment.name": "test",
        "telemetry.sdk.language": "python",
    }.items() <= resource.items()
    call, process = taken.spans
    assert ("process user-events", TRACE, PARENT, {"n": 1}, False) == (
        process.name,
        process.trace_id,
        process.parent_id,
        process.attributes,
        process.failed,
    )
    assert (TRACE, process.span_id, {"error.type": "409"}, True) == (
        call.trace_id,
        call.parent_id,
        call.attributes,
        call.failed,
    )


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's specification has it."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kb-blue")
    spans = KeptSpans()
    spans.tracer.start("x", Kind.INTERNAL, {}).end()
    (span,) = spans.ended()
    assert "kb-blue" == span.resource.attributes["service.name"]


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "00",
        TRACEPARENT.upper(),
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace(PARENT, "0" * 16),
        "ff" + TRACEPARENT[2:],
        f"{TRACEPARENT}-more",
        f"{TRACEPARENT}\n\nx",
        TRACEPARENT.replace("4", "٤"),
        "0" * 100_000,
    ],
)
def test_a_broken_traceparent_is_ignored(kept: KeptSpans, broken: str) -> None:
    """The record has a trace of its own; what another carrier says is believed all the same."""
    kept.tracer.start("x", Kind.CONSUMER, {}, parents=[{"traceparent": broken}]).end()
    other = {"traceparent": TRACEPARENT, "tracestate": "=" * 2000}
    kept.tracer.start("y", Kind.CONSUMER, {}, parents=[{"traceparent": broken}, other]).end()

    alone, with_other = kept.ended()
    assert (None, ()) == (alone.parent, tuple(alone.links))
    assert with_other.parent is not None
    assert f"{with_other.parent.span_id:016x}" == PARENT


@given(st.text(), st.text())
def test_no_carrier_raises(traceparent: str, tracestate: str) -> None:
    """Anybody may write such headers."""
    carrier = {"traceparent": traceparent, "tracestate": tracestate}
    assert otel._known(carrier) is None or traceparent
    assert otel._known({"traceparent": TRACEPARENT, "tracestate": tracestate}) is not None


def test_a_second_carrier_is_a_link(kept: KeptSpans) -> None:
    """The header says how the record came, the extension how the event was made; the same twice is no link."""
    made = TRACEPARENT.replace(PARENT, "a" * 16)
    for carriers in ([TRACEPARENT, made], [TRACEPARENT, TRACEPARENT]):
        carriers_of = [{"traceparent": one} for one in carriers]
        kept.tracer.start("x", Kind.CONSUMER, {}, parents=carriers_of).end()
    linked, unlinked = kept.ended()
    assert ["a" * 16] == [f"{one.context.span_id:016x}" for one in linked.links]
    assert not unlinked.links


def test_attributes_are_redacted(kept: KeptSpans) -> None:
    """A producer may make an id of an address."""
    span = kept.tracer.start("x", Kind.CONSUMER, {"a": "ada@acme.example"})
    span.set({"b": "ada@acme.example"})
    span.fail("ada@acme.example")
    span.end()
    (ended,) = kept.ended()
    assert {"[redacted]"} == set((ended.attributes or {}).values())


def test_work_that_had_to_wait_is_no_span(kept: KeptSpans) -> None:
    """Unless it called something first, whose span would lose its parent."""
    kept.tracer.start("waits", Kind.CONSUMER, {}).end(unless_unused=True)
    called = kept.tracer.start("calls", Kind.CONSUMER, {})
    called.start("GET /users", Kind.CLIENT, {}).end()
    called.end(unless_unused=True)
    assert ["GET /users", "calls"] == [one.name for one in kept.ended()]


def test_without_tracing_there_is_no_span() -> None:
    """Nothing is begun below it, nothing goes along with a message, and no line has an id."""
    assert (NO_SPAN, None, {}) == (current(), current().trace_id, current().carrier())
    with tracing.calling("GET", "http://keycloak/x") as span:
        assert span is NO_SPAN
    assert tracing.sending("user-results") is NO_SPAN
    span.set({})
    span.fail("x")
    span.end()
    assert span.start("x", Kind.INTERNAL, {}) is NO_SPAN


def test_each_line_of_the_log_has_the_trace(
    kept: KeptSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as the span is the current one."""
    span = kept.tracer.start("x", Kind.CONSUMER, {}, parents=[{"traceparent": TRACEPARENT}])
    with caplog.at_level(logging.INFO):
        with active(span):
            log_event(logger, "provisioned", event_id="e-1")
        log_event(logger, "caught-up")
    texts = [_Formatter(as_text=False, debugging=False).format(one) for one in caplog.records]
    assert [TRACE, None] == [json.loads(text).get("trace_id") for text in texts]


# what may go wrong


def test_tracing_without_the_extra_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.delitem(sys.modules, "keycloak_bridge.ops.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match="is not installed") as failure:
        open_tracer()
    assert "keycloak-bridge[otel]" in str(failure.value.remedy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
    ],
)
def test_what_cannot_be_exported_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Rather than traces that nobody ever sees."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as failure:
        open_tracer()
    assert "tracing-environment" == failure.value.code


def test_the_exporter_can_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records still carry their traces on, and the log names them."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    tracer = open_tracer()
    span = tracer.start("x", Kind.CONSUMER, {}, parents=[{"traceparent": TRACEPARENT}])
    assert span.trace_id == TRACE
    assert span.carrier()["traceparent"].startswith(f"00-{TRACE}-")
    assert tracer.reaches_collector()
    tracer.close()


class Switched(SpanExporter):
    """Takes spans as long as `works` says so; `hangs` is waited for in each export."""

    def __init__(self) -> None:
        self.works: bool | None = True
        self.hangs: threading.Event | None = None
        self.begun = threading.Event()
        self.closed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        if self.hangs is not None:
            self.hangs.wait(120)
        if self.works is None:
            raise ValueError("planted")
        return SpanExportResult.SUCCESS if self.works else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.closed += 1


def test_a_collector_that_is_away_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """And once more when it is back, whatever the exporter does meanwhile."""
    exporter = Switched()
    reporting = otel._Reporting(exporter)
    with caplog.at_level(logging.INFO):
        for works in (True, False, None, False, True, True, None):
            exporter.works = works
            reporting.export([])
    actions = [line.bridge_fields["action"] for line in caplog.records]  # type: ignore[attr-defined]
    assert ["traces-not-exported", "traces-exported", "traces-not-exported"] == actions
    assert "planted" not in caplog.text


@pytest.mark.parametrize("works", [True, False, None])
def test_whether_the_collector_answers(works: bool | None) -> None:
    """As the doctor asks, without a span."""
    exporter = Switched()
    exporter.works = works
    tracer = OtelTracer(exporter)
    assert (works is True) == tracer.reaches_collector()
    tracer.close()


def test_a_collector_that_hangs_neither_slows_the_bridge_nor_keeps_it_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spans beyond the queue are dropped; the end waits for a while only, and then breaks the exporter off."""
    monkeypatch.setattr(otel, "_CLOSE_S", 0.01)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    exporter = Switched()
    exporter.hangs = threading.Event()
    tracer = OtelTracer(exporter)
    for _ in range(1000):
        tracer.start("x", Kind.CONSUMER, {}).end()
    assert exporter.begun.wait(120)

    tracer.close()

    assert exporter.closed
    exporter.hangs.set()


def test_a_span_of_another_thread_can_be_ended_twice(kept: KeptSpans) -> None:
    """The first end counts."""
    span = kept.tracer.start("x", Kind.CONSUMER, {})
    span.end()
    span.fail("late")
    span.set({"late": 1})
    span.end()
    (ended,) = kept.ended()
    assert {} == dict(ended.attributes or {})


def test_the_headers_of_the_exporter_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold the token of whoever takes the traces."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api=planted-0tel-key,other=1")
    open_tracer().close()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(as_text=True, debugging=False))
    line = logging.LogRecord("x", logging.INFO, "x", 0, "planted-0tel-key", None, None)
    handler.emit(line)
    assert "planted-0tel-key" not in stream.getvalue()
