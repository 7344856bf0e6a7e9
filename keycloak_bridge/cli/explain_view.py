"""What is told of one user: as an object for programs, and as tables for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.letter_options import counted
from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.invitation_mark import parse_mark
from keycloak_bridge.core.marked_json import printable
from keycloak_bridge.core.model import (
    BOOKKEEPING_ATTRIBUTES,
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
)
from keycloak_bridge.core.provenance import PastOutcome, set_last_by
from keycloak_bridge.core.timestamps import format_time

_FIELDS = ("username", "email", "emailVerified", "enabled", "firstName", "lastName")
_NOTHING = "-"
_BY = ("event", "type", "time", "record", "schema", "mapping")
_MARKS = {
    "due": "a mail is due",
    "sending": "a mail was begun and may be out",
    "sent": "the mail went out",
}


def as_object(
    found: UserRepresentation | None,
    *,
    user_id: str | None,
    credentials: bool | None,
    outcomes: Sequence[PastOutcome],
    letters: tuple[int, int],
    last: int,
    show_values: bool,
) -> dict[str, Any]:
    """Return everything that is told of a user; values of its attributes only when they shall be shown."""
    user: UserRepresentation = {} if found is None else found
    attributes = user.get("attributes") or {}
    is_open, total = letters
    return {
        "user": user_id,
        "keycloakId": user.get("id"),
        "enabled": user.get("enabled"),
        "lastEvent": {
            "id": _only(attributes, EVENT_ID_ATTRIBUTE),
            "time": _only(attributes, EVENT_TIME_ATTRIBUTE),
        },
        "invitation": _invitation(attributes),
        "credentials": credentials,
        "requiredActions": list(user.get("requiredActions") or []),
        "targets": _targets(user, outcomes, show_values=show_values),
        "outcomes": [_told(one) for one in (outcomes[-last:] if last else ())],
        "deadLetters": {"open": is_open, "total": total},
    }


def print_explanation(console: Console, told: Mapping[str, Any]) -> None:
    """Print the same for people."""
    console.line(f"user {_cell(told['user'])}", style="bold")
    for name, text in _facts(told):
        console.line(f"  {name:<16}  {text}")
    console.line()
    if told["targets"]:
        shows = any("value" in one for one in told["targets"].values())
        headings = ("target", *(("value",) if shows else ()), *(f"set by {_BY[0]}", *_BY[1:]))
        rows = [
            (_cell(target), *((_cell(one["value"]),) if shows else ()), *_by(one))
            for target, one in told["targets"].items()
        ]
        console.table(headings, rows)
        console.line()
    if told["outcomes"]:
        rows = [_outcome_row(one) for one in told["outcomes"]]
        console.table(("time", "outcome", "event", "type", "record", "changed"), rows)
    else:
        console.line("the results topic tells nothing of this user")
    if told["deadLetters"]["total"]:
        console.line()
        letters = told["deadLetters"]
        console.line(
            f"{counted(letters['total'])}, {letters['open']} of them open: "
            f"keycloak-bridge dead-letters list --all --user {_cell(told['user'])}"
        )


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    if told["keycloakId"] is None:
        return [("Keycloak id", "the realm has no such user")]
    event, invitation = told["lastEvent"], told["invitation"]
    return [
        ("Keycloak id", _cell(told["keycloakId"])),
        ("enabled", "yes" if told["enabled"] else "no"),
        ("last event", f"{_cell(event['id'])} of {_cell(event['time'])}"),
        ("invitation", "none" if invitation is None else _invitation_text(invitation)),
        ("credentials", "yes" if told["credentials"] else "none yet"),
        ("required actions", ", ".join(map(_cell, told["requiredActions"])) or "none"),
    ]


def _invitation(attributes: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    text = _only(attributes, INVITATION_ATTRIBUTE)
    if text is None:
        return None
    mark = parse_mark(text)
    if mark is None:
        return {"state": "unreadable", "event": None, "linkEnds": None}
    return {
        "state": mark.state.value,
        "event": mark.event_id,
        "linkEnds": None if mark.until_s is None else _moment(mark.until_s),
    }


def _invitation_text(invitation: Mapping[str, Any]) -> str:
    what = _MARKS.get(invitation["state"], "its mark cannot be read")
    caused = f", caused by {_cell(invitation['event'])}" if invitation["event"] else ""
    ends = f"; its link ends {invitation['linkEnds']}" if invitation["linkEnds"] else ""
    return what + caused + ends


def _moment(seconds: int) -> str | None:
    try:
        return format_time(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _targets(
    user: UserRepresentation, outcomes: Sequence[PastOutcome], *, show_values: bool
) -> dict[str, dict[str, Any]]:
    """Return who set each target: those that the user has, and others that were ever written."""
    held: dict[str, Any] = {name: user[name] for name in _FIELDS if name in user}  # type: ignore[literal-required]
    held |= {
        f"attributes.{name}": values
        for name, values in sorted((user.get("attributes") or {}).items())
        if name not in BOOKKEEPING_ATTRIBUTES
    }
    setters = set_last_by(outcomes)
    told = {}
    for target in dict.fromkeys((*held, *setters)):
        setter = setters.get(target)
        value = {"value": held.get(target)} if show_values else {}
        told[target] = {**value, **(_none() if setter is None else _setter(setter))}
    return told


def _setter(one: PastOutcome) -> dict[str, Any]:
    return {
        "event": one.event_id,
        "type": one.event_type,
        "time": None if one.time is None else format_time(one.time),
        "record": one.origin,
        "schema": one.schema_id,
        "mapping": one.mapping,
    }


def _none() -> dict[str, Any]:
    return dict.fromkeys(_BY)


def _told(one: PastOutcome) -> dict[str, Any]:
    facts = {"outcome": one.outcome, "action": one.action, "reason": one.reason}
    return {**facts, **_setter(one), "changed": list(one.changed)}


def _outcome_row(told: Mapping[str, Any]) -> tuple[str, ...]:
    what = " ".join(told[name] for name in ("outcome", "action", "reason") if told[name])
    changed = ", ".join(map(_cell, told["changed"])) or _NOTHING
    cells = map(_cell, (told["time"], what, told["event"], told["type"], told["record"]))
    return (*cells, changed)


def _by(told: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_cell(told[name]) for name in _BY)


def _cell(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return str(value).lower() if isinstance(value, bool) else printable(str(value))


def _only(attributes: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = attributes.get(name) or []
    return values[0] if values else None
