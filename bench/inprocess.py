"""Both stages of a bridge in this process, as they are assembled, over a Kafka in memory: only what Keycloak does counts."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.wiring import StageBuilder, topic_output
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Record, TopicPartition
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.ports import Clock, Handled
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.partial_import import realm_access
from keycloak_bridge.keycloak.users import KeycloakUserDirectory
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.testing.in_memory_broker import InMemoryBroker

_HEADERS = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
_MANY = 100_000


@dataclass(frozen=True, slots=True)
class NoDeadLetters:
    """The archive of a run that writes no dead letter."""

    def holds(self, record: Record) -> bool:
        """Say no."""
        del record
        return False

    def replayed(self, record: Record) -> bool:
        """Say no."""
        del record
        return False

    def topic_id(self, topic: str) -> str | None:
        """Return nothing."""
        del topic
        return None


class InProcessBridge:
    """Handles events one after the other, each to its last acknowledgement; a dead letter is an error."""

    def __init__(
        self,
        settings: Settings,
        interpretation: Interpretation,
        admin: KeycloakAdmin,
        clock: Clock,
    ) -> None:
        self._topics = settings.topics
        self._broker = InMemoryBroker()
        self._clock = clock
        self._offsets = itertools.count(1)
        directory = KeycloakUserDirectory(admin, clock)
        self._stages = StageBuilder(
            settings,
            interpretation,
            directory,
            topic_output(settings, self._broker, self._broker, NoDeadLetters(), clock),
            clock,
            Metrics(),
            realm=realm_access(admin, clock, directory.times),
        ).stages()
        catch_up = self._stages[0].options.catch_up
        if catch_up is not None:
            catch_up.finish()

    def begin_backlog(self) -> None:
        """Let many events wait from now on."""
        backlog = self._stages[0].context.backlog
        backlog.begin(TopicPartition(self._topics.events, 0), self._clock.monotonic())
        backlog.note(_MANY, _MANY)

    @staticmethod
    def is_listing() -> bool:
        """Tell whether something lists the realm."""
        return any(one.name == "known-users" for one in threading.enumerate())

    def begin(self, key: bytes, value: bytes) -> "Pending":
        """Have one event provisioned; of a batch, others may have to come before it is."""
        topic, offset = self._topics.events, next(self._offsets)
        timestamp_ms = int(self._clock.now().timestamp() * 1000)
        return self._do(0, Record(topic, 0, offset, timestamp_ms, key, value, _HEADERS))

    def handle(self, key: bytes, value: bytes) -> None:
        """Provision one event."""
        self.begin(key, value).wait()
        self._refuse_dead_letters()

    def invite(self) -> None:
        """Mail the newest invitation."""
        self._do(1, self._broker.records(self._topics.invitations)[-1]).wait()
        self._refuse_dead_letters()

    def _do(self, stage: int, record: Record) -> "Pending":
        handled = self._stages[stage].handler.handle(record)
        return Pending(handled)

    def _refuse_dead_letters(self) -> None:
        letters = self._broker.records(self._topics.dead_letters)
        if letters:
            codes = {dict(one.headers).get("kb-dlq-code") for one in letters}
            raise RuntimeError(f"{len(letters)} events became dead letters: {codes}")


class Pending:
    """The acknowledgements of one record."""

    def __init__(self, handled: Future[Handled]) -> None:
        self._handled = handled
        self._ended = threading.Event()
        handled.add_done_callback(lambda _: self._ended.set())
        self._arrived = threading.Semaphore(0)
        self._errors: list[BridgeError] = []

    def wait(self) -> None:
        """Return when all are in; raises what befell the record or one of them."""
        self._ended.wait()
        acknowledgements = self._handled.result().acknowledgements
        for one in acknowledgements:
            one.then(self._arrive)
        for _ in acknowledgements:
            self._arrived.acquire()
        if self._errors:
            raise self._errors[0]

    def _arrive(self, error: BridgeError | None) -> None:
        if error is not None:
            self._errors.append(error)
        self._arrived.release()


def settle(pending: Sequence[Pending]) -> None:
    """Wait for all."""
    for one in pending:
        one.wait()
