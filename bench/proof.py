"""Look whether every user really is there, and as it should be."""

import random
from collections.abc import Sequence
from typing import Any

from bench.services import Ground
from bench.users import Person

_SAMPLE = 100
_FIELDS = ("username", "email", "firstName", "lastName", "enabled")


def problem(ground: Ground, people: Sequence[Person]) -> str | None:
    """Return what is wrong with the realm's users, None when all are there and a sample is right field by field."""
    there = ground.count()
    if there != len(people):
        return f"{there} users are there instead of {len(people)}"
    chosen = random.Random(len(people)).sample(people, min(_SAMPLE, len(people)))  # noqa: S311
    for person in chosen:
        wanted: Any = person.representation
        found = ground.by_username(wanted["username"])
        differing = _differing(wanted, found[0]) if len(found) == 1 else ["username"]
        if differing:
            return f"a user that was read back differs in {', '.join(differing)}"
    return None


def _differing(wanted: Any, found: Any) -> list[str]:
    names = [name for name in _FIELDS if wanted.get(name) != found.get(name)]
    if found.get("attributes") != wanted["attributes"]:
        names.append("attributes")
    return names
