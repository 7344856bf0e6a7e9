"""Keycloak's distribution, prepared once."""

import zipfile
from pathlib import Path
from threading import Event

import pytest

from keycloak_bridge.sandbox import distribution
from keycloak_bridge.sandbox.distribution import (
    Distribution,
    http_arguments,
    prepare,
    prepared_folder,
    server_command,
)
from keycloak_bridge.sandbox.java import Java
from keycloak_bridge.sandbox.options import SandboxError, silent


def prepared(folder: Path) -> Distribution:
    """Make what a preparation leaves."""
    (folder / "server" / "lib").mkdir(parents=True)
    (folder / "h2").mkdir()
    (folder / "h2" / "keycloakdb.mv.db").write_text("template")
    (folder / "admin.json").write_text('{"password": "secret"}')
    return Distribution(folder)


def test_each_server_gets_its_own_database(tmp_path: Path) -> None:
    """Homes share the program and nothing else."""
    shared = prepared(tmp_path / "cache")
    for name in ("one", "two"):
        shared.lay_out(tmp_path / name)

    (tmp_path / "one/data/h2/keycloakdb.mv.db").write_text("changed")

    assert (tmp_path / "two/data/h2/keycloakdb.mv.db").read_text() == "template"
    assert (tmp_path / "one/lib").resolve() == (tmp_path / "two/lib").resolve()


def test_administrator_comes_with_the_database(tmp_path: Path) -> None:
    """The password belongs to the prepared database."""
    assert prepared(tmp_path).admin_password == "secret"


def test_another_recipe_is_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of version, checksum or build options never reuses an old preparation."""
    cache = Path("/cache")
    folders = {
        prepared_folder(cache, "1", "aa"),
        prepared_folder(cache, "2", "aa"),
        prepared_folder(cache, "1", "bb"),
    }
    monkeypatch.setattr(distribution, "BUILD_OPTIONS", ("--db=postgres",))
    folders.add(prepared_folder(cache, "1", "aa"))

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
