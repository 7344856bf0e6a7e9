"""`keycloak-bridge apply`: events by hand, step by step."""

from typing import Any

import click

from keycloak_bridge.app.bridge import direct_provisioner
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import INVALID_EVENT, Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import BridgeError, HoldError
from keycloak_bridge.domain.events import Result
from keycloak_bridge.domain.operations import (
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.users import FoundUser, OutOfScope
from keycloak_bridge.event_files.json_events import EventText, read_events
from keycloak_bridge.pipeline.interpret import Skipped
from keycloak_bridge.provisioning.provisioner import Provisioner


@click.command(epilog="Example: keycloak-bridge --config bridge.toml apply event.json")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--no-invite", is_flag=True, help="Send no mail.")
@settings_options
@pass_invocation
def apply(invocation: Invocation, files: tuple[str, ...], no_invite: bool) -> int:
    """Apply events by hand and say each step: decoded, validated, mapped, found, planned, done.

    Takes the same files as `plan` and needs no Kafka: a mail that is due is sent at once, unless --no-invite. Applying
    the same event again writes nothing and sends nothing. Exit code 1 when an event was refused.
    """
    if no_invite:
        # as with `run`: no mail is asked for, so that none is due later either
        invocation = invocation.overriding("invite.mode=none")
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    interpretation = Interpretation(settings)
    interpretation.check()
    steps = _Steps(Console())
    provisioner = direct_provisioner(
        interpretation, trace=steps.tell, invited=steps.invited, mails=not no_invite
    )
    refused = 0
    for file in files:
        for text in read_events(file, max_bytes=settings.events.max_bytes):
            steps.console.line(text.place, style="bold")
            refused += not _apply(text, interpretation, provisioner, steps)
    return INVALID_EVENT if refused else 0


def _apply(
    text: EventText, interpretation: Interpretation, provisioner: Provisioner, steps: "_Steps"
) -> bool:
    """Return whether the event was applied; raises only what would keep every event from it."""
    try:
        reading = interpretation.read(text.record(), steps.tell)
        if isinstance(reading, Skipped):
            steps.say("result", f"ignored: {reading.sentence}", style="green")
            return True
        result = provisioner.provision(reading.event, reading.desired, pinned=False).result
    except BridgeError as error:
        if not error.is_final:
            raise
        steps.refused(error)
        return False
    said = result.action or result.reason or ""
    steps.say("result", f"{result.outcome.value} {said}".strip(), style="green")
    return True


class _Steps:
    """Says each step on a line of its own."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, step: str, text: str, style: str | None = None) -> None:
        """Print one step."""
        self.console.line(f"  {step:<10} {text}", style=style)

    def tell(self, step: str, detail: object) -> None:
        """Print what a step brought."""
        self.say(step, _summary(detail))

    def invited(self, result: Result) -> None:
        """Print what became of the mail."""
        self.say("mail", result.reason or "sent by Keycloak")

    def refused(self, error: BridgeError) -> None:
        """Print why the event was refused."""
        self.say("refused", f"{error.code}: {error.message}", style="red")
        for violation in error.violations:
            self.say("", f"{violation.pointer}: {violation.message} ({violation.keyword})")
        if error.remedy:
            self.say("", f"fix: {error.remedy}")


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
            verbs = [_verb(operation) for operation in detail.operations]
            return detail.skipped or "; ".join(verbs) or "nothing to do"
        case _:
            return _verb(detail)


def _verb(operation: Any) -> str:
    match operation:
        case CreateUser():
            return "create the user"
        case UpdateUser():
            targets = ", ".join(change.target for change in operation.changes)
            return f"update {targets}"
        case Join():
            return f"add to {operation.kind}: {', '.join(operation.names)}"
        case Leave():
            return f"take out of {operation.kind}: {', '.join(operation.names)}"
        case LinkIdentity():
            return f"link to {operation.link.alias}"
        case UnlinkIdentity():
            return f"unlink from {operation.before.alias}"
        case EndSessions():
            return "end all sessions"
        case DeleteUser():
            return "delete the user"
        case RequestInvitation():
            actions = ", ".join(operation.terms.actions)
            return f"ask for the mail ({operation.purpose}: {actions})"
        case _:
            return type(operation).__name__
