"""The population that a command works on, from a topic, files of events or CSV files."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keycloak_bridge.cli.event_log import EventLog
from keycloak_bridge.cli.plan_view import refused

if TYPE_CHECKING:
    from keycloak_bridge.interpretation import Interpretation
    from keycloak_bridge.population import Population, Refusal

Row = tuple[str, dict[str, Any]]
"""Where an event stands, and what is told of it."""

_CSV = ".csv"


def read_population(
    log: EventLog,
    population: "Population",
    interpretation: "Interpretation",
    csv_type: str | None = None,
) -> Iterator[Row]:
    """Fold every event of `log` into `population`, and yield a row for each that would be refused.

    With `csv_type` a file that ends in .csv holds the data of such events, a row each. Raises ConfigError or BrokerError.
    """
    from keycloak_bridge.population import take_in  # noqa: PLC0415

    tables = [file for file in log.files if csv_type is not None and Path(file).suffix == _CSV]
    others = log.without(tables)
    if others is not None:
        with others.opened(interpretation.settings) as (records, advance):
            for refusal in take_in(population, records, interpretation, advance):
                yield others.place(refusal.record), _told(refusal)
    if csv_type is None:
        return
    from keycloak_bridge.cli.csv_users import csv_records, read_csv_record  # noqa: PLC0415

    for file in tables:
        records = csv_records(file, interpretation.catalog.document(csv_type))
        read = partial(read_csv_record, event_type=csv_type, interpretation=interpretation)
        for refusal in take_in(population, records, interpretation, read=read):
            yield log.place(refusal.record), _told(refusal)


def _told(refusal: "Refusal") -> dict[str, Any]:
    return {"event": refusal.event_id, "user": refusal.user_id, **refused(refusal.error)}
