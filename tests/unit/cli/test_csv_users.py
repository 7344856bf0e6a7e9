import json
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.cli.csv_users import csv_records
from keycloak_bridge.core.errors import ConfigError

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
        ("userId,roles", "u-1", {"userId": "u-1"}),
        ("userId", "u-1,left over", {"userId": "u-1"}),
        ("userId", '"a, ""quoted"" one"', {"userId": 'a, "quoted" one'}),
    ],
)  # fmt: skip
def test_a_cell_is_what_the_schema_calls_it(
    tmp_path: Path, header: str, cells: str, expected: dict[str, Any]
) -> None:
    """What cannot be read so stays text, which the schema refuses."""
    file = tmp_path / "users.csv"
    file.write_text(f"{header}\n{cells}\n", encoding="utf-8-sig")

    (record,) = csv_records(str(file), SCHEMA)

    assert expected == json.loads(record.value or b"")
    assert (str(file), 2) == (record.topic, record.offset)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match="nowhere"):
        list(csv_records(str(tmp_path / "nowhere.csv"), SCHEMA))


def test_a_property_that_has_two_forms_is_a_sentence(tmp_path: Path) -> None:
    """A value and an object in one."""
    file = tmp_path / "users.csv"
    file.write_text("userId,userId.inner\nu-1,x\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="userId"):
        list(csv_records(str(file), SCHEMA))
