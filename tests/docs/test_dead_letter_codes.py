"""Whoever finds a code in a dead letter finds it in the documentation too."""

import re
from pathlib import Path

from keycloak_bridge.messages.dead_letters import RECOMMENDED_ACTIONS

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def documented() -> set[str]:
    """Return the codes in the first column of the table of codes."""
    section = PAGE.read_text(encoding="utf-8").partition("### Codes")[2].partition("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([a-z-]+)`", " ".join(rows)))


def test_every_code_of_a_dead_letter_is_documented() -> None:
    """And no code is documented that does not exist."""
    assert set(RECOMMENDED_ACTIONS) == documented()
