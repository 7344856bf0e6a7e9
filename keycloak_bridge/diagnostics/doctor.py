"""Every probe of one bridge, built from its settings.

Probes that need no network: settings, schemas, envelope and mapping.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from keycloak_bridge.app.bridge import realm_problems, topic_specs
from keycloak_bridge.app.connections import SystemClock, keycloak_admin, keycloak_http
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.diagnostics.kafka_probes import KafkaProbes
from keycloak_bridge.diagnostics.keycloak_probes import CONNECTION, KeycloakProbes
from keycloak_bridge.diagnostics.probe import Probe, Sighting, Verdict, examine, green, red, yellow
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.users import ORGANIZATIONS, client_roles
from keycloak_bridge.kafka.topics import KafkaSurvey, kafka_survey
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.survey import KeycloakSurvey
from keycloak_bridge.planning.ownership import administering
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


@dataclass(frozen=True, slots=True)
class BridgedRealm:
    """The realm that the settings name, as the probes of Keycloak ask for it."""

    interpretation: Interpretation
    admin: KeycloakAdmin

    @property
    def url(self) -> str:
        """keycloak.url."""
        return self.interpretation.settings.keycloak.url

    @property
    def name(self) -> str:
        """keycloak.realm."""
        return str(self.interpretation.settings.keycloak.realm)

    @property
    def invites(self) -> bool:
        """Whether the bridge sends mails."""
        return self.interpretation.settings.invite.mode != "none"

    @property
    def attributes(self) -> Sequence[str]:
        """The attributes that the mapping writes; raises ConfigError for a broken one."""
        return self.interpretation.mapping.attribute_names

    @property
    def optional_roles(self) -> dict[str, bool]:
        """The optional roles, and whether the mapping makes use of what they are for."""
        kinds = {
            rule.kind for one in self.interpretation.mapping.all for rule in one.rules.memberships
        }
        return {
            "view-clients": any(kind.startswith(client_roles("")) for kind in kinds),
            "manage-organizations": ORGANIZATIONS in kinds,
        }

    @property
    def bursts(self) -> bool:
        """Whether a backlog is written in batches where the account may."""
        return self.interpretation.settings.burst.mode == "auto"

    def problems(self) -> Sequence[Problem]:
        """Return what keeps the bridge from working on the realm."""
        return realm_problems(self.interpretation, self.admin)


def check_up(loaded: LoadedSettings, *, test_mail: str | None = None) -> Iterator[Verdict]:
    """Yield a verdict for everything that can be looked at, as it is found; changes nothing.

    With `test_mail`, Keycloak mails to that address by a user that is deleted at once.
    """
    interpretation = Interpretation(loaded.settings)
    with ExitStack() as stack:
        probes = [
            *content_probes(loaded, interpretation),
            *_kafka(loaded, stack),
            *_keycloak(interpretation, stack, test_mail),
        ]
        yield from examine(probes)


def _kafka(loaded: LoadedSettings, stack: ExitStack) -> Sequence[Probe]:
    settings = loaded.settings

    def connect() -> KafkaSurvey:
        return stack.enter_context(kafka_survey(settings.kafka))

    return KafkaProbes(settings.kafka, topic_specs(settings), connect).probes()


def _keycloak(
    interpretation: Interpretation, stack: ExitStack, test_mail: str | None
) -> Sequence[Probe]:
    clock = SystemClock()
    try:
        http = keycloak_http(interpretation.settings)
        admin = keycloak_admin(interpretation.settings, clock, http)
    except ConfigError as error:
        sighting: Sighting = red(error.message, error.remedy or "correct the settings")
        return (Probe(CONNECTION, lambda: (sighting,), (SETTINGS,)),)
    stack.callback(admin.close)
    return KeycloakProbes(
        BridgedRealm(interpretation, admin),
        KeycloakSurvey(http, admin),
        admin.access_token,
        clock.now,
        test_mail=test_mail,
    ).probes()
