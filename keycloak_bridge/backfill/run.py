"""Bring the users of files into the realm: the provision stage over files instead of a topic, built from settings.

What becomes of the lines of a backfill: results are counted, mails go out at once, unreadable rows are refused.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial

from keycloak_bridge.app.bridge import realm_problems
from keycloak_bridge.app.connections import SystemClock, keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import RealmGate, refuse
from keycloak_bridge.app.stages import Stage
from keycloak_bridge.app.wiring import StageBuilder, inviter, limits_of
from keycloak_bridge.backfill.rejects import Rejects
from keycloak_bridge.backfill.source import PARTITION, FileEventSource
from keycloak_bridge.delivery.consumer_loop import ConsumerLoop
from keycloak_bridge.delivery.guards import Brake, LimitedAction
from keycloak_bridge.delivery.rate_limit import wait_out
from keycloak_bridge.delivery.results import ResultPublisher
from keycloak_bridge.domain.errors import BridgeError, EventValidationError, Violation
from keycloak_bridge.domain.events import (
    Invitation,
    Message,
    Outcome,
    Record,
    Result,
    TopicPartition,
)
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Clock,
    Handled,
    RecordHandler,
    UserDirectory,
)
from keycloak_bridge.event_files.json_events import BROKEN_HEADER
from keycloak_bridge.invitations.inviter import InviteOutcome
from keycloak_bridge.keycloak.partial_import import RealmAccess, realm_access
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.messages.invitations import read_invitation
from keycloak_bridge.messages.results import rejected
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.provisioning.provisioner import UserLocks
from keycloak_bridge.settings import Settings
from keycloak_bridge.settings.model import EnvelopeSettings

_BROKEN = {
    "cells": ("cells", "must have as many cells as the header"),
    "wrong-encoding": ("encoding", "must be UTF-8"),
    "quotes": ("quotes", "must have its quotes in pairs, and nothing behind the closing one"),
    "too-large": ("maxLength", "must be shorter than events.max_bytes"),
}
"""By what is wrong with a row: keyword and rule."""


@dataclass(slots=True)
class Tally:
    """What became of the events of this run, by one word each. Safe to share between threads."""

    counts: Counter[str] = field(default_factory=Counter)
    mails: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, word: str) -> None:
        """Count one."""
        with self._lock:
            self.counts[word] += 1

    def mailed(self) -> None:
        """Count a mail."""
        with self._lock:
            self.mails += 1

    @property
    def done(self) -> int:
        """How many events were told of."""
        with self._lock:
            return self.counts.total()

    def snapshot(self) -> Mapping[str, int]:
        """Return what was counted until now, by name."""
        with self._lock:
            mails = {"mailed": self.mails} if self.mails else {}
            return dict(sorted({**self.counts, **mails}.items()))


class Arrived:
    """The acknowledgement of what needs to go nowhere."""

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Call `done` at once."""
        done(None)


_ARRIVED = Arrived()


class News:
    """A MessageSink that counts results, and has invitations mailed at once."""

    def __init__(self, results_topic: str, tally: Tally) -> None:
        self.mail: Callable[[Message], None] = lambda _: None
        self._results_topic = results_topic
        self._tally = tally

    def publish(self, message: Message) -> Acknowledgement:
        """Take a result or an invitation; raises what a mail that is due raises."""
        if message.topic != self._results_topic:
            self.mail(message)
            return _ARRIVED
        data = json.loads(message.value or b"{}")["data"]
        word = data.get("action") or data["outcome"]
        self._tally.add(word if word != Outcome.SKIPPED else f"skipped ({data.get('reason')})")
        return _ARRIVED

    def close(self) -> None:
        """Nothing is open."""


class FileHandler:
    """The provision stage, and before it what can be wrong with a row of a table only."""

    def __init__(self, stage: RecordHandler, publisher: ResultPublisher) -> None:
        self._stage = stage
        self._publisher = publisher

    def ordering_key(self, record: Record) -> bytes:
        """Return what names the user."""
        return self._stage.ordering_key(record)

    def handle(self, record: Record) -> Handled:
        """Return what must be acknowledged before `record` counts as done; raises as the stage."""
        broken = dict(record.headers).get(BROKEN_HEADER)
        if broken is None:
            return self._stage.handle(record)
        since_s = self._publisher.context.clock.monotonic()
        error = broken_row(broken.decode("ascii"))
        result = rejected(Result(Outcome.REJECTED), error)
        return Handled(
            self._publisher.dead_letter(
                record, error, step="decode", result=result, since_s=since_s
            )
        )

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Reject a record that keeps failing while others succeed."""
        return self._stage.give_up(record, error)


def broken_row(reason: str) -> EventValidationError:
    """Return the error for a row that cannot be read."""
    keyword, rule = _BROKEN[reason]
    return EventValidationError(
        f"the row cannot be read: it {rule}",
        remedy="put cells with a comma or a line break into quotes, and export the row as UTF-8",
        violations=(Violation("/data", keyword, rule),),
    )


_ROOM = 4
"""A partition may take the fourth part of the room in hand; here there is one partition."""

_MAIL_PATIENCE_S = 60.0
"""How long a mail may wait for the pace, besides the time in which an earlier one settles; then it is tried again."""


def has_own_envelope(settings: Settings) -> bool:
    """Say whether the producer's events are no CloudEvents."""
    names = (one.name for one in fields(EnvelopeSettings) if one.name != "types")
    return any(getattr(settings.envelope, name) is not None for name in names)


def backfill_settings(settings: Settings, *, data: bool) -> Settings:
    """Return `settings` for a run over files; with `data` their lines have no envelope of the producer's."""
    envelope = EnvelopeSettings(types=settings.envelope.types) if data else settings.envelope
    room = settings.delivery.max_records * _ROOM
    return replace(
        settings,
        envelope=envelope,
        delivery=replace(settings.delivery, max_records=room),
        # nobody waits at the terminal for a user that may never appear
        lifecycle=replace(settings.lifecycle, unknown_user_wait=0.0),
    )


def realm_of(
    interpretation: Interpretation,
) -> tuple[UserDirectory, RealmAccess | None, Clock]:
    """Return the realm's users, what lets many be written at once, and the clock of both.

    Raises ConfigError where the realm is not ready.
    """
    clock = SystemClock()
    admin = keycloak_admin(interpretation.settings, clock)
    check = RealmGate(partial(realm_problems, interpretation, admin), clock)
    refuse(check())
    return KeycloakUserDirectory(admin, clock), realm_access(admin, clock), clock


@dataclass(frozen=True, slots=True)
class Backfill:
    """A run over files: everything that it stands on."""

    interpretation: Interpretation
    directory: UserDirectory
    source: FileEventSource
    rejects: Rejects
    clock: Clock
    tally: Tally
    realm: RealmAccess | None = None
    mails: bool = False

    def run(self, stop: threading.Event, turned: Callable[[], None] = lambda: None) -> None:
        """Handle every line until `stop` is set; `turned` is called a few times a second at least.

        What is done stays done however it ends. Raises BridgeError: ConfigError for files that changed or cannot be
        read, BrakeError when the brake engages.
        """
        stage = self._stage()
        context = replace(stage.context, name="backfill")
        worker = ConsumerLoop(context, self.source, stage.handler, stage.options)

        def until() -> Mapping[TopicPartition, int] | None:
            turned()
            end = self.source.end
            return None if end is None else {PARTITION: end}

        try:
            worker.run(stop, until)
        finally:
            stage.close()

    def _stage(self) -> Stage:
        settings = self.interpretation.settings
        news = News(settings.topics.results, self.tally)
        locks = UserLocks()
        assembly = StageBuilder(
            settings,
            self.interpretation,
            self.directory,
            sink=news,
            letters=self.rejects,
            archive=self.rejects,
            clock=self.clock,
            metrics=Metrics(),
            realm=self.realm,
            locks=locks,
        )
        stage = assembly.stages()[0]
        if self.mails:
            news.mail = self._mailing(stage.context.brake, locks)
        publisher = assembly.publisher(stage.context, settings.kafka.group_id)
        return replace(stage, handler=FileHandler(stage.handler, publisher))

    def _mailing(self, brake: Brake, locks: UserLocks) -> Callable[[Message], None]:
        """Return what mails an invitation at once, within pace and limits."""
        settings = self.interpretation.settings
        sender = inviter(self.directory, locks, settings, self.clock)
        limits = limits_of(settings, brake)

        def invite(invitation: Invitation) -> InviteOutcome:
            limits.admit((LimitedAction.MAIL,), invitation.id, self.clock.monotonic())
            outcome = wait_out(
                partial(sender.invite, invitation),
                lambda _: None,
                limit_s=settings.invite.settle + _MAIL_PATIENCE_S,
            )
            if not outcome.mailed:
                limits.take_back(LimitedAction.MAIL, invitation.id)
            return outcome

        def mail(message: Message) -> None:
            record = Record(message.topic, 0, 0, 0, message.key, message.value, message.headers)
            invitation = read_invitation(record, self.interpretation.catalog)
            if invitation.confirm_only:
                sender.confirm(invitation)
            elif invite(invitation).mailed:
                self.tally.mailed()

        return mail
