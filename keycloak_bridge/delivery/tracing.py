"""The spans of one stage: one for each attempt at a record, and one for each batch of users."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from keycloak_bridge.domain.events import Record
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.events.trace_context import trace_contexts
from keycloak_bridge.ops.tracing import NO_SPAN, Attributes, Kind, Span, Tracer


@dataclass(frozen=True, slots=True)
class StageTracer:
    """Begins spans where there is a `tracer`; `rules` say how to read a record.

    With `continues`, a record is handled in the trace that it names, else in one of its own that is linked to it.
    """

    tracer: Tracer | None = None
    continues: bool = True
    group_id: str = ""
    rules: EnvelopeRules = field(default_factory=EnvelopeRules)

    def process(self, record: Record) -> Span:
        """Begin the span of an attempt at `record`."""
        if self.tracer is None:
            return NO_SPAN
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self.group_id,
        }
        named = trace_contexts(record, self.rules)
        return self.tracer.start(
            f"process {record.topic}",
            Kind.CONSUMER,
            attributes,
            parents=named if self.continues else (),
            links=() if self.continues else named,
        )

    def batch(self, of: Sequence[Span]) -> Span:
        """Begin the span of users that are written at once, linked to the spans of their records."""
        if self.tracer is None:
            return NO_SPAN
        attributes = {"messaging.batch.message_count": len(of)}
        return self.tracer.start("write batch", Kind.INTERNAL, attributes, links=of)


NO_TRACES = StageTracer()
"""Begins no span."""
