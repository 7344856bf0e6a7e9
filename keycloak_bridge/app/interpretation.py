"""Load what the settings name and what turns bytes into a desired user: schemas, envelope rules, and mappings.

The files are read and checked here, the shipped ones, those of `[mapping.files]` and those in the user's schema folders;
so is the record of published schema versions.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from keycloak_bridge.app.connections import schema_registry
from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.domain.events import USER_CREATED, USER_DELETED, USER_EVENTS, Record
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.domain.ports import Trace, no_trace
from keycloak_bridge.domain.users import EmailChange, Intent, InvitationTerms, UnknownUser
from keycloak_bridge.events.arrival import ArrivalRule
from keycloak_bridge.events.cloudevents import Limits
from keycloak_bridge.events.custom_envelope import ATTRIBUTES, compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.expressions.expression import suggestion
from keycloak_bridge.mapping.lifecycle import MAPPED_TYPES, LifecyclePolicy, Mappings
from keycloak_bridge.mapping.mapping import AttributeMapping, compile_mapping, properties_read
from keycloak_bridge.ops.private_files import PUBLIC, replace_file
from keycloak_bridge.pipeline.interpret import Interpreter, Prepared, Skipped
from keycloak_bridge.registry.client import ConfluentRegistry
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.documents import (
    SchemaDocument,
    SchemaProblem,
    check_documents,
    schema_error,
)
from keycloak_bridge.validation.notes import refuse_unknown_formats

DEFAULT_ORIGIN = "default_mapping.toml"
_MOST_NOTES = 20
_ON_NOTES = "correct the schema, or leave it; `keycloak-bridge schemas check` lists all such notes"
_LONGEST_BYTES = 1_000_000

Served = tuple[str, int | None]
"""An event type and a major version of its schema; None means all that have no mapping of their own."""

_SHIPPED = "keycloak_bridge.schemas"
_FILE_NAME = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.json")
_LARGEST_FILE = 1_048_576
_DEEPEST_NESTING = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RESTORE = "restore it from version control"


@dataclass(frozen=True)
class Interpretation:
    """What the settings say about reading events, each part loaded when first asked for.

    Nothing here asks the network, but for the schema that a record names in a registry.
    """

    settings: Settings

    @cached_property
    def catalog(self) -> SchemaCatalog:
        """The schemas; raises ConfigError."""
        schemas = self.settings.schemas
        return load_schemas(schemas.folders, unknown_formats=schemas.unknown_formats)

    @cached_property
    def rules(self) -> EnvelopeRules:
        """Where an event's attributes are; raises ConfigError."""
        events, envelope = self.settings.events, self.settings.envelope
        return EnvelopeRules(
            limits=Limits(events.max_bytes, events.max_depth),
            match_key=events.match_key,
            nulls_absent=events.nulls == "absent",
            # first, since it says what is wrong with envelope.subject
            custom=compile_envelope({name: getattr(envelope, name) for name in ATTRIBUTES}),
            types=envelope.types,
            keys=compile_keys(envelope.key, envelope.subject),
            keys_name_users=envelope.key is not None or events.tombstones == "delete",
        )

    @cached_property
    def mapping(self) -> Mappings:
        """The mapping of every type of event, checked against the schemas; raises ConfigError."""
        return load_mappings(self.settings, self.catalog, invitation_terms(self.settings))

    @property
    def warnings(self) -> tuple[ConfigError, ...]:
        """What will not work, though everything else does; raises ConfigError."""
        return (*self._schema_warnings(), *self._mapping_warnings())

    def _schema_warnings(self) -> Iterator[ConfigError]:
        notes = [str(note) for note in self.catalog.notes]
        if len(notes) > _MOST_NOTES:
            notes[_MOST_NOTES:] = [f"{len(notes) - _MOST_NOTES} more"]
        if notes:
            yield ConfigError("\n".join(notes), code="schema", remedy=_ON_NOTES)

    def _mapping_warnings(self) -> Iterator[ConfigError]:
        default, unmapped = self.mapping.default, self.mapping.unmapped
        if not unmapped:
            return
        listed = " or ".join("data." + ".".join(path) for path in sorted(_identifying(default)))
        kinds = ", ".join(kind for kind in USER_EVENTS if kind in unmapped)
        key = f"{self.settings.mapping.file or DEFAULT_ORIGIN}: {default.rules.identity_key}"
        yield ConfigError(
            f"{key}: nothing says whose user it is: no {listed} in {kinds}; such events become dead letters",
            code="unmapped-type",
            remedy="name mappings for these types in [mapping.files], or the types in events.ignore_types",
        )

    @cached_property
    def registry(self) -> ConfluentRegistry | None:
        """The schema registry, where the settings name one; raises ConfigError."""
        return schema_registry(self.settings)

    @cached_property
    def interpreter(self) -> Interpreter:
        """What turns a record into a desired user; raises ConfigError."""
        events = self.settings.events
        return Interpreter(
            self.rules,
            self.catalog,
            self.mapping,
            frozenset(events.ignore_types),
            events.tombstones,
            ArrivalRule(events.max_ahead, events.ahead == "clamp", partial(datetime.now, UTC)),
            self.registry,
        )

    def check(self) -> None:
        """Load and check everything now; raises ConfigError."""
        _ = self.interpreter
        before_s = self.settings.invite.remind_before
        terms = [one.invitation for one in self.mapping.all if one.invitation is not None]
        if before_s is not None and any(one.lifespan_s <= before_s for one in terms):
            raise ConfigError(
                "an invitation does not live longer than invite.remind_before, so its first link would never be valid",
                remedy="set invite.remind_before to less than every lifespan: that of [invite] in the settings and in each mapping",
            )

    def close(self) -> None:
        """Close the connections to the registry."""
        if self.registry is not None:
            self.registry.close()

    def read(self, record: Record, trace: Trace = no_trace) -> Prepared | Skipped:
        """Return what becomes of `record`, as `run` does; raises EventError."""
        return self.interpreter.interpret(record, trace)


def invitation_terms(settings: Settings) -> InvitationTerms | None:
    """Return the terms of invitations, None where the bridge does not invite."""
    invite = settings.invite
    if invite.mode == "none":
        return None
    return InvitationTerms(
        actions=tuple(invite.actions),
        lifespan_s=int(invite.lifespan),
        client_id=invite.client_id,
        redirect_uri=invite.redirect_uri,
    )


def load_schemas(folders: Sequence[Path] = (), *, unknown_formats: str = "note") -> SchemaCatalog:
    """Return the catalog of the shipped schemas and of those in `folders`, everything compiled.

    A folder holds `<type>/<major>.<minor>.json`. Raises ConfigError (code `schema`) with one line, of file, pointer and
    reason, for every problem that was found; `unknown_formats` is the setting of that name.
    """
    catalog = SchemaCatalog(load_documents(folders))
    if unknown_formats == "error":
        refuse_unknown_formats(catalog.notes)
    return catalog


def load_documents(folders: Sequence[Path] = ()) -> tuple[SchemaDocument, ...]:
    """Return the shipped schemas and those in `folders` as they were read; raises ConfigError (code `schema`)."""
    documents: list[SchemaDocument] = []
    problems: list[SchemaProblem] = []
    for folder, shown in _folders(folders):
        for kind, file in _schema_files(folder):
            found = _read_schema(kind, file, f"{shown}/{kind}/{file.name}")
            if isinstance(found, SchemaDocument):
                documents.append(found)
            else:
                problems.append(found)
    if not problems:
        return tuple(documents)
    try:
        check_documents(documents)
    except ConfigError as error:
        # Problems of the readable files are reported together with files that could not be read.
        raise schema_error(problems, also=error.message) from error
    raise schema_error(problems)


def _folders(folders: Sequence[Path]) -> Iterator[tuple[Traversable, str]]:
    yield resources.files(_SHIPPED), "schemas"
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"schemas.folders: {folder} is not a folder",
                code="schema",
                remedy="name an existing folder that holds <type>/<major>.<minor>.json",
            )
        yield folder, str(folder)


def _schema_files(folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    """Yield every JSON file one level down, with the name of its folder, in order of their names."""
    for kind in _entries(folder):
        if kind.is_dir() and not kind.name.startswith((".", "_")):
            for file in _entries(kind):
                if file.name.endswith(".json"):
                    yield kind.name, file


def _entries(folder: Traversable) -> list[Traversable]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(
            f"schemas.folders: {folder} cannot be read: {error.strerror}",
            code="schema",
            remedy="let the bridge's user read the folder",
        ) from error


def _read_schema(kind: str, file: Traversable, origin: str) -> SchemaDocument | SchemaProblem:
    version = _FILE_NAME.fullmatch(file.name)
    if version is None:
        return SchemaProblem(origin, "", "must be named <major>.<minor>.json")
    try:
        text = file.read_bytes()
        content = parse_json(text, max_bytes=_LARGEST_FILE, max_depth=_DEEPEST_NESTING)
    except OSError as error:
        return SchemaProblem(origin, "", f"cannot be read: {error.strerror}")
    except EventDecodeError as error:
        return SchemaProblem(origin, "", error.message)
    digest = sha256(text).hexdigest()
    return SchemaDocument(kind, (int(version[1]), int(version[2])), content, origin, digest)


def read_published(file: Path) -> dict[str, str]:
    """Return what `file` records; raises ConfigError (code `published`)."""
    try:
        recorded = parse_json(file.read_bytes())
    except FileNotFoundError:
        raise _unusable(file, "does not exist", "`--record` creates it") from None
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}", "let it be read") from error
    except EventDecodeError as error:
        raise _unusable(file, error.message, _RESTORE) from error
    if not isinstance(recorded, dict) or not all(map(_is_digest, recorded.values())):
        raise _unusable(file, "must be an object of SHA-256 sums by name", _RESTORE)
    return recorded


def write_published(file: Path, published: Mapping[str, str]) -> None:
    """Write `published` as a whole or not at all; raises ConfigError (code `published`)."""
    text = json.dumps(dict(sorted(published.items())), indent=2) + "\n"
    try:
        replace_file(file, text.encode(), mode=PUBLIC)
    except OSError as error:
        raise _unusable(
            file, f"cannot be written: {error.strerror}", "let its folder be written to"
        ) from error


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _unusable(file: Path, reason: str, remedy: str) -> ConfigError:
    return ConfigError(f"{file}: {reason}", code="published", remedy=remedy)


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
        document = tomllib.loads(default_mapping_text() if path is None else _read_mapping(path))
    except tomllib.TOMLDecodeError as error:
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
        return path.read_text("utf-8")
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
    paths = _identifying(default)
    for kind in USER_EVENTS:
        majors = {major for one, major in _versions(catalog) if one == kind}
        left = {major for major in majors if not {(kind, None), (kind, major)} & own.keys()}
        seen = (catalog.has_property(kind, path, major) for path in paths for major in left)
        if paths and left and kind not in settings.events.ignore_types and not any(seen):
            yield kind


def _identifying(mapping: AttributeMapping) -> frozenset[tuple[str, ...]]:
    """Return the properties of the data of which the mapping makes the external id."""
    expression = mapping.rules.identity.expression
    return frozenset() if expression is None else properties_read((expression,))


def _versions(catalog: SchemaCatalog) -> frozenset[tuple[str, int]]:
    majors = _majors(catalog)
    return frozenset((one.type, majors[one.id]) for one in catalog.documents)


def _majors(catalog: SchemaCatalog) -> dict[str, int]:
    return {one.id: one.version[0] for one in catalog.documents}
