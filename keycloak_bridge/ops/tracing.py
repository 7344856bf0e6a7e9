"""Traces: a span for each record that a stage handles, and for each call and each message that it causes.

This is the port that the flow uses. Without tracing nothing begins a span, so the current one is `NO_SPAN`, and all that
would come below it does nothing. `ops/otel.py` is the tracer of OpenTelemetry. Names and attributes are those of
OpenTelemetry's semantic conventions for messaging and HTTP; no attribute has a value of a person.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from keycloak_bridge.domain.errors import BridgeError, ConfigError

Attributes = Mapping[str, str | int]
Carrier = Mapping[str, str]
"""The headers `traceparent` and `tracestate` of W3C Trace Context."""

_FIRST_ERROR = 400
_PORTS = {"http": 80, "https": 443}


class Kind(StrEnum):
    """What a span is: work on a message, a message that is sent, a call, or none of these."""

    CONSUMER = "consumer"
    PRODUCER = "producer"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """A piece of work in a trace. Safe to share between threads; no method raises."""

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, 32 hexadecimal digits; None where there is no trace."""
        ...

    def start(self, name: str, kind: Kind, attributes: Attributes) -> "Span":
        """Begin a span below this one."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def carrier(self) -> Carrier:
        """Return what tells others of this span, to go along with a message or a call."""
        ...

    def fail(self, error_type: str) -> None:
        """Mark the work as failed, with a code."""
        ...

    def end(self, *, unless_unused: bool = False) -> None:
        """End the span; only the first end counts.

        With `unless_unused`, a span that has none below it is never exported.
        """
        ...


class Tracer(Protocol):
    """Begins the first span of this process in each trace. Safe to share between threads."""

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parents: Sequence[Carrier] = (),
        links: Sequence[Carrier | Span] = (),
    ) -> Span:
        """Begin a span below the first of `parents` that is valid, linked to the others and to `links`.

        Carriers come from others and may hold anything; those that are not valid are ignored.
        """
        ...

    def reaches_collector(self) -> bool:
        """Say whether the collector takes traces now; the exporter's time-out is how long that may take."""
        ...

    def close(self) -> None:
        """Export what has ended, for a few seconds at most."""
        ...


class _NoSpan:
    trace_id = None

    def start(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        del name, kind, attributes
        return self

    def set(self, attributes: Attributes) -> None:
        pass

    def carrier(self) -> Carrier:
        return {}

    def fail(self, error_type: str) -> None:
        pass

    def end(self, *, unless_unused: bool = False) -> None:
        pass


NO_SPAN: Span = _NoSpan()
_CURRENT: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current() -> Span:
    """Return the span of the work that this thread does now."""
    return _CURRENT.get()


@contextmanager
def active(span: Span) -> Iterator[None]:
    """Make `span` the current one inside the block; it goes on after it."""
    before = _CURRENT.set(span)
    try:
        yield
    finally:
        _CURRENT.reset(before)


@contextmanager
def calling(method: str, url: str) -> Iterator[Span]:
    """Have a span around one HTTP exchange; `url` has placeholders for ids and values, and no query."""
    above = current()
    if above is NO_SPAN:
        yield NO_SPAN
        return
    parts = urlsplit(url)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "server.address": parts.hostname or "",
        "server.port": parts.port or _PORTS.get(parts.scheme, 0),
        "url.full": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        "url.template": parts.path,
    }
    span = above.start(f"{method} {parts.path}", Kind.CLIENT, attributes)
    try:
        yield span
    except Exception as error:
        span.fail(error.code if isinstance(error, BridgeError) else type(error).__name__)
        raise
    finally:
        span.end()


def answered(span: Span, status: int) -> None:
    """Note the status of the answer to a call, which is an error from 400 on."""
    span.set({"http.response.status_code": status})
    if status >= _FIRST_ERROR:
        span.fail(str(status))


def sending(topic: str) -> Span:
    """Begin the span of a message on its way to `topic`."""
    above = current()
    if above is NO_SPAN:
        return NO_SPAN
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
    }
    return above.start(f"send {topic}", Kind.PRODUCER, attributes)


def open_tracer() -> Tracer:
    """Return the tracer of OpenTelemetry, set up by the environment variables `OTEL_…`.

    Raises ConfigError where it is not installed, or its variables ask for what it cannot do.
    """
    try:
        from keycloak_bridge.ops.otel import OtelTracer  # noqa: PLC0415 # an extra
    except ImportError as error:
        raise ConfigError(
            "tracing.enabled is true, and OpenTelemetry is not installed",
            code="tracing-not-installed",
            remedy="pip install 'keycloak-bridge[otel]', or set tracing.enabled to false",
        ) from error
    return OtelTracer()
