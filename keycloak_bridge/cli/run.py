"""`keycloak-bridge run`: the sidecar.

`keycloak-bridge guard`: ask the bridge that runs beside it how it is, and release its brake.
"""

import signal
import threading
from types import FrameType

import click
from requests import Response

from keycloak_bridge.app.bridge import Sidecar
from keycloak_bridge.cli.common import Invocation, examples, pass_invocation, settings_options
from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.settings import HealthSettings


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

    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    Sidecar(settings, stop).run(until_caught_up=until_caught_up)


NOT_READY_EXIT_CODE = 1

TIMEOUT_S = 5.0
"""How long the bridge may take to answer."""

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 # what the bridge listens on, not what is listened on here
_BESIDE = "run this beside the bridge, in the same container"


@click.group(epilog=examples("keycloak-bridge guard status", "keycloak-bridge guard release"))
def guard() -> None:
    """Ask the running bridge how it is, and release its brake.

    The bridge is asked at health.host and health.port, so this belongs beside it, in the same container.
    """


@guard.command(epilog="Example: keycloak-bridge guard status")
@settings_options
@pass_invocation
def status(invocation: Invocation) -> int:
    """Say whether the bridge is ready.

    Prints every reason why not. Exit 0 is ready, 1 not ready, 3 that no bridge answers.
    """
    address = _address(invocation.settings().health)
    problems = _texts(_ask("GET", address, "/ready"), "problems", address)
    for line in problems or ["ready"]:
        click.echo(line)
    return NOT_READY_EXIT_CODE if problems else 0


@guard.command(epilog="Example: keycloak-bridge guard release")
@settings_options
@pass_invocation
def release(invocation: Invocation) -> None:
    """Release the brake, so that the flow goes on.

    The brake stops the flow when too much becomes a dead letter, or when more would be done than [limits] allow: look
    first, and mend the cause.
    """
    address = _address(invocation.settings().health)
    answer = _ask("POST", address, "/release")
    if not answer.ok:
        raise _refused(answer, address)
    released = _texts(answer, "released", address)
    for line in [f"released {name}" for name in released] or ["nothing was held"]:
        click.echo(line)


def _address(health: HealthSettings) -> str:
    """Return host and port of the bridge that runs with these settings on this machine."""
    if not health.enabled:
        raise ConfigError(
            "health.enabled is false, so the bridge answers nowhere",
            remedy="set health.enabled = true and start the bridge again",
        )
    if health.port == 0:
        raise ConfigError(
            "health.port is 0, so the bridge may answer at any port",
            remedy="name the port: --set health.port=…",
        )
    host = "127.0.0.1" if health.host in _ANYWHERE else health.host
    return f"[{host}]:{health.port}" if ":" in host else f"{host}:{health.port}"


def _ask(method: str, address: str, path: str) -> Response:
    """Return the answer, whatever its status; raises BridgeError when there is none."""
    import requests  # noqa: PLC0415 # takes its time

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
                remedy="ask again; if it stays so, restart the bridge",
            ) from error
        except requests.RequestException as error:
            raise BridgeError(
                f"no bridge answers at {address}", code="no-bridge", remedy=_BESIDE
            ) from error


def _texts(answer: Response, name: str, address: str) -> list[str]:
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


def _refused(answer: Response, address: str) -> BridgeError:
    try:
        why = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        why = "it gives no reason; is it a bridge?"
    return BridgeError(
        f"what answers at {address} does not release (status {answer.status_code}): {why}",
        code="not-released",
        remedy=_BESIDE,
    )
