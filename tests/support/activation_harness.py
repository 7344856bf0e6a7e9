"""The activation ledger over a Kafka and a Keycloak in memory."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from stage_harness import INVITATIONS, RESULTS, interpretation

from keycloak_bridge.activation.ledger import Ledger, LedgerPolicy
from keycloak_bridge.activation.loop import ActivationLoop
from keycloak_bridge.activation.reminders import Reminders
from keycloak_bridge.app.activation import ActivationTopics
from keycloak_bridge.app.wiring import own_users
from keycloak_bridge.delivery.group_stamp import GroupStamp
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Invitation, Message, event_identity
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.invitations.inviter import Inviter
from keycloak_bridge.messages.invitations import invitation_message, read_invitation
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.status import Status
from keycloak_bridge.planning.bookkeeping import InvitationMark, MarkState, format_mark
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker, InMemoryConsumer
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

GROUP = "bridge-activation"
LIFESPAN_S = 259_200
GRACE_S = 300
AHEAD_S = 60


class Member:
    """A sidecar's ledger, as a member of the group."""

    def __init__(self, watch: "Watch") -> None:
        known = interpretation()
        self.source: InMemoryConsumer = watch.broker.source(INVITATIONS, GROUP)
        self.status = Status()
        self.metrics = Metrics()
        self.ledger = Ledger(
            LedgerPolicy(
                "userId",
                pace_per_s=watch.pace_per_s,
                grace_s=GRACE_S,
                reminders=watch.reminders,
                max_age_s=watch.max_age_s,
            ),
            partial(read_invitation, catalog=known.catalog, mappings=known.mapping),
            watch.keycloak,
            watch.keycloak,
            ActivationTopics(watch.producer, RESULTS, INVITATIONS),
            watch.clock,
            self.metrics,
            lambda: (
                {at: watch.broker.end(at) for at in watch.broker.partitions_of(INVITATIONS)}
                if watch.mails_done
                else {}
            ),
        )
        stamp = GroupStamp(GROUP, "http://keycloak/realms/acme", "0123456789ab")
        self.loop = ActivationLoop(
            self.source, self.ledger, watch.clock, self.status, self.metrics, stamp
        )
        self.source.when_revoked(self.loop._release)


class LateProducer:
    """A broker whose answers come when a test wants it, if it `is_late`."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._unanswered: list[Callable[[], None]] = []
        self.is_late = False

    def publish(self, message: Message) -> Acknowledgement:
        """Store the message, and keep the answer back."""
        published = self._broker.publish(message)
        return _LateAcknowledgement(published, self._unanswered) if self.is_late else published

    def answer(self) -> None:
        """Give all answers that were kept back."""
        unanswered, self._unanswered[:] = self._unanswered[:], []
        for one in unanswered:
            one()

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class _LateAcknowledgement:
    published: Acknowledgement
    unanswered: list[Callable[[], None]]

    def then(self, done: Callable[[BridgeError | None], None]) -> None:
        self.unanswered.append(lambda: self.published.then(done))


class Watch:
    """People who were invited, and members that watch them."""

    def __init__(
        self,
        *,
        partitions: int = 1,
        pace_per_s: float = 1000.0,
        reminders: Reminders | None = None,
        max_age_s: float | None = None,
    ) -> None:
        self.reminders = reminders or Reminders()
        self.max_age_s = max_age_s
        self._mailed = 0
        self._link_ends_s: list[float] = []
        self.clock = FakeClock(datetime(2026, 11, 1, 12, tzinfo=UTC))
        self.broker = InMemoryBroker(partitions=partitions)
        self.producer = LateProducer(self.broker)
        self.keycloak = InMemoryKeycloak()
        self.keycloak.now = self.clock.now
        self.pace_per_s = pace_per_s
        self.mails_done = True
        self.members: list[Member] = []
        self.ids: dict[str, str] = {}
        self.join()

    def join(self) -> Member:
        """Let one more member join."""
        self.members.append(Member(self))
        return self.members[-1]

    def kill(self, member: Member) -> None:
        """End a member as kill -9 does: what it has not committed is unknown."""
        self.members.remove(member)
        member.source.when_revoked(lambda *_: {})
        member.source.close()

    def invite(
        self,
        user_id: str = "u-1",
        *,
        mark: str | None = None,
        event: str = "event-1",
        at: datetime | None = None,
    ) -> str:
        """Mail the user a link, at this moment by its record, and return its id in Keycloak."""
        identity = event_identity(event, "/um", "user.created", user_id)
        end_s = int(self.clock.now().timestamp()) + LIFESPAN_S
        sent = InvitationMark(MarkState.SENT, identity, end_s)
        attributes = {
            "userId": [user_id],
            "bridgeInvitation": [format_mark(sent) if mark is None else mark.format(identity)],
        }
        if user_id not in self.ids:
            self.ids[user_id] = self.keycloak.add_user(
                {
                    "username": user_id,
                    "email": f"{user_id}@acme.example",
                    "enabled": True,
                    "emailVerified": False,
                    "attributes": attributes,
                }
            )
        else:
            user = self.keycloak.get(self.ids[user_id])
            assert user is not None
            self.keycloak.update(self.ids[user_id], {**user, "attributes": attributes})
        invitation = Invitation(
            f"{identity}/invitation",
            identity,
            user_id,
            self.ids[user_id],
            InvitationTerms(("UPDATE_PASSWORD",), LIFESPAN_S),
            at or self.clock.now(),
        )
        errors, self.broker.publish_errors = self.broker.publish_errors, []
        self.broker.publish(invitation_message(invitation, topic=INVITATIONS))
        self.broker.publish_errors = errors
        return self.ids[user_id]

    def post(self) -> None:
        """Let the invite stage mail what is due."""
        known = interpretation()
        inviter = Inviter(self.keycloak, own_users(known.mapping), clock=self.clock)
        records = self.broker.records(INVITATIONS)
        for record in records[self._mailed :]:
            invitation = read_invitation(record, known.catalog, known.mapping)
            inviter.invite(self.reminders.on_terms(invitation))
            new = self.keycloak.mails[len(self._link_ends_s) :]
            now_s = self.clock.monotonic()
            self._link_ends_s += [now_s + mail.terms.lifespan_s for mail in new]
        self._mailed = len(records)

    def living_links(self) -> int:
        """Return how many of the links that `post` mailed are still valid."""
        now_s = self.clock.monotonic()
        return sum(end_s > now_s for end_s in self._link_ends_s)

    def activate(self, user_id: str = "u-1") -> None:
        """Have the user set a password through the link."""
        self.keycloak.follow_link(self.ids[user_id])

    def turn(self, times: int = 3) -> None:
        """Let each member turn a few times, without any time passing."""
        for _ in range(times):
            for member in self.members:
                member.loop.turn()

    def after(self, seconds: float) -> None:
        """Let time pass and the members work."""
        self.clock.advance(seconds)
        self.turn()

    def results(self) -> list[dict[str, Any]]:
        """Return the results as CloudEvents, in order."""
        return [json.loads(record.value or b"") for record in self.broker.records(RESULTS)]

    def outcomes(self) -> list[tuple[str, str]]:
        """Return users and outcomes, in order."""
        return [(one["subject"], one["data"]["outcome"]) for one in self.results()]

    def ends(self) -> dict[str, set[tuple[str, str]]]:
        """Return which different results each user has: ids and outcomes."""
        ends: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        for one in self.results():
            ends[one["subject"]].add((one["id"], one["data"]["outcome"]))
        return dict(ends)
