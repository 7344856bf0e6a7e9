"""What a backfill would do, line by line, without writing anything."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from keycloak_bridge.backfill_lines import BROKEN_HEADER, Line
from keycloak_bridge.cli.plan_view import outcome_of, refused
from keycloak_bridge.core.desired import OutOfScope
from keycloak_bridge.core.errors import BridgeError

if TYPE_CHECKING:
    from keycloak_bridge.core.model import Record
    from keycloak_bridge.interpretation import Interpretation
    from keycloak_bridge.provisioner import Provisioner

_WORDS = {
    "create": "would be created",
    "update": "would be updated",
    "unchanged": "unchanged",
    "refused": "would be refused",
}

Told = tuple[Line, dict[str, Any]]
"""A line, and what is told of it."""


def forecast(
    lines: Iterator[Line],
    record_of: "Callable[[Line, int], Record]",
    interpretation: "Interpretation",
    provisioner: "Provisioner",
) -> Iterator[Told]:
    """Yield what would become of each line, compared with the realm as it is now; few are in memory.

    Raises only what keeps every line from being looked at.
    """
    from keycloak_bridge.lookahead import side_by_side  # noqa: PLC0415

    ask = partial(
        _told, record_of=record_of, interpretation=interpretation, provisioner=provisioner
    )
    yield from side_by_side(ask, enumerate(lines), interpretation.settings.delivery.workers)


def count(totals: Counter[str], told: dict[str, Any]) -> None:
    """Count one line by what would become of it."""
    outcome = told["outcome"]
    reason = f" ({told['reason']})" if outcome in ("skip", "ignored") else ""
    totals[_WORDS.get(outcome, "skipped") + reason] += 1


def _told(
    numbered: tuple[int, Line],
    record_of: "Callable[[Line, int], Record]",
    interpretation: "Interpretation",
    provisioner: "Provisioner",
) -> Told:
    from keycloak_bridge.provisioner import is_final  # noqa: PLC0415

    offset, line = numbered
    try:
        return line, _planned(record_of(line, offset), interpretation, provisioner)
    except BridgeError as error:
        if not is_final(error):
            raise
        return line, refused(error)


def _planned(
    record: "Record", interpretation: "Interpretation", provisioner: "Provisioner"
) -> dict[str, Any]:
    from keycloak_bridge.backfill_outlets import broken_row  # noqa: PLC0415
    from keycloak_bridge.interpretation import Ignored  # noqa: PLC0415

    broken = dict(record.headers).get(BROKEN_HEADER)
    if broken is not None:
        raise broken_row(broken.decode("ascii"))
    reading = interpretation.read(record)
    if isinstance(reading, Ignored):
        return {"outcome": "ignored", "reason": "events.ignore_types"}
    if isinstance(reading.desired, OutOfScope):
        return {"outcome": "skip", "reason": "out-of-scope"}
    return outcome_of(provisioner.plan(reading.event, reading.desired)[1])
