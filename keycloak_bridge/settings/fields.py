"""Declare a setting as a dataclass field: default, description and kind.

A kind says how a value is written in TOML and in text (environment, flags), and what it is in Python. Most kinds follow
from the field's type annotation; only a number, a duration or a text with rules of its own names its kind. A secret never
prints itself.
"""

import dataclasses
import ipaddress
import re
import stat
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.times import Limit, parse_duration, parse_limit, parse_pace
from keycloak_bridge.ops import redaction

FILE_SUFFIX = "_file"
ENVIRONMENT_PREFIX = "KEYCLOAK_BRIDGE_"
MASK = "********"

_LAST_PORT = 65535
_HOST = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of setting.

    `schema` describes the value in the file; `from_text` converts text of a flag or a variable to the same form;
    `convert` makes the Python value and resolves relative paths against the folder given. Both raise ValueError, whose
    text is a sentence without subject that never repeats the value.
    """

    name: str
    expected: str
    schema: Mapping[str, Any]
    from_text: Callable[[str], Any] = str
    convert: Callable[[Any, Path], Any] = lambda raw, _: raw
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is declared; `default` is written as in the file, None where there is none.

    `attribute` is the field that it sets: the key, except for the `_file` form of a secret.
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
        """What it sets, `section.attribute`."""
        return f"{self.section}.{self.attribute}"

    @property
    def environment_name(self) -> str:
        """The name in the environment."""
        return environment_name(self.name)

    @property
    def in_file(self) -> "Setting":
        """The same secret, given as the path of the file that holds it."""
        doc = f"File that holds `{self.key}`; it is read again whenever the secret is needed."
        key = self.key + FILE_SUFFIX
        return Setting(self.section, key, SECRET_FILE, None, doc, self.attribute)


def environment_name(name: str) -> str:
    """Return the environment variable of the setting `section.key`."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def setting(default: Any, doc: str, kind: Kind | None = None) -> Any:
    """Return a dataclass field; without `kind` its type annotation decides. `default` is written as in the file."""
    value = default if kind is None or default is None else kind.convert(default, Path())
    metadata = {"kind": kind, "default": default, "doc": doc}
    if isinstance(value, dict):
        return dataclasses.field(default_factory=lambda: dict(value), metadata=metadata)
    value = tuple(value) if isinstance(value, list) else value
    return dataclasses.field(default=value, metadata=metadata)


def sections(settings_type: type[Any]) -> Mapping[str, type[Any]]:
    """Return the dataclass of each section by its name."""
    return typing.get_type_hints(settings_type)


def declared(settings_type: type[Any]) -> Iterator[Setting]:
    """Yield every setting in the order of declaration; a secret is followed by its `_file` form."""
    for name, section_type in sections(settings_type).items():
        for field in dataclasses.fields(section_type):
            meta = field.metadata
            if not meta:
                continue  # follows from other settings
            kind = meta["kind"] or _kind_of(field.type)
            one = Setting(name, field.name, kind, meta["default"], meta["doc"], field.name)
            yield one
            if kind.secret:
                yield one.in_file


def text(expected: str = "text", **constraints: Any) -> Kind:
    """Return the kind of a string; `constraints` are JSON Schema keywords."""
    return Kind("text", expected, {"type": "string", "minLength": 1, **constraints})


def integer(minimum: int, maximum: int | None = None) -> Kind:
    """Return the kind of a whole number within bounds."""
    schema: dict[str, Any] = {"type": "integer", "minimum": minimum}
    expected = f"a whole number from {minimum}"
    if maximum is not None:
        schema["maximum"] = maximum
        expected += f" to {maximum}"
    return Kind("number", expected, schema, int, lambda raw, _: int(raw))


def texts(expected: str, *, minimum: int = 0, items: Mapping[str, Any] | None = None) -> Kind:
    """Return the kind of a list of strings; comma separated outside the file."""
    schema = {
        "type": "array",
        "minItems": minimum,
        "items": {"type": "string", "minLength": 1, **(items or {})},
    }
    return Kind("list", expected, schema, _list_from_text, lambda raw, _: tuple(raw))


def table(expected: str) -> Kind:
    """Return the kind of a table of strings; outside the file `key=value` pairs, comma separated, or an inline table."""
    schema = {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}
    return Kind("table", expected, schema, _table_from_text, lambda raw, _: dict(raw))


def duration(*, at_least: str = "1 ms", at_most: str = "24 days") -> Kind:
    """Return the kind of a length of time such as "5 s"; seconds in Python. Milliseconds in 32 bits end after 24 days."""
    minimum_s, maximum_s = parse_duration(at_least), parse_duration(at_most)

    def convert(raw: Any, _folder: Path) -> float:
        seconds = float(parse_duration(raw))
        if not minimum_s <= seconds <= maximum_s:
            raise ValueError(f"must be from {at_least} to {at_most}")
        return seconds

    expected = 'a length of time such as "5 s", "10 minutes" or "3 days"'
    return Kind("duration", expected, {"type": "string", "pattern": "^[0-9P]"}, str, convert)


def files(expected: str) -> Kind:
    """Return the kind of a table of existing files, each under a name."""

    def convert(raw: Any, base: Path) -> dict[str, Path]:
        return {name: _existing(one, base) for name, one in raw.items()}

    return dataclasses.replace(table(expected), convert=convert)


def brokers() -> Kind:
    """Return the kind of a list of brokers, each `host:port`; an IPv6 address stands in brackets."""
    kind = texts('a list of "host:port"', minimum=1, items={"pattern": "^[^\\s,]+:[0-9]{1,5}$"})

    def convert(raw: Sequence[str], _folder: Path) -> tuple[str, ...]:
        for one in raw:
            host, _, port = one.rpartition(":")
            if not 1 <= int(port) <= _LAST_PORT:
                raise ValueError(f"must be {kind.expected}; a port is from 1 to {_LAST_PORT}")
            _check_host(host[1:-1] if host[:1] + host[-1:] == "[]" else host.replace(":", "/"))
        return tuple(raw)

    return dataclasses.replace(kind, convert=convert)


def host_name(expected: str = "a host name or an IP address") -> Kind:
    """Return the kind of a host name or an IP address."""

    def convert(raw: str, _folder: Path) -> str:
        _check_host(raw)
        return raw

    return dataclasses.replace(text(expected), convert=convert)


def _url(raw: str, _folder: Path) -> str:
    try:
        parts = urlsplit(raw)
        port = parts.port
    except ValueError:  # its text repeats the value
        raise ValueError(
            f"must be {URL.expected}; a port is from 1 to {_LAST_PORT}, and an IPv6 address stands in brackets"
        ) from None
    if port == 0:
        raise ValueError(f"must be {URL.expected}; a port is from 1 to {_LAST_PORT}")
    _check_host(parts.hostname or "")
    return raw.rstrip("/")


def _check_host(host: str) -> None:
    """Raise ValueError for what no connection could be opened to, however the network is."""
    check_unicode(host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            host.encode("idna")
        except UnicodeError:  # its text repeats the value
            raise ValueError(
                "has a host that no name can be: each part between two dots has 1 to 63 characters"
            ) from None
        if not host or not _HOST.fullmatch(host):
            raise ValueError("has a host that is no name and no IP address") from None


def check_unicode(value: Any) -> None:
    """Raise ValueError where a text in `value` is no UTF-8, as arguments and variables may be; a path may."""
    parts: Sequence[Any] = [value]
    if isinstance(value, Secret):
        parts = [] if value.path else [value.reveal()]
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, tuple):
        parts = value
    try:
        for part in parts:
            if isinstance(part, str):
                part.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None  # its text repeats the value


def parse_toml(text: str) -> dict[str, Any]:
    """Return what `text` says; raises ValueError, whose text says where it is no TOML or why it cannot be read."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except ValueError:  # of `int`
        raise ValueError("a number in it has too many digits") from None


def _secret_file(raw: str, base: Path) -> Path:
    """Return the file of a secret; a value that could be the secret itself is not in the text of the ValueError."""
    try:
        return _existing(raw, base)
    except ValueError as error:
        if "/" in raw:
            raise
        reason, _, path = str(error).partition(": ")
        # no cause: its text has the value
        raise ValueError(f"{reason} in {base}" if path else reason) from None


def _existing(raw: str, base: Path) -> Path:
    found, mode = _found(raw, base, "file")
    if stat.S_ISDIR(mode):
        raise ValueError(f"names a folder, where a file is needed: {found}")
    if not stat.S_ISREG(mode):
        raise ValueError(f"names what is no regular file: {found}")
    return found


def _folders(raw: Sequence[str], base: Path) -> tuple[Path, ...]:
    folders = []
    for one in raw:
        found, mode = _found(one, base, "folder")
        if not stat.S_ISDIR(mode):
            raise ValueError(f"names a file, where a folder is needed: {found}")
        folders.append(found)
    return tuple(folders)


def _found(raw: str, base: Path, what: str) -> tuple[Path, int]:
    """Return the path that `raw` means and the mode of what is there; raises ValueError where nothing can be found."""
    try:
        path = base / Path(raw).expanduser()
    except RuntimeError:
        raise ValueError(f"names a {what} in the home of a user who does not exist") from None
    try:
        return path, path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"names a {what} that does not exist: {path}") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}): {path}") from error


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
    if given.lstrip().startswith("{"):
        return parse_toml(f"table = {given}")["table"]
    pairs = [part.partition("=") for part in _list_from_text(given)]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("not key=value pairs")
    return {key.strip(): value.strip() for key, _, value in pairs}


class Secret:
    """A secret from the settings, or the file that holds it; only `reveal` returns it."""

    __slots__ = ("_value", "path")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        if (value is None) == (path is None):
            raise ValueError("a secret has either a value or a path")
        self._value = value
        self.path = path
        """The file that holds the secret, None for a secret given as text."""
        if value is not None:
            redaction.shared.add(value)

    def reveal(self) -> str:
        """Return the secret; all logs mask it from then on.

        The file is read on each call, so a rotated secret takes effect at once. Raises ConfigError when it cannot be read or
        is empty.
        """
        if self.path is None:
            return self._value or ""
        try:
            secret = self.path.read_text(encoding="utf-8-sig").strip("\r\n")
        except UnicodeDecodeError:
            # without its cause, whose text has bytes of the secret
            raise ConfigError(
                f"the secret file {self.path} is not UTF-8",
                code="secret-unreadable",
                remedy="Save the file as UTF-8, with nothing but the secret in it.",
            ) from None
        except OSError as error:
            raise ConfigError(
                f"the secret file {self.path} cannot be read",
                code="secret-unreadable",
                remedy="Create the file, or let the bridge's user read it.",
            ) from error
        if not secret:
            raise ConfigError(
                f"the secret file {self.path} is empty",
                code="secret-unreadable",
                remedy="Write the secret into the file.",
            )
        redaction.shared.add(secret)
        return secret

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return self.path is not None or bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._value, self.path) == (other._value, other.path)

    def __hash__(self) -> int:
        return hash((self._value, self.path))


_TEXT_SCHEMA = {"type": "string", "minLength": 1}

URL = Kind(
    "url",
    'an address such as "https://id.example.com", without credentials',
    {"type": "string", "pattern": "^https?://[^\\s/?#@]+(/[^\\s?#@]*)?$"},
    convert=_url,
)
PACE = Kind(
    "pace",
    'a pace such as "14/s", "200/minute" or "5000/hour"',
    {"type": "string", "pattern": "^[0-9]"},
    convert=lambda raw, _: parse_pace(raw),
)
"""A number in a length of time; how many per second in Python."""

LIMIT = Kind(
    "limit",
    'a limit such as "500/1 h" or "50/10 minutes", or "none"',
    {"type": "string", "pattern": "^([0-9]|none$)"},
    convert=lambda raw, _: parse_limit(raw),
)
AGE = Kind(
    "age",
    'a length of time such as "30 days", or "none"',
    {"type": "string", "pattern": "^([0-9P]|none$)"},
    convert=lambda raw, _: None if raw.strip() == "none" else float(parse_duration(raw)),
)
"""Seconds in Python, None where there is no such limit."""

SECRET_FILE = Kind(
    "path",
    "the path of a file",
    _TEXT_SCHEMA,
    convert=lambda raw, base: Secret(path=_secret_file(raw, base)),
)
_BY_TYPE: Mapping[Any, Kind] = {
    str: text(),
    bool: Kind("true/false", "true or false", {"type": "boolean"}, _boolean_from_text),
    Path: Kind("path", "the path of a file", _TEXT_SCHEMA, convert=_existing),
    Secret: Kind("secret", "text", _TEXT_SCHEMA, convert=lambda raw, _: Secret(raw), secret=True),
    Limit: LIMIT,
    tuple[Path, ...]: dataclasses.replace(texts("a list of folders"), convert=_folders),
}


def _kind_of(annotation: Any) -> Kind:
    if annotation in _BY_TYPE:
        return _BY_TYPE[annotation]
    if typing.get_origin(annotation) is Literal:
        return _choice(typing.get_args(annotation))
    (inner,) = (one for one in typing.get_args(annotation) if one is not type(None))
    return _kind_of(inner)


def _choice(options: Sequence[str]) -> Kind:
    def from_text(given: str) -> str:
        return next((option for option in options if option.lower() == given.lower()), given)

    expected = "one of " + ", ".join(f'"{option}"' for option in options)
    return Kind("choice", expected, {"enum": list(options)}, from_text)
