"""`keycloak-bridge dead-letters`: which records were given up, why, and publishing them anew."""

from typing import Any

import click

from keycloak_bridge.cli.console import Console
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
from keycloak_bridge.cli.letter_replay import replay
from keycloak_bridge.cli.letter_view import print_letter
from keycloak_bridge.cli.output_format import format_option
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.letters import (
    DeadLetter,
    Inventory,
    LetterFilter,
    counts_by_code,
    is_mark,
    read_letter,
)
from keycloak_bridge.core.marked_json import printable
from keycloak_bridge.core.replays import Place
from keycloak_bridge.core.timestamps import format_time

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
    invocation: Invocation, chosen: LetterFilter, everything: bool, output: str
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
    if is_mark(record):
        raise ConfigError(
            f"{letter} is no dead letter but the mark that one was replayed",
            remedy="`keycloak-bridge dead-letters list --all` names the letters",
        )
    print_letter(Console(), record, read_letter(record, envelope_rules_of(settings)))


dead_letters.add_command(replay)


def _row(letter: DeadLetter, inventory: Inventory) -> tuple[str, ...]:
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


def _as_object(letter: DeadLetter, inventory: Inventory) -> dict[str, Any]:
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


def _state(letter: DeadLetter, inventory: Inventory) -> str:
    return "open" if inventory.is_open(letter) else "replayed"


def _totals(letters: list[DeadLetter], inventory: Inventory, *, everything: bool) -> str:
    if not letters:
        matching = "" if inventory.chosen.is_empty else " that is meant"
        return f"there is no{'' if everything else ' open'} dead letter{matching}"
    codes = ", ".join(f"{count} {printable(code)}" for code, count in counts_by_code(letters).items())  # fmt: skip
    opened = sum(map(inventory.is_open, letters))
    kind = f", {opened} of them open" if everything else " open"
    return f"{counted(len(letters))}{kind}: {codes}"
