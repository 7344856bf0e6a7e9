"""What becomes of the lines of a backfill: results are counted, mails go out at once, unreadable rows are refused."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keycloak_bridge.backfill_lines import BROKEN_HEADER
from keycloak_bridge.core.errors import BridgeError, EventValidationError, Violation
from keycloak_bridge.core.handled import Handled, RecordHandler
from keycloak_bridge.core.model import Message, Outcome, Record, Result
from keycloak_bridge.core.outcomes import rejected
from keycloak_bridge.core.ports import Acknowledgement
from keycloak_bridge.outlets import Outlets

_BROKEN = {
    "cells": ("cells", "must have as many cells as the header"),
    "wrong-encoding": ("encoding", "must be UTF-8"),
    "quotes": ("quotes", "must have its quotes in pairs, and nothing behind the closing one"),
    "too-large": ("maxLength", "must be shorter than events.max_bytes"),
}
"""By what is wrong with a row: keyword and rule."""


@dataclass(slots=True)
class Tally:
    """What became of the events of this run, by one word each. Safe to share between threads."""

    counts: Counter[str] = field(default_factory=Counter)
    mails: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, word: str) -> None:
        """Count one."""
        with self._lock:
            self.counts[word] += 1

    def mailed(self) -> None:
        """Count a mail."""
        with self._lock:
            self.mails += 1

    @property
    def done(self) -> int:
        """How many events were told of."""
        with self._lock:
            return self.counts.total()

    def snapshot(self) -> Mapping[str, int]:
        """Return what was counted until now, by name."""
        with self._lock:
            mails = {"mailed": self.mails} if self.mails else {}
            return dict(sorted({**self.counts, **mails}.items()))


class Arrived:
    """The acknowledgement of what needs to go nowhere."""

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Call `done` at once."""
        done(None)


_ARRIVED = Arrived()


class News:
    """A MessageSink that counts results, and has invitations mailed at once."""

    def __init__(self, results_topic: str, tally: Tally) -> None:
        self.mail: Callable[[Message], None] = lambda _: None
        self._results_topic = results_topic
        self._tally = tally

    def publish(self, message: Message) -> Acknowledgement:
        """Take a result or an invitation; raises what a mail that is due raises."""
        if message.topic != self._results_topic:
            self.mail(message)
            return _ARRIVED
        data = json.loads(message.value or b"{}")["data"]
        word = data.get("action") or data["outcome"]
        self._tally.add(word if word != Outcome.SKIPPED else f"skipped ({data.get('reason')})")
        return _ARRIVED

    def close(self) -> None:
        """Nothing is open."""


class FileHandler:
    """The provision stage, and before it what can be wrong with a row of a table only."""

    def __init__(self, stage: RecordHandler, outlets: Outlets) -> None:
        self._stage = stage
        self._outlets = outlets

    def lane(self, record: Record) -> bytes:
        """Return what names the user."""
        return self._stage.lane(record)

    def handle(self, record: Record) -> Handled:
        """Return what must be acknowledged before `record` counts as done; raises as the stage."""
        broken = dict(record.headers).get(BROKEN_HEADER)
        if broken is None:
            return self._stage.handle(record)
        since_s = self._outlets.clock.monotonic()
        error = broken_row(broken.decode("ascii"))
        result = rejected(Result(Outcome.REJECTED), error)
        return Handled(
            self._outlets.dead_letter(record, error, step="decode", result=result, since_s=since_s)
        )

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Reject a record that keeps failing while others succeed."""
        return self._stage.give_up(record, error)


def broken_row(reason: str) -> EventValidationError:
    """Return the error for a row that cannot be read."""
    keyword, rule = _BROKEN[reason]
    return EventValidationError(
        f"the row cannot be read: it {rule}",
        remedy="put cells with a comma or a line break into quotes, and export the row as UTF-8",
        violations=(Violation("/data", keyword, rule),),
    )
