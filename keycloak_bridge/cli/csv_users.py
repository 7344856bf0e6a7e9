"""Users in a CSV file with a header, each row as the data of an event."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keycloak_bridge.core.errors import ConfigError, EventValidationError, Violation
from keycloak_bridge.core.json_text import parse_json
from keycloak_bridge.core.model import CloudEvent, Record
from keycloak_bridge.interpretation import Ignored, Interpretation, Reading

SUFFIX = ".csv"
SEPARATOR = ";"
"""Stands between the values of a list."""

_SOURCE = "/keycloak-bridge/reconcile"
_WORDS = {"true": True, "false": False}


def csv_records(file: str, schema: Mapping[str, Any]) -> Iterator[Record]:
    """Yield a record for each row, with the data as its value; raises ConfigError for what is no CSV file.

    A column is named after a property, `attributes.costCenter` after one within another; an empty cell is an absent
    property. What the schema calls a list is split, a number or a boolean is read as one. A row with more or fewer cells
    than the header has no value: nobody knows which cell is which.
    """
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            check_header(file, rows.fieldnames)
            for row in rows:
                even = None not in row and None not in row.values()
                value = json.dumps(row_data(row, schema)).encode() if even else None
                yield Record(file, 0, rows.line_num, 0, None, value)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", remedy="Name an existing file of users."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: is no CSV in UTF-8", remedy="export it anew, with commas and a header"
        ) from error


def read_csv_record(
    record: Record, event_type: str, interpretation: Interpretation
) -> Reading | Ignored:
    """Return what schema and mapping make of a row; raises EventError.

    The event has an id made of its content, so that the same row again is the same event, and no time, so that it never
    is older than what was applied before.
    """
    value = record.value
    if value is None:
        raise EventValidationError(
            "the row has more or fewer cells than the header",
            remedy="put cells with a comma into quotes, and export the file anew if its end is missing",
            violations=(Violation("/data", "cells", "must have as many cells as the header"),),
        )
    identity = hashlib.sha256(value).hexdigest()[:16]
    event = CloudEvent(
        id=f"row-{identity}",
        source=_SOURCE,
        type=event_type,
        subject=None,
        time=None,
        dataschema=None,
        data=parse_json(value),
    )
    return interpretation.interpret(event)


def check_header(file: str, names: Any) -> None:
    """Raise ConfigError unless `names` are a name for every column, each once."""
    if not names or any(not (name or "").strip() for name in names):
        raise ConfigError(
            f"{file}: the first line must name every column",
            remedy="name them as the properties of the event's data, such as userId,email,givenName",
        )
    stripped = {name.strip() for name in names}
    if len(stripped) != len(names):
        raise ConfigError(f"{file}: a column stands there twice", remedy="leave one of them out")
    for name in sorted(stripped):
        if any(other.startswith(f"{name}.") for other in stripped):
            raise ConfigError(
                f"{file}: the column {name} stands beside columns within it",
                remedy="leave one of them out",
            )


def row_data(row: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an event from the cells of a row by the names of their columns; see `csv_records`."""
    data: dict[str, Any] = {}
    for name, text in row.items():
        if text.strip():
            *outer, last = name.strip().split(".")
            inner, rules = data, schema
            for part in outer:
                inner = inner.setdefault(part, {})
                rules = _property(rules, part)
            inner[last] = _value(text.strip(), _property(rules, last))
    return data


def _property(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = (schema.get("properties") or {}).get(name, {})
    return found if isinstance(found, dict) else {}


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the cell as the type that the schema names first; what cannot be read so is left to the schema to refuse."""
    named = schema.get("type", "string")
    kinds = [named] if isinstance(named, str) else list(named)
    if "array" in kinds:
        return [part.strip() for part in text.split(SEPARATOR) if part.strip()]
    if "boolean" in kinds:
        return _WORDS.get(text.lower(), text)
    if "integer" in kinds or "number" in kinds:
        try:
            return int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            return text
    return text
