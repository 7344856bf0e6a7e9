"""The reference of the settings is in step with the code."""

import json
from pathlib import Path

from keycloak_bridge.settings import settings_schema, settings_table

DOCS = Path(__file__).parents[2] / "docs"


def test_settings_table_is_in_step() -> None:
    """docs/settings.md ends with the table that the code makes; `make docs` writes it."""
    page = (DOCS / "settings.md").read_text(encoding="utf-8")

    assert page.endswith(settings_table().rstrip() + "\n")


def test_settings_schema_is_in_step() -> None:
    """docs/settings.schema.json is the schema that the file is checked against."""
    committed = json.loads((DOCS / "settings.schema.json").read_text(encoding="utf-8"))

    assert settings_schema() == committed
