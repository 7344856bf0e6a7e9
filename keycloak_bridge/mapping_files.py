"""Read the mapping of every type of event: the default one, and those of `[mapping.files]`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keycloak_bridge.core.desired import EmailChange, InvitationTerms, UnknownUser
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.expression_analysis import suggestion
from keycloak_bridge.core.lifecycle import MAPPED_TYPES, Deleted, LifecyclePolicy, Mappings
from keycloak_bridge.core.mapping import AttributeMapping
from keycloak_bridge.core.mapping_presence import properties_read
from keycloak_bridge.core.model import USER_CREATED, USER_EVENTS
from keycloak_bridge.core.validation import SchemaCatalog
from keycloak_bridge.mapping_file import DEFAULT_ORIGIN, load_mapping
from keycloak_bridge.settings import LifecycleSettings, Settings

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
