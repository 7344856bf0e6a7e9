"""The running bridge: wait for Kafka and Keycloak, connect, and run the stages (built in wiring.py, run in stages.py)."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from keycloak_bridge import __version__
from keycloak_bridge.app.activation import watched_activations
from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import RealmGate, realm_problems, refuse
from keycloak_bridge.app.stages import STARTING, RuntimeContext, Stage, run_stages
from keycloak_bridge.app.wiring import (
    StageBuilder,
    consumer_groups,
    group_stamp,
    topic_output,
    topic_specs,
)
from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.domain.errors import (
    BrokerAccessError,
    BrokerRefusedError,
    BrokerUnavailableError,
)
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.kafka.dead_letter_archive import KafkaDeadLetterArchive
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.kafka.topics import KafkaAdmin, ensure_topics
from keycloak_bridge.keycloak.activations import KeycloakActivations
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.lookup_times import LookupTimes
from keycloak_bridge.keycloak.partial_import import realm_access
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.health import HealthServer
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.ops.tracing import Tracer, open_tracer
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.threads.named_locks import UserLocks

if TYPE_CHECKING:
    from keycloak_bridge.app.page import RunningPage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bridge:
    """The whole bridge: both stages, the health endpoints, and the wait for Kafka and Keycloak."""

    settings: Settings
    stop: threading.Event

    def run(self, *, until_caught_up: bool = False) -> None:
        """Run until stopped, or until everything that the topics had at the start is done.

        Raises BridgeError: ConfigError before anything is consumed, others when the flow must stop.
        """
        settings = self.settings
        interpretation = Interpretation(settings)
        interpretation.check()
        for warning in interpretation.warnings:
            log_event(
                logger,
                "mapping-warning",
                level=logging.WARNING,
                message=f"{warning.message} ({warning.remedy})",
                reason=warning.code,
            )
        tracer = open_tracer() if settings.tracing.enabled else None
        clock = SystemClock()
        retry = RetryPolicy(settings.retry.initial, settings.retry.max)
        runtime = RuntimeContext(clock, Status(), Metrics(), retry, self.stop)
        admin = keycloak_admin(settings, clock)
        stages: list[Stage] = []
        directory = KeycloakUserDirectory(admin, clock, LookupTimes(clock, runtime.metrics))
        page = self._page(runtime, interpretation, directory, stages)
        health = self._start_health(runtime, partial(release_brakes, stages), page)
        try:
            if page is not None:
                page.start()
            self._check_kafka_and_realm(runtime, interpretation, admin)
            with contextlib.ExitStack() as connections:
                stages += self._connect(
                    runtime,
                    interpretation,
                    admin,
                    directory,
                    connections,
                    tracer,
                    watches=not until_caught_up,
                )
                if not stages:
                    return
                log_event(
                    logger,
                    "started",
                    topic=settings.topics.events,
                    group=settings.kafka.group_id,
                    realm=settings.keycloak.realm,
                    version=__version__,
                )
                run_stages(stages, runtime, until_caught_up=until_caught_up)
        finally:
            if page is not None:
                page.close()
            admin.close()
            interpretation.close()
            if health is not None:
                health.close()
            if tracer is not None:
                tracer.close()

    def _page(
        self,
        runtime: RuntimeContext,
        interpretation: Interpretation,
        directory: UserDirectory,
        stages: Sequence[Stage],
    ) -> "RunningPage | None":
        settings = self.settings
        if not (settings.ui.enabled and settings.health.enabled):
            return None
        from keycloak_bridge.app.page import running_page  # noqa: PLC0415 # templates take 3 MB

        return running_page(
            settings, interpretation, runtime.status, runtime.clock, directory, stages
        )

    def _start_health(
        self,
        runtime: RuntimeContext,
        release: Callable[[], Sequence[str]],
        page: "RunningPage | None",
    ) -> HealthServer | None:
        health = self.settings.health
        if not health.enabled:
            return None
        runtime.status.set_problem(STARTING, "starting")
        server = HealthServer(
            runtime.status,
            runtime.clock,
            host=health.host,
            port=health.port,
            metrics=runtime.metrics,
            release=release,
            routes={} if page is None else page.page.routes(),
        )
        server.start()
        return server

    def _check_kafka_and_realm(
        self, runtime: RuntimeContext, interpretation: Interpretation, admin: KeycloakAdmin
    ) -> None:
        """Wait for Kafka and Keycloak, then raise ConfigError for what is visibly wrong."""
        runtime.wait_for("kafka", partial(self._check_kafka, interpretation.mapping))
        check = RealmGate(partial(realm_problems, interpretation, admin), runtime.clock)
        problems = runtime.wait_for("keycloak", check) or ()
        refuse(problems)
        for warning in problems:
            log_event(
                logger,
                "realm-warning",
                level=logging.WARNING,
                message=f"{warning.message} ({warning.remedy})",
                reason=warning.code,
            )

    def _check_kafka(self, mappings: Mappings) -> None:
        """Raise ConfigError for missing topics, and for a consumer group that serves another realm.

        A bridge that runs waits where TLS or the login fails; one that starts says so with BrokerAccessError.
        """
        settings = self.settings
        try:
            cluster = KafkaAdmin(settings.kafka)
        except BrokerRefusedError as error:
            raise BrokerAccessError(error.message, code=error.code, remedy=error.remedy) from error
        with contextlib.closing(cluster) as admin:
            ensure_topics(admin, topic_specs(settings), create=settings.topics.create)
            for group_id in consumer_groups(settings):
                commits = admin.commits(group_id)
                stamp = group_stamp(settings, mappings, group_id)
                stamp.mapping_of(commit.metadata for commit in commits.values())

    def _connect(
        self,
        runtime: RuntimeContext,
        interpretation: Interpretation,
        admin: KeycloakAdmin,
        directory: KeycloakUserDirectory,
        connections: contextlib.ExitStack,
        tracer: Tracer | None,
        *,
        watches: bool,
    ) -> Sequence[Stage]:
        """Connect to Kafka and return the stages; none when stopped before.

        Where the bridge `watches`, what became of the invited is watched until `connections` end.
        """
        kafka, clock = self.settings.kafka, runtime.clock
        producers: list[KafkaMessageProducer] = []
        for repeats in (True, False):
            producer = runtime.wait_for(
                "kafka", partial(KafkaMessageProducer, kafka, repeats=repeats)
            )
            if producer is None:
                return ()
            connections.callback(_close, producer)
            producers.append(producer)
        archive = KafkaDeadLetterArchive(kafka, self.settings.topics.dead_letters)
        connections.callback(_close, archive)
        locks = UserLocks()
        if watches:
            activations = KeycloakActivations(admin, clock)
            connections.enter_context(
                watched_activations(
                    runtime, interpretation, directory, activations, producers[0], locks
                )
            )
        return StageBuilder(
            self.settings,
            interpretation,
            directory,
            topic_output(self.settings, producers[0], producers[1], archive, clock),
            clock,
            runtime.metrics,
            locks=locks,
            realm=realm_access(admin, clock, directory.times),
            status=runtime.status,
            stamps=True,
            tracer=tracer,
        ).stages()


def release_brakes(stages: Sequence[Stage]) -> Sequence[str]:
    """Release the brake of every stage where it is engaged; return the names of these stages."""
    held = [stage for stage in stages if stage.context.brake.reason is not None]
    for stage in held:
        log_event(logger, "brake-released", stage=stage.name)
        stage.context.brake.release()
    return [stage.name for stage in held]


def _close(connection: KafkaMessageProducer | KafkaDeadLetterArchive) -> None:
    # what did not arrive was not committed either
    with contextlib.suppress(BrokerUnavailableError):
        connection.close()
