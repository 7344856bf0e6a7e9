"""What the bridge says about itself: is the loop alive, and if not ready, why."""

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Status:
    """Thread-safe notes that the stages leave and the health endpoints read.

    `beats` holds the monotonic second of each stage's last turn; `problems` a sentence per component that is not well.
    """

    beats: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
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

    def set_problem(self, component: str, sentence: str | None) -> bool:
        """Note why `component` is not ready (None: it is); return whether that is news."""
        with self._lock:
            before = self.problems.get(component)
            if sentence is None:
                self.problems.pop(component, None)
            else:
                self.problems[component] = sentence
        return before != sentence

    def why_not_ready(self) -> tuple[str, ...]:
        """Return every problem as `component: sentence`; empty means ready."""
        with self._lock:
            return tuple(f"{name}: {text}" for name, text in sorted(self.problems.items()))

    def stuck(self, now_s: float, limit_s: float) -> tuple[str, ...]:
        """Return the components whose loop has not turned for `limit_s` seconds."""
        with self._lock:
            return tuple(sorted(name for name, at in self.beats.items() if now_s - at > limit_s))
