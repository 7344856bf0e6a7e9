"""Every probe of one bridge, built from its settings."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from keycloak_bridge.bridge import realm_problems, topic_specs
from keycloak_bridge.connections import SystemClock, keycloak_admin, keycloak_http
from keycloak_bridge.core.desired import ORGANIZATIONS, client_roles
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.doctor.content_probes import SETTINGS, content_probes
from keycloak_bridge.doctor.examination import Probe, Sighting, Verdict, examine, red
from keycloak_bridge.doctor.kafka_probes import KafkaProbes
from keycloak_bridge.doctor.keycloak_probes import CONNECTION, KeycloakProbes
from keycloak_bridge.interpretation import Interpretation
from keycloak_bridge.kafka_survey import KafkaSurvey, kafka_survey
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_check import Problem
from keycloak_bridge.keycloak_survey import KeycloakSurvey
from keycloak_bridge.settings import LoadedSettings


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
