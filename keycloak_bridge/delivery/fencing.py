"""Keep a record that is no longer this member's from being written."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.domain.errors import PartitionRevokedError
from keycloak_bridge.domain.ports import UserDirectory

MayWrite = Callable[[], bool]


class Fence:
    """Knows, thread by thread, whether the record at hand may still be written."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextlib.contextmanager
    def around(self, may_write: MayWrite) -> Iterator[None]:
        """Ask `may_write` before each write that this thread makes inside the block."""
        outer = self.current_check()
        self._local.may_write = may_write
        try:
            yield
        finally:
            self._local.may_write = outer

    def current_check(self) -> MayWrite:
        """Return what decides about the writes of this thread now, to be asked from another one later."""
        may_write: MayWrite = getattr(self._local, "may_write", _always)
        return may_write

    def check(self) -> None:
        """Raise PartitionRevokedError unless this thread may write."""
        if not self.current_check()():
            raise revoked_error()


def revoked_error() -> PartitionRevokedError:
    """Return the error for a record that this member may not write."""
    return PartitionRevokedError(
        "the record may be another member's by now, so nothing is written for it"
    )


def fenced(
    directory: UserDirectory, fence: Fence, limit: ConcurrencyLimit | None = None
) -> UserDirectory:
    """Return `directory` with a fence that is asked before each write.

    Users are created, updated and deleted within `limit`, so that a weak Keycloak gets no more requests at once than it can take.
    """
    return cast("UserDirectory", _FencedUserDirectory(directory, fence, limit))


_READS = frozenset(
    {
        "find",
        "having",
        "get",
        "belongs_to",
        "missing",
        "identity_owner",
        "has_credentials",
        "can_look_up_mails",
        "mail_recorded",
    }
)
"""All else counts as a write, so that a new method of the port is fenced unless it is named here."""

_LIMITED = frozenset({"create", "update", "delete"})
"""Each is one call. The other writes look things up as well, and are measured by none of it."""


class _FencedUserDirectory:
    def __init__(
        self, directory: UserDirectory, fence: Fence, limit: ConcurrencyLimit | None
    ) -> None:
        self._directory = directory
        self._fence = fence
        self._limit = limit

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._directory, name)
        if name in _READS:
            return method
        turn = self._limit.turn if self._limit and name in _LIMITED else contextlib.nullcontext

        def write(*args: Any, **kwargs: Any) -> Any:
            with turn():
                self._fence.check()
                return method(*args, **kwargs)

        return write


def _always() -> bool:
    return True


@dataclass(slots=True)
class Lease:
    """Holds for `length_s` seconds after each proof of membership.

    Kafka gives the partitions of a silent member to others once its session has ended. A member that was frozen, or cut
    off from Kafka, does not learn of it, so it must stop writing by itself before that moment.
    """

    length_s: float
    proven_at_s: float | None = None

    def renew(self, asked_at_s: float) -> None:
        """Note a proof: an answer from the group's coordinator to a question of second `asked_at_s`."""
        if self.proven_at_s is None or asked_at_s > self.proven_at_s:
            self.proven_at_s = asked_at_s

    def holds(self, now_s: float) -> bool:
        """Say whether a write may begin now."""
        return self.proven_at_s is not None and now_s - self.proven_at_s < self.length_s
