"""Before anything runs: `init` writes settings, `check-config` checks them, `doctor` checks everything that is needed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.app.connections import connection_problems, keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.mapping_files import default_mapping_text
from keycloak_bridge.app.realm_check import realm_problems
from keycloak_bridge.cli.common import (
    CONFIGURATION,
    Invocation,
    bridge_command,
    examples,
    format_option,
    report,
)
from keycloak_bridge.cli.console import Console, cell
from keycloak_bridge.diagnostics.doctor import check_up
from keycloak_bridge.diagnostics.probes import Light
from keycloak_bridge.domain.errors import BridgeError, ConfigError, KeycloakError
from keycloak_bridge.domain.times import format_duration
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.private_files import PRIVATE, PUBLIC, replace_file
from keycloak_bridge.planning.ownership import administering
from keycloak_bridge.settings.fields import Secret, Setting
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS, LoadedSettings
from keycloak_bridge.settings.schema import sample_toml, settings_by_name

SETTINGS_FILE = "bridge.toml"
MAPPING_FILE = "mapping.toml"
UNWELL = 1
_LIGHTS = (Light.GREEN, Light.YELLOW, Light.RED, Light.GRAY)
_ANY_GROUP = (
    "user.groups: an event may join any group of the realm; name those meant in user.groups.allow"
)


@bridge_command(
    "keycloak-bridge check-config",
    "keycloak-bridge check-config --config bridge.toml --against-realm",
    name="check-config",
)
@click.option(
    "--against-realm", is_flag=True, help="Ask Keycloak too: access, roles, user profile."
)
def check_config(invocation: Invocation, against_realm: bool) -> int:
    """Check settings, schemas and mapping, and show what is in force.

    All problems are reported at once, each with its remedy, on standard error. Secrets are never shown. Exit code: 0 all
    is well, 2 something is wrong.
    """
    loaded = invocation.load(KEYCLOAK_ACCESS if against_realm else ())
    interpretation = Interpretation(loaded.settings)
    console = Console()
    _print_settings(console, loaded)
    problems: list[BridgeError] = []
    if loaded.problems:
        remedy = "correct each where it is named; `keycloak-bridge init` writes a file that explains every setting"
        problems.append(ConfigError("\n".join(loaded.problems), code="settings", remedy=remedy))
    problems += _content_problems(interpretation, console)
    problems += connection_problems(loaded.settings)
    if not problems:
        interpretation.check()  # the same as `run` does
    if against_realm and not problems:
        problems += _realm_problems(interpretation, console)
    for problem in problems:
        report(problem)
    if not problems:
        console.line("all is well", "green")
    return CONFIGURATION if problems else 0


def _print_settings(console: Console, loaded: LoadedSettings) -> None:
    source = "no settings file" if loaded.file is None else f"settings file {loaded.file}"
    console.line(f"{source}; what differs from the defaults:")
    rows = []
    for name, origin in sorted(loaded.origins.items()):
        section, _, key = name.partition(".")
        value = getattr(getattr(loaded.settings, section), key)
        rows.append((name, _shown(value, settings_by_name()[name], loaded.given.get(name)), origin))
    console.table(("SETTING", "VALUE", "FROM"), rows)
    console.line()


def _shown(value: Any, setting: Setting, given: Any) -> str:
    """Return a value for people, as it was `given` where Python has it in another unit; of a secret only where it is kept."""
    if isinstance(value, Secret):
        return f"{value} (in {value.path})" if value.path else str(value)
    if setting.kind.name == "duration":
        return format_duration(value)
    if setting.kind.name in {"limit", "pace", "age"}:
        return cell(given)
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return cell(value)


def _content_problems(interpretation: Interpretation, console: Console) -> Iterator[BridgeError]:
    """Yield what is wrong with schemas, envelope and mapping; print what was found where nothing is."""
    broken = False
    try:
        console.line(f"schemas: {len(interpretation.catalog.documents)} schemas")
    except ConfigError as error:
        broken = True
        yield error
    try:
        custom = interpretation.rules.custom
        by = f"{', '.join(custom.expressions)} by expression" if custom else "CloudEvents"
        console.line(f"envelope: {by}")
    except ConfigError as error:
        yield error
    if broken:
        return  # without schemas the paths of the mapping cannot be checked
    try:
        mapping = interpretation.mapping
    except ConfigError as error:
        yield error
        return
    file = interpretation.settings.mapping.file or "the shipped one"
    console.line(f"mapping: {file}, attributes {', '.join(mapping.attribute_names)}")
    for warning in interpretation.warnings:
        _warn(console, warning.message)
        console.line(f"fix:   {warning.remedy}")
    if mapping.accepts_every_group:
        _warn(console, _ANY_GROUP)
    for kind in administering(rule for one in mapping.all for rule in one.rules.memberships):
        _warn(console, f"user.{kind}: an event may make its user an administrator of the realm")


def _realm_problems(interpretation: Interpretation, console: Console) -> Iterator[BridgeError]:
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
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(folder: Path, force: bool) -> None:
    """Write bridge.toml and mapping.toml to start from, with every setting explained.

    Existing files are not overwritten without --force. Only you can read bridge.toml, which may hold secrets.
    """
    settings = {"keycloak.realm": "acme", "mapping.file": MAPPING_FILE}
    written = {
        folder / MAPPING_FILE: default_mapping_text(),
        folder / SETTINGS_FILE: sample_toml(settings),
    }
    present = [str(path) for path in written if os.path.lexists(path)]
    if present and not force:
        raise ConfigError(
            f"{' and '.join(present)}: exists already",
            remedy="Name another folder, or overwrite with --force.",
        )
    console = Console()
    for path, text in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = PRIVATE if path.name == SETTINGS_FILE else PUBLIC
            replace_file(path, text.encode(), mode=mode)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written: {error.strerror}",
                remedy="Name a folder that this user may write to.",
            ) from error
        console.line(f"wrote {path}")
    console.line(
        f"Next: set [keycloak] and [kafka] in {folder / SETTINGS_FILE}, then\n"
        f"  keycloak-bridge check-config --config {folder / SETTINGS_FILE}"
    )


@bridge_command(
    "keycloak-bridge doctor",
    "keycloak-bridge doctor --config bridge.toml --format json",
    "keycloak-bridge doctor --send-test-mail you@example.com",
)
@format_option("one object with all findings")
@click.option(
    "--send-test-mail",
    "address",
    metavar="ADDRESS",
    help="Have Keycloak mail a link to this address, with a user that is deleted at once.",
)
def doctor(invocation: Invocation, output: str, address: str | None) -> int:
    """Check settings, Kafka, Keycloak and the realm, and report what is wrong and how to fix it.

    Nothing is changed, and one failure does not hide the others. Green is good, yellow works with a risk, red does not
    work, gray could not be checked or is not used. Secrets are never shown. Exit code: 0 nothing is red, 1 something is.
    """
    console = Console()
    counts = dict.fromkeys(map(str, _LIGHTS), 0)
    findings = []
    for result in check_up(invocation.load(), test_mail=address):
        counts[result.light] += 1
        findings.append(
            {
                "probe": result.probe,
                "light": str(result.light),
                "subject": result.subject,
                "message": result.message,
                "remedy": result.remedy,
            }
        )
        if output == "text":
            style = "dim" if result.light is Light.GRAY else str(result.light)
            _print_lines(console, f"{result.light:<7}{result.probe}", result.message, style)
            if result.remedy is not None:
                _print_lines(console, "", f"fix: {result.remedy}")
    if output == "json":
        console.json({"healthy": not counts["red"], "counts": counts, "findings": findings})
    else:
        console.line()
        console.line(", ".join(f"{count} {light}" for light, count in counts.items()))
    return UNWELL if counts["red"] else 0


def _print_lines(console: Console, name: str, text: str, style: str | None = None) -> None:
    first, *others = text.splitlines() or [""]
    rows = [(name, first), *(("", one) for one in others)]
    console.facts([(f"{one:<28}", line) for one, line in rows], indent=0, style=style)
