from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import ConfigError, EventValidationError
from keycloak_bridge.domain.events import CloudEvent
from keycloak_bridge.event_files.csv_rows import csv_records
from keycloak_bridge.event_files.records import FileInterpreter
from keycloak_bridge.settings.model import Settings

SCHEMA: dict[str, Any] = {
    "properties": {
        "userId": {"type": "string"},
        "active": {"type": ["boolean", "null"]},
        "roles": {"type": "array"},
        "level": {"type": "integer"},
        "share": {"type": "number"},
        "attributes": {"type": "object", "properties": {"tags": {"type": "array"}}},
        "anything": True,
    }
}


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("userId", "007", {"userId": "007"}),
        ("userId,active", "u-1,TRUE", {"userId": "u-1", "active": True}),
        ("active", "perhaps", {"active": "perhaps"}),
        ("roles", "viewer; editor;", {"roles": ["viewer", "editor"]}),
        ("level,share", "-3,0.5", {"level": -3, "share": 0.5}),
        ("level", "three", {"level": "three"}),
        ("attributes.tags,attributes.floor", "a;b,3", {"attributes": {"tags": ["a", "b"], "floor": "3"}}),
        ("anything,other", "1,2", {"anything": "1", "other": "2"}),
        ("userId,roles", "u-1,", {"userId": "u-1"}),
        ("userId", '"a, ""quoted"" one"', {"userId": 'a, "quoted" one'}),
    ],
)  # fmt: skip
def test_a_cell_is_what_the_schema_calls_it(
    tmp_path: Path, header: str, cells: str, expected: dict[str, Any]
) -> None:
    """What cannot be read so stays text, which the schema refuses."""
    file = tmp_path / "users.csv"
    file.write_text(f"{header}\n{cells}\n", encoding="utf-8-sig")

    (record,) = csv_records(str(file), "user.created", SCHEMA)

    assert isinstance(record.event, CloudEvent)
    assert expected == record.event.data
    assert (str(file), 2) == (record.topic, record.offset)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match="nowhere"):
        list(csv_records(str(tmp_path / "nowhere.csv"), "user.created", SCHEMA))


def test_a_property_that_has_two_forms_is_a_sentence(tmp_path: Path) -> None:
    """A value and an object in one."""
    file = tmp_path / "users.csv"
    file.write_text("userId,userId.inner\nu-1,x\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="userId"):
        list(csv_records(str(file), "user.created", SCHEMA))


@pytest.mark.parametrize("cells", ["u-1,Doe, Jane,jane@acme.example", "u-1,Doe"])
def test_a_row_with_more_or_fewer_cells_than_the_header_is_refused(
    tmp_path: Path, cells: str
) -> None:
    """A comma without quotes would move every cell behind it to another property; no cell is repeated."""
    file = tmp_path / "users.csv"
    file.write_text(f"userId,name,email\n{cells}\n", encoding="utf-8")

    (record,) = csv_records(str(file), "user.created", SCHEMA)
    with pytest.raises(EventValidationError) as caught:
        FileInterpreter.of(Interpretation(Settings()).interpreter).interpret(record)

    (violation,) = caught.value.violations
    assert ("/data", "cells") == (violation.pointer, violation.keyword)
    assert "Doe" not in f"{caught.value.message} {violation.message} {caught.value.remedy}"


def test_a_column_twice_is_a_sentence(tmp_path: Path) -> None:
    """White space around its name makes it no other column."""
    file = tmp_path / "users.csv"
    file.write_text("userId, userId\nu-1,u-2\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="twice"):
        list(csv_records(str(file), "user.created", SCHEMA))
