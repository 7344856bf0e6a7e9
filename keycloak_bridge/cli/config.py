"""`keycloak-bridge check-config` and `init`: settings, schemas and mapping before anything runs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.app.bridge import realm_problems
from keycloak_bridge.app.connections import SystemClock, keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.mapping_files import default_mapping_text
from keycloak_bridge.cli.common import (
    CONFIGURATION,
    Invocation,
    examples,
    pass_invocation,
    report,
    settings_options,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import BridgeError, ConfigError, KeycloakError
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.planning.ownership import administering
from keycloak_bridge.settings import (
    KEYCLOAK_ACCESS,
    LoadedSettings,
    Secret,
    Setting,
    sample_toml,
    settings_by_name,
)

SETTINGS_FILE = "bridge.toml"
MAPPING_FILE = "mapping.toml"
_ANY_GROUP = (
    "user.groups: an event may join any group of the realm; name those meant in user.groups.allow"
)


@click.command(
    "check-config",
    epilog=examples(
        "keycloak-bridge check-config",
        "keycloak-bridge check-config --config bridge.toml --against-realm",
    ),
)
@click.option(
    "--against-realm", is_flag=True, help="Ask Keycloak too: access, roles, user profile."
)
@settings_options
@pass_invocation
def check_config(invocation: Invocation, against_realm: bool) -> int:
    """Check settings, schemas and mapping, and show what is in force.

    Every problem is told at once, with its remedy, on standard error. Secrets are never shown. Exit code: 0 all is well, 2
    something is wrong.
    """
    loaded = invocation.load(KEYCLOAK_ACCESS if against_realm else ())
    interpretation = Interpretation(loaded.settings)
    console = Console()
    _show_settings(console, loaded)
    problems = [*_setting_problems(loaded), *_content_problems(interpretation, console)]
    if against_realm and not problems:
        problems += _live_problems(interpretation, console)
    for problem in problems:
        report(problem)
    if not problems:
        console.line("all is well", "green")
    return CONFIGURATION if problems else 0


def _show_settings(console: Console, loaded: LoadedSettings) -> None:
    source = "no settings file" if loaded.file is None else f"settings file {loaded.file}"
    console.line(f"{source}; what differs from the defaults:")
    rows = [
        (target, _shown(_of(loaded, target), settings_by_name()[target]), origin)
        for target, origin in sorted(loaded.origins.items())
    ]
    console.table(("SETTING", "VALUE", "FROM"), rows)
    console.line()


def _of(loaded: LoadedSettings, target: str) -> Any:
    section, _, key = target.partition(".")
    return getattr(getattr(loaded.settings, section), key)


def _shown(value: Any, setting: Setting) -> str:
    """Return a value for people; a secret only says where it is kept."""
    if isinstance(value, Secret):
        return f"{value} (in {value.path})" if value.path else str(value)
    if setting.kind.name == "duration":
        return format_duration(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _setting_problems(loaded: LoadedSettings) -> Iterator[BridgeError]:
    if loaded.problems:
        yield ConfigError(
            "\n".join(loaded.problems),
            code="settings",
            remedy="correct each where it is named; `keycloak-bridge init` writes a file that "
            "explains every setting",
        )


def _content_problems(interpretation: Interpretation, console: Console) -> Iterator[BridgeError]:
    """Yield what is wrong with schemas, envelope and mapping; say what was found where all is well."""
    mapping_file = interpretation.settings.mapping.file or "the shipped one"
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("schemas", lambda: f"{len(interpretation.catalog.entries())} schemas"),
        ("envelope", lambda: _envelope(interpretation)),
        ("mapping", lambda: f"{mapping_file}, {_attributes(interpretation)}"),
    )
    broken: set[str] = set()
    for name, look in steps:
        if name == "mapping" and "schemas" in broken:
            continue  # its paths cannot be checked without them
        try:
            console.line(f"{name}: {look()}")
        except ConfigError as error:
            broken.add(name)
            yield error
    if broken <= {"envelope"} and interpretation.mapping.accepts_every_group:
        _warn(console, _ANY_GROUP)
    for kind in _administering(interpretation) if broken <= {"envelope"} else ():
        _warn(console, f"user.{kind}: an event may make its user an administrator of the realm")


def _administering(interpretation: Interpretation) -> tuple[str, ...]:
    mappings = interpretation.mapping.all
    return administering(rule for one in mappings for rule in one.rules.memberships)


def _envelope(interpretation: Interpretation) -> str:
    custom = interpretation.rules.custom
    return f"{', '.join(custom.expressions)} by expression" if custom else "CloudEvents"


def _attributes(interpretation: Interpretation) -> str:
    return f"attributes {', '.join(interpretation.mapping.attribute_names)}"


def _live_problems(interpretation: Interpretation, console: Console) -> Iterator[BridgeError]:
    """Yield what keeps the bridge from writing to the realm."""
    keycloak = interpretation.settings.keycloak
    admin = keycloak_admin(interpretation.settings, SystemClock())
    try:
        found = realm_problems(interpretation, admin)
    except KeycloakError as error:
        where = f"asked at keycloak.url = {keycloak.url}"
        yield ConfigError(f"{error.message}; {where}", code=error.code, remedy=error.remedy)
        return
    except BridgeError as error:
        yield error
        return
    finally:
        admin.close()
    for problem in found:
        if problem.severity == "error":
            yield ConfigError(problem.message, code=problem.code, remedy=problem.remedy)
        else:
            _warn(console, problem.message)
            console.line(f"fix:   {problem.remedy}")
    if not found:
        console.line(f"realm: {keycloak.realm} is ready")


def _warn(console: Console, sentence: str) -> None:
    console.line(f"warning: {sentence}", "yellow")


@click.command(epilog=examples("keycloak-bridge init", "keycloak-bridge init bridge"))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def init(folder: Path, force: bool) -> None:
    """Write bridge.toml and mapping.toml to start from, with every setting explained.

    Nothing that exists is overwritten without --force.
    """
    settings_text = sample_toml({"keycloak.realm": "acme", "mapping.file": MAPPING_FILE})
    written = {
        folder / MAPPING_FILE: default_mapping_text(),
        folder / SETTINGS_FILE: settings_text,
    }
    present = [str(path) for path in written if path.exists()]
    if present and not force:
        raise ConfigError(
            f"{' and '.join(present)}: exists already",
            remedy="Name another folder, or overwrite with --force.",
        )
    console = Console()
    for path, text in written.items():
        _write(path, text)
        console.line(f"wrote {path}")
    console.line(
        f"Next: set [keycloak] and [kafka] in {folder / SETTINGS_FILE}, then\n"
        f"  keycloak-bridge check-config --config {folder / SETTINGS_FILE}"
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}",
            remedy="Name a folder that this user may write to.",
        ) from error
