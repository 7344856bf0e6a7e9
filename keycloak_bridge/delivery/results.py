"""Where a stage publishes what became of a record: a result of each, and a dead letter of what can never succeed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from keycloak_bridge import __version__
from keycloak_bridge.delivery.guards import BRAKED_S
from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.errors import (
    RECORD_TOO_LARGE,
    BridgeError,
    BrokerAccessError,
    DeadLetterError,
    HoldError,
    ParkedError,
)
from keycloak_bridge.domain.events import Invitation, Message, Outcome, Record, Result
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Clock,
    DeadLetterArchive,
    MessageProducer,
    StageOutput,
)
from keycloak_bridge.messages.bridge_headers import (
    DEAD_LETTER_PREFIX,
    has_bridge_headers,
    without_bridge_headers,
)
from keycloak_bridge.messages.dead_letters import dead_letter_message, is_replay, without_body
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.messages.results import result_message, without_details
from keycloak_bridge.ops import tracing
from keycloak_bridge.ops.logs import internal_error, log_event

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResultPublisher:
    """Publishes the results and dead letters of one stage."""

    context: StageContext
    output: StageOutput
    group_id: str

    def without_forged_headers(self, record: Record) -> Record:
        """Return `record` without headers of the bridge, unless they are those of a replay: any producer can write them.

        Raises BrokerError where that cannot be told now.
        """
        if not has_bridge_headers(record) or self.output.replayed(record):
            return record
        log_event(
            logger,
            "replay-not-confirmed",
            level=logging.WARNING,
            message="its headers say that it is a replay, and the dead-letter topic does not: it counts as a new record",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        return without_bridge_headers(record)

    def publish(self, record: Record, result: Result, since_s: float) -> Acknowledgement:
        """Publish `result` and log it as the one line of this record, which was begun at `since_s`."""
        context = self.context
        duration_s = context.clock.monotonic() - since_s
        log_event(
            logger,
            result.outcome.value,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event_id=result.event_id,
            event_type=result.event_type,
            user_id=result.user_id,
            keycloak_id=result.keycloak_id,
            operation=result.action,
            reason=result.reason,
            duration_ms=round(duration_s * 1000, 1),
        )
        context.metrics.handled(context.name, result.outcome.value, result.reason, duration_s)
        _describe(tracing.current(), result)
        if result.outcome is not Outcome.REJECTED:
            context.brake.good()
        return self.output.result(record, result)

    def arrived(self, record: Record, since: datetime | None) -> None:
        """Count how long after `since` Keycloak had done what somebody waited for; a replay counts for nothing."""
        if since is None or is_replay(record):
            return
        waited_s = (self.context.clock.now() - since).total_seconds()
        # the clocks of producer, broker and bridge differ
        self.context.metrics.waited(self.context.name, max(0.0, waited_s))

    def dead_letter(
        self, record: Record, error: BridgeError, *, step: str, result: Result, since_s: float
    ) -> tuple[Acknowledgement, ...]:
        """Publish the untouched record with its reason, and its result; only the result where the dead letter exists.

        `step` is where it failed: decode, schema, map, keycloak or invite. Raises HoldError while the brake is engaged.
        """
        context, sent = self.context, self.context.sent_dead_letters
        if sent.covers(record) and self.output.holds(record):
            return (self.publish(record, result, since_s),)
        if record.unreadable is not None:
            self._report_unreadable(record, error)
        again = sent.sent(record)
        # a parked event follows from a dead letter that was counted
        if not (isinstance(error, ParkedError) or sent.counted(record)):
            if not context.brake.admits():
                raise HoldError("too much became a dead letter", wait_s=BRAKED_S, code="brake")
            # as often as Kafka refuses the dead letter, it is the same one
            sent.note_counted(record)
        letter = self.output.dead_letter(record, error, result, step=step, group_id=self.group_id)
        # even where it arrives, the record comes again if its result does not
        sent.note(record)
        if not again:
            context.metrics.dead_letter(context.name, error.code)
        return (letter, self.publish(record, result, since_s))

    def _report_unreadable(self, record: Record, error: BridgeError) -> None:
        context = self.context
        context.status.note(
            context.name,
            f"{record.topic}/{record.partition}@{record.offset} became a dead letter: {error.message}",
        )
        log_event(
            logger,
            "record-unreadable",
            level=logging.WARNING,
            message=error.message,
            stage=context.name,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=error.code,
        )


@dataclass(frozen=True, slots=True)
class TopicOutput:
    """The topics of the bridge as the output of its stages.

    `dead_letters` must send nothing twice by itself; where it cannot say whether a dead letter arrived, the archive is
    asked.
    """

    producer: MessageProducer
    dead_letters: MessageProducer
    archive: DeadLetterArchive
    clock: Clock
    results_topic: str
    dead_letters_topic: str
    invitations_topic: str

    def result(self, record: Record, result: Result) -> Acknowledgement:
        """Publish what became of `record`."""
        as_message = partial(
            result_message, topic=self.results_topic, time=self.clock.now(), origin=record
        )

        def shorten(message: Message) -> Message:
            return replace(as_message(without_details(result)), headers=message.headers)

        return _traced(
            as_message(result),
            lambda message: publish_or_shorten(self.producer, message, shorten),
        )

    def dead_letter(
        self, record: Record, error: BridgeError, result: Result, *, step: str, group_id: str
    ) -> Acknowledgement:
        """Publish the untouched record with the reason in its headers."""
        message = dead_letter_message(
            record,
            error,
            topic=self.dead_letters_topic,
            step=step,
            group=group_id,
            schema_id=result.schema_id,
            event_id=result.event_id,
            time=self.clock.now(),
            bridge_version=__version__,
            topic_id=self.archive.topic_id(record.topic),
        )
        try:
            published = _traced(
                message,
                lambda letter: publish_or_shorten(self.dead_letters, letter, without_body),
                DEAD_LETTER_PREFIX,  # the record's own headers stay as they are
            )
        except BrokerAccessError as refusal:
            raise _not_written(record, refusal) from refusal
        return _DeadLetterAcknowledgement(published, record)

    def invitation(self, invitation: Invitation) -> Acknowledgement:
        """Publish the invitation for the invite stage."""
        message = invitation_message(invitation, topic=self.invitations_topic)
        return _traced(message, self.producer.publish)

    def holds(self, record: Record) -> bool:
        """Ask the archive."""
        return self.archive.holds(record)

    def replayed(self, record: Record) -> bool:
        """Ask the archive."""
        return self.archive.replayed(record)


def _describe(span: tracing.Span, result: Result) -> None:
    """Say in the span of a record what became of it: ids and codes, never a value."""
    told = {
        "cloudevents.event_id": result.event_id,
        "cloudevents.event_type": result.event_type,
        "keycloak_bridge.outcome": result.outcome.value,
        "keycloak_bridge.operation": result.action,
        "keycloak_bridge.reason": result.reason,
    }
    span.set({name: value for name, value in told.items() if value is not None})
    if result.outcome is Outcome.REJECTED:
        span.fail(result.reason or result.outcome.value)


def _traced(
    message: Message, publish: Callable[[Message], Acknowledgement], prefix: str = ""
) -> Acknowledgement:
    """Publish `message` with a span of its own, which its headers name, until it has arrived."""
    span = tracing.sending(message.topic)
    if span is tracing.NO_SPAN:
        return publish(message)
    carrier = tuple((prefix + name, text.encode()) for name, text in span.carrier().items())
    try:
        published = publish(replace(message, headers=(*message.headers, *carrier)))
    except BridgeError as error:
        span.fail(error.code)
        span.end()
        raise
    return _TracedAcknowledgement(published, span)


@dataclass(frozen=True, slots=True)
class _TracedAcknowledgement:
    """Ends the span of a message once it has arrived."""

    acknowledgement: Acknowledgement
    span: tracing.Span

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        def arrived(error: BridgeError | None) -> None:
            try:
                if error is not None:
                    self.span.fail(error.code)
                self.span.end()
            finally:
                done(error)

        self.acknowledgement.then(arrived)


def publish_or_shorten(
    producer: MessageProducer, message: Message, shorten: Callable[[Message], Message]
) -> Acknowledgement:
    """Publish `message`, or what `shorten` makes of it where the producer or the topic says that it is too large."""
    try:
        return _OrShorter(producer.publish(message), producer, message, shorten)
    except BrokerAccessError as refusal:
        if refusal.code != RECORD_TOO_LARGE:
            raise
        return producer.publish(shorten(message))


@dataclass(frozen=True, slots=True)
class _OrShorter:
    """Publishes the shorter message once Kafka has refused the whole one for its size."""

    acknowledgement: Acknowledgement
    producer: MessageProducer
    message: Message
    shorten: Callable[[Message], Message]

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        def arrived(error: BridgeError | None) -> None:
            if error is None or error.code != RECORD_TOO_LARGE:
                done(error)
                return
            try:
                shorter = self.producer.publish(self.shorten(self.message))
            except BridgeError as refusal:
                done(refusal)
            except Exception as fault:  # noqa: BLE001 # else the record would be in hand for ever
                done(internal_error(logger, fault, None))
            else:
                shorter.then(done)

        self.acknowledgement.then(arrived)


@dataclass(frozen=True, slots=True)
class _DeadLetterAcknowledgement:
    """Reports DeadLetterError where Kafka refuses the dead letter for good."""

    acknowledgement: Acknowledgement
    record: Record

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        def arrived(error: BridgeError | None) -> None:
            refused = isinstance(error, BrokerAccessError)
            done(_not_written(self.record, error) if error and refused else error)

        self.acknowledgement.then(arrived)


def _not_written(record: Record, error: BridgeError) -> DeadLetterError:
    return DeadLetterError(
        f"the dead letter for {record.topic}/{record.partition}@{record.offset} "
        f"could not be written: {error.message}",
        remedy=error.remedy,
    )
