"""Records that the bridge can never read, since Kafka deleted them or their topic: nobody else would ever hear of it."""

import logging
from dataclasses import dataclass

from keycloak_bridge.delivery.stage_context import StageContext
from keycloak_bridge.domain.events import TopicPartition
from keycloak_bridge.ops.logs import log_event

logger = logging.getLogger(__name__)

_COMPARE = "compare the users with user management: `keycloak-bridge reconcile`"


@dataclass(slots=True)
class LostRecords:
    """Reports what a stage of the bridge can never read; with `brakes` the flow stops for an operator each time."""

    context: StageContext
    brakes: bool = False
    _told_of: str | None = None

    def note_another_topic(self, topic: str, topic_id: str) -> None:
        """Report, once, that `topic` is another one than the group has read so far, and is read from its beginning."""
        if topic_id == self._told_of:
            return
        self._told_of = topic_id
        what = f"{topic} was deleted and made anew, so it is read from its beginning; what was unread of the old one is lost"
        log_event(
            logger,
            "topic-made-anew",
            level=logging.WARNING,
            message=f"{what}; {_COMPARE}",
            stage=self.context.name,
            topic=topic,
        )
        self._report_reset(what)

    def note(self, partition: TopicPartition, unread: int, begin: int) -> None:
        """Report that `unread` was to be read next of a partition that begins at `begin` now, or ends before `unread`."""
        context = self.context
        place = f"{partition.topic}/{partition.partition}"
        if begin <= unread:
            what = f"{place} ends before offset {unread}, so it is read from {begin} on: its log was cut, or the topic made anew"
            log_event(
                logger,
                "position-reset",
                level=logging.WARNING,
                message=f"{what}; {_COMPARE}",
                stage=context.name,
                topic=partition.topic,
                partition=partition.partition,
                offset=unread,
            )
            self._report_reset(what)
            return
        lost = f"{place} lost offsets {unread} to {begin - 1} before they were read, by retention or deletion"
        context.metrics.lost(context.name, begin - unread)
        log_event(
            logger,
            "records-lost",
            level=logging.WARNING,
            message=f"{lost}; {_COMPARE}",
            stage=context.name,
            topic=partition.topic,
            partition=partition.partition,
            offset=unread,
            count=begin - unread,
        )
        self._show(lost)

    def _report_reset(self, what: str) -> None:
        self.context.metrics.position_reset(self.context.name)
        self._show(what)

    def _show(self, what: str) -> None:
        self.context.status.note(self.context.name, what)
        if self.brakes:
            self.context.brake.engage(what)
