"""The main job, from nothing: real Kafka, real Keycloak, real mails, and what became of each event.

Run by `make demo` as `python -m keycloak_bridge.sandbox.show [--keep]`.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions
from keycloak_bridge.sandbox.console import SandboxConsole
from keycloak_bridge.sandbox.demo import publish, sample_events, tell
from keycloak_bridge.sandbox.state import identity, read_state, write_state
from keycloak_bridge.sandbox.stories import complaints, show, summary
from keycloak_bridge.sandbox.supervisor import start_detached, stop_detached, terminable

_BRIDGE = (sys.executable, "-m", "keycloak_bridge")


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything up, the bridge included.")
def main(keep: bool) -> None:
    """Show the whole flow on a real Kafka and a real Keycloak."""
    console = Console()
    try:
        with terminable():
            if keep:
                _demo_that_stays(console)
            else:
                _demo_that_ends(console)
    except SandboxError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("interrupted; everything was stopped", err=True)
        sys.exit(130)


def _demo_that_ends(console: Console) -> None:
    with SandboxConsole() as progress:
        sandbox = Sandbox(SandboxOptions(), progress.progress, progress.downloads)
        sandbox.start()
    try:
        _play(sandbox.environment(), console)
    finally:
        sandbox.stop()
    console.print("Everything was stopped. [bold]make demo KEEP=1[/] leaves it up.")


def _demo_that_stays(console: Console) -> None:
    with SandboxConsole() as progress:
        state = start_detached(SandboxOptions(), progress.progress, progress.downloads)
    try:
        environment = dict(state.environment)
        _play(environment, console)
        _leave_bridge_running(environment)
    except BaseException:
        stop_detached()
        raise
    _explain(environment, console)


def _play(environment: Mapping[str, str], console: Console) -> None:
    """Publish the events, run the bridge over them, and show what became of each."""
    log = Path(environment["SANDBOX_RUN_DIR"]) / "bridge.log"
    events = sample_events()
    console.print(f"publishing {len(events)} events to Kafka, one of them invalid")
    _run(["topics", "create"], environment, log)
    publish(events, environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"])
    console.print("running the bridge until it has caught up")
    _run(["run", "--until-caught-up"], environment, log)
    stories = tell(events, environment)
    show(stories, console)
    console.print(f"[bold]{summary(stories)}[/]")
    if found := complaints(stories):
        raise SandboxError(f"the demo did not keep its promise: {'; '.join(found)}")


def _run(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run the bridge's command line as a user would; its output goes to `log`."""
    with log.open("ab") as output:
        done = subprocess.run(
            [*_BRIDGE, *arguments],
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        command = " ".join(arguments)
        raise SandboxError(f"keycloak-bridge {command} ended with {done.returncode}:\n{tail}")


def _leave_bridge_running(environment: Mapping[str, str]) -> None:
    """Start the sidecar for good; `sandbox down` ends it together with the rest."""
    log = Path(environment["SANDBOX_RUN_DIR"]) / "bridge.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_BRIDGE, "run"],
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    state = read_state()
    if state is not None:
        companion = identity("bridge", process.pid)
        write_state(replace(state, services=(*state.services, companion)))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a bridge that sees the sandbox's settings and no others of this shell."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("KEYCLOAK_BRIDGE_")}
    ours = {k: v for k, v in environment.items() if k.startswith("KEYCLOAK_BRIDGE_")}
    return {**outside, **ours, "KEYCLOAK_BRIDGE_HEALTH_PORT": "0"}


def _explain(environment: Mapping[str, str], console: Console) -> None:
    url, realm = (
        environment["SANDBOX_KEYCLOAK_PUBLIC_URL"],
        environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"],
    )
    lines = (
        ("a link from a mail above", "open it and set a password"),
        (f"{url}/admin/{realm}/console", "Keycloak's console"),
        ("  user", environment["SANDBOX_ADMIN_USERNAME"]),
        ("  password", environment["SANDBOX_ADMIN_PASSWORD"]),
        ("Kafka", environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]),
        (".venv/bin/keycloak-bridge sandbox mail", "the mails that were caught"),
        (".venv/bin/keycloak-bridge sandbox env", "settings for a bridge of your own"),
        (".venv/bin/keycloak-bridge sandbox down", "stops everything"),
    )
    console.print("\nIt is all still up, the bridge included:")
    width = max(len(what) for what, _ in lines)
    for what, why in lines:
        console.print(f"  {what:<{width}}  {why}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
