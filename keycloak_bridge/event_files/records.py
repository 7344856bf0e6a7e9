"""Events that stand in files: decoded while they are read, so that no Kafka record has to be made up for them."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from keycloak_bridge.domain.errors import EventError, EventValidationError, Violation
from keycloak_bridge.domain.events import CloudEvent, Record
from keycloak_bridge.domain.ports import Trace, no_trace
from keycloak_bridge.pipeline.interpret import Interpreter, Prepared, Skipped

_UNREADABLE_ROWS = {
    "cells": ("cells", "must have as many cells as the header"),
    "wrong-encoding": ("encoding", "must be UTF-8"),
    "quotes": ("quotes", "must have its quotes in pairs, and nothing behind the closing one"),
    "too-large": ("maxLength", "must be shorter than events.max_bytes"),
}
"""By what is wrong with a row: keyword and rule."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event of the file number `file` of a run that begins in line `number`; `raw` is what a file of rejects repeats.

    `cells` are those of a row; `broken` says why the row cannot be read, see `unreadable_row`.
    """

    file: int
    number: int
    raw: bytes
    cells: tuple[str, ...] | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class FileRecord(Record):
    """An event in a file, or the error for a part of the file that is none.

    It stands in line `line` of the file number `file` of a run; `value` is what a file of rejects repeats.
    """

    file: int = 0
    line: int = 0
    event: CloudEvent | EventError | None = None


class FileInterpreter(Interpreter):
    """Interprets the records of files, whose events are decoded already."""

    @classmethod
    def of(cls, interpreter: Interpreter) -> "FileInterpreter":
        """Return one with the same schemas, mapping and rules."""
        return cls(**{one.name: getattr(interpreter, one.name) for one in fields(interpreter)})

    def interpret(
        self,
        record: Record,
        trace: Trace = no_trace,
        accept: Callable[[CloudEvent], None] = lambda _: None,
    ) -> Prepared | Skipped:
        """Return the desired user of `record`, which is a FileRecord; raises as for a record of a topic."""
        event = record.event if isinstance(record, FileRecord) else None
        if isinstance(event, CloudEvent):
            return self.prepare(event, trace, accept)
        raise event or AssertionError("the record is of no file")


def unreadable_row(reason: str) -> EventValidationError:
    """Return the error for a row that cannot be read: `cells`, `wrong-encoding`, `quotes` or `too-large`."""
    keyword, rule = _UNREADABLE_ROWS[reason]
    return EventValidationError(
        f"the row cannot be read: it {rule}",
        remedy="put cells with a comma or a line break into quotes, and export the row as UTF-8",
        violations=(Violation("/data", keyword, rule),),
    )
