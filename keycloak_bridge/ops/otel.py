"""Spans by OpenTelemetry's SDK, exported by OTLP over HTTP: the only module that knows OpenTelemetry, which is an extra.

The environment variables of OpenTelemetry's specification set it up. Spans wait for the exporter in a queue of limited
length, which drops the oldest, so that a collector that is slow or away neither stops nor slows the bridge.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from keycloak_bridge import __version__
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops import redaction
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.tracing import Attributes, Carrier, Kind, Span

logger = logging.getLogger(__name__)

_CLOSE_S = 5.0
"""How long the end of the process waits for the collector."""

_LONGEST = 512
"""Characters of a header of W3C Trace Context that are read."""

_KINDS = {
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
}
_W3C = TraceContextTextMapPropagator()
_EXPORTER = "OTEL_TRACES_EXPORTER"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


class OtelTracer:
    """Begins spans and exports them; see the port `Tracer`."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """Start the exporter's thread; without `exporter` it is the one that the environment asks for."""
        environment = os.environ
        own = {"service.name": "keycloak-bridge", "service.version": __version__}
        # what is handed to `create` overrides the environment, which is to decide
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        try:
            exporter = exporter or _exporter(environment)
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            if exporter is not None:
                self._provider.add_span_processor(BatchSpanProcessor(_Reporting(exporter)))
        except (ValueError, OSError) as error:
            raise _refusal(
                "OTEL_EXPORTER_OTLP_… and OTEL_BSP_…", "have values that work together"
            ) from error
        self._exporter = exporter
        self._tracer = self._provider.get_tracer("keycloak_bridge", __version__)

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parents: Sequence[Carrier] = (),
        links: Sequence[Carrier | Span] = (),
    ) -> Span:
        """Begin a span; see the port."""
        known = [found for one in parents if (found := _known(one)) is not None]
        below = trace.set_span_in_context(known[0]) if known else Context()
        known += [found for one in links if (found := _known(one)) is not None]
        contexts = {one.get_span_context().span_id: one.get_span_context() for one in known}
        contexts.pop(trace.get_current_span(below).get_span_context().span_id, None)
        span = self._tracer.start_span(
            name,
            below,
            _KINDS[kind],
            _shown(attributes),
            [trace.Link(one) for one in contexts.values()],
        )
        return _OtelSpan(span, self._tracer)

    def reaches_collector(self) -> bool:
        """Export no span; see the port."""
        return self._exporter is None or _exported(self._exporter, ())

    def close(self) -> None:
        """Export what has ended, for a few seconds at most; see the port."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive() and self._exporter is not None:
            self._exporter.shutdown()  # ends its pause before another attempt


class _OtelSpan:
    def __init__(self, inner: trace.Span, tracer: trace.Tracer) -> None:
        self.inner = inner
        self._tracer = tracer
        self._used = False

    @property
    def trace_id(self) -> str | None:
        context = self.inner.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def start(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        self._used = True
        above = trace.set_span_in_context(self.inner)
        below = self._tracer.start_span(name, above, _KINDS[kind], _shown(attributes))
        return _OtelSpan(below, self._tracer)

    def set(self, attributes: Attributes) -> None:
        if self.inner.is_recording():
            self.inner.set_attributes(_shown(attributes))

    def carrier(self) -> Carrier:
        self._used = True
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self.inner))
        return carrier

    def fail(self, error_type: str) -> None:
        if self.inner.is_recording():
            self.set({"error.type": error_type})
            self.inner.set_status(trace.StatusCode.ERROR)

    def end(self, *, unless_unused: bool = False) -> None:
        if self.inner.is_recording() and (self._used or not unless_unused):
            self.inner.end()


class _Reporting(SpanExporter):
    """Says once in the log that spans are not exported, and once that they are again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        failing = not _exported(self._exporter, spans)
        if failing and not self._failing:
            log_event(
                logger,
                "traces-not-exported",
                level=logging.WARNING,
                message="the collector takes no traces (OTEL_EXPORTER_OTLP_ENDPOINT); they are dropped until it does",
            )
        elif self._failing and not failing:
            log_event(logger, "traces-exported", message="the collector takes traces again")
        self._failing = failing
        return SpanExportResult.FAILURE if failing else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _exported(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> bool:
    try:
        return exporter.export(spans) is SpanExportResult.SUCCESS
    except Exception:  # noqa: BLE001 # whatever it is, the next spans are tried
        return False


def _exporter(environment: Mapping[str, str]) -> SpanExporter | None:
    """Return the exporter that the environment asks for, None for none; raises ConfigError for another than OTLP over HTTP."""
    wanted = environment.get(_EXPORTER, "").strip() or "otlp"
    if wanted == "none":
        return None
    if wanted != "otlp":
        raise _refusal(_EXPORTER, "is otlp, or none")
    for name in _PROTOCOLS:
        if environment.get(name, "").strip() not in ("", "http/protobuf"):
            raise _refusal(name, "is http/protobuf")
    for name in _HEADERS:
        for pair in environment.get(name, "").split(","):
            redaction.shared.add(pair.partition("=")[2].strip())
    return OTLPSpanExporter()


def _refusal(name: str, rule: str) -> ConfigError:
    return ConfigError(
        f"the environment asks for traces that the bridge cannot export ({name})",
        code="tracing-environment",
        remedy=f"see to it that {name} {rule}",
    )


def _known(place: Carrier | Span) -> trace.Span | None:
    """Return the span that `place` is or tells of; None where that is not valid."""
    if isinstance(place, _OtelSpan):
        return place.inner
    if not isinstance(place, Mapping):
        return None
    texts = {name: text for name, text in place.items() if len(text) <= _LONGEST and text.isascii()}
    span = trace.get_current_span(_W3C.extract(texts, Context()))
    return span if span.get_span_context().is_valid else None


def _shown(attributes: Attributes) -> dict[str, Any]:
    redact = redaction.shared.redact
    return {k: redact(v) if isinstance(v, str) else v for k, v in attributes.items()}
