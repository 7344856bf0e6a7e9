"""`keycloak-bridge dead-letters`: which records were given up, why, and publishing them anew.

What the commands about dead letters share: which letters are meant, and reading the topic.

Which of the letters that are meant can be replayed, and why the others are not.

One dead letter on an operator's terminal: reasons, headers, key and body.

JSON in lines for people, each broken rule beside the line that breaks it.

`keycloak-bridge dead-letters replay`: publish given-up records anew, never twice by accident.

What would become of a dead letter if it were replayed now.
"""

import contextlib
import functools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import click

from keycloak_bridge.app.bridge import direct_provisioner
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    examples,
    format_option,
    moment,
    now,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console, progress_bar
from keycloak_bridge.cli.plan_view import outcome_of
from keycloak_bridge.domain.errors import BridgeError, ConfigError, Violation
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import OutOfScope
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.kafka import dead_letter_topic as kafka_letters
from keycloak_bridge.kafka import dead_letter_topic as kafka_replayer
from keycloak_bridge.kafka.dead_letter_topic import (
    TOO_LARGE,
    DeadLetterReader,
    DeadLetterReplayer,
    Outgoing,
)
from keycloak_bridge.messages.dead_letters import (
    DEAD_LETTER_PREFIX,
    INVITE_STAGE,
    REPLAY_PREFIX,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterInventory,
    Place,
    counts_by_code,
    dead_letter_headers,
    in_original_order,
    is_replay_mark,
    original_record,
    read_dead_letter,
    replay_mark,
    replay_message,
)
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.pipeline.interpret import Skipped
from keycloak_bridge.provisioning.provisioner import Provisioner
from keycloak_bridge.settings import Settings

STAGES = ("decode", "schema", "map", "keycloak", "invite")
_RECENT_BYTES = 16 * 1024 * 1024
_FEW = 100
"""Offsets; below, a bar would only flicker."""


def letter_place(text: str) -> Place:
    """Return the place that an argument names; raises click's error with what to write instead."""
    try:
        return Place.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_OPTIONS = (
    click.option("--code", "codes", multiple=True, help="Reason code; may be repeated."),
    click.option("--type", "types", multiple=True, help="Type of the event; may be repeated."),
    click.option("--user", "users", multiple=True, help="The user's id; may be repeated."),
    click.option("--stage", type=click.Choice(STAGES), help="How far the record came."),
    click.option("--since", type=moment, metavar="TIME", help='Given up at this time or later: ISO 8601 (UTC without an offset), or an age such as "2 hours".'),
    click.option("--until", type=moment, metavar="TIME", help="Given up before this time or age."),
)  # fmt: skip


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which letters are meant; it takes them as one `chosen`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> Any:
        chosen = DeadLetterFilter(
            codes=frozenset(options.pop("codes")),
            types=frozenset(options.pop("types")),
            users=frozenset(options.pop("users")),
            stage=options.pop("stage"),
            since=options.pop("since"),
            until=options.pop("until"),
        )
        return command(*args, chosen=chosen, **options)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


@contextlib.contextmanager
def letter_reader(settings: Settings) -> Iterator[DeadLetterReader]:
    """Lend a reader of the dead-letter topic; raises BrokerError, or ConfigError where there is none."""
    reader = kafka_letters.DeadLetterReader(
        settings.kafka, settings.topics.dead_letters, recent_bytes=_RECENT_BYTES
    )
    with contextlib.closing(reader):
        yield reader


def envelope_rules_of(settings: Settings) -> EnvelopeRules:
    """Return how to read the events of these settings; raises ConfigError."""
    return Interpretation(settings).rules


def take_inventory(
    reader: DeadLetterReader, rules: EnvelopeRules, chosen: DeadLetterFilter
) -> DeadLetterInventory:
    """Return what the topic holds now of the letters that are meant."""
    inventory = DeadLetterInventory(rules, chosen)
    total = reader.remaining()
    bar = progress_bar("reading dead letters", total) if total > _FEW else contextlib.nullcontext()
    with bar as advance:
        for record in reader.read():
            inventory.add(record)
            if advance is not None:
                advance(1)
    if inventory.foreign:
        click.echo(f"{inventory.foreign} records of the topic are no dead letters of the bridge", err=True)  # fmt: skip
    return inventory


def origin_text(letter: DeadLetter) -> str:
    """Return where the record of a letter was read, as Kafka people write it."""
    return f"{letter.topic}/{letter.position.partition}@{letter.position.offset}"


def counted(number: int, what: str = "dead letter") -> str:
    """Return number and noun in the right form."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def no_letter(places: list[Place], topic: str) -> ConfigError:
    """Return the error for letters that are not there."""
    names = ", ".join(map(str, places))
    return ConfigError(
        f"topic {topic} has no dead letter {names}",
        remedy="`keycloak-bridge dead-letters list --all` names the letters; old ones go by the topic's retention",
    )


_REPLAYED = "was replayed before"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asked for, beside which letters."""

    no_invite: bool
    max_attempts: int
    again: bool


@dataclass(slots=True)
class Selection:
    """What becomes of the letters that are meant: `ready` ones in order, others with the reason."""

    ready: list[DeadLetter] = field(default_factory=list)
    passed_over: list[tuple[DeadLetter, str]] = field(default_factory=list)
    impossible: list[tuple[DeadLetter, str]] = field(default_factory=list)
    partitions: dict[str, frozenset[int]] = field(default_factory=dict)


def select(
    inventory: DeadLetterInventory, reader: DeadLetterReader, wishes: Wishes, own_topic: str
) -> Selection:
    """Sort the letters that are meant into those to replay and those not."""
    selection = Selection()
    for letter in in_original_order(inventory.letters(replayed=True)):
        if letter.topic not in selection.partitions:
            selection.partitions[letter.topic] = reader.partitions_of(letter.topic)
        if not (wishes.again or inventory.is_open(letter)):
            selection.passed_over.append((letter, _REPLAYED))
        elif letter.attempts >= wishes.max_attempts:
            selection.passed_over.append((letter, f"was given up {counted(letter.attempts, 'time')} (--max-attempts {wishes.max_attempts})"))  # fmt: skip
        elif wishes.no_invite and letter.stage == INVITE_STAGE:
            selection.passed_over.append((letter, "is an invitation (--no-invite)"))
        elif letter.topic == own_topic:
            selection.impossible.append((letter, "its topic is the one of the dead letters"))
        elif not selection.partitions[letter.topic]:
            selection.impossible.append((letter, f"topic {letter.topic} does not exist any more"))
        else:
            selection.ready.append(letter)
    return selection


def tell(console: Console, selection: Selection) -> None:
    """Say what will not be replayed; of those that were replayed before only how many."""
    for letter, reason in selection.passed_over:
        if reason != _REPLAYED:
            console.line(f"{letter.place}  {letter.code}: passed over, {reason}", "yellow")
    for letter, reason in selection.impossible:
        console.line(f"{letter.place}  {letter.code}: cannot be replayed, {reason}", "red")
    replayed = sum(reason == _REPLAYED for _, reason in selection.passed_over)
    if replayed:
        was = "was" if replayed == 1 else "were"
        console.line(f"{counted(replayed)} {was} replayed before; --again replays once more")


ARROW = "←"
_INDENT = "  "
_DATA = "data"

Path = tuple[str, ...]


class MarkedText(NamedTuple):
    """The lines, and the violations whose place is not among them."""

    lines: tuple[str, ...]
    elsewhere: tuple[Violation, ...]


def marked_json(body: bytes, violations: Sequence[Violation]) -> MarkedText | None:
    """Return `body` a member a line with every violation at its own; None for bytes that are no JSON.

    Numbers stand as they were written and repeated names stay. A rule about something that is not there stands where it
    is missing. Pointers into a whole event find their place in its bare data too. Nothing in the lines can move a
    terminal's cursor.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_Members,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
        )
        lines = list(_lines(value, (), "", ""))
    except (ValueError, RecursionError):
        return None
    paths = {line.path for line in lines}
    notes: dict[Path, list[Violation]] = defaultdict(list)
    elsewhere: list[Violation] = []
    for violation in violations:
        path = _line_of(violation.pointer, paths)
        if path is None:
            elsewhere.append(violation)
        else:
            notes[path].append(violation)
    return MarkedText(tuple(_with_notes(lines, notes)), tuple(elsewhere))


def escaped_excerpt(body: bytes, longest: int) -> str:
    """Return the first `longest` bytes as text with everything escaped that is not plainly readable."""
    return printable(body[:longest].decode("utf-8", errors="backslashreplace"))


def printable(text: str) -> str:
    """Return `text` with every character escaped that is none to look at: controls, marks of direction and so on."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


class _Line(NamedTuple):
    path: Path
    text: str


class _Members(list[tuple[str, Any]]):
    """An object with its members in order, repeated names included."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _lines(value: Any, path: Path, name: str, comma: str) -> Iterator[_Line]:
    """Yield `value` behind `name`, a line for each member and each bracket."""
    indent = _INDENT * len(path)
    members: list[tuple[str, str, Any]]
    if isinstance(value, _Members):
        opening, closing = "{", "}"
        members = [(key, f"{_quoted(key)}: ", item) for key, item in value]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        members = [(str(index), "", item) for index, item in enumerate(value)]
    else:
        yield _Line(path, f"{indent}{name}{_scalar(value)}{comma}")
        return
    if not members:
        yield _Line(path, f"{indent}{name}{opening}{closing}{comma}")
        return
    yield _Line(path, f"{indent}{name}{opening}")
    for at, (token, shown, item) in enumerate(members, start=1):
        yield from _lines(item, (*path, token), shown, "," if at < len(members) else "")
    yield _Line(path, f"{indent}{closing}{comma}")


def _with_notes(lines: Sequence[_Line], notes: dict[Path, list[Violation]]) -> Iterator[str]:
    """Yield each line with what is wrong with it; a note about an object stands where it opens."""
    for line in lines:
        told = "; ".join(_note(one) for one in notes.pop(line.path, ()))
        yield f"{line.text}   {ARROW} {told}" if told else line.text


def _note(violation: Violation) -> str:
    where = violation.pointer or "/"
    return printable(f"{where}: {violation.message} ({violation.keyword})")


def _line_of(pointer: str, paths: set[Path]) -> Path | None:
    """Return the path of the line that `pointer` names or would stand in, None when it leads elsewhere."""
    whole = _tokens(pointer)
    candidates = [whole]
    if whole[:1] == (_DATA,) and (_DATA,) not in paths:
        candidates.append(whole[1:])
    for path in candidates:
        if path in paths:
            return path
    for path in candidates:
        if path[:-1] in paths:
            return path[:-1]
    return None


def _tokens(pointer: str) -> Path:
    parts = pointer.split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _scalar(value: Any) -> str:
    return printable(value) if isinstance(value, _Number) else _quoted(value)


def _quoted(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_LONGEST_EXCERPT = 2048
_FRAME_BYTES = 5
"""Confluent's serializers put a zero byte and a schema id before the JSON."""


def print_letter(console: Console, record: Record, letter: DeadLetter | None) -> None:
    """Print everything that stands in `record`, personal data included; `letter` is what was read of it."""
    reasons = dict(dead_letter_headers(record))
    errors = reasons.pop(f"{DEAD_LETTER_PREFIX}errors", "")
    violations = _violations(errors)
    facts = [("letter", str(Place(record.partition, record.offset)))]
    if letter is not None:
        facts += [("event type", letter.event_type or "-"), ("user", letter.user_id or "-")]
    facts += [(name.removeprefix(DEAD_LETTER_PREFIX), text) for name, text in reasons.items()]
    if errors and not violations:
        facts.append(("errors", errors))
    _facts(console, "Dead letter", facts)
    others = [one for one in record.headers if not one[0].startswith(DEAD_LETTER_PREFIX)]
    added = [one for one in others if one[0].startswith(REPLAY_PREFIX)]
    _facts(console, "Replay that failed again", [(n, _bytes_text(v)) for n, v in added])
    _facts(console, "Headers", [(n, _bytes_text(v)) for n, v in others if (n, v) not in added])
    console.line(f"Key: {_bytes_text(record.key)}", "bold")
    console.line()
    _body(console, record.value, violations)


def _facts(console: Console, title: str, facts: list[tuple[str, str]]) -> None:
    if not facts:
        return
    console.line(title, "bold")
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        console.line(f"  {printable(name):<{width}}  {printable(text)}")
    console.line()


def _body(console: Console, value: bytes | None, violations: list[Violation]) -> None:
    if not value:
        console.line("Body: none", "bold")
        marked = None
    else:
        framed = value[:1] == b"\x00" and len(value) > _FRAME_BYTES
        bare = value[_FRAME_BYTES:] if framed else value
        frame = f", {_FRAME_BYTES} of them a serializer's frame" if framed else ""
        console.line(f"Body ({counted(len(value), 'byte')}{frame})", "bold")
        marked = marked_json(bare, violations)
        if marked is None:
            console.line(escaped_excerpt(value, _LONGEST_EXCERPT))
            rest = len(value) - _LONGEST_EXCERPT
            if rest > 0:
                console.line(f"… and {counted(rest, 'byte')} more")
    for line in marked.lines if marked else ():
        console.line(line, "red" if f"   {ARROW} " in line else None)
    elsewhere = violations if marked is None else marked.elsewhere
    if elsewhere:
        console.line()
        console.line("Broken rules" if marked is None else "Broken rules elsewhere", "bold")
        for one in elsewhere:
            console.line(printable(f"  {one.pointer or '/'}: {one.message} ({one.keyword})"), "red")


def _violations(errors: str) -> list[Violation]:
    """Return what the header holds; anybody can write one."""
    try:
        found = json.loads(errors)
        return [Violation(str(one["pointer"]), str(one["keyword"]), str(one["message"])) for one in found]  # fmt: skip
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _bytes_text(value: bytes | None) -> str:
    return "null" if value is None else escaped_excerpt(value, _LONGEST_EXCERPT)


_WORDS = {
    "create": "created",
    "update": "updated",
    "unchanged": "left as it is",
    "skip": "skipped",
}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would happen, in the words of `would be …`, and why; not every letter `passes`."""

    outcome: str
    detail: str = ""
    passes: bool = True

    @property
    def sentence(self) -> str:
        """The outcome with its reason."""
        return f"would be {self.outcome}" + (f": {self.detail}" if self.detail else "")


class Forecast:
    """Takes letters through the present schemas and mapping, and plans against the realm where its settings are there.

    Each letter is compared with the realm as it is now, not with what the letters before it would make of it.
    """

    def __init__(self, settings: Settings) -> None:
        """Read schemas and mapping; raises ConfigError."""
        self._settings = settings
        self._interpretation = Interpretation(settings)
        self._interpretation.check()

    @property
    def asks_keycloak(self) -> bool:
        """Whether the settings say how to ask the realm."""
        keycloak = self._settings.keycloak
        return bool(keycloak.realm) and keycloak.client_secret is not None

    def of(self, letter: DeadLetter, record: Record) -> Outlook:
        """Return the outlook of `letter`, which is `record`; raises only what would keep every letter from it."""
        original = original_record(letter, record)
        try:
            if letter.stage == INVITE_STAGE:
                read_invitation(original, self._interpretation.catalog)
                return Outlook("mailed", "the mail would be asked for again")
            return self._event(original)
        except BridgeError as error:
            if not error.is_final:
                raise
            return _refused(error)

    def _event(self, record: Record) -> Outlook:
        reading = self._interpretation.read(record)
        if isinstance(reading, Skipped):
            return Outlook("skipped", reading.sentence)
        event, desired = reading.event, reading.desired
        if isinstance(desired, OutOfScope):
            return Outlook("skipped", "out-of-scope")
        if not self.asks_keycloak:
            return Outlook("accepted", "schema and mapping hold; the realm was not asked")
        _, planned = self._provisioner.plan(event, desired)
        told = outcome_of(planned)
        return Outlook(_WORDS[told["outcome"]], told.get("reason", ""))

    @cached_property
    def _provisioner(self) -> Provisioner:
        return direct_provisioner(self._interpretation)


def _refused(error: BridgeError) -> Outlook:
    where = ", ".join(f"{one.pointer or '/'} {one.message}" for one in error.violations[:3])
    more = ", …" if len(error.violations) > 3 else ""
    return Outlook(
        "refused", f"{error.code}" + (f" ({where}{more})" if where else ""), passes=False
    )


BATCH = 100
"""Letters a transaction, and in memory."""


@click.command(
    epilog=examples(
        "keycloak-bridge dead-letters replay --dry-run --all-open",
        "keycloak-bridge dead-letters replay 3/41 3/42",
        "keycloak-bridge dead-letters replay --code role-not-allowed --yes",
    ),
)
@click.argument("letters", nargs=-1, type=letter_place, metavar="[LETTER]...")
@filter_options
@click.option("--all-open", is_flag=True, help="Every letter that was not replayed yet.")
@click.option("--dry-run", is_flag=True, help="Publish nothing; say what would become of each now.")
@click.option("--no-invite", is_flag=True, help="Users created by these records get no mail.")
@click.option(
    "--max-attempts",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Pass over records that were given up this often.",
)
@click.option("--again", is_flag=True, help="Replay those too that were replayed before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options
@pass_invocation
def replay(
    invocation: Invocation,
    letters: tuple[Place, ...],
    chosen: DeadLetterFilter,
    all_open: bool,
    dry_run: bool,
    no_invite: bool,
    max_attempts: int,
    again: bool,
    yes: bool,
) -> int:
    """Publish the original records of dead letters anew to the topics that they came from.

    Key, value and headers are the original ones, the order too. What was replayed is remembered in the dead-letter
    topic, in one transaction with the record, and left alone from then on. With --dry-run each letter goes through the
    present schemas and mapping and, where the settings name the realm, is compared with it. Exit code 1 when a letter
    cannot be replayed or would be refused again.
    """
    chosen = replace(chosen, places=frozenset(letters))
    _check_usage(chosen, all_open=all_open, again=again, asks=not (yes or dry_run))
    settings = invocation.settings()
    wishes = Wishes(no_invite, max_attempts, again)
    console = Console()
    with letter_reader(settings) as reader:
        inventory = take_inventory(reader, envelope_rules_of(settings), chosen)
        if missing := inventory.missing():
            raise no_letter(missing, settings.topics.dead_letters)
        selection = select(inventory, reader, wishes, settings.topics.dead_letters)
        tell(console, selection)
        if dry_run:
            return _forecast(console, settings, reader, selection)
        if not selection.ready:
            console.line("nothing to replay")
        elif yes or click.confirm(f"Replay {counted(len(selection.ready))}?", err=True):
            _Replay(settings, reader, inventory, selection, wishes).run(console)
        else:
            console.line("nothing was replayed")
    return INVALID_EVENT if selection.impossible else 0


def _check_usage(chosen: DeadLetterFilter, *, all_open: bool, again: bool, asks: bool) -> None:
    if chosen.is_empty and not all_open:
        raise click.UsageError("Name letters, or a filter such as --code, or --all-open.")
    if all_open and (chosen.places or again):
        raise click.UsageError("--all-open goes with neither letters nor --again.")
    if asks and not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked, since standard input is no terminal; add --yes.")  # fmt: skip


def _forecast(
    console: Console, settings: Settings, reader: DeadLetterReader, selection: Selection
) -> int:

    forecast = Forecast(settings)
    totals: Counter[str] = Counter()
    refused = len(selection.impossible)
    for letter, record in _records(reader, selection.ready):
        if record is None:
            refused += 1
            console.line(f"{letter.place}  {letter.code} → {_GONE}", "red")
            continue
        outlook = forecast.of(letter, record)
        totals[outlook.outcome] += 1
        refused += not outlook.passes
        style = "green" if outlook.passes else "red"
        console.line(f"{letter.place}  {letter.code} → {outlook.sentence}", style)
    console.line(", ".join(f"{count} would be {what}" for what, count in sorted(totals.items())) or "nothing to replay")  # fmt: skip
    return INVALID_EVENT if refused else 0


_GONE = "is gone from the dead-letter topic"


def _records(
    reader: DeadLetterReader, letters: Sequence[DeadLetter]
) -> Iterator[tuple[DeadLetter, Record | None]]:
    for batch in _batches(letters):
        found = reader.fetch([letter.place for letter in batch])
        for letter in batch:
            yield letter, found.get(letter.place)


def _batches(letters: Sequence[DeadLetter]) -> Iterable[Sequence[DeadLetter]]:
    return (letters[at : at + BATCH] for at in range(0, len(letters), BATCH))


class _Replay:
    """Publishes what was selected, batch by batch, each letter with its mark."""

    def __init__(
        self,
        settings: Settings,
        reader: DeadLetterReader,
        inventory: DeadLetterInventory,
        selection: Selection,
        wishes: Wishes,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._inventory = inventory
        self._selection = selection
        self._wishes = wishes
        self._done = 0

    def run(self, console: Console) -> None:
        """Replay, and say how many; what raises is preceded by that as well."""
        transactional_id = f"{self._settings.kafka.group_id}-replay"
        replayer = kafka_replayer.DeadLetterReplayer(self._settings.kafka, transactional_id)
        with contextlib.closing(replayer):
            letters = self._still_open()
            try:
                with progress_bar("replaying", len(letters)) as advance:
                    for batch in _batches(letters):
                        self._replay(replayer, batch)
                        advance(len(batch))
            except (BridgeError, KeyboardInterrupt):
                click.echo(f"replayed {self._done} of {counted(len(letters))} before this; the same command goes on with the others", err=True)  # fmt: skip
                raise
        console.line(f"replayed {counted(self._done)}", "green")

    def _still_open(self) -> Sequence[DeadLetter]:
        """Leave out what another operator replayed before our transactional id shut them out."""
        for record in self._reader.read():
            self._inventory.add_mark(record)
        ready = self._selection.ready
        if self._wishes.again:
            return ready
        letters = [letter for letter in ready if self._inventory.is_open(letter)]
        if len(letters) < len(ready):
            click.echo(f"{counted(len(ready) - len(letters))} replayed by somebody else meanwhile", err=True)  # fmt: skip
        return letters

    def _replay(self, replayer: DeadLetterReplayer, batch: Sequence[DeadLetter]) -> None:
        found = self._reader.fetch([letter.place for letter in batch])
        for letter in batch:
            if letter.place not in found:
                self._fail(letter, _GONE)
        self._publish(replayer, [(one, found[one.place]) for one in batch if one.place in found])

    def _publish(
        self, replayer: DeadLetterReplayer, batch: Sequence[tuple[DeadLetter, Record]]
    ) -> None:
        """Publish a batch; when one is too large, the others still go out, in order."""
        time = now()
        outgoing: list[Outgoing] = []
        for letter, record in batch:
            message = replay_message(letter, record, no_invite=self._wishes.no_invite)
            number = letter.position.partition
            known = number in self._selection.partitions[letter.topic]
            outgoing.append(Outgoing(message, number if known else None))
            mark = replay_mark(letter, record, time=time)
            outgoing.append(Outgoing(mark, letter.place.partition))
        try:
            replayer.publish(outgoing)
        except BridgeError as error:
            if error.code != TOO_LARGE:
                raise
            if len(batch) == 1:
                self._fail(batch[0][0], f"topic {batch[0][0].topic} does not take a record of this size; raise its max.message.bytes")  # fmt: skip
                return
            for one in batch:
                self._publish(replayer, [one])
        else:
            self._done += len(batch)

    def _fail(self, letter: DeadLetter, reason: str) -> None:
        self._selection.impossible.append((letter, reason))
        click.echo(f"{letter.place}  {letter.code} ({origin_text(letter)}): cannot be replayed, {reason}", err=True)  # fmt: skip


_HEADINGS = ("letter", "time", "code", "event type", "user", "attempts", "from", "state")


@click.group()
def dead_letters() -> None:
    """List, show and replay the dead letters.

    A dead letter is addressed by its place in the dead-letter topic, PARTITION/OFFSET, as `list` prints it.
    """


@dead_letters.command(
    "list",
    epilog=examples(
        "keycloak-bridge dead-letters list",
        'keycloak-bridge dead-letters list --code role-not-allowed --since "2 hours"',
        "keycloak-bridge dead-letters list --all --format json",
    ),
)
@filter_options
@click.option("--all", "everything", is_flag=True, help="Show those too that were replayed.")
@format_option("one object for each letter")
@settings_options
@pass_invocation
def list_letters(
    invocation: Invocation, chosen: DeadLetterFilter, everything: bool, output: str
) -> None:
    """List the dead letters that are open: ids and codes, no personal data."""
    settings = invocation.settings()
    with letter_reader(settings) as reader:
        inventory = take_inventory(reader, envelope_rules_of(settings), chosen)
    letters = inventory.letters(replayed=everything)
    console = Console()
    if output == "json":
        for letter in letters:
            console.json(_as_object(letter, inventory), indent=None)
        return
    if letters:
        console.table(_HEADINGS, [_row(letter, inventory) for letter in letters])
        console.line()
    console.line(_totals(letters, inventory, everything=everything))


@dead_letters.command(epilog=examples("keycloak-bridge dead-letters show 3/41"))
@click.argument("letter", type=letter_place)
@settings_options
@pass_invocation
def show(invocation: Invocation, letter: Place) -> None:
    """Show one dead letter whole: why it was given up, its headers, its key and its body.

    Each broken rule stands beside the line that breaks it. The body is personal data: this command shows it on your
    terminal on purpose.
    """
    settings = invocation.settings()
    with letter_reader(settings) as reader:
        record = reader.fetch([letter]).get(letter)
    if record is None:
        raise no_letter([letter], settings.topics.dead_letters)
    if is_replay_mark(record):
        raise ConfigError(
            f"{letter} is no dead letter but the mark that one was replayed",
            remedy="`keycloak-bridge dead-letters list --all` names the letters",
        )
    print_letter(Console(), record, read_dead_letter(record, envelope_rules_of(settings)))


dead_letters.add_command(replay)


def _row(letter: DeadLetter, inventory: DeadLetterInventory) -> tuple[str, ...]:
    cells = (
        str(letter.place),
        letter.time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        letter.code,
        letter.event_type or "-",
        letter.user_id or "-",
        str(letter.attempts),
        origin_text(letter),
        _state(letter, inventory),
    )
    return tuple(map(printable, cells))


def _as_object(letter: DeadLetter, inventory: DeadLetterInventory) -> dict[str, Any]:
    return {
        "letter": str(letter.place),
        "time": format_time(letter.time),
        "code": letter.code,
        "stage": letter.stage,
        "eventId": letter.event_id,
        "eventType": letter.event_type,
        "userId": letter.user_id,
        "attempts": letter.attempts,
        "topic": letter.topic,
        "partition": letter.position.partition,
        "offset": letter.position.offset,
        "state": _state(letter, inventory),
    }


def _state(letter: DeadLetter, inventory: DeadLetterInventory) -> str:
    return "open" if inventory.is_open(letter) else "replayed"


def _totals(letters: list[DeadLetter], inventory: DeadLetterInventory, *, everything: bool) -> str:
    if not letters:
        matching = "" if inventory.chosen.is_empty else " that is meant"
        return f"there is no{'' if everything else ' open'} dead letter{matching}"
    codes = ", ".join(f"{count} {printable(code)}" for code, count in counts_by_code(letters).items())  # fmt: skip
    opened = sum(map(inventory.is_open, letters))
    kind = f", {opened} of them open" if everything else " open"
    return f"{counted(len(letters))}{kind}: {codes}"
