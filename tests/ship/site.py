"""Build the documentation as a site, and check it: `python -m tests.ship.site`, as `make site` does (the extra `docs`).

Beside what `mkdocs build --strict` finds: no page loads anything from another host, every link leads somewhere, each page shows as many
headings, tables, list items and blocks of code as its Markdown has on GitHub, and search knows every page.
"""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

from .machine import ShipError
from .programs import run
from .site_pages import PAGES

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "link": "href",
}
_NOT_LOADED = {"canonical", "next", "prev", "alternate", "edit"}
_IN_CSS = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")
_COUNTED = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "headings"),
    "table": "tables",
    "li": "list items",
    "pre": "blocks of code",
}
_TOKENS = {
    "heading_open": "headings",
    "table_open": "tables",
    "list_item_open": "list items",
    "fence": "blocks of code",
    "code_block": "blocks of code",
}


class Page(HTMLParser):
    """What a page loads and links to, its anchors, and how much of what it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._in_article = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if name in known}
        if tag == "article":
            self._in_article = True
        elif self._in_article and tag in _COUNTED:
            self.counts[_COUNTED[tag]] += 1
        if tag == "a" and "href" in known:
            self.links.add(known["href"])
        elif known.get(_LOADED.get(tag, "")) and known.get("rel") not in _NOT_LOADED:
            self.loads.add(known[_LOADED[tag]])
        if style := known.get("style"):
            self.loads |= set(_IN_CSS.findall(style))

    def handle_endtag(self, tag: str) -> None:
        """Note the end of what is counted."""
        if tag == "article":
            self._in_article = False


def problems(site: Path, sources: dict[str, Path]) -> Iterator[str]:
    """Say what is wrong with a built site; `sources` has the Markdown of its pages by their place."""
    pages = {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
    }
    for name, page in sorted(pages.items()):
        for address in sorted(page.loads):
            if _elsewhere(address):
                yield f"{name} loads {address}"
        for address in sorted(page.loads | page.links):
            if not _elsewhere(address) and not _exists(address, site / name, site, pages):
                yield f"{name} refers to {address}, which the site does not have"
    for sheet in sorted(site.rglob("*.css")):
        for address in _IN_CSS.findall(sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(site)} loads {address}"
    for name, source in sources.items():
        expected, shown = counts(source.read_text(encoding="utf-8")), pages[name].counts
        for what in sorted(expected | shown):
            if expected[what] != shown[what]:
                yield f"{name} shows {shown[what]} {what}, {source.name} has {expected[what]}"
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if entry["text"]}
    yield from (f"search does not know {name}" for name in sorted(sources.keys() - found))


def counts(markdown: str) -> Counter[str]:
    """Count what GitHub shows of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    found = Counter(_TOKENS[token.type] for token in tokens if token.type in _TOKENS)
    found["headings"] = max(found["headings"], 1)  # a page without one gets its name
    return found


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in {"http", "https", "mailto"}


def _exists(address: str, page: Path, site: Path, pages: dict[str, Page]) -> bool:
    parts = urlsplit(address)
    if parts.scheme:  # data:
        return True
    path = unquote(parts.path)
    target = page if not path else site / path[1:] if path.startswith("/") else page.parent / path
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return False
    name = target.resolve().relative_to(site.resolve()).as_posix()
    return not parts.fragment or name not in pages or unquote(parts.fragment) in pages[name].anchors


def main() -> int:
    """Build and check; return 0 when nothing is wrong."""
    try:
        pages = build()
    except ShipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"site/ has {pages} pages, all of them searchable, and needs no other host")
    return 0


def build() -> int:
    """Build the site and return the number of its pages; raises ShipError for what is wrong."""
    shutil.rmtree(SITE, ignore_errors=True)
    sources = {
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix(): path
        for path in (ROOT / "docs").rglob("*.md")
    } | {Path(place).with_suffix(".html").as_posix(): ROOT / name for name, place in PAGES.items()}
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    run(command, cwd=ROOT, environ=environ)
    if found := list(problems(SITE, sources)):
        raise ShipError("\n       ".join(found[:20]))
    return len(sources)


if __name__ == "__main__":
    sys.exit(main())
