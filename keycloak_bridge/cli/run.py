"""`keycloak-bridge run`: the sidecar."""

import signal
import threading
from types import FrameType

import click

from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options


@click.command(
    epilog="Example: keycloak-bridge --config bridge.toml run --until-caught-up",
)
@click.option(
    "--until-caught-up",
    is_flag=True,
    help="End with exit code 0 when everything that the topics hold now is done, mails included.",
)
@click.option(
    "--no-invite", is_flag=True, help="Send no mail, and ask for none: invite.mode = none."
)
@settings_options
@pass_invocation
def run(invocation: Invocation, until_caught_up: bool, no_invite: bool) -> None:
    """Run the sidecar: events in, users and mails out.

    It waits for Kafka and Keycloak to appear, and for either to come back. SIGTERM or Ctrl-C finishes the record in
    hand, commits, leaves the consumer group and ends with exit code 0.
    """
    if no_invite:
        invocation = invocation.overriding("invite.mode=none")
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    from keycloak_bridge.bridge import Sidecar  # noqa: PLC0415 # kafka and requests take their time

    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    Sidecar(settings, stop).run(until_caught_up=until_caught_up)
