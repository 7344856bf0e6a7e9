"""What a replayed record carries: headers that name its dead letter and what the operator wished."""

import re
from typing import NamedTuple, Self

from keycloak_bridge.core.model import Record

REPLAY_PREFIX = "kb-replay-"
REPLAY_OF = "kb-replay-of"
"""The place of the dead letter, as `PARTITION/OFFSET` of the dead-letter topic."""

REPLAY_ORIGIN = "kb-replay-origin"
"""Where the record stood in its topic before it was ever replayed, as `PARTITION/OFFSET`; replays keep to that order."""

REPLAY_INVITE = "kb-replay-invite"
NO_INVITE = b"none"

_PLACE = re.compile(r"([0-9]{1,10})/([0-9]{1,19})", re.ASCII)


class Place(NamedTuple):
    """A position within one topic, written `PARTITION/OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that `text` names; raises ValueError with what to write instead."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError("write PARTITION/OFFSET, such as 3/41")
        return cls(int(match[1]), int(match[2]))


def is_replay(record: Record) -> bool:
    """Say whether an operator published `record` anew from a dead letter."""
    return any(name == REPLAY_OF for name, _ in record.headers)


def wants_no_invite(record: Record) -> bool:
    """Say whether the operator who replayed `record` wants no mail to go out for it."""
    return (REPLAY_INVITE, NO_INVITE) in record.headers


def place_header(record: Record, name: str) -> Place | None:
    """Return the place that the last header `name` holds, None without a readable one."""
    values = [value for other, value in record.headers if other == name]
    if not values:
        return None
    try:
        return Place.parse((values[-1] or b"").decode("ascii"))
    except ValueError:
        return None
