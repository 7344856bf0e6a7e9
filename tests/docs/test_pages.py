import ast
import json
import re
import tomllib
from functools import partial
from pathlib import Path

import generate
import pytest
from command_lines import TARGETS, blocks, commands, parse, targets_in
from grafana_dashboard import grafana_dashboard
from man_page import man_page

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.events import USER_CREATED, USER_EVENTS, Record
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.mapping.mapping import compile_mapping
from keycloak_bridge.settings.schema import settings_schema

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*OUTSIDE, *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_parts_are_in_step() -> None:
    """`make docs` would change nothing."""
    assert README == generate.readme(README), "run `make docs`"
    assert generate.SETTINGS.read_text(encoding="utf-8") == generate.settings_page()
    assert json.loads(generate.SETTINGS_SCHEMA.read_text("utf-8")) == settings_schema()
    mapping = generate.MAPPING.read_text(encoding="utf-8")
    assert mapping == generate.mapping_page(mapping), "run `make docs`"
    scaling = generate.SCALING.read_text(encoding="utf-8")
    assert scaling == generate.scaling_page(scaling), "run `make docs`"
    architecture = generate.ARCHITECTURE.read_text(encoding="utf-8")
    assert architecture == generate.architecture_page(architecture), "run `make docs`"
    assert grafana_dashboard() == generate.DASHBOARD.read_text(encoding="utf-8")
    assert man_page() == generate.MAN_PAGE.read_text(encoding="utf-8"), "run `make docs`"
    assert generate.metrics_page() == generate.METRICS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", [c for page in PAGES for c in commands(page.read_text("utf-8")) if "make " in f"{c} "]
)
def test_make_targets_exist(line: str) -> None:
    """Every `make …` of the documentation names a target of the Makefile."""
    assert targets_in(line) <= TARGETS


@pytest.mark.parametrize(
    "line",
    [
        c
        for page in PAGES
        for c in commands(page.read_text("utf-8"))
        if c.startswith("keycloak-bridge")
    ],
)
def test_commands_parse(line: str) -> None:
    """Every `keycloak-bridge …` of the documentation is a command with options that exist."""
    parse(line)


def test_the_sample_event_is_valid() -> None:
    """The README's event passes its schema, and the README's mapping makes a user of it."""
    (event,) = [json.loads(block) for block in blocks(README, "json")]
    (mapping,) = [tomllib.loads(block) for block in blocks(README, "toml")]
    catalog = load_schemas(())
    record = Record("t", 0, 0, 0, event["subject"].encode(), json.dumps(event).encode())

    valid = catalog.validate(decode(record, EnvelopeRules()))
    compiled = compile_mapping(
        mapping, origin="README.md", has_property=partial(catalog.has_property, "user.created")
    )

    assert "ada.lovelace@acme.example" == compiled.apply(valid).representation["email"]  # type: ignore[union-attr]


def test_each_later_event_of_the_readme_is_valid() -> None:
    """The table shows data of every later type, and the data pass the type's newest schema."""
    rows = re.findall(r"^\| `(user\.[a-z.]+)` \| `(\{.*?\})` \|", README, re.MULTILINE)
    (event,) = [json.loads(block) for block in blocks(README, "json")]
    catalog = load_schemas(())
    valid = []
    for kind, data in rows:
        later = {**event, "type": kind, "data": json.loads(data)}
        del later["dataschema"]
        record = Record("t", 0, 0, 0, None, json.dumps(later).encode())
        valid.append(catalog.validate(decode(record, EnvelopeRules())))

    assert set(USER_EVENTS) == {USER_CREATED, *(one.type for one in valid)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of the documentation names a file of the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]

    assert [] == missing


ARCHITECTURE = ROOT / "docs" / "architecture.md"
LINKS = re.findall(
    r"\[`([\w.]+)`\]\(\.\./(keycloak_bridge/[\w/]+\.py)\)", ARCHITECTURE.read_text("utf-8")
)


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
    assert name in names_in(ROOT / file)


def test_the_page_leads_through_an_event_and_an_invitation() -> None:
    """Both journeys have links at all."""
    assert len(LINKS) >= 20
