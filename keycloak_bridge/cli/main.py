"""The command `keycloak-bridge`: a command is imported when it is used, so that help and completion are quick."""

import sys
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import get_completion_class

from keycloak_bridge import __version__
from keycloak_bridge.cli.common import (
    add_settings_options,
    examples,
    exit_code_of,
    exit_quietly_if_reader_left,
    output_problem,
    prepare_streams,
    report,
)
from keycloak_bridge.cli.interruption import importing

PROGRAM = "keycloak-bridge"


class LazyCommand(NamedTuple):
    """Where a command is, and its line in the overview."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "run": LazyCommand("run", "run", "Run the sidecar: events in, users and mails out."),
    "validate": LazyCommand("validate", "validate", "Check events against schema and mapping."),
    "test-mapping": LazyCommand(
        "mapping_cases",
        "test_mapping_command",
        "Test your mapping against sample events and the expected users.",
    ),
    "plan": LazyCommand("plan", "plan", "Show what events would change in the realm."),
    "apply": LazyCommand("apply", "apply", "Apply events by hand, step by step."),
    "reconcile": LazyCommand(
        "reconcile", "reconcile", "Compare a whole population with the realm; repair it."
    ),
    "backfill": LazyCommand(
        "backfill",
        "backfill",
        "Import users from files into the realm; can be resumed.",
    ),
    "explain": LazyCommand(
        "explain", "explain", "Show which event last set each attribute of a user."
    ),
    "log": LazyCommand("log", "log", "Show what became of events; follow what happens now."),
    "invitations": LazyCommand(
        "invitations", "invitations", "List the invited users; ask for another mail to them."
    ),
    "topics": LazyCommand("topics", "topics", "Check or create the Kafka topics."),
    "dead-letters": LazyCommand(
        "dead_letters", "dead_letters", "List, show and replay the dead letters."
    ),
    "schemas": LazyCommand("schemas", "schemas", "List, show and check the schemas of events."),
    "guard": LazyCommand(
        "run", "guard", "Show the running bridge's status; release its safety brake."
    ),
    "check-config": LazyCommand("config", "check_config", "Check settings, schemas and mapping."),
    "doctor": LazyCommand(
        "config", "doctor", "Check settings, Kafka, Keycloak and realm; report what is wrong."
    ),
    "realm": LazyCommand("realm", "realm", "Show and write what a realm lacks for the bridge."),
    "init": LazyCommand("config", "init", "Write a settings file and a mapping to start from."),
    "demo": LazyCommand("demo", "demo", "Show the whole flow on a real Kafka and Keycloak."),
    "sandbox": LazyCommand("sandbox", "sandbox", "Run a real Kafka and Keycloak on this machine."),
    "completion": LazyCommand("main", "completion", "Print the shell's completion script."),
}
"""All commands in the order of the overview; modules are relative to `keycloak_bridge.cli`."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns every error into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's
        """Return the names of all commands, without importing them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's
        """Import and return the command, or None for an unknown name."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        with importing():
            module = import_module(f"keycloak_bridge.cli.{lazy.module}")
        command: click.Command = getattr(module, lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's
        """Write the overview without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command; when the reader closes the output, it ends quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            exit_quietly_if_reader_left(ctx)
            raise
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and exit, or return the result when not in `standalone_mode`."""
        standalone = extra.pop("standalone_mode", True)
        extra.setdefault("prog_name", PROGRAM)
        call = partial(super().main, *args, standalone_mode=False, **extra)
        if not standalone:
            return call()
        try:
            result: Any = call()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 # the last place to turn it into a message
            shown = output_problem(error) or error
            report(shown)
            result = exit_code_of(shown)
        sys.exit(result if isinstance(result, int) else 0)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `keycloak-bridge init`, or see everything work: `keycloak-bridge demo`.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def app() -> None:
    """Bring users from Kafka into Keycloak.

    The bridge reads events about users from Kafka, checks each against a JSON Schema, maps it, and creates, updates,
    disables, enables or deletes the user in Keycloak. Keycloak mails new users a link to set a password.

    Settings come from bridge.toml (or --config), then the environment (KEYCLOAK_BRIDGE_SECTION_KEY), then --set; each
    source overrides the one before it.
    """


add_settings_options(app)


def main() -> None:
    """Run the command line and exit."""
    prepare_streams()
    app.main()


_VARIABLE = "_KEYCLOAK_BRIDGE_COMPLETE"


@click.command(
    epilog=examples(
        'eval "$(keycloak-bridge completion bash)"      # in ~/.bashrc',
        'eval "$(keycloak-bridge completion zsh)"       # in ~/.zshrc',
        "keycloak-bridge completion fish | source       # in ~/.config/fish/config.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    complete = get_completion_class(shell)
    if complete is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(complete(app, {}, PROGRAM, _VARIABLE).source())
