"""Every call starts in an empty folder, without settings in the environment."""

import os
from pathlib import Path

import pytest
from cli_harness import Bench


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KEYCLOAK_BRIDGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm and empty topics."""
    return Bench(tmp_path, monkeypatch)
