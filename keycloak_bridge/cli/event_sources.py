"""The events that a command works on: those of files, of CSV files, or of a range of a topic."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import moment
from keycloak_bridge.cli.console import refused, with_progress
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.event_files.csv_rows import csv_records, is_table
from keycloak_bridge.event_files.file_records import FileInterpreter
from keycloak_bridge.event_files.json_events import read_events
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.population.population import Population, Read
from keycloak_bridge.settings.model import Settings

Row = tuple[str, dict[str, Any]]
"""The place of an event, and what is printed about it."""

_SETTINGS_TOPIC = ""
"""`--from-topic` without a name."""


@dataclass(frozen=True, slots=True)
class EventLog:
    """Which events are meant: those in `files`, or those of a topic between two times.

    `whole` refuses a topic whose first events are gone.
    """

    files: tuple[str, ...]
    topic: str | None
    since: datetime | None
    until: datetime | None
    whole: bool = False

    @property
    def is_topic(self) -> bool:
        """Whether a topic is meant."""
        return self.topic is not None

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[Iterator[Record]]:
        """Provide the events, with a progress bar for a topic; raises BrokerError or ConfigError."""
        if self.topic is None:
            limit = settings.events.max_bytes
            yield (
                text.record() for file in self.files for text in read_events(file, max_bytes=limit)
            )
            return

        topic = self.topic or settings.topics.events
        reader = kafka_reader.TopicReader(settings.kafka, topic)
        with contextlib.closing(reader):
            if self.whole and reader.is_cut:
                raise ConfigError(
                    f"orphans cannot be determined: the first events of {topic} are gone, by retention or deletion",
                    remedy="compare with a file of the whole population, or leave out --orphans",
                )
            if self.since is not None:
                reader.begin_at(_milliseconds(self.since))
            if self.until is not None:
                reader.end_at(_milliseconds(self.until))
            records = with_progress(f"reading {topic}", reader.read(), reader.remaining())
            with contextlib.closing(records):
                yield records

    def place(self, record: Record) -> str:
        """Return where an event is: `file:line`, or `topic/partition@offset`."""
        if self.is_topic:
            return f"{record.topic}/{record.partition}@{record.offset}"
        return f"{record.topic}:{record.offset}"


_OPTIONS = (
    click.argument("files", nargs=-1, metavar="[FILE]..."),
    click.option("--from-topic", "topic", is_flag=False, flag_value=_SETTINGS_TOPIC, metavar="[NAME]", help="Read a topic instead of files: topics.events, or NAME. Nothing is committed."),
    click.option("--since", type=moment, metavar="TIME", help='With --from-topic: only events published at this time or later. ISO 8601 (UTC without an offset), or an age such as "2 hours".'),
    click.option("--until", type=moment, metavar="TIME", help="With --from-topic: only events published before this time or age. Default: all there are now."),
)  # fmt: skip


def event_log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command FILE, --from-topic, --since and --until; it takes them as one `log`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> Any:
        log = EventLog(*map(options.pop, ("files", "topic", "since", "until")))
        _check(log)
        return command(*args, log=log, **options)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def _check(log: EventLog) -> None:
    if log.is_topic and log.files:
        raise click.UsageError(
            "name files or --from-topic, not both; write --from-topic last, or --from-topic=NAME"
        )
    if not log.is_topic and not log.files:
        raise click.UsageError("name a FILE of events (- is standard input), or --from-topic")
    if not log.is_topic and (log.since is not None or log.until is not None):
        raise click.UsageError("--since and --until go with --from-topic")
    if log.since is not None and log.until is not None and log.since >= log.until:
        raise click.UsageError("--since must be earlier than --until")


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def read_population(
    log: EventLog,
    population: Population,
    interpretation: Interpretation,
    csv_type: str | None = None,
) -> Iterator[Row]:
    """Fold every event of `log` into `population`, and yield a row for each that would be refused.

    With `csv_type` a file that ends in .csv contains the data of such events, one in each row. Raises ConfigError or BrokerError.
    """

    def refusals(records: Iterator[Record], read: Read | None = None) -> Iterator[Row]:
        for record in records:
            refusal = population.take_in(record, read)
            if refusal is not None:
                named = {"event": refusal.head.id, "user": refusal.head.subject}
                yield log.place(record), {**named, **refused(refusal.error)}

    tables = [file for file in log.files if csv_type is not None and is_table(file)]
    event_type, schema = interpretation.type_of_data(csv_type) if csv_type and tables else ("", {})
    others = replace(log, files=tuple(file for file in log.files if file not in tables))
    if others.files or log.is_topic:
        with others.opened(interpretation.settings) as records:
            yield from refusals(records)
    limit = interpretation.settings.events.max_bytes
    for file in tables:
        rows = csv_records(file, event_type, schema, max_bytes=limit)
        yield from refusals(rows, FileInterpreter.of(interpretation.interpreter).interpret)
