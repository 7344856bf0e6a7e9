"""Schema, table and sample file say the same as the settings."""

import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.schema import (
    sample_toml,
    settings_by_name,
    settings_schema,
    toml_value,
)

NAMES = sorted(settings_by_name())


def test_schema_is_a_schema() -> None:
    """The generated document is valid Draft 2020-12, and its defaults keep their own rules."""
    schema = settings_schema()
    Draft202012Validator.check_schema(schema)
    defaults: dict[str, dict[str, object]] = {}
    for one in settings_by_name().values():
        if one.default is not None:
            defaults.setdefault(one.section, {})[one.key] = one.default

    assert [] == list(Draft202012Validator(schema).iter_errors(defaults))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained_everywhere(name: str) -> None:
    """In the schema and in the sample file, with a sentence."""
    one = settings_by_name()[name]
    described = settings_schema()["properties"][one.section]["properties"][one.key]
    sample_section = sample_toml().partition(f"\n[{one.section}]\n")[2].partition("\n[")[0]

    assert one.doc.endswith(".")
    assert one.doc == described["description"]
    assert re.search(rf"^# {one.key} = ", sample_section, re.MULTILINE)


def test_sample_changes_nothing() -> None:
    """Every setting in the sample is commented out; sections are in the order of declaration."""
    sections = tomllib.loads(sample_toml())

    assert {} == {name: content for name, content in sections.items() if content}
    assert list(sections) == list(Settings.__dataclass_fields__)


def test_sample_sets_what_is_asked(tmp_path: Path) -> None:
    """Active values are set, and the file loads; a typing error of the caller raises."""
    path = tmp_path / "bridge.toml"
    path.write_text(sample_toml({"keycloak.realm": "acme", "topics.create": True}))
    settings = read_settings(path, environ={}).settings

    assert ("acme", True) == (settings.keycloak.realm, settings.topics.create)
    with pytest.raises(ValueError, match=r"kafka\.nothing"):
        sample_toml({"kafka.nothing": 1})


def test_the_samples_values_are_sound() -> None:
    """Removing the number sign gives a value that the schema accepts."""
    text = re.sub(r"^# (\w+ = )", r"\1", sample_toml(), flags=re.MULTILINE)
    text = re.sub(
        r"^(sasl_password|ssl_password|client_secret|client_key|client_assertion|password|token) = .*\n",
        "",
        text,
        flags=re.MULTILINE,
    )
    errors = Draft202012Validator(settings_schema()).iter_errors(tomllib.loads(text))

    assert [] == [error.json_path for error in errors]


@pytest.mark.parametrize("value", [True, 3, 0.5, 'a "b" \\ é', ["a", "b"], [], {"a b": "c"}, {}])
def test_toml_values_are_read_back(value: object) -> None:
    """What is written is what TOML reads."""
    assert {"x": value} == tomllib.loads(f"x = {toml_value(value)}")
