"""Commands that a page shows: in its console blocks, and in the column "check" of a checklist; and whether they can be right."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import click

from keycloak_bridge.cli.main import app

ROOT = Path(__file__).parents[2]
TARGETS = frozenset(
    re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
)


class Check(NamedTuple):
    """One line of a checklist."""

    what: str
    command: str
    right: str


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return the command lines of the console blocks, continuation lines joined, and those of checklists."""
    joined = "\n".join(blocks(text, "console")).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()]
    return lines + [one.command for one in checks(text)]


def checks(text: str) -> list[Check]:
    """Return the lines of all tables `what | check | right when`."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [one.strip() for one in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            inside = False
        elif cells == ["what", "check", "right when"]:
            inside = True
        elif inside and not line.startswith("| ---"):
            what, command, right = cells
            found.append(Check(what, command.strip("`"), right))
    return found


def targets_in(line: str) -> set[str]:
    """Return the targets of a `make …`."""
    return {word for word in shlex.split(line)[1:] if "=" not in word}


def parse(line: str) -> None:
    """Raise click.UsageError unless the line is a command of the bridge, with options and as many arguments as it takes."""
    command: click.Command = app
    words = shlex.split(re.split(r" (?:\||>|2>|&&) ?", line)[0])[1:]
    while True:
        context = click.Context(command, resilient_parsing=False)
        values, rest, _ = command.make_parser(context).parse_args(words)
        if not isinstance(command, click.Group):
            break
        if not rest:
            return  # a group by itself prints its help
        _, found, words = command.resolve_command(context, rest)
        assert found is not None, line
        command = found
    if rest and not values.get("help"):
        raise click.UsageError(f"{line}: too many arguments")
