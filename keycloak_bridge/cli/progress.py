"""A bar on a terminal while something takes its time; nothing elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console as RichConsole
from rich.progress import Progress


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Lend a function that moves the bar on by a count; the bar stands on standard error and goes in the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
