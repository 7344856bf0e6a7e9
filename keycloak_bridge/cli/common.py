"""What one call of the command line says about settings, and the settings that come of it.

Every way in which a command can end badly: a sentence for people, an exit code for scripts.

The option `--format`, the same for every command that has it.

Points in time on the command line: as ISO 8601 writes them, or as an age.

Examples at the end of a help text.
"""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    ConfigError,
    EventError,
    KeycloakAuthError,
)
from keycloak_bridge.domain.times import parse_duration

if TYPE_CHECKING:
    from keycloak_bridge.settings import LoadedSettings, Settings

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that every command shares, wherever they stood on the line."""

    config: Path | None = None
    overrides: tuple[str, ...] = ()

    def load(self, require: Collection[str] = ()) -> "LoadedSettings":
        """Return the settings with their problems; raises ConfigError when the file cannot be read."""
        # by name, so that --help and --version do not wait for JSON Schema
        loaded: LoadedSettings = import_module("keycloak_bridge.settings").read_settings(
            self.config, environ=os.environ, overrides=self.overrides, require=require
        )
        return loaded

    def settings(self, require: Collection[str] = ()) -> "Settings":
        """Return the settings in force and start the logs; `require` names keys that must have a value.

        Raises one ConfigError for all problems.
        """
        loaded = self.load(require)
        loaded.raise_if_wrong()
        log = loaded.settings.log
        import_module("keycloak_bridge.ops.logs").configure_logging(
            level=log.level, log_format=log.format
        )
        return loaded.settings

    def overriding(self, *assignments: str) -> "Invocation":
        """Return the same with more settings overridden, each as `section.key=value`; later ones go before."""
        return replace(self, overrides=(*self.overrides, *assignments))


def invocation_of(ctx: click.Context) -> Invocation:
    """Return what the options said so far."""
    return ctx.find_object(Invocation) or Invocation()


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
"""Decorates a command that takes the `Invocation` as its first argument."""


def settings_options(command: Command) -> Command:
    """Give a command --config, --set and --log-level; they may stand before and behind its name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Add what an option says to the invocation; what stands later goes before."""
    invocation = invocation_of(ctx)
    if parameter.name == "config" and value is not None:
        ctx.obj = replace(invocation, config=value)
    elif parameter.name == "override" and value:
        ctx.obj = invocation.overriding(*value)
    elif parameter.name == "log_level" and value is not None:
        ctx.obj = invocation.overriding(f"log.level={value}")
    elif ctx.obj is None:
        ctx.obj = invocation


_OPTIONS = (
    click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="Settings file; else KEYCLOAK_BRIDGE_CONFIG, else ./bridge.toml.",
    ),
    click.option(
        "--set",
        "override",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        expose_value=False,
        callback=_remember,
        help="Override one setting; may be repeated.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
        metavar="LEVEL",
        expose_value=False,
        callback=_remember,
        help="DEBUG, INFO, WARNING or ERROR; short for --set log.level=…",
    ),
)


INVALID_EVENT = 1
CONFIGURATION = 2
STOPPED = 3
CHANGES = 4
"""Only where it was asked for: there is something that would be written."""
INTERRUPTED = 130
READER_LEFT = 141
"""What shells say of a program whose output nobody reads any more."""


def exit_code_of(error: BaseException) -> int:
    """Return the exit code: 1 invalid event, 2 usage or configuration, 3 stopped, 130 interrupted."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ConfigError | KeycloakAuthError | BrokerAccessError):
        return CONFIGURATION
    if isinstance(error, EventError):
        return INVALID_EVENT
    return STOPPED


def report(error: BaseException) -> None:
    """Say on standard error what went wrong and how to mend it; an interruption needs no words."""
    if isinstance(error, click.ClickException):
        error.show()
    elif isinstance(error, BridgeError):
        _say(_sentences(error))
    elif not isinstance(error, click.Abort | KeyboardInterrupt):
        _say(_bug(error))


def exit_quietly_if_reader_left(ctx: click.Context) -> None:
    """Exit without a word when nobody reads standard output any more; return when something else broke."""
    with contextlib.suppress(OSError, ValueError):
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLERR)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            # what is still buffered goes nowhere, so that the interpreter does not complain at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
            ctx.exit(READER_LEFT)


def _sentences(error: BridgeError) -> list[str]:
    """Return the error, its single problems and the remedy, a line each."""
    first, *others = error.message.splitlines() or [error.code]
    lines = [f"error: {first}", *(f"       {line}" for line in others)]
    for violation in error.violations:
        where = violation.pointer or "/"
        lines.append(f"       {where}: {violation.message} ({violation.keyword})")
    if error.remedy:
        lines.append(f"fix:   {error.remedy}")
    return lines


def _bug(error: BaseException) -> list[str]:
    """Describe an unexpected exception without its text, which may repeat any value."""
    from keycloak_bridge.ops.logs import bare_traceback, failure  # noqa: PLC0415 # only in this rare case

    lines = [f"error: unexpected {failure(error)}; this is a bug of keycloak-bridge"]
    if _debugging():
        return [*lines, bare_traceback(error)]
    return [
        *lines,
        "fix:   run it again with KEYCLOAK_BRIDGE_LOG_LEVEL=DEBUG and report the traceback",
    ]


def _debugging() -> bool:
    """Say whether DEBUG was asked for; the settings may be what is broken, so they are not asked."""
    level = os.environ.get("KEYCLOAK_BRIDGE_LOG_LEVEL", "")
    return "DEBUG" in (level.upper(), *(one.upper().rpartition("=")[2] for one in sys.argv))


def _say(lines: list[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


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


def now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    """Return the aware point in time that `text` is, or is as an age; raises click's error."""
    with contextlib.suppress(ValueError, OverflowError):
        return now() - timedelta(seconds=parse_duration(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            'write a time such as 2026-11-02T08:00:00Z or an age such as "2 hours"'
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def examples(*lines: str) -> str:
    """Return an epilog that click prints line by line instead of as one paragraph."""
    heading = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(("\b", heading, *(f"  {line}" for line in lines)))
