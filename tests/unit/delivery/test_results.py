"""What is published of a record, and when a dead letter is not written."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from stage_harness import (
    DEAD_LETTERS,
    RESULTS,
    STRUCTURED,
    Flow,
    event_of,
    output_to,
    record_of,
    settled,
)

from keycloak_bridge.delivery import results
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    DeadLetterError,
    EventValidationError,
    HoldError,
    InternalError,
    ParkedError,
    Violation,
)
from keycloak_bridge.domain.events import Message, Outcome, Result
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.messages.recommended_actions import recommended_action
from keycloak_bridge.ops import tracing

BAD = EventValidationError("the data breaks its schema")
GOOD = Result(Outcome.PROVISIONED, action="created", event_id="event-1", user_id="u-1")


def give_up(flow: Flow, offset: int = 42, error: BridgeError = BAD) -> Sequence[Acknowledgement]:
    """Publish the dead letter of a record."""
    record = record_of(event_of(), offset=offset)
    result = Result(Outcome.REJECTED, reason=error.code, user_id="u-1")
    return flow.publisher("provision").dead_letter(
        record, error, step="schema", result=result, since_s=0.0
    )


def publish(flow: Flow, result: Result = GOOD, offset: int = 42) -> None:
    """Publish the result of a record."""
    settled(flow.publisher("provision").publish(record_of(event_of(), offset=offset), result, 0.0))


# results


def test_a_result_is_published_with_the_time_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """In the topic, in the log and in the metrics."""
    flow = Flow()
    flow.clock.advance(2.0)

    with caplog.at_level("INFO", "keycloak_bridge.delivery.results"):
        publish(flow)

    assert ["provisioned"] == [result["outcome"] for result in flow.results]
    assert [2000.0] == [line.bridge_fields["duration_ms"] for line in caplog.records]  # type: ignore[attr-defined]
    assert {("provisioned", "", "provision"): 1.0} == flow.counted("records_total")
    assert {("provision",): 2.0} == flow.counted("record_seconds_sum")


# dead letters


def test_a_dead_letter_comes_with_a_result() -> None:
    """Both must arrive before the record is done; both are counted by stage and code."""
    flow = Flow()

    acknowledgements = give_up(flow)

    assert 2 == len(acknowledgements)
    assert [("schema", "schema-violation")] == flow.reasons
    assert ["rejected"] == [result["outcome"] for result in flow.results]
    assert {("schema-violation", "provision"): 1.0} == flow.counted("dead_letters_total")
    assert {("rejected", "schema-violation", "provision"): 1.0} == flow.counted("records_total")


def test_dead_letters_have_a_producer_of_their_own() -> None:
    """One that repeats nothing by itself, since a second dead letter would look like the first."""
    flow, other = Flow(), Flow()
    output = replace(output_to(flow.broker, flow.archive, flow.clock), dead_letters=other.broker)
    publisher = replace(flow.publisher("provision"), output=output)

    publisher.dead_letter(
        record_of(event_of()), BAD, step="schema", result=Result(Outcome.REJECTED), since_s=0.0
    )

    assert (0, 1) == (len(flow.broker.records(DEAD_LETTERS)), len(flow.broker.records(RESULTS)))
    assert (1, 0) == (len(other.broker.records(DEAD_LETTERS)), len(other.broker.records(RESULTS)))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BrokerAccessError("too large", remedy="raise it"), DeadLetterError),
        (BrokerUnavailableError("gone"), BrokerUnavailableError),
    ],
)
def test_a_letter_that_is_refused_for_good_stops(
    raised: BridgeError, expected: type[BridgeError]
) -> None:
    """A record that is nowhere must not be committed past; an outage is waited for."""
    flow = Flow()
    flow.broker.publish_errors = [raised]

    letter, result = give_up(flow)

    with pytest.raises(expected) as caught:
        settled(letter)
    assert raised.remedy == caught.value.remedy
    settled(result)


def test_a_letter_that_is_refused_at_once_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client itself may refuse a record before it is sent; there is no result of it."""
    flow = Flow()

    def publish(_: Message) -> Acknowledgement:
        raise BrokerAccessError("too large")

    monkeypatch.setattr(flow.broker, "publish", publish)

    with pytest.raises(DeadLetterError) as caught:
        give_up(flow)

    assert "user-events/3@42" in caught.value.message
    assert {} == flow.counted("dead_letters_total")


def too_large() -> BrokerAccessError:
    """Return what a topic, or the client, says of a record that is too large."""
    return BrokerAccessError("too large", code="record-too-large")


@pytest.fixture(params=["by the broker", "by the client"])
def refusing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """A flow whose next message is refused for its size, be it when it is sent or by its acknowledgement."""
    flow = Flow()
    if request.param == "by the broker":
        flow.broker.publish_errors = [too_large()]
        return flow
    publish = flow.broker.publish

    def refuse(_: Message) -> Acknowledgement:
        monkeypatch.setattr(flow.broker, "publish", publish)
        raise too_large()

    monkeypatch.setattr(flow.broker, "publish", refuse)
    return flow


def test_a_letter_that_its_topic_does_not_take_is_written_without_its_body(refusing: Flow) -> None:
    """Position, size and digest say which record it is; the process goes on."""
    letter, result = give_up(refusing)
    settled(letter)
    settled(result)

    ((record, reason),) = refusing.letters
    content = record_of(event_of()).value or b""
    assert (b"u-1", None) == (record.key, record.value)
    assert STRUCTURED == tuple(one for one in record.headers if not one[0].startswith("kb-dlq-"))
    assert ("body-omitted", "schema-violation") == (reason["code"], reason["cause"])
    assert ("user-events", "3", "42") == tuple(
        reason[name] for name in ("topic", "partition", "offset")
    )
    assert "value" == reason["omitted"]
    assert str(len(content) + len(b"u-1")) == reason["size"]
    assert sha256(content).hexdigest() == reason["value-sha256"]
    assert recommended_action("body-omitted") == reason["action"]
    assert ["schema-violation"] == [one["reason"] for one in refusing.results]


def test_a_result_that_its_topic_does_not_take_is_published_without_details(refusing: Flow) -> None:
    """What happened to whom, and why."""
    violation = Violation("/data/" + "x" * 1000, "type", "must be text")
    publish(refusing, replace(GOOD, message="m", violations=(violation,), changed=("email",)))

    (result,) = refusing.results
    assert ("provisioned", "u-1") == (result["outcome"], result["userId"])
    assert not {"message", "violations", "changed"} & result.keys()


def test_a_topic_that_takes_not_even_that_stops() -> None:
    """The record would be nowhere."""
    flow = Flow()
    flow.broker.publish_errors = [too_large() for _ in range(3)]

    letter, _ = give_up(flow)

    with pytest.raises(DeadLetterError):
        settled(letter)


def test_a_result_that_cannot_be_shortened_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the bridge is logged and reported as any failure: else the record would be in hand for ever."""
    flow = Flow()
    flow.broker.publish_errors = [too_large()]
    monkeypatch.setattr(results, "without_details", lambda _: 1 / 0)
    reported: list[BridgeError | None] = []
    published = flow.publisher("provision").publish(record_of(event_of()), GOOD, 0.0)
    published.then(reported.append)

    assert [InternalError] == [type(one) for one in reported]
    assert [logging.ERROR] == [one.levelno for one in caplog.records]


def test_a_span_that_cannot_be_ended_keeps_no_record_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What became of the message is reported first."""

    class BrokenSpan:
        def carrier(self) -> dict[str, str]:
            return {}

        def end(self) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(tracing, "sending", lambda _: BrokenSpan())
    published = Flow().publisher("provision").publish(record_of(event_of()), GOOD, 0.0)
    reported: list[BridgeError | None] = []
    with pytest.raises(ZeroDivisionError):
        published.then(reported.append)

    assert [None] == reported


# each dead letter once


def test_a_letter_of_an_earlier_owner_is_not_written_again() -> None:
    """Its result is published, since it may not have gone out; further on nothing is looked up."""
    before = Flow()
    give_up(before, 42)
    after = Flow()
    after.broker = before.broker
    after.archive = before.archive
    after.sent_dead_letters.begin(record_of(event_of()).topic_partition, 40)  # to 49

    published = give_up(after, 42)
    give_up(after, 43)
    give_up(after, 50)

    assert 1 == len(published)
    assert ["42", "43", "50"] == [reason["offset"] for _, reason in after.letters]
    assert [42, 43] == after.archive.asked
    assert {("schema-violation", "provision"): 2.0} == after.counted("dead_letters_total")


def test_a_letter_that_arrived_is_not_written_again_for_its_result() -> None:
    """Its record comes again when the result got lost, and then only that is published."""
    flow = Flow()
    letter, _ = give_up(flow)
    settled(letter)

    again = give_up(flow)

    assert (1, 1) == (len(again), len(flow.letters))


def test_a_letter_that_got_lost_is_written_again_and_counted_once() -> None:
    """An outage of Kafka must not look like many dead letters, however often one is tried."""
    flow = Flow(brake=Brake(1, 0, 200))
    flow.broker.publish_errors = [BrokerUnavailableError("gone")] * 5
    for _ in range(2):
        letter, _ = give_up(flow)
        with pytest.raises(BrokerUnavailableError):
            settled(letter)
    flow.broker.publish_errors = []

    give_up(flow)

    assert (1, None) == (len(flow.letters), flow.brake.reason)
    assert {("schema-violation", "provision"): 1.0} == flow.counted("dead_letters_total")


def test_another_record_at_the_same_place_gets_its_dead_letter() -> None:
    """A topic that was made anew begins at its first offsets again, and so does one whose offsets were reset."""
    flow = Flow()
    flow.sent_dead_letters.begin(record_of(event_of()).topic_partition, 0)
    publisher = flow.publisher("provision")
    for event_id in ("event-1", "event-2"):
        record = record_of(event_of(event_id=event_id), offset=0)
        result = Result(Outcome.REJECTED)
        publisher.dead_letter(record, BAD, step="schema", result=result, since_s=0.0)

    assert 2 == len({letter.value for letter, _ in flow.letters})
    assert {("schema-violation", "provision"): 2.0} == flow.counted("dead_letters_total")


@pytest.mark.parametrize("forged", ["the position", "and its digest", "and its bytes"])
def test_whoever_writes_the_dead_letter_topic_keeps_no_record_out_of_it(forged: str) -> None:
    """A letter that says that it is of a record must hold that record."""
    flow = Flow()
    give_up(flow)
    ((letter, _),) = flow.letters
    other = Flow()
    value = letter.value if forged == "and its bytes" else b"{}"
    headers = tuple(
        one for one in letter.headers if forged != "the position" or one[0] != "kb-dlq-digest"
    )
    other.broker.publish(Message(DEAD_LETTERS, letter.key, value, headers))
    other.sent_dead_letters.begin(record_of(event_of()).topic_partition, 42)

    give_up(other)

    values = [one.value for one, _ in other.letters]
    assert letter.value in values
    assert (1 if forged == "and its bytes" else 2) == len(values)


# the brake


def test_the_dead_letter_after_the_limit_is_held() -> None:
    """Twenty pass; of the next nothing is written, published or counted, however often it comes again."""
    flow = Flow()
    for offset in range(20):
        give_up(flow, offset)

    for _ in range(3):
        with pytest.raises(HoldError) as caught:
            give_up(flow, 20)
    assert "brake" == caught.value.code
    assert (20, 20) == (len(flow.letters), len(flow.results))
    assert "20 dead letters in a row" == flow.brake.reason
    assert {("schema-violation", "provision"): 20.0} == flow.counted("dead_letters_total")


@pytest.mark.parametrize(
    ("outcome", "through"),
    [
        (Outcome.PROVISIONED, True),
        (Outcome.SKIPPED, True),
        (Outcome.INVITED, True),
        (Outcome.REJECTED, False),
    ],
)
def test_whatever_is_not_refused_ends_the_row(outcome: Outcome, through: bool) -> None:
    """One good record between them, and two dead letters are exceptions again."""
    flow = Flow(brake=Brake(1, 0, 200))
    give_up(flow, 1)

    publish(flow, Result(outcome))

    assert through is _passes(flow, 2)


def test_parked_events_do_not_count() -> None:
    """They are the consequence of a dead letter that was counted; the brake does not hold them either."""
    flow = Flow(brake=Brake(2, 0, 200))
    parked = ParkedError("an earlier event was lost")
    give_up(flow, 0)
    for offset in range(1, 20):
        give_up(flow, offset, parked)

    assert _passes(flow, 20)
    assert not _passes(flow, 21)
    give_up(flow, 22, parked)
    assert 22 == len(flow.letters)


def _passes(flow: Flow, offset: int) -> bool:
    try:
        give_up(flow, offset)
    except HoldError:
        return False
    return True


def test_an_archive_that_cannot_be_asked_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outage is waited for; otherwise a dead letter might be written twice."""
    flow = Flow()
    flow.sent_dead_letters.begin(record_of(event_of()).topic_partition, 42)

    def away(_: Any) -> bool:
        raise BrokerUnavailableError("gone")

    monkeypatch.setattr(flow.archive, "holds", away)

    with pytest.raises(BrokerUnavailableError):
        give_up(flow)

    assert ([], None) == (flow.letters, flow.brake.reason)


def test_a_letter_that_kafka_does_not_take_yet_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the outage: the brake is for many bad records, and this is one."""
    flow = Flow(brake=Brake(3, 50, 20))
    real = flow.broker.publish

    def publish(message: Message) -> Acknowledgement:
        if message.topic == DEAD_LETTERS:
            raise BrokerUnavailableError("Kafka does not answer")
        return real(message)

    monkeypatch.setattr(flow.broker, "publish", publish)
    for _ in range(30):
        with pytest.raises(BrokerUnavailableError):
            give_up(flow)
    monkeypatch.undo()
    for acknowledgement in give_up(flow):
        settled(acknowledgement)

    assert flow.brake.reason is None
    assert 1 == len(flow.letters)
