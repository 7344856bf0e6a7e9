"""The cache folder."""

from pathlib import Path
from threading import Event

import platformdirs
import pytest

from keycloak_bridge.sandbox.artifacts import CACHE_VARIABLE, cache_dir, exclusive
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError


def test_chosen_folder_beats_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option wins over KEYCLOAK_BRIDGE_CACHE."""
    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")

    assert cache_dir(tmp_path) == tmp_path


def test_environment_beats_the_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEYCLOAK_BRIDGE_CACHE names the folder."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    assert cache_dir() == tmp_path


def test_user_cache_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a choice the user's own cache is taken."""
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)

    assert cache_dir() == platformdirs.user_cache_path("keycloak-bridge")


def test_one_part_is_held_by_one_only(tmp_path: Path) -> None:
    """A second holder waits, and gives up when cancelled."""
    cancelled = Event()
    cancelled.set()

    with (
        exclusive(tmp_path, "kafka", Event()),
        pytest.raises(SandboxCancelled),
        exclusive(tmp_path, "kafka", cancelled),
    ):
        pytest.fail("two hold the same part")


def test_parts_are_independent(tmp_path: Path) -> None:
    """Holding Kafka's part does not delay Keycloak's."""
    cancelled = Event()
    cancelled.set()

    with exclusive(tmp_path, "kafka", Event()), exclusive(tmp_path, "keycloak", cancelled):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".kafka.lock",
            ".keycloak.lock",
        ]


def test_unwritable_cache_names_the_variable(tmp_path: Path) -> None:
    """The remedy is in the message."""
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(SandboxError, match=CACHE_VARIABLE),
        exclusive(tmp_path / "file", "kafka", Event()),
    ):
        pytest.fail("a file is no folder")
