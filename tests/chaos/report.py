"""Put what a run of the chaos suite reported into docs/reliability.md: `python -m tests.chaos.report FILE`."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
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
