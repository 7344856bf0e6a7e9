"""Bring the users of files into the realm: the provision stage over files instead of a topic, built from settings."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

from keycloak_bridge.assembly import Assembly, inviter, limits_of
from keycloak_bridge.backfill_outlets import FileHandler, News, Tally
from keycloak_bridge.backfill_rejects import Rejects
from keycloak_bridge.backfill_source import PARTITION, FileEventSource
from keycloak_bridge.bridge import realm_problems
from keycloak_bridge.connections import SystemClock, keycloak_admin
from keycloak_bridge.core.brake import Brake
from keycloak_bridge.core.contracts import read_invitation
from keycloak_bridge.core.limits import Deed
from keycloak_bridge.core.model import Invitation, Message, Record, TopicPartition
from keycloak_bridge.core.ports import Clock, UserDirectory
from keycloak_bridge.core.status import Status
from keycloak_bridge.core.user_locks import UserLocks
from keycloak_bridge.interpretation import Interpretation
from keycloak_bridge.inviter import InviteOutcome
from keycloak_bridge.keycloak_users import KeycloakUserDirectory
from keycloak_bridge.metrics import Metrics
from keycloak_bridge.outlets import Outlets
from keycloak_bridge.patience import wait_out
from keycloak_bridge.realm_gate import RealmGate, refuse
from keycloak_bridge.settings import Settings
from keycloak_bridge.settings.model_events import EnvelopeSettings
from keycloak_bridge.sidecar import Stage
from keycloak_bridge.worker import Company, Worker

if TYPE_CHECKING:
    from keycloak_bridge.realm_access import RealmAccess

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
) -> tuple[UserDirectory, "RealmAccess | None", Clock]:
    """Return the realm's users, what lets many be written at once, and the clock of both.

    Raises ConfigError where the realm is not ready.
    """
    from keycloak_bridge.realm_access import realm_access  # noqa: PLC0415

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
    realm: "RealmAccess | None" = None
    mails: bool = False

    def run(self, stop: threading.Event, turned: Callable[[], None] = lambda: None) -> None:
        """Handle every line until `stop` is set; `turned` is called a few times a second at least.

        What is done stays done however it ends. Raises BridgeError: ConfigError for files that changed or cannot be
        read, BrakeError when the brake engages.
        """
        stage, status = self._stage(), Status()
        worker = Worker(
            "backfill",
            self.source,
            stage.handler,
            stage.options,
            Company(
                clock=self.clock,
                status=status,
                metrics=Metrics(),
                fence=stage.fence,
                brake=stage.brake,
                lost=stage.lost,
                doubt=stage.doubt,
                backlog=stage.backlog,
            ),
        )

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
        locks, metrics = UserLocks(), Metrics()
        assembly = Assembly(
            settings,
            self.interpretation,
            self.directory,
            sink=news,
            letters=self.rejects,
            archive=self.rejects,
            clock=self.clock,
            metrics=metrics,
            realm=self.realm,
            locks=locks,
        )
        stage = assembly.stages()[0]
        if self.mails:
            news.mail = self._mailing(stage.brake, locks)
        outlets = Outlets(
            sink=news,
            letters=self.rejects,
            archive=self.rejects,
            doubt=stage.doubt,
            clock=self.clock,
            results_topic=settings.topics.results,
            dead_letters_topic=settings.topics.dead_letters,
            group_id=settings.kafka.group_id,
            stage=stage.name,
            brake=stage.brake,
            metrics=metrics,
        )
        return replace(stage, handler=FileHandler(stage.handler, outlets))

    def _mailing(self, brake: Brake, locks: UserLocks) -> Callable[[Message], None]:
        """Return what mails an invitation at once, within pace and limits."""
        settings = self.interpretation.settings
        sender = inviter(self.directory, locks, settings, self.clock)
        limits = limits_of(settings, brake)

        def invite(invitation: Invitation) -> InviteOutcome:
            limits.admit((Deed.MAIL,), invitation.id, self.clock.monotonic())
            outcome = wait_out(
                partial(sender.invite, invitation),
                lambda _: None,
                limit_s=settings.invite.settle + _MAIL_PATIENCE_S,
            )
            if not outcome.mailed:
                limits.take_back(Deed.MAIL, invitation.id)
            return outcome

        def mail(message: Message) -> None:
            record = Record(message.topic, 0, 0, 0, message.key, message.value, message.headers)
            invitation = read_invitation(record, self.interpretation.catalog)
            if invitation.confirm_only:
                sender.confirm(invitation)
            elif invite(invitation).mailed:
                self.tally.mailed()

        return mail
