"""Know which users are not in the realm, so that a new user costs no search: list the realm once, then follow it.

Keycloak searches slowly by an attribute where there are many users, and keeps no attribute unique. While there is a
backlog that saves more than the list costs, all external ids of the realm are read. They answer for the events of a
partition if the listing began after the partition was assigned to this member: what other members created from it before is
in the list, and what is created from it since is created by this member. The list is dropped soon after the backlog, so that
it is never used when it is old, and a large realm is not listed again at once, whoever gets partitions.
"""

import contextlib
import logging
import math
import sys
import threading
from array import array
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from keycloak_bridge.delivery.stage_context import Backlog
from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.domain.fingerprint import fingerprint, is_among
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import DesiredUser, UserRepresentation
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.threads.brief_lock import BriefLock

logger = logging.getLogger(__name__)

_BUCKETS = 4096
_AGAIN_S = 60.0
"""Pause after a listing that failed."""

_TOO_LARGE_AGAIN_S = 3600.0
"""Pause where the realm has too many users: that seldom changes."""

_CONSIDER_S = 5.0
"""Pause, at least, where searching costs less, as far as is known; the backlog may grow, and searches may turn out to be slow."""

_REST = 10
"""Listing takes at most about this part of the time: the next one waits for as many times as the last one took. So does counting."""

_FRESH_S = 60.0
"""How long a list is used that no backlog asks; others may create users, too."""

_UNDER_WAY_S = 0.05
"""Pause of an event whose user is in a batch for another event."""

Listing = Callable[[], Iterable[UserRepresentation]]


def pays_to_list(users: int, records: int, *, listed_s: float, saved_s: float) -> bool:
    """Say whether Keycloak lists so many users in the time that it saves for these records, all of which may be of new users.

    To list one user takes it `listed_s` seconds; one record saves `saved_s`.
    """
    return users * listed_s <= records * saved_s


@dataclass(frozen=True, slots=True)
class Announced:
    """A user who is about to be created: its keys, and whether this was the first announcement."""

    keys: Sequence[str]
    first: bool
    in_batch: bool


class KnownUsers:
    """Says which external ids certainly no user of the realm has. Safe to share between threads."""

    def __init__(
        self,
        listing: Listing,
        count: Callable[[], int],
        external_id: str,
        backlog: Backlog,
        clock: Clock,
        *,
        most: int = sys.maxsize,
        listed_s: float = 0.0,
        saved_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`external_id` is the name of the attribute; `listing` yields every user of the realm.

        To list one user takes `listed_s` seconds of Keycloak's; one who is known to be new saves as many as `saved_s` says. A realm of more than `most` users is
        never listed.
        """
        self._most = most
        self._listed_s = listed_s
        self._saved_s = saved_s
        self._listing = listing
        self._count = count
        self._attribute = external_id
        self._backlog = backlog
        self._clock = clock
        self._lock = BriefLock()
        self._known: _Keys | None = None
        self._begun_s = 0.0
        self._announced_meanwhile: list[str] = []
        self._listing_now = False
        self._again_at_s = 0.0
        self._said_searching = False
        self._asked_s = 0.0
        self._in_batches: set[str] = set()
        self._being_created: Counter[str] = Counter()

    def excludes(self, partition: TopicPartition, desired: DesiredUser) -> bool:
        """Say whether certainly no user has the external id of `desired`, whose event came from `partition`.

        Always says no without a backlog. Begins to list the realm where that pays.
        """
        external_id = desired.external_id.value
        if not self._backlog.is_large or not _is_searchable(external_id):
            return False  # only a search finds out that Keycloak could never find the user again
        since_s = self._backlog.since_s(partition)
        if since_s is None:
            return False
        with self._lock:
            self._drop_old_list()
            self._asked_s = self._clock.monotonic()
            if self._known is not None and self._begun_s > since_s:
                return _id_key(external_id) not in self._known
        self._begin_listing()
        return False

    def holds_name(self, name: str) -> bool:
        """Say whether `name` may be the username of a user with another e-mail address."""
        with self._lock:
            return self._known is None or _name_key(name) in self._known

    @contextlib.contextmanager
    def creating(self, desired: DesiredUser) -> Iterator[bool]:
        """Announce the user; inside the block it may be about to be created.

        Yields whether no other event of this member may have created it since `excludes` was asked. Raises HoldError
        while the user is in a batch.
        """
        announced = self._announce(desired, in_batch=False)
        if announced is None:
            raise HoldError(
                "another event of the user is in a batch", wait_s=_UNDER_WAY_S, code="under-way"
            )
        try:
            yield announced.first
        finally:
            self.end(announced)

    def claim(self, desired: DesiredUser) -> Announced | None:
        """Announce a user that is to be in a batch; None where another event of it may be in progress.

        Other events of the user wait until `end`: a batch does not hold the lock of the user.
        """
        return self._announce(desired, in_batch=True)

    def end(self, announced: Announced) -> None:
        """Note that a listing that begins from now on contains what was announced."""
        with self._lock:
            self._being_created.subtract(announced.keys)
            for key in announced.keys:
                if self._being_created[key] <= 0:
                    del self._being_created[key]
            if announced.in_batch:
                self._in_batches.discard(announced.keys[0])

    def _announce(self, desired: DesiredUser, *, in_batch: bool) -> Announced | None:
        keys = (_id_key(desired.external_id.value), *_name_keys(desired.representation))
        with self._lock:
            self._drop_old_list()
            known = self._known is None or keys[0] in self._known
            first = not known and keys[0] not in self._being_created
            if keys[0] in self._in_batches or (in_batch and not first):
                return None
            self._being_created.update(keys)
            if in_batch:
                self._in_batches.add(keys[0])
            if self._known is not None:
                self._known.add(*keys)
            if self._listing_now:
                self._announced_meanwhile += keys
        return Announced(keys, first, in_batch)

    def _drop_old_list(self) -> None:
        if self._known is not None and self._clock.monotonic() - self._asked_s > _FRESH_S:
            self._known = None

    def _begin_listing(self) -> None:
        if not self._backlog.is_large:
            return
        with self._lock:
            if self._listing_now or self._clock.monotonic() < self._again_at_s:
                return
            self._listing_now = True
        try:
            threading.Thread(target=self._list, name="known-users", daemon=True).start()
        except RuntimeError as error:  # the system lets no more threads begin
            self._not_listed(error)

    def _list(self) -> None:
        try:
            begun_s = self._clock.monotonic()
            users = self._count()
            counted_s = self._clock.monotonic() - begun_s
            if users > self._most:
                self._pause(_TOO_LARGE_AGAIN_S)
                log_event(
                    logger,
                    "realm-too-large",
                    level=logging.WARNING,
                    message="every new user is searched for; raise burst.list_limit if Keycloak has the time to list all",
                    count=users,
                )
            elif not users or self._pays(users):
                self._read()  # to list nobody costs nothing, and what is saved may take a question to Keycloak
            else:
                self._search_for_now(users, counted_s)
        except Exception as error:  # noqa: BLE001 # the flow goes on without the list
            self._not_listed(error)

    def _not_listed(self, error: Exception) -> None:
        self._pause(_AGAIN_S)
        log_event(
            logger,
            "realm-not-listed",
            level=logging.WARNING,
            message="every event is searched for by itself until the realm can be listed",
            error=error,
        )

    def _pays(self, users: int) -> bool:
        records, saved_s = self._backlog.records, self._saved_s()
        return pays_to_list(users, records, listed_s=self._listed_s, saved_s=saved_s)

    def _read(self) -> None:
        with self._lock:
            begun_s = self._clock.monotonic()
            # a user who is just being created may be missing from the page that it belongs to
            self._announced_meanwhile = list(self._being_created)
        count = 0
        listed = _Keys()
        for user in self._listing():
            count += 1
            listed.add(*self._keys(user))
        with self._lock:
            listed.add(*self._announced_meanwhile)
            self._known, self._begun_s = listed, begun_s
        self._said_searching = False
        took_s = self._clock.monotonic() - begun_s
        self._pause(_REST * took_s)
        log_event(
            logger,
            "realm-listed",
            level=logging.DEBUG,
            count=count,
            duration_ms=round(took_s * 1000, 1),
        )

    def _search_for_now(self, users: int, counted_s: float) -> None:
        self._pause(max(_CONSIDER_S, _REST * counted_s))
        if not self._said_searching:
            self._said_searching = True
            log_event(
                logger,
                "realm-not-worth-listing",
                message="every new user is searched for and written by itself: for so few events, to list all users would "
                "cost Keycloak more",
                count=users,
            )

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._announced_meanwhile, self._listing_now = [], False
            self._again_at_s = self._clock.monotonic() + seconds

    def _keys(self, user: UserRepresentation) -> Iterator[str]:
        for value in user.get("attributes", {}).get(self._attribute, ()):
            yield _id_key(value)
        yield from _name_keys(user)


class _Keys:
    """A set of texts as 64-bit hashes, 8 bytes for each different text; one that is not in it is mistaken once in 10^13.

    Each bucket is sorted by itself, so that one more text moves only a small part of millions. Not safe to share between
    threads.
    """

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]

    def __contains__(self, text: str) -> bool:
        hashed = _hash(text)
        return is_among(self._buckets[hashed % _BUCKETS], hashed)

    def add(self, *texts: str) -> None:
        for hashed in map(_hash, texts):
            bucket = self._buckets[hashed % _BUCKETS]
            if not is_among(bucket, hashed):
                insort(bucket, hashed)


def _hash(text: str) -> int:
    return fingerprint(text.encode("utf-8", "surrogatepass"))


def _id_key(external_id: str) -> str:
    return f"id {external_id}"


def _name_key(name: str) -> str:
    return f"name {name}".lower()


def _name_keys(user: UserRepresentation) -> Iterator[str]:
    """Yield the username where another user's e-mail address could be the same."""
    username = user.get("username", "")
    if "@" in username and username != user.get("email"):
        yield _name_key(username)


def _is_searchable(external_id: str) -> bool:
    try:
        external_id.encode()
    except UnicodeEncodeError:
        return False
    return bool(external_id) and "\\" not in external_id
