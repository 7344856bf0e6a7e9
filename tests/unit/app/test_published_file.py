"""The record of published versions is read strictly and written as a whole."""

from pathlib import Path

import pytest

from keycloak_bridge.app.interpretation import read_published, write_published
from keycloak_bridge.domain.errors import ConfigError

DIGESTS = {"b/1.0.json": "b" * 64, "a/1.0.json": "a" * 64}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """In a stable order, and with nothing left beside the file."""
    file = tmp_path / "published.json"

    write_published(file, DIGESTS)

    assert DIGESTS == read_published(file)
    assert ["a/1.0.json", "b/1.0.json"] == list(read_published(file))
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a/1.0.json": 1}', '{"a/1.0.json": "A1"}', '{"a": "", "a": ""}']
)
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    """It is evidence, so nothing is guessed."""
    file = tmp_path / "published.json"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_published(file)

    assert "published" == caught.value.code


def test_a_missing_record_is_told(tmp_path: Path) -> None:
    """A misspelt name proves nothing."""
    with pytest.raises(ConfigError) as caught:
        read_published(tmp_path / "none.json")

    assert "--record" in (caught.value.remedy or "")
