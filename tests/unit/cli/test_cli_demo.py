"""The demo as a command: what can be fixed is said in a sentence, and what it names can be run from here."""

import sys
from pathlib import Path

import pytest
from cli_harness import call

from keycloak_bridge.sandbox import SandboxError
from keycloak_bridge.sandbox.demo import program

MODULE = "keycloak_bridge.cli.demo"


@pytest.mark.parametrize(
    ("raised", "code", "lines"),
    [
        (
            ModuleNotFoundError(name="jgo.maven"),
            2,
            [
                "error: the sandbox needs the package jgo.maven, which is not installed",
                "fix:   pip install 'keycloak-bridge[sandbox]'",
            ],
        ),
        (SandboxError("Kafka did not start"), 2, ["error: Kafka did not start"]),
        (KeyboardInterrupt(), 130, ["interrupted; everything was stopped"]),
    ],
    ids=["extra", "failure", "ctrl-c"],
)
def test_what_ends_the_demo_is_said(
    raised: BaseException, code: int, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every command reports it, without a traceback."""

    def fail(*, keep: bool) -> None:
        raise raised

    monkeypatch.setattr(f"{MODULE}.show", fail)

    result = call("demo")

    assert (code, lines) == (result.exit_code, result.stderr.splitlines())


def test_a_bug_is_not_taken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that no extra has is reported as a bug."""

    def fail(*, keep: bool) -> None:
        raise ModuleNotFoundError(name="keycloak_bridge.gone")

    monkeypatch.setattr(f"{MODULE}.show", fail)

    assert "this is a bug" in call("demo").stderr


@pytest.mark.parametrize("option", [(), ("--keep",)])
def test_keep_is_passed_on(option: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when it is asked for."""
    seen = []
    monkeypatch.setattr(f"{MODULE}.show", lambda *, keep: seen.append(keep))

    assert 0 == call("demo", *option).exit_code
    assert [bool(option)] == seen


def test_the_program_is_named_as_it_can_be_run_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name if PATH finds this very one, else by its path, or as the module that was run."""
    inside, outside = tmp_path / "here/.venv/bin", tmp_path / "there"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "keycloak-bridge").write_text("#!/bin/sh\n")
        (folder / "keycloak-bridge").chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    named = {}
    for case, path, ran in (
        ("on PATH", inside, inside / "keycloak-bridge"),
        ("below", outside, inside / "keycloak-bridge"),
        ("elsewhere", inside, outside / "keycloak-bridge"),
        ("module", outside, tmp_path / "keycloak_bridge/__main__.py"),
    ):
        monkeypatch.setenv("PATH", str(path))
        monkeypatch.setattr(sys, "argv", [str(ran)])
        named[case] = program()

    assert {
        "on PATH": "keycloak-bridge",
        "below": ".venv/bin/keycloak-bridge",
        "elsewhere": str(outside / "keycloak-bridge"),
        "module": f"{sys.executable} -m keycloak_bridge",
    } == named
