"""Records that Kafka deleted before the bridge had read them: nobody else would ever hear of it."""

import logging
from dataclasses import dataclass

from keycloak_bridge.delivery.stage import StageContext
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LostRecords:
    """Reports what a stage of the bridge can never read; with `brakes` the flow stops for an operator each time."""

    context: StageContext
    brakes: bool = False

    def note(self, partition: TopicPartition, unread: int, begin: int) -> None:
        """Report that `unread` was to be read next of a partition that begins at `begin` now."""
        context = self.context
        place = f"{partition.topic}/{partition.partition}"
        if begin <= unread:
            log_event(
                logger,
                "position-reset",
                level=logging.WARNING,
                message=f"{place} ends before offset {unread}, so it is read from {begin} on: was the topic made anew?",
                stage=context.name,
                topic=partition.topic,
                partition=partition.partition,
                offset=unread,
            )
            return
        lost = f"{place} lost offsets {unread} to {begin - 1} before they were read, by retention or deletion"
        context.metrics.lost(context.name, begin - unread)
        context.status.note(context.name, lost)
        log_event(
            logger,
            "records-lost",
            level=logging.WARNING,
            message=f"{lost}; compare the users with user management: `keycloak-bridge reconcile`",
            stage=context.name,
            topic=partition.topic,
            partition=partition.partition,
            offset=unread,
            count=begin - unread,
        )
        if self.brakes:
            context.brake.engage(lost)
