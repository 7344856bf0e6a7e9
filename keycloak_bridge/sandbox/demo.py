"""Play user management against a sandbox: publish sample events, read what became of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import requests
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition

from keycloak_bridge.sandbox import Mail, read_mails

EVENTS = "events/demo.ndjson"
TOPIC = "user-events"
_TIMEOUT_S = 10

Isolation = Literal["read_uncommitted", "read_committed"]


@dataclass(frozen=True, slots=True)
class Story:
    """What became of one event."""

    event: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    user: Mapping[str, Any] | None
    mail: Mail | None
    dead_letter: Mapping[str, str] | None


def sample_events() -> list[dict[str, Any]]:
    """Return the events of the demo, one of them invalid."""
    text = files("keycloak_bridge.sandbox").joinpath(EVENTS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def publish(events: Sequence[Mapping[str, Any]], bootstrap_servers: str) -> None:
    """Publish the events as user management would: keyed by user, acknowledged."""
    producer: Any = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    try:
        futures = [
            producer.send(
                TOPIC,
                key=event["subject"].encode(),
                value=json.dumps(event, ensure_ascii=False).encode(),
                headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
            )
            for event in events
        ]
        for future in futures:
            future.get(timeout=_TIMEOUT_S)
    finally:
        producer.close()


def read_topic(
    topic: str, bootstrap_servers: str, *, isolation_level: Isolation = "read_uncommitted"
) -> list[Any]:
    """Return every record that `topic` holds now; with `read_committed`, none of a transaction in doubt."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        isolation_level=isolation_level,
        metrics_enabled=False,
    )
    try:
        numbers = consumer.partitions_for_topic(topic) or set()
        partitions = [KafkaTopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        while any(consumer.position(at) < ends[at] for at in partitions):
            for batch in consumer.poll(timeout_ms=500).values():
                records += batch
    finally:
        consumer.close()
    return records


def tell(events: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> list[Story]:
    """Return what became of each event, read from Kafka, Keycloak and the mail catcher."""
    servers = environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]
    results = [json.loads(record.value)["data"] for record in read_topic("user-results", servers)]
    letters = read_topic("user-events-dead-letters", servers)
    mails = read_mails(Path(environment["SANDBOX_MAIL_DIR"]))
    token = _admin_token(environment)
    return [_story(event, results, letters, mails, token, environment) for event in events]


def _story(
    event: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    letters: Sequence[Any],
    mails: Sequence[Mail],
    token: str,
    environment: Mapping[str, str],
) -> Story:
    key = event["subject"].encode()
    mine = [letter for letter in letters if letter.key == key]
    user = _stored_user(event["subject"], token, environment)
    address = str(user["email"]).lower() if user else None
    return Story(
        event=event,
        results=[result for result in results if result.get("eventId") == event["id"]],
        user=user,
        mail=next((m for m in mails if address in [r.lower() for r in m.recipients]), None),
        dead_letter={
            name: value.decode() for name, value in mine[0].headers if name.startswith("kb-dlq-")
        }
        if mine
        else None,
    )


def _stored_user(
    user_id: str, token: str, environment: Mapping[str, str]
) -> Mapping[str, Any] | None:
    base = environment["KEYCLOAK_BRIDGE_KEYCLOAK_URL"]
    realm = environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"]
    answer = requests.get(
        f"{base}/admin/realms/{realm}/users",
        params={"q": f"userId:{user_id}", "briefRepresentation": "false"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
    users: list[Mapping[str, Any]] = answer.json()
    return users[0] if users else None


def _admin_token(environment: Mapping[str, str]) -> str:
    answer = requests.post(
        f"{environment['KEYCLOAK_BRIDGE_KEYCLOAK_URL']}/realms/master/protocol/openid-connect/token",
        data={
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": environment["SANDBOX_ADMIN_USERNAME"],
            "password": environment["SANDBOX_ADMIN_PASSWORD"],
        },
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])
