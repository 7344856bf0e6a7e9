"""Replaying dead letters: which of them can be replayed, in which order, and what is published for each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from keycloak_bridge.domain.errors import RECORD_TOO_LARGE, BridgeError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.kafka.dead_letter_topic import DeadLetterReader, DeadLetterReplayer, Outgoing
from keycloak_bridge.messages.dead_letter_inventory import DeadLetterInventory, in_original_order
from keycloak_bridge.messages.dead_letters import (
    INVITE_STEP,
    DeadLetter,
    replay_mark,
    replay_message,
)
from keycloak_bridge.settings.model import TopicsSettings

BATCH = 100
"""Dead letters in a transaction, and in memory."""

GONE = "is gone from the dead-letter topic"
FOREIGN_TOPIC = "foreign-topic"
FOREIGN_STAGE = "foreign-stage"

Reasoned = tuple[DeadLetter, str]
"""A dead letter, and why it is not replayed."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What the operator asked for: no mails, how often a record may have been given up, a second replay."""

    no_invite: bool
    max_attempts: int
    again: bool


class Replay:
    """The dead letters of `inventory`, sorted into those that can be replayed, in order, and those that cannot.

    They go to the events and the invitations of `topics` only: whoever can write a dead letter can name any topic in it.
    """

    def __init__(
        self,
        inventory: DeadLetterInventory,
        reader: DeadLetterReader,
        options: ReplayOptions,
        topics: TopicsSettings,
    ) -> None:
        self.ready: list[DeadLetter] = []
        self.passed_over: list[Reasoned] = []
        self.impossible: list[Reasoned] = []
        self.replayed_before = 0
        self.done = 0
        self._inventory = inventory
        self._reader = reader
        self._options = options
        self._topics = topics
        self._partitions: dict[str, frozenset[int]] = {}
        for letter in in_original_order(inventory.letters(replayed=True)):
            self._sort(letter)

    def _sort(self, letter: DeadLetter) -> None:
        options, topics = self._options, self._topics
        is_invitation = letter.topic == topics.invitations
        if not (options.again or self._inventory.is_open(letter)):
            self.replayed_before += 1
        elif letter.attempts >= options.max_attempts:
            times = "1 time" if letter.attempts == 1 else f"{letter.attempts} times"
            reason = f"was given up {times} (--max-attempts {options.max_attempts})"
            self.passed_over.append((letter, reason))
        elif options.no_invite and is_invitation:
            self.passed_over.append((letter, "is an invitation (--no-invite)"))
        elif letter.topic not in (topics.events, topics.invitations):
            reason = (
                f"{FOREIGN_TOPIC}: topic {letter.topic} is neither topics.events ({topics.events}) nor topics.invitations "
                f"({topics.invitations}); where that was its name when the bridge read it, name it with --set"
            )
            self.impossible.append((letter, reason))
        elif is_invitation != (letter.step == INVITE_STEP):
            reason = f"{FOREIGN_STAGE}: the bridge writes no dead letter of topic {letter.topic} in that stage"
            self.impossible.append((letter, reason))
        elif letter.omitted:
            self.impossible.append(
                (letter, f"it holds no {letter.omitted}; publish the event again")
            )
        elif not self._partitions_of(letter.topic):
            self.impossible.append((letter, f"topic {letter.topic} does not exist any more"))
        else:
            self.ready.append(letter)

    def _partitions_of(self, topic: str) -> frozenset[int]:
        if topic not in self._partitions:
            self._partitions[topic] = self._reader.partitions_of(topic)
        return self._partitions[topic]

    def records(self) -> Iterator[tuple[DeadLetter, Record | None]]:
        """Yield what can be replayed with its record, None where that is gone."""
        for batch in batches(self.ready):
            found = self._reader.fetch([letter.place for letter in batch])
            for letter in batch:
                yield letter, found.get(letter.place)

    def still_open(self) -> Sequence[DeadLetter]:
        """Return what can be replayed, without what another operator replayed before the replayer shut them out."""
        for record in self._reader.read():
            self._inventory.add_mark(record)
        if self._options.again:
            return self.ready
        return [letter for letter in self.ready if self._inventory.is_open(letter)]

    def publish(
        self, replayer: DeadLetterReplayer, batch: Sequence[DeadLetter]
    ) -> Sequence[Reasoned]:
        """Publish the records of `batch` in one transaction; return those that cannot be replayed.

        Where one is too large, the others still go out, in order. Raises BrokerError.
        """
        found = self._reader.fetch([letter.place for letter in batch])
        failed = [(letter, GONE) for letter in batch if letter.place not in found]
        pairs = [(one, found[one.place]) for one in batch if one.place in found]
        failed += self._publish(replayer, pairs)
        self.impossible += failed
        return failed

    def _publish(
        self, replayer: DeadLetterReplayer, pairs: Sequence[tuple[DeadLetter, Record]]
    ) -> Sequence[Reasoned]:
        time = datetime.now(UTC)
        outgoing: list[Outgoing] = []
        for letter, record in pairs:
            message = replay_message(letter, record, no_invite=self._options.no_invite)
            number = letter.position.partition
            exists = number in self._partitions_of(letter.topic)
            outgoing.append(Outgoing(message, number if exists else None))
            mark = replay_mark(letter, record, time=time)
            outgoing.append(Outgoing(mark, letter.place.partition))
        try:
            replayer.publish(outgoing)
        except BridgeError as error:
            if error.code != RECORD_TOO_LARGE:
                raise
            if len(pairs) > 1:
                return [one for pair in pairs for one in self._publish(replayer, [pair])]
            letter = pairs[0][0]
            reason = f"topic {letter.topic} does not take a record of this size; raise its max.message.bytes"
            return [(letter, reason)]
        self.done += len(pairs)
        return []


def batches(letters: Sequence[DeadLetter]) -> Iterable[Sequence[DeadLetter]]:
    """Return `letters` in groups of BATCH."""
    return (letters[at : at + BATCH] for at in range(0, len(letters), BATCH))
