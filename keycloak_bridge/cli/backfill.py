"""`keycloak-bridge backfill`: the users of files into the realm, by the thousand."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keycloak_bridge.cli.backfill_task import Task
from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.moments import moment
from keycloak_bridge.cli.output_format import format_option
from keycloak_bridge.core.durations import parse_duration
from keycloak_bridge.core.model import USER_CREATED

if TYPE_CHECKING:
    from keycloak_bridge.settings import Settings


def _columns(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    named = {}
    for text in texts:
        header, equals, name = text.rpartition("=")
        if not equals or not header.strip():
            raise click.BadParameter("write HEADER=PROPERTY, or HEADER= to leave a column out")
        named[header.strip()] = name.strip()
    return named


def _as_of(
    _ctx: click.Context, _param: click.Parameter, text: str | None
) -> tuple[datetime, bool] | None:
    """Return the time, and whether it was told as an age, which names another one each time."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        parse_duration(text)
        return moment(text), True
    return moment(text), False


@click.command(
    epilog=examples(
        "keycloak-bridge backfill --dry-run users.csv",
        "keycloak-bridge backfill --column 'E-Mail=email' --as-of 2026-11-06T18:00:00Z users.csv.gz",
        "export-users | keycloak-bridge backfill --as-of '5 minutes' -",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--type", "event_type", help=f"What rows, and objects that are no events, are the data of.  [default: {USER_CREATED}]")  # fmt: skip
@click.option("--as-of", callback=_as_of, metavar="TIME", help="Of when these are, ISO 8601 or an age: what changed later is left as it is. Else when each file was written.")  # fmt: skip
@click.option("--column", "columns", multiple=True, callback=_columns, metavar="HEADER=PROPERTY", help="Which property a column of a CSV file is, where they differ in name; may be repeated. Nothing behind = leaves it out.")  # fmt: skip
@click.option("--delimiter", default=",", show_default=True, help="What separates the cells of a CSV file.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would become of the users; write nothing at all.")  # fmt: skip
@click.option("--invite/--no-invite", default=False, show_default=True, help="Mail the invitations that are due, within invite.pace.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where it is noted how far this is. Else the first FILE with .backfill.json behind its name.")  # fmt: skip
@click.option("--rejects", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER", help="Where the refused lines go. Else beside their files.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin anew, whatever the journal says.")
@click.option("--quiet", is_flag=True, help="Do not show how far it is.")
@format_option("the summary as one object")
@settings_options
@pass_invocation
def backfill(
    invocation: Invocation,
    files: tuple[str, ...],
    event_type: str | None,
    as_of: tuple[datetime, bool] | None,
    columns: Mapping[str, str],
    delimiter: str,
    dry_run: bool,
    invite: bool,
    journal: Path | None,
    rejects: Path | None,
    restart: bool,
    quiet: bool,
    output: str,
) -> int:
    """Bring the users of files into the realm: a whole population, or any number of events.

    A FILE holds CloudEvents or the data of users, one a line (NDJSON) or as a JSON array, or is a CSV file with a
    header (columns are named as the properties of the data, attributes.costCenter for one within another; lists are
    a;b). It may be packed with gzip; - is standard input. Everything is checked, mapped and written as `run` does it,
    under the same limits and the same brake; no Kafka is needed, and no mail is sent without --invite.

    It can be ended and killed at any moment: the same command goes on with what is left. What was refused stands in
    FILE.rejects.csv or FILE.rejects.ndjson, as it was, to be mended and fed again; the reasons are beside it.

    Exit code 1 when something was refused, 3 when it was stopped before the end.
    """
    if len(delimiter) != 1:
        raise click.UsageError("--delimiter is one character")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    settings = _settings(invocation, invite=invite)
    time, is_age = as_of or (None, False)
    kind = event_type or USER_CREATED
    task = Task(kind, time, is_age, columns, delimiter, journal, rejects, restart)
    # kafka-python, requests and JSON Schema take their time
    from keycloak_bridge.backfill import has_own_envelope  # noqa: PLC0415
    from keycloak_bridge.cli.backfill_run import BackfillRun  # noqa: PLC0415

    enveloped = has_own_envelope(settings) and event_type is None
    opened = BackfillRun(settings, task, files, Console(), output, enveloped=enveloped)
    with opened as run:
        if dry_run:
            return run.forecast(quiet=quiet)
        return run.execute(mails=invite, quiet=quiet)


def _settings(invocation: Invocation, *, invite: bool) -> "Settings":
    # a line an event is too much for a terminal, unless it was asked for
    invocation = replace(invocation, overrides=("log.level=WARNING", *invocation.overrides))
    # a mail that waits for its pace would hold up its whole batch
    invocation = invocation.overriding("burst.mode=off" if invite else "invite.mode=none")
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))
    if invite and settings.invite.mode == "none":
        raise click.UsageError("--invite needs a bridge that invites: invite.mode is none")
    return settings
