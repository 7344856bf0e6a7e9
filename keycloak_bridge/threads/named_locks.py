"""Locks by name, of which a few names share one."""

import threading
import zlib

_LOCKS = 256


class NamedLocks:
    """Locks by name; a few names share one, which only costs a wait. They are reentrant."""

    def __init__(self) -> None:
        self._locks = tuple(threading.RLock() for _ in range(_LOCKS))

    def of(self, name: str) -> threading.RLock:
        """Return the lock of this name."""
        return self._locks[zlib.crc32(name.encode("utf-8", "surrogatepass")) % _LOCKS]


class UserLocks(NamedLocks):
    """The lock to hold between reading and writing a user, by its external id; the stages of one process share them.

    They are reentrant: `apply` mails while it provisions the user.
    """
