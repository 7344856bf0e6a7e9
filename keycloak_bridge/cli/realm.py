"""`keycloak-bridge realm`: make an existing realm ready for the bridge, as its administrator."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import needs_of, problems_left
from keycloak_bridge.cli.common import (
    CHANGES,
    STOPPED,
    Command,
    Invocation,
    bridge_command,
    format_option,
)
from keycloak_bridge.cli.console import Console, cell
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.keycloak.access import keycloak_http
from keycloak_bridge.keycloak.calls import EVENTS_ROLE, IMPORT_ROLE, REALM_ROLE, USERS_ROLE
from keycloak_bridge.ops import redaction
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.realm.administration import (
    MASTER,
    Administrator,
    AdministratorTokens,
    RealmAdministration,
)
from keycloak_bridge.realm.export import FORMATS, REALM_JSON, exported, keycloak_defaults
from keycloak_bridge.realm.needs import RealmNeeds
from keycloak_bridge.realm.plan import Change, Note, RealmPlan, plan_realm
from keycloak_bridge.settings.fields import Secret

PASSWORD_VARIABLE = "KC_CLI_PASSWORD"  # noqa: S105  (kcadm.sh reads the same one)
SECRET_VARIABLE = "KC_CLI_CLIENT_SECRET"  # noqa: S105


@click.group()
def realm() -> None:
    """Make an existing realm ready for the bridge, as its administrator.

    The administrator's password is asked for, or read from KC_CLI_PASSWORD (with --client from KC_CLI_CLIENT_SECRET) or
    --password-file. It is stored nowhere.
    """


def _realm_options(command: Command) -> Command:
    """Give a command the options for the administrator, and for what is optional in a realm."""
    for option in reversed(
        (
            click.option(
                "--user", default="admin", show_default=True, help="Administrator to log in as."
            ),
            click.option("--client", metavar="ID", help="Log in as this client's service account."),
            click.option(
                "--user-realm", default=MASTER, show_default=True, help="Realm to log in to."
            ),
            click.option(
                "--password-file",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                metavar="FILE",
                help="File with the administrator's password, or the secret of --client.",
            ),
            *_NEEDS_OPTIONS,
            click.option(
                "--exact",
                is_flag=True,
                help="Take away what the client has and the bridge does not need.",
            ),
        )
    ):
        command = option(command)
    return command


_NEEDS_OPTIONS = (
    click.option(
        "--with",
        "added",
        multiple=True,
        type=click.Choice([IMPORT_ROLE]),
        help="Also give this role; for batches.",
    ),
    click.option(
        "--without",
        "left_out",
        multiple=True,
        type=click.Choice([EVENTS_ROLE, REALM_ROLE, USERS_ROLE]),
        help="Leave this role out; view-users takes the place of manage-users.",
    ),
    click.option(
        "--locale",
        "locales",
        multiple=True,
        metavar="TAG",
        help="Language of a realm that has none yet; may be repeated.",
    ),
)


class _Session:
    """One realm, its administrator, and what the settings need of it."""

    def __init__(self, invocation: Invocation, **options: Any) -> None:
        self.interpretation = Interpretation(invocation.settings(("keycloak.realm",)))
        self._exact = options.pop("exact")
        self.needs: RealmNeeds = needs_of(
            self.interpretation,
            **{name: options.pop(name) for name in ("added", "left_out", "locales")},
        )
        secret = self.interpretation.settings.keycloak.client_secret
        self.client_secret = None if secret is None else secret.reveal()
        http = keycloak_http(self.interpretation.settings.keycloak)
        self.keycloak = RealmAdministration(
            http, AdministratorTokens(http, _administrator(**options), SystemClock())
        )

    def plan(self) -> RealmPlan:
        """Ask Keycloak for the realm, and return the difference."""
        state = self.keycloak.state(self.needs)
        plan = plan_realm(self.needs, state, exact=self._exact, secret=self.client_secret)
        left = problems_left(self.interpretation, plan, state.realm)
        return plan.with_notes(Note(one.message, one.remedy) for one in left)


@contextlib.contextmanager
def _session(invocation: Invocation, **options: Any) -> Iterator[_Session]:
    session = _Session(invocation, **options)
    try:
        yield session
    finally:
        session.keycloak.close()


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _administrator(
    user: str, client: str | None, user_realm: str, password_file: Path | None
) -> Administrator:
    what = f"secret of the client {client}" if client else f"password of {user}"
    variable = SECRET_VARIABLE if client else PASSWORD_VARIABLE
    secret = os.environ.get(variable, "")
    if password_file is not None:
        secret = Secret(path=password_file).reveal()
    if not secret:
        if not _is_terminal():
            raise ConfigError(
                f"the {what} is not given, and cannot be asked for: standard input is not a terminal",
                remedy=f"set {variable}, or name a file with --password-file",
            )
        secret = click.prompt(what[0].upper() + what[1:], hide_input=True, err=True)
    redaction.shared.add(secret)
    return Administrator(secret, user, client, user_realm)


@bridge_command(
    "keycloak-bridge realm plan",
    "keycloak-bridge realm plan --user-realm acme --user ada --format json",
    group=realm,
)
@_realm_options
@format_option("one object with the steps and the notes")
@click.option(
    "--exit-code",
    "detailed_exit_code",
    is_flag=True,
    help="Exit code 4 when something would be written.",
)
def plan(invocation: Invocation, output: str, detailed_exit_code: bool, **options: Any) -> int:
    """Compare the realm with what settings and mapping need, and print the difference; nothing is changed.

    Compared are the client with its roles and their scope, the user profile, languages, events, required actions, and the
    roles and groups that the mapping allows. What only the realm's owner can do, such as the mail server, is named too.
    """
    with _session(invocation, **options) as session:
        found = session.plan()
    if output == "json":
        Console().json(_as_json(session.needs, found))
    else:
        _print_plan(Console(), session, found)
        if found.steps:
            Console().line("`keycloak-bridge realm apply` writes this.")
    return CHANGES if detailed_exit_code and found.steps else 0


@bridge_command(
    "keycloak-bridge realm apply",
    "KC_CLI_PASSWORD=… keycloak-bridge realm apply --yes",
    name="apply",
    group=realm,
)
@_realm_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply_plan(invocation: Invocation, yes: bool, **options: Any) -> int:
    """Write what `realm plan` prints, after a question, and nothing else.

    A realm that changed since the question is not written to. Applying again writes nothing. Exit code 3 when Keycloak did
    not keep what was written.
    """
    if not (yes or _is_terminal()):
        raise click.UsageError("Standard input is not a terminal, so this cannot be confirmed; add --yes.")  # fmt: skip
    console = Console()
    with _session(invocation, **options) as session:
        found = session.plan()
        _print_plan(console, session, found)
        if not found.steps:
            return 0
        if not (yes or click.confirm("Write this?", err=True)):
            console.line("nothing was written")
            return 0
        if not yes and session.plan().steps != found.steps:
            raise ConfigError(
                "the realm has changed meanwhile; nothing was written",
                remedy="run `keycloak-bridge realm apply` again",
            )
        done = session.keycloak.carry_out(session.needs, found.steps, session.client_secret)
        for step in done:
            console.line(f"done: {step.page}", "green")
        left = session.plan()
    if left.steps:
        console.line("Keycloak did not keep all of it; what is still different:", "red")
        _print_steps(console, left)
        return STOPPED
    console.line("The realm has what the bridge needs; `keycloak-bridge doctor` checks the rest.")
    return 0


@bridge_command(
    "keycloak-bridge realm export --format terraform > keycloak-bridge.tf",
    "keycloak-bridge realm export --format kcadm --against-realm > commands.sh",
    group=realm,
)
@click.option(
    "--format",
    "output",
    type=click.Choice(FORMATS),
    default=REALM_JSON,
    show_default=True,
    help="RealmRepresentation for Keycloak's import; keycloak-config-cli; Terraform's provider; a script for kcadm.sh.",
)
@click.option(
    "--against-realm",
    is_flag=True,
    help="Extend the realm as it is, as its administrator, instead of one with Keycloak's defaults.",
)
@_realm_options
def export(invocation: Invocation, output: str, against_realm: bool, **options: Any) -> None:
    """Print what `realm apply` would write, for realms that live in a repository.

    Without --against-realm nothing is asked of Keycloak. Secrets are not printed: the text names the variable
    KEYCLOAK_BRIDGE_CLIENT_SECRET. The user profile is always replaced as a whole, so use --against-realm for a realm that
    has attributes of its own.
    """
    if against_realm:
        with _session(invocation, **options) as session:
            needs, state = session.needs, session.keycloak.state(session.needs)
    else:
        interpretation = Interpretation(invocation.settings(("keycloak.realm",)))
        chosen = {name: options[name] for name in ("added", "left_out", "locales")}
        needs = needs_of(interpretation, **chosen)
        state = keycloak_defaults(needs)
    click.echo(exported(needs, state, output), nl=False)


def _print_plan(console: Console, session: _Session, found: RealmPlan) -> None:
    keycloak = session.interpretation.settings.keycloak
    console.line(f"realm {keycloak.realm} at {keycloak.url}", "bold")
    _print_steps(console, found)
    if not found.steps:
        console.line("It has what the bridge needs; there is nothing to write.", "green")
    if found.notes:
        console.line()
        console.line("For the realm's owner:", "yellow")
        for note in found.notes:
            console.line(f"  {note.message}")
            console.line(f"    fix: {note.remedy}")
    console.line()


def _print_steps(console: Console, found: RealmPlan) -> None:
    for step in found.steps:
        console.line()
        console.line(step.page, "bold")
        for change in step.changes:
            console.line(f"  {_sentence(change)}", "green" if change.now is None else "yellow")


def _sentence(change: Change) -> str:
    if change.then is None:
        return f"- {change.setting}: {cell(change.now)}"
    if change.now is None:
        return f"+ {change.setting}: {cell(change.then)}"
    return f"~ {change.setting}: {cell(change.now)} → {cell(change.then)}"


def _as_json(needs: RealmNeeds, found: RealmPlan) -> dict[str, Any]:
    return {
        "realm": needs.realm,
        "steps": [
            {
                "page": step.page,
                "changes": [
                    {"setting": one.setting, "now": one.now, "then": one.then}
                    for one in step.changes
                ],
            }
            for step in found.steps
        ],
        "notes": [{"message": one.message, "remedy": one.remedy} for one in found.notes],
    }
