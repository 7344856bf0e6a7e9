"""`keycloak-bridge schemas`: which schemas are known, what they say, and whether they stay compatible."""

import re

import click

from keycloak_bridge.catalog import load_schemas
from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.schema_check import check
from keycloak_bridge.core.errors import ConfigError, UnknownSchemaError
from keycloak_bridge.core.validation import SchemaCatalog

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
