"""Flags over environment over file over defaults: one frozen `Settings`, or every problem at once.

One source of settings: the file, the environment or the flags.

What settings must be together, beyond each being right on its own.
"""

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.expressions.analysis import suggestion
from keycloak_bridge.settings.fields import ENVIRONMENT_PREFIX, Setting, sections
from keycloak_bridge.settings.model import KafkaSettings, Settings, TopicsSettings
from keycloak_bridge.settings.schema import Problem, check, settings_by_name, unknown_key

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


def clashes(settings: Settings) -> Iterator[Problem]:
    """Yield every pair of settings that cannot stand together."""
    yield from _kafka(settings.kafka)
    yield from _topics(settings.topics)
    if settings.invite.redirect_uri and not settings.invite.client_id:
        yield "invite.redirect_uri", "needs `invite.client_id`: Keycloak checks the page with it"
    if settings.retry.initial > settings.retry.max:
        yield "retry.initial", "must not be longer than `retry.max`"


def _kafka(kafka: KafkaSettings) -> Iterator[Problem]:
    if kafka.security_protocol.startswith("SASL_"):
        for key in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if not getattr(kafka, key):
                yield (
                    f"kafka.{key}",
                    f'is needed by security_protocol = "{kafka.security_protocol}"',
                )
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "kafka.ssl_keyfile", "needs `kafka.ssl_certfile`"
    if kafka.heartbeat_interval * 3 > kafka.session_timeout:
        yield "kafka.heartbeat_interval", "must be at most a third of `kafka.session_timeout`"
    if kafka.max_poll_interval < kafka.session_timeout:
        yield "kafka.max_poll_interval", "must not be shorter than `kafka.session_timeout`"


def _topics(topics: TopicsSettings) -> Iterator[Problem]:
    if topics.replication_factor == 0:
        yield "topics.replication_factor", "must be -1 (the brokers' default) or at least 1"
    seen: dict[str, str] = {}
    for key in ("events", "invitations", "results", "dead_letters"):
        name = getattr(topics, key)
        if name in seen:
            yield f"topics.{key}", f"must be another topic than `topics.{seen[name]}`"
        seen.setdefault(name, key)


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
