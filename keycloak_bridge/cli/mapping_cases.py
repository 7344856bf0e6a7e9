"""`keycloak-bridge test-mapping`: do the sample events still become what is expected?"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    bridge_command,
    format_option,
    violation_text,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.event_files.golden_cases import (
    EVENT,
    EXPECTED,
    GOOD,
    NOTHING,
    CaseResult,
    find_cases,
    run_case,
)

_STATES = {
    "equal": "as expected",
    "different": "different",
    "missing": "without expected file",
    "orphan": "without event",
    "broken": "broken",
    "written": "written",
    "rewritten": "rewritten",
}
"""The possible states of a case, and their names in the totals."""


@bridge_command(
    "keycloak-bridge test-mapping cases",
    "keycloak-bridge --config bridge.toml test-mapping cases --format json",
    "keycloak-bridge test-mapping cases --update",
    name="test-mapping",
)
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--update", is_flag=True, help="Rewrite expected files that differ.")
@format_option("one object for each case")
def test_mapping_command(invocation: Invocation, folder: Path, update: bool, output: str) -> int:
    """Test your schemas and your mapping against sample events and the expected users.

    A case in DIR, or in a folder below it, is two files: NAME.event.json, an event as it is published, and
    NAME.expected.json, what the mapping must make of it: representation, groups, realmRoles, clientRoles, organizations,
    federatedIdentities, cleared, intent and invitation, or outOfScope, ignored or rejected. --update writes the second,
    prints what changed and deletes nothing. Schemas and mapping are those of the settings. Nothing is sent anywhere.

    Exit code: 0 all as expected, 1 any other case, 2 wrong usage or configuration.
    """
    interpretation = invocation.interpretation()
    cases = find_cases(folder)
    if not cases:
        raise ConfigError(
            f"{folder}: contains no case",
            remedy=f"add an event as NAME{EVENT}, then write NAME{EXPECTED} with --update",
        )
    console = Console()
    totals: Counter[str] = Counter()
    for case in cases:
        result = run_case(case, interpretation, update=update)
        totals[result.state] += 1
        if output == "json":
            console.json(_as_object(result), indent=None)
        else:
            _print(console, result)
    good = totals.keys() <= GOOD
    if output == "text":
        sums = ", ".join(f"{totals[key]} {word}" for key, word in _STATES.items() if totals[key])
        console.line(f"{len(cases)} cases: {sums}", "green" if good else "red")
    return 0 if good else INVALID_EVENT


def _print(console: Console, result: CaseResult) -> None:
    for warning in result.warnings:
        console.line(f"{result.case.event}: warning: {violation_text(warning)}", "yellow")
    if result.state == "equal":
        return
    good = result.state in GOOD
    console.line(f"{result.file}: {result.message or result.state}", "yellow" if good else "red")
    before, after = ("was", "now") if good else ("expected", "got")
    for one in result.differences:
        sides = f"{before} {_shown(one.expected)}, {after} {_shown(one.got)}"
        console.line(f"  {one.pointer or '/'}: {sides}")
    if result.refusal is not None:
        console.line(f"  the event is refused ({result.refusal.code}): {result.refusal.message}")
        for violation in result.refusal.violations:
            console.line(f"    {violation_text(violation)}")
    if result.remedy:
        console.line(f"  fix: {result.remedy}")


def _shown(value: Any) -> str:
    return "nothing" if value is NOTHING else json.dumps(value, ensure_ascii=False)


def _as_object(result: CaseResult) -> dict[str, Any]:
    found: dict[str, Any] = {"case": result.case.name, "state": result.state, "differences": []}
    for one in result.differences:
        sides = {"pointer": one.pointer, "expected": one.expected, "got": one.got}
        found["differences"].append({k: v for k, v in sides.items() if v is not NOTHING})
    if result.message:
        found |= {"file": str(result.file), "message": result.message, "remedy": result.remedy}
    if result.warnings:
        found["warnings"] = [asdict(one) for one in result.warnings]
    if result.refusal is not None:
        found["refused"] = {"code": result.refusal.code, "message": result.refusal.message}
    return found
