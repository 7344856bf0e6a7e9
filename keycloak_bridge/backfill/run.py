"""Bring the users of files into the realm: the provision stage of `run`, with files in the place of a topic.

`opened` opens the files. `BackfillFiles.previews` says what would become of each line. `BackfillFiles.start` opens journal
and rejects, and returns the run, which continues where its journal says.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import RealmGate, realm_problems, refuse
from keycloak_bridge.app.wiring import (
    StageBuilder,
    direct_provisioner,
    inviter,
    limits_of,
    mailer,
    own_users,
    realm_identity,
)
from keycloak_bridge.backfill.files import InputFile, InputFiles, LineDecoder
from keycloak_bridge.backfill.journal import (
    Journal,
    RejectFile,
    Rejects,
    Written,
    is_new,
    read_journal,
)
from keycloak_bridge.backfill.source import PARTITION, FileEventSource
from keycloak_bridge.delivery.backpressure import PARTITION_SHARE
from keycloak_bridge.delivery.consumer_loop import ConsumerLoop
from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.events import (
    USER_CREATED,
    Invitation,
    Outcome,
    Record,
    Result,
    TopicPartition,
)
from keycloak_bridge.domain.ports import Acknowledgement, Clock, UserDirectory
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.event_files.csv_rows import Line, TableRules
from keycloak_bridge.event_files.file_records import FileInterpreter, FileRecord
from keycloak_bridge.events.custom_envelope import ATTRIBUTES
from keycloak_bridge.keycloak.partial_import import RealmAccess, realm_access
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.pipeline.interpret import Interpreter
from keycloak_bridge.pipeline.preview import Preview, preview
from keycloak_bridge.population.side_by_side import side_by_side
from keycloak_bridge.settings.model import EnvelopeSettings, Settings
from keycloak_bridge.threads.named_locks import UserLocks

_JOURNAL_SUFFIX = ".backfill.json"


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """What a run is asked for.

    `event_type` is what rows and bare objects are the data of. `as_of` is the time of all files; `as_of_is_age` says that
    it was given as an age, of which the first run's counts: the same words are another time each time. `columns` names the
    property of a renamed column. `journal` and `rejects` are a file and a folder of the user's choice.
    """

    event_type: str | None = None
    as_of: datetime | None = None
    as_of_is_age: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","
    journal: Path | None = None
    rejects: Path | None = None
    restart: bool = False
    mails: bool = False


@contextlib.contextmanager
def opened(
    settings: Settings, files: Sequence[str], options: BackfillOptions
) -> "Iterator[BackfillFiles]":
    """Open all files; raises ConfigError for what cannot be read or can never be right."""
    enveloped = options.event_type is None and _has_own_envelope(settings)
    known = _FileInterpretation(_backfill_settings(settings, enveloped=enveloped))
    known.check()
    event_type = options.event_type or USER_CREATED
    _, schema = known.type_of_data(event_type)
    rules = TableRules(options.delimiter, options.columns, schema, settings.events.max_bytes)
    with InputFiles.opened(files, rules) as inputs:
        if enveloped and any(one.header for one in inputs.files):
            raise ConfigError(
                "[envelope] describes no rows",
                remedy="say with --type what the rows are the data of",
            )
        yield BackfillFiles(known, options, inputs, event_type, enveloped=enveloped)


def _has_own_envelope(settings: Settings) -> bool:
    """Say whether the producer's events are not CloudEvents."""
    return any(getattr(settings.envelope, name) is not None for name in ATTRIBUTES)


def _backfill_settings(settings: Settings, *, enveloped: bool) -> Settings:
    envelope = settings.envelope if enveloped else EnvelopeSettings(types=settings.envelope.types)
    # a partition may take its share of the records in hand only; here there is one partition
    max_records = settings.delivery.max_records * PARTITION_SHARE
    return replace(
        settings,
        envelope=envelope,
        delivery=replace(settings.delivery, max_records=max_records),
        # the operator does not wait at the terminal for a user that may never appear
        lifecycle=replace(settings.lifecycle, unknown_user_wait=0.0),
    )


class _FileInterpretation(Interpretation):
    @cached_property
    def interpreter(self) -> Interpreter:
        return FileInterpreter.of(super().interpreter)


class BackfillFiles:
    """The opened files of a backfill."""

    def __init__(
        self,
        interpretation: Interpretation,
        options: BackfillOptions,
        inputs: InputFiles,
        event_type: str,
        *,
        enveloped: bool,
    ) -> None:
        self.interpretation = interpretation
        self.options = options
        self.inputs = inputs
        self._journal_file = options.journal or Path(f"{inputs.files[0].name}{_JOURNAL_SUFFIX}")
        self._times = self._times_of_files()
        self._task = {
            "files": [Path(one.name).name for one in inputs.files],
            "type": event_type,
            "asOf": [None if time is None else format_time(time) for time in self._times],
            "columns": dict(options.columns),
            "delimiter": options.delimiter,
            "realm": realm_identity(interpretation.settings),
        }
        headers = [one.header for one in inputs.files]
        schema = inputs.rules.schema
        self.decoder = LineDecoder(
            interpretation, event_type, self._times, headers, schema, enveloped
        )

    def _times_of_files(self) -> list[datetime | None]:
        """Return when the users of each file were exported: as given, as in the journal, or when it was written."""
        options = self.options
        earlier = None if options.restart else read_journal(self._journal_file)
        recorded = [] if earlier is None else earlier[0].get("asOf", [])
        given = options.as_of is not None and not options.as_of_is_age
        if not given and len(recorded) == len(self.inputs.files):
            return [None if text is None else parse_time(text) for text in recorded]
        return [options.as_of or one.modified for one in self.inputs.files]

    def previews(self) -> Iterator[tuple[Line, Preview]]:
        """Yield what would become of each line, compared with the realm as it is now; few are in memory.

        Raises only what keeps every line from being previewed.
        """
        known = self.interpretation
        provisioner = direct_provisioner(known, mails=False)

        def preview_line(numbered: tuple[int, Line]) -> tuple[Line, Preview]:
            offset, line = numbered
            record = self.decoder.record(line, offset)
            return line, preview(partial(known.read, record), provisioner)

        lines = enumerate(self.inputs.lines())
        yield from side_by_side(preview_line, lines, known.settings.delivery.workers)

    @property
    def as_of(self) -> datetime | None:
        """The time of all files, None where they differ."""
        return self._times[0] if len(set(self._times)) == 1 else None

    def start(self) -> "BackfillRun":
        """Return the run, with journal and rejects ready to continue; raises ConfigError."""
        rejects = Rejects([self._reject_file(one) for one in self.inputs.files])
        names = [one.file for one in rejects.files]
        if len(set(names)) < len(names):
            raise ConfigError("two files have the same name: their rejects would be mixed")
        options = self.options
        earlier = None if options.restart else read_journal(self._journal_file)
        if is_new(earlier, self._task):
            rejects.begin()
        journal = Journal.open(self._journal_file, self._task, restart=options.restart)
        rejects.resume(journal.progress.rejects)
        return BackfillRun(self, journal, rejects)

    def _reject_file(self, one: InputFile) -> RejectFile:
        suffix, header = (".csv", one.header.raw + b"\n") if one.header else (".ndjson", b"")
        name = Path(f"{one.name}.rejects{suffix}")
        folder = self.options.rejects
        return RejectFile(name if folder is None else folder / name.name, one.name, header)


def connect_realm(
    interpretation: Interpretation,
) -> tuple[UserDirectory, RealmAccess | None, Clock]:
    """Return the realm's users, the access for writing many at once, and the clock of both.

    Raises ConfigError where the realm is not ready.
    """
    clock = SystemClock()
    admin = keycloak_admin(interpretation.settings, clock)
    check = RealmGate(partial(realm_problems, interpretation, admin), clock)
    refuse(check())
    directory = KeycloakUserDirectory(admin, clock)
    return directory, realm_access(admin, clock, directory.times), clock


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is: lines done (by earlier runs too), lines read, the part of the files read, and rejects."""

    done: int
    read: int
    share_read: float | None
    rejected: int


class BackfillRun:
    """One run over the files: `execute` it, and ask it how far it is."""

    def __init__(self, files: "BackfillFiles", journal: Journal, rejects: Rejects) -> None:
        self.rejects = rejects
        self._done_earlier = journal.progress.commit.offset
        self._interpretation = files.interpretation
        self._directory, self._realm, self._clock = connect_realm(files.interpretation)
        self._inputs = files.inputs
        self._source = FileEventSource(
            files.inputs.lines,
            files.decoder.record,
            journal,
            rejects,
            share_read=files.inputs.share_read,
        )
        self._journal = journal
        self._mails = files.options.mails
        self._output = _FileOutput(rejects)
        self._began_s = time.monotonic()

    def state(self) -> RunState:
        """Return how far it is."""
        done, read = self._done_earlier + self._output.handled, self._source.lines_polled
        return RunState(done, read, self._inputs.share_read(), len(self.rejects))

    def summary(self) -> dict[str, Any]:
        """Return what is done: lines (by earlier runs too), what became of those of this run, and the rejects."""
        done = self._journal.progress.commit.offset
        return {
            "complete": self._source.end == done,
            "done": done,
            "doneEarlier": self._done_earlier,
            "counts": self._output.counts(),
            "seconds": round(time.monotonic() - self._began_s, 1),
            "rejects": [
                {"file": str(one.file), "report": str(one.report), "count": len(one.offsets)}
                for one in self.rejects.files
                if one.offsets
            ],
        }

    def execute(self, stop: threading.Event, tick: Callable[[], None] = lambda: None) -> None:
        """Handle every line until `stop` is set; `tick` is called at least a few times a second.

        What is done stays done however it ends. Raises BridgeError: ConfigError for files that changed or cannot be
        read, BrakeError when the brake engages.
        """
        locks = UserLocks()
        builder = StageBuilder(
            self._interpretation.settings,
            self._interpretation,
            self._directory,
            output=self._output,
            clock=self._clock,
            metrics=Metrics(),
            realm=self._realm,
            locks=locks,
        )
        stage = builder.provision()
        context = replace(stage.context, name="backfill")
        if self._mails:
            settings = self._interpretation.settings
            own = own_users(self._interpretation.mapping)
            limits = limits_of(settings, stage.context.brake)
            sender = inviter(self._directory, own, locks, settings, self._clock, limits)
            mail = mailer(sender, settings)
            self._output.mail = lambda invitation: mail(invitation).mailed

        def until() -> Mapping[TopicPartition, int] | None:
            tick()
            return None if self._source.end is None else {PARTITION: self._source.end}

        try:
            ConsumerLoop(context, self._source, stage.handler, stage.options).run(stop, until)
        finally:
            stage.close()


class _FileOutput:
    """Counts results, writes rejects, and mails invitations at once. Safe to share between threads.

    A reject counts once it is in its file: until then its line is handled again and again.
    """

    def __init__(self, rejects: Rejects) -> None:
        self.mail: Callable[[Invitation], bool] = lambda _: False
        self._rejects = rejects
        self._counts: Counter[str] = Counter()
        self._rejected: set[int] = set()
        self._mailed = 0
        self._lock = threading.Lock()

    @property
    def handled(self) -> int:
        with self._lock:
            return self._counts.total() + len(self._rejected)

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            others = {"mailed": self._mailed, Outcome.REJECTED.value: len(self._rejected)}
            known = {word: count for word, count in others.items() if count}
            return dict(sorted({**self._counts, **known}.items()))

    def result(self, record: Record, result: Result) -> Acknowledgement:  # noqa: ARG002 # the port's
        if result.outcome is Outcome.REJECTED:
            return _WRITTEN
        word = result.action or result.outcome.value
        if word == Outcome.SKIPPED:
            word = f"skipped ({result.reason})"
        with self._lock:
            self._counts[word] += 1
        return _WRITTEN

    def dead_letter(
        self,
        record: Record,
        error: BridgeError,
        result: Result,
        *,
        step: str,
        group_id: str,  # noqa: ARG002 # no consumer group here
    ) -> Acknowledgement:
        assert isinstance(record, FileRecord)  # noqa: S101 # the source has no other
        written = self._rejects.add(record, error, result, step)

        def count(problem: BridgeError | None) -> None:
            if problem is None:
                with self._lock:
                    self._rejected.add(record.offset)

        written.then(count)
        return written

    def invitation(self, invitation: Invitation) -> Acknowledgement:
        if self.mail(invitation):
            with self._lock:
                self._mailed += 1
        return _WRITTEN

    def holds(self, record: Record) -> bool:
        return self._rejects.holds(record)

    def replayed(self, record: Record) -> bool:  # noqa: ARG002 # the port's
        return False


_WRITTEN = Written().acknowledge()
