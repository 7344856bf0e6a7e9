"""TLS and log-ins to a real Kafka: each way that is right works, each that is wrong says why, and what is replaced takes effect."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import STRUCTURED, Bench, an_event, wait_until
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
)
from secure_broker import AUDIENCE, PASSWORD, USER, SecureBroker, secure_broker
from tls_server import PAST

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.kafka import client as kafka_client
from keycloak_bridge.kafka.consumer import KafkaRecordConsumer
from keycloak_bridge.kafka.tokens import token_provider
from keycloak_bridge.kafka.topics import KafkaAdmin
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox import security as secured
from keycloak_bridge.sandbox.realm_clients import audience_mapper
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KafkaSettings, KeycloakSettings, Settings
from keycloak_bridge.testing.realm_tools import FreshRealm, RealmAdministrator

pytestmark = pytest.mark.integration

TOPICS = ("user-events", "user-invitations", "user-results", "user-events-dead-letters")


@pytest.fixture(scope="module")
def broker(
    sandbox: Sandbox, module_realm: FreshRealm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureBroker]:
    """A broker that takes tokens of the realm, and files of clients' certificates beside it."""
    let_tokens_name_kafka(sandbox, module_realm)
    realm = f"/realms/{module_realm.name}"
    with secure_broker(
        sandbox,
        tmp_path_factory.mktemp("secure") / "broker",
        issuer=f"{sandbox.keycloak_public_url}{realm}",
        keys_url=f"{sandbox.keycloak_url}{realm}/protocol/openid-connect/certs",
        session_s=4,
    ) as running:
        running.set_password(PASSWORD)
        client(running, "own")
        with running.administrator() as admin:
            topics = {name: {"num_partitions": 1, "replication_factor": 1} for name in TOPICS}
            admin.create_topics(topics, wait_for_metadata=True)
        yield running


def let_tokens_name_kafka(sandbox: Sandbox, realm: FreshRealm) -> None:
    """Put Kafka into the audience of the bridge's tokens."""
    administrator = RealmAdministrator.of(sandbox)
    clients = f"/{realm.name}/clients"
    (found,) = administrator.call("GET", f"{clients}?clientId={realm.client_id}")
    mappers = f"{clients}/{found['id']}/protocol-mappers/models"
    administrator.call("POST", mappers, json=audience_mapper(AUDIENCE))


def client(broker: SecureBroker, name: str, authority: Any = None, **options: Any) -> Path:
    """Write a client certificate for the bridge's user."""
    leaf = (authority or broker.authority).issue_cert("bridge", common_name=USER, **options)
    return secured.certificate_file(leaf, broker.folder / f"{name}.pem")


def kafka_settings(broker: SecureBroker, listener: str, **settings: Any) -> KafkaSettings:
    """Return how the bridge reaches a listener; by default as is right for it."""
    protocol = broker.protocol(listener)
    given: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        given["ssl_cafile"] = broker.ca_file
    if protocol.startswith("SASL_"):
        given |= {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": Secret(PASSWORD)}  # fmt: skip
    return KafkaSettings(bootstrap_servers=(broker.servers(listener),), **{**given, **settings})


def keycloak_settings(sandbox: Sandbox, realm: FreshRealm, **settings: Any) -> KeycloakSettings:
    """Return how the bridge's client gets its tokens."""
    return KeycloakSettings(
        **{
            "url": sandbox.keycloak_url,
            "realm": realm.name,
            "client_id": realm.client_id,
            "client_secret": Secret(realm.client_secret),
            **settings,
        }
    )


def outcome(settings: KafkaSettings) -> str:
    """Return `ok`, or what the bridge says."""
    try:
        admin = KafkaAdmin(settings)
    except BridgeError as error:
        return f"{error.code}: {error.message}"
    admin.close()
    return "ok"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client that gets no answer give up after a second."""
    options = kafka_client.connection_options
    monkeypatch.setattr(
        kafka_client,
        "connection_options",
        lambda settings: {**options(settings), "bootstrap_timeout_ms": 1000},
    )


def test_each_way_that_is_right_works(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm
) -> None:
    """TLS, mutual TLS, SCRAM, PLAIN, and a token of the bridge's own client."""
    oauth = kafka_settings(
        broker, "LOGIN", sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None
    )
    ways = [
        kafka_settings(broker, "TLS"),
        kafka_settings(broker, "MUTUAL", ssl_certfile=broker.folder / "own.pem"),
        kafka_settings(broker, "LOGIN"),
        kafka_settings(broker, "LOGIN", sasl_mechanism="PLAIN"),
        Settings(kafka=oauth, keycloak=keycloak_settings(sandbox, module_realm)).kafka,
    ]

    assert ["ok"] * len(ways) == [outcome(one) for one in ways]


@pytest.mark.usefixtures("hurried")
def test_each_way_that_is_wrong_says_why(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm
) -> None:
    """One code and one sentence for each; kafka-python itself says that no broker answered."""
    other_ca = broker.folder / "other-ca.pem"
    foreign = client(broker, "foreign", broker.other)
    old = client(broker, "old", not_after=PAST)
    no_login: dict[str, Any] = {
        "sasl_mechanism": None,
        "sasl_username": None,
        "sasl_password": None,
    }
    oauth = {**no_login, "sasl_mechanism": "OAUTHBEARER"}

    def with_tokens(**keycloak: Any) -> KafkaSettings:
        mine = keycloak_settings(sandbox, module_realm, **keycloak)
        return Settings(kafka=kafka_settings(broker, "LOGIN", **oauth), keycloak=mine).kafka

    wrong: dict[str, tuple[KafkaSettings, str, str]] = {
        "authority": (kafka_settings(broker, "TLS", ssl_cafile=other_ca), "kafka-tls", "no authority that the bridge trusts has signed its certificate"),
        "expired": (kafka_settings(broker, "EXPIRED"), "kafka-tls", "its certificate has expired"),
        "host name": (kafka_settings(broker, "OTHERHOST"), "kafka-tls", "its certificate is for another host name than that of [kafka] bootstrap_servers"),
        "no client certificate": (kafka_settings(broker, "MUTUAL"), "kafka-tls", "it asks for a client certificate"),
        "another's client certificate": (kafka_settings(broker, "MUTUAL", ssl_certfile=foreign), "kafka-tls", "it refuses the bridge's certificate"),
        "old client certificate": (kafka_settings(broker, "MUTUAL", ssl_certfile=old), "kafka-tls", "it refuses the bridge's certificate"),
        "password": (kafka_settings(broker, "LOGIN", sasl_password=Secret("wrong")), "kafka-credentials", "refuses user or password (SCRAM-SHA-512)"),
        "user": (kafka_settings(broker, "LOGIN", sasl_username="nobody"), "kafka-credentials", "refuses user or password (SCRAM-SHA-512)"),
        "password of PLAIN": (kafka_settings(broker, "LOGIN", sasl_mechanism="PLAIN", sasl_password=Secret("wrong")), "kafka-credentials", "refuses user or password (PLAIN)"),
        "mechanism": (kafka_settings(broker, "SCRAMONLY", sasl_mechanism="PLAIN"), "kafka-mechanism", "does not offer PLAIN"),
        "no login wanted": (kafka_settings(broker, "TLS", **{**no_login, "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": Secret(PASSWORD)}), "kafka-protocol", "asks for no login"),
        "login wanted": (kafka_settings(broker, "LOGIN", **{**no_login, "security_protocol": "SSL"}), "kafka-protocol", "takes no client that does not log in"),
        "no TLS there": (kafka_settings(broker, "PLAINTEXT", security_protocol="SSL", ssl_cafile=broker.ca_file), "kafka-protocol", "speaks no TLS"),
        "TLS there": (kafka_settings(broker, "TLS", security_protocol="PLAINTEXT"), "kafka-protocol", "speaks TLS only"),
        "secret of the client": (with_tokens(client_secret=Secret("wrong-hush")), "keycloak-credentials", "nothing to log in to Kafka with: Keycloak refuses the client credentials"),
        "no Keycloak": (with_tokens(url="http://localhost:9"), "kafka-token", "no token to log in to Kafka with: Keycloak cannot be reached"),
    }  # fmt: skip

    found = {what: outcome(settings) for what, (settings, _, _) in wrong.items()}

    for what, (_, code, words) in wrong.items():
        assert found[what].startswith(f"{code}: "), (what, found[what])
        assert words in found[what], (what, found[what])


@pytest.mark.usefixtures("hurried")
def test_a_token_for_another_audience_is_refused(
    sandbox: Sandbox, broker: SecureBroker, fresh_realm: FreshRealm, module_realm: FreshRealm
) -> None:
    """The broker says only that it is invalid; so do the bridge, and where to look."""
    oauth = kafka_settings(
        broker, "LOGIN", sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None
    )
    found = outcome(Settings(kafka=oauth, keycloak=keycloak_settings(sandbox, fresh_realm)).kafka)

    assert found.startswith("kafka-credentials: ")
    assert found.endswith("refuses the token (OAUTHBEARER)")


def drop_connections(consumer: KafkaRecordConsumer) -> None:
    """End the connections as a network does, so that new ones are made."""
    manager = consumer._consumer._manager
    manager.run(lambda: [one.close() for one in list(manager._conns.values())])


def says(consumer: KafkaRecordConsumer, code: str | None) -> bool:
    """Poll once, and say whether this is wrong then."""
    consumer.poll(0.2, lambda _: False)
    trouble = consumer.trouble()
    return (None if trouble is None else trouble.code) == code


def works(consumer: KafkaRecordConsumer) -> bool:
    """Poll once, and say whether the consumer is a member of its group."""
    return says(consumer, None) and consumer.joined()


def test_a_password_and_a_certificate_that_are_replaced_take_effect(broker: SecureBroker) -> None:
    """A running client waits while they are wrong, says so, and goes on with the new ones; nothing is restarted."""
    password = broker.folder / "password"
    password.write_text(PASSWORD)
    certificate = client(broker, "replaced")
    cases = {
        "kafka-credentials": kafka_settings(broker, "LOGIN", sasl_password=Secret(path=password)),
        "kafka-tls": kafka_settings(broker, "MUTUAL", ssl_certfile=certificate),
    }
    for code, settings in cases.items():
        consumer = KafkaRecordConsumer(settings, topic="user-events", group_id=f"group-{code}")
        try:
            wait_until(partial(works, consumer))
            broker.set_password("new-hush")
            client(broker, "replaced", broker.other)
            drop_connections(consumer)
            wait_until(partial(says, consumer, code))
            password.write_text("new-hush")
            client(broker, "replaced")
            wait_until(partial(works, consumer))
            assert consumer.end_offsets()
        finally:
            consumer.close()
            broker.set_password(PASSWORD)
            password.write_text(PASSWORD)


def connected(consumer: KafkaRecordConsumer) -> dict[int, float]:
    """Return when each connection logged in, by its identity."""
    connections = consumer._consumer._manager._conns.values()
    return {id(one): one._reauth.authenticated_at for one in connections if one.connected}


def test_a_client_logs_in_again_before_its_session_ends(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm
) -> None:
    """The broker ends a session that is not renewed; the connection stays, with another token in time."""
    oauth = kafka_settings(
        broker, "LOGIN", sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None
    )
    settings = Settings(kafka=oauth, keycloak=keycloak_settings(sandbox, module_realm)).kafka
    consumer = KafkaRecordConsumer(settings, topic="user-events", group_id="group-sessions")

    try:
        wait_until(partial(works, consumer))
        before = connected(consumer)

        def renewed() -> bool:
            assert says(consumer, None)
            now = connected(consumer)
            return all(now.get(one, at) > at for one, at in before.items())

        wait_until(renewed)
        assert before.keys() <= connected(consumer).keys()
    finally:
        consumer.close()


@pytest.mark.full
def test_a_token_is_renewed_while_the_connection_stays(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm
) -> None:
    """Of tokens that live for less than the client does; each log-in takes one that is valid yet."""
    administrator = RealmAdministrator.of(sandbox)
    clients = f"/{module_realm.name}/clients"
    (found,) = administrator.call("GET", f"{clients}?clientId={module_realm.client_id}")
    found["attributes"]["access.token.lifespan"] = "16"
    administrator.call("PUT", f"{clients}/{found['id']}", json=found)
    oauth = kafka_settings(broker, "LOGIN", sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None, sasl_oauth_scope="email")  # fmt: skip
    settings = Settings(kafka=oauth, keycloak=keycloak_settings(sandbox, module_realm)).kafka
    tokens = token_provider(settings)
    consumer = KafkaRecordConsumer(settings, topic="user-events", group_id="group-tokens")
    try:
        wait_until(partial(works, consumer))
        connections = set(connected(consumer))
        first = tokens.token()

        def renewed() -> bool:
            assert says(consumer, None)
            return tokens.token() != first

        wait_until(renewed)
        before = connected(consumer)
        wait_until(lambda: says(consumer, None) and connected(consumer) != before)
        assert connections <= connected(consumer).keys()
        assert works(consumer)
    finally:
        consumer.close()
        del found["attributes"]["access.token.lifespan"]
        administrator.call("PUT", f"{clients}/{found['id']}", json=found)


def as_bridge(bench: Bench, broker: SecureBroker, listener: str, **settings: str) -> Bench:
    """Return the bench whose commands reach a listener."""
    return bench.but(
        KAFKA_BOOTSTRAP_SERVERS=broker.servers(listener),
        KAFKA_GROUP_ID=USER,
        KAFKA_SECURITY_PROTOCOL=broker.protocol(listener),
        KAFKA_SSL_CAFILE=str(broker.ca_file),
        TOPICS_EVENTS="user-events",
        TOPICS_INVITATIONS="user-invitations",
        TOPICS_RESULTS="user-results",
        TOPICS_DEAD_LETTERS="user-events-dead-letters",
        **settings,
    )


def test_a_user_comes_through_with_tokens_of_keycloak_alone(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm, tmp_path: Path, user_id: str
) -> None:
    """Every client of the bridge logs in with them: from the event to the mail, doctor, and the commands that read topics."""
    bench = Bench(sandbox, module_realm, "secure", tmp_path)
    bridge = as_bridge(bench, broker, "LOGIN", KAFKA_SASL_MECHANISM="OAUTHBEARER")
    event = an_event(user_id)
    with broker.producer() as producer:
        value = json.dumps(event).encode()
        headers = list(STRUCTURED)
        producer.send("user-events", key=user_id.encode(), value=value, headers=headers).get(30)

    bridge.catch_up()

    assert 1 == len(bridge.mails_to(event["data"]["email"]))
    for command in (
        ("log", "--user", user_id),
        ("explain", user_id),
        ("dead-letters", "list"),
        ("topics", "check"),
        ("invitations", "list"),
    ):
        bridge.run_command(*command, check=True)
    assert "SASL_SSL, OAUTHBEARER" in bridge.run_command("doctor").stdout


@pytest.mark.full
def test_what_is_wrong_at_start_ends_it_and_an_outage_is_waited_for(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm, tmp_path: Path
) -> None:
    """Exit code 2 with the remedy; a broker's certificate that has expired is renewed there, and the bridge goes on."""
    bench = Bench(sandbox, module_realm, "secure-start", tmp_path)
    login = {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": USER}
    wrong = as_bridge(bench, broker, "LOGIN", **login, KAFKA_SASL_PASSWORD="wrong")
    refused = wrong.run_command("run", "--until-caught-up")
    listed = wrong.run_command("log", "--user", "ada")
    waiting = as_bridge(bench, broker, "EXPIRED")
    log = tmp_path / "bridge.log"
    process = waiting.start("run", "--until-caught-up", log=log)
    try:
        wait_until(lambda: "its certificate has expired; waiting for it" in log.read_text())
        leaf = broker.authority.issue_cert("localhost", "127.0.0.1")
        secured.certificate_file(leaf, broker.folder / "expired.pem")
        broker.kafka.stop()
        broker.kafka.start()
        wait_until(lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()

    assert (2, 2) == (refused.returncode, listed.returncode)
    assert "refuses user or password (SCRAM-SHA-512)" in refused.stderr
    assert "fix:   check [kafka] sasl_username and sasl_password" in refused.stderr
    assert 0 == process.returncode, log.read_text()


@pytest.mark.full
def test_a_right_that_is_revoked(
    sandbox: Sandbox, broker: SecureBroker, module_realm: FreshRealm, tmp_path: Path
) -> None:
    """The bridge stops with exit code 2 when it runs, and when it starts; both say what Kafka does not allow."""
    bench = Bench(sandbox, module_realm, "secure-acl", tmp_path)
    login = {
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "HEALTH_ENABLED": "false",
    }
    bridge = as_bridge(bench, broker, "LOGIN", **login)
    log = tmp_path / "bridge.log"
    pattern = ResourcePattern(ResourceType.TOPIC, "user-events")
    deny = (f"User:{USER}", "*", ACLOperation.READ, ACLPermissionType.DENY, pattern)
    process = bridge.start("run", log=log)
    try:
        wait_until(lambda: '"ready"' in log.read_text() or " ready" in log.read_text())
        with broker.administrator() as admin:
            assert not admin.create_acls([ACL(*deny)])["failed"]
        wait_until(lambda: process.poll() is not None)
        again = bridge.run_command("run", "--until-caught-up")
    finally:
        process.kill()
        process.wait()
        with broker.administrator() as admin:
            admin.delete_acls([ACLFilter(*deny)])

    assert (2, 2) == (process.returncode, again.returncode)
    for said in (log.read_text(), again.stderr):
        assert "Kafka does not allow" in said
        assert "docs/security.md" in said
