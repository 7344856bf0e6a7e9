"""Flags over environment over file over defaults: one frozen `Settings`, or every problem at once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.settings.fields import Setting, sections
from keycloak_bridge.settings.layers import (
    CONFIG_VARIABLE,
    RESERVED_NAMES,
    Layer,
    environment_layer,
    file_layer,
    flag_layer,
)
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.rules import clashes
from keycloak_bridge.settings.schema import Problem, settings_by_name

DEFAULT_FILE = Path("bridge.toml")
KEYCLOAK_ACCESS = ("keycloak.realm", "keycloak.client_secret")
"""What every command that talks to Keycloak requires."""

_REMEDY = "Correct the settings; `keycloak-bridge check-config` shows what is in force."


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with where they came from; a setting with a problem holds its default."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]
    problems: tuple[str, ...]

    def raise_if_wrong(self) -> None:
        """Raise one ConfigError that names every problem, if there is one."""
        if self.problems:
            raise ConfigError("\n".join(self.problems), code="settings", remedy=_REMEDY)


def load_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    require: Collection[str] = (),
) -> Settings:
    """Return the settings in force; `require` names keys that must have a value.

    Without `path` the file is what KEYCLOAK_BRIDGE_CONFIG names, else `bridge.toml` where there is one. Raises one
    ConfigError that names every problem with file and key.
    """
    loaded = read_settings(path, environ=environ, overrides=overrides, require=require)
    loaded.raise_if_wrong()
    return loaded.settings


def read_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    require: Collection[str] = (),
) -> LoadedSettings:
    """Return whatever can be read, with the problems beside it.

    Raises ConfigError only when the file as a whole cannot be read.
    """
    file = settings_file(path, environ)
    layers = [environment_layer(environ), flag_layer(overrides)]
    if file is not None:
        layers.insert(0, file_layer(file))
    chosen = _merge(layers)
    settings = _build(chosen)
    origins = {target: one.layer.origin(one.setting.name) for target, one in chosen.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    default_place = "settings" if file is None else str(file)
    told = {_target(name) for layer in layers for name in layer.faulty}
    for target, reason in [*clashes(settings), *_missing(settings, require)]:
        if target not in told:
            problems.append(f"{origins.get(target, f'{default_place}: {target}')}: {reason}")
    return LoadedSettings(settings, file, origins, tuple(problems))


def settings_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the settings file to read, or None where there is none."""
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def environment_names() -> frozenset[str]:
    """Return every name in the environment that the bridge knows."""
    return RESERVED_NAMES | {one.environment_name for one in settings_by_name().values()}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The raw value that won, and where it stands."""

    setting: Setting
    raw: Any
    layer: Layer


def _merge(layers: Sequence[Layer]) -> dict[str, _Chosen]:
    """Let later layers win; a secret and its `_file` form are one setting."""
    return {
        setting.target: _Chosen(setting, raw, layer)
        for layer in layers
        for name, raw in layer.values.items()
        for setting in (settings_by_name()[name],)
    }


def _build(chosen: Mapping[str, _Chosen]) -> Settings:
    """Convert every value; what cannot be converted becomes a problem of its layer."""
    content: dict[str, dict[str, Any]] = {name: {} for name in sections(Settings)}
    for one in chosen.values():
        setting, layer = one.setting, one.layer
        try:
            value = setting.kind.convert(one.raw, layer.folder)
        except ValueError as error:
            layer.add_problem(setting.name, str(error))
        else:
            content[setting.section][setting.attribute] = value
    return Settings(**{name: of(**content[name]) for name, of in sections(Settings).items()})


def _target(name: str) -> str:
    """Return what a key fills: a secret and its `_file` form fill the same."""
    known = settings_by_name().get(name)
    return name if known is None else known.target


def _missing(settings: Settings, required: Collection[str]) -> Iterator[Problem]:
    for name in sorted(required):
        setting = settings_by_name()[name]
        if not getattr(getattr(settings, setting.section), setting.attribute):
            yield name, f"is needed; set it in the file or as {setting.environment_name}"
