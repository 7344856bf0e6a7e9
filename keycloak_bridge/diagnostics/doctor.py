"""Every probe of one bridge, built from its settings: first settings, schemas and mapping, then Kafka and Keycloak."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial

from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import realm_problems
from keycloak_bridge.app.wiring import group_stamp, topic_specs
from keycloak_bridge.diagnostics.certificates import certificate_probe
from keycloak_bridge.diagnostics.exposure import exposure_probes
from keycloak_bridge.diagnostics.kafka_probes import KafkaProbes
from keycloak_bridge.diagnostics.keycloak_probes import (
    KEYCLOAK_CONNECTION,
    KeycloakProbes,
    RealmSetup,
)
from keycloak_bridge.diagnostics.keycloak_survey import KeycloakSurvey
from keycloak_bridge.diagnostics.probes import Probe, ProbeResult, examine, green, red, yellow
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.kafka.topics import KafkaAdmin
from keycloak_bridge.keycloak.access import keycloak_http
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.tracing import open_tracer
from keycloak_bridge.planning.ownership import administering
from keycloak_bridge.realm.needs import used_roles, watched_events
from keycloak_bridge.settings.loading import LoadedSettings
from keycloak_bridge.settings.model import Settings

SETTINGS, SCHEMAS, ENVELOPE, MAPPING = "settings", "schemas", "envelope", "mapping"
REGISTRY, TRACING = "registry", "tracing"
_ANY_GROUP = "an event may join any group of the realm"
_ADMINISTRATOR = "an event may make its user an administrator of the realm"


def check_up(loaded: LoadedSettings, *, test_mail: str | None = None) -> Iterator[ProbeResult]:
    """Yield the result of every probe as it comes; changes nothing.

    With `test_mail`, Keycloak mails to that address through a user that is deleted at once.
    """
    interpretation = Interpretation(loaded.settings)
    with ExitStack() as stack:
        probes = [
            *content_probes(loaded, interpretation),
            *registry_probe(interpretation),
            *tracing_probe(loaded.settings),
            *certificate_probe(loaded.settings, SystemClock().now),
            *exposure_probes(loaded),
            *_kafka(loaded, interpretation, stack),
            *_keycloak(interpretation, stack, test_mail),
        ]
        yield from examine(probes)


def content_probes(loaded: LoadedSettings, interpretation: Interpretation) -> Sequence[Probe]:
    """Return the probes that need no network, in the order in which they build on each other."""

    def settings() -> Iterable[ProbeResult]:
        remedy = (
            "correct the setting; `keycloak-bridge init` writes a file that explains all of them"
        )
        yield from (red(problem, remedy) for problem in loaded.problems)
        if not loaded.problems:
            yield green(f"read from {loaded.file}" if loaded.file else "defaults and environment")

    def schemas() -> Iterable[ProbeResult]:
        yield green(f"{len(interpretation.catalog.documents)} schemas")

    def envelope() -> Iterable[ProbeResult]:
        custom = interpretation.rules.custom
        yield green(f"{', '.join(custom.expressions)} by expression" if custom else "CloudEvents")

    def mapping() -> Iterable[ProbeResult]:
        found = interpretation.mapping
        file = interpretation.settings.mapping.file or "the shipped one"
        yield green(f"{file}: attributes {', '.join(found.attribute_names)}")
        for warning in interpretation.warnings:
            yield yellow(warning.message, warning.remedy or "")
        if found.accepts_every_group:
            yield yellow(_ANY_GROUP, "list the allowed groups in user.groups.allow of the mapping")
        for kind in administering(rule for one in found.all for rule in one.rules.memberships):
            yield yellow(_ADMINISTRATOR, f"remove such roles from user.{kind}.allow", kind)

    return (
        Probe(SETTINGS, settings),
        Probe(SCHEMAS, schemas),
        Probe(ENVELOPE, envelope),
        Probe(MAPPING, mapping, needs=(SCHEMAS,)),
    )


def registry_probe(interpretation: Interpretation) -> Sequence[Probe]:
    """Return the probe of the schema registry, where the settings name one."""

    def check() -> Iterable[ProbeResult]:
        registry, url = interpretation.registry, interpretation.settings.registry.url
        if registry is None:
            return
        types = registry.types()
        if "JSON" in types:
            yield green(f"{url}: {', '.join(types)}")
        else:
            yield red(f"{url} has no JSON Schema", "let producers use a registry for JSON Schema")

    return () if interpretation.settings.registry.url is None else (Probe(REGISTRY, check),)


def tracing_probe(settings: Settings) -> Sequence[Probe]:
    """Return the probe of the collector, where traces are on."""

    def check() -> Iterable[ProbeResult]:
        tracer = open_tracer()
        if tracer.reaches_collector():
            yield green("the collector takes traces")
        else:
            yield yellow(
                "the collector takes no traces; they are dropped until it does",
                "check OTEL_EXPORTER_OTLP_ENDPOINT and the other variables of the exporter",
            )
        tracer.close()

    return (Probe(TRACING, check),) if settings.tracing.enabled else ()


def realm_setup(interpretation: Interpretation, admin: KeycloakAdmin) -> RealmSetup:
    """Return what settings and mapping say about the realm."""
    settings = interpretation.settings

    return RealmSetup(
        url=settings.keycloak.url,
        authentication=settings.keycloak.authentication,
        name=str(settings.keycloak.realm),
        invites=settings.invite.mode != "none",
        watched_events=watched_events(settings),
        attributes=lambda: interpretation.mapping.attribute_names,
        external_id=lambda: interpretation.mapping.external_id,
        used_roles=lambda: used_roles(settings, interpretation.mapping),
        problems=partial(realm_problems, interpretation, admin),
        links_only_set_passwords=lambda: any(
            _only_sets_password(one.invitation) for one in interpretation.mapping.all
        ),
    )


def _only_sets_password(terms: InvitationTerms | None) -> bool:
    actions = () if terms is None else terms.actions
    return "UPDATE_PASSWORD" in actions and "VERIFY_EMAIL" not in actions


def _kafka(
    loaded: LoadedSettings, interpretation: Interpretation, stack: ExitStack
) -> Sequence[Probe]:
    settings = loaded.settings

    def connect() -> KafkaAdmin:
        return stack.enter_context(closing(KafkaAdmin(settings.kafka)))

    creates = settings.topics.create
    stamp = None
    link_lives_s = settings.invite.lifespan
    if settings.keycloak.realm is not None:
        with suppress(ConfigError):  # the probe of the mapping says what is wrong
            stamp = partial(group_stamp, settings, interpretation.mapping)
            terms = (one.invitation for one in interpretation.mapping.all)
            link_lives_s = max((one.lifespan_s for one in terms if one), default=0)
    return KafkaProbes(
        settings.kafka,
        topic_specs(settings),
        connect,
        creates=creates,
        reads_results=settings.ui.enabled,
        watches_activations=settings.activation.enabled,
        stamp=stamp,
        link_lives_s=link_lives_s,
    ).probes()


def _keycloak(
    interpretation: Interpretation, stack: ExitStack, test_mail: str | None
) -> Sequence[Probe]:
    clock = SystemClock()
    try:
        http = keycloak_http(interpretation.settings.keycloak)
        admin = keycloak_admin(interpretation.settings, clock, http)
    except ConfigError as error:
        result: ProbeResult = red(error.message, error.remedy or "correct the settings")
        return (Probe(KEYCLOAK_CONNECTION, lambda: (result,), (SETTINGS,)),)
    stack.callback(admin.close)
    return KeycloakProbes(
        realm_setup(interpretation, admin),
        KeycloakSurvey(http, admin),
        admin.access_token,
        clock.now,
        test_mail=test_mail,
    ).probes()
