"""Re-creating the lock file."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from keycloak_bridge.sandbox.artifacts import LOCK_FILE, locked
from keycloak_bridge.sandbox.lock import keycloak_artifacts, render
from keycloak_bridge.sandbox.options import SandboxError

LOCK = Path(__file__).parents[3] / "keycloak_bridge" / "sandbox" / LOCK_FILE


def test_rendering_what_is_locked_gives_the_committed_file() -> None:
    """The committed lock file is exactly what the command writes."""
    programs = [(name, locked(name).version, locked(name).artifacts) for name in json.loads(text())]

    assert render(programs) == text()


def text() -> str:
    """Return the committed lock file."""
    return LOCK.read_text(encoding="utf-8")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Let jgo find a file that is there, and Maven Central publish a checksum for it."""
    folder = tmp_path / "org/keycloak/keycloak-quarkus-dist/1.0"
    folder.mkdir(parents=True)
    (folder / "keycloak-quarkus-dist-1.0.zip").write_bytes(b"zip")
    answer = SimpleNamespace(text="", raise_for_status=lambda: None)
    monkeypatch.setattr("requests.get", lambda *_, **__: answer)
    return answer


def test_pins_the_checksum_of_the_published_file(
    published: SimpleNamespace, tmp_path: Path
) -> None:
    """A file that agrees with Maven Central's own checksum is pinned by SHA-256."""
    published.text = hashlib.sha1(b"zip", usedforsecurity=False).hexdigest()

    (artifact,) = keycloak_artifacts("1.0", tmp_path)

    assert asdict(artifact) == {
        "group": "org.keycloak",
        "name": "keycloak-quarkus-dist",
        "version": "1.0",
        "packaging": "zip",
        "sha256": hashlib.sha256(b"zip").hexdigest(),
        "size": 3,
    }


def test_refuses_to_pin_what_differs_from_the_published_checksum(
    published: SimpleNamespace, tmp_path: Path
) -> None:
    """A file that was changed on its way is not pinned."""
    published.text = hashlib.sha1(b"another zip", usedforsecurity=False).hexdigest()

    with pytest.raises(SandboxError, match="not the file that Maven Central published"):
        keycloak_artifacts("1.0", tmp_path)
