"""The composition root: build stages, provisioners and inviters from settings.

`StageBuilder` is for the running bridge and for backfill; `direct_provisioner` is for commands that need no Kafka.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from keycloak_bridge.activation.reminders import Reminders
from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import realm_problems, refuse
from keycloak_bridge.app.stages import Stage
from keycloak_bridge.delivery.breaker import RetryPolicy
from keycloak_bridge.delivery.catch_up import CatchUp
from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.delivery.consumer_loop import ConsumerOptions
from keycloak_bridge.delivery.delivery import DeliveryPolicy
from keycloak_bridge.delivery.fencing import fenced
from keycloak_bridge.delivery.group_stamp import GroupStamp, realm_address
from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits
from keycloak_bridge.delivery.rate_limit import RateLimiter, wait_out
from keycloak_bridge.delivery.results import ResultPublisher, TopicOutput
from keycloak_bridge.delivery.stage_context import Backlog, SentDeadLetters, StageContext
from keycloak_bridge.delivery.tracing import StageTracer
from keycloak_bridge.domain.errors import HoldError
from keycloak_bridge.domain.events import Invitation, Result
from keycloak_bridge.domain.ports import (
    Acknowledgement,
    Clock,
    DeadLetterArchive,
    MessageProducer,
    RecordConsumer,
    StageOutput,
    Trace,
    UserDirectory,
    UserImporter,
    no_trace,
)
from keycloak_bridge.domain.users import EXACT_ID_ATTRIBUTE
from keycloak_bridge.invitations.inviter import InviteOutcome, Inviter
from keycloak_bridge.kafka.consumer import KafkaRecordConsumer
from keycloak_bridge.kafka.fetched import LARGEST_RECORD_BYTES
from keycloak_bridge.kafka.topics import TopicSpec, wanted_topics
from keycloak_bridge.keycloak.lookup_times import LISTED_S
from keycloak_bridge.keycloak.partial_import import BATCHED_SAVES_S, RealmAccess
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.ops.tracing import Tracer
from keycloak_bridge.pipeline.invite import InviteStage
from keycloak_bridge.pipeline.provision import ProvisionStage
from keycloak_bridge.planning.ownership import OwnUsers
from keycloak_bridge.provisioning.batches import BatchWriter
from keycloak_bridge.provisioning.bulk_writer import BulkWriter
from keycloak_bridge.provisioning.known_users import KnownUsers
from keycloak_bridge.provisioning.mark_races import MarkRaceCheck
from keycloak_bridge.provisioning.provisioner import Provisioner, ProvisionPolicy
from keycloak_bridge.provisioning.verification import VerificationPolicy
from keycloak_bridge.provisioning.writer import SingleWriter
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.threads.named_locks import UserLocks

_IN_FLIGHT, _START_IN_FLIGHT = 8, 4
"""Most batches at the same time, and how many at the start; Keycloak's response times decide within that."""

_LEAST_BATCH, _LARGEST_BATCH, _START_BATCH = 5, 50, 25
"""Users in a batch; Keycloak's response times decide within that."""

_BRAKE_WINDOW = 200
"""Records of which `brake.share` is taken."""

_FINISHERS = 4
"""Threads more than batches in flight: while a batch is finished, the next one is on its way."""

_MAIL_PREPARERS = 4
"""Threads more than mails at a time: while mails are on their way, the next users are read and marked."""

_EARLIER_OWNER_FACTOR = 10
"""Offsets per record that an earlier owner may have had in hand above its commit: most offsets are records."""

_RELEASE_PART = 3
"""Releasing a partition may take this part of the session: heartbeats wait for it."""

_MAIL_WAIT_S = 60.0
"""How long a mail that is sent at once may wait for the pace, besides the time in which an earlier one settles."""


_AROUND_VALUE_BYTES = 1024 * 1024
"""What key and headers of a record may take besides the largest value."""


@dataclass(frozen=True, slots=True)
class StageBuilder:
    """What all stages share, and how they are built."""

    settings: Settings
    interpretation: Interpretation
    directory: UserDirectory
    output: StageOutput
    clock: Clock
    metrics: Metrics
    locks: UserLocks = field(default_factory=UserLocks)
    realm: RealmAccess | None = None
    status: Status = field(default_factory=Status)
    stamps: bool = False
    """Whether commits say whose they are: those of a consumer group, not those of a journal."""
    tracer: Tracer | None = None

    def stages(self) -> Sequence[Stage]:
        """Return the provision stage and, unless invitations are off, the invite stage, which waits for it at first."""
        if self.settings.invite.mode == "none":
            return [self.provision()]
        catch_up = CatchUp(self.clock)
        return [self.provision(catch_up), self._invite(catch_up)]

    def provision(self, catch_up: CatchUp | None = None) -> Stage:
        """Return the provision stage by itself, or with what the invite stage waits for."""
        settings, known = self.settings, self.interpretation
        group_id = settings.kafka.group_id
        actions = set(LimitedAction) - {LimitedAction.MAIL}
        backlog = Backlog(settings.burst.backlog)
        context = self._context("provision", group_id, backlog, actions)
        workers = settings.delivery.workers
        limit = ConcurrencyLimit(self.clock, most=workers, start=max(1, workers // 2))
        provisioner = Provisioner(
            fenced(self.directory, context.fence, limit),
            self._request_invitation,
            self.clock,
            policy=provision_policy(settings, known.mapping),
            limits=context.limits,
            locks=self.locks,
        )
        known_users = self._known_users(context.backlog)
        single = SingleWriter(
            MarkRaceCheck(provisioner, self._request_invitation, self.clock), known_users
        )
        bulk = self._bulk_writer(single, provisioner, known_users, context)
        handler = ProvisionStage(
            interpreter=known.interpreter,
            after_dead_letter=settings.events.after_dead_letter,
            writer=bulk or single,
            publisher=ResultPublisher(context, self.output, group_id),
        )
        return Stage(
            context,
            self._join(settings.topics.events, group_id),
            handler,
            replace(self._options(workers), catch_up=catch_up),
            (lambda: None) if bulk is None else bulk.close,
        )

    def _known_users(self, backlog: Backlog) -> KnownUsers | None:
        """Return what knows which users are new, where users can be listed.

        Where the external id is the username, Keycloak itself knows: listed are only users whose username could be another
        one's e-mail address, which an import does not look at.
        """
        realm = self.realm
        if realm is None:
            return None
        listing, count, search_s = realm.list_users, realm.count_users, realm.search_s
        name = self.interpretation.mapping.external_id
        if name == EXACT_ID_ATTRIBUTE:
            listing, count = partial(listing, username="@"), partial(count, username="@")
            search_s = lambda: 0.0  # noqa: E731 # nobody is searched for
        return KnownUsers(
            listing,
            count,
            name,
            backlog,
            self.clock,
            most=self.settings.burst.list_limit,
            listed_s=LISTED_S,
            saved_s=partial(self._saved_s, realm.importer, search_s),
        )

    def _saved_s(self, importer: UserImporter, search_s: Callable[[], float]) -> float:
        """Return what a user who is known to be new saves Keycloak: the search, and what it costs more by itself than in a batch."""
        batches = self.settings.burst.mode != "off" and importer.available()
        return search_s() + (BATCHED_SAVES_S if batches else 0.0)

    def _bulk_writer(
        self,
        single: SingleWriter,
        provisioner: Provisioner,
        known_users: KnownUsers | None,
        context: StageContext,
    ) -> BulkWriter | None:
        if self.realm is None or known_users is None or self.settings.burst.mode == "off":
            return None
        batches = BatchWriter(
            self.realm.importer,
            ConcurrencyLimit(
                self.clock,
                most=_IN_FLIGHT * _LARGEST_BATCH,
                start=_START_IN_FLIGHT * _START_BATCH,
                batch=(_LEAST_BATCH, _LARGEST_BATCH),
            ),
            self.clock,
            self.metrics,
            threads=_IN_FLIGHT + _FINISHERS,
            tracer=context.tracer,
        )
        return BulkWriter(single, provisioner, self.realm.importer, batches, known_users, context)

    def _invite(self, catch_up: CatchUp) -> Stage:
        settings = self.settings
        group_id = settings.kafka.invite_group_id
        context = self._context("invite", group_id, Backlog(), {LimitedAction.MAIL})
        handler = InviteStage(
            catalog=self.interpretation.catalog,
            mappings=self.interpretation.mapping,
            inviter=inviter(
                fenced(self.directory, context.fence),
                own_users(self.interpretation.mapping),
                self.locks,
                settings,
                self.clock,
                context.limits,
                comes_again=True,
            ),
            publisher=ResultPublisher(context, self.output, group_id),
            may_mail=lambda: catch_up.done,
            max_age_s=settings.invite.max_age,
            on_terms=reminders_of(settings).on_terms,
        )
        return Stage(
            context,
            self._join(settings.topics.invitations, group_id),
            handler,
            self._options(settings.invite.workers + _MAIL_PREPARERS),
        )

    def _limits(self, brake: Brake, actions: Collection[LimitedAction]) -> Limits:
        """Return the limits of a stage that does these actions, and report them in the metrics."""
        limits = limits_of(self.settings, brake, actions)
        for action, limit in limits.allowed().items():
            used = partial(self._used, limits, action)
            self.metrics.limit(action.value, limit.count, used)
        return limits

    def _used(self, limits: Limits, action: LimitedAction) -> int:
        return limits.used(action, self.clock.monotonic())

    def _options(self, workers: int) -> ConsumerOptions:
        settings = self.settings
        delivery = settings.delivery
        return ConsumerOptions(
            DeliveryPolicy(
                RetryPolicy(settings.retry.initial, settings.retry.max),
                max_records=delivery.max_records,
                max_bytes=delivery.max_bytes,
                max_attempts=delivery.max_attempts,
                release_s=settings.kafka.session_timeout / _RELEASE_PART,
            ),
            workers=workers,
            session_s=settings.kafka.session_timeout,
            drain_s=delivery.drain,
            stuck_after_s=delivery.stuck_after,
            brake_on_loss=settings.kafka.lost_records == "brake",
        )

    def _context(
        self, name: str, group_id: str, backlog: Backlog, actions: Collection[LimitedAction]
    ) -> StageContext:
        policy = self.settings.brake
        brake = Brake(policy.in_a_row, policy.share, _BRAKE_WINDOW)
        mappings = self.interpretation.mapping
        return StageContext(
            name,
            self.clock,
            self.status,
            self.metrics,
            brake,
            sent_dead_letters=SentDeadLetters(
                _EARLIER_OWNER_FACTOR * self.settings.delivery.max_records
            ),
            backlog=backlog,
            stamp=group_stamp(self.settings, mappings, group_id) if self.stamps else None,
            limits=self._limits(brake, actions),
            tracer=StageTracer(
                self.tracer,
                name != "provision" or self.settings.tracing.producer == "parent",
                group_id,
                self.interpretation.rules,
            ),
        )

    def _request_invitation(self, invitation: Invitation) -> Sequence[Acknowledgement]:
        return (self.output.invitation(invitation),)

    def _join(self, topic: str, group_id: str) -> Callable[[], RecordConsumer]:
        largest = max(LARGEST_RECORD_BYTES, self.settings.events.max_bytes + _AROUND_VALUE_BYTES)
        return partial(
            KafkaRecordConsumer,
            self.settings.kafka,
            topic=topic,
            group_id=group_id,
            largest_record_bytes=largest,
        )


def group_stamp(settings: Settings, mappings: Mappings, group_id: str) -> GroupStamp:
    """Return what the members of one of the bridge's groups should have in common."""
    return GroupStamp(group_id, realm_identity(settings), mappings.fingerprint)


def realm_identity(settings: Settings) -> str:
    """Return the name by which bridges, journals and dead letters recognise the realm."""
    keycloak = settings.keycloak
    return keycloak.known_as or realm_address(keycloak.url, keycloak.realm or "")


def consumer_groups(settings: Settings) -> tuple[str, ...]:
    """Return the ids of the groups that the stages join."""
    kafka = settings.kafka
    invites = settings.invite.mode != "none"
    return (kafka.group_id, kafka.invite_group_id) if invites else (kafka.group_id,)


def topic_output(
    settings: Settings,
    producer: MessageProducer,
    dead_letters: MessageProducer,
    archive: DeadLetterArchive,
    clock: Clock,
) -> TopicOutput:
    """Return the topics of these settings as the output of the stages."""
    topics = settings.topics
    return TopicOutput(
        producer,
        dead_letters,
        archive,
        clock,
        results_topic=topics.results,
        dead_letters_topic=topics.dead_letters,
        invitations_topic=topics.invitations,
    )


def limits_of(
    settings: Settings, brake: Brake, actions: Collection[LimitedAction] = tuple(LimitedAction)
) -> Limits:
    """Return the limits of these settings on `actions`, which engage `brake`."""
    return Limits(
        brake,
        {one: getattr(settings.limits, one.value) for one in LimitedAction if one in actions},
    )


def provision_policy(settings: Settings, mapping: Mappings) -> ProvisionPolicy:
    """Return how these settings guard the realm."""
    verify = settings.verify
    return ProvisionPolicy(
        mapping.reserved,
        VerificationPolicy(verify.mode, verify.share),
        settings.lifecycle.unknown_user_wait,
    )


def own_users(mapping: Mappings) -> OwnUsers:
    """Return which users the bridge may mail."""
    return OwnUsers(mapping.external_id, mapping.reserved, mapping.protected_groups)


def inviter(
    directory: UserDirectory,
    own: OwnUsers,
    locks: UserLocks,
    settings: Settings,
    clock: Clock,
    limits: Limits | None = None,
    *,
    comes_again: bool = False,
) -> Inviter:
    """Return the inviter of these settings, which keeps to `limits`.

    `comes_again` says whether Kafka delivers an invitation again whose attempt was broken off.
    """
    invite = settings.invite
    return Inviter(
        directory,
        own,
        locks,
        clock=clock,
        at_once=invite.workers,
        pace=RateLimiter(invite.pace),
        limits=limits,
        settle_s=invite.settle,
        at_most_once=invite.delivery == "at-most-once",
        comes_again=comes_again,
        resend=settings.lifecycle.resend,
    )


def reminders_of(settings: Settings) -> Reminders:
    """Return which mails follow one whose link ended unused."""
    before_s = settings.invite.remind_before
    return Reminders(
        None if before_s is None else math.ceil(before_s), settings.invite.resend_expired
    )


def mailer(
    sender: Inviter, settings: Settings, waiting: Callable[[HoldError], None] = lambda _: None
) -> Callable[[Invitation], InviteOutcome]:
    """Return what mails an invitation at once.

    It waits for the pace, and for an earlier mail without an answer to settle; `waiting` is called before each pause.
    """

    def mail(invitation: Invitation) -> InviteOutcome:
        return wait_out(
            partial(sender.invite, invitation),
            waiting,
            limit_s=settings.invite.settle + _MAIL_WAIT_S,
        )

    return mail


def direct_provisioner(
    interpretation: Interpretation,
    *,
    trace: Trace = no_trace,
    invited: Callable[[Result], None] = lambda _: None,
    brake: Brake | None = None,
    mails: bool = True,
    writes: bool = False,
    directory: UserDirectory | None = None,
    request: Callable[[Invitation], Sequence[Acknowledgement]] | None = None,
) -> Provisioner:
    """Return a provisioner that needs no Kafka: an invitation that is due is mailed at once, unless `mails` is False.

    With `request`, that gets the invitation instead, as the invite stage does from `run`.

    `invited` is called with each mail's result, `trace` also with each pause before a mail (`waiting`). With `brake` the
    limits of the settings apply, and engage it. With `writes` the realm is checked first, as `run` does at its start:
    raises ConfigError where it is not ready. `directory` finds the users in the place of the realm's own.
    """
    clock = SystemClock()
    settings = interpretation.settings
    admin = keycloak_admin(settings, clock)
    if writes:
        refuse(realm_problems(interpretation, admin))
    directory = directory or KeycloakUserDirectory(admin, clock)
    locks = UserLocks()
    own = own_users(interpretation.mapping)
    limits = None if brake is None else limits_of(settings, brake)
    sender = inviter(directory, own, locks, settings, clock, limits)
    mail = mailer(sender, settings, partial(trace, "waiting"))

    def invite(invitation: Invitation) -> Sequence[Acknowledgement]:
        if request is not None:
            return request(invitation)
        if mails:
            invited(mail(invitation).result)
        return ()

    return Provisioner(
        directory,
        invite,
        clock,
        # a command does not wait for a user that may never appear
        policy=replace(
            provision_policy(settings, interpretation.mapping),
            unknown_user_wait_s=0,
            expects_new=False,  # a command is mostly about users that exist
        ),
        limits=limits,
        locks=locks,
        trace=trace,
    )


def topic_specs(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return the topics that `run` needs with these settings."""
    return wanted_topics(settings.topics, invitations=settings.invite.mode != "none")
