"""The command `keycloak-bridge`. Nothing heavy is imported before a command needs it.

`keycloak-bridge completion`: complete commands and options with the tab key.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import get_completion_class

from keycloak_bridge import __version__
from keycloak_bridge.cli.common import (
    examples,
    exit_code_of,
    exit_quietly_if_reader_left,
    report,
    settings_options,
)

PROGRAM = "keycloak-bridge"


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is, and what the overview says about it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "run": LazyCommand("run", "run", "Run the sidecar: events in, users and mails out."),
    "validate": LazyCommand("validate", "validate", "Check events against schema and mapping."),
    "test-mapping": LazyCommand(
        "test_mapping", "golden", "Hold your mapping to sample events and what they make."
    ),
    "plan": LazyCommand("plan", "plan", "Show what events would change in the realm."),
    "apply": LazyCommand("apply", "apply", "Apply events by hand, step by step."),
    "reconcile": LazyCommand(
        "reconcile", "reconcile", "Compare a whole population with the realm; repair it."
    ),
    "backfill": LazyCommand(
        "backfill", "backfill", "Bring the users of files into the realm; go on where it ended."
    ),
    "explain": LazyCommand("explain", "explain", "Say which event set what of a user."),
    "topics": LazyCommand("topics", "topics", "Check or create the Kafka topics."),
    "dead-letters": LazyCommand(
        "dead_letters", "dead_letters", "List, show and replay the dead letters."
    ),
    "schemas": LazyCommand("schemas", "schemas", "List, show and check the schemas of events."),
    "guard": LazyCommand("run", "guard", "Ask the running bridge how it is; release its brake."),
    "check-config": LazyCommand("config", "check_config", "Check settings, schemas and mapping."),
    "doctor": LazyCommand(
        "doctor", "doctor", "Look at settings, Kafka, Keycloak and realm; say what is wrong."
    ),
    "init": LazyCommand("config", "init", "Write a settings file and a mapping to start from."),
    "sandbox": LazyCommand("sandbox", "sandbox", "Run a real Kafka and Keycloak on this machine."),
    "completion": LazyCommand("main", "completion", "Print the shell's completion script."),
}
"""All commands in the order of the overview; modules are relative to `keycloak_bridge.cli`."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and ends every run with a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's
        """Return the names of all commands, without importing them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's
        """Import and return the command, or None for an unknown name."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(
            import_module(f"keycloak_bridge.cli.{lazy.module}"), lazy.attribute
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's
        """Write the overview from what is known without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command; a reader that closed our output ends it quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            exit_quietly_if_reader_left(ctx)
            raise
        return result

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit, or return the result when not in `standalone_mode`."""

        def call() -> Any:
            return super(LazyGroup, self).main(
                args,
                prog_name or PROGRAM,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if not standalone_mode:
            return call()
        sys.exit(_exit_code(call))


def _exit_code(call: Callable[[], Any]) -> int:
    """Run `call`, say what went wrong, and return the exit code; an int that it returns is one."""
    try:
        result = call()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 # the last place to turn it into a sentence
        report(error)
        return exit_code_of(error)
    return result if isinstance(result, int) else 0


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `keycloak-bridge init`, or see everything work: `keycloak-bridge sandbox up`.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@settings_options
def app() -> None:
    """Bring users from Kafka into Keycloak.

    The bridge reads events about users from Kafka, checks each against a JSON Schema, maps it, and brings the user in
    Keycloak to what it says: created, updated, disabled, enabled or deleted. Keycloak mails new users a link to set a
    password.

    Settings come from bridge.toml (or --config), then the environment (KEYCLOAK_BRIDGE_SECTION_KEY), then --set; each
    goes before what stands before it.
    """


def main() -> None:
    """Run the command line and exit."""
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
