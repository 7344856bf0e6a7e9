"""What a backfill says in the end, for people and for programs."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keycloak_bridge.backfill_rejects import Rejects
from keycloak_bridge.cli.backfill_progress import span
from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.plan_view import totals_line
from keycloak_bridge.core.timestamps import format_time


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended: lines done in all and by earlier runs, what became of those of this run, and the rejects."""

    done: int
    earlier: int
    complete: bool
    counts: Mapping[str, int]
    seconds: float
    rejects: Rejects
    as_of: datetime | None

    def print(self, console: Console, output: str) -> None:
        """Print it as sentences, or as one JSON object."""
        if output == "json":
            console.json(self._told(), indent=None)
            return
        console.line(totals_line(self.counts) or "nothing was left to do")
        already = f", {self.earlier} of them by earlier runs" if self.earlier else ""
        whole = "all lines are done" if self.complete else "stopped before the end"
        console.line(f"{whole}: {self.done} in {span(self.seconds)}{already}")
        for one in self.rejects.files:
            if one.offsets:
                console.line(
                    f"{len(one.offsets)} rejected: {one.file}, with reasons in {one.report}"
                )
        if len(self.rejects):
            console.line(f"mend them, then feed them: {self._again()}")

    def _again(self) -> str:
        files = [shlex.quote(str(one.file)) for one in self.rejects.files if one.offsets]
        time = f" --as-of {format_time(self.as_of)}" if self.as_of else ""
        return f"keycloak-bridge backfill{time} {' '.join(files)}"

    def _told(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "done": self.done,
            "doneEarlier": self.earlier,
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 1),
            "rejects": [
                {"file": str(one.file), "report": str(one.report), "count": len(one.offsets)}
                for one in self.rejects.files
                if one.offsets
            ],
        }
