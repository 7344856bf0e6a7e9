"""`doctor` prints what the check-up finds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from cli_harness import call

from keycloak_bridge.diagnostics.probe import ProbeResult, gray, green, red, yellow

MIXED = [
    green("two topics"),
    yellow("clocks are 6 s apart", "use NTP"),
    gray("unknown"),
    red("no realm", "name it\nwell", "acme"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Where the address of the test mail ends up."""
    return []


def find(
    monkeypatch: pytest.MonkeyPatch, results: Sequence[ProbeResult], asked: list[str | None]
) -> None:
    """Let the check-up see these."""

    def check_up(_: object, *, test_mail: str | None = None) -> Iterator[ProbeResult]:
        asked.append(test_mail)
        yield from (replace(one, probe=f"probe.{at}") for at, one in enumerate(results))

    monkeypatch.setattr("keycloak_bridge.cli.doctor.check_up", check_up)


def test_text(monkeypatch: pytest.MonkeyPatch, asked: list[str | None]) -> None:
    """One row for each result, its remedy below, a total at the end; red is exit code 1."""
    find(monkeypatch, MIXED, asked)
    result = call("doctor", "--send-test-mail", "ada@acme.example")

    assert 1 == result.exit_code
    assert (
        "green  probe.0                two topics\n"
        "yellow probe.1                clocks are 6 s apart\n"
        "                              fix: use NTP\n"
        "gray   probe.2                unknown\n"
        "red    probe.3                no realm\n"
        "                              fix: name it\n"
        "                              well\n"
        "\n"
        "1 green, 1 yellow, 1 red, 1 gray\n"
    ) == result.stdout
    assert ["ada@acme.example"] == asked


def test_json(monkeypatch: pytest.MonkeyPatch, asked: list[str | None]) -> None:
    """The same for programs; without red the exit code is 0."""
    find(monkeypatch, MIXED[:3], asked)
    result = call("doctor", "--format", "json")
    document = json.loads(result.stdout)

    assert (0, True) == (result.exit_code, document["healthy"])
    assert {"green": 1, "yellow": 1, "red": 0, "gray": 1} == document["counts"]
    assert {
        "probe": "probe.1",
        "light": "yellow",
        "subject": None,
        "message": "clocks are 6 s apart",
        "remedy": "use NTP",
    } == document["findings"][1]
    assert [None] == asked
