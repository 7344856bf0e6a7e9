"""The option `--format`, the same for every command that has it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(json_is: str) -> Callable[[Command], Command]:
    """Give a command the option --format, as its argument `output`; `json_is` says what json prints."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help=f"json: {json_is}.",
    )
