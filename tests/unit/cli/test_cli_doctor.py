"""`doctor` prints what the check-up finds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from cli_harness import call
from click.testing import Result

from keycloak_bridge.diagnostics.probes import ProbeResult, gray, green, red, yellow

MIXED = [
    green("two topics"),
    yellow("clocks are 6 s apart", "use NTP"),
    gray("unknown"),
    red("no realm", "name it\nwell", "acme"),
]


def doctor(
    monkeypatch: pytest.MonkeyPatch, results: Sequence[ProbeResult], *words: str
) -> tuple[Result, str | None]:
    """Let the check-up find `results`; return what is printed, and the address of the test mail."""
    addresses: list[str | None] = []

    def check_up(_: object, *, test_mail: str | None = None) -> Iterator[ProbeResult]:
        addresses.append(test_mail)
        yield from (replace(one, probe=f"probe.{at}") for at, one in enumerate(results))

    monkeypatch.setattr("keycloak_bridge.cli.config.check_up", check_up)
    return call("doctor", *words), addresses[0]


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each result, its remedy below, a total at the end; red is exit code 1."""
    result, address = doctor(monkeypatch, MIXED, "--send-test-mail", "ada@acme.example")

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
    assert "ada@acme.example" == address


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for programs; without red the exit code is 0."""
    result, address = doctor(monkeypatch, MIXED[:3], "--format", "json")
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
    assert address is None
