"""`keycloak-bridge validate`: would these events pass, and what would Keycloak get?"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    bridge_command,
    format_option,
    violation_text,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.event_files.json_events import EventText, read_events
from keycloak_bridge.event_files.previews import beside_representation, invitation_of, preview_text
from keycloak_bridge.mapping.profile_findings import default_profile_warnings
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.pipeline.preview import Preview, PreviewOutcome

_NOT_CHECKED = (
    "note: no registry is asked: the events of files name no schema of it, and are checked against those of the folders; "
    "plan --from-topic checks records as run does"
)


@bridge_command(
    "keycloak-bridge validate event.json",
    "keycloak-bridge validate --show-mapped event.json",
    "keycloak-bridge validate --type user.created data.json",
    "kcat -C -t user-events -e -q | keycloak-bridge validate --format json -",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@format_option("one object for each event")
@click.option(
    "--show-mapped", is_flag=True, help="Print the user that the mapping makes, and its invitation."
)
@click.option(
    "--type",
    "bare_type",
    metavar="TYPE",
    help="The files contain only the data of events of this type.",
)
def validate(
    invocation: Invocation,
    files: tuple[str, ...],
    output: str,
    show_mapped: bool,
    bare_type: str | None,
) -> int:
    """Check events against schema and mapping; - reads standard input.

    A FILE contains one event as JSON, an array of them, or one a line (NDJSON). Every violation is printed with its JSON
    pointer. Nothing is sent anywhere: what the rules of Keycloak's default user profile say is a warning, since the realm may
    have others.

    Exit code: 0 all valid, 1 any invalid, 2 wrong usage or configuration.
    """
    interpretation = invocation.interpretation()
    console = Console()
    if interpretation.settings.registry.url is not None:
        click.echo(_NOT_CHECKED, err=True)
    total = invalid = 0
    for text, seen in _previews(interpretation, files, bare_type):
        row = _row(text, seen, show_mapped=show_mapped)
        total += 1
        invalid += not row["valid"]
        if output == "json":
            console.json(row, indent=None)
        elif show_mapped or not row["valid"] or "warnings" in row:
            _print(console, row)
    if output == "text" and total > 1:
        style = "red" if invalid else "green"
        console.line(f"{total} events: {total - invalid} valid, {invalid} invalid", style)
    elif output == "text" and not (invalid or show_mapped or "warnings" in row):
        _print(console, row)
    return INVALID_EVENT if invalid else 0


def _previews(
    interpretation: Interpretation, files: tuple[str, ...], bare_type: str | None
) -> Iterator[tuple[EventText, Preview]]:
    if bare_type is not None:
        bare_type, _ = interpretation.type_of_data(bare_type)
    for file in files:
        for text in read_events(file, max_bytes=interpretation.settings.events.max_bytes):
            yield text, preview_text(interpretation, text, bare_type)


def _row(text: EventText, seen: Preview, *, show_mapped: bool) -> dict[str, Any]:
    prepared, desired = seen.prepared, seen.desired
    row: dict[str, Any] = {
        "file": text.name,
        "line": text.line,
        "valid": seen.error is None,
        "type": seen.event_type,
        "schema": prepared.event.schema_id if isinstance(prepared, Prepared) else None,
    }
    if seen.error is not None:
        row |= {
            "code": seen.error.code,
            "message": seen.error.message,
            "remedy": seen.error.remedy,
            "violations": [asdict(one) for one in seen.error.violations],
        }
    if isinstance(prepared, Skipped):
        row["skipped"] = prepared.sentence
    elif seen.outcome is PreviewOutcome.SKIP:
        row["skipped"] = "the mapping's `when` says no"
    if desired is not None and (warnings := default_profile_warnings(desired)):
        row["warnings"] = [asdict(one) for one in warnings]
    if show_mapped and desired is not None:
        row["mapped"] = {**desired.representation, **beside_representation(desired)}
        if (terms := invitation_of(desired)) is not None:
            row["invitation"] = asdict(terms)
    return row


def _print(console: Console, row: dict[str, Any]) -> None:
    place = f"{row['file']}:{row['line']}"
    if not row["valid"]:
        console.line(f"{place}: invalid ({row['code']}): {row['message']}", "red")
        for violation in row["violations"]:
            console.line(f"  {violation_text(Violation(**violation))}")
        if row["remedy"]:
            console.line(f"  fix: {row['remedy']}")
        return
    about = ", ".join(filter(None, (row["schema"], row.get("skipped"))))
    console.line(f"{place}: valid ({about})", "green")
    for warning in row.get("warnings", ()):
        console.line(f"  warning: {violation_text(Violation(**warning))}", "yellow")
    if "mapped" in row:
        console.json(row["mapped"])
    if "invitation" in row:
        actions = ", ".join(row["invitation"]["actions"])
        lifespan = format_duration(row["invitation"]["lifespan_s"])
        console.line(f"invitation: {actions}; the link is valid for {lifespan}")
