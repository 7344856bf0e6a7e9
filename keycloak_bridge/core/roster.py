"""A set of texts in little memory that may say yes about a text that is not in it, and never no about one that is.

A Bloom filter (Bloom, 1970) of four bits for each text; when it is full, a larger one is put beside it (Almeida et al.,
Scalable Bloom Filters, 2007).
"""

import threading
from hashlib import blake2b
from struct import Struct

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
