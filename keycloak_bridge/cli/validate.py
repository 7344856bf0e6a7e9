"""`keycloak-bridge validate`: would these events pass, and what would Keycloak get?"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INVALID_EVENT
from keycloak_bridge.cli.event_files import read_events
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.output_format import format_option
from keycloak_bridge.cli.verdict import Verdict, judge
from keycloak_bridge.core.durations import format_duration
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.interpretation import Interpretation


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
