"""The composition root: builds the whole bridge from settings."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from keycloak_bridge import __version__
from keycloak_bridge.app.connections import SystemClock, keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import Problem, RealmGate, check_access, refuse
from keycloak_bridge.app.stages import STARTING, RuntimeContext, Stage, run_stages
from keycloak_bridge.app.wiring import (
    StageBuilder,
    inviter,
    limits_of,
    provision_policy,
    topic_output,
)
from keycloak_bridge.delivery.guards import Brake, LimitedAction
from keycloak_bridge.delivery.rate_limit import wait_out
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, Invitation, Result
from keycloak_bridge.domain.ports import Acknowledgement, Trace, no_trace
from keycloak_bridge.kafka.dead_letter_topic import KafkaDeadLetterArchive
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.kafka.topics import KafkaAdmin, TopicSpec, ensure_topics, wanted_topics
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.partial_import import realm_access
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.mapping.profile_findings import all_mapped_targets
from keycloak_bridge.ops.health import HealthServer, Status
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.provisioning.provisioner import Provisioner, UserLocks
from keycloak_bridge.settings import Settings

logger = logging.getLogger(__name__)

_PATIENCE_S = 60.0
"""How long a mail that is sent by hand may wait for the pace, besides the time in which an earlier one settles."""


def realm_problems(interpretation: Interpretation, admin: KeycloakAdmin) -> Sequence[Problem]:
    """Return what of the realm would make events fail or vanish; asks Keycloak."""
    names = (*interpretation.mapping.attribute_names, *BOOKKEEPING_ATTRIBUTES)
    guarded = (interpretation.mapping.external_id, *BOOKKEEPING_ATTRIBUTES)
    invite = interpretation.settings.invite
    return check_access(
        admin,
        names,
        guarded,
        invite_delivery=invite.delivery if invite.mode != "none" else None,
        targets=all_mapped_targets(interpretation.mapping, interpretation.catalog),
    )


def direct_provisioner(
    interpretation: Interpretation,
    *,
    trace: Trace = no_trace,
    invited: Callable[[Result], None] = lambda _: None,
    brake: Brake | None = None,
    mails: bool = True,
) -> Provisioner:
    """Return a provisioner that needs no Kafka: an invitation that is due is mailed at once, unless `mails` forbids it.

    `invited` hears of each mail's result, `trace` also of each pause (`waiting`) that a mail must keep. With `brake` the
    limits of the settings hold, and engage it.
    """
    clock = SystemClock()
    settings = interpretation.settings
    directory = KeycloakUserDirectory(keycloak_admin(settings, clock), clock)
    locks = UserLocks()
    sender = inviter(directory, locks, settings, clock)
    limits = None if brake is None else limits_of(settings, brake)

    def invite(invitation: Invitation) -> Sequence[Acknowledgement]:
        if not mails:
            return ()
        if limits is not None:
            limits.admit((LimitedAction.MAIL,), invitation.id, clock.monotonic())
        outcome = wait_out(
            partial(sender.invite, invitation),
            partial(trace, "waiting"),
            limit_s=settings.invite.settle + _PATIENCE_S,
        )
        if limits is not None and not outcome.mailed:
            limits.take_back(LimitedAction.MAIL, invitation.id)
        invited(outcome.result)
        return ()

    return Provisioner(
        directory,
        invite,
        clock,
        # nobody waits at the terminal for a user that may never appear
        policy=replace(provision_policy(settings, interpretation.mapping), unknown_user_wait_s=0),
        limits=limits,
        locks=locks,
        trace=trace,
    )


def topic_specs(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return the topics that `run` needs with these settings."""
    return wanted_topics(settings.topics, invitations=settings.invite.mode != "none")


def release_brakes(stages: Sequence[Stage]) -> Sequence[str]:
    """Let the flow of every stage go on that its brake holds; return the names of these stages."""
    held = [stage for stage in stages if stage.context.brake.reason is not None]
    for stage in held:
        log_event(logger, "brake-released", stage=stage.name)
        stage.context.brake.release()
    return [stage.name for stage in held]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The whole bridge: both stages, the health endpoints, and the wait for Kafka and Keycloak."""

    settings: Settings
    stop: threading.Event

    def run(self, *, until_caught_up: bool = False) -> None:
        """Run until stopped, or until everything that the topics held at the start is done.

        Raises BridgeError: ConfigError before anything is consumed, others when the flow must stop.
        """
        settings = self.settings
        interpretation = Interpretation(settings)
        interpretation.check()
        clock = SystemClock()
        status = Status()
        metrics = Metrics()
        around = RuntimeContext(
            clock,
            status,
            metrics,
            RetryPolicy(settings.retry.initial, settings.retry.max),
            self.stop,
        )
        admin = keycloak_admin(settings, clock)
        stages: list[Stage] = []
        health = self._start_health(around, partial(release_brakes, stages))
        try:
            self._prepare(around, interpretation, admin)
            with contextlib.ExitStack() as connections:
                stages += self._stages(around, interpretation, admin, connections)
                if stages:
                    self._tell_start()
                    run_stages(stages, around, until_caught_up=until_caught_up)
        finally:
            admin.close()
            if health is not None:
                health.close()

    def _stages(
        self,
        around: RuntimeContext,
        interpretation: Interpretation,
        admin: KeycloakAdmin,
        connections: contextlib.ExitStack,
    ) -> Sequence[Stage]:
        """Connect to Kafka and return the stages; none when told to stop before."""
        kafka = self.settings.kafka
        sink = around.patiently("kafka", partial(KafkaMessageProducer, kafka))
        if sink is None:
            return ()
        connections.callback(_close, sink)
        letters = around.patiently("kafka", partial(KafkaMessageProducer, kafka, repeats=False))
        if letters is None:
            return ()
        connections.callback(_close, letters)
        archive = KafkaDeadLetterArchive(kafka, self.settings.topics.dead_letters)
        connections.callback(_close, archive)
        directory = KeycloakUserDirectory(admin, around.clock)
        return StageBuilder(
            self.settings,
            interpretation,
            directory,
            topic_output(self.settings, sink, letters, archive, around.clock),
            around.clock,
            around.metrics,
            realm=realm_access(admin, around.clock),
            status=around.status,
        ).stages()

    def _tell_start(self) -> None:
        settings = self.settings
        log_event(
            logger,
            "started",
            topic=settings.topics.events,
            group=settings.kafka.group_id,
            realm=settings.keycloak.realm,
            version=__version__,
        )

    def _start_health(
        self, around: RuntimeContext, release: Callable[[], Sequence[str]]
    ) -> HealthServer | None:
        health = self.settings.health
        if not health.enabled:
            return None
        around.status.set_problem(STARTING, "starting")
        server = HealthServer(
            around.status,
            around.clock,
            host=health.host,
            port=health.port,
            metrics=around.metrics,
            release=release,
        )
        server.start()
        return server

    def _prepare(
        self, around: RuntimeContext, interpretation: Interpretation, admin: KeycloakAdmin
    ) -> None:
        """Wait for Kafka and Keycloak, then refuse to start on what can be seen to be wrong."""
        around.patiently("kafka", self._check_topics)
        check = RealmGate(partial(realm_problems, interpretation, admin), around.clock)
        problems = around.patiently("keycloak", check)
        refuse(problems or ())
        for warning in problems or ():
            log_event(
                logger,
                "realm-warning",
                level=logging.WARNING,
                message=f"{warning.message} ({warning.remedy})",
                reason=warning.code,
            )

    def _check_topics(self) -> None:
        admin = KafkaAdmin(self.settings.kafka)
        try:
            ensure_topics(admin, topic_specs(self.settings), create=self.settings.topics.create)
        finally:
            admin.close()


def _close(connection: KafkaMessageProducer | KafkaDeadLetterArchive) -> None:
    # what did not arrive was not committed either
    with contextlib.suppress(BrokerUnavailableError):
        connection.close()
