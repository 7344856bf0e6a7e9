"""Pinned downloads, their cache, and Keycloak prepared once."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import platformdirs
import pytest
import requests
from artifact_lock import keycloak_artifacts, pinned_versions, render

from keycloak_bridge.sandbox import distribution
from keycloak_bridge.sandbox.distribution import (
    CACHE_VARIABLE,
    LOCK_FILE,
    VERSION_VARIABLES,
    Artifact,
    ArtifactSet,
    Distribution,
    PreparedKeycloak,
    cache_dir,
    exclusive,
    fetch,
    http_arguments,
    lock_file,
    locked,
    prepare,
    prepared_folder,
    server_command,
)
from keycloak_bridge.sandbox.options import SandboxCancelled, SandboxError, silent
from keycloak_bridge.sandbox.processes import Java

LOCK = Path(distribution.__file__).with_name(LOCK_FILE)
VERSIONS = [
    (program, version) for program, entry in lock_file().items() for version in entry["versions"]
]
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


def test_a_file_is_fetched_once(tmp_path: Path, central: MavenCentral) -> None:
    """It is where Maven would put it, and is not asked for again unless it was damaged."""
    (path,) = get(tmp_path, artifact())
    assert path == tmp_path / "maven/org/example/thing/1.2/thing-1.2.jar"
    assert path.read_bytes() == CONTENT
    central.asked.clear()

    get(tmp_path, artifact())
    assert central.asked == []

    path.write_bytes(b"damaged")
    get(tmp_path, artifact())
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_is_refused_and_deleted(tmp_path: Path, central: MavenCentral) -> None:
    """A file that is not the pinned one never enters the cache, and the error names both."""
    wanted = artifact()
    central.content = b"something else"

    with pytest.raises(SandboxError, match=wanted.sha256):
        get(tmp_path, wanted)

    assert files_in(tmp_path) == []


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


@pytest.mark.parametrize(("program", "version"), VERSIONS)
def test_lock_file_pins_every_artifact(program: str, version: str) -> None:
    """Each locked artifact has a full checksum, a size and a fixed version, and the first is the program itself."""
    pinned = locked(program, version)

    first = {
        "kafka": f"kafka_2.13-{version}.jar",
        "keycloak": f"keycloak-quarkus-dist-{version}.zip",
    }
    assert pinned.version == version
    assert pinned.artifacts[0].file_name == first[program]
    assert len({item.path for item in pinned.artifacts}) == len(pinned.artifacts)
    assert len(pinned.artifacts) > 40 or program == "keycloak"
    assert all(len(bytes.fromhex(item.sha256)) == 32 for item in pinned.artifacts)
    assert all(item.size > 0 and item.version[0].isdigit() for item in pinned.artifacts)


@pytest.mark.parametrize("program", VERSION_VARIABLES)
def test_a_version_is_chosen_named_or_the_newest(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option wins over the variable, which wins over the newest version that is pinned."""
    oldest, *_, newest = lock_file()[program]["versions"]
    monkeypatch.delenv(VERSION_VARIABLES[program], raising=False)
    assert locked(program).version == newest

    monkeypatch.setenv(VERSION_VARIABLES[program], oldest)
    assert locked(program).version == oldest
    assert locked(program, newest).version == newest


def test_a_version_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    """The message has the versions there are; nothing is fetched for it."""
    unknown = Distribution(tmp_path, silent, silent, Event(), {"kafka": "0.8.0"})

    with pytest.raises(
        SandboxError, match=r"has no Kafka 0\.8\.0: choose one of 3\.9.* with --kafka"
    ):
        unknown.kafka_jars()
    assert list(tmp_path.glob("maven")) == []


def test_the_cache_is_chosen_named_or_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option wins over KEYCLOAK_BRIDGE_CACHE, which wins over the user's cache."""
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert cache_dir() == platformdirs.user_cache_path("keycloak-bridge")

    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")
    assert cache_dir() == Path("/elsewhere")
    assert cache_dir(tmp_path) == tmp_path


def test_one_part_is_held_by_one_only(tmp_path: Path) -> None:
    """A second holder waits, and gives up when cancelled; another part is free."""
    cancelled = Event()
    cancelled.set()

    with exclusive(tmp_path, "kafka", Event()), exclusive(tmp_path, "keycloak", cancelled):
        with pytest.raises(SandboxCancelled), exclusive(tmp_path, "kafka", cancelled):
            pytest.fail("two hold the same part")

        assert {".kafka.lock", ".keycloak.lock"} == {path.name for path in tmp_path.iterdir()}


def test_unwritable_cache_names_the_variable(tmp_path: Path) -> None:
    """The remedy is in the message."""
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(SandboxError, match=CACHE_VARIABLE),
        exclusive(tmp_path / "file", "kafka", Event()),
    ):
        pytest.fail("a file is no folder")


def prepared(folder: Path) -> PreparedKeycloak:
    """Make what a preparation leaves."""
    (folder / "server" / "lib").mkdir(parents=True)
    (folder / "h2").mkdir()
    (folder / "h2" / "keycloakdb.mv.db").write_text("template")
    (folder / "admin.json").write_text('{"password": "secret"}')
    return PreparedKeycloak(folder)


def test_each_server_gets_its_own_database(tmp_path: Path) -> None:
    """Homes share the program and nothing else; the administrator belongs to the database."""
    shared = prepared(tmp_path / "cache")
    assert shared.admin_password == "secret"
    for name in ("one", "two"):
        shared.lay_out(tmp_path / name)

    (tmp_path / "one/data/h2/keycloakdb.mv.db").write_text("changed")

    assert (tmp_path / "two/data/h2/keycloakdb.mv.db").read_text() == "template"
    assert (tmp_path / "one/lib").resolve() == (tmp_path / "two/lib").resolve()


def test_another_recipe_is_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of version, checksum or build options never reuses an old preparation."""
    cache = Path("/cache")
    pinned = [
        ArtifactSet(version, (replace(artifact(), sha256=checksum),))
        for version, checksum in (("1", "aa"), ("2", "aa"), ("1", "bb"))
    ]
    folders = {prepared_folder(cache, one) for one in pinned}
    monkeypatch.setattr(distribution, "BUILD_OPTIONS", ("--db=postgres",))
    folders.add(prepared_folder(cache, pinned[0]))

    assert len(folders) == 4


def test_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    """A build that breaks is an error with its log, and is not believed later."""
    archive = tmp_path / "keycloak.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("keycloak-1/lib/quarkus-run.jar", "")
    java = tmp_path / "java/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho out of luck; exit 1\n")
    java.chmod(0o755)
    cache = tmp_path / "cache"
    cache.mkdir()

    with pytest.raises(SandboxError, match="out of luck"):
        prepare(archive, cache / "keycloak", Java(tmp_path / "java", 25), tmp_path, silent, Event())

    assert list(cache.iterdir()) == []


def test_server_listens_on_loopback_only() -> None:
    """The port is bound to 127.0.0.1, and links carry the public address."""
    arguments = http_arguments("http://localhost:1", 1)

    assert "--http-host=127.0.0.1" in arguments
    assert "--hostname=http://localhost:1" in arguments
    assert "--hostname-backchannel-dynamic=true" in arguments


def test_command_separates_program_and_data(tmp_path: Path) -> None:
    """The class path points to the shared program, the home folder to the data."""
    command = server_command(
        Java(Path("/java"), 25), Path("/shared"), Path("/home"), ["start"], ["-Dextra"]
    )

    assert command[0] == "/java/bin/java"
    assert command[-1] == "start"
    assert "-Dkc.home.dir=/home" in command
    assert "/shared/lib/quarkus-run.jar" in command
    assert "-Dextra" in command


def test_rendering_what_is_locked_gives_the_committed_file() -> None:
    """The committed lock file is exactly what the command writes."""
    text = LOCK.read_text(encoding="utf-8")

    assert render({name: pinned_versions(name) for name in json.loads(text)}) == text


@pytest.mark.parametrize("published", [b"zip", b"another zip"])
def test_only_what_maven_central_published_is_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: bytes
) -> None:
    """A file that agrees with Maven Central's own checksum is pinned by SHA-256, any other is refused."""
    folder = tmp_path / "org/keycloak/keycloak-quarkus-dist/1.0"
    folder.mkdir(parents=True)
    (folder / "keycloak-quarkus-dist-1.0.zip").write_bytes(b"zip")
    checksum = hashlib.sha1(published, usedforsecurity=False).hexdigest()
    answer = SimpleNamespace(text=checksum, raise_for_status=lambda: None)
    monkeypatch.setattr("requests.get", lambda *_, **__: answer)

    if published != b"zip":
        with pytest.raises(SandboxError, match="not the file that Maven Central published"):
            keycloak_artifacts("1.0", tmp_path)
        return
    (pinned,) = keycloak_artifacts("1.0", tmp_path)

    assert asdict(pinned) == {
        "group": "org.keycloak",
        "name": "keycloak-quarkus-dist",
        "version": "1.0",
        "packaging": "zip",
        "sha256": hashlib.sha256(b"zip").hexdigest(),
        "size": 3,
        "classifier": "",
    }
