"""Golden cases: sample events in files, each with what the mapping must make of it."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import BridgeError, ConfigError, EventDecodeError, Violation
from keycloak_bridge.domain.json_reader import parse_json, pointer
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.event_files.json_events import read_events
from keycloak_bridge.event_files.previews import beside_representation, invitation_of, preview_text
from keycloak_bridge.mapping.profile_findings import default_profile_warnings
from keycloak_bridge.ops.private_files import PUBLIC, replace_file
from keycloak_bridge.pipeline.interpret import Skipped
from keycloak_bridge.pipeline.preview import Preview

EVENT = ".event.json"
EXPECTED = ".expected.json"

GOOD = {"equal", "written", "rewritten"}
"""States of a case with which nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """A sample event and the file with what is expected of it; either may be missing."""

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


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case ended, at which file; `refusal` is why the bridge refuses the event, expected or not.

    `warnings` are what a realm with Keycloak's default user profile would refuse.
    """

    case: Case
    state: str
    file: Path
    message: str | None = None
    remedy: str | None = None
    differences: "tuple[Difference, ...]" = ()
    refusal: BridgeError | None = None
    warnings: tuple[Violation, ...] = ()


def find_cases(folder: Path) -> list[Case]:
    """Return the cases in `folder` and the folders below it, by name; an expected file alone is one too.

    Raises ConfigError for a folder that cannot be read.
    """
    names = set()
    for place in _entries(folder):
        for suffix in (EVENT, EXPECTED):
            if place.name.endswith(suffix):
                names.add(place.relative_to(folder).as_posix().removesuffix(suffix))
    return [Case(name, folder) for name in sorted(names)]


def _entries(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    try:
        # the globs of pathlib pass over folders that they cannot read
        for place, folders, files in os.walk(folder, onerror=refuse):
            # a folder may be listed, and its files not be reached; a Path would drop the dot
            os.stat(os.path.join(place, "."))  # noqa: PTH116, PTH118
            yield from (Path(place, name) for name in (*folders, *files))
    except OSError as error:
        raise ConfigError(
            f"{Path(error.filename)}: cannot be read: {error.strerror}",
            remedy="let this user read the folder, or name another one",
        ) from error


def run_case(case: Case, interpretation: Interpretation, *, update: bool = False) -> CaseResult:
    """Return how `case` compares with what is expected; with `update` the expected file is written where it differs."""
    if not case.event.exists():
        remedy = f"add the event as {case.event.name}, or remove the file"
        return CaseResult(case, "orphan", case.expected, "has no event", remedy)
    limit = interpretation.settings.events.max_bytes
    texts = list(islice(read_events(str(case.event), max_bytes=limit, may_be_empty=True), 2))
    if len(texts) != 1:
        message = f"contains {'more than one event' if texts else 'no event'}"
        remedy = "write one event into the file, as it is published"
        return CaseResult(case, "broken", case.event, message, remedy)
    seen = preview_text(interpretation, texts[0])
    outcome = expectation(seen)
    result = _compared(case, outcome)
    if update and result.state not in GOOD:
        state = "written" if result.state == "missing" else "rewritten"
        changed = result.differences or tuple(differences({}, outcome))
        result = CaseResult(case, state, case.expected, differences=changed)
        text = json.dumps(outcome, ensure_ascii=False, indent=2) + "\n"
        try:
            # what is expected of an event has values of it
            mode = stat.S_IMODE(case.event.stat().st_mode) & PUBLIC
            replace_file(case.expected, text.encode(), mode=mode)
        except OSError as error:
            raise ConfigError(
                f"{case.expected}: cannot be written: {error.strerror}",
                remedy="let this user write to the folder",
            ) from error
    warnings = () if seen.desired is None else default_profile_warnings(seen.desired)
    return replace(result, refusal=seen.error, warnings=warnings)


def expectation(seen: Preview) -> dict[str, Any]:
    """Return what an expected file says of an event; what there is none of is left out."""
    if seen.error is not None:
        broken = [{"pointer": one.pointer, "keyword": one.keyword} for one in seen.error.violations]
        return {"rejected": {"code": seen.error.code, **({"violations": broken} if broken else {})}}
    if isinstance(seen.prepared, Skipped):
        return {"ignored": True}
    if seen.desired is None:
        return {"outOfScope": True}
    user: dict[str, Any] = dict(seen.desired.representation)
    user["attributes"] = user.pop("attributes")  # last, as people write it
    outcome = {"representation": user, **beside_representation(seen.desired)}
    if (terms := invitation_of(seen.desired)) is not None:
        invitation = {  # in the words of the mapping's [invite]
            "actions": list(terms.actions),
            "lifespan": format_duration(terms.lifespan_s),
            "client_id": terms.client_id,
            "redirect_uri": terms.redirect_uri,
        }
        outcome["invitation"] = {key: one for key, one in invitation.items() if one is not None}
    return outcome


def _compared(case: Case, outcome: dict[str, Any]) -> CaseResult:
    if not case.expected.exists():
        remedy = "write it with --update, and review it"
        return CaseResult(case, "missing", case.event, f"has no {case.expected.name}", remedy)
    try:
        found = tuple(differences(parse_json(case.expected.read_bytes()), outcome))
    except OSError as error:
        message, remedy = f"cannot be read: {error.strerror}", "let this user read it"
        return CaseResult(case, "broken", case.expected, message, remedy)
    except EventDecodeError as error:
        places = "".join(f"; {one.pointer}: {one.message}" for one in error.violations)
        message = f"cannot be read: {error.message}{places}"
        remedy = "correct it, or write it again with --update"
        return CaseResult(case, "broken", case.expected, message, remedy)
    if not found:
        return CaseResult(case, "equal", case.event)
    message = f"differs from {case.expected.name}"
    remedy = "correct the mapping, or, where this is meant, write it with --update"
    return CaseResult(case, "different", case.event, message, remedy, found)


NOTHING: Final = object()
"""The value of a place that one side does not have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place, as JSON pointer, with its value on either side; NOTHING where that side has no such place."""

    pointer: str
    expected: Any
    got: Any


def differences(expected: Any, got: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Yield every place where `got` is not what is expected; none when both are the same JSON.

    Objects and lists are entered, so that each difference is as small as it can be. The order of an object's keys does not
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
