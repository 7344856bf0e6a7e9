"""How each stage of this process is doing, as its consumer loop reported it last, and how many records a second it finishes."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

RATE_WINDOW_S = 60.0
"""The rate is that of so many seconds."""

_SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class StageReport:
    """A look at one stage; `done` counts the records that were finished since its start.

    `lag` holds, by partition, the records that are not committed; `brake` is why the brake holds the flow, if it does.
    """

    in_hand: int
    running: int
    paused: bool
    oldest_s: float
    breaker: str
    brake: str | None
    done: int
    lag: Mapping[int, int] = field(default_factory=dict)


class StageReports:
    """The newest report of each stage. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, StageReport] = {}
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def put(self, stage: str, report: StageReport, now_s: float) -> None:
        """Take the report of a stage at this monotonic second."""
        with self._lock:
            self._newest[stage] = report
            samples = self._samples.setdefault(
                stage, deque(maxlen=int(RATE_WINDOW_S / _SAMPLE_EVERY_S) + 1)
            )
            if not samples or now_s - samples[-1][0] >= _SAMPLE_EVERY_S:
                samples.append((now_s, report.done))

    def get(self, stage: str) -> StageReport | None:
        """Return the newest report of a stage; None where it has not reported yet."""
        with self._lock:
            return self._newest.get(stage)

    def rate_per_s(self, stage: str, now_s: float) -> float:
        """Return how many records a second the stage finished lately; 0 where it has not reported."""
        with self._lock:
            report, samples = self._newest.get(stage), self._samples.get(stage, ())
            since = next((one for one in samples if now_s - one[0] <= RATE_WINDOW_S), None)
        if report is None or since is None or now_s <= since[0]:
            return 0.0
        return (report.done - since[1]) / (now_s - since[0])
