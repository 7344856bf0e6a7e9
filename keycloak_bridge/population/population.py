"""What many events make of many users: one folded state a user, small enough for a hundred thousand of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Record, UserEvent
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.events.decode import EventHead, peek
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.pipeline.preview import preview
from keycloak_bridge.planning.fold import FoldedUser, fold
from keycloak_bridge.population.packing import Packer

Read = Callable[[Record], Prepared | Skipped]
"""Makes an event and a desired user of a record; raises EventError."""


@dataclass(frozen=True, slots=True)
class PopulationUser:
    """The combined result of the events of one user, and how many they are."""

    folded: FoldedUser
    events: int = 1

    @property
    def user_id(self) -> str:
        """The user's id in user management."""
        return self.folded.desired.external_id.value


class Refusal(NamedTuple):
    """Why an event would become a dead letter, and as much of it as can be read."""

    head: EventHead
    error: BridgeError


class Population:
    """The users of a range of events, by external id, in the order in which they first appear.

    A user costs a few hundred bytes: its state is kept compressed, with the state of the first one as the dictionary.
    """

    def __init__(self, interpretation: Interpretation) -> None:
        """Read events as `interpretation` says."""
        self.ignored = 0
        """How many events the bridge would ignore: by their type, as tombstones, or out of the mapping's scope."""
        self.refused = 0
        """How many events would become dead letters."""
        self._interpretation = interpretation
        self._states: dict[str, bytes] = {}
        self._others: set[str] = set()
        self._packer: Packer[PopulationUser] = Packer()

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[PopulationUser]:
        return map(self._packer.unpack, self._states.values())

    def some(self, most: int) -> Iterator[PopulationUser]:
        """Yield so many users at most, from all over the population."""
        step = max(1, len(self._states) // most)
        states = islice(self._states.values(), 0, step * most, step)
        return map(self._packer.unpack, states)

    def mentions(self, user_id: str) -> bool:
        """Return whether any event was about this user, even one that is out of scope or refused."""
        return user_id in self._states or user_id in self._others

    def take_in(self, record: Record, read: Read | None = None) -> Refusal | None:
        """Fold a record into its user; return why it would become a dead letter, None where it would not.

        `read` reads a record that is not of the events topic. Raises what would keep every record from being read.
        """
        seen = preview(partial(read or self._interpretation.read, record))
        if seen.error is not None:
            head = peek(record, self._interpretation.rules)
            self.refused += 1
            self._mention(head.subject)
            return Refusal(head, seen.error)
        prepared = seen.prepared
        if isinstance(prepared, Prepared) and seen.desired is not None:
            self.add(prepared.event, seen.desired)
            return None
        self.ignored += 1
        if prepared is not None and prepared.event is not None:
            self._mention(prepared.event.subject)
        if isinstance(prepared, Prepared):
            self._mention(self._external_id(prepared.event))
        return None

    def add(self, event: UserEvent, desired: DesiredUser) -> None:
        """Fold the next event of a user into the state that its earlier ones left."""
        user_id = desired.external_id.value
        packed = self._states.get(user_id)
        if packed is None:
            user = PopulationUser(fold(None, event, desired))
        else:
            before = self._packer.unpack(packed)
            user = PopulationUser(fold(before.folded, event, desired), before.events + 1)
        self._states[user_id] = self._packer.pack(user)

    def _mention(self, user_id: str | None) -> None:
        if user_id is not None:
            self._others.add(user_id)

    def _external_id(self, event: UserEvent) -> str | None:
        """Return whose event it is that is out of scope; its subject may be another name of the user, or missing."""
        try:
            return self._interpretation.mapping.serving(event).identify(event).value
        except BridgeError:
            return None
