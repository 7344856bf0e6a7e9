"""What the bridge knows of its own state: whether its loops turn, and why a stage is not ready."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.stage_reports import StageReports

logger = logging.getLogger(__name__)

STARTING_UP = "starting"
"""Code of what is no fault: a component that is not ready yet."""

MOST_NOTES = 10
"""So many notes are kept, the newest."""


@dataclass(slots=True)
class Status:
    """Thread-safe notes that the stages leave and the health endpoints read.

    `beats` holds the monotonic second of each stage's last turn; `problems` a sentence per component that is not well, and
    `codes` the code of it; `notes` what an operator should know although all is well, the newest last; `reports` how each
    stage is doing.
    """

    beats: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=partial(deque, maxlen=MOST_NOTES))
    reports: StageReports = field(default_factory=StageReports)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def beat(self, component: str, at_s: float) -> None:
        """Note that the loop of `component` turned."""
        with self._lock:
            self.beats[component] = at_s

    def forget(self, component: str) -> None:
        """Stop expecting turns of a component that ended."""
        with self._lock:
            self.beats.pop(component, None)
            self.problems.pop(component, None)
            self.codes.pop(component, None)

    def set_problem(self, component: str, sentence: str | None, code: str = STARTING_UP) -> bool:
        """Note why `component` is not ready (None: it is), in words and as a code; return whether that is a change."""
        with self._lock:
            before = self.problems.get(component)
            if sentence is None:
                self.problems.pop(component, None)
                self.codes.pop(component, None)
            else:
                self.problems[component] = sentence
                self.codes[component] = code
        return before != sentence

    def problem_codes(self) -> dict[str, str]:
        """Return the code of every problem by its component; empty means ready."""
        with self._lock:
            return dict(self.codes)

    def note(self, component: str, sentence: str) -> None:
        """Keep `sentence` among the last few; it makes nothing unready."""
        with self._lock:
            self.notes.append(f"{component}: {sentence}")

    def noted(self) -> tuple[str, ...]:
        """Return the notes, the oldest first."""
        with self._lock:
            return tuple(self.notes)

    def why_not_ready(self) -> tuple[str, ...]:
        """Return every problem as `component: sentence`; empty means ready."""
        with self._lock:
            return tuple(f"{name}: {text}" for name, text in sorted(self.problems.items()))

    def stuck(self, now_s: float, limit_s: float) -> tuple[str, ...]:
        """Return the components whose loop has not turned for `limit_s` seconds."""
        with self._lock:
            return tuple(sorted(name for name, at in self.beats.items() if now_s - at > limit_s))


JOINING = "joining the consumer group"
"""Why a stage is not ready before Kafka has settled its group."""

BRAKE = "brake"
"""Code of the reason while the brake holds the flow."""

_HOW_TO_RELEASE = (
    "look at `keycloak-bridge dead-letters list`, fix the cause, "
    "then restart or run `keycloak-bridge guard release`"
)


class Readiness:
    """Reports once, in the status and in the log, why a stage is not ready, and when it is again."""

    def __init__(self, stage: str, status: Status) -> None:
        self._stage = stage
        self._status = status
        self._reported: str | None = JOINING

    def update(
        self, brake: str | None, problems: Sequence[BridgeError | None], *, joined: bool
    ) -> None:
        """Note what is wrong: the brake's reason, else the first of `problems`; a change is logged."""
        sentence, code = self._why_not(brake, problems, joined)
        if sentence == self._reported:
            return
        before, self._reported = self._reported, sentence
        self._status.set_problem(self._stage, sentence, code or STARTING_UP)
        if sentence is None:
            log_event(logger, "ready", stage=self._stage)
        elif code == BRAKE:
            log_event(
                logger,
                "brake-engaged",
                level=logging.WARNING,
                message=sentence,
                stage=self._stage,
                reason=code,
            )
        elif sentence != JOINING:
            log_event(
                logger,
                "waiting",
                level=logging.WARNING if before in (None, JOINING) else logging.DEBUG,
                message=f"{sentence}; trying again until it works",
                stage=self._stage,
                reason=code,
            )

    def _why_not(
        self, brake: str | None, problems: Sequence[BridgeError | None], joined: bool
    ) -> tuple[str | None, str | None]:
        if brake is not None:
            return f"the brake holds the flow: {brake}; {_HOW_TO_RELEASE}", BRAKE
        for error in problems:
            if error is not None:
                return error.message, error.code
        if self._reported == JOINING and not joined:
            return JOINING, None
        return None, None
