"""The checklist of docs/production.md: each line has a command that can be run, and names lights that the doctor has."""

import re
import shlex
from pathlib import Path

import click
import pytest
from command_lines import ROOT, TARGETS, Check, blocks, checks, parse, targets_in

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import EventError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.settings.model import Settings

PAGE = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
CHECKS = checks(PAGE)
PROBES = "".join(
    path.read_text("utf-8") for path in (ROOT / "keycloak_bridge" / "diagnostics").glob("*.py")
)
PROGRAMS = frozenset(
    {
        *("curl", "docker", "grep", "helm", "keycloak-bridge", "kubectl", "make", "openssl"),
        *("promtool", "kcadm.sh", "kafka-acls.sh", "kafka-configs.sh", "kafka-topics.sh"),
        *("kafka-console-producer.sh", "kafka-console-consumer.sh"),
        "kafka-consumer-groups.sh",
    }
)
FOLDERS = frozenset(path.name for path in ROOT.iterdir() if path.is_dir())


@pytest.mark.parametrize("check", CHECKS, ids=lambda one: one.what)
def test_each_line_can_be_checked(check: Check) -> None:
    """One command of a known program, one sentence of what it is about, and what is right."""
    program = shlex.split(check.command)[0]

    assert program in PROGRAMS
    assert check.right
    assert check.what.endswith((".", "`"))
    if program == "keycloak-bridge":
        parse(check.command)
    if program == "make":
        assert targets_in(check.command) <= TARGETS


@pytest.mark.parametrize("check", CHECKS, ids=lambda one: one.what)
def test_files_of_the_repository_exist(check: Check) -> None:
    """Words of a command that begin with one of its folders are paths."""
    words = [word for word in shlex.split(check.command) if word.partition("/")[0] in FOLDERS]

    assert [] == [word for word in words if "/" in word and not (ROOT / word).exists()]


@pytest.mark.parametrize(
    "check", [one for one in CHECKS if " doctor" in one.command], ids=lambda one: one.what
)
def test_the_doctor_has_these_lights(check: Check) -> None:
    """A light that was renamed would never be green."""
    names = re.findall(r"`([a-z]+(?:\.[a-z-]+)?)`(?=[,:]| and| is| are)", check.right)

    assert names
    assert [] == [name for name in names if f'"{name}"' not in PROBES]


def test_the_hostile_events_are_refused() -> None:
    """By the shipped mapping, with the codes that the page names."""
    (lines,) = blocks(PAGE, "json")
    interpretation = Interpretation(Settings())
    codes = set()
    for line in lines.splitlines():
        record = Record("t", 0, 0, 0, None, line.encode())
        with pytest.raises(EventError) as refused:
            interpretation.read(record)
        codes.add(refused.value.code)
    (check,) = [one for one in CHECKS if "hostile.ndjson" in one.command]

    assert codes == set(re.findall(r"`([a-z-]+)`", check.right))


def test_every_section_has_checks() -> None:
    """From the topics to the penetration test, in the order of the work."""
    numbered = re.findall(r"^## (\d+)\. .+?\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)

    assert [str(number) for number in range(1, 13)] == [number for number, _ in numbered]
    assert all(len(checks(text)) >= 4 for _, text in numbered)
    assert 60 <= len(CHECKS) == len({one.what for one in CHECKS})


@pytest.mark.parametrize(
    "line",
    [
        "keycloak-bridge doctor --unknown",
        "keycloak-bridge doctors",
        "keycloak-bridge doctor one two",
        "keycloak-bridge topics check --format",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    """A check that cannot fail would be none."""
    with pytest.raises(click.UsageError):
        parse(line)


def test_the_page_is_found() -> None:
    """From where people begin."""
    for page in ("README.md", "docs/security.md", "docs/kubernetes.md", "docs/compose.md"):
        assert "production.md" in Path(ROOT / page).read_text("utf-8")
