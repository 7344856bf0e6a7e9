"""The figures of each scenario, and the table of them in docs/reliability.md.

`make chaos` collects what the scenarios `record` in a file; `python -m tests.chaos.report FILE` puts it into the page.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"

_HEAD = (
    "scenario",
    "users",
    "records",
    "batches",
    "writes",
    "repeats",
    "mails",
    "dead letters",
    "recovery",
    "promised",
)


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


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows of a report as a table, in the order of the issue's scenarios."""
    lines = [_line(_HEAD), _line("---" for _ in _HEAD)]
    lines += [_line(_cells(row)) for row in sorted(rows, key=lambda row: row["scenario"][0])]
    return "\n".join(lines)


def renewed(page: str, content: str) -> str:
    """Return the page with `content` between its markers."""
    part = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not part.search(page):
        raise SystemExit(f"{PAGE.name} has no part between {BEGIN} and {END}")
    return part.sub(lambda _: f"{BEGIN}\n{content}\n{END}", page)


def _cells(row: Mapping[str, Any]) -> Iterable[str]:
    numbers = ("users", "events", "batches", "writes", "repeats", "mails", "dead_letters")
    worst = max(row["recoveries_s"], default=None)
    within_s = row["within_s"]
    late = worst is not None and within_s is not None and worst > within_s
    return (
        row["scenario"],
        *(f"{row[name]:,}" for name in numbers),
        "" if worst is None else f"{worst:.1f} s" + (" (late)" if late else ""),
        "" if within_s is None else f"{within_s:g} s",
    )


def _line(cells: Iterable[str]) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def main() -> None:
    """Renew the page by the report that the first argument names."""
    report = Path(sys.argv[1]).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in report.splitlines()]
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renewed(page, table(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
