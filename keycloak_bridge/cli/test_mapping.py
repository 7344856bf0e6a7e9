"""`keycloak-bridge test-mapping`: do the sample events still become what is expected?

Golden cases: sample events in files, and beside each what the mapping is expected to make of it.

Where two JSON values differ.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final

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
from keycloak_bridge.cli.validate import Verdict, judge
from keycloak_bridge.domain.errors import ConfigError, EventDecodeError, EventError
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.event_files.json_events import EventText, read_events
from keycloak_bridge.events.json_reader import parse_json, pointer
from keycloak_bridge.pipeline.interpret import Skipped

EVENT = ".event.json"
EXPECTED = ".expected.json"


@dataclass(frozen=True, slots=True)
class Case:
    """A sample event and the file that holds what is expected of it; either may be missing."""

    name: str
    folder: Path

    @property
    def event(self) -> Path:
        """The file of the event."""
        return self.folder / (self.name + EVENT)

    @property
    def expected(self) -> Path:
        """The file of what is expected."""
        return self.folder / (self.name + EXPECTED)


class CaseError(Exception):
    """A case that cannot be held: its message says what is wrong, `remedy` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def find_cases(folder: Path) -> list[Case]:
    """Return the cases in `folder` and the folders below it, by name; an expected file alone is one too."""
    names = {
        path.relative_to(folder).as_posix().removesuffix(suffix)
        for suffix in (EVENT, EXPECTED)
        for path in folder.rglob(f"*{suffix}")
    }
    return [Case(name, folder) for name in sorted(names)]


def read_sample(case: Case, *, max_bytes: int) -> EventText:
    """Return the event of `case`; raises CaseError where its file does not hold exactly one."""
    found = list(islice(read_events(str(case.event), max_bytes=max_bytes), 2))
    if len(found) != 1:
        raise CaseError(
            f"holds {'more than one event' if found else 'no event'}",
            "write one event into the file, as it is published",
        )
    return found[0]


def read_expected(case: Case) -> Any:
    """Return what is expected of `case`; raises CaseError where the file is no JSON."""
    try:
        return parse_json(case.expected.read_bytes())
    except OSError as error:
        raise CaseError(f"cannot be read: {error.strerror}", "let this user read it") from error
    except EventDecodeError as error:
        places = "".join(f"; {one.pointer}: {one.message}" for one in error.violations)
        raise CaseError(
            f"cannot be read: {error.message}{places}", "correct it, or write it anew by --update"
        ) from error


def write_expected(case: Case, outcome: dict[str, Any]) -> None:
    """Write what is expected of `case`; raises ConfigError."""
    text = json.dumps(outcome, ensure_ascii=False, indent=2) + "\n"
    try:
        case.expected.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{case.expected}: cannot be written: {error.strerror}",
            remedy="let this user write to the folder",
        ) from error


def outcome_of(verdict: Verdict) -> dict[str, Any]:
    """Return what became of an event, as an expected file holds it; what there is none of is left out."""
    if verdict.error is not None:
        return {"rejected": _rejection(verdict.error)}
    if isinstance(verdict.reading, Skipped):
        return {"ignored": True}
    if verdict.mapped is None:
        return {"outOfScope": True}
    user: dict[str, Any] = dict(verdict.mapped.representation)
    user["attributes"] = user.pop("attributes")  # last, as people write it
    outcome = {"representation": user, **verdict.beside_fields}
    if verdict.invitation is not None:
        outcome["invitation"] = _terms(verdict.invitation)
    return outcome


def _rejection(error: EventError) -> dict[str, Any]:
    broken = [{"pointer": one.pointer, "keyword": one.keyword} for one in error.violations]
    return {"code": error.code, **({"violations": broken} if broken else {})}


def _terms(invitation: InvitationTerms) -> dict[str, Any]:
    """Return the terms in the words of the mapping's `[invite]`."""
    terms = {
        "actions": list(invitation.actions),
        "lifespan": format_duration(invitation.lifespan_s),
        "client_id": invitation.client_id,
        "redirect_uri": invitation.redirect_uri,
    }
    return {key: value for key, value in terms.items() if value is not None}


NOTHING: Final = object()
"""Stands for what one of the two values does not have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place, as JSON pointer, and what stands there on either side; NOTHING where that side has no such place."""

    pointer: str
    expected: Any
    got: Any


def differences(expected: Any, got: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Yield every place where `got` is not what is expected; none when both are the same JSON.

    Objects and lists are entered, so that only what really differs is told. The order of an object's keys does not
    count, that of a list does.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in dict.fromkeys((*expected, *got)):
            yield from differences(expected.get(key, NOTHING), got.get(key, NOTHING), (*path, key))
    elif isinstance(expected, list) and isinstance(got, list):
        for index, (before, after) in enumerate(zip_longest(expected, got, fillvalue=NOTHING)):
            yield from differences(before, after, (*path, index))
    elif type(expected) is not type(got) or expected != got:  # for Python, True is 1
        yield Difference(pointer(path), expected, got)


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
