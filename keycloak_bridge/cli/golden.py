"""`keycloak-bridge test-mapping`: do the sample events still become what is expected?"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INVALID_EVENT
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.golden_cases import (
    EVENT,
    EXPECTED,
    Case,
    CaseError,
    find_cases,
    outcome_of,
    read_expected,
    read_sample,
    write_expected,
)
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.output_format import format_option
from keycloak_bridge.cli.verdict import judge
from keycloak_bridge.core.errors import ConfigError, EventError
from keycloak_bridge.core.json_difference import NOTHING, Difference, differences
from keycloak_bridge.interpretation import Interpretation

_UPDATE = "write it by --update, and review it"
_STATES = {
    "equal": "as expected",
    "different": "different",
    "missing": "without expected file",
    "orphan": "without event",
    "broken": "broken",
    "written": "written",
    "rewritten": "rewritten",
}
"""What can become of a case, and what the sums call it."""

_GOOD = {"equal", "written", "rewritten"}


@dataclass(frozen=True, slots=True)
class Held:
    """What became of a case; `refusal` is why the bridge refuses the event, expected or not."""

    case: Case
    state: str
    place: Path
    differences: tuple[Difference, ...] = ()
    message: str | None = None
    remedy: str | None = None
    refusal: EventError | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in _GOOD


@click.command(
    "test-mapping",
    epilog=examples(
        "keycloak-bridge test-mapping cases",
        "keycloak-bridge --config bridge.toml test-mapping cases --format json",
        "keycloak-bridge test-mapping cases --update",
    ),
)
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--update", is_flag=True, help="Write expected files anew where they differ.")
@format_option("one object for each case")
@settings_options
@pass_invocation
def golden(invocation: Invocation, folder: Path, update: bool, output: str) -> int:
    """Hold your schemas and your mapping to sample events and what shall become of them.

    A case in DIR, or in a folder below it, is two files: NAME.event.json, an event as it is published, and
    NAME.expected.json, what the mapping shall make of it: representation, groups, realmRoles, clientRoles, organizations,
    federatedIdentities, cleared, intent and invitation, or outOfScope, ignored or rejected. --update writes the second,
    says what changed and deletes nothing. Schemas and mapping are those of the settings. Nothing is sent anywhere.

    Exit code: 0 all as expected, 1 any other case, 2 wrong usage or configuration.
    """
    interpretation = Interpretation(invocation.settings())
    interpretation.check()
    cases = find_cases(folder)
    if not cases:
        raise ConfigError(
            f"{folder}: holds no case",
            remedy=f"add an event as NAME{EVENT}, then write NAME{EXPECTED} by --update",
        )
    console = Console()
    totals: Counter[str] = Counter()
    for case in cases:
        held = hold(case, interpretation, update=update)
        totals[held.state] += 1
        if output == "json":
            console.json(_as_object(held), indent=None)
        else:
            _print(console, held)
    good = totals.keys() <= _GOOD
    if output == "text":
        sums = ", ".join(f"{totals[key]} {word}" for key, word in _STATES.items() if totals[key])
        console.line(f"{len(cases)} cases: {sums}", "green" if good else "red")
    return 0 if good else INVALID_EVENT


def hold(case: Case, interpretation: Interpretation, *, update: bool = False) -> Held:
    """Return how `case` compares with what is expected; with `update`, what is expected is rewritten where it differs."""
    if not case.event.exists():
        remedy = f"add the event as {case.event.name}, or remove the file"
        return Held(case, "orphan", case.expected, message="has no event", remedy=remedy)
    try:
        text = read_sample(case, max_bytes=interpretation.settings.events.max_bytes)
    except CaseError as error:
        return Held(case, "broken", case.event, message=str(error), remedy=error.remedy)
    verdict = judge(interpretation, text)
    outcome = outcome_of(verdict)
    held = _compared(case, outcome)
    if update and not held.good:
        write_expected(case, outcome)
        held = _rewritten(held, outcome)
    return replace(held, refusal=verdict.error)


def _compared(case: Case, outcome: dict[str, Any]) -> Held:
    if not case.expected.exists():
        return Held(
            case, "missing", case.event, message=f"has no {case.expected.name}", remedy=_UPDATE
        )
    try:
        expected = read_expected(case)
    except CaseError as error:
        return Held(case, "broken", case.expected, message=str(error), remedy=error.remedy)
    found = tuple(differences(expected, outcome))
    if not found:
        return Held(case, "equal", case.event)
    remedy = "correct the mapping, or, where this is meant, write it by --update"
    return Held(case, "different", case.event, found, f"differs from {case.expected.name}", remedy)


def _rewritten(held: Held, outcome: dict[str, Any]) -> Held:
    state = "written" if held.state == "missing" else "rewritten"
    changed = held.differences or tuple(differences({}, outcome))
    return Held(held.case, state, held.case.expected, changed)


def _print(console: Console, held: Held) -> None:
    """Say everything about a case but that it is as expected."""
    if held.state == "equal":
        return
    style = "yellow" if held.good else "red"
    console.line(f"{held.place}: {held.message or held.state}", style)
    before, after = ("was", "now") if held.good else ("expected", "got")
    for one in held.differences:
        sides = f"{before} {_shown(one.expected)}, {after} {_shown(one.got)}"
        console.line(f"  {one.pointer or '/'}: {sides}")
    if held.refusal is not None:
        console.line(f"  the event is refused ({held.refusal.code}): {held.refusal.message}")
        for broken in held.refusal.violations:
            console.line(f"    {broken.pointer or '/'}: {broken.message} [{broken.keyword}]")
    if held.remedy:
        console.line(f"  fix: {held.remedy}")


def _shown(value: Any) -> str:
    return "nothing" if value is NOTHING else json.dumps(value, ensure_ascii=False)


def _as_object(held: Held) -> dict[str, Any]:
    told: dict[str, Any] = {
        "case": held.case.name,
        "state": held.state,
        "differences": list(map(_difference, held.differences)),
    }
    if held.message:
        told |= {"file": str(held.place), "message": held.message, "remedy": held.remedy}
    if held.refusal is not None:
        told["refused"] = {"code": held.refusal.code, "message": held.refusal.message}
    return told


def _difference(one: Difference) -> dict[str, Any]:
    sides = {"expected": one.expected, "got": one.got}
    return {"pointer": one.pointer, **{k: v for k, v in sides.items() if v is not NOTHING}}
