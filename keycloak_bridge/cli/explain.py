"""`keycloak-bridge explain`: which event set what of a user, and where its invitation stands.

What is told of one user: as an object for programs, and as tables for people.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from keycloak_bridge.app.connections import user_directory
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    examples,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console, progress_bar
from keycloak_bridge.cli.dead_letters import counted, letter_reader, printable, take_inventory
from keycloak_bridge.domain.events import (
    BOOKKEEPING_ATTRIBUTES,
    EVENT_ID_ATTRIBUTE,
    EVENT_TIME_ATTRIBUTE,
    INVITATION_ATTRIBUTE,
)
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation
from keycloak_bridge.kafka import reader as kafka_reader
from keycloak_bridge.kafka.reader import TopicReader
from keycloak_bridge.messages.dead_letters import DeadLetterFilter
from keycloak_bridge.messages.history import PastOutcome, in_order, read_outcome, set_last_by
from keycloak_bridge.planning.bookkeeping import parse_mark
from keycloak_bridge.settings import Settings

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


@click.command(
    epilog=examples(
        "keycloak-bridge explain 28518867",
        "keycloak-bridge explain ada@acme.example --last 3 --show-values",
    )
)
@click.argument("user")
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="How many of the last outcomes to show.")  # fmt: skip
@click.option("--show-values", is_flag=True, help="Show what the attributes hold: personal data.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@settings_options
@pass_invocation
def explain(invocation: Invocation, user: str, last: int, show_values: bool, output: str) -> int:
    """Say which event set what of a user, what became of its last events, and where its invitation stands.

    USER is the id in user management, the username, the e-mail address or the Keycloak id. What happened is read from
    the results topic, as far back as that goes; what the bridge did not write stands without an event. Exit code 1 when
    nothing is known of USER.
    """
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    interpretation = Interpretation(settings)
    external_id = interpretation.mapping.external_id
    directory = user_directory(settings)
    found = find_user(directory, user, external_id)
    user_id = user if found is None else _external_id(found, external_id)
    outcomes = _outcomes(settings, user_id) if user_id is not None else ()
    letters = _letters(settings, interpretation, user_id) if user_id is not None else (0, 0)
    if found is None and not outcomes and not letters[1]:
        click.echo(
            "neither the realm nor the topics know such a user: give the id in user management, the username, the "
            "e-mail address or the Keycloak id",
            err=True,
        )
        return INVALID_EVENT
    explanation = as_object(
        found,
        user_id=user_id,
        credentials=None if found is None else directory.has_credentials(found["id"]),
        outcomes=outcomes,
        letters=letters,
        last=last,
        show_values=show_values,
    )
    if output == "json":
        Console().json(explanation)
    else:
        print_explanation(Console(), explanation)
    return 0


def find_user(directory: UserDirectory, user: str, external_id: str) -> UserRepresentation | None:
    """Return the user that is meant, by the id in user management, username, e-mail or Keycloak id."""
    targets = (f"attributes.{external_id}", "username", "email")
    found = directory.find([MatchCriterion(target, user) for target in targets])
    return directory.get(user) if found is None else found.representation


def _external_id(user: UserRepresentation, name: str) -> str | None:
    values = (user.get("attributes") or {}).get(name) or []
    return values[0] if values else None


def _outcomes(settings: Settings, user_id: str) -> Sequence[PastOutcome]:
    """Return what the results topic tells of the user: of the partition of its key, else of all."""
    key = user_id.encode()
    with _results(settings) as reader:
        reader.only_key(key)
        found = _read(reader, key)
    if not found:
        # the topic may have had another number of partitions
        with _results(settings) as reader:
            found = _read(reader, key)
    return in_order(found)


@contextlib.contextmanager
def _results(settings: Settings) -> Any:

    reader = kafka_reader.TopicReader(
        settings.kafka, settings.topics.results, setting="topics.results"
    )
    with contextlib.closing(reader):
        yield reader


def _read(reader: TopicReader, key: bytes) -> list[PastOutcome]:
    with progress_bar("reading results", reader.remaining()) as advance:
        told = [read_outcome(record) for record in _each(reader, advance) if record.key == key]
    return [one for one in told if one is not None]


def _each(reader: TopicReader, advance: Callable[[int], None]) -> Any:
    for record in reader.read():
        advance(1)
        yield record


def _letters(settings: Settings, interpretation: Interpretation, user_id: str) -> tuple[int, int]:
    """Return how many dead letters of the user are open, and how many there are."""
    with letter_reader(settings) as reader:
        chosen = DeadLetterFilter(users=frozenset((user_id,)))
        inventory = take_inventory(reader, interpretation.rules, chosen)
    letters = inventory.letters(replayed=True)
    return sum(map(inventory.is_open, letters)), len(letters)
