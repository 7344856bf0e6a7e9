"""Which trace a record says that it belongs to: headers of W3C Trace Context, and the CloudEvent's extension for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.cloudevents import header_texts, read_head
from keycloak_bridge.events.decode import EnvelopeRules

_NAMES = ("traceparent", "tracestate")


def trace_contexts(record: Record, rules: EnvelopeRules) -> Sequence[Mapping[str, str]]:
    """Return what the headers of `record` say, and the extension "distributed tracing" of its CloudEvent; never raises.

    The headers are of the message on its way, the extension of the event's creation. Neither is checked.
    """
    found = [_texts(header_texts(record))]
    if rules.custom is None:
        found.append(_texts(read_head(record, rules.limits)))
    return [one for one in found if "traceparent" in one]


def _texts(values: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: text for name in _NAMES if isinstance(text := values.get(name), str)}
