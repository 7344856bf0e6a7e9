"""How often something may be done within a time, as the settings of `[limits]` write it."""

import re
from dataclasses import dataclass

from keycloak_bridge.domain.times import parse_duration

_LIMIT = re.compile(r"([0-9]{1,9})\s*/\s*([0-9Pp].*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` within any `window_s` seconds."""

    count: int
    window_s: float


def parse_limit(text: str) -> Limit | None:
    """Return the limit in `text`, such as "500/1 h"; None for "none".

    Raises ValueError with a sentence that says what to write instead.
    """
    stripped = text.strip()
    if stripped.lower() == "none":
        return None
    limit = _LIMIT.fullmatch(stripped)
    if limit is None or not int(limit[1]):
        raise ValueError('write for example "500/1 h", "50/10 minutes" or "none"')
    window_s = parse_duration(limit[2])
    if not window_s:
        raise ValueError("the duration must be longer than nothing")
    return Limit(int(limit[1]), window_s)
