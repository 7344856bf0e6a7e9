"""What both stages make of a record: a user, a mail, a result, a dead letter, or an error for the delivery."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from stage_harness import (
    EVENTS,
    INVITATIONS,
    PLANTED,
    RESULTS,
    Flow,
    event_of,
    interpretation,
    record_of,
)

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.mapping_files import default_mapping_text
from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits
from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    Dependency,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakConflictError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
    Violation,
)
from keycloak_bridge.domain.events import (
    Record,
)
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.events import cloudevents
from keycloak_bridge.messages.recommended_actions import RECOMMENDED_ACTIONS
from keycloak_bridge.pipeline.interpret import Prepared
from keycloak_bridge.provisioning.writer import Write
from keycloak_bridge.settings.model import (
    EnvelopeSettings,
    EventsSettings,
    MappingSettings,
    SchemasSettings,
    Settings,
)

USER_CREATED_NEWEST = "urn:keycloak-bridge:schema:user.created:1.1"
FINGERPRINT = interpretation().mapping.default.fingerprint
HERE = {"topic": EVENTS, "partition": 3, "offset": 42}
WRITTEN = (
    *("username", "email", "firstName", "lastName", "enabled"),
    *("attributes.userId", "attributes.tenantId", "attributes.phoneNumber"),
)
"""What the shipped mapping writes of the events here."""


# the provision stage: what works


def test_an_event_becomes_a_user_an_invitation_and_a_result() -> None:
    """One record, one user, one invitation, one result with ids only."""
    flow = Flow()

    flow.handle(event_of())

    (user,) = flow.keycloak.users()
    assert [
        {
            "outcome": "provisioned",
            "action": "created",
            "eventId": "event-1",
            "eventType": "user.created",
            "userId": "u-1",
            "keycloakId": user["id"],
            "schemaId": USER_CREATED_NEWEST,
            "changed": list(WRITTEN),
            "mapping": FINGERPRINT,
            "source": HERE,
        }
    ] == flow.results
    assert [b"u-1"] == [record.key for record in flow.invitations]
    assert [] == flow.letters


def headed(**attributes: str) -> tuple[tuple[str, bytes | None], ...]:
    """Return the headers of a binary CloudEvent."""
    return tuple((f"ce_{name}", text.encode()) for name, text in attributes.items())


def broken(data: str, *, kind: str = "order.placed", frame: bytes = b"") -> Record:
    """Return the record of an order whose `data` is JSON that is refused."""
    start = '{"specversion": "1.0", "id": "o-1", "source": "/shop", "subject": "order/1"'
    text = f'{start}, "data": {data}, "type": "{kind}"}}'
    return Record(EVENTS, 3, 42, -1, b"u-1", frame + text.encode())


PLACED = event_of(type="order.placed", data={"userId": ...})
IGNORED: dict[str, Record] = {
    "nothing wrong": record_of(PLACED),
    "about something else than its key": record_of({**PLACED, "subject": "order/1"}, key=b"u-1"),
    "no subject": record_of({**PLACED, "subject": None}, key=b"u-1"),
    "a time of its own form": record_of({**PLACED, "time": "2026-11-28 10:01"}),
    "an id that is a number": record_of({**PLACED, "id": 7}),
    "an older specversion": record_of({**PLACED, "specversion": "0.3"}),
    "no data": record_of({**PLACED, "data": None}),
    "a schema that is unknown": record_of({**PLACED, "dataschema": "urn:shop:order"}),
    "both forms of data": record_of({**PLACED, "data_base64": "?"}),
    "binary": Record(EVENTS, 3, 42, -1, b"u-1", b"{}", headed(type="order.placed")),
    "binary, and no JSON": Record(EVENTS, 3, 42, -1, b"u-1", b"\x03", headed(type="order.placed")),
    "binary, in another format": Record(
        EVENTS,
        3,
        42,
        -1,
        None,
        b"a,b",
        (("content-type", b"text/csv"), *headed(type="order.placed")),
    ),
    "binary, and too large": Record(
        EVENTS, 3, 42, -1, None, b" " * 1_048_577, headed(type="order.placed")
    ),
    "a text that cannot be stored": record_of({**PLACED, "data": {"note": "a\0b"}}),
    "half of a surrogate pair": broken('{"note": "\\uD800"}'),
    "a property twice": broken('{"n": 1, "n": 2}'),
    "a number that no double holds": broken('{"n": ' + "9" * 500 + "}"),
    "deeper than allowed": broken("[" * 100 + "]" * 100),
    "much deeper than allowed": broken('{"a":' * 50_000 + "1" + "}" * 50_000),
    "refused, with an id twice": broken('1, "id": "x"'),
    "refused, in a frame": broken('{"n": 1, "n": 2}', frame=b"\x00\x00\x00\x00\x07"),
    "refused, its type with escapes": broken(
        '"\\u0000", "\\u0061": "{"', kind="order\\u002eplaced"
    ),
    "binary, without a value": Record(EVENTS, 3, 42, -1, b"u-1", None, headed(type="order.placed")),
}


# the identity of an event: its id is unique within its source only


def test_an_id_of_another_source_is_another_event() -> None:
    """Access management disables whom HR has created under the same id."""
    flow = Flow()
    flow.handle(event_of(event_id="1001", source="/hr"))
    disabling = event_of(
        event_id="1001", source="/access-management", type="user.disabled", data={"userId": "u-1"}
    )

    flow.handle({**disabling, "data": {"userId": "u-1"}})

    (user,) = flow.keycloak.users()
    assert (False, ["enabled"]) == (user["enabled"], flow.results[-1]["changed"])


# the order of events: who is put out stays out


FUTURE = event_of("u-1", "e-1", time="2036-01-01T00:00:00Z")


def later(kind: str, event_id: str, time: str) -> dict[str, Any]:
    """Return an event about u-1 that only names it."""
    return {**event_of("u-1", event_id, type=kind, time=time), "data": {"userId": "u-1"}}


@pytest.mark.parametrize("ahead", ["dead-letter", "clamp"])
def test_a_date_in_the_far_future_does_not_keep_anybody_in(ahead: Any) -> None:
    """It is refused, or counts as the time of its record; the disable and the update after it take effect."""
    known = Interpretation(Settings(events=EventsSettings(ahead=ahead, tombstones="delete")))
    flow = Flow(known=known, after_dead_letter="continue")
    if ahead == "dead-letter":
        flow.handle(FUTURE)
        assert [("decode", "time-ahead")] == flow.reasons
        flow.handle({**FUTURE, "time": "2026-11-28T10:00:00Z"})
    else:
        flow.handle(FUTURE)
    for serial, kind in enumerate(("user.updated", "user.disabled")):
        event = later(kind, f"later-{serial}", "2026-11-28T12:00:00Z")
        flow.settle(flow.provision.handle(record_of(event, offset=50 + serial)))

    (user,) = flow.keycloak.users()
    assert False is user["enabled"]


def test_a_clamped_event_keeps_nobody_in_whom_a_late_disable_puts_out() -> None:
    """The disable behind it is published late, long after its own time; nobody knows when the clamped one happened."""
    flow = Flow(known=Interpretation(Settings(events=EventsSettings(ahead="clamp"))))
    flow.handle(FUTURE)
    for kind, time in (("user.updated", "10:05:00Z"), ("user.disabled", "10:06:00Z")):
        flow.handle(later(kind, kind, f"2026-11-28T{time}"))
    assert [False] == [user["enabled"] for user in flow.keycloak.users()]


def test_times_of_another_precision_do_not_keep_anybody_in() -> None:
    """Created with milliseconds, updated and disabled in the same second without."""
    flow = Flow()
    flow.handle(event_of("u-1", "created", time="2026-11-28T10:00:00.500Z"))
    flow.handle(later("user.updated", "updated", "2026-11-28T10:00:00Z"))
    flow.handle(later("user.disabled", "disabled", "2026-11-28T10:00:00Z"))

    assert [False] == [user["enabled"] for user in flow.keycloak.users()]


def test_a_tombstone_behind_the_event_deletes() -> None:
    """Its timestamp lies two seconds before the event's time: the clock of the producer is ahead of the brokers'."""
    known = Interpretation(Settings(events=EventsSettings(tombstones="delete")))
    flow = Flow(known=known, tombstones="delete")
    now_ms = record_of({}).timestamp_ms
    flow.settle(flow.provision.handle(record_of(event_of("u-1", time="2026-11-28T12:00:02.500Z"))))
    tombstone = Record(EVENTS, 3, 43, now_ms + 500, b"u-1", None)

    flow.settle(flow.provision.handle(tombstone))

    assert [False] == [user["enabled"] for user in flow.keycloak.users()]


def test_a_disable_without_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A newer event lets the user in; the log names the place of the record and nothing of the person."""
    flow = Flow()
    flow.handle(event_of("u-1", "created", time="2026-11-28T10:00:00Z"))
    flow.handle(later("user.enabled", "enabled", "2026-11-28T10:00:09Z"))
    flow.handle(later("user.disabled", "disabled", "2026-11-28T10:00:05Z"), offset=77)

    assert ("skipped", "stale") == (flow.results[-1]["outcome"], flow.results[-1]["reason"])
    assert {(): 1.0} == flow.counted("overruled_events_total")
    (line,) = (one for one in caplog.records if "disable or deletion" in one.getMessage())
    assert "WARNING" == line.levelname


# an event that does not say so lets nobody in


CONSTANT = default_mapping_text().replace(
    'enabled = { from = "data.active", default = true }', "enabled = true"
)


@pytest.mark.parametrize("text", [default_mapping_text(), CONSTANT], ids=["default", "constant"])
@pytest.mark.parametrize("kind", ["user.created", "user.updated"])
def test_a_complete_event_without_a_word_about_it_enables_nobody(
    tmp_path: Path, text: str, kind: str
) -> None:
    """Whoever switched the user off; a new user is enabled, and an event that says so lets in."""
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(text, "utf-8")
    flow = Flow(known=Interpretation(Settings(mapping=MappingSettings(file=mapping))))
    flow.handle(event_of("u-1", "e-1"))
    assert [True] == [user["enabled"] for user in flow.keycloak.users()]
    flow.handle(later("user.disabled", "e-2", "2026-11-02T08:00:00Z"), offset=43)

    whole = {"complete": True, "department": "Sales"}
    again = event_of("u-1", "e-3", type=kind, time="2026-11-03T08:00:00Z", data=whole)
    flow.handle(again, offset=44)

    (user,) = flow.keycloak.users()
    assert (False, ["Sales"]) == (user["enabled"], user["attributes"]["department"])
    if text != CONSTANT:
        says = {"complete": True, "active": True}
        said = event_of("u-1", "e-4", type=kind, time="2026-11-04T08:00:00Z", data=says)
        flow.handle(said, offset=45)
        assert [True] == [user["enabled"] for user in flow.keycloak.users()]


def test_many_users_are_not_enabled_at_once() -> None:
    """A wrong export that lets in everybody stops at the limit."""
    flow = limited(enables=3)
    for kind in ("user.created", "user.disabled"):
        for event in forty(type=kind):
            flow.handle(event)
    said = (record_of(event) for event in forty(type="user.enabled"))
    with pytest.raises(HoldError, match="release"):
        deque(map(flow.settle, map(flow.provision.handle, said)))

    assert 3 == sum(bool(user["enabled"]) for user in flow.keycloak.users())


def forty(**changes: Any) -> list[dict[str, Any]]:
    """Return events of one id and source about forty users, as a nightly export has them."""
    return [
        event_of(f"u-{n}", "export-7", data={"email": f"u-{n}@acme.example"}, **changes)
        for n in range(40)
    ]


def test_one_id_for_forty_users_makes_forty_results() -> None:
    """Each has a CloudEvents id of its own, and the same when the events are delivered again."""
    flow = Flow()
    for _ in range(2):
        for at, event in enumerate(forty()):
            flow.settle(flow.provision.handle(record_of(event, offset=at)))
    for at, invitation in enumerate(list(flow.invitations)[:40]):
        flow.settle(flow.invite.handle(replace(invitation, offset=at)))

    ids = [json.loads(one.value or b"")["id"] for one in flow.broker.records(RESULTS)]
    assert (40, ids[:40]) == (len(set(ids[:40])), ids[40:80])
    assert 80 == len(set(ids))


def test_one_id_for_forty_users_does_not_escape_the_limits() -> None:
    """Neither forty disabled users nor forty mails count as one."""
    flow = limited(disables=3, mails=5)
    for event in forty():
        flow.handle(event)
    disabled = (record_of(event) for event in forty(type="user.disabled"))
    with pytest.raises(HoldError, match="release"):
        deque(map(flow.settle, map(flow.provision.handle, disabled)))
    assert 3 == sum(not user["enabled"] for user in flow.keycloak.users())

    flow.brake.release()
    due = reversed(list(flow.invitations))
    with pytest.raises(HoldError, match="release"):
        deque(map(flow.settle, map(flow.invite.handle, due)))
    assert 5 == len(flow.keycloak.mails)


def test_events_published_twice_do_not_escape_the_limit_of_mails() -> None:
    """The second record of an invitation mails nothing, and takes nothing off the count."""
    flow = limited(mails=5)
    for event in forty():
        flow.handle(event)
        flow.handle(event)
    due = [one for one in list(flow.invitations) for _ in range(2)]
    with pytest.raises(HoldError, match="release"):
        deque(map(flow.settle, map(flow.invite.handle, due)))

    assert 5 == len(flow.keycloak.mails)


def test_forged_invitations_use_up_no_mail() -> None:
    """They are refused, so those that are due are mailed."""
    flow = limited(mails=2)
    record = an_invitation(flow)
    genuine = json.loads(record.value or b"")
    forged = [
        record_of({**genuine, "id": f"{at}", "data": {**genuine["data"], "userId": f"u-{at}"}})
        for at in range(5, 9)
    ]
    deque(map(flow.settle, map(flow.invite.handle, [*forged, record])))

    assert 1 == len(flow.keycloak.mails)


def limited(**counts: int) -> Flow:
    """Return a flow that may do only so much in an hour."""
    brake = Brake(20, 50, 200)
    limits = {LimitedAction(action): Limit(count, 3600) for action, count in counts.items()}
    return Flow(brake=brake, limits=Limits(brake, limits))


@pytest.mark.parametrize("tombstones", ["delete", "dead-letter"])
@pytest.mark.parametrize("record", IGNORED.values(), ids=IGNORED)
def test_an_ignored_type_is_ignored_before_anything_else_is_judged(
    record: Record, tombstones: str
) -> None:
    """Events of other systems on the same topic are not for the bridge, whatever is in them."""
    flow = Flow(ignored_types={"order.placed"}, tombstones=tombstones)

    flow.settle(flow.provision.handle(record))

    assert ([], [], []) == (flow.results, flow.letters, flow.keycloak.calls)
    assert () == flow.lost.of(record.topic_partition)


def test_a_topic_that_is_shared_with_orders() -> None:
    """Orders keyed by user id neither become dead letters nor park what the user sends later, and never brake."""
    flow = Flow(ignored_types={"order.placed"}, brake=Brake(3, 0, 200))
    for number in range(1, 6):
        user = f"u-{number}"
        order = event_of(user, f"o-{number}", type="order.placed", data={"orderId": number})
        wrong = ({"subject": f"order/{number}"}, {"time": "2026-11-28 10:01"})[number % 2]
        flow.handle(event_of(user, f"c-{number}", data={"email": f"{user}@acme.example"}))
        flow.handle({**order, **wrong}, key=user.encode())
        update = event_of(
            user,
            f"m-{number}",
            type="user.updated",
            time="2026-11-28T10:05:00Z",
            data=dict.fromkeys(
                ("email", "givenName", "familyName", "phoneNumber", "tenantId"), ...
            ),
        )
        flow.handle({**update, "data": {"userId": user, "department": "Sales"}})

    assert (["created", "updated"] * 5, []) == (
        [one["action"] for one in flow.results],
        flow.reasons,
    )
    assert None is flow.brake.reason


ORDERS = {"type": "headers.kind", "id": "lower(body.no)", "data": "body", "time": "lower(body.at)"}


@pytest.mark.parametrize("value", [b'{"no": 7, "at": 1}', b"\x03", None])
def test_an_ignored_type_in_an_envelope_of_the_producers(value: bytes | None) -> None:
    """Only the expression of the type is asked, and the value is read only where that expression reads it."""
    known = Interpretation(
        Settings(
            envelope=EnvelopeSettings(**ORDERS, types={"OrderPlaced": "order.placed"}),
            events=EventsSettings(tombstones="delete"),
        )
    )
    flow = Flow(ignored_types={"order.placed"}, tombstones="delete", known=known)
    headers = (("kind", b"OrderPlaced"),)

    flow.settle(flow.provision.handle(Record(EVENTS, 3, 42, -1, b"u-1", value, headers)))

    assert ([], [], []) == (flow.results, flow.letters, flow.keycloak.calls)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (broken('"\\u0000", "type": "order.placed"'), "duplicate-key"),
        (broken('"\\u0000"', kind="user.created"), "invalid-text"),
        (broken('{"type": "order.placed", "n": "\\u0000"}', kind="user.created"), "invalid-text"),
        (broken('"\\u0000", "typ\\u0065": 7'), "duplicate-key"),
        (broken('"\\u0000"', kind='order.placed", "x": nothing, "y": "'), "not-json"),
        (broken("[" * 100), "too-deep"),
        (record_of(b'["order.placed", "\\u0000"]', key=b"u-1"), "invalid-text"),
        (record_of(b'{"type": ["order.placed"], "n": "\\u0000"}', key=b"u-1"), "invalid-text"),
    ],
)
def test_what_has_no_certain_type_is_not_ignored(record: Record, code: str) -> None:
    """The type must be a text, there once, at the top level of what ends where the value does."""
    flow = Flow(ignored_types={"order.placed"})

    flow.settle(flow.provision.handle(record))

    assert [("decode", code)] == flow.reasons


@pytest.mark.parametrize(
    ("expression", "is_ignored"),
    [("body.kind", True), ("body.head.kind", False), ("body.kind || 'OrderPlaced'", False)],
)
def test_an_ignored_type_in_a_value_that_an_envelope_of_the_producers_cannot_read(
    expression: str, *, is_ignored: bool
) -> None:
    """It is read where the expression names a property of the value, and not guessed where it could find another."""
    envelope = EnvelopeSettings(
        type=expression, id="body.no", data="body", types={"OrderPlaced": "order.placed"}
    )
    flow = Flow(ignored_types={"order.placed"}, known=Interpretation(Settings(envelope=envelope)))
    value = (
        b'{"head": {"kind": "OrderPlaced"}, "kind": "OrderPlaced", "no": "7", "note": "\\u0000"}'
    )

    flow.settle(flow.provision.handle(Record(EVENTS, 3, 42, -1, b"u-1", value)))

    assert ([] if is_ignored else [("decode", "invalid-text")]) == flow.reasons


@pytest.mark.parametrize("policy", ["ignore", "delete", "dead-letter"])
def test_an_event_without_data_is_no_tombstone(policy: str) -> None:
    """Where the headers name its type: nothing is deleted by an update, and no switching off is skipped."""
    flow = Flow(tombstones=policy)
    attributes = {"specversion": "1.0", "id": "e-1", "source": "/um", "subject": "u-1"}
    disabled, deleted = (
        Record(EVENTS, 3, offset, 0, b"u-1", None, headed(**attributes, type=kind))
        for offset, kind in enumerate(("user.disabled", "user.deleted"))
    )

    flow.settle(flow.provision.handle(disabled))

    assert [("schema", "schema-violation")] == flow.reasons
    assert [("e-1", "user.disabled", "u-1")] == [
        (one["eventId"], one["eventType"], one["userId"]) for one in flow.results
    ]
    flow.settle(flow.provision.handle(deleted))
    assert {"ignore": "tombstone", "delete": "parked", "dead-letter": "tombstone"}[
        policy
    ] == flow.results[1]["reason"]


TOMBSTONES: dict[str, tuple[str, bytes | None, tuple[str, str, str | None], list[Any]]] = {
    "ignored": ("ignore", b"u-1", ("skipped", "tombstone", "u-1"), []),
    "ignored, without a key": ("ignore", None, ("skipped", "tombstone", None), []),
    "refused": ("dead-letter", b"u-1", ("rejected", "tombstone", "u-1"), ["decode"]),
    "deletion of an unknown user": ("delete", b"u-1", ("skipped", "unknown-user", "u-1"), []),
    "deletion with an empty key": ("delete", b"", ("rejected", "tombstone", None), ["decode"]),
    "deletion without a key": ("delete", None, ("rejected", "tombstone", None), ["decode"]),
}


@pytest.mark.parametrize(("policy", "key", "result", "steps"), TOMBSTONES.values(), ids=TOMBSTONES)
def test_a_tombstone(
    policy: str, key: bytes | None, result: tuple[str, str, str | None], steps: list[str]
) -> None:
    """It is reported with the user that its key names; as a dead letter it still has no value."""
    flow = Flow(tombstones=policy)

    flow.handle(None, key=key)

    assert [result] == [(one["outcome"], one["reason"], one.get("userId")) for one in flow.results]
    assert [HERE] == [one["source"] for one in flow.results]
    assert [(step, "tombstone") for step in steps] == flow.reasons
    assert [(key, b"" if key is None else None) for _ in steps] == [
        (one.key, one.value) for one, _ in flow.letters
    ]
    assert () == flow.keycloak.users()


OWN_DELETED = {
    "$id": "urn:acme:user.deleted:2.0",
    "type": "object",
    "required": ["account", "deletedBy"],
    "properties": {
        "account": {"type": "object", "properties": {"no": {"type": "string"}}},
        "deletedBy": {"type": "string"},
    },
}
OWN_MAPPING = """matching = ["attributes.userId"]
[user.attributes]
userId = "%s"
"""


def of_own_schema(folder: Path, expression: str, **events: Any) -> Interpretation:
    """Return what reads deletions by a schema whose id is no `userId`, with this expression for it."""
    schemas = folder / "user.deleted"
    schemas.mkdir()
    (schemas / "2.0.json").write_text(json.dumps(OWN_DELETED))
    mapping = folder / "deleted.toml"
    mapping.write_text(OWN_MAPPING % expression)
    settings = Settings(
        schemas=SchemasSettings(folders=(folder,)),
        mapping=MappingSettings(files={"user.deleted/2": mapping}),
        events=EventsSettings(tombstones="delete", **events),
    )
    return Interpretation(settings)


KEYS: dict[str, tuple[str | None, bytes]] = {
    "text": (None, b"u-1"),
    "JSON text": (None, b'"u-1"'),
    "framed JSON text": (None, b'\x00\x00\x00\x00\x01"u-1"'),
    "object": ("key.id", b'{"id": "u-1"}'),
    "object or text": ("key.id || key", b"u-1"),
}


@pytest.mark.parametrize(("expression", "key"), KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("match_key", [True, False])
def test_a_tombstone_deletes_the_user_whom_its_key_names(
    expression: str | None, key: bytes, match_key: bool
) -> None:
    """However the producer writes its keys, and whether or not the keys of events are checked."""
    known = Interpretation(
        Settings(
            envelope=EnvelopeSettings(key=expression),
            events=EventsSettings(match_key=match_key, tombstones="delete"),
        )
    )
    flow = Flow(known=known, tombstones="delete")
    flow.handle(event_of(), key=key)

    flow.handle(None, key=key)

    assert ([], [False]) == (flow.reasons, [user["enabled"] for user in flow.keycloak.users()])
    assert ("user.deleted", "u-1") == (
        flow.results[1]["eventType"],
        flow.results[1]["userId"],
    )
    assert b"u-1" == flow.provision.ordering_key(record_of(None, key=key))


@pytest.mark.parametrize(
    "expression",
    ["data.account.no", "data.account.no || data.deletedBy", "trim(data.account.no)", "subject"],
)
def test_a_tombstone_goes_through_the_mapping(tmp_path: Path, expression: str) -> None:
    """Also where the schema calls the id otherwise, or asks for more than a key can say."""
    flow = Flow(known=of_own_schema(tmp_path, expression), tombstones="delete")
    flow.handle(event_of())

    flow.handle(None, key=b"u-1")

    assert ([], [False]) == (flow.reasons, [user["enabled"] for user in flow.keycloak.users()])


def test_an_id_of_two_properties_is_refused_at_start_where_tombstones_delete(
    tmp_path: Path,
) -> None:
    """A key names one thing: nobody would ever be found."""
    expression = "join('-', [data.account.no, data.deletedBy])"

    with pytest.raises(ConfigError, match=r"userId: the key of a tombstone is not enough"):
        of_own_schema(tmp_path, expression).check()


WITHOUT_SUBJECT = {"type": "body.type", "id": "body.id", "time": "body.time", "data": "body.data"}
"""The same events in an envelope that has no subject."""


def of_keys(envelope: Mapping[str, Any], *, match_key: bool = True) -> Flow:
    """Return a flow with u-1 in Keycloak, whose events have keys as the settings say."""
    known = Interpretation(
        Settings(
            envelope=EnvelopeSettings(**envelope),
            events=EventsSettings(match_key=match_key, tombstones="delete"),
        )
    )
    flow = Flow(known=known)
    flow.handle(event_of(subject=...), key=b'{"id": "u-1"}' if "key" in envelope else b"u-1")
    return flow


@pytest.mark.parametrize("kind", ["user.deleted", "user.disabled", "user.updated"])
@pytest.mark.parametrize(
    ("envelope", "key"),
    [
        ({}, b"u-2"),
        ({}, b'"u-2"'),
        ({"key": "key.id"}, b'{"id": "u-2"}'),
        (WITHOUT_SUBJECT, b"u-2"),
        ({**WITHOUT_SUBJECT, "key": "key.id"}, b'{"id": "u-2"}'),
    ],
)
def test_a_key_is_compared_with_the_users_id_where_there_is_no_subject(
    envelope: dict[str, str], key: bytes, kind: str
) -> None:
    """Else one user's events would have the order, and the fate, of another's."""
    flow = of_keys(envelope)
    about = later(kind, "e-2", "2026-11-02T08:00:00Z")

    flow.handle({name: value for name, value in about.items() if name != "subject"}, key=key)

    assert [("map", "key-mismatch")] == flow.reasons
    assert [True] == [user["enabled"] for user in flow.keycloak.users()]
    assert ("created", "key-mismatch") == (flow.results[0]["action"], flow.results[1]["reason"])
    assert "the record key is not the user's id" == flow.results[1]["message"]


@pytest.mark.parametrize(
    ("envelope", "key", "match_key"),
    [
        ({}, b"u-1", True),
        ({}, b"", True),
        ({}, b"order-7", False),
        ({"key": "key.id"}, b'{"id": "u-1", "tenant": "t"}', True),
        ({"key": "key.id"}, b'{"id": "u-2"}', False),
        (WITHOUT_SUBJECT, b"u-1", True),
    ],
)
def test_an_event_without_a_subject_is_taken_where_its_key_may_be_what_it_is(
    envelope: dict[str, str], key: bytes, match_key: bool
) -> None:
    """The same id, no key, or one that need not name the user."""
    flow = of_keys(envelope, match_key=match_key)
    about = later("user.disabled", "e-2", "2026-11-02T08:00:00Z")

    flow.handle({name: value for name, value in about.items() if name != "subject"}, key=key)

    assert ([], [False]) == (flow.reasons, [user["enabled"] for user in flow.keycloak.users()])


@pytest.mark.parametrize("key", [b"\xff", b'{"id": "u-1"}', b'{"id": "u-1", "id": "u-2"}'])
def test_a_tombstone_whose_key_cannot_be_read_is_a_dead_letter(key: bytes) -> None:
    """It is never skipped: somebody was to be deleted."""
    flow = Flow(tombstones="delete")

    flow.handle(None, key=key)

    assert [("decode", "unreadable-key")] == flow.reasons
    assert [("rejected", None)] == [(one["outcome"], one.get("userId")) for one in flow.results]


def test_a_skipped_tombstone_names_nobody_where_keys_need_not_name_users() -> None:
    """The key may be an address, and results go to others."""
    known = Interpretation(Settings(events=EventsSettings(match_key=False)))
    flow = Flow(known=known)

    flow.handle(None, key=PLANTED[0].encode())

    assert [("tombstone", None)] == [(one["reason"], one.get("userId")) for one in flow.results]


@pytest.mark.parametrize(("key", "expected"), [(b"u-1", True), (None, False), (b"other", False)])
def test_the_key_says_whether_one_partition_has_all_events_of_the_user(
    key: bytes | None, expected: bool
) -> None:
    """Only the external id as key makes all its events come by one partition."""
    known = Interpretation(Settings(events=EventsSettings(match_key=False)))
    record = replace(record_of(event_of()), key=key)
    prepared = known.read(record)
    assert isinstance(prepared, Prepared)
    write = Write(record, prepared.event, prepared.desired)

    assert expected is write.one_partition


# the provision stage: what never can succeed

BAD: Mapping[str, tuple[Any, tuple[str, str]]] = {
    "no JSON": (b"{oops", ("decode", "not-json")),
    "no object": (b"[1]", ("decode", "not-a-cloudevent")),
    "no subject": (event_of(subject=7), ("decode", "invalid-envelope")),
    "unknown type": (event_of(type="user.renamed"), ("schema", "unknown-type")),
    "unknown schema": (
        event_of(dataschema="urn:keycloak-bridge:schema:user.created:9.9"),
        ("schema", "unknown-schema"),
    ),
    "schema": (event_of(data={"email": ...}), ("schema", "schema-violation")),
    "mapping": (event_of(data={"roles": ["root"]}), ("map", "role-not-allowed")),
    "other subject": (event_of(subject="u-2"), ("map", "subject-mismatch")),
    "foreign group": (event_of(data={"groups": ["/admins"]}), ("map", "group-not-allowed")),
    "missing group": (event_of(data={"groups": ["/customers"]}), ("keycloak", "group-missing")),
    "missing role": (event_of(data={"roles": ["auditor"]}), ("keycloak", "role-not-found")),
}


def test_a_dead_letter_and_its_result_name_what_could_be_read() -> None:
    """Event and user if the envelope is broken elsewhere, the schema and pointers if it was found, else the position."""
    flow = Flow()
    flow.handle(event_of(data={"email": "nowhere"}))
    flow.handle(event_of(time="yesterday"), offset=43)
    flow.handle(b"{", key=b"u-1", offset=44)

    (_, invalid), (_, broken), _ = flow.letters
    assert ("event-1", USER_CREATED_NEWEST) == (invalid["event-id"], invalid["schema-id"])
    assert ["/data/email"] == [one["pointer"] for one in json.loads(invalid["errors"])]
    assert ["/data/email"] == [one["pointer"] for one in flow.results[0]["violations"]]
    assert "event-1" == broken["event-id"]
    assert ("event-1", "u-1") == (flow.results[1]["eventId"], flow.results[1]["userId"])
    unreadable = flow.broker.records(RESULTS)[-1]
    assert "user-events/3/44/rejected" == json.loads(unreadable.value or b"")["id"]


@pytest.mark.parametrize(
    "error",
    [
        KeycloakConflictError("taken"),
        KeycloakNotFoundError("gone"),
        KeycloakRejectedError(
            "Keycloak refuses the user",
            status=400,
            violations=[Violation("/user/email", "error-invalid-email", "must be valid")],
        ),
    ],
)
def test_what_keycloak_refuses_is_a_dead_letter(error: KeycloakError) -> None:
    """After it was planned again where that may help; status and pointers are in the headers."""
    flow = Flow()
    flow.keycloak.fail("create", error, times=2)

    flow.handle(event_of())

    assert [("keycloak", error.code)] == flow.reasons
    reason = flow.letters[0][1]
    assert error.status == (int(reason["http-status"]) if error.status else None)
    pointers = [one["pointer"] for one in json.loads(reason.get("errors", "[]"))]
    assert [one.pointer for one in error.violations] == pointers


# what may pass


@pytest.mark.parametrize(
    "error",
    [
        KeycloakUnavailableError("down", retry_after_s=3.0),
        KeycloakAuthError("refused"),
        MailDeliveryError("the SMTP server is away"),
    ],
    ids=lambda error: error.code,
)
@pytest.mark.parametrize(
    ("stage", "call"),
    [("provision", "find"), ("provision", "create"), ("invite", "execute_actions_email")],
)
def test_an_outage_is_raised_untouched(stage: str, call: str, error: BridgeError) -> None:
    """The delivery decides: no result, no dead letter, the very same error."""
    flow = Flow()
    record = an_invitation(flow) if stage == "invite" else record_of(event_of())
    before = len(flow.results)
    flow.keycloak.fail(call, error)

    with pytest.raises(BridgeError) as caught:
        getattr(flow, stage).handle(record).result()

    assert error is caught.value
    assert ([], before) == (flow.letters, len(flow.results))


# the provision stage: order, replays, dependencies, giving up


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (record_of(event_of("u-2"), key=b"u-1"), b"u-1"),
        (record_of(event_of("u-2"), key=b'"u-1"'), b"u-1"),
        (record_of(event_of("u-2"), key=b'{"tenant": 1}'), b'{"tenant": 1}'),
        (record_of(event_of("u-2"), key=b"\xff"), b"\xff"),
        (replace(record_of(event_of("u-2")), key=None), b"u-2"),
        (replace(record_of(event_of("u-2")), key=b""), b"u-2"),
        (record_of(b"{oops", offset=7), b"@7"),
        (record_of(None, offset=7), b"@7"),
        (record_of(event_of(subject=...), offset=7), b"@7"),
        (record_of(json.dumps(event_of("\ud800")).encode(), offset=7), b"@7"),
    ],
    ids=[
        "key",
        "JSON key",
        "object",
        "no text",
        "subject",
        "empty key",
        "unreadable",
        "tombstone",
        "no subject",
        "surrogate",
    ],
)
def test_records_of_a_user_keep_their_order(record: Record, expected: bytes) -> None:
    """By the record key, as in Kafka itself, else by the subject; a record without both waits for no other."""
    assert expected == Flow().provision.ordering_key(record)


@pytest.mark.parametrize("event", [event_of("u-2"), event_of("u-2", time="never")])
def test_a_record_without_a_key_is_parsed_once(
    event: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its order, its user or its dead letter, and a second attempt need no second look at the JSON."""
    parsed: list[bytes] = []

    def counting(text: bytes, **limits: int) -> Any:
        parsed.append(text)
        return parse_json(text, **limits)

    monkeypatch.setattr(cloudevents, "parse_json", counting)
    flow, record = Flow(), replace(record_of(event), key=None)
    for _ in range(2):
        flow.provision.ordering_key(record)
        flow.provision.handle(record).result()

    assert [record.value] == parsed


def test_only_what_reached_keycloak_shows_that_it_works() -> None:
    """Whether it wrote, changed nothing or was refused there; a bad record is no sign that Keycloak is back."""
    flow = Flow(ignored_types={"order.placed"})
    bad = [event for event, (step, _) in BAD.values() if step != "keycloak"]
    for offset, event in enumerate([*bad, None, event_of(type="order.placed")]):
        assert Dependency.NONE is flow.handle(event, offset=offset).dependency
    assert [] == flow.keycloak.calls

    flow = Flow()
    created = flow.handle(event_of())
    unchanged = flow.handle(event_of(), offset=43)
    flow.keycloak.fail("create", KeycloakRejectedError("refused", status=400))
    refused = flow.handle(event_of("u-2", data={"email": "else@acme.example"}), offset=44)
    assert [Dependency.KEYCLOAK] * 3 == [one.dependency for one in (created, unchanged, refused)]


def test_an_event_out_of_scope_never_reaches_keycloak(tmp_path: Path) -> None:
    """The mapping alone decided."""
    file = tmp_path / "mapping.toml"
    file.write_text('when = "data.active"\n' + default_mapping_text())
    flow = Flow(known=Interpretation(Settings(mapping=MappingSettings(file=file))))

    handled = flow.handle(event_of())

    assert (Dependency.NONE, []) == (handled.dependency, flow.keycloak.calls)
    assert [("skipped", "out-of-scope")] == [(r["outcome"], r["reason"]) for r in flow.results]


GIVEN_UP: Mapping[str, tuple[BridgeError, tuple[str | None, str]]] = {
    "an answer of Keycloak": (
        KeycloakUnavailableError("Keycloak failed", status=500, remedy="look at its log"),
        ("500", "look at its log"),
    ),
    "a fault of the bridge": (
        InternalError("the bridge failed", remedy="report it"),
        (None, "report it"),
    ),
    "without a remedy": (
        KeycloakUnavailableError("Keycloak failed", status=502),
        ("502", RECOMMENDED_ACTIONS["given-up"]),
    ),
}


@pytest.mark.parametrize(("error", "expected"), GIVEN_UP.values(), ids=GIVEN_UP)
@pytest.mark.parametrize("stage", ["provision", "invite"])
def test_a_record_that_keeps_failing_is_given_up(
    stage: str, error: BridgeError, expected: tuple[str | None, str]
) -> None:
    """The untouched record with Keycloak's last answer and what to do; the result names event and user."""
    flow = Flow()
    flow.handle(event_of())
    record = record_of(event_of(), offset=43) if stage == "provision" else flow.invitations[0]

    handled = flow.settle(getattr(flow, stage).give_up(record, error))

    ((letter, reason),) = flow.letters
    assert record.value == letter.value
    assert ("given-up", *expected) == (reason["code"], reason.get("http-status"), reason["action"])
    assert error.message in reason["message"]
    assert ("rejected", "given-up", "u-1") == tuple(
        flow.results[-1][name] for name in ("outcome", "reason", "userId")
    )
    assert Dependency.NONE is handled.dependency
    assert {("given-up", stage): 1.0} == flow.counted("dead_letters_total")


def test_giving_up_is_a_dead_letter_as_any_other() -> None:
    """Later events of the user are parked, and the brake counts it."""
    flow = Flow(brake=Brake(1, 0, 200))
    error = KeycloakUnavailableError("Keycloak failed", status=500)
    record = record_of(event_of(), offset=43)

    flow.settle(flow.provision.give_up(record, error))

    assert flow.lost.knows(record.topic_partition, b"u-1")
    with pytest.raises(HoldError):
        flow.provision.give_up(record_of(event_of("u-2"), offset=44), error)


# the invite stage


def an_invitation(flow: Flow) -> Record:
    """Return the record that the provision stage wrote for a new user."""
    flow.handle(event_of())
    return flow.invitations[-1]


def test_an_invitation_becomes_a_mail_and_a_result() -> None:
    """The mail is out, the result has ids only."""
    flow = Flow()
    record = an_invitation(flow)

    flow.handle_invitation(record)

    (user,) = flow.keycloak.users()
    assert [user["id"]] == [mail.user_id for mail in flow.keycloak.mails]
    assert {
        "outcome": "invited",
        "eventId": "event-1",
        "userId": "u-1",
        "keycloakId": user["id"],
        "source": {"topic": INVITATIONS, "partition": 0, "offset": 0},
    } == flow.results[-1]
    assert {(): 1.0} == flow.counted("mails_total")
    # the key is the user's id; a record without one waits for no other
    assert [b"u-1", b"@42"] == [flow.invite.ordering_key(one) for one in (record, record_of(b"{"))]


def test_only_a_mail_shows_that_mails_go_out() -> None:
    """A mail that was sent before, or is not due, says nothing about the SMTP server."""
    flow = Flow()
    record = an_invitation(flow)

    sent = flow.handle_invitation(record)
    again = flow.handle_invitation(record)
    flow.keycloak.delete_user(flow.keycloak.users()[0]["id"])
    gone = flow.handle_invitation(record)
    assert ("skipped", "user-not-found") == (
        flow.results[-1]["outcome"],
        flow.results[-1]["reason"],
    )
    broken = flow.handle_invitation(record_of(b"{"))

    assert [
        Dependency.KEYCLOAK | Dependency.MAIL,
        Dependency.KEYCLOAK,
        Dependency.KEYCLOAK,
        Dependency.NONE,
    ] == [handled.dependency for handled in (sent, again, gone, broken)]
    assert {(): 1.0} == flow.counted("mails_total")


def test_mails_beyond_the_limit_wait_for_a_release() -> None:
    """What turns out to need no mail is not counted."""
    brake = Brake(0, 0, 10)
    flow = Flow(brake=brake, limits=Limits(brake, {LimitedAction.MAIL: Limit(1, 60)}))
    for number in "12":
        data = {"email": f"{number}@acme.example"}
        flow.handle(event_of(f"u-{number}", f"event-{number}", data=data))
    first, second = flow.invitations
    flow.keycloak.set_password(flow.keycloak.users()[0]["id"])
    flow.handle_invitation(first)
    flow.handle_invitation(second)
    flow.handle(event_of("u-3", "event-3", data={"email": "3@acme.example"}))

    with pytest.raises(HoldError) as held:
        flow.handle_invitation(flow.invitations[-1])

    assert ("brake", 1) == (held.value.code, len(flow.keycloak.mails))
    assert "1 mails were sent within 1 minute ([limits] mails)" == brake.reason


def _without_keycloak_id(invitation: dict[str, Any]) -> dict[str, Any]:
    del invitation["data"]["keycloakId"]
    return invitation


BROKEN: Mapping[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "not JSON": (lambda _: b"{", "not-json"),
    "another event": (lambda _: event_of(), "not-an-invitation"),
    "without time": (
        lambda one: {name: value for name, value in one.items() if name != "time"},
        "not-an-invitation",
    ),
    "breaks its schema": (_without_keycloak_id, "schema-violation"),
    "unknown schema": (lambda one: one | {"dataschema": "urn:else"}, "unknown-schema"),
    "tombstone": (lambda _: None, "tombstone"),
}


@pytest.mark.parametrize(("spoil", "code"), BROKEN.values(), ids=BROKEN)
def test_a_record_that_is_no_invitation_is_a_dead_letter(
    spoil: Callable[[dict[str, Any]], Any], code: str
) -> None:
    """Anything else on the topic is rejected with stage `invite`, and no mail goes out."""
    flow = Flow()
    good = json.loads(an_invitation(flow).value or b"")

    flow.handle_invitation(record_of(spoil(good), key=b"u-1"))

    assert [("invite", code)] == flow.reasons
    assert ("rejected", code) == (flow.results[-1]["outcome"], flow.results[-1]["reason"])
    assert [] == flow.keycloak.mails


def test_a_forged_invitation_mails_nothing_on_its_own_terms() -> None:
    """No administrator gets a link that deletes an account; who is due gets what the settings say."""
    flow = Flow()
    good = json.loads(an_invitation(flow).value or b"")
    administrator = flow.keycloak.add_user(
        {"username": "admin", "email": "admin@acme.example", "enabled": True}
    )
    terms = {"actions": ["UPDATE_PASSWORD", "delete_account"], "lifespan": 315_360_000}

    def forged(**data: Any) -> Record:
        body = {**good, "dataschema": "urn:keycloak-bridge:schema:user.invitation.due:1.0"}
        return record_of(body | {"data": good["data"] | terms | data}, key=b"u-1")

    flow.handle_invitation(forged(keycloakId=administrator))
    flow.handle_invitation(forged(eventId="event-2"))
    assert ([("invite", "reserved-user")], []) == (flow.reasons, flow.keycloak.mails)

    flow.handle_invitation(forged())

    (mail,) = flow.keycloak.mails
    assert interpretation().mapping.default.invitation == mail.terms
    assert ["reserved-user", "superseded", None] == [
        result.get("reason") for result in flow.results[-3:]
    ]


@pytest.mark.parametrize(
    ("event_days", "asked_days", "record_days", "mailed"),
    [
        (0, 0, 0, True),
        (31, 0, 0, False),
        (0, 31, 0, False),
        (0, 0, 31, False),
        (None, 0, None, True),
        (29, 29, 29, True),
    ],
)
def test_an_invitation_has_a_greatest_age(
    event_days: int | None, asked_days: int, record_days: int | None, mailed: bool
) -> None:
    """By its event's time and the record's, whichever is older; the user stays due, so that a request still mails it."""
    flow = Flow(max_mail_age_s=30 * 86_400.0)
    record = an_invitation(flow)
    now = flow.clock.now()

    def ago(days: int) -> str:
        return (now - timedelta(days=days)).isoformat()

    body = json.loads(record.value or b"")
    body["time"] = ago(asked_days)
    del body["data"]["eventTime"]
    if event_days is not None:
        body["data"]["eventTime"] = ago(event_days)
    stamped = -1
    if record_days is not None:
        stamped = int((now - timedelta(days=record_days)).timestamp() * 1000)
    record = replace(record, value=json.dumps(body).encode(), timestamp_ms=stamped)

    flow.handle_invitation(record)

    assert (None if mailed else "too-old", int(mailed)) == (
        flow.results[-1].get("reason"),
        len(flow.keycloak.mails),
    )
    (user,) = flow.keycloak.users()
    assert mailed is not user["attributes"]["bridgeInvitation"][0].startswith("due:")


def test_a_mail_that_keycloak_refuses_is_a_dead_letter_that_names_the_user() -> None:
    """A wrong redirect URI, say; the result carries the ids of the invitation."""
    flow = Flow()
    record = an_invitation(flow)
    flow.keycloak.fail("execute_actions_email", KeycloakRejectedError("no such client", status=400))

    handled = flow.handle_invitation(record)

    assert [("invite", "keycloak-rejected")] == flow.reasons
    assert Dependency.KEYCLOAK is handled.dependency
    assert ("event-1", "u-1", flow.keycloak.users()[0]["id"]) == tuple(
        flow.results[-1][name] for name in ("eventId", "userId", "keycloakId")
    )


# everything that leaves the bridge


def test_no_personal_data_leaves_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """Names, addresses and numbers of the events are in no message of ours, of whatever kind."""
    flow = Flow(tombstones="dead-letter")
    offsets = count()
    for event, _ in BAD.values():
        flow.handle(event, offset=next(offsets))
    flow.handle(None, key=b"u-1", offset=next(offsets))
    flow.handle(
        event_of(data={"active": False}, subject="u-3") | {"data": {}}, offset=next(offsets)
    )
    record = an_invitation(flow)
    flow.handle_invitation(record)
    flow.handle_invitation(record)
    flow.handle_invitation(record_of(event_of(), key=b"u-1", offset=next(offsets)))
    flow.handle(event_of("u-9", "event-9"), offset=next(offsets))
    flow.keycloak.fail("create", KeycloakRejectedError("refused", status=400))
    other = {"email": "other.planted@acme.example"}
    flow.handle(event_of("u-8", "event-8", data=other), offset=next(offsets))
    error = KeycloakUnavailableError("Keycloak failed", status=500)
    given_up = record_of(event_of("u-7", "event-7"), offset=next(offsets))
    flow.settle(flow.provision.give_up(given_up, error))
    flow.settle(flow.invite.give_up(record, error))
    flow.handle(event_of("u-7", "event-6", type="user.moved"), offset=next(offsets))  # parked
    assert len(BAD) + 8 == len(flow.letters)
    assert {"given-up", "parked"} < {code for _, code in flow.reasons}

    text = flow.published().decode() + caplog.text

    assert [] == [value for value in (*PLANTED, "planted") if value.casefold() in text.casefold()]


def test_each_record_is_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    """The line names record, event, user, outcome and duration, and no personal data."""
    flow = Flow()

    with caplog.at_level("INFO", "keycloak_bridge.delivery.results"):
        flow.handle(event_of())

    (line,) = caplog.records
    fields: dict[str, Any] = line.bridge_fields  # type: ignore[attr-defined]
    assert {
        "action": "provisioned",
        "topic": EVENTS,
        "partition": 3,
        "offset": 42,
        "event_id": "event-1",
        "event_type": "user.created",
        "user_id": "u-1",
        "keycloak_id": flow.keycloak.users()[0]["id"],
        "operation": "created",
        "duration_ms": 0.0,
    } == fields
