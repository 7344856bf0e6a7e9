"""Records that can never become a user, of every kind, each once for each name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bad_input_cases import CASES, OWN_SCHEMA, Case
from bridge_harness import STRUCTURED, an_event
from scene import Scene
from verdict import Position

_NEED_A_PREPARED_REALM = frozenset(
    ("profile", "both", "taken-email", "taken-username", "foreign-email-as-username", "ambiguous")
) | {"lost-group", "lost-role"}

KINDS = tuple(
    case
    for case in CASES
    if case.name not in _NEED_A_PREPARED_REALM and OWN_SCHEMA.encode() not in (case.value or b"")
)
"""Every kind that is bad in any realm, the 10 MB record and the tombstone among them."""

SMALL_KINDS = tuple(case for case in KINDS if len(case.value or b"") < 100_000)


def taken(scene: Scene) -> Case:
    """Return an event of a stranger with the e-mail address of a user of the population."""
    owner = scene.population.events[0]["data"]["email"]
    user_id = f"stranger-{scene.bench.suffix}"
    event = an_event(user_id, email=owner)
    return Case("taken", "conflict", "keycloak", (), user_id.encode(), json.dumps(event).encode())


def burst(count: int) -> Sequence[Case]:
    """Return so many events without an address, as a producer would send them after a bad release."""
    events = [an_event(f"burst-{number}", email=None) for number in range(count)]
    return [
        Case(event["id"], "schema-violation", "schema", (), event["subject"].encode(), _text(event))
        for event in events
    ]


def numbered(cases: Sequence[Case], number: int) -> Sequence[Case]:
    """Return the cases as records of other users, so that nobody is bad twice."""
    return [
        replace(case, key=None if case.key is None else case.key + b"-%d" % number)
        for case in cases
    ]


def publish_bad(scene: Scene, cases: Sequence[Case]) -> Mapping[Position, str]:
    """Publish them, and return the code that each must have in the dead letters by where it landed."""
    landed = scene.bench.publish_raw(*((one.key, one.value, one.headers) for one in cases))
    return {
        (at.topic, at.partition, at.offset): one.code for at, one in zip(landed, cases, strict=True)
    }


def publish_aborted(scene: Scene, events: Sequence[Mapping[str, Any]]) -> None:
    """Publish events in transactions that are aborted, as a producer that died does."""
    topic = scene.bench.topic("events")
    with scene.bench.producer(transactional_id=f"tx-{scene.bench.suffix}") as producer:
        producer.init_transactions()
        for event in events:
            producer.begin_transaction()
            producer.send(
                topic, key=event["subject"].encode(), value=_text(event), headers=list(STRUCTURED)
            )
            producer.flush()
            producer.abort_transaction()


def publish_committed(scene: Scene, events: Sequence[Mapping[str, Any]]) -> None:
    """Publish events in one transaction that is committed."""
    topic = scene.bench.topic("events")
    with scene.bench.producer(transactional_id=f"ok-{scene.bench.suffix}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for event in events:
            producer.send(
                topic, key=event["subject"].encode(), value=_text(event), headers=list(STRUCTURED)
            )
        producer.commit_transaction()


def _text(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()
