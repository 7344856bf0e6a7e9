"""The time of an event, compared with when its record was written: nothing that was reported can happen later than that.

A time far in the future would make all later events of the user older than it. One that is a little ahead, because the
clocks of producer and brokers differ, is taken for that of the record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from keycloak_bridge.domain.errors import TimeAheadError, Violation
from keycloak_bridge.domain.times import epoch_time, format_duration


@dataclass(frozen=True, slots=True)
class ArrivalRule:
    """How far an event's time may be ahead of its record, and of the clock that `now` asks; `clamps` takes the record's instead."""

    max_ahead_s: float
    clamps: bool
    now: Callable[[], datetime]

    def time_of(self, time: datetime | None, recorded_ms: int | None) -> datetime | None:
        """Return the time that counts for an event of `time`; the record's, where that is earlier.

        `recorded_ms` is the record's timestamp in milliseconds, None where there is no record. Raises TimeAheadError.
        """
        if time is None:
            return None
        recorded, now = record_time(recorded_ms), self.now()
        ahead = timedelta(seconds=self.max_ahead_s)
        # a record from the future proves nothing
        latest = now if recorded is None else min(recorded, now)
        if time - latest > ahead:
            usable = now if recorded is None else recorded
            if not self.clamps or usable - now > ahead:
                raise self._refusal()
            return usable
        return time if recorded is None else min(time, recorded)

    def has_clamped(self, stated: datetime | None, time: datetime | None) -> bool:
        """Return whether `time` took the place of a `stated` one that says nothing about when the event happened."""
        if stated is None or time is None:
            return False
        return stated - time > timedelta(seconds=self.max_ahead_s)

    def _refusal(self) -> TimeAheadError:
        limit = format_duration(self.max_ahead_s)
        reason = f"must be at most {limit} ahead of the record's timestamp and of the clock"
        return TimeAheadError(
            f"the event's time lies in the future: more than {limit} ahead of its record (events.max_ahead)",
            remedy="correct the producer's clock; an event must not be published before it takes effect. Replay the dead "
            'letter once that time has come, or set events.ahead to "clamp"',
            violations=(Violation("/time", "maximum", reason),),
        )


def record_time(timestamp_ms: int | None) -> datetime | None:
    """Return the time of a record, None where it has none: some producers write 0 or -1 then."""
    if timestamp_ms is None or timestamp_ms <= 0:
        return None
    return epoch_time(timestamp_ms / 1000)
