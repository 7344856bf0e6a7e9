"""A parsed TOML document, read key by key, with every problem collected instead of the first one raised."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.expression_analysis import suggestion


class Problems:
    """What is wrong with one document, in the order of finding."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._lines: list[str] = []

    def add(self, key: str, reason: str) -> None:
        """Note that `key` cannot stay as it is."""
        self._lines.append(f"{self._origin}: {key}: {reason}")

    def raise_if_any(self) -> None:
        """Raise one ConfigError with a line for each problem, if there is one."""
        if self._lines:
            raise ConfigError(
                "\n".join(self._lines), code="mapping", remedy="correct the mapping file"
            )


class Section:
    """One table of the document; an unknown key is a problem that names the nearest right one.

    `known` is None where the document chooses the keys itself.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        key: str,
        problems: Problems,
        known: Iterable[str] | None,
        hint: str = "",
    ) -> None:
        self._content = content
        self._key = key
        self._problems = problems
        if known is None:
            return
        keys = tuple(known)
        for name in content:
            if name not in keys:
                other = suggestion(name, keys) or f"; {hint or 'known here: ' + ', '.join(keys)}"
                problems.add(self.key_of(name), f"unknown key{other}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def key_of(self, name: str) -> str:
        """Return the full key of `name`, as it is written in the file."""
        bare = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
        return f"{self._key}.{bare}" if self._key else bare

    def add_problem(self, name: str, reason: str) -> None:
        """Note what is wrong with the key `name` of this table."""
        self._problems.add(self.key_of(name), reason)

    def raw(self, name: str) -> Any:
        """Return whatever stands at `name`, or None."""
        return self._content.get(name)

    def text(self, name: str) -> str | None:
        """Return the text at `name`; None where there is none."""
        value = self.raw(name)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self.add_problem(name, "must be text that is not empty")
        return None

    def flag(self, name: str) -> bool:
        """Return the flag at `name`; False where there is none."""
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.add_problem(name, "must be true or false")
        return False

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return the list of texts at `name`; None where there is none."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.add_problem(name, 'must be a list of texts, as in ["one", "two"]')
        return None

    def choice(self, name: str, options: Iterable[str]) -> str | None:
        """Return which of `options` stands at `name`; None where nothing or something else does."""
        value = self.text(name)
        options = tuple(options)
        if value is None or value in options:
            return value
        hint = suggestion(value, options)
        self.add_problem(name, f"must be one of {', '.join(options)}{hint}")
        return None

    def section(self, name: str, known: Iterable[str] | None, hint: str = "") -> "Section":
        """Return the table at `name`, empty where there is none."""
        value = self.raw(name)
        if value is not None and not isinstance(value, Mapping):
            self.add_problem(name, "must be a table")
            value = None
        return Section(value or {}, self.key_of(name), self._problems, known, hint)
