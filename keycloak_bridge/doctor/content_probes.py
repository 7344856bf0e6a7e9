"""Probes that need no network: settings, schemas, envelope and mapping."""

from collections.abc import Iterable, Sequence

from keycloak_bridge.core.ownership import administering
from keycloak_bridge.doctor.examination import Probe, Sighting, green, red, yellow
from keycloak_bridge.interpretation import Interpretation
from keycloak_bridge.settings import LoadedSettings

SETTINGS, SCHEMAS, ENVELOPE, MAPPING = "settings", "schemas", "envelope", "mapping"
_ANY_GROUP = "an event may join any group of the realm"
_ADMINISTRATOR = "an event may make its user an administrator of the realm"


def content_probes(loaded: LoadedSettings, interpretation: Interpretation) -> Sequence[Probe]:
    """Return the probes of what was loaded, in the order in which they build on each other."""

    def settings() -> Iterable[Sighting]:
        remedy = "correct it where it is named; `keycloak-bridge init` writes a file that explains every setting"
        yield from (red(problem, remedy) for problem in loaded.problems)
        if not loaded.problems:
            yield green(f"read from {loaded.file}" if loaded.file else "defaults and environment")

    def schemas() -> Iterable[Sighting]:
        yield green(f"{len(interpretation.catalog.entries())} schemas")

    def envelope() -> Iterable[Sighting]:
        custom = interpretation.rules.custom
        yield green(f"{', '.join(custom.expressions)} by expression" if custom else "CloudEvents")

    def mapping() -> Iterable[Sighting]:
        found = interpretation.mapping
        file = interpretation.settings.mapping.file or "the shipped one"
        yield green(f"{file}: attributes {', '.join(found.attribute_names)}")
        if found.accepts_every_group:
            yield yellow(_ANY_GROUP, "name those meant in user.groups.allow of the mapping")
        for kind in administering(rule for one in found.all for rule in one.rules.memberships):
            yield yellow(_ADMINISTRATOR, f"take such roles out of user.{kind}.allow", kind)

    return (
        Probe(SETTINGS, settings),
        Probe(SCHEMAS, schemas),
        Probe(ENVELOPE, envelope),
        Probe(MAPPING, mapping, needs=(SCHEMAS,)),
    )
