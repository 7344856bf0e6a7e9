"""A mixture of events in which everything occurs that the ways into Keycloak could treat differently."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge_harness import an_event

_NAMES = Path(__file__).parent.parent / "events" / "user-created-2000.ndjson"
_DEPARTMENTS = ("R&D", "Sales", "Legal", "収益", "Müllabfuhr")
_SEED = 20261124

Event = dict[str, Any]


@dataclass
class Mixture:
    """Who is in the realm before, what was provisioned before, and what comes then."""

    foreign: list[dict[str, Any]] = field(default_factory=list)
    before: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def mix(count: int, suffix: str) -> Mixture:
    """Return about `count` events; a tenth each of what exists, changes, conflicts and is invalid."""
    dice = random.Random(_SEED)  # noqa: S311 # no secret
    people = _people(suffix)
    mixture = Mixture()
    tenth = count // 10
    for _ in range(tenth):
        _existing(mixture, dice, next(people))
        _conflicting(mixture, dice, next(people))
        mixture.events.append(_invalid(dice, next(people)))
        mixture.events += _lived(dice, next(people))
    while len(mixture.events) < count:
        mixture.events.append(_new(dice, next(people)))
    # the events of one user keep their order
    order = sorted(range(len(mixture.events)), key=lambda _: dice.random())
    places: dict[str, list[Event]] = {
        subject: [] for subject in {event["subject"] for event in mixture.events}
    }
    for place in sorted(order):
        places[mixture.events[place]["subject"]].append(mixture.events[place])
    mixture.events = [places[mixture.events[place]["subject"]].pop(0) for place in order]
    return mixture


def _people(suffix: str) -> Iterator[Event]:
    """Yield events of ever new users with the names of people from 25 languages."""
    lines = _NAMES.read_text(encoding="utf-8").splitlines()
    number = 0
    while True:
        data = json.loads(lines[number % len(lines)])["data"]
        user_id = f"mix{number}-{suffix}"
        names = {"givenName": data["givenName"], "familyName": data["familyName"]}
        yield an_event(user_id, **names, locale=data.get("locale", "en"))
        number += 1


def _changed(event: Event, event_id: str, hours: int, **data: Any) -> Event:
    merged = {**event["data"], **data}
    return {
        **event,
        "id": f"{event['id']}-{event_id}",
        "time": f"2026-11-01T{8 + hours:02}:00:00Z",
        "data": {name: value for name, value in merged.items() if value is not None},
    }


def _new(dice: random.Random, event: Event) -> Event:
    """Return a creation with more or fewer properties."""
    said = {
        "phoneNumber": "+4930123456",
        "department": dice.choice(_DEPARTMENTS),
        "username": f"n.{event['subject']}",
        "active": False,
        "groups": dice.choice((["/staff"], ["/customers", "/staff/engineering"])),
        "roles": ["viewer"],
        "attributes": {"shoeSize": "44"},
    }
    chosen = [name for name in said if dice.random() < 0.1]
    return {**event, "data": {**event["data"], **{name: said[name] for name in chosen}}}


def _existing(mixture: Mixture, dice: random.Random, event: Event) -> None:
    """Have the user provisioned before, and its creation come again: the same, newer, older, or under another name."""
    mixture.before.append(event)
    user_id = event["subject"]
    mixture.events.append(
        dice.choice(
            (
                event,
                _changed(event, "newer", 2, familyName="Byron"),
                {**_changed(event, "older", 0, familyName="Byron"), "time": "2020-01-01T00:00:00Z"},
                _changed(
                    event, "moved", 3, email=f"moved-{user_id}@acme.example", username=user_id
                ),
                _changed(event, "moved", 3, email=f"other-{user_id}@acme.example"),
            )
        )
    )


def _conflicting(mixture: Mixture, dice: random.Random, event: Event) -> None:
    """Have an account of somebody else hold the username or the address."""
    user_id = event["subject"]
    email = event["data"]["email"]
    held = dice.choice(
        (
            {"username": email, "email": email},
            {"username": f"f-{user_id}", "email": email},
            {"username": email},
            {"username": f"u-{user_id}", "email": f"f-{user_id}@acme.example"},
        )
    )
    mixture.foreign.append({**held, "enabled": True})
    event = {**event, "data": {**event["data"]}}
    if held["username"] == f"u-{user_id}" or dice.random() < 0.3:
        event["data"]["username"] = f"u-{user_id}"
    mixture.events.append(event)


def _invalid(dice: random.Random, event: Event) -> Event:
    """Return an event that no way may bring in."""
    wrong = dice.choice(
        (
            {"email": "nobody"},
            {"email": f"ä{event['subject']}@acme.example"},
            {"givenName": "<b>"},
            {"familyName": "x" * 300},
            {"username": "a b"},
            {"username": "ab"},
            {"username": f"{event['subject']}@else.example"},
            {"department": "d" * 3000},
            {"tenantId": ""},
            {"groups": ["/nowhere"]},
            {"roles": ["admin"]},
            {"locale": "tlh"},
        )
    )
    return {**event, "data": {**event["data"], **wrong}}


def _lived(dice: random.Random, event: Event) -> list[Event]:
    """Return a creation and what follows it in the same stream."""
    kind = dice.choice(("user.disabled", "user.updated", "user.deleted", "user.enabled"))
    data = {"userId": event["subject"]}
    if kind == "user.updated":
        data["department"] = "Legal"
    later = {**event, "type": kind, "id": f"{event['id']}-later", "time": "2026-11-02T08:00:00Z"}
    return [event, {**later, "data": data}]
