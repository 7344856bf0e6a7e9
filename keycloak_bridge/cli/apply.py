"""`keycloak-bridge apply`: apply events by hand, step by step."""

from typing import Any

import click

from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.cli.common import INVALID_EVENT, Invocation, bridge_command, violation_text
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import BridgeError, HoldError
from keycloak_bridge.domain.operations import (
    Join,
    Leave,
    Operation,
    Plan,
    RequestInvitation,
    describe,
)
from keycloak_bridge.domain.users import FoundUser, OutOfScope
from keycloak_bridge.event_files.json_events import read_events
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.provisioning.provisioner import Provisioner


@bridge_command("keycloak-bridge --config bridge.toml apply event.json")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--no-invite", is_flag=True, help="Send no mail.")
def apply(invocation: Invocation, files: tuple[str, ...], no_invite: bool) -> int:
    """Apply events by hand and print each step: decoded, validated, mapped, found, planned, done.

    Takes the same files as `plan` and needs no Kafka: a mail that is due is sent at once, unless --no-invite. Applying
    the same event again writes nothing and sends nothing. Exit code 1 when an event was refused.
    """
    if no_invite:
        # as with `run`: no mail is asked for, so that none is due later either
        invocation = invocation.overriding("invite.mode=none")
    interpretation = invocation.interpretation(keycloak=True)
    console = Console()

    def step(name: str, text: str, style: str | None = None) -> None:
        console.facts([(f"{name:<9}", text)], style=style)

    def trace(name: str, detail: object) -> None:
        step(name, _summary(detail))

    provisioner = direct_provisioner(
        interpretation,
        trace=trace,
        invited=lambda result: step("mail", result.reason or "sent by Keycloak"),
        mails=not no_invite,
        writes=True,
    )
    refused = 0
    for file in files:
        for text in read_events(file, max_bytes=interpretation.settings.events.max_bytes):
            console.line(text.place, style="bold")
            try:
                found = interpretation.read(text.record(), trace)
                step("result", _applied(found, provisioner), style="green")
            except BridgeError as error:
                if not error.is_final:
                    raise
                refused += 1
                step("refused", f"{error.code}: {error.message}", style="red")
                for violation in error.violations:
                    step("", violation_text(violation))
                if error.remedy:
                    step("", f"fix: {error.remedy}")
    return INVALID_EVENT if refused else 0


def _applied(found: Prepared | Skipped, provisioner: Provisioner) -> str:
    if isinstance(found, Skipped):
        return f"ignored: {found.sentence}"
    result = provisioner.provision(found.event, found.desired, one_partition=False).result
    return f"{result.outcome.value} {result.action or result.reason or ''}".strip()


def _summary(detail: Any) -> str:
    match detail:
        case str():
            return detail
        case None:
            return "no such user in the realm"
        case FoundUser():
            return f"user {detail.user_id} by {detail.matched_by}"
        case OutOfScope():
            return f"out of scope: {detail.expression}"
        case HoldError():
            return f"{detail.wait_s:.1f} s: {detail.message}"
        case Plan():
            return (
                detail.skipped or "; ".join(map(_operation, detail.operations)) or "nothing to do"
            )
        case _:
            return _operation(detail)


def _operation(operation: Operation) -> str:
    """Return what is done, without values of the event other than names that the mapping allows."""
    rows = describe(operation)
    text = f"{rows[0].verb} {', '.join(dict.fromkeys(row.target for row in rows))}"
    if isinstance(operation, Join | Leave):
        return f"{text}: {', '.join(operation.names)}"
    if isinstance(operation, RequestInvitation):
        return f"{text}: {', '.join(operation.terms.actions)}"
    return text
