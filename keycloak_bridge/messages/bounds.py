"""How much of what a record holds is repeated in what the bridge publishes about it."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from keycloak_bridge.domain.errors import Violation

LONGEST_ID = 255
LONGEST_TEXT = 2000
_LONGEST_POINTER = 500


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return `text`, or its beginning and an ellipsis where it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def known_id(text: str | None) -> str | None:
    """Return `text` where it can be an id; the beginning of a longer one would be another id."""
    return text if text is not None and len(text) <= LONGEST_ID else None


def listed(violations: Iterable[Violation], most_bytes: int) -> list[dict[str, str]]:
    """Return as many of `violations` as fit into so many bytes of JSON; names in pointers come from the event."""
    found: list[dict[str, str]] = []
    for violation in violations:
        one = {name: shortened(text, _LONGEST_POINTER) for name, text in asdict(violation).items()}
        most_bytes -= len(json.dumps(one, ensure_ascii=False).encode("utf-8", "replace")) + 2
        if most_bytes < 0:
            break
        found.append(one)
    return found
