"""Read the mapping of every type of event: the default one, and those of `[mapping.files]`.

Read a mapping file, or the one that ships with the bridge.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import USER_CREATED, USER_EVENTS
from keycloak_bridge.domain.users import EmailChange, InvitationTerms, UnknownUser
from keycloak_bridge.expressions.analysis import suggestion
from keycloak_bridge.mapping.lifecycle import MAPPED_TYPES, Deleted, LifecyclePolicy, Mappings
from keycloak_bridge.mapping.mapping import AttributeMapping, compile_mapping, properties_read
from keycloak_bridge.settings import LifecycleSettings, Settings
from keycloak_bridge.validation.catalog import SchemaCatalog

DEFAULT_ORIGIN = "default_mapping.toml"
_LONGEST_BYTES = 1_000_000


def load_mapping(
    path: Path | None,
    *,
    has_property: Callable[[tuple[str, ...]], bool],
    invitation: InvitationTerms | None = None,
    match_subject: bool = True,
    identifies_only: bool = False,
) -> AttributeMapping:
    """Return the mapping in `path`, compiled and checked; None means the one that ships with the bridge.

    The other arguments are those of `compile_mapping`. Raises ConfigError that names the file, the key and the reason.
    """
    if path is None:
        origin, text = DEFAULT_ORIGIN, default_mapping_text()
    else:
        origin, text = str(path), _read(path)
    return compile_mapping(
        parse_document(text, origin),
        origin=origin,
        has_property=has_property,
        invitation=invitation,
        match_subject=match_subject,
        identifies_only=identifies_only,
    )


def default_mapping_text() -> str:
    """Return the shipped mapping with its comments, as `init` writes it."""
    return (resources.files("keycloak_bridge") / DEFAULT_ORIGIN).read_text("utf-8")


def parse_document(text: str, origin: str) -> Mapping[str, Any]:
    """Return the TOML document in `text`; raises ConfigError that names `origin` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{origin}: not valid TOML: {error}",
            code="mapping",
            remedy="correct the line; expressions stand in double quotes",
        ) from error


def _read(path: Path) -> str:
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


Served = tuple[str, int | None]
"""An event type and a major version of its schema; None stands for all that have no mapping of their own."""


def load_mappings(
    settings: Settings, catalog: SchemaCatalog, invitation: InvitationTerms | None
) -> Mappings:
    """Return all mappings, each checked against the schemas of the events that it serves; raises ConfigError."""
    files = _Files(settings, catalog, invitation)
    default = files.read(settings.mapping.file, (USER_CREATED, None))
    own = {
        served: one
        for key, path in settings.mapping.files.items()
        if (served := files.served(key)) and (one := files.read(path, served))
    }
    if default is not None:
        for problem in _problems_together(settings, catalog, default, own):
            files.problems.append(problem)
    if default is None or files.problems:
        raise ConfigError(
            "\n".join(files.problems), code="mapping", remedy="correct the mapping files"
        )
    return Mappings(
        default,
        by_type={kind: one for (kind, major), one in own.items() if major is None},
        by_major={(kind, major): one for (kind, major), one in own.items() if major is not None},
        majors=_majors(catalog),
        policy=lifecycle_policy(settings.lifecycle),
    )


def lifecycle_policy(settings: LifecycleSettings) -> LifecyclePolicy:
    """Return what `[lifecycle]` says about the events after `user.created`."""
    return LifecyclePolicy(
        unknown_user=UnknownUser(settings.unknown_user),
        deleted=Deleted(settings.deleted),
        end_sessions=settings.end_sessions,
        email_change=EmailChange(settings.email_change),
    )


@dataclass(slots=True)
class _Files:
    """Reads one file after the other, and keeps what is wrong with them."""

    settings: Settings
    catalog: SchemaCatalog
    invitation: InvitationTerms | None
    problems: list[str] = field(default_factory=list)

    def served(self, key: str) -> Served | None:
        """Return what the key of `[mapping.files]` means, None where it means nothing."""
        kind, separator, version = key.partition("/")
        if kind not in USER_EVENTS:
            hint = suggestion(kind, USER_EVENTS) or f"; known: {', '.join(USER_EVENTS)}"
            self._refuse(key, f"is no type of event that the bridge maps{hint}")
            return None
        if not separator:
            return kind, None
        if not version.isdecimal() or (kind, int(version)) not in _versions(self.catalog):
            self._refuse(key, f"there is no schema of {kind} with this major version")
            return None
        return kind, int(version)

    def read(self, path: Path | None, served: Served) -> AttributeMapping | None:
        """Return the mapping in the file, None where something is wrong with it."""
        kind, major = served
        try:
            return load_mapping(
                path,
                has_property=self.catalog.property_check(kind, major),
                invitation=self.invitation,
                match_subject=self.settings.events.match_subject,
                identifies_only=kind not in MAPPED_TYPES,
            )
        except ConfigError as error:
            self.problems.append(error.message)
        return None

    def _refuse(self, key: str, reason: str) -> None:
        self.problems.append(f"mapping.files: '{key}': {reason}")


def _problems_together(
    settings: Settings,
    catalog: SchemaCatalog,
    default: AttributeMapping,
    own: dict[Served, AttributeMapping],
) -> Iterator[str]:
    """Yield why mappings that are each sound cannot serve the same users."""
    name = default.rules.external_id
    origin = settings.mapping.file or DEFAULT_ORIGIN
    for (kind, major), one in own.items():
        if one.rules.external_id != name:
            key = kind if major is None else f"{kind}/{major}"
            yield (
                f"{settings.mapping.files[key]}: matching: must begin with attributes.{name}, as in {origin}: "
                "one user has one external id, whatever the event"
            )
    rule = next(one for one in default.rules.targets if one.attribute == name)
    paths = frozenset() if rule.expression is None else properties_read((rule.expression,))
    blind = []
    for kind in USER_EVENTS:
        majors = {major for one, major in _versions(catalog) if one == kind}
        left = {major for major in majors if not {(kind, None), (kind, major)} & own.keys()}
        if left and kind not in settings.events.ignore_types:
            seen = (catalog.has_property(kind, path, major) for path in paths for major in left)
            blind += [] if any(seen) else [kind]
    if paths and blind:
        listed = " or ".join("data." + ".".join(path) for path in sorted(paths))
        yield (
            f"{origin}: user.attributes.{name}: nothing would say whose user it is: no {listed} in {', '.join(blind)}; "
            "name mappings for these types in [mapping.files], or the types in events.ignore_types"
        )


def _versions(catalog: SchemaCatalog) -> frozenset[tuple[str, int]]:
    majors = _majors(catalog)
    return frozenset((one.type, majors[one.id]) for one in catalog.entries())


def _majors(catalog: SchemaCatalog) -> dict[str, int]:
    return {one.id: int(one.version.partition(".")[0]) for one in catalog.entries()}
