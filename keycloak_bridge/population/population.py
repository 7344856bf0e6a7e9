"""What many events make of many users: one folded state a user, small enough for a hundred thousand of them."""

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Record, UserEvent
from keycloak_bridge.domain.users import DesiredUser, OutOfScope
from keycloak_bridge.events.decode import peek
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.planning.fold import FoldedUser, fold

Read = Callable[[Record], Prepared | Skipped]
"""Makes an event and a desired user of a record; raises EventError."""

_LEVEL = 1
"""How hard zlib tries: with one entry as the dictionary of all others, trying harder gains little."""

_WINDOW = 32_768


@dataclass(frozen=True, slots=True)
class Standing:
    """What the events of one user, `events` of them, come to."""

    folded: FoldedUser
    events: int = 1

    @property
    def user_id(self) -> str:
        """The user's id in user management."""
        return self.folded.desired.external_id.value


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that would become a dead letter, where it stands and why."""

    record: Record
    event_id: str | None
    user_id: str | None
    error: BridgeError


class Population:
    """The users that a range of events speaks of, by external id, in the order in which they came up.

    A user costs a few hundred bytes: its state is kept compressed, with the state of the first one as the dictionary.
    """

    def __init__(self) -> None:
        self.ignored = 0
        """How many events the bridge would ignore: by their type, as tombstones, or out of the mapping's scope."""
        self.refused = 0
        """How many events would become dead letters."""
        self._states: dict[str, bytes] = {}
        self._others: set[str] = set()
        self._dictionary = b""

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[Standing]:
        return map(self._unpacked, self._states.values())

    def speaks_of(self, user_id: str) -> bool:
        """Say whether any event was about this user, be it out of scope or refused."""
        return user_id in self._states or user_id in self._others

    def add(self, event: UserEvent, desired: DesiredUser) -> None:
        """Fold the next event of a user into what its earlier ones came to."""
        user_id = desired.external_id.value
        packed = self._states.get(user_id)
        if packed is None:
            standing = Standing(fold(None, event, desired))
        else:
            before = self._unpacked(packed)
            standing = Standing(fold(before.folded, event, desired), before.events + 1)
        self._states[user_id] = self._packed(standing)

    def mention(self, user_id: str | None) -> None:
        """Remember that there is such a user, without any state of it."""
        if user_id is not None and user_id not in self._states:
            self._others.add(user_id)

    def _packed(self, standing: Standing) -> bytes:
        raw = pickle.dumps(standing, pickle.HIGHEST_PROTOCOL)
        if not self._dictionary:
            self._dictionary = raw[-_WINDOW:]
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=self._dictionary)
        return packer.compress(raw) + packer.flush()

    def _unpacked(self, packed: bytes) -> Standing:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._dictionary)
        # our own bytes, which never leave this process
        return cast("Standing", pickle.loads(unpacker.decompress(packed)))  # noqa: S301


def take_in(
    population: Population,
    records: Iterable[Record],
    interpretation: Interpretation,
    advance: Callable[[int], None] = lambda _: None,
    *,
    read: Read | None = None,
) -> Iterator[Refusal]:
    """Fold every record into `population`, and yield what would become a dead letter.

    `advance` hears of each record; `read` reads one that is not of the events topic. Raises what would keep every event
    from being read.
    """
    read = read or interpretation.read
    for record in records:
        advance(1)
        try:
            reading = read(record)
        except BridgeError as error:
            if not error.is_final:
                raise
            yield _refusal(population, record, interpretation, error)
        else:
            if isinstance(reading, Skipped) or isinstance(reading.desired, OutOfScope):
                population.ignored += 1
                population.mention(reading.event.subject if reading.event else None)
                population.mention(_external_id(reading, interpretation))
            else:
                population.add(reading.event, reading.desired)


def _external_id(reading: Prepared | Skipped, interpretation: Interpretation) -> str | None:
    """Return whose event it is that is out of scope; its subject may be another name of the user, or missing."""
    if isinstance(reading, Skipped):
        return None
    try:
        return interpretation.mapping.serving(reading.event).identify(reading.event).value
    except BridgeError:
        return None


def _refusal(
    population: Population, record: Record, interpretation: Interpretation, error: BridgeError
) -> Refusal:
    head = peek(record, interpretation.rules)
    population.refused += 1
    population.mention(head.subject)
    return Refusal(record, head.id, head.subject, error)
