"""Every way in which a command can end badly: a sentence for people, an exit code for scripts."""

import contextlib
import os
import select
import sys

import click

from keycloak_bridge.core.errors import (
    BridgeError,
    BrokerAccessError,
    ConfigError,
    EventError,
    KeycloakAuthError,
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
    from keycloak_bridge.logs import bare_traceback, failure  # noqa: PLC0415 # only in this rare case

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
