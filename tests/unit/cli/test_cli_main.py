"""The frame: lazy commands, clear errors, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from cli_harness import Bench, an_event, call, write

from keycloak_bridge import __version__
from keycloak_bridge.cli.common import Invocation, bridge_command
from keycloak_bridge.cli.main import COMMANDS
from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    ConfigError,
    EventValidationError,
    KeycloakAuthError,
    MappingError,
    Violation,
)

NAME = "Lovelace"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the command `run` raise an error or return a value."""

    def install(outcome: BaseException | int | None) -> None:
        @click.command()
        def run() -> int | None:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr("keycloak_bridge.cli.run.run", run)

    return install


def test_overview_names_every_command() -> None:
    """The overview is written without importing the commands, and complete."""
    output = call("--help").output

    assert all(f"  {name} " in output and lazy.summary in output for name, lazy in COMMANDS.items())


def test_version() -> None:
    """`--version` prints name and version."""
    assert f"keycloak-bridge {__version__}\n" == call("--version").output


FRAME = "from keycloak_bridge.cli.main import app"
HEAVY = ("kafka", "requests", "jsonschema", "rich", "jmespath")
EARLY = ("click", "importlib.metadata", "keycloak_bridge.cli.main")
"""What would take so long that Ctrl-C could come before it is expected."""

OTHERS = (
    *("rich", "pygments", "asyncio", "unittest", "pytest", "jinja2", "regress"),
    *(
        f"keycloak_bridge.{name}"
        for name in ("testing", "sandbox", "diagnostics", "backfill.run", "ui")
    ),
)


@pytest.mark.parametrize(
    ("script", "unwanted"),
    [
        ("import keycloak_bridge.__main__", EARLY),
        (FRAME, HEAVY),
        (f"{FRAME}\napp.main(['--help'], standalone_mode=False)", HEAVY),
        (f"{FRAME}\napp.main(['--version'], standalone_mode=False)", HEAVY),
        ("import keycloak_bridge.cli.run, keycloak_bridge.app.bridge", OTHERS),
    ],
    ids=["program", "import", "--help", "--version", "run"],
)
def test_no_more_is_imported_than_needed(script: str, unwanted: tuple[str, ...]) -> None:
    """The frame and its help load nothing that only some commands need; `run` nothing of terminals and other commands."""
    script += f"\nimport sys; print([name for name in {unwanted} if name in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert "[]" == output.splitlines()[-1]


INTERRUPTING = """
import signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["keycloak-bridge", "plan", "events.json"]
from keycloak_bridge.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module",
    ["keycloak_bridge.cli.main", "click", "keycloak_bridge.cli.plan", "jsonschema"],
)
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_modules_are_imported_ends_quietly(module: str) -> None:
    """No traceback, neither of the frame nor of a command; exit code 130."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTING.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (130, "", "") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    ("outcome", "code", "lines"),
    [
        *((returned, returned or 0, []) for returned in (None, 0, 1, 3)),
        (ConfigError("a is wrong", remedy="Do b."), 2, ["error: a is wrong", "fix:   Do b."]),
        (ConfigError("a: x\nb: y"), 2, ["error: a: x", "       b: y"]),
        (KeycloakAuthError("refused"), 2, ["error: refused"]),
        (BrokerAccessError("refused"), 2, ["error: refused"]),
        (
            EventValidationError("bad", violations=(Violation("/data/a", "type", "must be text"),)),
            1,
            ["error: bad", "       /data/a: must be text (type)"],
        ),
        (MappingError("bad"), 1, ["error: bad"]),
        (BrokerUnavailableError("away"), 3, ["error: away"]),
        (BridgeError("stopped"), 3, ["error: stopped"]),
        (KeyboardInterrupt(), 130, []),
        (click.Abort(), 130, []),
    ],
)
def test_errors_are_sentences(
    failing: Any, outcome: BaseException | int | None, code: int, lines: list[str]
) -> None:
    """What, the single problems, the remedy; each kind has its exit code, as a number returned is; no traceback."""
    failing(outcome)
    result = call("run")

    assert (code, "") == (result.exit_code, result.stdout)
    assert lines == [line for line in result.stderr.splitlines() if line]


@pytest.mark.parametrize(
    ("level", "parts"),
    [
        ("info", ("this is a bug of keycloak-bridge", "KEYCLOAK_BRIDGE_LOG_LEVEL=DEBUG")),
        ("debug", ("raise outcome", "builtins.KeyError")),
    ],
)
def test_a_bug_is_reported_without_its_text(
    failing: Any, level: str, parts: tuple[str, ...]
) -> None:
    """One line with type and place, and how to get the traceback; with DEBUG the traceback, still without the text."""
    failing(KeyError(NAME))
    result = call("run", KEYCLOAK_BRIDGE_LOG_LEVEL=level)

    assert 3 == result.exit_code
    assert result.stderr.startswith("error: unexpected KeyError at ")
    assert all(part in result.stderr for part in parts)
    assert ("raise outcome" in result.stderr) is (level == "debug")
    assert "Traceback" not in result.stderr or level == "debug"
    assert NAME not in result.stderr


@pytest.mark.parametrize(
    "words", [["nonsense"], ["run", "--nonsense"], ["validate"], ["--log-level", "LOUD", "run"]]
)
def test_wrong_usage(words: list[str]) -> None:
    """Exit code 2 and click's own words."""
    result = call(*words)

    assert 2 == result.exit_code
    assert "Usage: keycloak-bridge" in result.stderr


SINCE = ("--from-topic", "--since")


@pytest.mark.parametrize(
    "words",
    [
        ("plan",),
        ("plan", "nowhere.json"),
        ("plan", "--since", "1 day", "events.ndjson"),
        ("plan", "events.ndjson", "--from-topic"),
        ("plan", *SINCE, "yesterday"),
        ("reconcile",),
        ("reconcile", "--invite", "events.ndjson"),
        ("reconcile", *SINCE, "1 day", "--orphans", "report"),
        ("reconcile", *SINCE, "2026-11-02", "--until", "2026-11-01"),
        ("dead-letters", "list", "--since", "yesterday"),
        ("dead-letters", "show", "41"),
        ("dead-letters", "show", "3/41"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(bench: Bench, words: tuple[str, ...]) -> None:
    """Exit 2 and a sentence before Keycloak is asked; a missing file is named."""
    bench.file(an_event())

    result = bench.run(*words)

    assert (2, "", []) == (result.exit_code, result.stdout, bench.keycloak.calls)
    assert result.stderr
    assert set(words) & {"nowhere.json"} <= set(result.stderr.replace(":", " ").split())


def test_options_may_stand_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option nearer to the command overrides one before it; --set adds up in order."""
    seen: list[Invocation] = []

    @bridge_command()
    def run(invocation: Invocation) -> None:
        seen.append(invocation)

    monkeypatch.setattr("keycloak_bridge.cli.run.run", run)
    call("-c", "a.toml", "--set", "x.y=1", "run", "--config", "b.toml", "--set", "x.z=2", "--log-level", "debug")  # fmt: skip
    call("-c", "a.toml", "run")
    call("run")

    assert [
        Invocation(Path("b.toml"), ("x.y=1", "x.z=2", "log.level=DEBUG")),
        Invocation(Path("a.toml"), ()),
        Invocation(None, ()),
    ] == seen


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    """As with `head`: no traceback, and the exit code that shells know."""
    path = write(tmp_path / "x.ndjson", *({"type": "x"} for _ in range(3000)))
    with subprocess.Popen(
        [sys.executable, "-m", "keycloak_bridge", "validate", "--format", "json", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read()

    assert (141, b"") == (process.returncode, errors)


def shell_of(line: str, **environ: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a line of shell, in which `bridge` is the command."""
    done = subprocess.run(
        ["sh", "-c", line.replace("bridge ", f"{sys.executable} -m keycloak_bridge ")],
        capture_output=True,
        text=True,
        env={**os.environ, **environ, "COVERAGE_PROCESS_START": ""},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", ["--help", "--version", "schemas list", "check-config"])
def test_an_output_that_cannot_be_written_is_no_bug(words: str) -> None:
    """A full disk is named, with exit code 3; what the command has done stays."""
    code, _, errors = shell_of(f"bridge {words} >/dev/full")

    assert 3 == code
    assert [
        "error: standard output cannot be written: No space left on device; what was done stays",
        "fix:   make room for the output, or lead it elsewhere",
    ] == errors.splitlines()


@pytest.mark.parametrize(
    ("line", "code", "errors"),
    [
        ("bridge schemas list >&-", 0, ""),
        ("bridge schemas show nope 2>&-", 2, ""),
        ("bridge validate - <&- 2>/dev/null", None, ""),
        ("bridge schemas show nope <&- >&- 2>&-", 2, ""),
    ],
)
def test_a_closed_stream_is_an_empty_one(line: str, code: int | None, errors: str) -> None:
    """The exit code is that of the command."""
    ended = shell_of(line)

    assert errors == ended[2]
    assert ended[0] in ({0, 1, 2} if code is None else {code})


def test_what_an_encoding_cannot_say_is_escaped(tmp_path: Path) -> None:
    """In JSON as JSON escapes it, so that programs read the same value."""
    path = write(tmp_path / "x.ndjson", {"type": "Seán"})
    environ = {"PYTHONIOENCODING": "ascii"}
    as_text = shell_of(f"bridge validate {path}", **environ)
    as_json = shell_of(f"bridge validate --format json {path}", **environ)

    assert (1, "", 1, "") == (as_text[0], as_text[2], as_json[0], as_json[2])
    assert [json.loads(line) for line in as_json[1].splitlines()]
    code, out, errors = shell_of("bridge check-config --set keycloak.realm=Seán", **environ)
    assert (0, "", True) == (code, errors, "Se\\xe1n" in out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """The script asks this very program."""
    result = call("completion", shell)

    assert 0 == result.exit_code
    assert "_KEYCLOAK_BRIDGE_COMPLETE" in result.stdout


def test_completion_completes() -> None:
    """The names of commands are offered."""
    result = call(
        _KEYCLOAK_BRIDGE_COMPLETE="bash_complete", COMP_WORDS="keycloak-bridge che", COMP_CWORD="1"
    )

    assert "plain,check-config" == result.output.strip()
