"""Downloads: pinned, whole or absent, and never asked for twice."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests

from keycloak_bridge.sandbox.artifacts import Artifact, fetch, locked
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError

CONTENT = b"a jar, more or less" * 2000


def artifact(content: bytes = CONTENT, name: str = "thing") -> Artifact:
    """Return an artifact pinned to a content."""
    return Artifact(
        "org.example", name, "1.2", "jar", hashlib.sha256(content).hexdigest(), len(content)
    )


class MavenCentral:
    """Stands in for the network under jgo, and counts what is asked of it."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.breaks_after: int | None = None
        self.asked: list[str] = []

    def get(self, url: str, **_: Any) -> "Answer":
        """Answer one GET of jgo."""
        self.asked.append(url)
        if url.endswith(".sha1"):
            return Answer(
                hashlib.sha1(self.content, usedforsecurity=False).hexdigest().encode(), None
            )
        return Answer(self.content, self.breaks_after)


class Answer:
    """As much of a response as jgo uses."""

    status_code = 200

    def __init__(self, content: bytes, breaks_after: int | None) -> None:
        self.content = content
        self.text = content.decode("latin-1")
        self.headers = {"content-length": str(len(content))}
        self._breaks_after = breaks_after

    def iter_content(self, chunk_size: int) -> Iterator[bytes]:
        """Yield the body, perhaps only the beginning of it."""
        for start in range(0, len(self.content), chunk_size):
            if self._breaks_after is not None and start >= self._breaks_after:
                raise requests.ConnectionError("gone")
            yield self.content[start : start + chunk_size]


@pytest.fixture
def central(monkeypatch: pytest.MonkeyPatch) -> MavenCentral:
    """Put a stand-in under jgo."""
    stand_in = MavenCentral()
    monkeypatch.setattr("jgo.util.http.get", stand_in.get)
    return stand_in


def get(cache: Path, *artifacts: Artifact, cancelled: Event | None = None) -> list[Path]:
    """Fetch without anybody watching."""
    return fetch(artifacts, cache, lambda *_: None, cancelled or Event())


def files_in(cache: Path) -> list[str]:
    """Return the names of all files under the cache."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_file_arrives_under_its_maven_path(tmp_path: Path, central: MavenCentral) -> None:
    """A fetched file stands where Maven would put it, with its content."""
    (path,) = get(tmp_path, artifact())

    assert path == tmp_path / "maven/org/example/thing/1.2/thing-1.2.jar"
    assert path.read_bytes() == CONTENT


def test_full_cache_needs_no_network(tmp_path: Path, central: MavenCentral) -> None:
    """What is here already is not asked for again."""
    get(tmp_path, artifact())
    central.asked.clear()

    get(tmp_path, artifact())

    assert central.asked == []


def test_wrong_checksum_is_refused_and_deleted(tmp_path: Path, central: MavenCentral) -> None:
    """A file that is not the pinned one never enters the cache, and the error names both."""
    wanted = artifact()
    central.content = b"something else"

    with pytest.raises(SandboxError, match=wanted.sha256):
        get(tmp_path, wanted)

    assert files_in(tmp_path) == []


def test_damaged_file_in_the_cache_is_fetched_anew(tmp_path: Path, central: MavenCentral) -> None:
    """A cached file that changed since is replaced by the pinned one."""
    (path,) = get(tmp_path, artifact())
    path.write_bytes(b"damaged")

    get(tmp_path, artifact())

    assert path.read_bytes() == CONTENT


def test_broken_download_leaves_nothing(tmp_path: Path, central: MavenCentral) -> None:
    """Half a file is never believed later: it is gone, and the next try gets a whole one."""
    central.breaks_after = 8192
    with pytest.raises(SandboxError, match="could not be fetched"):
        get(tmp_path, artifact())
    assert files_in(tmp_path) == []

    central.breaks_after = None
    (path,) = get(tmp_path, artifact())

    assert path.read_bytes() == CONTENT


def test_cancelled_download_stops_at_once(tmp_path: Path, central: MavenCentral) -> None:
    """Ctrl-C ends a download in its middle and leaves nothing."""
    cancelled = Event()
    cancelled.set()

    with pytest.raises(SandboxCancelled):
        get(tmp_path, artifact(), cancelled=cancelled)

    assert files_in(tmp_path) == []


def test_progress_adds_up_over_all_files(tmp_path: Path, central: MavenCentral) -> None:
    """The bytes reported grow to the size of everything that was missing."""
    seen: list[tuple[int, int]] = []
    both = (artifact(), artifact(name="other"))

    fetch(both, tmp_path, lambda done, total: seen.append((done, total)), Event())

    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (2 * len(CONTENT), 2 * len(CONTENT))


@pytest.mark.parametrize(
    ("program", "first", "count"),
    [("keycloak", "keycloak-quarkus-dist-26.7.3.zip", 1), ("kafka", "kafka_2.13-4.3.1.jar", 46)],
)
def test_lock_file_pins_every_artifact(program: str, first: str, count: int) -> None:
    """Each locked artifact has a full checksum, a size and a fixed version."""
    pinned = locked(program)

    assert pinned.artifacts[0].file_name == first
    assert len({item.path for item in pinned.artifacts}) == count
    assert all(len(bytes.fromhex(item.sha256)) == 32 for item in pinned.artifacts)
    assert all(item.size > 0 and item.version[0].isdigit() for item in pinned.artifacts)
