"""`keycloak-bridge completion`: complete commands and options with the tab key."""

import click
from click.shell_completion import get_completion_class

from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.main import PROGRAM, app

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
