"""What every command shares: the options for settings, --format, times, exit codes and how errors are printed."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keycloak_bridge.cli.interruption import INTERRUPTED, importing
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerRefusedError,
    ConfigError,
    EventError,
    KeycloakAuthError,
    Violation,
)
from keycloak_bridge.domain.times import parse_duration

if TYPE_CHECKING:
    from keycloak_bridge.app.interpretation import Interpretation
    from keycloak_bridge.settings.loading import LoadedSettings
    from keycloak_bridge.settings.model import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options for settings that every command has, before or after its name."""

    config: Path | None = None
    overrides: tuple[str, ...] = ()

    def load(self, require: Collection[str] = ()) -> "LoadedSettings":
        """Return the settings with their problems; raises ConfigError when the file cannot be read."""
        # here, so that --help and --version do not wait for JSON Schema
        with importing():
            from keycloak_bridge.settings.loading import read_settings  # noqa: PLC0415

        return read_settings(
            self.config, environ=os.environ, overrides=self.overrides, require=require
        )

    def settings(self, require: Collection[str] = ()) -> "Settings":
        """Return the settings in force and start the logs; `require` names keys that must have a value.

        Raises one ConfigError for all problems.
        """
        with importing():
            from keycloak_bridge.ops import logs  # noqa: PLC0415 # as above

        loaded = self.load(require)
        loaded.raise_if_wrong()
        log = loaded.settings.log
        logs.configure_logging(level=log.level, log_format=log.format)
        return loaded.settings

    def interpretation(self, *, keycloak: bool = False) -> "Interpretation":
        """Return schemas, envelope rules and mapping of the settings, all read and checked.

        With `keycloak` the settings must say how to reach it. Raises ConfigError.
        """
        with importing():
            from keycloak_bridge.app.interpretation import Interpretation  # noqa: PLC0415 # as above
            from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS  # noqa: PLC0415 # as above

        interpretation = Interpretation(self.settings(KEYCLOAK_ACCESS if keycloak else ()))
        interpretation.check()
        return interpretation

    def overriding(self, *assignments: str) -> "Invocation":
        """Return the same with more settings, each as `section.key=value`; the last one of a key wins."""
        return replace(self, overrides=(*self.overrides, *assignments))


def bridge_command(
    *example_lines: str, name: str | None = None, group: click.Group | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command that takes the `Invocation` first and has --config, --set and --log-level."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        create = click.command if group is None else group.command
        take = click.make_pass_decorator(Invocation, ensure=True)
        command = create(name, epilog=examples(*example_lines))(take(function))
        add_settings_options(command)
        return command

    return decorate


def add_settings_options(command: click.Command) -> None:
    """Give a command --config, --set and --log-level; on a group they come before the name of the command."""
    option = partial(click.option, expose_value=False, callback=_remember)
    option(
        *("-c", "--config"),
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file; else KEYCLOAK_BRIDGE_CONFIG, else ./bridge.toml.",
    )(command)
    option(
        *("--set", "overrides"),
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Override one setting; may be repeated.",
    )(command)
    option(
        "--log-level",
        type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
        metavar="LEVEL",
        help="DEBUG, INFO, WARNING or ERROR; short for --set log.level=…",
    )(command)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Add an option to the invocation; a later one overrides an earlier one."""
    invocation = ctx.find_object(Invocation) or Invocation()
    if parameter.name == "config":
        ctx.obj = replace(invocation, config=value or invocation.config)
    elif parameter.name == "overrides":
        ctx.obj = invocation.overriding(*value)
    elif value is not None:
        ctx.obj = invocation.overriding(f"log.level={value}")


INVALID_EVENT = 1
CONFIGURATION = 2
STOPPED = 3
CHANGES = 4
"""Only with --exit-code: there is something that would be written."""
READER_LEFT = 141
"""What shells report for a program whose output is closed."""


def exit_code_of(error: BaseException) -> int:
    """Return the exit code: 1 invalid event, 2 usage or configuration, 3 stopped, 130 interrupted."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ConfigError | KeycloakAuthError | BrokerAccessError | BrokerRefusedError):
        return CONFIGURATION
    if isinstance(error, EventError):
        return INVALID_EVENT
    return STOPPED


def report(error: BaseException) -> None:
    """Print on standard error what went wrong and how to fix it; nothing for an interruption."""
    if isinstance(error, click.ClickException):
        error.show()
    elif isinstance(error, BridgeError):
        first, *others = error.message.splitlines() or [error.code]
        others += map(violation_text, error.violations)
        remedy = [f"fix:   {error.remedy}"] if error.remedy else []
        lines = [f"error: {first}", *(f"       {line}" for line in others), *remedy]
        click.echo("\n".join(lines), err=True)
    elif not isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo(_bug(error), err=True)


def exit_quietly_if_reader_left(ctx: click.Context) -> None:
    """Exit without a message when the reader of standard output is gone; return when something else broke."""
    with contextlib.suppress(OSError, ValueError):
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLERR)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            # what is still buffered is dropped, so that the interpreter does not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
            ctx.exit(READER_LEFT)


def prepare_streams() -> None:
    """Let every command have standard input, output and error: one that is closed is empty, or takes all and keeps nothing.

    What an output's encoding cannot say is escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                # the lowest number that is free: no file of the bridge becomes one of the three
                os.open(os.devnull, os.O_RDWR)
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
            write_through=sys.stdout.write_through,
        )


def output_problem(error: BaseException) -> BridgeError | None:
    """Return the problem of standard output that `error` is, None for any other; nothing more is written to it then."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not (isinstance(raw, _Output) and isinstance(error, OSError) and error is raw.problem):
        return None
    with contextlib.suppress(OSError):
        # what is still buffered is dropped, so that the interpreter does not complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), raw.fileno())
    return BridgeError(
        f"standard output cannot be written: {error.strerror}; what was done stays",
        code="output",
        remedy="make room for the output, or lead it elsewhere",
    )


class _Output(io.FileIO):
    """Standard output, which remembers why it could not be written."""

    problem: OSError | None = None

    def write(self, content: Any) -> int:
        """Write and return as a file does."""
        try:
            return super().write(content)
        except OSError as error:
            self.problem = error
            raise


def violation_text(violation: Violation) -> str:
    """Return a broken rule as one line: where, what is wrong, and the keyword of the schema."""
    return f"{violation.pointer or '/'}: {violation.message} ({violation.keyword})"


def _bug(error: BaseException) -> str:
    """Describe an unexpected exception without its text, which may repeat any value."""
    from keycloak_bridge.ops.logs import bare_traceback, failure  # noqa: PLC0415 # only in this rare case

    # the settings may be what is broken, so they are not read here
    level = os.environ.get("KEYCLOAK_BRIDGE_LOG_LEVEL", "")
    debugs = "DEBUG" in (level.upper(), *(one.upper().rpartition("=")[2] for one in sys.argv))
    remedy = "fix:   run it again with KEYCLOAK_BRIDGE_LOG_LEVEL=DEBUG and report the traceback"
    what = f"error: unexpected {failure(error)}; this is a bug of keycloak-bridge"
    return f"{what}\n{bare_traceback(error) if debugs else remedy}"


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


def options(
    *of_the_command: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command these options, in the order in which its help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(of_the_command):
            command = option(command)
        return command

    return decorate


def utc_option(command: Command) -> Command:
    """Give a command the option --utc, for `shown_time`."""
    return click.option("--utc", is_flag=True, help="Show times in UTC, not in your time zone.")(
        command
    )


def shown_time(time: datetime | None, *, utc: bool) -> str:
    """Return an aware `time` to the second for people, in their zone or in UTC, with its offset, so that `moment` reads it."""
    if time is None:
        return "-"
    with contextlib.suppress(
        OverflowError, OSError
    ):  # the first and the last hours of the calendar
        time = time.astimezone(UTC if utc else None)
    return time.isoformat(" ", timespec="seconds").replace("+00:00", "Z")


def now() -> datetime:
    """Return the present in UTC; tests replace it."""
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    """Return the aware time that `text` gives in ISO 8601 or as an age; raises click's error."""
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
