"""Users of user management with everything that happens to them, and what must be left of it in the end."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

SAMPLES = Path(__file__).parents[1] / "events" / "user-created-2000.ndjson"

_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_CHANGED_SHARE = 0.25
_REPEATED_SHARE = 0.02
_STALE_SHARE = 0.02
_INACTIVE_SHARE = 0.03
_ATTRIBUTES = ("userId", "tenantId", "department", "phoneNumber", "locale")

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FinalState:
    """What Keycloak must hold of one user after all events, bookkeeping included."""

    fields: Mapping[str, Any]
    roles: frozenset[str]
    groups: frozenset[str]

    def unmailed(self) -> Self:
        """Return the state of the same user after attempts to mail that all failed."""
        mark = [self.fields["bridgeInvitation"][0].replace("sent:", "due:")]
        return replace(self, fields={**self.fields, "bridgeInvitation": mark})


@dataclass(frozen=True, slots=True)
class Population:
    """Events in the order in which they are published, and the state that they lead to."""

    events: Sequence[Event]
    final: Mapping[str, FinalState]
    invited: Mapping[str, str]
    """The event that causes the mail, by address."""

    def portions(self, count: int) -> Iterator[Sequence[Event]]:
        """Return the events in `count` portions of about the same size, in order."""
        size = -(-len(self.events) // count)
        for begin in range(0, count * size, size):
            yield self.events[begin : begin + size]


def generate(users: int, suffix: str, seed: int) -> Population:
    """Return so many users with names from 25 languages; some change, some events come twice or late.

    Everything is decided by the seed, and nothing in it is in any other population with another suffix.
    """
    chance = random.Random(seed)  # noqa: S311 # no secret
    samples = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    lives = [
        _life(_created(samples[number % len(samples)], number, suffix, chance), chance)
        for number in range(users)
    ]
    return settled(list(_interleaved(lives, chance)))


def settled(events: Sequence[Event]) -> Population:
    """Return the population that these events make."""
    lives: dict[str, list[Event]] = {}
    for event in events:
        lives.setdefault(event["subject"], []).append(event)
    return Population(
        events,
        {user_id: _final(life) for user_id, life in lives.items()},
        {
            life[0]["data"]["email"].lower(): life[0]["id"]
            for life in lives.values()
            if life[0]["data"]["active"]
        },
    )


def changed(event: Event, number: int, *, days: int | None = None) -> dict[str, Any]:
    """Return the `number`-th later event of the same user, with other values in its fields."""
    data = {
        **event["data"],
        "familyName": f"{event['data']['familyName']} {number}",
        "department": f"Department {number}",
        "phoneNumber": f"+49301234{number:05}",
    }
    at = _BEGIN + timedelta(days=number if days is None else days)
    return {**event, "id": f"{event['id']}-{number}", "time": _text(at), "data": data}


def _created(sample: Event, number: int, suffix: str, chance: random.Random) -> dict[str, Any]:
    user_id = f"u{number:05}-{suffix}"
    local = sample["data"]["email"].partition("@")[0]
    data = {**sample["data"], "userId": user_id, "email": f"{local}.{number}@{suffix}.example"}
    data["active"] = chance.random() >= _INACTIVE_SHARE
    if "username" in data:
        data["username"] = f"{data['username']}-{number}"
    event_id = f"e{number:05}-{suffix}"
    return {**sample, "id": event_id, "subject": user_id, "time": _text(_BEGIN), "data": data}


def _life(created: Event, chance: random.Random) -> list[Event]:
    """Return the events of one user in the order of their publication."""
    life = [created]
    if chance.random() < _CHANGED_SHARE:
        life += [changed(created, number) for number in range(1, chance.randint(2, 4))]
    if chance.random() < _STALE_SHARE:
        life.append(changed(created, 99, days=-1))
    if chance.random() < _REPEATED_SHARE:
        life.append(chance.choice(life))
    return life


def _interleaved(lives: Sequence[Sequence[Event]], chance: random.Random) -> Iterator[Event]:
    """Mix the users, and keep the order of each."""
    turns = [number for number, life in enumerate(lives) for _ in life]
    chance.shuffle(turns)
    rest = [iter(life) for life in lives]
    return (next(rest[number]) for number in turns)


def _final(life: Sequence[Event]) -> FinalState:
    """Apply each event unless a newer one was applied before."""
    first, last = life[0], life[0]
    roles: set[str] = set()
    groups: set[str] = set()
    fields: dict[str, Any] = {}
    for event in life:
        if event["time"] < last["time"]:
            continue
        last, data = event, event["data"]
        roles |= set(data["roles"])
        groups |= set(data["groups"])
        fields |= {name: [data[name]] for name in _ATTRIBUTES if name in data}
    data = last["data"]
    fields |= {
        "username": (data.get("username") or data["email"]).lower(),
        "email": data["email"].lower(),
        "firstName": data["givenName"],
        "lastName": data["familyName"],
        "enabled": data["active"],
        "bridgeEventId": [last["id"]],
        "bridgeEventTime": [last["time"].replace("Z", ".000000Z")],
    }
    # a user that may not log in yet is invited when it is enabled
    fields["bridgeInvitation"] = [f"{'sent' if data['active'] else 'due'}:{first['id']}"]
    return FinalState(fields, frozenset(roles), frozenset(groups))


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
