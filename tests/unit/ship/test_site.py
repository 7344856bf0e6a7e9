"""What `make site` checks is noticed, and its pages and links are those of the repository."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ship.site import problems
from ship.site_pages import PAGES, ROOT, on_page_markdown


class Plain(yaml.SafeLoader):
    """Reads mkdocs.yml without what its tags name."""


Plain.add_multi_constructor("", lambda *_: None)

MARKDOWN = "# Title\n\n- one\n\n| a |\n|---|\n| b |\n"
SHOWN = '<article><h1 id="title">Title</h1><ul><li>one</li></ul><table></table>%s</article>'


def leaves(nav: Any) -> list[str]:
    """Return the pages of a nav."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in leaves(part)]


def test_every_page_is_in_the_navigation() -> None:
    """A new page in docs/ needs a place in mkdocs.yml."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=Plain)  # noqa: S506 # a SafeLoader
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}

    assert {*pages, *PAGES.values()} == set(leaves(config["nav"]))


@pytest.mark.parametrize(
    ("page", "markdown", "expected"),
    [
        ("index.md", "[a](docs/events.md#tombstones)", "[a](events.md#tombstones)"),
        ("index.md", "![a](docs/images/page.png)", "![a](images/page.png)"),
        ("security.md", "[a](operating.md), [b](#c)", "[a](operating.md), [b](#c)"),
        ("compose.md", "[a](../README.md)", "[a](index.md)"),
        ("benchmark/table.md", "[a](../scaling.md)", "[a](../scaling.md)"),
        ("bench/index.md", "[a](wire.py)", "[a](../source/bench/wire.py.md)"),
        ("bench/index.md", "[a](../docs/scaling.md)", "[a](../scaling.md)"),
        ("events.md", "[a](../schemas)", "[a](source/schemas.md)"),
        ("events.md", "[a](no-such.md)", "[a](no-such.md)"),
        ("events.md", "[a](https://example.com/x.md)", "[a](https://example.com/x.md)"),
        ("events.md", "```text here\n[a](../schemas)\n```", "```text\n[a](../schemas)\n```"),
        ("source/schemas.md", "[a](schemas/__init__.py)", "[a](schemas/__init__.py.md)"),
    ],
)
def test_links_lead_to_the_site(page: str, markdown: str, expected: str) -> None:
    """As they stand on GitHub they are written for the repository."""
    file = SimpleNamespace(file=SimpleNamespace(src_uri=page))

    assert expected == on_page_markdown(markdown, file, None, None)


def test_lists_are_indented_as_mkdocs_wants() -> None:
    """Four spaces, and an empty line where a paragraph stands before an item."""
    file = SimpleNamespace(file=SimpleNamespace(src_uri="events.md"))
    github = "- a\n  - b\n    c\n\n  d\n- e\n1. f\n   ```text\n   g\n   ```\nh"
    site = "- a\n    - b\n        c\n\n    d\n\n- e\n1. f\n    ```text\n    g\n    ```\nh"

    assert site == on_page_markdown(github, file, None, None)


def built(tmp_path: Path, more: str = "", *, location: str = "a.html", css: str = "") -> list[str]:
    """Return what is wrong with a site of one page that has `more`."""
    site, source = tmp_path / "site", tmp_path / "a.md"
    (site / "search").mkdir(parents=True)
    (site / "a.html").write_text(SHOWN % more)
    (site / "a.css").write_text(css)
    source.write_text(MARKDOWN)
    index = {"docs": [{"location": location, "text": "text"}]}
    (site / "search/search_index.json").write_text(json.dumps(index))
    return list(problems(site, {"a.html": source}))


@pytest.mark.parametrize(
    "harmless",
    [
        "",
        '<a href="https://example.com/">there</a>',
        '<a href="#title">up</a><link rel="stylesheet" href="a.css">',
        '<link rel="canonical" href="https://example.com/">',
        '<img src="data:image/png;base64,AA==">',
    ],
)
def test_a_good_site_has_no_problem(harmless: str, tmp_path: Path) -> None:
    """Links to elsewhere load nothing."""
    assert [] == built(tmp_path, harmless)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link rel="preconnect" href="//fonts.example">', "loads //fonts.example"),
        ('<p style="background: url(//x.example/y)">', "loads //x.example/y"),
        ('<a href="gone.html">x</a>', "refers to gone.html, which"),
        ('<a href="a.html#gone">x</a>', "refers to a.html#gone, which"),
        ("<ol><li>two</li></ol>", "shows 2 list items, a.md has 1"),
        ("<pre>x</pre>", "shows 1 blocks of code, a.md has 0"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(more: str, problem: str, tmp_path: Path) -> None:
    """Other hosts, dead links, and what the site shows otherwise than GitHub."""
    (found,) = built(tmp_path, more)

    assert re.search(f"^a.html {re.escape(problem)}", found)


def test_what_is_wrong_with_style_and_search_is_said(tmp_path: Path) -> None:
    """A style sheet may load nothing either, and search knows each page."""
    found = built(tmp_path, css="@import 'https://fonts.example/x';", location="b.html")

    assert ["a.css loads https://fonts.example/x", "search does not know a.html"] == found
