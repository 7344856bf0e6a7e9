"""What a scenario prints, and the line of the report that it becomes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REPORT_VARIABLE = "CHAOS_REPORT"


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of one run of a scenario."""

    seed: int
    way: str
    """How users got into Keycloak: one by one, or in batches."""
    batches: int
    users: int
    events: int
    """Records of the events topic, bad ones and transaction markers included."""
    writes: int
    """Changes in Keycloak by its own admin events, requests for mails included."""
    repeats: int
    """Results that say again what an earlier one said: events published twice, and records handled again."""
    mails: int
    dead_letters: int
    repeated_letters: int
    recoveries_s: Sequence[float]
    """From the end of each fault to the next result."""


def record(scenario: str, figures: Figures, *, within_s: float | None = 5.0) -> None:
    """Print the figures, and append them to the report if there is to be one.

    `within_s` is the promise about recovery, None where the scenario makes none.
    """
    line = json.dumps({"scenario": scenario, "within_s": within_s, **asdict(figures)})
    print(f"\nchaos: {line}")
    if path := os.environ.get(REPORT_VARIABLE):
        with Path(path).open("a", encoding="utf-8") as report:
            report.write(line + "\n")
