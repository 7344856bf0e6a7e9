"""Where the result goes: the raw figures, the page of the benchmark, and the README."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.profile import RESULTS
from bench.table import comparison, table

ROOT = Path(__file__).parents[1]
LATEST = RESULTS / "latest.json"
RECORDED = ROOT / "docs" / "benchmark"
README = ROOT / "README.md"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"


def keep(results: Mapping[str, Any]) -> None:
    """Write the raw figures of this machine; they are not committed."""
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def record(results: Mapping[str, Any]) -> None:
    """Write what is committed: docs/benchmark and the README's part."""
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / "results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    (RECORDED / "table.md").write_text(table(results), encoding="utf-8")
    README.write_text(renewed(README.read_text(encoding="utf-8"), results), encoding="utf-8")


def renewed(readme: str, results: Mapping[str, Any]) -> str:
    """Return the README with its part replaced by the comparison of these results."""
    more = "Profile, latency, start and memory: [docs/benchmark/table.md](docs/benchmark/table.md)."
    return between(readme, BEGIN, END, f"{comparison(results)}\n{more}\n", "README.md")


def between(text: str, begin: str, end: str, inner: str, name: str) -> str:
    """Return the text, of the file of that name, with `inner` in place of all between two of its lines."""
    before, begins, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise ValueError(f"{name} lacks the lines {begin.strip()} and {end.strip()}")
    return before + begin + inner + end + after


def renew(page: Path, begin: str, end: str, inner: str) -> None:
    """Replace what stands between two lines of a page."""
    text = page.read_text(encoding="utf-8")
    page.write_text(between(text, begin, end, inner, page.name), encoding="utf-8")


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def recorded() -> dict[str, Any]:
    """Return the figures that are committed."""
    found: dict[str, Any] = json.loads((RECORDED / "results.json").read_text(encoding="utf-8"))
    return found
