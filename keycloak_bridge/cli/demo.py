"""`keycloak-bridge demo`: the whole flow on a real Kafka and Keycloak."""

import sys

import click

from keycloak_bridge.cli.common import examples
from keycloak_bridge.cli.interruption import INTERRUPTED
from keycloak_bridge.cli.sandbox import fixable
from keycloak_bridge.sandbox.demo import demo as show


@click.command(epilog=examples("keycloak-bridge demo --keep"))
@click.option("--keep", is_flag=True, help="Leave everything up, the bridge and its page included.")
def demo(keep: bool) -> None:
    """Show the whole flow on a real Kafka and a real Keycloak.

    Starts both and a mail catcher on 127.0.0.1 (downloaded once, about 220 MB, checksums pinned), publishes five sample
    events, one of them invalid, runs the bridge, and shows what became of each. Needs the extra `sandbox`.
    """
    try:
        with fixable():
            show(keep=keep)
    except KeyboardInterrupt:
        click.echo("interrupted; everything was stopped", err=True)
        sys.exit(INTERRUPTED)
