"""`keycloak-bridge schemas`: list, show and check the schemas of events."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from keycloak_bridge.app.published_schemas import read_published, write_published
from keycloak_bridge.app.schema_files import load_documents, load_schemas
from keycloak_bridge.cli.common import Invocation, bridge_command, format_option
from keycloak_bridge.cli.console import Console
from keycloak_bridge.domain.errors import ConfigError, UnknownSchemaError
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.validation.compatibility import (
    Finding,
    compare_versions,
    publication_problems,
)
from keycloak_bridge.validation.documents import check_documents
from keycloak_bridge.validation.notes import refuse_unknown_formats, schema_notes

INCOMPATIBLE = 1
_UNRECORDED = ("unrecorded", "is not recorded as published; --record adds it")


@click.group()
def schemas() -> None:
    """List, show and check the schemas of events, the shipped ones and your own."""


@bridge_command(
    "keycloak-bridge schemas list --set schemas.folders=my-schemas", name="list", group=schemas
)
def list_(invocation: Invocation) -> None:
    """List every known schema."""
    documents = load_schemas(invocation.settings().schemas.folders).documents
    rows = [(one.type, one.number, one.id, one.origin) for one in documents]
    Console().table(("TYPE", "VERSION", "ID", "FROM"), rows)


@bridge_command(
    "keycloak-bridge schemas show user.created",
    "keycloak-bridge schemas show user.created/1.0",
    "keycloak-bridge schemas show urn:keycloak-bridge:schema:user.created:1.0",
    group=schemas,
)
@click.argument("schema")
def show(invocation: Invocation, schema: str) -> None:
    """Print a schema: the newest of a type, TYPE/VERSION, or by its id."""
    catalog = load_schemas(invocation.settings().schemas.folders)
    try:
        by_name = {one.name: one.id for one in catalog.documents}
        document = catalog.document(by_name.get(f"{schema}.json", schema))
    except UnknownSchemaError as error:
        raise ConfigError(
            error.message,
            code=error.code,
            remedy="`keycloak-bridge schemas list` shows all; schemas.folders adds your own.",
        ) from error
    Console().json(document)


@bridge_command(
    "keycloak-bridge schemas check",
    "keycloak-bridge schemas check my-schemas",
    "keycloak-bridge schemas check my-schemas --published published.json --record",
    group=schemas,
)
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("--published", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Check that the versions recorded in FILE are unchanged: those of the folders, else the shipped ones.")  # fmt: skip
@click.option("--record", is_flag=True, help="Add the new versions to FILE when there is no error.")
@click.option("--strict", is_flag=True, help="Count a new optional property as breaking where any was allowed.")  # fmt: skip
@format_option("one object")
def check(
    invocation: Invocation,
    folders: tuple[Path, ...],
    published: Path | None,
    record: bool,
    strict: bool,
    output: str,
) -> int:
    """Prove that new minor versions accept whatever earlier ones accepted.

    Compares each minor version in each FOLDER (else in schemas.folders, else the shipped ones) with every earlier one of
    its major version, shipped or not. What cannot be proven counts as incompatible. Data that was written under the older
    version stays valid, so consumers are upgraded first.

    Exit code: 0 compatible and unchanged, 1 not, 2 wrong usage, or a broken schema.
    """
    if record and published is None:
        raise click.UsageError("--record needs --published FILE")
    settings = invocation.settings()
    wanted = folders or settings.schemas.folders
    documents = load_documents(wanted)
    notes = schema_notes(documents, check_documents(documents))
    if settings.schemas.unknown_formats == "error":
        refuse_unknown_formats(notes)
    compared = list(compare_versions(documents, strict=strict))
    checked = documents
    if wanted:
        shipped = {document.id for document in load_documents()}
        checked = tuple(one for one in documents if one.id not in shipped)
    files = {document.origin for document in checked}
    findings = [one for one in compared if one.file in files]
    findings += [
        Finding(note.origin, note.pointer, note.code, note.reason, breaking=False)
        for note in notes
        if note.origin in files
    ]
    recorded: dict[str, str] = {}
    if published is not None:
        known = read_published(published, needed=not record)
        findings += publication_problems(checked, known)
        new = sorted((one for one in checked if one.name not in known), key=lambda one: one.name)
        if not record:
            findings += [Finding(one.origin, "", *_UNRECORDED, breaking=False) for one in new]
        elif not any(finding.breaking for finding in findings):
            recorded = {document.name: document.digest for document in new}
            write_published(published, {**known, **recorded})
    failed = any(finding.breaking for finding in findings)
    if output == "json":
        report = {
            "ok": not failed,
            "schemas": len(documents),
            "findings": [asdict(finding) for finding in findings],
            "recorded": list(recorded),
        }
        Console().json(report)
    else:
        _print_report(len(documents), findings, list(recorded), failed=failed)
    return INCOMPATIBLE if failed else 0


def _print_report(
    schemas: int, findings: Sequence[Finding], recorded: Sequence[str], *, failed: bool
) -> None:
    console = Console()
    for finding in findings:
        label, style = ("error", "red") if finding.breaking else ("note", "yellow")
        console.line(f"{label}: {finding}", style)
    broken = [finding for finding in findings if finding.breaking]
    if any(finding.older for finding in broken):
        console.line(
            "fix:  take the change back, or publish it as the first version of a new major version"
        )
    if any(finding.older is None for finding in broken):
        console.line("fix:  restore the published file, and make a new version with the change")
    for name in recorded:
        console.line(f"recorded {name}")
    count = counted(schemas, "schema")
    if failed:
        console.line(f"{count}: not compatible, or not what was published", "red")
    else:
        console.line(
            f"{count}: valid, and every minor version accepts what earlier ones accepted", "green"
        )
