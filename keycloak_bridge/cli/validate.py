"""`keycloak-bridge validate`: would these events pass, and what would Keycloak get?

What the bridge would make of one event in a file, without any network.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    examples,
    format_option,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import ConfigError, EventError
from keycloak_bridge.domain.events import CloudEvent
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.domain.users import (
    DesiredUser,
    Intent,
    InvitationTerms,
    OutOfScope,
    UnknownUser,
    client_of,
)
from keycloak_bridge.event_files.json_events import EventText, read_events
from keycloak_bridge.events.decode import decode
from keycloak_bridge.events.json_reader import parse_json
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.planning.mail_due import can_be_invited


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event: a reading, or the error for which it would be refused."""

    text: EventText
    type: str | None = None
    reading: Prepared | Skipped | None = None
    error: EventError | None = None

    @property
    def valid(self) -> bool:
        """Whether the event would get through."""
        return self.error is None

    @property
    def schema(self) -> str | None:
        """The schema that the event was checked against and kept."""
        return self.reading.event.schema_id if isinstance(self.reading, Prepared) else None

    @property
    def skipped(self) -> str | None:
        """Why a valid event is not for Keycloak."""
        if isinstance(self.reading, Skipped):
            return self.reading.sentence
        if self.reading is not None and isinstance(self.reading.desired, OutOfScope):
            return "the mapping's `when` says no"
        return None

    @property
    def mapped(self) -> DesiredUser | None:
        """What the mapping makes of an event that is for Keycloak."""
        if isinstance(self.reading, Prepared) and isinstance(self.reading.desired, DesiredUser):
            return self.reading.desired
        return None

    @property
    def beside_fields(self) -> dict[str, Any]:
        """What the event wants besides fields and attributes; nothing that there is none of."""
        if self.mapped is None:
            return {}
        intent = None if self.mapped.intent is Intent.PROVISION else self.mapped.intent.value
        others = {
            "federatedIdentities": _identities(self.mapped),
            "cleared": sorted(self.mapped.cleared),
            "intent": intent,
        }
        named = {key: value for key, value in others.items() if value}
        return {**_memberships(self.mapped), **named}

    @property
    def user(self) -> dict[str, Any] | None:
        """The user that Keycloak would get, groups and roles among the fields."""
        if self.mapped is None:
            return None
        return {**self.mapped.representation, **self.beside_fields}

    @property
    def invitation(self) -> InvitationTerms | None:
        """What the mail would ask of a user that is new, or is invited again; None where none would go out."""
        if self.mapped is None:
            return None
        creates = self.mapped.unknown is UnknownUser.CREATE
        if creates and can_be_invited(self.mapped.representation):
            return self.mapped.invitation
        return self.mapped.invitation if self.mapped.intent is Intent.INVITE else None


def judge(interpretation: Interpretation, text: EventText, bare_type: str | None = None) -> Verdict:
    """Return what the bridge would make of one event; with `bare_type` its text is data of that type, without envelope."""
    event: CloudEvent | None = None
    try:
        event = _event_in(interpretation, text, bare_type)
        return Verdict(text, event.type, interpretation.interpreter.prepare(event))
    except EventError as error:
        return Verdict(text, event.type if event else None, error=error)


def _memberships(desired: DesiredUser) -> dict[str, Any]:
    """Return the names by kind, those of client roles by client; an empty list where all that is owned is taken away."""
    found: dict[str, Any] = {}
    for one in desired.memberships:
        client = client_of(one.kind)
        if client is None:
            found[one.kind] = list(one.names)
        else:
            found.setdefault("clientRoles", {})[client] = list(one.names)
    return found


def _identities(desired: DesiredUser) -> dict[str, Any]:
    """Return the accounts by provider; None for one that is unlinked."""
    return {
        one.alias: None
        if one.user_id is None
        else {"userId": one.user_id, **({"userName": one.user_name} if one.user_name else {})}
        for one in desired.identities
    }


def _event_in(interpretation: Interpretation, text: EventText, bare_type: str | None) -> CloudEvent:
    if bare_type is None:
        return decode(text.record(), interpretation.rules)
    limits = interpretation.rules.limits
    data = parse_json(text.body, max_bytes=limits.max_bytes, max_depth=limits.max_depth)
    return CloudEvent(
        id=text.place,
        source=text.name,
        type=bare_type,
        subject=None,
        time=None,
        dataschema=None,
        data=data,
    )


@click.command(
    epilog=examples(
        "keycloak-bridge validate event.json",
        "keycloak-bridge validate --show-mapped event.json",
        "keycloak-bridge validate --type user.created data.json",
        "kcat -C -t user-events -e -q | keycloak-bridge validate --format json -",
    )
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@format_option("one object for each event")
@click.option(
    "--show-mapped", is_flag=True, help="Print the user that the mapping makes, and its invitation."
)
@click.option(
    "--type", "bare_type", metavar="TYPE", help="The files hold bare data of this event type."
)
@settings_options
@pass_invocation
def validate(
    invocation: Invocation,
    files: tuple[str, ...],
    output: str,
    show_mapped: bool,
    bare_type: str | None,
) -> int:
    """Check events against schema and mapping; - reads standard input.

    A FILE holds one event as JSON, an array of them, or one a line (NDJSON). Every violation is told with its JSON
    pointer. Nothing is sent anywhere.

    Exit code: 0 all valid, 1 any invalid, 2 wrong usage or configuration.
    """
    interpretation = Interpretation(invocation.settings())
    interpretation.check()
    verdicts = _verdicts(interpretation, files, bare_type)
    if output == "json":
        return _print_json(verdicts, show_mapped=show_mapped)
    return _TextReport(Console(), show_mapped=show_mapped).print(verdicts)


def _verdicts(
    interpretation: Interpretation, files: Iterable[str], bare_type: str | None
) -> Iterator[Verdict]:
    for file in files:
        found = False
        for text in read_events(file, max_bytes=interpretation.settings.events.max_bytes):
            found = True
            yield judge(interpretation, text, bare_type)
        if not found:
            raise ConfigError(f"{file}: holds no event", remedy="Name a file with an event in it.")


def _print_json(verdicts: Iterable[Verdict], *, show_mapped: bool) -> int:
    console, code = Console(), 0
    for verdict in verdicts:
        console.json(_as_object(verdict, show_mapped=show_mapped), indent=None)
        code = code if verdict.valid else INVALID_EVENT
    return code


def _as_object(verdict: Verdict, *, show_mapped: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "file": verdict.text.name,
        "line": verdict.text.line,
        "valid": verdict.valid,
        "type": verdict.type,
        "schema": verdict.schema,
    }
    if verdict.error is not None:
        found |= {
            "code": verdict.error.code,
            "message": verdict.error.message,
            "remedy": verdict.error.remedy,
            "violations": [asdict(one) for one in verdict.error.violations],
        }
    if verdict.skipped:
        found["skipped"] = verdict.skipped
    if show_mapped and verdict.mapped is not None:
        found["mapped"] = verdict.user
        if verdict.invitation is not None:
            found["invitation"] = asdict(verdict.invitation)
    return found


class _TextReport:
    """Says every invalid event, a single valid one, and the sums."""

    def __init__(self, console: Console, *, show_mapped: bool) -> None:
        self._console = console
        self._show_mapped = show_mapped

    def print(self, verdicts: Iterable[Verdict]) -> int:
        """Print the report and return the exit code."""
        total = invalid = 0
        only: Verdict | None = None
        for verdict in verdicts:
            total += 1
            only = verdict if total == 1 else None
            invalid += not verdict.valid
            if not verdict.valid:
                self._print_invalid(verdict)
            elif self._show_mapped:
                self._print_mapped(verdict)
        if total > 1:
            style = "red" if invalid else "green"
            self._console.line(f"{total} events: {total - invalid} valid, {invalid} invalid", style)
        elif only is not None and only.valid and not self._show_mapped:
            self._print_valid(only)
        return INVALID_EVENT if invalid else 0

    def _print_valid(self, verdict: Verdict) -> None:
        about = ", ".join(filter(None, (verdict.schema, verdict.skipped)))
        self._console.line(f"{verdict.text.place}: valid ({about})", "green")

    def _print_mapped(self, verdict: Verdict) -> None:
        self._print_valid(verdict)
        if verdict.mapped is not None:
            self._console.json(verdict.user)
        if (terms := verdict.invitation) is not None:
            lifespan = format_duration(terms.lifespan_s)
            self._console.line(f"invitation: {', '.join(terms.actions)}; the link works {lifespan}")

    def _print_invalid(self, verdict: Verdict) -> None:
        error = verdict.error
        if error is None:
            return
        self._console.line(f"{verdict.text.place}: invalid ({error.code}): {error.message}", "red")
        for violation in error.violations:
            pointer = violation.pointer or "/"
            self._console.line(f"  {pointer}: {violation.message} [{violation.keyword}]")
        if error.remedy:
            self._console.line(f"  fix: {error.remedy}")
