"""Read the settings in force: each source overrides the one before it (defaults, file, environment, flags)."""

import ipaddress
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import USER_EVENTS
from keycloak_bridge.events.custom_envelope import ATTRIBUTES, compile_envelope
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.expressions.expression import suggestion
from keycloak_bridge.settings.fields import (
    ENVIRONMENT_PREFIX,
    Setting,
    check_unicode,
    environment_name,
    parse_toml,
    sections,
)
from keycloak_bridge.settings.model import GONE, EnvelopeSettings, Settings
from keycloak_bridge.settings.schema import Problem, check, settings_by_name, unknown_key

CONFIG_VARIABLE = "KEYCLOAK_BRIDGE_CONFIG"
RESERVED_NAMES = frozenset(
    {CONFIG_VARIABLE, "KEYCLOAK_BRIDGE_CACHE", "KEYCLOAK_BRIDGE_CLIENT_SECRET"}
)
"""Variables with the bridge's prefix that are no settings: this file, the sandbox's cache, the realm import's secret."""

DEFAULT_FILE = Path("bridge.toml")
KEYCLOAK_ACCESS = ("keycloak.realm", "keycloak.client_secret")
"""Settings that every command that talks to Keycloak requires."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with their origins; a setting with a problem has its default, and no origin.

    `given` has the values of those with an origin as they are written in the file, but no secret.
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]
    problems: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)

    def raise_if_wrong(self) -> None:
        """Raise one ConfigError that names every problem, if there is one."""
        if self.problems:
            raise ConfigError(
                "\n".join(self.problems),
                code="settings",
                remedy="Correct the settings; `keycloak-bridge check-config` shows what is in force.",
            )


def read_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    require: Collection[str] = (),
) -> LoadedSettings:
    """Return the settings in force and their problems; `require` names keys that must have a value.

    Without `path` the file is the one in KEYCLOAK_BRIDGE_CONFIG, else `bridge.toml` if it exists. Raises ConfigError
    only when the file as a whole cannot be read.
    """
    if path is None and (named := environ.get(CONFIG_VARIABLE)):
        path = Path(named)
    if path is None and _is_there(DEFAULT_FILE):
        path = DEFAULT_FILE
    sources = [_environment_source(environ), _flag_source(overrides)]
    if path is not None:
        sources.insert(0, _file_source(path))
    known = settings_by_name()
    # a secret and its `_file` form have the same target, so the later one wins
    chosen = {
        known[name].target: (known[name], raw, source)
        for source in sources
        for name, raw in source.values.items()
    }
    settings = _build(chosen.values())
    origins = {target: source.origin(one.name) for target, (one, _, source) in chosen.items()}
    problems = [problem for source in sources for problem in source.problems]
    faulty = {known[name].target for source in sources for name in source.faulty if name in known}
    wrong = tuple(_envelope_problems(settings))
    if wrong:
        settings = replace(settings, envelope=EnvelopeSettings(types=settings.envelope.types))
    for target, reason in [*wrong, *_clashes(settings), *_missing(settings, require)]:
        if target not in faulty:
            place = origins.get(target, f"{'settings' if path is None else path}: {target}")
            problems.append(f"{place}: {reason}")
    if wrong:  # the whole envelope is that of the defaults
        faulty |= {f"envelope.{name}" for name in (*ATTRIBUTES, "key")}
    origins = {target: origin for target, origin in origins.items() if target not in faulty}
    given = {target: chosen[target][1] for target in origins if not chosen[target][0].kind.secret}
    return LoadedSettings(settings, path, origins, tuple(problems), given)


def _working_folder() -> Path:
    """Return the working folder; where it was deleted, one in which nothing is found."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


@dataclass(slots=True)
class _Source:
    """The raw values of one source by full key, and every problem found so far.

    `origin` turns a key into the place that an error message names; relative paths start at `folder`.
    """

    origin: Callable[[str], str]
    folder: Path = field(default_factory=_working_folder)
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def add_problem(self, name: str, reason: str) -> None:
        self.problems.append(f"{self.origin(name)}: {reason}")
        self.faulty.add(name)

    def add_texts(self, given: Mapping[str, str]) -> None:
        """Convert texts to the form of the file, and add them like a file."""
        document: dict[str, dict[str, Any]] = {}
        for name, text in given.items():
            one = settings_by_name()[name]
            try:
                document.setdefault(one.section, {})[one.key] = one.kind.from_text(text)
            except ValueError:
                separated = ", separated by commas" if one.kind.name in {"list", "table"} else ""
                self.add_problem(name, f"must be {one.kind.expected}{separated}")
        self.add_document(document)

    def add_document(self, document: Mapping[str, Any]) -> None:
        """Add every value that the schema accepts, and a problem for each other one."""
        wrong = dict(check(document))
        for name, reason in wrong.items():
            self.add_problem(name, reason)
        for section, content in document.items():
            if section not in wrong:
                named = {f"{section}.{key}": raw for key, raw in content.items()}
                self.values.update({key: raw for key, raw in named.items() if key not in wrong})


def _is_there(file: Path) -> bool:
    """Say whether `file` is one, or cannot be looked for."""
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # who reads it says why


def _file_source(path: Path) -> _Source:
    try:
        document = parse_toml(path.read_text(encoding="utf-8-sig"))
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
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}", remedy="Correct the line.") from error
    source = _Source(lambda name: f"{path}: {name}", _working_folder() / path.parent)
    source.add_document(document)
    return source


def _environment_source(environ: Mapping[str, str]) -> _Source:
    """Read `KEYCLOAK_BRIDGE_*`; an empty variable counts as absent."""
    by_name = {one.environment_name: one.name for one in settings_by_name().values()}
    gone = {environment_name(name): name for name in GONE}
    source = _Source(environment_name)
    given: dict[str, str] = {}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in RESERVED_NAMES or not text:
            continue
        if name in by_name:
            given[by_name[name]] = text
        elif name in gone:
            source.problems.append(f"{name}: {unknown_key(gone[name])}")
        else:
            source.problems.append(f"{name}: unknown variable{suggestion(name, by_name)}")
    source.add_texts(given)
    return source


def _flag_source(overrides: Sequence[str]) -> _Source:
    source = _Source(lambda name: f"--set {name}")
    given: dict[str, str] = {}
    for override in overrides:
        name, separator, text = override.partition("=")
        name = name.strip()
        if not separator:
            source.problems.append("--set: must be section.key=value")
        elif name not in settings_by_name():
            source.add_problem(name, unknown_key(name))
        elif (one := settings_by_name()[name]).kind.secret:
            source.add_problem(
                name,
                "is a secret, and every user of this machine can read command lines; "
                f"set {one.environment_name}, or {one.in_file.key} in the settings file",
            )
        else:
            given[name] = text.strip()
    source.add_texts(given)
    return source


def _build(chosen: Collection[tuple[Setting, Any, _Source]]) -> Settings:
    """Convert every value; one that cannot be converted becomes a problem of its source."""
    content: dict[str, dict[str, Any]] = {name: {} for name in sections(Settings)}
    for setting, raw, source in chosen:
        try:
            value = setting.kind.convert(raw, source.folder)
            check_unicode(value)
        except ValueError as error:
            source.add_problem(setting.name, str(error))
        else:
            content[setting.section][setting.attribute] = value
    return Settings(**{name: of(**content[name]) for name, of in sections(Settings).items()})


def _missing(settings: Settings, required: Collection[str]) -> Iterator[Problem]:
    for name in sorted(required):
        if name == "keycloak.client_secret" and settings.keycloak.authenticates:
            continue
        setting = settings_by_name()[name]
        if not getattr(getattr(settings, setting.section), setting.attribute):
            yield name, f"is needed; set it in the file or as {setting.environment_name}"


def _envelope_problems(settings: Settings) -> Iterator[Problem]:
    """Yield which expressions of a producer's own envelope can never work."""
    envelope = settings.envelope
    try:
        compile_envelope({name: getattr(envelope, name) for name in ATTRIBUTES})
        compile_keys(envelope.key, envelope.subject)
    except ConfigError as error:
        for line in error.message.splitlines():
            name, _, reason = line.partition(": ")
            yield name, reason


def _clashes(settings: Settings) -> Iterator[Problem]:
    kafka, topics = settings.kafka, settings.topics
    if kafka.security_protocol.startswith("SASL_"):
        yield from _login_clashes(settings)
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "kafka.ssl_keyfile", "needs `kafka.ssl_certfile`"
    if kafka.max_poll_interval < kafka.session_timeout:
        yield "kafka.max_poll_interval", "must not be shorter than `kafka.session_timeout`"
    if topics.replication_factor == 0:
        yield "topics.replication_factor", "must be -1 (the brokers' default) or at least 1"
    seen: dict[str, str] = {}
    for key in ("events", "invitations", "results", "dead_letters"):
        name = getattr(topics, key)
        if name in seen:
            yield f"topics.{key}", f"must be another topic than `topics.{seen[name]}`"
        seen.setdefault(name, key)
    if settings.invite.redirect_uri and not settings.invite.client_id:
        yield "invite.redirect_uri", "needs `invite.client_id`: Keycloak checks the page with it"
    yield from _type_clashes(settings)
    yield from _keycloak_clashes(settings)
    yield from _registry_clashes(settings)
    yield from _ui_clashes(settings)
    if settings.retry.initial > settings.retry.max:
        yield "retry.initial", "must not be longer than `retry.max`"


def _login_clashes(settings: Settings) -> Iterator[Problem]:
    kafka, keycloak = settings.kafka, settings.keycloak
    if kafka.sasl_mechanism == "OAUTHBEARER":
        for key in ("sasl_username", "sasl_password"):
            if getattr(kafka, key):
                yield f"kafka.{key}", "must not be given with OAUTHBEARER: a token is all it takes"
        if not keycloak.realm:
            yield "keycloak.realm", "is needed by OAUTHBEARER: the realm issues the tokens"
        if not keycloak.authenticates:
            yield (
                "keycloak.client_secret",
                "is needed by OAUTHBEARER, or another way to authenticate: the bridge's client gets the tokens",
            )
        return
    for key in ("sasl_mechanism", "sasl_username", "sasl_password"):
        if not getattr(kafka, key):
            yield (
                f"kafka.{key}",
                f'is needed by security_protocol = "{kafka.security_protocol}"',
            )


def is_loopback(host: str) -> bool:
    """Say whether what listens on `host` is for callers on this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ui_clashes(settings: Settings) -> Iterator[Problem]:
    health, ui = settings.health, settings.ui
    if not ui.enabled:
        return
    if not health.enabled:
        yield "ui.enabled", "needs `health.enabled`: the health server serves the page"
    elif ui.token is None and not is_loopback(health.host):
        yield (
            "ui.token",
            f"is needed, or `ui.token_file`, since `health.host` ({health.host}) is not a loopback address",
        )


def _keycloak_clashes(settings: Settings) -> Iterator[Problem]:
    keycloak = settings.keycloak
    given = [
        key
        for key in ("client_secret", "client_key", "client_assertion")
        if getattr(keycloak, key) is not None
    ]
    for key in given[1:]:
        yield f"keycloak.{key}", f"must not be given with `keycloak.{given[0]}`"
    if keycloak.client_key_id and keycloak.client_key is None:
        yield "keycloak.client_key_id", "needs `keycloak.client_key_file`"
    if keycloak.tls_key_file and not keycloak.tls_cert_file:
        yield "keycloak.tls_key_file", "needs `keycloak.tls_cert_file`"
    if keycloak.tls_cert_file and not keycloak.url.startswith("https:"):
        yield "keycloak.tls_cert_file", "needs an https address in `keycloak.url`"


def _type_clashes(settings: Settings) -> Iterator[Problem]:
    """Yield which names of [envelope.types] would have each such event become a dead letter."""
    known = (*USER_EVENTS, *settings.events.ignore_types)
    for theirs, ours in settings.envelope.types.items():
        if ours not in known:
            hint = suggestion(ours, known) or f"; known: {', '.join(USER_EVENTS)}"
            yield (
                "envelope.types",
                f"'{theirs}': '{ours}' is no type of event that the bridge maps, nor in `events.ignore_types`{hint}",
            )


def _registry_clashes(settings: Settings) -> Iterator[Problem]:
    registry = settings.registry
    if registry.username and not registry.password:
        yield "registry.password", "is needed by `registry.username`"
    if registry.password and not registry.username:
        yield "registry.username", "is needed by `registry.password`"
    if registry.username and registry.token:
        yield "registry.token", "must not be given with `registry.username`"
    for key in ("username", "password", "token", "ca_file"):
        if getattr(registry, key) and not registry.url:
            yield f"registry.{key}", "needs `registry.url`"
            break
