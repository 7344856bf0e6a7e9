"""A set of texts in little memory that may say yes about a text that is not in it, and never no about one that is.

A Bloom filter: seven bits for each text, placed by double hashing (Kirsch and Mitzenmacher, 2006).
"""

import threading
from collections.abc import Iterator
from hashlib import blake2b

_BITS_EACH = 10
"""One wrong yes in a hundred while no more texts are in it than it was made for; twelve bytes hold ten of them."""

_PROBES = 7
_LEAST = 10_000


class Roster:
    """Who is there, for certain or perhaps. Safe to share between threads."""

    def __init__(self, capacity: int) -> None:
        """Make room for `capacity` texts; more fit in, with more wrong answers."""
        self._size = max(capacity, _LEAST) * _BITS_EACH
        self._bits = bytearray(self._size // 8 + 1)
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Have `may_hold` say yes of `text` from now on."""
        with self._lock:  # setting a bit is a read and a write of its neighbours
            for place in self._places(text):
                self._bits[place >> 3] |= 1 << (place & 7)

    def may_hold(self, text: str) -> bool:
        """Say no only when `text` was never added."""
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in self._places(text))

    def _places(self, text: str) -> Iterator[int]:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        first = int.from_bytes(digest[:8], "little")
        step = int.from_bytes(digest[8:], "little") | 1
        return ((first + probe * step) % self._size for probe in range(_PROBES))
