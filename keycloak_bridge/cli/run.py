"""The sidecar: `run` runs it, `guard` asks the one that runs."""

import signal
import threading

import click
import requests

from keycloak_bridge.app.bridge import Bridge
from keycloak_bridge.app.stopping import CLOSING_S, ended_after
from keycloak_bridge.cli.common import Invocation, bridge_command
from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.ops.logs import gather_lines
from keycloak_bridge.ops.memory import collect_garbage_rarely, give_back_large_blocks
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS
from keycloak_bridge.settings.model import HealthSettings

NOT_READY_EXIT_CODE = 1
TIMEOUT_S = 5.0
"""How long the bridge may take to answer."""

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 # what the bridge listens on, not what is listened on here
_BESIDE = "run this beside the bridge, in the same container"


@bridge_command("keycloak-bridge --config bridge.toml run --until-caught-up")
@click.option("--until-caught-up", is_flag=True, help="End with exit code 0 when everything that the topics hold now is done, mails included.")  # fmt: skip
@click.option("--no-invite", is_flag=True, help="Send no mail, and request none: invite.mode = none.")  # fmt: skip
def run(invocation: Invocation, until_caught_up: bool, no_invite: bool) -> None:
    """Run the sidecar: events in, users and mails out.

    It waits for Kafka and Keycloak to start, and reconnects to both. At SIGTERM or Ctrl-C it finishes the records in
    hand, commits, leaves the consumer group and ends with exit code 0; with 5 where that takes 15 seconds longer than
    delivery.drain.
    """
    if no_invite:
        invocation = invocation.overriding("invite.mode=none")
    settings = invocation.settings(KEYCLOAK_ACCESS)
    gather_lines()
    give_back_large_blocks()
    collect_garbage_rarely()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ended_after(stop, settings.delivery.drain + CLOSING_S):
        Bridge(settings, stop).run(until_caught_up=until_caught_up)


@click.group()
def guard() -> None:
    """Show the running bridge's status; release its safety brake.

    The bridge is asked at health.host and health.port, so run this beside it, in the same container.
    """


@bridge_command("keycloak-bridge guard status", group=guard)
def status(invocation: Invocation) -> int:
    """Print "ready", or every reason why the bridge is not ready.

    Exit 0 is ready, 1 not ready, 3 that no bridge answers.
    """
    address = _address(invocation.settings().health)
    problems = _texts(_ask("GET", address, "/ready"), "problems", address)
    for line in problems or ["ready"]:
        click.echo(line)
    return NOT_READY_EXIT_CODE if problems else 0


@bridge_command("keycloak-bridge guard release", group=guard)
def release(invocation: Invocation) -> None:
    """Release the brake, so that the bridge continues.

    The brake stops the bridge when too many records become dead letters, or when more would be done than [limits] allow.
    Look at the reason first, and fix the cause.
    """
    address = _address(invocation.settings().health)
    answer = _ask("POST", address, "/release")
    if not answer.ok:
        raise BridgeError(
            f"what answers at {address} does not release (status {answer.status_code}): {_error_in(answer)}",
            code="not-released",
            remedy=_BESIDE,
        )
    released = _texts(answer, "released", address)
    for line in [f"released {name}" for name in released] or ["nothing was held"]:
        click.echo(line)


def _address(health: HealthSettings) -> str:
    """Return host and port of the bridge that runs with these settings on this machine."""
    if not health.enabled:
        raise ConfigError(
            "health.enabled is false, so the bridge does not answer",
            remedy="set health.enabled = true and start the bridge again",
        )
    if health.port == 0:
        raise ConfigError(
            "health.port is 0, so the bridge may answer at any port",
            remedy="name the port: --set health.port=…",
        )
    host = "127.0.0.1" if health.host in _ANYWHERE else health.host
    return f"[{host}]:{health.port}" if ":" in host else f"{host}:{health.port}"


def _ask(method: str, address: str, path: str) -> requests.Response:
    """Return the answer, whatever its status; raises BridgeError when there is none."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy is never on the way to this machine
        try:
            return session.request(
                method, f"http://{address}{path}", timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.ReadTimeout as error:
            raise BridgeError(
                f"what listens at {address} does not answer within {TIMEOUT_S:g} s",
                code="no-answer",
                remedy="try again; if it still does not answer, restart the bridge",
            ) from error
        except requests.RequestException as error:
            raise BridgeError(
                f"no bridge answers at {address}", code="no-bridge", remedy=_BESIDE
            ) from error


def _texts(answer: requests.Response, name: str, address: str) -> list[str]:
    """Return the list of texts called `name` in the answer; raises BridgeError when it is not a bridge's."""
    try:
        texts = answer.json()[name]
    except (ValueError, KeyError, TypeError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BridgeError(
            f"what answers at {address} is not a bridge",
            code="no-bridge",
            remedy=f"check health.port; {_BESIDE}",
        )
    return texts


def _error_in(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return "it gives no reason; is it a bridge?"
