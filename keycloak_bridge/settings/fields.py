"""Declare a setting once: its default, its kind and its meaning, in the metadata of a dataclass field.

The kinds of settings: how each is written in TOML, in the environment, and held in Python.

A value that never prints.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.limits import Limit, parse_limit
from keycloak_bridge.domain.times import parse_duration, parse_pace
from keycloak_bridge.ops import redaction

MASK = "********"


class Secret:
    """A secret from the settings, or the file that holds it; only `reveal` gives it away."""

    __slots__ = ("_path", "_value")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        if (value is None) == (path is None):
            raise ValueError("a secret has either a value or a path")
        self._value = value
        self._path = path
        if value is not None:
            redaction.shared.add(value)

    @property
    def path(self) -> Path | None:
        """The file that holds the secret, when it is kept in one."""
        return self._path

    def reveal(self) -> str:
        """Return the secret, which all logs mask from then on.

        A file is read each time, so that a renewed secret counts at once. Raises ConfigError when it cannot be read or
        is empty.
        """
        if self._path is None:
            return self._value or ""
        secret = _read(self._path)
        redaction.shared.add(secret)
        return secret

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return self._path is not None or bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._value, self._path) == (other._value, other._path)

    def __hash__(self) -> int:
        return hash((self._value, self._path))


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the secret file {path} cannot be read",
            code="secret-unreadable",
            remedy="Create the file, or let the bridge's user read it.",
        ) from error
    if not text:
        raise ConfigError(
            f"the secret file {path} is empty",
            code="secret-unreadable",
            remedy="Write the secret into the file.",
        )
    return text


Convert = Callable[[Any, Path], Any]


def _as_it_is(raw: Any, _folder: Path) -> Any:
    return raw


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of setting.

    `schema` describes the value in the file; `from_text` reads what a flag or the environment says into the same form;
    `convert` makes the Python value, taking relative paths from the folder given. Both raise ValueError, whose text
    is a sentence without subject that never repeats the value.
    """

    name: str
    expected: str
    schema: Mapping[str, Any]
    from_text: Callable[[str], Any] = str
    convert: Convert = _as_it_is
    secret: bool = False


def text(expected: str, **constraints: Any) -> Kind:
    """A string."""
    return Kind("text", expected, {"type": "string", "minLength": 1, **constraints})


def url() -> Kind:
    """An address of a server, without credentials, query or trailing slash."""
    schema = {"type": "string", "pattern": "^https?://[^\\s/?#@]+(/[^\\s?#@]*)?$"}
    expected = 'an address such as "https://id.example.com", without credentials'
    return Kind("url", expected, schema, str, lambda raw, _: raw.rstrip("/"))


def choice(options: Sequence[str]) -> Kind:
    """One of a few words."""
    expected = "one of " + ", ".join(f'"{option}"' for option in options)

    def from_text(given: str) -> str:
        return next((option for option in options if option.lower() == given.lower()), given)

    return Kind("choice", expected, {"enum": list(options)}, from_text)


def integer(minimum: int, maximum: int | None = None) -> Kind:
    """A whole number within bounds."""
    schema: dict[str, Any] = {"type": "integer", "minimum": minimum}
    expected = f"a whole number from {minimum}"
    if maximum is not None:
        schema["maximum"] = maximum
        expected += f" to {maximum}"
    return Kind("number", expected, schema, int, lambda raw, _: int(raw))


def boolean() -> Kind:
    """True or false."""
    return Kind("true/false", "true or false", {"type": "boolean"}, _boolean_from_text)


def texts(expected: str, *, minimum: int = 0, items: Mapping[str, Any] | None = None) -> Kind:
    """A list of strings; comma separated outside the file."""
    schema = {
        "type": "array",
        "minItems": minimum,
        "items": {"type": "string", "minLength": 1, **(items or {})},
    }
    return Kind("list", expected, schema, _list_from_text, lambda raw, _: tuple(raw))


def table(expected: str) -> Kind:
    """A table of strings; `key=value` pairs, comma separated, or the same as in the file, outside it."""
    schema = {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}
    return Kind("table", expected, schema, _table_from_text, lambda raw, _: dict(raw))


def duration(*, at_least: str = "1 ms", at_most: str = "24 days") -> Kind:
    """A length of time such as "5 s"; seconds in Python. Milliseconds in 32 bits end after 24 days."""
    minimum_s, maximum_s = parse_duration(at_least), parse_duration(at_most)

    def convert(raw: Any, _folder: Path) -> float:
        seconds = float(parse_duration(raw))
        if not minimum_s <= seconds <= maximum_s:
            raise ValueError(f"must be from {at_least} to {at_most}")
        return seconds

    expected = 'a length of time such as "5 s", "10 minutes" or "3 days"'
    return Kind("duration", expected, {"type": "string", "pattern": "^[0-9P]"}, str, convert)


def pace() -> Kind:
    """A number a length of time such as "14/s"; how many a second in Python."""

    def convert(raw: Any, _folder: Path) -> float:
        return parse_pace(raw)

    expected = 'a pace such as "14/s", "200/minute" or "5000/hour"'
    return Kind("pace", expected, {"type": "string", "pattern": "^[0-9]"}, str, convert)


def limit() -> Kind:
    """A number within a length of time such as "500/1 h", or "none"; a Limit or None in Python."""

    def convert(raw: Any, _folder: Path) -> Limit | None:
        return parse_limit(raw)

    expected = 'a limit such as "500/1 h" or "50/10 minutes", or "none"'
    schema = {"type": "string", "pattern": "^([0-9]|none$)"}
    return Kind("limit", expected, schema, str, convert)


def path() -> Kind:
    """An existing file; a relative one starts at the folder of the settings file."""

    def convert(raw: Any, base: Path) -> Path:
        return existing(raw, base, folder=False)

    return Kind("path", "the path of a file", {"type": "string", "minLength": 1}, str, convert)


def folders() -> Kind:
    """A list of existing folders."""
    listed = texts("a list of folders")

    def convert(raw: Any, base: Path) -> tuple[Path, ...]:
        return tuple(existing(one, base, folder=True) for one in raw)

    return Kind(listed.name, listed.expected, listed.schema, listed.from_text, convert)


def files(expected: str) -> Kind:
    """A table of existing files, by a name for each."""
    listed = table(expected)

    def convert(raw: Any, base: Path) -> dict[str, Path]:
        return {name: existing(one, base, folder=False) for name, one in raw.items()}

    return Kind(listed.name, listed.expected, listed.schema, listed.from_text, convert)


def secret() -> Kind:
    """A string that never prints; `<key>_file` names the file that holds it."""
    schema = {"type": "string", "minLength": 1}
    return Kind("secret", "text", schema, str, lambda raw, _: Secret(raw), secret=True)


def secret_file() -> Kind:
    """The file that holds a secret."""

    def convert(raw: Any, base: Path) -> Secret:
        return Secret(path=existing(raw, base, folder=False))

    return Kind("path", "the path of a file", {"type": "string", "minLength": 1}, str, convert)


def existing(raw: str, base: Path, *, folder: bool) -> Path:
    """Return the absolute path; raises ValueError when there is no such file or folder."""
    found = base / Path(raw).expanduser()
    if folder and not found.is_dir():
        raise ValueError(f"names a folder that does not exist: {found}")
    if not folder and not found.is_file():
        raise ValueError(f"names a file that does not exist: {found}")
    return found


def _boolean_from_text(given: str) -> bool:
    word = given.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError("not a truth value")


def _list_from_text(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _table_from_text(given: str) -> Any:
    """Read `key=value` pairs, or a table as the file would hold it."""
    if given.lstrip().startswith("{"):
        return tomllib.loads(f"table = {given}")["table"]  # its error is a ValueError
    pairs = [part.partition("=") for part in _list_from_text(given)]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("not key=value pairs")
    return {key.strip(): value.strip() for key, _, value in pairs}


FILE_SUFFIX = "_file"
ENVIRONMENT_PREFIX = "KEYCLOAK_BRIDGE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is declared; `default` is written as in the file, None where there is none.

    `attribute` is what it fills in Python: the key, except for the `_file` form of a secret.
    """

    section: str
    key: str
    kind: Kind
    default: Any
    doc: str
    attribute: str

    @property
    def name(self) -> str:
        """The full key, `section.key`."""
        return f"{self.section}.{self.key}"

    @property
    def target(self) -> str:
        """What it fills, `section.attribute`."""
        return f"{self.section}.{self.attribute}"

    @property
    def environment_name(self) -> str:
        """The name in the environment."""
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.key}".upper()

    @property
    def in_file(self) -> "Setting":
        """The same secret, given as the name of the file that holds it."""
        return Setting(
            self.section,
            self.key + FILE_SUFFIX,
            secret_file(),
            None,
            f"File that holds `{self.key}`; it is read again whenever the secret is needed.",
            self.attribute,
        )


def setting(kind: Kind, default: Any, doc: str) -> Any:
    """Return a dataclass field whose default is what `default` means in the file."""
    value = None if default is None else kind.convert(default, Path())
    metadata = {"kind": kind, "default": default, "doc": doc}
    if isinstance(value, dict):
        return dataclasses.field(default_factory=lambda: dict(value), metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


def section(of: type[Any]) -> Any:
    """Return a dataclass field that holds the settings of one section."""
    return dataclasses.field(default_factory=of, metadata={"section": of})


def sections(settings_type: type[Any]) -> Mapping[str, type[Any]]:
    """Return the dataclass of each section by its name."""
    return {
        field.name: field.metadata["section"]
        for field in dataclasses.fields(settings_type)
        if "section" in field.metadata
    }


def declared(settings_type: type[Any]) -> Iterator[Setting]:
    """Yield every setting in the order of declaration; a secret is followed by its `_file` form."""
    for name, section_type in sections(settings_type).items():
        for field in dataclasses.fields(section_type):
            meta = field.metadata
            one = Setting(name, field.name, meta["kind"], meta["default"], meta["doc"], field.name)
            yield one
            if one.kind.secret:
                yield one.in_file
