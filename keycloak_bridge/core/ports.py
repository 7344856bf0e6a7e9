"""What the worker, the provisioner and the inviter ask of the outside world."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from keycloak_bridge.core.model import (
    FoundUser,
    InvitationTerms,
    MatchCriterion,
    Message,
    Record,
    TopicPartition,
    UserRepresentation,
)


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """Return the present as an aware datetime in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...


class EventSource(Protocol):
    """The consumer side of one stage. Used by one thread only."""

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """Return records in the order of their offsets per partition; empty after `timeout_s` seconds.

        Raises BrokerUnavailableError or BrokerAccessError.
        """
        ...

    def take_revoked(self) -> frozenset[TopicPartition]:
        """Return the partitions that were taken away since the last call."""
        ...

    def joined(self) -> bool:
        """Say whether this is a settled member of the group; it may still hold no partition."""
        ...

    def set_paused(self, paused: bool) -> None:
        """Stop or resume fetching; `poll` still keeps the membership alive."""
        ...

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read again from these offsets where a partition is (still or again) assigned and further on."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit `offsets`, each the next one to read.

        Raises BrokerUnavailableError (try again later) or PartitionRevokedError.
        """
        ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to fetch of every assigned partition."""
        ...

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the end of every partition of the topic, assigned to us or not."""
        ...

    def committed(self) -> Mapping[TopicPartition, int]:
        """Return the group's committed offset of every partition (its beginning where none is)."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Acknowledgement(Protocol):
    """A record on its way to Kafka."""

    def wait(self, timeout_s: float) -> None:
        """Return once all replicas have it; raises BrokerError otherwise."""
        ...


class MessageSink(Protocol):
    """The producer side. Safe to share between threads."""

    def publish(self, message: Message) -> Acknowledgement:
        """Hand over `message`; nothing is certain before its acknowledgement."""
        ...

    def close(self) -> None:
        """Send what is buffered and stop."""
        ...


class UserDirectory(Protocol):
    """Keycloak's users. Safe to share between threads.

    Every method may raise KeycloakUnavailableError or KeycloakAuthError.
    """

    def find(
        self, criteria: Sequence[MatchCriterion], *, groups: bool, realm_roles: bool
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds.

        An external id is compared exactly, username and e-mail without case. `groups` and `realm_roles` ask for the
        memberships too. Raises ConflictError (`ambiguous`) when one criterion finds several users.
        """
        ...

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        ...

    def missing_groups(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those paths that name no group of the realm."""
        ...

    def create(self, representation: UserRepresentation) -> str:
        """Create the user and return its Keycloak id.

        Raises KeycloakConflictError or KeycloakRejectedError.
        """
        ...

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`, which must be whole: what its attributes lack is erased.

        Raises KeycloakConflictError, KeycloakNotFoundError or KeycloakRejectedError.
        """
        ...

    def join_group(self, user_id: str, path: str) -> None:
        """Make the user a member; harmless when it is one. Raises KeycloakNotFoundError."""
        ...

    def grant_realm_roles(self, user_id: str, names: Sequence[str]) -> None:
        """Map the roles; harmless when they are mapped. Raises KeycloakNotFoundError naming what is missing."""
        ...

    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user has set a password already. Raises KeycloakNotFoundError."""
        ...

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link.

        Raises MailDeliveryError when the SMTP server failed, KeycloakRejectedError or KeycloakNotFoundError.
        """
        ...
