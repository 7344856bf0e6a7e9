"""A stand-in for an OpenTelemetry collector, and spans that stay in this process."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from keycloak_bridge.ops.otel import OtelTracer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
"""The example of W3C Trace Context."""


@dataclass(slots=True)
class ReceivedSpan:
    """A span as it went over the wire; ids are hexadecimal, an absent parent is empty."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: Mapping[str, Any]
    links: tuple[str, ...]
    failed: bool


@dataclass(slots=True)
class Collector:
    """Takes traces by OTLP over HTTP, and decodes them; `status` is its answer."""

    url: str = ""
    status: int = 200
    spans: list[ReceivedSpan] = field(default_factory=list)
    resources: list[Mapping[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        """Decode one request."""
        self.paths.append(path)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_attributes(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        one.name,
                        one.trace_id.hex(),
                        one.span_id.hex(),
                        one.parent_span_id.hex(),
                        one.kind,
                        _attributes(one.attributes),
                        tuple(link.span_id.hex() for link in one.links),
                        one.status.code == one.status.STATUS_CODE_ERROR,
                    )
                    for one in scope.spans
                ]


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """Listen on a free port of this machine."""
    taken = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if taken.status == 200:
                taken.take(self.path, body)
            self.send_response(taken.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in pairs}


class KeptSpans:
    """A tracer whose spans stay here; `close` it before a look at them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(self._exporter)

    def ended(self) -> tuple[ReadableSpan, ...]:
        """Return the spans that have ended."""
        self.tracer.close()
        return self._exporter.get_finished_spans()
