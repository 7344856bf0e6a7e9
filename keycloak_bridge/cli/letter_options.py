"""What the commands about dead letters share: which letters are meant, and reading the topic."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from keycloak_bridge.cli.moments import moment
from keycloak_bridge.cli.progress import progress_bar
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.events import EnvelopeRules
from keycloak_bridge.core.letters import DeadLetter, Inventory, LetterFilter
from keycloak_bridge.core.replays import Place

if TYPE_CHECKING:
    from keycloak_bridge.kafka_letters import LetterReader
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
        chosen = LetterFilter(
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
def letter_reader(settings: "Settings") -> Iterator["LetterReader"]:
    """Lend a reader of the dead-letter topic; raises BrokerError, or ConfigError where there is none."""
    from keycloak_bridge import kafka_letters  # noqa: PLC0415 # kafka takes its time

    reader = kafka_letters.LetterReader(
        settings.kafka, settings.topics.dead_letters, recent_bytes=_RECENT_BYTES
    )
    with contextlib.closing(reader):
        yield reader


def envelope_rules_of(settings: "Settings") -> EnvelopeRules:
    """Return how to read the events of these settings; raises ConfigError."""
    from keycloak_bridge.interpretation import Interpretation  # noqa: PLC0415

    return Interpretation(settings).rules


def take_inventory(reader: "LetterReader", rules: EnvelopeRules, chosen: LetterFilter) -> Inventory:
    """Return what the topic holds now of the letters that are meant."""
    inventory = Inventory(rules, chosen)
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
