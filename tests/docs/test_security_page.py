"""The threat model names tests that exist, and the rights of Kafka that the settings' defaults need."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from acl_commands import rights

from keycloak_bridge.settings.model import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+?)::([a-z0-9_A-Z:]+)`", PAGE)))


@cache
def functions(path: str) -> frozenset[str]:
    """Return the names of all functions in a file, none where there is no such file."""
    file = ROOT / path
    if not file.exists():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_promise_is_held_by_a_test_that_exists(path: str, name: str) -> None:
    """A test that was renamed or removed leaves no promise behind."""
    assert name.rpartition("::")[2] in functions(path), f"{path} has no {name}"


def test_every_promise_names_its_test() -> None:
    """A row without one would be a wish."""
    rows = re.findall(r"^\| (?!-|who\b|may try)(.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    promises = [row for row in rows if "::" in row[2]]

    assert 40 < len(promises)
    table, _, threats = PAGE.partition("## Promises")
    wishes = re.findall(r"^\| (?!-|may try)[^|]+\| [^|]+\| (?!.*::)[^|]*\|$", threats, re.MULTILINE)
    assert [] == wishes
    assert "may do what" in table


def test_the_rights_are_about_the_default_names() -> None:
    """Topics, groups and the transactional id of the settings that nobody has changed."""
    topics, group = Settings().topics, Settings().kafka.group_id
    named = {(one.kind, one.name) for one in rights(PAGE)}

    assert {
        ("topic", topics.events),
        ("topic", topics.invitations),
        ("topic", topics.results),
        ("topic", topics.dead_letters),
        ("group", group),
        ("group", f"{group}-invite"),
        ("group", f"{group}-activation"),
        ("group", "user-management"),
        ("transactional-id", f"{group}-replay"),
    } == named


def test_only_bridge_and_operator_write_the_bridges_own_topics() -> None:
    """The threat model relies on it."""
    topics = Settings().topics
    own = {topics.invitations, topics.dead_letters}
    writers = {
        one.principal for one in rights(PAGE) if one.name in own and one.operation == "Write"
    }

    assert {"User:keycloak-bridge", "User:bridge-operator"} == writers


def test_the_commands_can_be_copied() -> None:
    """Each is one line of a shell."""
    lines = [line for line in PAGE.splitlines() if line.startswith("kafka-acls.sh")]

    assert 11 == len(lines)
    assert all("--add" in shlex.split(line) for line in lines)
