"""The rights on docs/security.md: a broker that grants exactly these, and each client that needs them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acl_commands import rights
from bridge_harness import STRUCTURED, Bench, an_event, wait_until
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePatternFilter,
    ResourceType,
)

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox import security as secured
from keycloak_bridge.sandbox.processes import Java
from keycloak_bridge.sandbox.rights import BRIDGE, OPERATOR, PRODUCER
from keycloak_bridge.sandbox.services import BrokerSecurity, KafkaBroker, Listener
from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = [pytest.mark.integration, pytest.mark.full]

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
TOPICS = ("user-events", "user-invitations", "user-results", "user-events-dead-letters")
USER = "acls-1"


class GuardedBroker(KafkaBroker):
    """A broker whose clients log in, each with its name as password, and may do what they were allowed to."""

    def __init__(self, java: Java, jars: Sequence[Path], folder: Path) -> None:
        users = {one: one for one in (BRIDGE, PRODUCER, OPERATOR)}
        listener = {**secured.logins(["PLAIN"]), **secured.plain(users)}
        properties = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # the broker's and the controller's own listeners have no login
            "super.users": "User:ANONYMOUS",
        }
        main = Listener("SASL_PLAINTEXT", "SASL_PLAINTEXT", listener)
        security = BrokerSecurity(main, (Listener("PLAINTEXT"),), properties=properties)
        super().__init__(java, jars, folder, security=security)

    def login(self, user: str) -> dict[str, Any]:
        """Return how a client of kafka-python connects as `user`."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": user,
        }


@pytest.fixture
def guarded(sandbox: Sandbox, tmp_path: Path) -> Iterator[GuardedBroker]:
    """A broker with the default topics and the rights of the page."""
    distribution = sandbox._distribution  # the downloads of the sandbox
    broker = GuardedBroker(distribution.java, distribution.kafka_jars(), tmp_path / "kafka")
    broker.start()
    try:
        admin: Any = KafkaAdminClient(**broker.administrator())
        topics = {name: {"num_partitions": 1, "replication_factor": 1} for name in TOPICS}
        admin.create_topics(topics, wait_for_metadata=True)
        created = admin.create_acls([one.acl() for one in rights(PAGE)])
        assert not created["failed"]
        everything = ACLFilter(
            None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
        )  # fmt: skip
        wait_until(lambda: len(admin.describe_acls(everything)[0]) == len(rights(PAGE)))
        admin.close()
        yield broker
    finally:
        broker.kill()


def as_user(bench: Bench, broker: GuardedBroker, user: str) -> Bench:
    """Return the bench whose commands log in as `user`, with the default names."""
    return bench.but(
        KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
        KAFKA_GROUP_ID=BRIDGE,
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME=user,
        KAFKA_SASL_PASSWORD=user,
        TOPICS_EVENTS="user-events",
        TOPICS_INVITATIONS="user-invitations",
        TOPICS_RESULTS="user-results",
        TOPICS_DEAD_LETTERS="user-events-dead-letters",
    )


def publish(broker: GuardedBroker, user: str, topic: str, *values: bytes) -> None:
    """Publish records as `user`."""
    sender: Any = KafkaProducer(
        **broker.login(user), acks="all", max_block_ms=10_000, enable_idempotence=False
    )
    try:
        for value in values:
            sender.send(topic, key=USER.encode(), value=value, headers=list(STRUCTURED)).get(
                timeout=30
            )
    finally:
        sender.close()


def read(broker: GuardedBroker, user: str, topic: str) -> list[bytes]:
    """Return the values in a topic, read as `user` without a group."""
    at = KafkaTopicPartition(topic, 0)
    consumer: Any = KafkaConsumer(**broker.login(user), group_id=None, auto_offset_reset="earliest")
    try:
        consumer.assign([at])
        end = consumer.end_offsets([at])[at]
        values: list[bytes] = []
        while consumer.position(at) < end:
            values += [one.value for batch in consumer.poll(500).values() for one in batch]
        return values
    finally:
        consumer.close()


def test_each_has_the_rights_that_it_needs_and_no_others(
    sandbox: Sandbox, guarded: GuardedBroker, module_realm: FreshRealm, tmp_path: Path
) -> None:
    """The bridge takes a user from its event to its mail, an operator replays, and nobody forges anything."""
    bench = Bench(sandbox, module_realm, "acls", tmp_path)
    bridge, operator = as_user(bench, guarded, BRIDGE), as_user(bench, guarded, OPERATOR)
    good, bad = an_event(USER), an_event(USER, event_id="bad", email="nobody")
    publish(guarded, PRODUCER, "user-events", *(json.dumps(one).encode() for one in (good, bad)))

    bridge.catch_up()
    doctor = bridge.run_command("doctor")
    listed = operator.run_command("dead-letters", "list", check=True).stdout
    replayed = operator.run_command("dead-letters", "replay", "--yes", "--all-open")
    bridge.catch_up()

    assert "1 dead letter open: 1 schema-violation" in listed
    assert (0, "replayed 1 dead letter\n") == (replayed.returncode, replayed.stdout)
    assert 4 == len(read(guarded, PRODUCER, "user-results"))
    assert 1 == len(bridge.mails_to(good["data"]["email"]))
    assert "topic user-events: read allowed" in doctor.stdout
    assert 0 == operator.run_command("explain", USER).returncode
    refused = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.KafkaTimeoutError)
    for user, topic in (
        (PRODUCER, "user-invitations"),
        (PRODUCER, "user-results"),
        (PRODUCER, "user-events-dead-letters"),
        (BRIDGE, "user-events"),
        (OPERATOR, "user-results"),
    ):
        with pytest.raises(refused):
            publish(guarded, user, topic, b"{}")
    thief = replace(as_user(bench, guarded, PRODUCER), folder=tmp_path)
    denied = thief.run_command("run", "--until-caught-up")
    assert 2 == denied.returncode, denied.stderr
