"""MkDocs' hook: pages from outside docs/, and links as they work on GitHub, turned into links of the site.

README.md is the first page. A file that a page links to and that is no page, such as a schema or a module, becomes one that shows it,
so that the site needs no repository; search leaves those out.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from keycloak_bridge import __version__

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    **{name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")},
    "bench/README.md": "bench/index.md",
}
"""Where pages from outside docs/ are in the site, by their place in the repository."""

_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1`*$", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"(?:[-*+]|\d+[.)]) +")
_INFO = re.compile(r"\A([`~]+\w*)[^\n]*")
"""What stands behind the language of a fenced block: the tests of the pages read it, and MkDocs takes no such block."""
_SOURCE, _FENCE = "source/", "~" * 8
_LANGUAGES = {".py": "python", ".go": "go", ".toml": "toml", ".json": "json"}


def on_config(config: Any) -> Any:
    """Say which version the site describes."""
    config.copyright = f"keycloak-bridge {__version__}, Apache-2.0"
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/, and one for each file and folder that a page links to."""
    from mkdocs.structure.files import File  # noqa: PLC0415 # the extra docs

    for source, target in PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    known = {one.src_uri for one in files}
    left = [(one.src_uri, one.content_string) for one in files if one.is_documentation_page()]
    while left:
        src_uri, text = left.pop()
        for path in _linked(_origin(src_uri), text):
            target = _target(path)
            if target not in known:
                known.add(target)
                files.append(File.generated(config, target, content=_shown(path)))
                left.append((target, _shown(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # MkDocs'
    """Return the page with links relative to its place in the site."""
    here = page.file.src_uri

    def rewritten(match: re.Match[str]) -> str:
        path = _path(_origin(here), match[2])
        if path is None:
            return match[0]
        target = posixpath.relpath(_target(path), posixpath.dirname(here) or ".")
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    return _outside_code(markdown, rewritten)


def _outside_code(markdown: str, rewritten: Callable[[re.Match[str]], str]) -> str:
    parts, end = [], 0
    for block in _FENCED.finditer(markdown):
        parts += [_prose(markdown[end : block.start()], rewritten), _INFO.sub(r"\1", block[0])]
        end = block.end()
    return "".join([*parts, _prose(markdown[end:], rewritten)])


def _prose(text: str, rewritten: Callable[[re.Match[str]], str]) -> str:
    return _LINK.sub(rewritten, "\n".join(_indented(text.split("\n"))))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """Write lists as MkDocs wants them: what belongs to an item is indented by four spaces, instead of under the item's text.

    An item behind one of several paragraphs has an empty line before it.
    """
    inside: list[int] = []
    paragraphs = (
        0  # how many of the items around this line have an empty line in them, the outermost first
    )
    for line in lines:
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if not text:
            paragraphs = len(inside)
            yield ""
            continue
        while inside and indent < inside[-1]:
            inside.pop()
        marker = _ITEM.match(text)
        if marker and paragraphs > len(inside):
            yield ""
        paragraphs = min(paragraphs, len(inside))
        yield " " * (4 * len(inside) + indent - (inside[-1] if inside else 0)) + text
        if marker:
            inside.append(indent + marker.end())


def _linked(origin: str, markdown: str) -> Iterator[str]:
    """Return the files and folders of the repository that a page links to."""
    for match in _LINK.finditer(_FENCED.sub("", markdown)):
        path = _path(origin, match[2])
        if path is not None:
            yield path


def _origin(src_uri: str) -> str:
    """Return where a page of the site stands in the repository."""
    outside = {target: source for source, target in PAGES.items()}
    if src_uri.startswith(_SOURCE):
        return src_uri.removeprefix(_SOURCE).removesuffix(".md")
    return outside.get(src_uri, f"docs/{src_uri}")


def _path(origin: str, link: str) -> str | None:
    """Return which path of the repository a link names; None, as MkDocs then warns of, if there is none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _target(path: str) -> str:
    """Return the place in the site of a path in the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{_SOURCE}{path}.md"


def _shown(path: str) -> str:
    """Return a page that shows a file, or lists what is in a folder."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n"
    file = ROOT / path
    if file.is_dir():
        names = (
            str(one.relative_to(file.parent))
            for one in file.rglob("*.*")
            if one.is_file() and "__" not in str(one)
        )
        return head + "".join(f"- [{name}]({name})\n" for name in sorted(names))
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"{head}{_FENCE}{language}\n{file.read_text(encoding='utf-8')}\n{_FENCE}\n"
