"""Records whose event was decoded while their file was read, and how they are interpreted."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from keycloak_bridge.domain.errors import EventError
from keycloak_bridge.domain.events import CloudEvent, Record
from keycloak_bridge.domain.ports import Trace, no_trace
from keycloak_bridge.pipeline.interpret import Interpreter, Prepared, Skipped


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
        if (ignored := self.ignores(record)) is not None:
            return ignored
        raise event or AssertionError("the record is of no file")
