"""`keycloak-bridge doctor`: look at everything that the bridge needs."""

from collections import Counter

import click

from keycloak_bridge.cli.common import Invocation, examples, pass_invocation, settings_options
from keycloak_bridge.cli.console import Console
from keycloak_bridge.diagnostics.doctor import check_up
from keycloak_bridge.diagnostics.probe import ProbeResult

UNWELL = 1
_LIGHTS = ("green", "yellow", "red", "gray")
_STYLES = {"gray": "dim"}


@click.command(
    epilog=examples(
        "keycloak-bridge doctor",
        "keycloak-bridge doctor --config bridge.toml --format json",
        "keycloak-bridge doctor --send-test-mail you@example.com",
    )
)
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--send-test-mail",
    "address",
    metavar="ADDRESS",
    help="Have Keycloak mail a link to it, by a user that is deleted at once.",
)
@settings_options
@pass_invocation
def doctor(invocation: Invocation, output: str, address: str | None) -> int:
    """Look at settings, Kafka, Keycloak and the realm, and say what is wrong and how to mend it.

    Nothing is changed, and one failure does not hide the others. Green is well, yellow works with a risk, red does not
    work, gray could not be looked at or is not used. Secrets are never shown. Exit code: 0 nothing is red, 1 something is.
    """
    loaded = invocation.load()

    results = []
    console = Console()
    for result in check_up(loaded, test_mail=address):
        results.append(result)
        if output == "text":
            _show(console, result)
    counts = Counter(str(result.light) for result in results)
    if output == "json":
        console.json(_document(results, counts))
    else:
        console.line()
        console.line(", ".join(f"{counts[light]} {light}" for light in _LIGHTS))
    return UNWELL if counts["red"] else 0


def _show(console: Console, result: ProbeResult) -> None:
    style = _STYLES.get(result.light, str(result.light))
    console.line(f"{result.light:<7}{result.probe:<23}{_one_line(result.message)}", style)
    if result.remedy is not None:
        console.line(f"{'':<30}fix: {_one_line(result.remedy)}")


def _one_line(text: str) -> str:
    return f"\n{'':<30}".join(text.splitlines())


def _document(results: list[ProbeResult], counts: Counter[str]) -> dict[str, object]:
    return {
        "healthy": not counts["red"],
        "counts": {light: counts[light] for light in _LIGHTS},
        "findings": [
            {
                "probe": result.probe,
                "light": str(result.light),
                "subject": result.subject,
                "message": result.message,
                "remedy": result.remedy,
            }
            for result in results
        ],
    }
