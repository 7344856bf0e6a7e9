"""Run the activation ledger beside the stages, in a thread of its own."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from keycloak_bridge.activation.ledger import STAGE, Ledger, LedgerPolicy
from keycloak_bridge.activation.loop import ActivationLoop, give_up
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.stages import RuntimeContext
from keycloak_bridge.app.wiring import group_stamp, reminders_of
from keycloak_bridge.domain.errors import BridgeError, InternalError
from keycloak_bridge.domain.events import Invitation, Result, TopicPartition
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Activations,
    MessageProducer,
    UserDirectory,
)
from keycloak_bridge.kafka.consumer import KafkaRecordConsumer
from keycloak_bridge.kafka.topics import KafkaAdmin
from keycloak_bridge.messages.invitations import invitation_message, read_invitation
from keycloak_bridge.messages.results import result_message
from keycloak_bridge.ops.logs import log_event
from keycloak_bridge.threads.named_locks import UserLocks

logger = logging.getLogger(__name__)

_MAILS_DONE_S = 60.0
"""How long it is remembered how far the invite stage is."""


@dataclass(frozen=True, slots=True)
class ActivationTopics:
    """Where the ledger publishes."""

    producer: MessageProducer
    results_topic: str
    invitations_topic: str

    def result(self, result: Result, time: datetime) -> Acknowledgement:
        """Publish what became of a person at `time`."""
        return self.producer.publish(result_message(result, topic=self.results_topic, time=time))

    def invitation(self, invitation: Invitation) -> Acknowledgement:
        """Ask the invite stage for a mail."""
        return self.producer.publish(invitation_message(invitation, topic=self.invitations_topic))


@contextlib.contextmanager
def watched_activations(
    runtime: RuntimeContext,
    interpretation: Interpretation,
    directory: UserDirectory,
    activations: Activations,
    producer: MessageProducer,
    locks: UserLocks,
) -> Iterator[None]:
    """Watch the invited meanwhile, where the settings say so."""
    settings = interpretation.settings
    if settings.invite.mode == "none" or not settings.activation.enabled:
        yield
        return
    stop = threading.Event()
    watch = partial(_watch, runtime, interpretation, directory, activations, producer, locks, stop)
    # nothing it does need be finished, so a call to a Keycloak that hangs does not hold up the end
    thread = threading.Thread(target=watch, name=STAGE, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(settings.delivery.drain)


def _watch(
    runtime: RuntimeContext,
    interpretation: Interpretation,
    directory: UserDirectory,
    activations: Activations,
    producer: MessageProducer,
    locks: UserLocks,
    stop: threading.Event,
) -> None:
    settings, mappings = interpretation.settings, interpretation.mapping
    group_id = settings.kafka.activation_group_id
    join = partial(
        KafkaRecordConsumer,
        settings.kafka,
        topic=settings.topics.invitations,
        group_id=group_id,
    )
    try:
        source = runtime.wait_for(STAGE, join)
        if source is None:
            return
        ledger = Ledger(
            LedgerPolicy(
                mappings.external_id,
                settings.activation.interval,
                settings.activation.pace,
                settings.activation.grace,
                reminders_of(settings),
                settings.invite.max_age,
            ),
            partial(read_invitation, catalog=interpretation.catalog, mappings=mappings),
            directory,
            activations,
            ActivationTopics(producer, settings.topics.results, settings.topics.invitations),
            runtime.clock,
            runtime.metrics,
            _MailsDone(runtime, interpretation),
            locks,
        )
        stamp = group_stamp(settings, mappings, group_id)
        session_s = settings.kafka.session_timeout
        ActivationLoop(
            source, ledger, runtime.clock, runtime.status, runtime.metrics, stamp, session_s
        ).run(stop)
    except BridgeError as error:
        give_up(runtime.status, runtime.metrics, error)
    except Exception as error:  # noqa: BLE001 # users and mails go on
        log_event(logger, "internal-error", level=logging.ERROR, error=error, stage=STAGE)
        give_up(runtime.status, runtime.metrics, InternalError("a fault of the bridge"))


class _MailsDone:
    """How far the invite stage is, as it has committed; asked of Kafka once a minute at most."""

    def __init__(self, runtime: RuntimeContext, interpretation: Interpretation) -> None:
        self._clock = runtime.clock
        self._settings = interpretation.settings.kafka
        self._known: Mapping[TopicPartition, int] = {}
        self._ask_at_s = float("-inf")

    def __call__(self) -> Mapping[TopicPartition, int]:
        if self._clock.monotonic() >= self._ask_at_s:
            with contextlib.closing(KafkaAdmin(self._settings)) as admin:
                commits = admin.commits(self._settings.invite_group_id)
            self._known = {at: commit.offset for at, commit in commits.items()}
            self._ask_at_s = self._clock.monotonic() + _MAILS_DONE_S
        return self._known
