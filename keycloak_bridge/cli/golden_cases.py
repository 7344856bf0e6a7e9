"""Golden cases: sample events in files, and beside each what the mapping is expected to make of it."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from keycloak_bridge.cli.event_files import EventText, read_events
from keycloak_bridge.cli.verdict import Verdict
from keycloak_bridge.core.desired import InvitationTerms
from keycloak_bridge.core.durations import format_duration
from keycloak_bridge.core.errors import ConfigError, EventDecodeError, EventError
from keycloak_bridge.core.json_text import parse_json
from keycloak_bridge.interpretation import Ignored

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
    if isinstance(verdict.reading, Ignored):
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
