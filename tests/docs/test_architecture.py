"""docs/architecture.md names modules, classes and functions that exist."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
LINKS = re.findall(r"\[`([\w.]+)`\]\(\.\./(keycloak_bridge/[\w/]+\.py)\)", PAGE.read_text("utf-8"))


def names_in(file: Path) -> set[str]:
    """Return `Class`, `function` and `Class.method` of a module."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)
            }
    return found


@pytest.mark.parametrize(("name", "file"), LINKS)
def test_a_named_function_is_where_the_page_says(name: str, file: str) -> None:
    """A reader who follows a link finds the name in that module."""
    assert name in names_in(PAGE.parents[1] / file)


def test_the_page_leads_through_an_event_and_an_invitation() -> None:
    """Both journeys have links at all."""
    assert len(LINKS) >= 20
