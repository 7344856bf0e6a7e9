"""What the commands over many events share: whether they stand in files or in a range of a topic, and reading them.

The population that a command works on, from a topic, files of events or CSV files.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import moment
from keycloak_bridge.cli.console import progress_bar
from keycloak_bridge.cli.plan_view import refused
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.event_files.csv_rows import csv_records, read_csv_record
from keycloak_bridge.event_files.json_events import read_events
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.population.population import Population, Refusal, take_in
from keycloak_bridge.settings import Settings

_SETTINGS_TOPIC = ""
"""`--from-topic` without a name."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class EventLog:
    """Where the events stand: in `files`, or in a topic between two moments.

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

    def without(self, files: Collection[str]) -> "EventLog | None":
        """Return the same without some of its files, None where nothing is left."""
        rest = tuple(file for file in self.files if file not in files)
        return replace(self, files=rest) if rest or self.is_topic else None

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[tuple[Iterator[Record], Advance]]:
        """Lend the events, and what moves a bar on for each; raises BrokerError or ConfigError."""
        if self.topic is None:
            texts = (
                t for f in self.files for t in read_events(f, max_bytes=settings.events.max_bytes)
            )
            yield (text.record() for text in texts), lambda _: None
            return

        topic = self.topic or settings.topics.events
        reader = kafka_reader.TopicReader(settings.kafka, topic)
        with contextlib.closing(reader):
            if self.whole and reader.is_cut:
                raise _not_whole(topic)
            if self.since is not None:
                reader.begin_at(_milliseconds(self.since))
            if self.until is not None:
                reader.end_at(_milliseconds(self.until))
            with progress_bar(f"reading {topic}", reader.remaining()) as advance:
                yield reader.read(), advance

    def place(self, record: Record) -> str:
        """Return where an event stands, as compilers or Kafka people write it."""
        if self.is_topic:
            return f"{record.topic}/{record.partition}@{record.offset}"
        return f"{record.topic}:{record.offset}"


_OPTIONS = (
    click.argument("files", nargs=-1, metavar="[FILE]..."),
    click.option("--from-topic", "topic", is_flag=False, flag_value=_SETTINGS_TOPIC, metavar="[NAME]", help="Read a topic instead of files: topics.events, or NAME. Commits nothing."),
    click.option("--since", type=moment, metavar="TIME", help='Of the topic, what was published at this time or later: ISO 8601 (UTC without an offset), or an age such as "2 hours".'),
    click.option("--until", type=moment, metavar="TIME", help="Of the topic, what was published before this time or age; else all there is now."),
)  # fmt: skip


def event_log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command FILE, --from-topic, --since and --until; it takes them as one `log`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> Any:
        log = EventLog(
            options.pop("files"),
            options.pop("topic"),
            options.pop("since"),
            options.pop("until"),
        )
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


def _not_whole(topic: str) -> ConfigError:
    return ConfigError(
        f"orphans cannot be told: the first events of {topic} are gone, by its retention or by somebody's hand",
        remedy="compare with a file of the whole population, or leave out --orphans",
    )


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


Row = tuple[str, dict[str, Any]]
"""Where an event stands, and what is told of it."""

_CSV = ".csv"


def read_population(
    log: EventLog,
    population: Population,
    interpretation: Interpretation,
    csv_type: str | None = None,
) -> Iterator[Row]:
    """Fold every event of `log` into `population`, and yield a row for each that would be refused.

    With `csv_type` a file that ends in .csv holds the data of such events, a row each. Raises ConfigError or BrokerError.
    """
    tables = [file for file in log.files if csv_type is not None and Path(file).suffix == _CSV]
    others = log.without(tables)
    if others is not None:
        with others.opened(interpretation.settings) as (records, advance):
            for refusal in take_in(population, records, interpretation, advance):
                yield others.place(refusal.record), _told(refusal)
    if csv_type is None:
        return

    for file in tables:
        records = csv_records(file, interpretation.catalog.document(csv_type))
        read = partial(read_csv_record, event_type=csv_type, interpretation=interpretation)
        for refusal in take_in(population, records, interpretation, read=read):
            yield log.place(refusal.record), _told(refusal)


def _told(refusal: Refusal) -> dict[str, Any]:
    return {"event": refusal.event_id, "user": refusal.user_id, **refused(refusal.error)}
