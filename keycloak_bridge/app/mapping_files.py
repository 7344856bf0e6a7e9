"""Read the files of the mappings: the shipped one or `mapping.file`, and those of `[mapping.files]`."""

from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import USER_CREATED, USER_DELETED, USER_EVENTS
from keycloak_bridge.domain.users import EmailChange, Intent, InvitationTerms, UnknownUser
from keycloak_bridge.expressions.expression import suggestion
from keycloak_bridge.mapping.lifecycle import MAPPED_TYPES, LifecyclePolicy, Mappings
from keycloak_bridge.mapping.mapping import AttributeMapping, compile_mapping
from keycloak_bridge.settings.fields import parse_toml
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.catalog import SchemaCatalog

DEFAULT_ORIGIN = "default_mapping.toml"
_LONGEST_BYTES = 1_000_000

Served = tuple[str, int | None]
"""An event type and a major version of its schema; None means all that have no mapping of their own."""


def load_mappings(
    settings: Settings, catalog: SchemaCatalog, invitation: InvitationTerms | None
) -> Mappings:
    """Return all mappings, each checked against the schemas of the events that it serves; raises ConfigError."""
    problems: list[str] = []

    def read(path: Path | None, served: Served) -> AttributeMapping | None:
        kind, major = served
        try:
            return load_mapping(
                path,
                has_property=partial(catalog.has_property, kind, major=major),
                types_of=partial(catalog.property_types, kind, major=major),
                invitation=invitation,
                match_subject=settings.events.match_subject,
                identifies_only=kind not in MAPPED_TYPES,
            )
        except ConfigError as error:
            problems.append(error.message)
        return None

    default = read(settings.mapping.file, (USER_CREATED, None))
    own: dict[Served, AttributeMapping] = {}
    for key, path in settings.mapping.files.items():
        served = _served(key, catalog)
        if isinstance(served, str):
            problems.append(f"mapping.files: '{key}': {served}")
        elif (mapping := read(path, served)) is not None:
            own[served] = mapping
    if default is not None:
        problems += _problems_together(settings, catalog, default, own)
    if default is None or problems:
        raise ConfigError("\n".join(problems), code="mapping", remedy="correct the mapping files")
    return Mappings(
        default,
        by_type={kind: one for (kind, major), one in own.items() if major is None},
        by_major={(kind, major): one for (kind, major), one in own.items() if major is not None},
        majors=_majors(catalog),
        policy=LifecyclePolicy(
            unknown_user=UnknownUser(settings.lifecycle.unknown_user),
            deleted=Intent(settings.lifecycle.deleted),
            end_sessions=settings.lifecycle.end_sessions,
            email_change=EmailChange(settings.lifecycle.email_change),
        ),
        unmapped=frozenset(_unmapped(settings, catalog, default, own)),
    )


def load_mapping(path: Path | None, **options: Any) -> AttributeMapping:
    """Return the mapping in `path`, compiled and checked; None means the one that ships with the bridge.

    `options` are those of `compile_mapping`. Raises ConfigError that names the file, the key and the reason.
    """
    origin = DEFAULT_ORIGIN if path is None else str(path)
    try:
        document = parse_toml(default_mapping_text() if path is None else _read_mapping(path))
    except ValueError as error:
        raise ConfigError(
            f"{origin}: not valid TOML: {error}",
            code="mapping",
            remedy="correct the line; put expressions in double quotes",
        ) from error
    return compile_mapping(document, origin=origin, **options)


def default_mapping_text() -> str:
    """Return the shipped mapping with its comments, as `init` writes it."""
    return (resources.files("keycloak_bridge") / DEFAULT_ORIGIN).read_text("utf-8")


def _read_mapping(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_BYTES:
            raise ConfigError(f"{path}: too large for a mapping file", code="mapping")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            code="mapping",
            remedy="name an existing, readable file as mapping.file, or leave it out for the default mapping",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8", code="mapping", remedy="save the file as UTF-8"
        ) from error


def _served(key: str, catalog: SchemaCatalog) -> Served | str:
    """Return what a key of `[mapping.files]` means, or what is wrong with it."""
    kind, separator, version = key.partition("/")
    if kind not in USER_EVENTS:
        hint = suggestion(kind, USER_EVENTS) or f"; known: {', '.join(USER_EVENTS)}"
        return f"is no type of event that the bridge maps{hint}"
    if not separator:
        return kind, None
    if not version.isdecimal() or (kind, int(version)) not in _versions(catalog):
        return f"there is no schema of {kind} with this major version"
    return kind, int(version)


def _problems_together(
    settings: Settings,
    catalog: SchemaCatalog,
    default: AttributeMapping,
    own: dict[Served, AttributeMapping],
) -> Iterator[str]:
    """Yield why mappings that are each correct cannot serve the same users."""
    name = default.rules.external_id
    begins = default.rules.identity_key.removeprefix("user.")
    origin = settings.mapping.file or DEFAULT_ORIGIN
    for (kind, major), one in own.items():
        if one.rules.external_id != name:
            key = kind if major is None else f"{kind}/{major}"
            yield (
                f"{settings.mapping.files[key]}: matching: must begin with {begins}, as in {origin}: "
                "one user has one external id, whatever the event"
            )
    if settings.events.tombstones == "delete":
        newest = max(
            (major for kind, major in _versions(catalog) if kind == USER_DELETED), default=0
        )
        served: tuple[Served, ...] = ((USER_DELETED, newest), (USER_DELETED, None))
        serving = next((own[one] for one in served if one in own), default)
        if not serving.is_named_by_an_id_alone():
            yield (
                f"{default.rules.identity_key}: the key of a tombstone is not enough to make it; with events.tombstones = "
                '"delete", name a mapping for user.deleted in [mapping.files] whose '
                f"{name} is made of `subject`, which is the user whom the key names"
            )


def _unmapped(
    settings: Settings,
    catalog: SchemaCatalog,
    default: AttributeMapping,
    own: dict[Served, AttributeMapping],
) -> Iterator[str]:
    """Yield the types that no mapping can serve: their schemas have nothing that says whose user it is."""
    paths = default.identifying_properties()
    for kind in USER_EVENTS:
        majors = {major for one, major in _versions(catalog) if one == kind}
        left = {major for major in majors if not {(kind, None), (kind, major)} & own.keys()}
        seen = (catalog.has_property(kind, path, major) for path in paths for major in left)
        if paths and left and kind not in settings.events.ignore_types and not any(seen):
            yield kind


def _versions(catalog: SchemaCatalog) -> frozenset[tuple[str, int]]:
    majors = _majors(catalog)
    return frozenset((one.type, majors[one.id]) for one in catalog.documents)


def _majors(catalog: SchemaCatalog) -> dict[str, int]:
    return {one.id: one.version[0] for one in catalog.documents}
