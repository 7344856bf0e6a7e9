"""The calls in the source of the bridge, for tests of what none of its modules does, or all of them do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import keycloak_bridge

_PACKAGE = Path(keycloak_bridge.__file__).parent


def source_calls(*but: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with the place of its module below the package, such as `ops/logs.py`; none where that begins with `but`."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        place = path.relative_to(_PACKAGE).as_posix()
        if not place.startswith(but):
            module = ast.parse(path.read_text(encoding="utf-8"))
            yield from ((place, node) for node in ast.walk(module) if isinstance(node, ast.Call))
