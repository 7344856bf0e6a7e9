"""`keycloak-bridge doctor`: check everything that the bridge needs."""

import click

from keycloak_bridge.cli.common import Invocation, bridge_command, format_option
from keycloak_bridge.cli.console import Console
from keycloak_bridge.diagnostics.doctor import check_up
from keycloak_bridge.diagnostics.probes import Light

UNWELL = 1
_LIGHTS = (Light.GREEN, Light.YELLOW, Light.RED, Light.GRAY)


@bridge_command(
    "keycloak-bridge doctor",
    "keycloak-bridge doctor --config bridge.toml --format json",
    "keycloak-bridge doctor --send-test-mail you@example.com",
)
@format_option("one object with all findings")
@click.option(
    "--send-test-mail",
    "address",
    metavar="ADDRESS",
    help="Have Keycloak mail a link to this address, with a user that is deleted at once.",
)
def doctor(invocation: Invocation, output: str, address: str | None) -> int:
    """Check settings, Kafka, Keycloak and the realm, and report what is wrong and how to fix it.

    Nothing is changed, and one failure does not hide the others. Green is good, yellow works with a risk, red does not
    work, gray could not be checked or is not used. Secrets are never shown. Exit code: 0 nothing is red, 1 something is.
    """
    console = Console()
    counts = dict.fromkeys(map(str, _LIGHTS), 0)
    findings = []
    for result in check_up(invocation.load(), test_mail=address):
        counts[result.light] += 1
        findings.append(
            {
                "probe": result.probe,
                "light": str(result.light),
                "subject": result.subject,
                "message": result.message,
                "remedy": result.remedy,
            }
        )
        if output == "text":
            style = "dim" if result.light is Light.GRAY else str(result.light)
            console.line(f"{result.light:<7}{result.probe:<23}{_indented(result.message)}", style)
            if result.remedy is not None:
                console.line(f"{'':<30}fix: {_indented(result.remedy)}")
    if output == "json":
        console.json({"healthy": not counts["red"], "counts": counts, "findings": findings})
    else:
        console.line()
        console.line(", ".join(f"{count} {light}" for light, count in counts.items()))
    return UNWELL if counts["red"] else 0


def _indented(text: str) -> str:
    return f"\n{'':<30}".join(text.splitlines())
