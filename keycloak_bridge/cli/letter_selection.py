"""Which of the letters that are meant can be replayed, and why the others are not."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.letter_options import counted
from keycloak_bridge.core.letters import INVITE_STAGE, DeadLetter, Inventory, in_original_order

if TYPE_CHECKING:
    from keycloak_bridge.kafka_letters import LetterReader

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
    inventory: Inventory, reader: "LetterReader", wishes: Wishes, own_topic: str
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
