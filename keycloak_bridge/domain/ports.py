"""The ports: what the flow asks of Kafka, Keycloak and the clock, and what the delivery asks of a stage."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from keycloak_bridge.domain.errors import BridgeError, Dependency, Violation
from keycloak_bridge.domain.events import (
    Commit,
    IdKind,
    Invitation,
    Message,
    Record,
    Result,
    SchemaReference,
    TopicPartition,
)
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.users import (
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)

NOTHING_MORE = Lookup()
"""Only the user's representation."""


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """Return the present as an aware datetime in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...


Release = Callable[[frozenset[TopicPartition], bool], Mapping[TopicPartition, Commit]]
"""Gives up partitions and says what to commit for them; the flag says that they are lost already."""


class RecordConsumer(Protocol):
    """The consumer side of one stage. Used by one thread only."""

    def when_revoked(self, release: Release) -> None:
        """Have `release` called before another member gets partitions, from any thread.

        What it returns is committed where the partitions are not lost yet. It may block for a third of the session
        time-out at most, since heartbeats wait for it.
        """
        ...

    def poll(self, timeout_s: float, held: Callable[[TopicPartition], bool]) -> Sequence[Record]:
        """Return records in the order of their offsets per partition; empty after `timeout_s` seconds.

        Nothing is fetched of a partition that is `held`, which may be asked from any thread meanwhile; the membership
        is kept alive all the same. Raises BrokerUnavailableError or BrokerAccessError.
        """
        ...

    def trouble(self) -> BridgeError | None:
        """Return which record cannot be read now, and why; the other partitions are read meanwhile."""
        ...

    def assigned(self) -> frozenset[TopicPartition]:
        """Return the partitions that this member holds now."""
        ...

    def joined(self) -> bool:
        """Say whether this is a settled member of the group; it may still hold no partition."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`; harmless when the partition is not assigned any more."""
        ...

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commit, and so prove that this member still belongs to the group.

        Raises BrokerUnavailableError (try again later) or PartitionRevokedError.
        """
        ...

    def commits(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Return what the group has committed for `partitions`; one without a commit is left out."""
        ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to fetch of every assigned partition that has one already."""
        ...

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each of `partitions` begins now; what lay before is deleted."""
        ...

    def take_offset_resets(self) -> Mapping[TopicPartition, int]:
        """Return what was to be read next where Kafka did not have it, each time once.

        Reading goes on at the beginning of these partitions.
        """
        ...

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition of the topic, assigned to us or not."""
        ...

    def topic_id(self) -> str | None:
        """Return Kafka's id of the topic as far as is known now: one that is made anew has another. None where it has none."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Acknowledgement(Protocol):
    """A record on its way to Kafka."""

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        """Have `done` called once, from any thread: with None when all replicas have it, else with a BrokerError."""
        ...


class MessageProducer(Protocol):
    """The producer side. Safe to share between threads."""

    def publish(self, message: Message) -> Acknowledgement:
        """Hand over `message`; nothing is certain before its acknowledgement."""
        ...

    def close(self) -> None:
        """Send what is buffered and stop."""
        ...


class DeadLetterArchive(Protocol):
    """The dead letters that were written before. Safe to share between threads."""

    def holds(self, record: Record) -> bool:
        """Say whether the topic holds a dead letter of this very `record`; raises BrokerError."""
        ...

    def replayed(self, record: Record) -> bool:
        """Say whether `record` is the replay that its headers say it is; raises BrokerError."""
        ...

    def topic_id(self, topic: str) -> str | None:
        """Return Kafka's id of `topic`, None where it gives none; raises BrokerError."""
        ...


class StageOutput(Protocol):
    """Where stages publish results, dead letters and invitations. Safe to share between threads."""

    def result(self, record: Record, result: Result) -> Acknowledgement:
        """Publish what became of `record`."""
        ...

    def dead_letter(
        self, record: Record, error: BridgeError, result: Result, *, step: str, group_id: str
    ) -> Acknowledgement:
        """Publish the untouched record and why it was rejected; raises DeadLetterError where that is not allowed.

        `step` is where it failed: decode, schema, map, keycloak or invite.
        """
        ...

    def invitation(self, invitation: Invitation) -> Acknowledgement:
        """Ask the invite stage for a mail."""
        ...

    def holds(self, record: Record) -> bool:
        """Say whether a dead letter of this very `record` was published before; raises BrokerError."""
        ...

    def replayed(self, record: Record) -> bool:
        """Say whether `record` is the replay that its headers say it is; raises BrokerError."""
        ...


class UserDirectory(Protocol):
    """Keycloak's users. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError.
    """

    def find(
        self,
        criteria: Sequence[MatchCriterion],
        lookup: Lookup = NOTHING_MORE,
        *,
        owner: MatchCriterion | None = None,
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds, with what `lookup` asks for.

        An external id is compared exactly, username and e-mail without case. With an `owner`, users that carry another
        external id than this one are not found. Raises ConflictError (`ambiguous`) when one criterion finds several users, or
        (`id-differs-in-case`) when an external id that is the username is another user's for Keycloak.
        """
        ...

    def having(self, criterion: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return every user that `criterion` finds; Keycloak itself keeps no attribute unique, nor every e-mail address."""
        ...

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        ...

    def belongs_to(self, user_id: str, kind: str) -> frozenset[str]:
        """Return the groups, roles or organizations that the user belongs to. Raises KeycloakNotFoundError."""
        ...

    def missing(self, kind: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return those groups or organizations that the realm does not have; none for roles.

        Roles can be listed only for a user that exists: `join` finds out.
        """
        ...

    def create(self, representation: UserRepresentation) -> str:
        """Create the user, without fields and values that are blank, and return its Keycloak id.

        Raises KeycloakConflictError or KeycloakRejectedError.
        """
        ...

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`, which must be whole: what its attributes lack is erased.

        One without `attributes` changes only what it has.

        Raises KeycloakConflictError, KeycloakNotFoundError or KeycloakRejectedError.
        """
        ...

    def delete(self, user_id: str) -> None:
        """Remove the user for good; harmless when it is gone."""
        ...

    def join(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Make the user a member of these groups or organizations, or give it these roles; harmless when it is or has.

        Raises KeycloakNotFoundError (`group-not-found`, `role-not-found`, `client-not-found`, `organization-not-found`).
        """
        ...

    def leave(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Undo `join`; harmless where there is nothing to undo. Raises KeycloakError for what may not be undone."""
        ...

    def create_group(self, path: str) -> None:
        """Create the group and those above it; harmless when they are there."""
        ...

    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user that is linked to this account of the identity provider, or None."""
        ...

    def link_identity(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account, in the place of one that it has there.

        Raises KeycloakNotFoundError (`identity-provider-not-found`), since Keycloak itself accepts any alias.
        """
        ...

    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Take the link away; harmless when there is none."""
        ...

    def end_sessions(self, user_id: str) -> None:
        """Log the user out everywhere; harmless when it is nowhere logged in."""
        ...

    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user has set a password already. Raises KeycloakNotFoundError."""
        ...

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link.

        Raises MailDeliveryError when the SMTP server failed, KeycloakRejectedError or KeycloakNotFoundError.
        """
        ...

    def can_look_up_mails(self) -> bool:
        """Say whether Keycloak records the mails that it sends and lets us read that; remembered for a while."""
        ...

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether Keycloak recorded a link mailed to the user, by any client.

        One older than `since` does not count, but for a minute by which clocks may differ. After a KeycloakAuthError of
        status 403 the answer of `can_look_up_mails` is no for a while; after a no it is asked anew.
        """
        ...


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """That a user set a credential, as Keycloak recorded it by its own clock; `id` tells it from every other."""

    id: str
    user_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CredentialChanges:
    """What Keycloak recorded since a moment; `complete` is False where older ones of that time may be missing."""

    changes: Sequence[CredentialChange]
    complete: bool = True


class Activations(Protocol):
    """Who has set a credential. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError.
    """

    def activated_at(self, user_id: str) -> datetime | None:
        """Return when the user set the password, or else its first credential; None where it has none.

        A password that a directory may have is none. Raises KeycloakNotFoundError.
        """
        ...

    def changes_since(self, since: datetime) -> CredentialChanges | None:
        """Return which users set a credential from `since` on, some perhaps twice; None where Keycloak cannot be asked."""
        ...


class UserImporter(Protocol):
    """Creates many users at once, as `UserDirectory.create` would one by one. Safe to share between threads."""

    def available(self) -> bool:
        """Say whether the realm and the account let users be imported, as far as was seen a short while ago."""
        ...

    def import_body(self, representation: UserRepresentation) -> UserRepresentation | None:
        """Return what to hand to `import_users` so that it makes of the user what `create` would.

        None where that is not certain; `create` decides then, also about a user that would be refused.
        """
        ...

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Create all that do not exist yet, and return their Keycloak ids in order, None for one that exists.

        All or none: one bad user fails them all. Raises KeycloakError.
        """
        ...


class RegisteredSchema(Protocol):
    """A schema of a registry. Safe to share between threads."""

    @property
    def id(self) -> str:
        """Its `$id`, or the one that the bridge made for it."""
        ...

    def violations(self, value: Any, root: str) -> tuple[Violation, ...]:
        """Return what `value` breaks, by pointer; pointers begin with `root`."""
        ...


class SchemaRegistry(Protocol):
    """A schema registry. Safe to share between threads."""

    @property
    def frame_ids(self) -> IdKind:
        """What the ids in frames are."""
        ...

    @property
    def works(self) -> bool:
        """Whether the registry had an answer when it was asked last."""
        ...

    def schema(self, reference: SchemaReference) -> RegisteredSchema:
        """Return the schema that a record names.

        Raises UnknownSchemaError (`unknown-schema-id`), RegisteredSchemaError or RegistryUnavailableError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Handled:
    """A record that is done once its acknowledgements are in; `dependency` names the services that it showed to work."""

    acknowledgements: Sequence[Acknowledgement] = ()
    dependency: Dependency = Dependency.NONE


class RecordHandler(Protocol):
    """A stage. Called from many threads, but never for two records of one ordering key at once."""

    def ordering_key(self, record: Record) -> bytes:
        """Return what names the user of `record`: records of one partition and ordering key keep their order."""
        ...

    def handle(self, record: Record) -> Future[Handled]:
        """Do what the record asks for; the future may end later, in any thread.

        Raises BridgeError, or has the future raise it, only where the record must wait, the flow must stop or another member
        has it.
        """
        ...

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Make a dead letter of a record that keeps failing while others succeed.

        Raises BridgeError where the record must wait, the flow must stop or another member has it.
        """
        ...


Trace = Callable[[str, object], None]
"""Called with each step of an event (`decoded`, `found`, `planned`, `done` …) and its outcome; `apply` prints them."""


def no_trace(step: str, outcome: object) -> None:
    """Trace nothing."""
