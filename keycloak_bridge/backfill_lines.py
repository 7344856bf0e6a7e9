"""One event as it stands in a file, and how what was read of the files is told from anything else."""

import hashlib
from dataclasses import dataclass, field

TOPIC = "backfill"
"""What the files of one run are called where a record must have a topic; they are one partition."""

PLACE_HEADER = "kb-backfill-place"
"""Which file of the run, counted from 0, and which of its lines: `FILE:LINE`."""

RAW_HEADER = "kb-backfill-raw"
"""The row as it stands in its file, where that is not the record's value."""

BROKEN_HEADER = "kb-backfill-broken"
"""Why the row cannot be read at all."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event of the run's file `file` that begins in line `number`; `raw` is what a file of rejects repeats.

    `cells` are those of a row; `broken` says why the row cannot be read.
    """

    file: int
    number: int
    raw: bytes
    cells: tuple[str, ...] | None = None
    broken: str | None = None

    @property
    def place(self) -> bytes:
        """Where it stands, as the header of its record."""
        return f"{self.file}:{self.number}".encode("ascii")


@dataclass(frozen=True, slots=True)
class Mark:
    """That the first `lines` lines of a run had this digest."""

    lines: int = 0
    digest: str = hashlib.sha256().hexdigest()


@dataclass(slots=True)
class Reading:
    """How far the files were read: a digest that every line changes."""

    lines: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, line: Line) -> None:
        """Take in the next line."""
        self._digest.update(b"%b %d " % (line.place, len(line.raw)))
        self._digest.update(line.raw)
        self.lines += 1

    def mark(self) -> Mark:
        """Return what was read until now."""
        return Mark(self.lines, self._digest.hexdigest())
