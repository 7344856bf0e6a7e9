"""Know who is not in the realm, so that a new user costs no search: the realm is listed once, and watched from then on.

Keycloak finds a user by an attribute slowly where there are many, and keeps no attribute unique. While a backlog stands,
all external ids of the realm are read into a roster. What a partition brings may be judged by it when the listing began
after the partition had come to this member: what other members created of it before is in the list, and what is created
of it since is this member's own. The list goes with the backlog, so that it never says much of later days.

A set of texts in little memory that may say yes about a text that is not in it, and never no about one that is.

A Bloom filter (Bloom, 1970) of four bits for each text; when it is full, a larger one is put beside it (Almeida et al.,
Scalable Bloom Filters, 2007).
"""

import contextlib
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct

from keycloak_bridge.delivery.stage import Backlog
from keycloak_bridge.domain.errors import BridgeError, HoldError
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import DesiredUser, UserRepresentation
from keycloak_bridge.ops.logs import log_event

_BITS_EACH = 10
"""One wrong yes in eighty of a filter that is full; ten bytes hold eight texts."""

_LEAST = 10_000
_GROWTH = 2
_PLACES = Struct("<4Q")


class Roster:
    """Who is there, for certain or perhaps. Safe to share between threads."""

    def __init__(self, capacity: int) -> None:
        """Make room for `capacity` texts; it grows with more."""
        self._lock = threading.Lock()
        self._filters = [_Filter(max(capacity, _LEAST))]

    def add(self, text: str) -> None:
        """Have `may_hold` say yes of `text` from now on."""
        hashes = _hashes(text)
        with self._lock:  # setting a bit is a read and a write of its neighbours
            if any(one.may_hold(hashes) for one in self._filters):
                return
            if self._filters[-1].is_full:
                self._filters = [*self._filters, _Filter(_GROWTH * self._filters[-1].capacity)]
            self._filters[-1].add(hashes)

    def may_hold(self, text: str) -> bool:
        """Say no only when `text` was never added."""
        hashes = _hashes(text)
        for one in self._filters:  # noqa: SIM110 # a generator costs as much as the look
            if one.may_hold(hashes):
                return True
        return False


_Hashes = tuple[int, ...]


class _Filter:
    """One filter of a fixed size."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._size = capacity * _BITS_EACH
        self._bits = bytearray(self._size // 8 + 1)
        self._held = 0

    @property
    def is_full(self) -> bool:
        """Whether one more would make wrong answers more frequent than they should be."""
        return self._held >= self.capacity

    def add(self, hashes: _Hashes) -> None:
        """Set the bits of a text."""
        self._held += 1
        for one in hashes:
            place = one % self._size
            self._bits[place >> 3] |= 1 << (place & 7)

    def may_hold(self, hashes: _Hashes) -> bool:
        """Say whether all bits of a text are set."""
        bits, size = self._bits, self._size
        for one in hashes:
            place = one % size
            if not bits[place >> 3] & 1 << (place & 7):
                return False
        return True


def _hashes(text: str) -> _Hashes:
    data = text.encode("utf-8", "surrogatepass")
    return _PLACES.unpack(blake2b(data, digest_size=_PLACES.size).digest())


logger = logging.getLogger(__name__)

_AGAIN_S = 60.0
"""Pause after a listing that failed."""

_TOO_LARGE_AGAIN_S = 3600.0
"""Pause where the realm has too many users: that seldom changes."""

_FRESH_S = 60.0
"""How long a roster is relied on that no backlog asks; others may create users, too."""

_UNDER_WAY_S = 0.05
"""Pause of an event whose user is in a batch on behalf of another event."""

Listing = Callable[[], Iterable[UserRepresentation]]


@dataclass(frozen=True, slots=True)
class Announced:
    """A user who may be on its way: by which names it is known, and whether this was the first that was heard of it."""

    keys: Sequence[str]
    first: bool
    in_batch: bool


class KnownUsers:
    """Says of whom it is sure that nobody in the realm carries its external id. Safe to share between threads."""

    def __init__(
        self,
        listing: Listing,
        count: Callable[[], int],
        external_id: str,
        backlog: Backlog,
        clock: Clock,
        *,
        most: int = sys.maxsize,
    ) -> None:
        """`external_id` is the name of the attribute; `listing` yields every user of the realm.

        A realm of more than `most` users is not listed: Keycloak counts each page from the first user on.
        """
        self._most = most
        self._listing = listing
        self._count = count
        self._attribute = external_id
        self._backlog = backlog
        self._clock = clock
        self._lock = threading.Lock()
        self._roster: Roster | None = None
        self._begun_s = 0.0
        self._next: Roster | None = None
        self._listing_now = False
        self._again_at_s = 0.0
        self._asked_s = 0.0
        self._in_batches: set[str] = set()
        self._being_created: Counter[str] = Counter()

    def excludes(self, partition: TopicPartition, desired: DesiredUser) -> bool:
        """Say whether nobody can carry the external id of `desired`, whose event came by `partition`.

        Says no where no backlog stands, and begins to list the realm where that would help.
        """
        external_id = desired.external_id.value
        if not self._backlog.is_large or not _is_searchable(external_id):
            return False  # only a search tells that Keycloak could never find it again
        since_s = self._backlog.since_s(partition)
        if since_s is None:
            return False
        now_s = self._clock.monotonic()
        with self._lock:
            if now_s - self._asked_s > _FRESH_S:
                self._roster = None
            self._asked_s = now_s
            roster, begun_s = self._roster, self._begun_s
        if roster is None or begun_s <= since_s:
            self._begin()
            return False
        return not roster.may_hold(_id_key(external_id))

    def holds_name(self, name: str) -> bool:
        """Say whether `name` may be the username of a user with another e-mail address."""
        with self._lock:
            roster = self._roster
        return roster is None or roster.may_hold(_name_key(name))

    @contextlib.contextmanager
    def creating(self, desired: DesiredUser) -> Iterator[bool]:
        """Have the user known from now on; inside the block it may be on its way into the realm.

        Yields whether no other event of this member may have created it since `excludes` was asked. Raises HoldError
        while the user is in a batch.
        """
        announced = self.begin(desired)
        try:
            yield announced.first
        finally:
            self.end(announced)

    def claim(self, desired: DesiredUser) -> "Announced | None":
        """Do as `begin` for a user that is to be in a batch; None where another event of it may be under way.

        Other events of the user wait until `end`: unlike the single way, a batch holds no lock of the user.
        """
        return self._announce(desired, in_batch=True)

    def begin(self, desired: DesiredUser) -> "Announced":
        """Have the user known from now on, and return what `end` takes once nothing is on its way any more.

        Raises HoldError while the user is in a batch.
        """
        announced = self._announce(desired, in_batch=False)
        if announced is None:
            raise HoldError(
                "another event of the user is in a batch", wait_s=_UNDER_WAY_S, code="under-way"
            )
        return announced

    def end(self, announced: "Announced") -> None:
        """Note that a listing that begins from now on shows what was announced."""
        with self._lock:
            self._being_created.subtract(announced.keys)
            for key in announced.keys:
                if self._being_created[key] <= 0:
                    del self._being_created[key]
            if announced.in_batch:
                self._in_batches.discard(announced.keys[0])

    def _announce(self, desired: DesiredUser, *, in_batch: bool) -> "Announced | None":
        keys = (_id_key(desired.external_id.value), *_name_keys(desired.representation))
        with self._lock:
            roster = self._roster
            known = roster is None or roster.may_hold(keys[0])
            first = not known and keys[0] not in self._being_created
            if keys[0] in self._in_batches or (in_batch and not first):
                return None
            self._being_created.update(keys)
            if in_batch:
                self._in_batches.add(keys[0])
            for one in (roster, self._next):
                if one is not None:
                    for key in keys:
                        one.add(key)
        return Announced(keys, first, in_batch)

    def _begin(self) -> None:
        if not self._backlog.is_large:
            return
        with self._lock:
            if self._listing_now or self._clock.monotonic() < self._again_at_s:
                return
            self._listing_now = True
        threading.Thread(target=self._read, name="known-users", daemon=True).start()

    def _read(self) -> None:
        try:
            self._list()
        except BridgeError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 # the flow goes on without the roll
            self._give_up(error)

    def _list(self) -> None:
        users = self._count()
        if users > self._most:
            self._refuse(users)
            return
        roster = Roster(users)
        with self._lock:
            begun_s = self._clock.monotonic()
            # a page may pass by before a user is there who is just being created
            for key in self._being_created:
                roster.add(key)
            self._next = roster
        count = 0
        for user in self._listing():
            count += 1
            for key in self._keys(user):
                roster.add(key)
        with self._lock:
            self._roster, self._begun_s = roster, begun_s
            self._next, self._listing_now = None, False
        log_event(
            logger,
            "realm-listed",
            level=logging.DEBUG,
            count=count,
            duration_ms=round((self._clock.monotonic() - begun_s) * 1000, 1),
        )

    def _refuse(self, users: int) -> None:
        self._pause(_TOO_LARGE_AGAIN_S)
        log_event(
            logger,
            "realm-too-large",
            level=logging.WARNING,
            message="every new user is searched for; raise burst.list_limit if Keycloak may spend the time to list all",
            count=users,
        )

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._next, self._listing_now = None, False
            self._again_at_s = self._clock.monotonic() + seconds

    def _give_up(self, error: Exception) -> None:
        self._pause(_AGAIN_S)
        log_event(
            logger,
            "realm-not-listed",
            level=logging.WARNING,
            message="every event is looked up by itself until the realm can be listed",
            error=error,
        )

    def _keys(self, user: UserRepresentation) -> Iterator[str]:
        for value in user.get("attributes", {}).get(self._attribute, ()):
            yield _id_key(value)
        yield from _name_keys(user)


def _id_key(external_id: str) -> str:
    return f"id {external_id}"


def _name_key(name: str) -> str:
    return f"name {name}".lower()


def _name_keys(user: UserRepresentation) -> Iterator[str]:
    """Yield the username where somebody else's e-mail address could be the same."""
    username = user.get("username", "")
    if "@" in username and username != user.get("email"):
        yield _name_key(username)


def _is_searchable(external_id: str) -> bool:
    try:
        external_id.encode()
    except UnicodeEncodeError:
        return False
    return bool(external_id) and "\\" not in external_id
