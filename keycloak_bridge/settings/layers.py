"""One source of settings: the file, the environment or the flags."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.expression_analysis import suggestion
from keycloak_bridge.settings.fields import ENVIRONMENT_PREFIX, Setting
from keycloak_bridge.settings.schema import check, settings_by_name, unknown_key

CONFIG_VARIABLE = "KEYCLOAK_BRIDGE_CONFIG"
RESERVED_NAMES = frozenset(
    {CONFIG_VARIABLE, "KEYCLOAK_BRIDGE_CACHE", "KEYCLOAK_BRIDGE_CLIENT_SECRET"}
)
"""Names that begin like ours but mean something else: this file, the sandbox's cache, the realm's import."""


@dataclass(slots=True)
class Layer:
    """What one source says: raw values by full key, and every problem found so far.

    `origin` turns a key into what the reader of an error looks for; `folder` is where relative paths start.
    """

    origin: Callable[[str], str]
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def add_problem(self, name: str, reason: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(f"{self.origin(name)}: {reason}")
        self.faulty.add(name)

    def keep_sound(self, document: Mapping[str, Any]) -> None:
        """Take every value of `document` that its schema accepts, and a problem for each other one."""
        wrong = dict(check(document))
        for name, reason in wrong.items():
            self.add_problem(name, reason)
        for section, content in document.items():
            if section not in wrong:
                named = {f"{section}.{key}": raw for key, raw in content.items()}
                self.values.update({key: raw for key, raw in named.items() if key not in wrong})


def file_layer(path: Path) -> Layer:
    """Return what the TOML file says.

    Raises ConfigError when there is no such file or it is not TOML.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no settings file {path}",
            remedy="Name another one with --config, or write one with `keycloak-bridge init`.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} cannot be read: {error.strerror}",
            remedy="Let the bridge's user read it.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8", remedy="Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}", remedy="Correct the line.") from error
    layer = Layer(lambda name: f"{path}: {name}", path.absolute().parent)
    layer.keep_sound(document)
    return layer


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return what `KEYCLOAK_BRIDGE_*` says; an empty variable counts as absent."""
    by_name = {one.environment_name: one for one in settings_by_name().values()}
    layer = Layer(lambda name: settings_by_name()[name].environment_name, Path.cwd())
    given: dict[str, str] = {}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in RESERVED_NAMES or not text:
            continue
        if name in by_name:
            given[by_name[name].name] = text
        else:
            layer.problems.append(f"{name}: unknown variable{suggestion(name, by_name)}")
    _read_texts(layer, given)
    return layer


def flag_layer(overrides: Sequence[str]) -> Layer:
    """Return what `--set section.key=value` says."""
    layer = Layer(lambda name: f"--set {name}", Path.cwd())
    given: dict[str, str] = {}
    for override in overrides:
        name, separator, text = override.partition("=")
        name = name.strip()
        if not separator:
            layer.problems.append("--set: must be section.key=value")
        elif name not in settings_by_name():
            layer.add_problem(name, unknown_key(name))
        else:
            given[name] = text.strip()
    _read_texts(layer, given)
    return layer


def _read_texts(layer: Layer, given: Mapping[str, str]) -> None:
    """Bring texts into the form of the file, and check them like it."""
    document: dict[str, dict[str, Any]] = {}
    for name, text in given.items():
        one = settings_by_name()[name]
        try:
            document.setdefault(one.section, {})[one.key] = one.kind.from_text(text)
        except ValueError:
            layer.add_problem(name, f"must be {expected_as_text(one)}")
    layer.keep_sound(document)


def expected_as_text(one: Setting) -> str:
    """Return what a flag or a variable must look like."""
    if one.kind.name in {"list", "table"}:
        return f"{one.kind.expected}, separated by commas"
    return one.kind.expected
