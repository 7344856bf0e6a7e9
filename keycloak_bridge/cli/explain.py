"""`keycloak-bridge explain`: which event last set each attribute of a user, and the state of its invitation."""

import contextlib
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import click

from keycloak_bridge.app.connections import user_directory
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    bridge_command,
    format_option,
    shown_time,
    utc_option,
)
from keycloak_bridge.cli.console import Console, cell, with_progress
from keycloak_bridge.cli.dead_letters import dead_letter_reader, read_inventory
from keycloak_bridge.cli.tables import NO_BREAK
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.domain.times import format_time, parse_time
from keycloak_bridge.domain.unicode_text import printable
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation, single_value
from keycloak_bridge.messages.dead_letter_inventory import DeadLetterFilter
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.outcome_log.log import OutcomeLog
from keycloak_bridge.outcome_log.user_state import (
    FIELDS,
    LastInvitation,
    setters_by_target,
    state_of,
)
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS
from keycloak_bridge.settings.model import Settings

_FEW = 20
_BY = ("event", "type", "time", "record", "schema", "mapping")


@bridge_command(
    "keycloak-bridge explain 28518867",
    "keycloak-bridge explain ada@acme.example --last 3 --show-values",
)
@click.argument("user")
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="How many of the last outcomes to show.")  # fmt: skip
@click.option("--show-values", is_flag=True, help="Show the values of attributes: personal data.")
@utc_option
@format_option("one object")
def explain(
    invocation: Invocation, user: str, last: int, show_values: bool, utc: bool, output: str
) -> int:
    """Show which event last set each attribute of a user, the outcomes of its last events, and its invitation.

    USER is the id in user management, the username, the e-mail address or the Keycloak id; where several users share it, their ids are listed. The history is read from the
    results topic, as far back as that goes; what the bridge did not write is shown without an event. Exit code 1 when
    nothing is known of USER, or several users are.
    """
    settings = invocation.settings(KEYCLOAK_ACCESS)
    interpretation = Interpretation(settings)
    name = interpretation.mapping.external_id
    directory = user_directory(settings)
    matches: Sequence[UserRepresentation] = ()
    for target in (f"attributes.{name}", "username", "email"):
        matches = matches or directory.having(MatchCriterion(target, user))
    if len(matches) > 1:
        click.echo(_list_of(matches, name), err=True)
        return INVALID_EVENT
    found = matches[0] if matches else directory.get(user)
    user_id = user if found is None else single_value(found, name)
    outcomes: Sequence[PastOutcome] = ()
    opened = total = 0
    if user_id is not None:
        outcomes = _outcomes(settings, user_id)
        opened, total = _letters(settings, interpretation, user_id)
    if found is None and not outcomes and not total:
        click.echo(
            "neither the realm nor the topics know such a user: give the id in user management, the username, the "
            "e-mail address or the Keycloak id",
            err=True,
        )
        return INVALID_EVENT
    explanation = {
        **_state(found or {}, user_id),
        "credentials": None if found is None else directory.has_credentials(found["id"]),
        "requiredActions": list((found or {}).get("requiredActions") or []),
        "targets": _targets(found or {}, outcomes, show_values=show_values),
        "outcomes": [_outcome(one) for one in (outcomes[-last:] if last else ())],
        "deadLetters": {"open": opened, "total": total},
    }
    if output == "json":
        Console().json(explanation)
    else:
        _print(Console(), explanation, utc=utc)
    return 0


def _list_of(users: Sequence[UserRepresentation], external_id: str) -> str:
    """Return the ids of several users, from which one is to be chosen."""
    lines = [f"{len(users)} users of the realm have this; pass the Keycloak id of one of them:"]
    for user in users[:_FEW]:
        of_it = single_value(user, external_id) or "none in user management"
        lines.append(printable(f"  {user['id']}  (id {of_it})"))
    if len(users) > _FEW:
        lines.append(f"  … and {len(users) - _FEW} more")
    return "\n".join(lines)


def _outcomes(settings: Settings, user_id: str) -> Sequence[PastOutcome]:
    watched = partial(with_progress, "reading results")
    log = OutcomeLog(settings.kafka, settings.topics.results, watched=watched)
    with contextlib.closing(log):
        return log.of_user(user_id)


def _letters(settings: Settings, interpretation: Interpretation, user_id: str) -> tuple[int, int]:
    with dead_letter_reader(settings) as reader:
        chosen = DeadLetterFilter(users=frozenset((user_id,)))
        inventory = read_inventory(reader, interpretation.rules, chosen)
    letters = inventory.letters(replayed=True)
    return sum(map(inventory.is_open, letters)), len(letters)


def _state(user: UserRepresentation, user_id: str | None) -> dict[str, Any]:
    state = state_of(user)
    return {
        "user": user_id,
        "keycloakId": state.keycloak_id,
        "enabled": state.enabled,
        "lastEvent": {"id": state.event_id, "time": _time(state.event_time)},
        "invitation": _invitation(state.invitation),
    }


def _invitation(invitation: LastInvitation | None) -> dict[str, Any] | None:
    if invitation is None:
        return None
    return {
        "state": invitation.state,
        "event": invitation.event_id,
        "linkEnds": _time(invitation.link_ends),
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)


def _targets(
    user: UserRepresentation, outcomes: Sequence[PastOutcome], *, show_values: bool
) -> dict[str, dict[str, Any]]:
    """Return what set each target, and with `show_values` what it is."""
    values: dict[str, Any] = {name: user[name] for name in FIELDS if name in user}  # type: ignore[literal-required]
    values |= {f"attributes.{name}": one for name, one in (user.get("attributes") or {}).items()}
    return {
        target: {
            **({"value": values.get(target)} if show_values else {}),
            **(dict.fromkeys(_BY) if by is None else _event(by)),
        }
        for target, by in setters_by_target(user, outcomes).items()
    }


def _event(one: PastOutcome) -> dict[str, Any]:
    values = (one.event_id, one.event_type, _time(one.time), one.origin, one.schema_id, one.mapping)
    return dict(zip(_BY, values, strict=True))


def _outcome(one: PastOutcome) -> dict[str, Any]:
    facts = {"outcome": one.outcome, "action": one.action, "reason": one.reason}
    return {**facts, **_event(one), "changed": list(one.changed)}


def _print(console: Console, explanation: Mapping[str, Any], *, utc: bool) -> None:
    console.packed([f"user {cell(explanation['user'])}"], indent=0)
    console.facts(_facts(explanation, utc=utc))
    for setter, targets in _by_setter(explanation["targets"]):
        console.line()
        _print_setter(console, setter, targets, utc=utc)
    console.line()
    if explanation["outcomes"]:
        rows = [_outcome_row(one, utc=utc) for one in explanation["outcomes"]]
        console.table(("time", "outcome", "event", "type", "record", "changed"), rows)
    else:
        console.line("the results topic has no result of this user")
    letters = explanation["deadLetters"]
    if letters["total"]:
        console.line()
        console.line(f"{counted(letters['total'], 'dead letter')}, {letters['open']} of them open:")
        user = shlex.quote(cell(explanation["user"]))
        console.line(f"  keycloak-bridge dead-letters list --all --user {user}")


def _by_setter(
    targets: Mapping[str, Mapping[str, Any]],
) -> Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return each event with the targets that it set last, the newest first; those that no known event set come last."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(dict)
    for target, by in targets.items():
        groups[tuple(by[name] for name in _BY)][target] = by
    time = _BY.index("time")
    ordered = sorted(groups.items(), key=lambda one: one[0][time] or "", reverse=True)
    return [(dict(zip(_BY, key, strict=True)), found) for key, found in ordered]


def _print_setter(
    console: Console, setter: Mapping[str, Any], targets: Mapping[str, Any], *, utc: bool
) -> None:
    """Print an event and below it what it set."""
    if setter["event"] is None and setter["time"] is None:
        console.line("set by no event that the results topic knows", style="bold")
    else:
        when = _when(setter["time"], utc=utc)
        console.packed(["set by", cell(setter["type"]), cell(setter["event"]), f"at {when}"], indent=0, gap=" ", style="bold")  # fmt: skip
        details = ("record", "schema", "mapping")
        console.packed([f"{name} {setter[name]}" for name in details if setter[name]], indent=2)
    if "value" in next(iter(targets.values())):
        console.facts([(target, cell(by["value"])) for target, by in targets.items()], indent=4)
    else:
        console.packed([*targets], gap=", ")


def _facts(explanation: Mapping[str, Any], *, utc: bool) -> list[tuple[str, str]]:
    if explanation["keycloakId"] is None:
        return [("Keycloak id", "the realm has no such user")]
    event = explanation["lastEvent"]
    return [
        ("Keycloak id", cell(explanation["keycloakId"])),
        ("enabled", "yes" if explanation["enabled"] else "no"),
        ("last event", f"{cell(event['id'])} of {_time_in_text(event['time'], utc=utc)}"),
        ("invitation", _invitation_text(explanation["invitation"], utc=utc)),
        ("credentials", "yes" if explanation["credentials"] else "none yet"),
        ("required actions", ", ".join(map(cell, explanation["requiredActions"])) or "none"),
    ]


def _invitation_text(invitation: Mapping[str, Any] | None, *, utc: bool) -> str:
    if invitation is None:
        return "none"
    what = LastInvitation(invitation["state"]).words
    caused = f", caused by {cell(invitation['event'])}" if invitation["event"] else ""
    ends = invitation["linkEnds"]
    return what + caused + (f"; its link ends {_time_in_text(ends, utc=utc)}" if ends else "")


def _outcome_row(outcome: Mapping[str, Any], *, utc: bool) -> list[str]:
    what = " ".join(outcome[name] for name in ("outcome", "action", "reason") if outcome[name])
    values = (what, outcome["event"], outcome["type"], outcome["record"])
    changed = cell(outcome["changed"]) or "-"
    return [_when(outcome["time"], utc=utc), *map(cell, values), changed]


def _when(text: str | None, *, utc: bool) -> str:
    return shown_time(None if text is None else parse_time(text), utc=utc)


def _time_in_text(text: str | None, *, utc: bool) -> str:
    return _when(text, utc=utc).replace(" ", NO_BREAK)
