"""How a start looks to a person: bars and ticks on a terminal, plain lines elsewhere."""

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.progress import Task as Row
from rich.text import Text

_LABELS = {"mail": "Mail catcher", "kafka": "Kafka", "keycloak": "Keycloak"}


class SandboxConsole:
    """Shows the progress of a sandbox: give its methods `progress` and `downloads` to one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._guard = threading.Lock()
        self._rows: dict[str, TaskID] = {}
        self._live: Progress | None = None
        self._percent: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn(finished_text="[green]✓[/]"),
                TextColumn("{task.description:<13}"),
                _Detail(""),
                _Bar(bar_width=30),
                _Bytes(),
                console=self._console,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state standing and let others write below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._rows.clear()

    def progress(self, component: str, state: str, detail: str) -> None:
        """Show what a component does now."""
        words = f"{state}: {detail}" if detail else state
        with self._guard:
            if self._live is None:
                self._say(f"{_LABELS.get(component, component)}: {words}")
                return
            row = self._row(self._live, component)
            done = 1 if state == "ready" else 0
            self._live.update(row, total=1, completed=done, detail=words, bytes=False)

    def downloads(self, component: str, done: int, total: int) -> None:
        """Show how far the downloads of a component are."""
        with self._guard:
            if self._live is None:
                self._say_percent(component, done, total)
                return
            row = self._row(self._live, component)
            # One short of the total, or the row would count as finished.
            self._live.update(row, total=total + 1, completed=done, detail="fetching", bytes=True)

    def _row(self, live: Progress, component: str) -> TaskID:
        if component not in self._rows:
            label = _LABELS.get(component, component)
            self._rows[component] = live.add_task(label, total=1, detail="", bytes=False)
        return self._rows[component]

    def _say_percent(self, component: str, done: int, total: int) -> None:
        quarter = 100 * done // total // 25 * 25
        if self._percent.get(component, -1) < quarter:
            self._percent[component] = quarter
            label = _LABELS.get(component, component)
            self._say(f"{label}: fetching: {quarter} % of {total / 1e6:.0f} MB")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Detail(TextColumn):
    """The words of a row; free of markup, because paths may hold brackets."""

    def render(self, task: Row) -> Text:
        """Return what the component does now."""
        return Text(str(task.fields["detail"]))


class _Bar(BarColumn):
    """A bar, for downloads only."""

    def render(self, task: Row) -> Text:  # type: ignore[override]
        """Return the bar, or nothing."""
        return super().render(task) if task.fields["bytes"] else Text("")  # type: ignore[return-value]


class _Bytes(DownloadColumn):
    """Counts of bytes, for downloads only."""

    def render(self, task: Row) -> Text:
        """Return the counts, or nothing."""
        return super().render(task) if task.fields["bytes"] else Text("")
