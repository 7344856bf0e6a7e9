"""What a run is measured on: services that are up, and for each run a realm and topics that nobody else uses."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import (
    AdminRealmTools,
    FreshRealm,
    RealmAdministrator,
    create_realm,
)

PARTITIONS = 8
TOPICS = ("events", "invitations", "results", "dead-letters")
_TIMEOUT_S = 60
_DELETE_TIMEOUT_S = 900
_HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


@dataclass(frozen=True, slots=True)
class Services:
    """Kafka, the mail catcher and one Keycloak, warmed once for all runs."""

    sandbox: Sandbox
    keycloak_url: str
    keycloak_pid: int
    administrator: RealmAdministrator
    tidy: Callable[[], None] | None = None
    """Brings the database to the state that every run starts from; None where it needs no such care.

    It needs users of other realms that stay, or it would plan its queries for empty tables.
    """

    @property
    def kafka_pid(self) -> int:
        """Return the process of the broker."""
        return self.sandbox.kafka.pid or 0

    @property
    def bootstrap_servers(self) -> str:
        """Return Kafka's address."""
        return self.sandbox.bootstrap_servers

    @contextlib.contextmanager
    def ground(self, *, burst: bool = False, stays: bool = False) -> Iterator["Ground"]:
        """Lend a fresh realm, like the shipped one, and fresh topics.

        `burst` gives the bridge's account `manage-realm` too; a realm that `stays` is not deleted.
        """
        suffix = uuid.uuid4().hex[:8]
        realm = create_realm(self.sandbox, self.administrator, f"bench-{suffix}")
        if burst:
            tools = AdminRealmTools(self.administrator, realm.name)
            tools.grant(realm.client_id, "manage-realm")
        try:
            with _topics(self, suffix):
                yield Ground(self, realm, suffix)
        except Exception:  # and not Ctrl-C, after which everything goes anyway
            with contextlib.suppress(OSError):
                self.administrator.delete(realm.name, _DELETE_TIMEOUT_S)
            raise
        if not stays:
            # wait for it: users of earlier runs would slow down the searches of later ones
            self.administrator.delete(realm.name, _DELETE_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Ground:
    """A realm and four topics for one run."""

    services: Services
    realm: FreshRealm
    suffix: str

    @property
    def users_url(self) -> str:
        """Return the address of the realm's users."""
        return f"{self.services.keycloak_url}/admin/realms/{self.realm.name}/users"

    @property
    def token_url(self) -> str:
        """Return the address at which the realm gives tokens."""
        url = self.services.keycloak_url
        return f"{url}/realms/{self.realm.name}/protocol/openid-connect/token"

    def topic(self, name: str) -> str:
        """Return the full name of one of `TOPICS`."""
        return f"bench-{name}-{self.suffix}"

    def environment(self) -> dict[str, str]:
        """Return the settings with which a bridge finds this ground."""
        services, realm = self.services, self.realm
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": services.bootstrap_servers,
            "KAFKA_GROUP_ID": f"bench-{self.suffix}",
            "KEYCLOAK_URL": services.keycloak_url,
            "KEYCLOAK_REALM": realm.name,
            "KEYCLOAK_CLIENT_ID": realm.client_id,
            "KEYCLOAK_CLIENT_SECRET": realm.client_secret,
            "TOPICS_EVENTS": self.topic("events"),
            "TOPICS_INVITATIONS": self.topic("invitations"),
            "TOPICS_RESULTS": self.topic("results"),
            "TOPICS_DEAD_LETTERS": self.topic("dead-letters"),
            "HEALTH_PORT": "0",
        }
        return {f"KEYCLOAK_BRIDGE_{name}": value for name, value in settings.items()}

    def token(self) -> str:
        """Return a token of the bridge's own account, good for five minutes."""
        realm = self.realm
        form = {
            "grant_type": "client_credentials",
            "client_id": realm.client_id,
            "client_secret": realm.client_secret,
        }
        return str(_ask("POST", self.token_url, data=form)["access_token"])

    def count(self) -> int:
        """Return how many users Keycloak says the realm has; service accounts do not count."""
        return int(self._get("/count"))

    def by_username(self, username: str) -> list[dict[str, Any]]:
        """Return the users of that name with all that Keycloak stores of them."""
        query = f"?exact=true&briefRepresentation=false&username={quote(username)}"
        found: list[dict[str, Any]] = self._get(query)
        return found

    def publish(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish keys and values as user management does: keyed by user, acknowledged by all."""
        with self.producer() as producer:
            sent = [self.send(producer, key, value) for key, value in records]
            for one in sent:
                one.get(timeout=_TIMEOUT_S)

    @contextlib.contextmanager
    def producer(self, **options: Any) -> Iterator[Any]:
        """Lend a producer of events."""
        producer: Any = KafkaProducer(
            bootstrap_servers=self.services.bootstrap_servers, acks="all", **options
        )
        try:
            yield producer
        finally:
            producer.close()

    def send(self, producer: Any, key: bytes, value: bytes) -> Any:
        """Hand one event to the producer and return its future."""
        return producer.send(self.topic("events"), key=key, value=value, headers=_HEADERS)

    @contextlib.contextmanager
    def tally(self, name: str) -> Iterator["Tally"]:
        """Lend a look at how many records one of the topics has."""
        consumer: Any = KafkaConsumer(
            bootstrap_servers=self.services.bootstrap_servers, metrics_enabled=False
        )
        try:
            yield Tally(consumer, [TopicPartition(self.topic(name), n) for n in range(PARTITIONS)])
        finally:
            consumer.close()

    def _get(self, path: str) -> Any:
        return self.services.administrator.call("GET", f"/{self.realm.name}/users{path}")


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts the records of a topic by its end offsets, which costs next to nothing."""

    consumer: Any
    partitions: Sequence[TopicPartition]

    def __call__(self) -> int:
        """Return how many records were written so far."""
        return sum(self.consumer.end_offsets(self.partitions).values())


@contextlib.contextmanager
def _topics(services: Services, suffix: str) -> Iterator[None]:
    names = [f"bench-{name}-{suffix}" for name in TOPICS]
    admin: Any = KafkaAdminClient(bootstrap_servers=services.bootstrap_servers)
    try:
        shape: Mapping[str, int] = {"num_partitions": PARTITIONS, "replication_factor": 1}
        admin.create_topics(dict.fromkeys(names, shape), wait_for_metadata=True)
        try:
            yield
        finally:
            admin.delete_topics(names)
    finally:
        admin.close()


def _ask(method: str, url: str, **options: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, timeout=_TIMEOUT_S, **options)
        answer.raise_for_status()
        return answer.json()
