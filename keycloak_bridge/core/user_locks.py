"""One writer a user: both stages read a user, change it and write it back whole."""

import threading
import zlib

_STRIPES = 256


class UserLocks:
    """Locks by external id, shared by the stages of one process; a few users share one, which only costs a wait.

    They are reentrant: `apply` mails from inside the provisioning of a user.
    """

    def __init__(self) -> None:
        self._locks = tuple(threading.RLock() for _ in range(_STRIPES))

    def of(self, user_id: str) -> threading.RLock:
        """Return the lock to hold between reading and writing the user with this external id."""
        return self._locks[zlib.crc32(user_id.encode("utf-8", "surrogatepass")) % _STRIPES]
