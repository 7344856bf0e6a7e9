"""`keycloak-bridge dead-letters replay`: publish given-up records anew, never twice by accident."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INVALID_EVENT
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.letter_options import (
    counted,
    envelope_rules_of,
    filter_options,
    letter_place,
    letter_reader,
    no_letter,
    origin_text,
    take_inventory,
)
from keycloak_bridge.cli.letter_selection import Selection, Wishes, select, tell
from keycloak_bridge.cli.moments import now
from keycloak_bridge.cli.progress import progress_bar
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.letters import (
    DeadLetter,
    Inventory,
    LetterFilter,
    mark_message,
    replay_message,
)
from keycloak_bridge.core.model import Record
from keycloak_bridge.core.replays import Place

if TYPE_CHECKING:
    from keycloak_bridge.kafka_letters import LetterReader
    from keycloak_bridge.kafka_replayer import LetterReplayer
    from keycloak_bridge.settings import Settings

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
    chosen: LetterFilter,
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


def _check_usage(chosen: LetterFilter, *, all_open: bool, again: bool, asks: bool) -> None:
    if chosen.is_empty and not all_open:
        raise click.UsageError("Name letters, or a filter such as --code, or --all-open.")
    if all_open and (chosen.places or again):
        raise click.UsageError("--all-open goes with neither letters nor --again.")
    if asks and not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked, since standard input is no terminal; add --yes.")  # fmt: skip


def _forecast(
    console: Console, settings: "Settings", reader: "LetterReader", selection: Selection
) -> int:
    from keycloak_bridge.cli.letter_forecast import Forecast  # noqa: PLC0415

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
    reader: "LetterReader", letters: Sequence[DeadLetter]
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
        settings: "Settings",
        reader: "LetterReader",
        inventory: Inventory,
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
        from keycloak_bridge import kafka_replayer  # noqa: PLC0415 # kafka takes its time

        transactional_id = f"{self._settings.kafka.group_id}-replay"
        replayer = kafka_replayer.LetterReplayer(self._settings.kafka, transactional_id)
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

    def _replay(self, replayer: "LetterReplayer", batch: Sequence[DeadLetter]) -> None:
        found = self._reader.fetch([letter.place for letter in batch])
        for letter in batch:
            if letter.place not in found:
                self._fail(letter, _GONE)
        self._publish(replayer, [(one, found[one.place]) for one in batch if one.place in found])

    def _publish(
        self, replayer: "LetterReplayer", batch: Sequence[tuple[DeadLetter, Record]]
    ) -> None:
        """Publish a batch; when one is too large, the others still go out, in order."""
        from keycloak_bridge.kafka_replayer import TOO_LARGE, Outgoing  # noqa: PLC0415

        time = now()
        outgoing: list[Outgoing] = []
        for letter, record in batch:
            message = replay_message(letter, record, no_invite=self._wishes.no_invite)
            number = letter.position.partition
            known = number in self._selection.partitions[letter.topic]
            outgoing.append(Outgoing(message, number if known else None))
            mark = mark_message(letter, record, time=time)
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
