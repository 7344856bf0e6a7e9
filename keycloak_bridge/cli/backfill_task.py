"""What a backfill was asked for, and where its journal and its rejects stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.backfill_journal import Journal, is_other_beginning, read_journal
from keycloak_bridge.backfill_rejects import RejectFile, Rejects
from keycloak_bridge.cli.backfill_inputs import Input, Inputs
from keycloak_bridge.core.timestamps import format_time, parse_time

_JOURNAL_SUFFIX = ".backfill.json"


@dataclass(frozen=True, slots=True)
class Task:
    """The options that a run must share with the one that it goes on with, and where it notes how far it is.

    Of an age only the first run's is meant: the same words are another time each time.
    """

    event_type: str
    as_of: datetime | None
    as_of_is_age: bool
    columns: Mapping[str, str]
    delimiter: str
    journal: Path | None
    rejects: Path | None
    restart: bool

    def journal_file(self, inputs: Inputs) -> Path:
        """Return the journal's name: that of the first file with an ending of its own, unless it was given."""
        first = inputs.files[0]
        return self.journal or Path(f"{first.name}{_JOURNAL_SUFFIX}")

    def times(self, inputs: Inputs) -> list[datetime | None]:
        """Return of when the users of each file are: as was said, as the journal has it, or when it was written."""
        earlier = None if self.restart else read_journal(self.journal_file(inputs))
        noted = [] if earlier is None else earlier[0].get("asOf", [])
        told = self.as_of is not None and not self.as_of_is_age
        if not told and len(noted) == len(inputs.files):
            return [None if text is None else parse_time(text) for text in noted]
        return [self.as_of or one.modified for one in inputs.files]

    def open(self, inputs: Inputs, times: Sequence[datetime | None]) -> tuple[Journal, Rejects]:
        """Return journal and rejects, ready to go on with; raises ConfigError."""
        file = self.journal_file(inputs)
        rejects = Rejects([self._reject_file(one) for one in inputs.files])
        names = [one.file for one in rejects.files]
        if len(set(names)) < len(names):
            raise click.UsageError("two files have the same name: their rejects would be mixed")
        said = self._said(inputs, times)
        earlier = None if self.restart else read_journal(file)
        if earlier is None or is_other_beginning(earlier, said):
            rejects.begin()
        journal = Journal.open(file, said, restart=self.restart)
        rejects.go_on(journal.progress.rejects)
        return journal, rejects

    def _said(self, inputs: Inputs, times: Sequence[datetime | None]) -> Mapping[str, Any]:
        return {
            "files": [Path(one.name).name for one in inputs.files],
            "type": self.event_type,
            "asOf": [None if time is None else format_time(time) for time in times],
            "columns": dict(self.columns),
            "delimiter": self.delimiter,
        }

    def _reject_file(self, one: Input) -> RejectFile:
        name = Path(f"{one.name}.rejects{'.csv' if one.is_table else '.ndjson'}")
        file = name if self.rejects is None else self.rejects / name.name
        header = b"" if one.header is None else one.header.raw + b"\n"
        return RejectFile(file, one.name, lambda: header)
