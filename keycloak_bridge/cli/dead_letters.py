"""`keycloak-bridge dead-letters`: list, show and replay the records that were given up."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    bridge_command,
    format_option,
    moment,
    options,
    shown_time,
    utc_option,
)
from keycloak_bridge.cli.console import Console, progress_bar, with_progress
from keycloak_bridge.domain.errors import BridgeError, ConfigError, EventError, Violation
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.unicode_text import printable
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.events.frames import frame_length
from keycloak_bridge.kafka.dead_letter_replay import GONE, Replay, ReplayOptions, batches
from keycloak_bridge.kafka.dead_letter_topic import DeadLetterReader, DeadLetterReplayer
from keycloak_bridge.messages.bridge_headers import DEAD_LETTER_PREFIX, REPLAY_PREFIX
from keycloak_bridge.messages.dead_letter_inventory import (
    DeadLetterFilter,
    DeadLetterInventory,
    counts_by_code,
)
from keycloak_bridge.messages.dead_letters import (
    INVITE_STEP,
    DeadLetter,
    Place,
    dead_letter_headers,
    is_replay_mark,
    original_record,
    read_dead_letter,
)
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.pipeline.interpret import Skipped
from keycloak_bridge.pipeline.preview import PreviewOutcome, preview
from keycloak_bridge.population.side_by_side import side_by_side
from keycloak_bridge.provisioning.provisioner import Provisioner
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.marked_json import ARROW, escaped_excerpt, marked_json

STEPS = ("decode", "schema", "map", "keycloak", "invite")
_RECENT_BYTES = 16 * 1024 * 1024
_FEW = 100
"""Dead letters; below, a bar would only flicker."""

_LONGEST_EXCERPT = 2048
"""Confluent's serializers put a zero byte and a schema id before the JSON."""

_HEADINGS = ("letter", "time", "code", "state", "user", "event type", "attempts", "from")

_filter_options = options(
    click.option("--code", "codes", multiple=True, help="Reason code; may be repeated."),
    click.option("--type", "types", multiple=True, help="Type of the event; may be repeated."),
    click.option("--user", "users", multiple=True, help="The user's id; may be repeated."),
    click.option("--stage", "step", type=click.Choice(STEPS), help="The step in which the record failed."),
    click.option("--since", type=moment, metavar="TIME", help='Given up at this time or later: ISO 8601 (UTC without an offset), or an age such as "2 hours".'),
    click.option("--until", type=moment, metavar="TIME", help="Given up before this time or age."),
)  # fmt: skip


def _chosen(filters: Mapping[str, Any], places: Collection[Place] = ()) -> DeadLetterFilter:
    values: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, tuple) else value
        for name, value in filters.items()
    }
    return DeadLetterFilter(frozenset(places), **values)


def letter_place(text: str) -> Place:
    """Return the place that an argument names; raises the error of click with what to write instead."""
    try:
        return Place.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def dead_letters() -> None:
    """List, show and replay the dead letters.

    A dead letter is addressed by its place in the dead-letter topic, PARTITION/OFFSET, as `list` prints it.
    """


@bridge_command(
    "keycloak-bridge dead-letters list",
    'keycloak-bridge dead-letters list --code role-not-allowed --since "2 hours"',
    "keycloak-bridge dead-letters list --all --format json",
    name="list",
    group=dead_letters,
)
@_filter_options
@click.option("--all", "everything", is_flag=True, help="Show also those that were replayed.")
@utc_option
@format_option("one object for each letter")
def list_letters(
    invocation: Invocation, /, everything: bool, utc: bool, output: str, **filters: Any
) -> None:
    """List the dead letters that are open: ids and codes, no personal data."""
    settings = invocation.settings()
    with dead_letter_reader(settings) as reader:
        inventory = read_inventory(reader, Interpretation(settings).rules, _chosen(filters))
    letters = inventory.letters(replayed=everything)
    console = Console()
    if output == "json":
        for letter in letters:
            console.json(_as_object(letter, inventory), indent=None)
        return
    if letters:
        console.table(_HEADINGS, [_row(letter, inventory, utc=utc) for letter in letters])
        console.line()
    console.line(_totals(letters, inventory, everything=everything))


@bridge_command("keycloak-bridge dead-letters show 3/41", group=dead_letters)
@click.argument("letter", type=letter_place)
def show(invocation: Invocation, letter: Place) -> None:
    """Show one complete dead letter: why it was given up, its headers, its key and its body.

    Each broken rule is beside the line that breaks it. The body is personal data: this command shows it on your terminal
    on purpose.
    """
    settings = invocation.settings()
    with dead_letter_reader(settings) as reader:
        record = reader.fetch([letter]).get(letter)
        if record is None:
            topic = settings.topics.dead_letters
            raise _no_dead_letter([letter], topic, reader.why_absent(letter))
    if is_replay_mark(record):
        raise ConfigError(
            f"{letter} is not a dead letter but the mark that one was replayed",
            remedy="`keycloak-bridge dead-letters list --all` names the dead letters",
        )
    _print_dead_letter(Console(), record, read_dead_letter(record, Interpretation(settings).rules))


@bridge_command(
    "keycloak-bridge dead-letters replay --dry-run --all-open",
    "keycloak-bridge dead-letters replay 3/41 3/42",
    "keycloak-bridge dead-letters replay --code role-not-allowed --yes",
    group=dead_letters,
)
@click.argument("letters", nargs=-1, type=letter_place, metavar="[LETTER]...")
@_filter_options
@click.option("--all-open", is_flag=True, help="Every dead letter that was not replayed yet.")
@click.option("--dry-run", is_flag=True, help="Publish nothing; show what would become of each now.")  # fmt: skip
@click.option("--no-invite", is_flag=True, help="Users created by these records get no mail.")
@click.option("--max-attempts", type=click.IntRange(min=1), default=5, show_default=True, help="Pass over records that were given up this often.")  # fmt: skip
@click.option("--again", is_flag=True, help="Replay also those that were replayed before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(
    invocation: Invocation,
    /,
    letters: tuple[Place, ...],
    all_open: bool,
    dry_run: bool,
    no_invite: bool,
    max_attempts: int,
    again: bool,
    yes: bool,
    **filters: Any,
) -> int:
    """Publish the original records of dead letters again to the topics of events and invitations that they came from.

    Key, value and headers are the original ones, and so is the order. What was replayed is remembered in the dead-letter
    topic, in one transaction with the record, and not replayed again. With --dry-run each dead letter goes through the
    present schemas and mapping and, where the settings name the realm, is compared with it. Exit code 1 when a dead
    letter cannot be replayed or would be refused again.
    """
    chosen = _chosen(filters, letters)
    if chosen.is_empty and not all_open:
        raise click.UsageError("Name dead letters, or a filter such as --code, or --all-open.")
    if all_open and (chosen.places or again):
        raise click.UsageError("--all-open goes with neither dead letters nor --again.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("Standard input is not a terminal, so this cannot be confirmed; add --yes.")  # fmt: skip
    settings = invocation.settings()
    console = Console()
    with dead_letter_reader(settings) as reader:
        inventory = read_inventory(reader, Interpretation(settings).rules, chosen)
        if missing := inventory.missing():
            raise _no_dead_letter(missing, settings.topics.dead_letters)
        options = ReplayOptions(no_invite, max_attempts, again)
        selected = Replay(inventory, reader, options, settings.topics)
        _print_not_ready(console, selected)
        if dry_run:
            return _dry_run(console, settings, selected)
        if not selected.ready:
            console.line("nothing to replay")
        elif yes or click.confirm(
            f"Replay {counted(len(selected.ready), 'dead letter')}?", err=True
        ):
            _replay(console, settings, selected)
        else:
            console.line("nothing was replayed")
    return INVALID_EVENT if selected.impossible else 0


@contextlib.contextmanager
def dead_letter_reader(settings: Settings) -> Iterator[DeadLetterReader]:
    """Open a reader of the dead-letter topic; raises BrokerError, or ConfigError where there is none."""
    topic = settings.topics.dead_letters
    reader = DeadLetterReader(settings.kafka, topic, recent_bytes=_RECENT_BYTES)
    with contextlib.closing(reader):
        yield reader


def read_inventory(
    reader: DeadLetterReader, rules: EnvelopeRules, chosen: DeadLetterFilter
) -> DeadLetterInventory:
    """Return what the topic holds now of the dead letters that are meant."""
    inventory = DeadLetterInventory(rules, chosen)
    total = reader.remaining()
    records = reader.read()
    for record in (
        records if total <= _FEW else with_progress("reading dead letters", records, total)
    ):
        inventory.add(record)
    if inventory.foreign:
        click.echo(f"{inventory.foreign} records of the topic are not dead letters of the bridge", err=True)  # fmt: skip
    return inventory


def _no_dead_letter(places: Sequence[Place], topic: str, reason: str = "") -> ConfigError:
    return ConfigError(
        f"topic {topic} has no dead letter {', '.join(map(str, places))}"
        + (f": {reason}" if reason else ""),
        remedy="`keycloak-bridge dead-letters list --all` names the dead letters; the topic's retention removes old ones",
    )


def _row(letter: DeadLetter, inventory: DeadLetterInventory, *, utc: bool) -> tuple[str, ...]:
    return (
        str(letter.place),
        shown_time(letter.time, utc=utc),
        letter.code,
        _state(letter, inventory),
        letter.user_id or "-",
        letter.event_type or "-",
        str(letter.attempts),
        _origin(letter),
    )


def _as_object(letter: DeadLetter, inventory: DeadLetterInventory) -> dict[str, Any]:
    return {
        "letter": str(letter.place),
        "time": format_time(letter.time),
        "code": letter.code,
        "stage": letter.step,
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


def _origin(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.position.partition}@{letter.position.offset}"


def _totals(
    letters: Sequence[DeadLetter], inventory: DeadLetterInventory, *, everything: bool
) -> str:
    if not letters:
        matching = "" if inventory.chosen.is_empty else " that matches"
        return f"there is no{'' if everything else ' open'} dead letter{matching}"
    codes = ", ".join(f"{count} {printable(code)}" for code, count in counts_by_code(letters).items())  # fmt: skip
    opened = sum(map(inventory.is_open, letters))
    kind = f", {opened} of them open" if everything else " open"
    return f"{counted(len(letters), 'dead letter')}{kind}: {codes}"


def _print_dead_letter(console: Console, record: Record, letter: DeadLetter | None) -> None:
    """Print everything in `record`, personal data included; `letter` is what could be read of it."""
    reasons = dict(dead_letter_headers(record))
    errors = reasons.pop(f"{DEAD_LETTER_PREFIX}errors", "")
    violations = _violations(errors)
    facts = [("letter", str(Place(record.partition, record.offset)))]
    if letter is not None:
        facts += [("event type", letter.event_type or "-"), ("user", letter.user_id or "-")]
    facts += [(name.removeprefix(DEAD_LETTER_PREFIX), text) for name, text in reasons.items()]
    if errors and not violations:
        facts.append(("errors", errors))
    unreadable = record.unreadable
    if unreadable is not None:
        size = unreadable.size_bytes
        facts.append(("unreadable", unreadable.reason))
        facts += [] if size is None else [("size", counted(size, "byte"))]
    _print_facts(console, "Dead letter" if letter else "No dead letter of the bridge", facts)
    if unreadable is not None and not unreadable.is_whole:
        return
    others = [
        (name, _bytes_text(value))
        for name, value in record.headers
        if not name.startswith(DEAD_LETTER_PREFIX)
    ]
    added = [one for one in others if one[0].startswith(REPLAY_PREFIX)]
    _print_facts(console, "Replay that failed again", added)
    _print_facts(console, "Headers", [one for one in others if one not in added])
    console.line(f"Key: {_bytes_text(record.key)}", "bold")
    console.line()
    _print_body(console, record.value, violations)


def _violations(errors: str) -> list[Violation]:
    """Return what the header holds; any producer can write one."""
    try:
        found = json.loads(errors)
        return [Violation(str(one["pointer"]), str(one["keyword"]), str(one["message"])) for one in found]  # fmt: skip
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _bytes_text(value: bytes | None) -> str:
    return "null" if value is None else escaped_excerpt(value, _LONGEST_EXCERPT)


def _print_facts(console: Console, title: str, facts: Sequence[tuple[str, str]]) -> None:
    if not facts:
        return
    console.line(title, "bold")
    console.facts(facts, whole=True)
    console.line()


def _print_body(console: Console, value: bytes | None, violations: Sequence[Violation]) -> None:
    marked = None
    if not value:
        console.line("Body: none", "bold")
    else:
        length = frame_length(value)
        frame = f", {length} of them a serializer's frame" if length else ""
        console.line(f"Body ({counted(len(value), 'byte')}{frame})", "bold")
        marked = marked_json(value[length:], violations)
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


def _print_not_ready(console: Console, selected: Replay) -> None:
    for letter, reason in selected.passed_over:
        console.line(printable(f"{letter.place}  {letter.code}: passed over, {reason}"), "yellow")
    for letter, reason in selected.impossible:
        console.line(printable(f"{letter.place}  {letter.code}: cannot be replayed, {reason}"), "red")  # fmt: skip
    if before := selected.replayed_before:
        was = "was" if before == 1 else "were"
        console.line(
            f"{counted(before, 'dead letter')} {was} replayed before; --again replays once more"
        )


def _replay(console: Console, settings: Settings, selected: Replay) -> None:
    """Publish batch by batch, and print how many; also before an error is raised."""
    replayer = DeadLetterReplayer(settings.kafka, f"{settings.kafka.group_id}-replay")
    with contextlib.closing(replayer):
        letters = selected.still_open()
        if meanwhile := len(selected.ready) - len(letters):
            click.echo(
                f"{counted(meanwhile, 'dead letter')} replayed by another operator meanwhile",
                err=True,
            )
        try:
            with progress_bar("replaying", len(letters)) as advance:
                for batch in batches(letters):
                    for letter, reason in selected.publish(replayer, batch):
                        click.echo(printable(f"{letter.place}  {letter.code} ({_origin(letter)}): cannot be replayed, {reason}"), err=True)  # fmt: skip
                    advance(len(batch))
        except (BridgeError, KeyboardInterrupt):
            click.echo(f"replayed {selected.done} of {counted(len(letters), 'dead letter')} before this; the same command continues with the others", err=True)  # fmt: skip
            raise
    console.line(f"replayed {counted(selected.done, 'dead letter')}", "green")


def _dry_run(console: Console, settings: Settings, selected: Replay) -> int:
    """Print what would become of each dead letter if it were replayed now; return the exit code.

    Each is compared with the realm as it is now, not with what the dead letters before it would make of it.
    """
    interpretation = Interpretation(settings)
    interpretation.check()
    keycloak = settings.keycloak
    asks_keycloak = bool(keycloak.realm) and keycloak.authenticates
    provisioner = direct_provisioner(interpretation) if asks_keycloak else None
    totals: Counter[str] = Counter()
    gone = 0

    def foreseen(
        selected: tuple[DeadLetter, Record | None],
    ) -> tuple[DeadLetter, tuple[str, str] | None]:
        letter, record = selected
        if record is None:
            return letter, None
        return letter, _preview_replay(letter, record, interpretation, provisioner)

    for letter, preview_of in side_by_side(foreseen, selected.records(), settings.delivery.workers):
        if preview_of is None:
            gone += 1
            console.line(printable(f"{letter.place}  {letter.code} → {GONE}"), "red")
            continue
        outcome, detail = preview_of
        totals[outcome] += 1
        sentence = f"would be {outcome}" + (f": {detail}" if detail else "")
        style = "red" if outcome == _REFUSED else "green"
        console.line(printable(f"{letter.place}  {letter.code} → {sentence}"), style)
    console.line(", ".join(f"{count} would be {what}" for what, count in sorted(totals.items())) or "nothing to replay")  # fmt: skip
    return INVALID_EVENT if gone or selected.impossible or totals[_REFUSED] else 0


_REFUSED = "refused"
_PREVIEW_WORDS = {
    PreviewOutcome.CREATE: "created",
    PreviewOutcome.UPDATE: "updated",
    PreviewOutcome.UNCHANGED: "left as it is",
    PreviewOutcome.SKIP: "skipped",
    PreviewOutcome.IGNORED: "skipped",
    PreviewOutcome.REFUSED: _REFUSED,
    PreviewOutcome.ACCEPTED: "accepted",
}


def _preview_replay(
    letter: DeadLetter,
    record: Record,
    interpretation: Interpretation,
    provisioner: Provisioner | None,
) -> tuple[str, str]:
    """Return what would become of `letter`, which is `record`, in the words of `would be …`, and why."""
    original = original_record(letter, record)
    if letter.step == INVITE_STEP:
        try:
            read_invitation(original, interpretation.catalog, interpretation.mapping)
        except EventError as error:
            return _REFUSED, _reason(error)
        return "mailed", "the mail would be asked for again"
    found = preview(partial(interpretation.read, original), provisioner)
    detail = found.reason or ""
    if found.error is not None:
        detail = _reason(found.error)
    elif isinstance(found.prepared, Skipped):
        detail = found.prepared.sentence
    elif found.outcome is PreviewOutcome.ACCEPTED:
        detail = "schema and mapping accept it; the realm was not asked"
    return _PREVIEW_WORDS[found.outcome], detail


def _reason(error: BridgeError) -> str:
    where = ", ".join(f"{one.pointer or '/'} {one.message}" for one in error.violations[:3])
    more = ", …" if len(error.violations) > 3 else ""
    return error.code + (f" ({where}{more})" if where else "")
