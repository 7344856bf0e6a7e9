"""`keycloak-bridge plan`: what events would change in the realm."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INVALID_EVENT
from keycloak_bridge.cli.event_files import EventText, read_events
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.model import (
    BOOKKEEPING_ATTRIBUTES,
    CreateUser,
    OutOfScope,
    Plan,
    RequestInvitation,
    UpdateUser,
)

if TYPE_CHECKING:
    from keycloak_bridge.interpretation import Ignored, Interpretation, Reading
    from keycloak_bridge.provisioner import Provisioner


@click.command(
    epilog="Example: keycloak-bridge --config bridge.toml plan event.json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@settings_options
@pass_invocation
def plan(invocation: Invocation, files: tuple[str, ...], output: str) -> int:
    """Show what events would change in the realm, attribute by attribute; write nothing.

    A FILE holds one event, a JSON array of events or one event a line (NDJSON); - is standard input. Each event is
    compared with the realm as it is now, not with what the events before it would make of it. Exit code 1 when an event
    would be refused.
    """
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    from keycloak_bridge.bridge import direct_provisioner  # noqa: PLC0415
    from keycloak_bridge.interpretation import Interpretation  # noqa: PLC0415

    interpretation = Interpretation(settings)
    interpretation.check()
    provisioner = direct_provisioner(interpretation)
    console = Console()
    totals: Counter[str] = Counter()
    texts = (t for f in files for t in read_events(f, max_bytes=settings.events.max_bytes))
    for told in _plans(texts, interpretation, provisioner):
        totals[told["outcome"]] += 1
        if output == "json":
            console.json(told, indent=None)
        else:
            _print(console, told)
    if output == "text" and sum(totals.values()) > 1:
        console.line()
        console.line(", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items())))
    return INVALID_EVENT if totals["refused"] else 0


def _plans(
    texts: Iterator[EventText], interpretation: "Interpretation", provisioner: "Provisioner"
) -> Iterator[dict[str, Any]]:
    """Yield what would become of each event; only what keeps every event from being planned is raised."""
    from keycloak_bridge.provisioner import is_final  # noqa: PLC0415

    for text in texts:
        try:
            told = _planned(interpretation.read(text.record()), provisioner)
        except BridgeError as error:
            if not is_final(error):
                raise
            told = {"outcome": "refused", "reason": error.code, "message": error.message}
            told["violations"] = [asdict(violation) for violation in error.violations]
        yield {"place": text.place, **told}


def _planned(reading: "Reading | Ignored", provisioner: "Provisioner") -> dict[str, Any]:
    """Return what would become of an event; raises BridgeError."""
    from keycloak_bridge.interpretation import Ignored  # noqa: PLC0415

    told: dict[str, Any] = {"event": reading.event.id, "user": reading.event.subject}
    if isinstance(reading, Ignored):
        return {**told, "outcome": "ignored", "reason": "events.ignore_types"}
    desired = reading.desired
    if isinstance(desired, OutOfScope):
        return {**told, "outcome": "skip", "reason": "out-of-scope"}
    found, planned = provisioner.plan(reading.event, desired)
    return {
        **told,
        "user": desired.matching[0].value,
        "keycloakId": None if found is None else found.user_id,
        **outcome_of(planned),
    }


def outcome_of(planned: Plan) -> dict[str, Any]:
    """Return what people are told of a plan: the outcome, the reason of a skipped one, the changes."""
    from keycloak_bridge.core.plan import describe  # noqa: PLC0415

    changes = [
        {"operation": verb, "target": target, "before": before, "after": after}
        for verb, target, before, after in describe(planned)
        if target.removeprefix("attributes.") not in BOOKKEEPING_ATTRIBUTES
    ]
    kinds = {type(operation) for operation in planned.operations} - {RequestInvitation}
    if planned.skipped:
        return {"outcome": "skip", "reason": planned.skipped, "changes": changes}
    if CreateUser in kinds:
        return {"outcome": "create", "changes": changes}
    if not kinds:
        return {"outcome": "unchanged", "changes": changes}
    only_bookkeeping = kinds == {UpdateUser} and not changes
    return {"outcome": "unchanged" if only_bookkeeping else "update", "changes": changes}


_STYLES = {"create": "green", "update": "yellow", "refused": "red"}


def _print(console: Console, told: dict[str, Any]) -> None:
    who = f" user {told['user']}" if told.get("user") else ""
    reason = f" ({told['reason']})" if told.get("reason") else ""
    headline = f"{told['place']}: {told['outcome']}{who}{reason}"
    console.line(headline, style=_STYLES.get(told["outcome"]))
    if told.get("message"):
        console.line(f"  {told['message']}")
    for violation in told.get("violations", []):
        console.line(f"  {violation['pointer']}: {violation['message']} ({violation['keyword']})")
    if told.get("changes"):
        rows = [
            (f"  {c['operation']}", c["target"], _text(c["before"]), _text(c["after"]))
            for c in told["changes"]
        ]
        console.table(("  what", "target", "now", "then"), rows)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
