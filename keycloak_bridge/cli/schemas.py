"""`keycloak-bridge schemas`: which schemas are known, what they say, and whether they stay compatible.

`keycloak-bridge schemas check`: are new versions of schemas compatible, and published ones unchanged?
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from keycloak_bridge.app.schema_files import (
    load_documents,
    load_schemas,
    read_published,
    write_published,
)
from keycloak_bridge.cli.common import (
    Invocation,
    examples,
    format_option,
    pass_invocation,
    settings_options,
)
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import ConfigError, UnknownSchemaError
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.compatibility import (
    compare_versions,
    publication_problems,
    unpublished,
    version_name,
)
from keycloak_bridge.validation.schema_checks import SchemaDocument

INCOMPATIBLE = 1
_UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `older` is the version that was compared with."""

    file: str
    pointer: str
    code: str
    message: str
    breaking: bool
    older: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.pointer}" if self.pointer else self.file
        against = f" (against {self.older})" if self.older else ""
        return f"{where}: {self.message}{against} [{self.code}]"


@click.command(
    epilog=examples(
        "keycloak-bridge schemas check",
        "keycloak-bridge schemas check my-schemas",
        "keycloak-bridge schemas check my-schemas --published published.json --record",
    )
)
@click.argument(
    "folders",
    metavar="[FOLDER]...",
    nargs=-1,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--published",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Hold the versions that FILE records to be unchanged; those of the folders, else the shipped.",
)
@click.option("--record", is_flag=True, help="Add the new versions to FILE when all is well.")
@click.option(
    "--strict",
    is_flag=True,
    help="Count a new optional property as breaking where any was allowed.",
)
@format_option("one object")
@settings_options
@pass_invocation
def check(
    invocation: Invocation,
    folders: tuple[Path, ...],
    published: Path | None,
    record: bool,
    strict: bool,
    output: str,
) -> int:
    """Prove that new minor versions take whatever earlier ones took.

    Compares each minor version in each FOLDER (else in schemas.folders, else the shipped ones) with every earlier one of
    its major version, shipped or not. What cannot be proven counts as incompatible. Data that was written under the older
    version stays valid, so those who read are upgraded first.

    Exit code: 0 compatible and unchanged, 1 not, 2 wrong usage, or a broken schema.
    """
    if record and published is None:
        raise click.UsageError("--record needs --published FILE")
    settings = invocation.settings()
    wanted = folders or settings.schemas.folders
    documents = load_documents(wanted)
    mine = _own(documents) if wanted else documents
    findings = _compatibility(documents, mine, strict=strict)
    recorded: dict[str, str] = {}
    if published is not None:
        known = {} if record and not published.exists() else read_published(published)
        findings += _publication(mine, known, record=record)
        if record and not _failed(findings):
            recorded = unpublished(mine, known)
            write_published(published, {**known, **recorded})
    if output == "json":
        _print_json(documents, findings, recorded)
    else:
        _print_text(documents, findings, recorded)
    return INCOMPATIBLE if _failed(findings) else 0


def _failed(findings: Sequence[Finding]) -> bool:
    return any(finding.breaking for finding in findings)


def _compatibility(
    documents: Sequence[SchemaDocument], mine: Sequence[SchemaDocument], *, strict: bool
) -> list[Finding]:
    """Return what is to be said of the new versions among `mine`, compared with all earlier ones."""
    own = {document.id for document in mine}
    return [
        Finding(
            file=comparison.new.origin,
            pointer=change.pointer or "/",
            code=change.code,
            message=change.message,
            breaking=change.breaking,
            older="{}.{}".format(*comparison.old.version),
        )
        for comparison in compare_versions(documents, strict=strict)
        if comparison.new.id in own
        for change in comparison.changes
    ]


def _own(documents: Sequence[SchemaDocument]) -> Sequence[SchemaDocument]:
    """Return those that did not come with the bridge."""
    shipped = {document.id for document in load_documents()}
    return [one for one in documents if one.id not in shipped]


def _publication(
    documents: Sequence[SchemaDocument], published: dict[str, str], *, record: bool
) -> list[Finding]:
    problems = [
        Finding(problem.file, "", problem.code, problem.message, breaking=True)
        for problem in publication_problems(documents, published)
    ]
    if record:
        return problems
    new = unpublished(documents, published)
    message = "is not recorded as published; --record adds it"
    return problems + [
        Finding(one.origin, "", _UNRECORDED, message, breaking=False)
        for one in documents
        if version_name(one) in new
    ]


def _print_text(
    documents: Sequence[SchemaDocument], findings: Sequence[Finding], recorded: dict[str, str]
) -> None:
    console = Console()
    for finding in findings:
        label, style = ("error", "red") if finding.breaking else ("note", "yellow")
        console.line(f"{label}: {finding}", style)
    codes = {finding.code for finding in findings if finding.breaking}
    if any(finding.breaking and finding.older for finding in findings):
        console.line(
            "fix:  take the change back, or publish it as the first version of a new major version"
        )
    if codes & {"published-changed", "published-removed"}:
        console.line("fix:  restore the published file, and make a new version of the change")
    for name in recorded:
        console.line(f"recorded {name}")
    count = f"{len(documents)} schema{'' if len(documents) == 1 else 's'}"
    if _failed(findings):
        console.line(f"{count}: not compatible, or not what was published", "red")
    else:
        console.line(
            f"{count}: sound, and every minor version takes what earlier ones took", "green"
        )


def _print_json(
    documents: Sequence[SchemaDocument], findings: Sequence[Finding], recorded: dict[str, str]
) -> None:
    Console().json(
        {
            "ok": not _failed(findings),
            "schemas": len(documents),
            "findings": [asdict(finding) for finding in findings],
            "recorded": list(recorded),
        }
    )


_VERSION = re.compile(r"[0-9]+\.[0-9]+")


@click.group(
    epilog=examples("keycloak-bridge schemas list", "keycloak-bridge schemas show user.created")
)
def schemas() -> None:
    """List, show and check the schemas of events, the shipped ones and your own."""


@schemas.command(
    "list", epilog=examples("keycloak-bridge schemas list --set schemas.folders=my-schemas")
)
@settings_options
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List every schema that is known."""
    entries = _catalog(invocation).entries()
    rows = [(one.type, one.version, one.id, one.origin) for one in entries]
    Console().table(("TYPE", "VERSION", "ID", "FROM"), rows)


@schemas.command(
    epilog=examples(
        "keycloak-bridge schemas show user.created",
        "keycloak-bridge schemas show user.created/1.0",
        "keycloak-bridge schemas show urn:keycloak-bridge:schema:user.created:1.0",
    )
)
@click.argument("schema")
@settings_options
@pass_invocation
def show(invocation: Invocation, schema: str) -> None:
    """Print a schema: the newest of a type, TYPE/VERSION, or by its id."""
    catalog = _catalog(invocation)
    try:
        document = catalog.document(_id_of(catalog, schema))
    except UnknownSchemaError as error:
        raise ConfigError(
            error.message,
            code=error.code,
            remedy="`keycloak-bridge schemas list` shows all; schemas.folders adds your own.",
        ) from error
    Console().json(document)


def _catalog(invocation: Invocation) -> SchemaCatalog:
    return load_schemas(invocation.settings().schemas.folders)


def _id_of(catalog: SchemaCatalog, schema: str) -> str:
    """Turn TYPE/VERSION into an id; anything else is an id or a type already."""
    event_type, _, version = schema.rpartition("/")
    if not event_type or not _VERSION.fullmatch(version):
        return schema
    ids = [one.id for one in catalog.entries() if (one.type, one.version) == (event_type, version)]
    return ids[0] if ids else schema


schemas.add_command(check)
