"""What can never succeed becomes a dead letter that says why; everything around it is done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bad_input_cases import CASES, OWN_PROPERTIES, OWN_SCHEMA, TEN_MEGABYTES, Case, noise
from bridge_harness import STRUCTURED, Bench, an_event
from jsonschema import Draft202012Validator, FormatChecker
from kafka.admin import ConfigResource, ConfigResourceType

from keycloak_bridge.domain.events import event_id_in
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = pytest.mark.integration

SCHEMAS = Path(__file__).parents[2] / "schemas"
CODECS = ("gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was published, and what one run made of it."""

    bench: Bench
    good: frozenset[str]
    landed: Mapping[str, Any]
    letters: Mapping[tuple[int, int], tuple[Any, dict[str, str]]]
    results: tuple[Any, ...]
    log: str

    def letter(self, case: Case) -> tuple[Any, dict[str, str]]:
        """Return the dead letter of a case by where its record landed."""
        at = self.landed[case.name]
        return self.letters[at.partition, at.offset]


@pytest.fixture(scope="module")
def aftermath(
    sandbox: Sandbox, module_realm: FreshRealm, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    """Publish every case with a good event before and behind it, and run the bridge once."""
    folder = tmp_path_factory.mktemp("bad-input")
    write_own_schema(folder / "schemas")
    bench = Bench(sandbox, module_realm, f"bad-{module_realm.name[-6:]}", folder).but(
        TOPICS_PARTITIONS="1",
        EVENTS_TOMBSTONES="dead-letter",
        SCHEMAS_FOLDERS=str(folder / "schemas"),
    )
    prepare_realm(bench)
    bench.create_topic("events", max_message_bytes=str(16 * 1024 * 1024))
    bench.run_command("topics", "create", check=True)
    good, landed = publish_everything(bench)
    log = bench.catch_up()
    letters = {
        (int(headers["kb-dlq-partition"]), int(headers["kb-dlq-offset"])): (record, headers)
        for record, headers in bench.dead_letters()
    }
    results = tuple(json.loads(record.value) for record in bench.read("results"))
    return Aftermath(bench, frozenset(good), landed, letters, results, log)


def write_own_schema(folder: Path) -> None:
    """Write a schema `user.created` 2.0 that knows a few properties more."""
    schema = json.loads((SCHEMAS / "user.created" / "1.0.json").read_text())
    schema |= {"$id": OWN_SCHEMA, "properties": schema["properties"] | OWN_PROPERTIES}
    (folder / "user.created").mkdir(parents=True)
    (folder / "user.created" / "2.0.json").write_text(json.dumps(schema))


def prepare_realm(bench: Bench) -> None:
    """Let the realm refuse what the cases say it refuses."""
    owner = {"username": "owner", "email": "owner@acme.example", "enabled": True}
    bench.admin("POST", "/users", json=owner)
    for number in (1, 2):
        twin = {"username": f"twin-{number}", "attributes": {"userId": ["bad-ambiguous"]}}
        bench.admin("POST", "/users", json=twin)
    bench.admin("DELETE", "/roles/approver")
    group = bench.admin("GET", "/group-by-path/customers")
    bench.admin("DELETE", f"/groups/{group['id']}")
    profile = bench.admin("GET", "/users/profile")
    department = next(one for one in profile["attributes"] if one["name"] == "department")
    department["validations"] = {"length": {"max": 20}}
    bench.admin("PUT", "/users/profile", json=profile)


def publish_everything(bench: Bench) -> tuple[list[str], dict[str, Any]]:
    """Return the ids of the good events, and where each bad record landed."""
    good: list[str] = []

    def sound(name: str) -> tuple[bytes, bytes, Any]:
        good.append(f"good-{name}")
        event = an_event(good[-1])
        return good[-1].encode(), json.dumps(event).encode(), STRUCTURED

    records = [
        pair for case in CASES for pair in (sound(case.name), (case.key, case.value, case.headers))
    ]
    landed = bench.publish_raw(*records)[1::2]
    for codec in CODECS:
        bench.publish_raw(sound(codec), sound(f"{codec}-2"), compression_type=codec)
    key, value, _ = sound("confluent")
    bench.publish_raw((key, b"\x00\x00\x00\x00\x2a" + value, STRUCTURED))
    key, value, _ = sound("binary")
    bench.publish_raw((key, *binary(json.loads(value))))
    key, value, _ = sound("confluent-binary")
    data, headers = binary(json.loads(value))
    bench.publish_raw((key, b"\x00\x00\x00\x00\x2a" + data, headers))
    publish_transactions(bench, sound("committed"), an_event("aborted"))
    return good, {case.name: at for case, at in zip(CASES, landed, strict=True)}


def binary(event: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return a CloudEvent in binary mode: its data, its attributes as headers."""
    attributes = {k: v for k, v in event.items() if k not in ("data", "datacontenttype")}
    headers = [(f"ce_{name}", str(value).encode()) for name, value in attributes.items()]
    return json.dumps(event["data"]).encode(), [*headers, ("content-type", b"application/json")]


def publish_transactions(bench: Bench, kept: Any, aborted: dict[str, Any]) -> None:
    """Publish one record in a committed transaction, then one in an aborted one that ends the topic."""
    topic = bench.topic("events")
    with bench.producer(transactional_id=f"tx-{bench.suffix}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, key=kept[0], value=kept[1], headers=list(kept[2]))
        producer.commit_transaction()
        producer.begin_transaction()
        producer.send(topic, key=b"aborted", value=json.dumps(aborted).encode())
        producer.flush()
        producer.abort_transaction()


def validator(kind: str, of: Mapping[str, Any] | None = None) -> Draft202012Validator:
    """Return the validator of the newest version of a contract, which the event must name if there is one."""
    versions = sorted((SCHEMAS / kind).iterdir(), key=lambda file: int(file.stem.split(".")[1]))
    schema = json.loads(versions[-1].read_text())
    assert of is None or schema["$id"] == of["dataschema"]
    return Draft202012Validator(schema, format_checker=FormatChecker())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_becomes_a_dead_letter_that_says_why(aftermath: Aftermath, case: Case) -> None:
    """Code, stage, pointers and status are stable, there is an action to take, and the record is untouched."""
    record, headers = aftermath.letter(case)
    at = aftermath.landed[case.name]

    pointers = [one["pointer"] for one in json.loads(headers.get("kb-dlq-errors", "[]"))]
    assert (case.code, case.stage, sorted(case.pointers), case.status) == (
        headers["kb-dlq-code"],
        headers["kb-dlq-stage"],
        sorted(pointers),
        headers.get("kb-dlq-http-status"),
    )
    assert headers["kb-dlq-action"]
    assert (case.key, case.value) == (record.key, record.value)
    kept = [(name, value) for name, value in record.headers if not name.startswith("kb-dlq-")]
    assert list(case.headers) == kept
    assert (at.topic, str(at.partition), str(at.offset), str(at.timestamp)) == tuple(
        headers[f"kb-dlq-{name}"] for name in ("topic", "partition", "offset", "timestamp")
    )


def test_the_stream_goes_on(aftermath: Aftermath) -> None:
    """Every good event is a user with one mail; nothing else is, and nothing aborted is seen."""
    users = {
        user["attributes"]["userId"][0]
        for user in aftermath.bench.users()
        if "email" in user and user["username"] != "owner"
    }
    # the role is granted after the user was made, so its absence is found too late for that
    assert aftermath.good | {"bad-lost-role"} == users
    assert len(CASES) == len(aftermath.letters)
    mailed = {
        user_id
        for user_id in aftermath.good
        if len(aftermath.bench.mails_to(f"{user_id}@acme.example")) == 1
    }
    assert aftermath.good == mailed


def test_everything_that_is_published_keeps_its_contract(aftermath: Aftermath) -> None:
    """Dead letters, results and invitations are valid against the newest schemas that are shipped, which they name."""
    for _, headers in aftermath.letters.values():
        validator("dead-letter").validate(headers)
    due = [json.loads(record.value) for record in aftermath.bench.read("invitations")]
    for event in (*aftermath.results, *due):
        validator(event["type"], event).validate(event["data"])
    assert aftermath.good == {event["subject"] for event in due}


def test_user_management_hears_of_each_record_once(aftermath: Aftermath) -> None:
    """One result a record with an id of its own, the rejected ones with code and pointers."""
    ids = [event["id"] for event in aftermath.results]
    assert len(ids) == len(set(ids))
    outcomes = [event["data"]["outcome"] for event in aftermath.results]
    good = len(aftermath.good)
    assert (good, good, len(CASES)) == tuple(
        outcomes.count(one) for one in ("provisioned", "invited", "rejected")
    )
    codes = sorted(
        e["data"]["reason"] for e in aftermath.results if e["data"]["outcome"] == "rejected"
    )
    assert sorted(case.code for case in CASES) == codes


def test_each_record_has_one_line_in_the_log(aftermath: Aftermath) -> None:
    """The lines name position, outcome and code, and are JSON."""
    lines = [json.loads(line) for line in aftermath.log.splitlines()]
    places = [line["offset"] for line in lines if line["action"] == "rejected"]

    assert sorted(at.offset for at in aftermath.landed.values()) == sorted(places)
    assert all(
        {"event_id", "user_id", "keycloak_id", "duration_ms", "partition"} <= line.keys()
        for line in lines
        if line["action"] == "provisioned"
    )


def test_a_record_that_no_dead_letter_can_hold_stops_the_bridge(
    sandbox: Sandbox, module_realm: FreshRealm, tmp_path: Path
) -> None:
    """A topic that takes not even a letter without its body: exit 3 with the remedy, nothing committed past it, then it goes on."""
    bench = Bench(sandbox, module_realm, f"small-{module_realm.name[-6:]}", tmp_path).but(
        TOPICS_PARTITIONS="1"
    )
    bench.create_topic("events", max_message_bytes=str(16 * 1024 * 1024))
    bench.create_topic("dead-letters", max_message_bytes="300")
    bench.run_command("topics", "create", check=True)
    good, large = an_event("before-large"), an_event("large", note=noise(3 * 1024 * 1024))
    bench.publish(good, large, an_event("after-large"))

    stopped = bench.run_command("run", "--until-caught-up")

    assert (3, {0: 1}) == (stopped.returncode, bench.committed())
    assert "Traceback" not in stopped.stderr
    *_, error, remedy = stopped.stderr.splitlines()
    assert error.startswith(f"error: the dead letter for {bench.topic('events')}/0@1 could not")
    assert "max.message.bytes" in remedy
    assert bench.topic("dead-letters") in remedy

    with bench.kafka_admin() as admin:
        limit = {"max.message.bytes": str(17 * 1024 * 1024)}
        resource = ConfigResource(ConfigResourceType.TOPIC, bench.topic("dead-letters"), limit)
        admin.alter_configs([resource])
    bench.catch_up()

    assert ["too-large"] == [headers["kb-dlq-code"] for _, headers in bench.dead_letters()]
    assert bench.user("after-large")


ENVELOPE = {
    "ENVELOPE_ID": "body.meta.eventId",
    "ENVELOPE_TYPE": "body.meta.kind",
    "ENVELOPE_SUBJECT": "body.user.userId",
    "ENVELOPE_TIME": "body.meta.createdAt",
    "ENVELOPE_DATA": "body.user",
    "ENVELOPE_TYPES": "UserRegistered=user.created",
}


def legacy(user_id: str, **meta: Any) -> tuple[bytes, bytes, Any]:
    """Return a record of a producer that knows no CloudEvents."""
    event = an_event(user_id)
    head = {"eventId": 4711, "kind": "UserRegistered", "createdAt": event["time"], **meta}
    body = {"meta": head, "user": event["data"]}
    return user_id.encode(), json.dumps(body).encode(), ()


def test_another_envelope_and_other_policies(
    sandbox: Sandbox, module_realm: FreshRealm, tmp_path: Path
) -> None:
    """Own envelopes work, tombstones are skipped, ignored types pass, refused mails are dead letters too."""
    bench = Bench(sandbox, module_realm, f"own-{module_realm.name[-6:]}", tmp_path).but(
        **ENVELOPE, EVENTS_IGNORE_TYPES="UserLoggedIn", INVITE_CLIENT_ID="no-such-client"
    )
    bench.run_command("topics", "create", check=True)
    bench.publish_raw(
        legacy("legacy"),
        legacy("legacy-no-id", eventId=None),
        legacy("legacy-type", kind="UserExploded"),
        legacy("legacy-ignored", kind="UserLoggedIn", createdAt="2026-11-28 10:01", eventId=None),
        (b"legacy-gone", None, ()),
    )
    # small on its way, large once it is read: its dead letter must fit again
    key, value, _ = legacy("legacy-large")
    bench.publish_raw((key, value + b" " * TEN_MEGABYTES, ()), compression_type="gzip")

    bench.catch_up()

    letters = {record.key.decode(): headers for record, headers in bench.dead_letters()}
    assert {
        "legacy": ("invite", "unknown-client"),
        "legacy-no-id": ("decode", "invalid-envelope"),
        "legacy-type": ("schema", "unknown-type"),
        "legacy-large": ("decode", "too-large"),
    } == {key: (h["kb-dlq-stage"], h["kb-dlq-code"]) for key, h in letters.items()}
    assert bench.topic("invitations") == letters["legacy"]["kb-dlq-topic"]
    (known,) = bench.user("legacy")["attributes"]["bridgeEventId"]
    assert "4711" == event_id_in(known)
    (skipped,) = (result for result in bench.results() if result["outcome"] == "skipped")
    where = skipped.pop("source")
    assert {"outcome": "skipped", "reason": "tombstone", "userId": "legacy-gone"} == skipped
    assert bench.topic("events") == where["topic"]
