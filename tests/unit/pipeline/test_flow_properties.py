"""Whatever arrives, how often and in whichever order: one user, one mail, no crash, no personal data published."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_harness import EVENTS, STRUCTURED, Flow, event_of, interpretation

from keycloak_bridge.domain.errors import (
    BridgeError,
    Disposition,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import Record, event_identity
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.pipeline.interpret import Prepared

START = datetime(2026, 11, 1, 8, tzinfo=UTC)
MOST_ATTEMPTS = 50
USERS = ("u-1", "u-2", "u-3")


def event_about(user: str, serial: int, department: str, roles: list[str]) -> dict[str, Any]:
    """Return event number `serial` of the stream; the later, the newer."""
    data = {
        "email": f"{user}@acme.example",
        "department": department,
        "roles": roles,
        "groups": ["/staff"],
    }
    time = format_time(START + timedelta(minutes=serial))
    return event_of(user, f"event-{serial}", time=time, data=data)


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the events of a topic: up to three users, each with several events."""
    return [
        event_about(
            draw(st.sampled_from(USERS)),
            serial,
            draw(st.sampled_from(["R&D", "Sales"])),
            draw(st.sampled_from([[], ["viewer"]])),
        )
        for serial in range(draw(st.integers(1, 6)))
    ]


def as_record(event: dict[str, Any], offset: int) -> Record:
    value = json.dumps(event, ensure_ascii=False).encode()
    return Record(EVENTS, 0, offset, 0, str(event["subject"]).encode(), value, STRUCTURED)


def deliver(flow: Flow, records: list[Record], prefixes: list[int], *, invite: bool) -> None:
    """Handle `records` in order, each time from the beginning up to one of `prefixes`, and at last to the end.

    An error that can pass is met as the worker meets it: the same record again.
    """
    stage = flow.invite if invite else flow.provision
    for length in [*prefixes, len(records)]:
        for record in records[:length]:
            for _ in range(MOST_ATTEMPTS):
                try:
                    flow.settle(stage.handle(record))
                except BridgeError as error:
                    if error.disposition is not Disposition.RETRY:
                        raise
                else:
                    break
            else:
                pytest.fail("a failure that should pass does not")


@given(
    streams(),
    st.lists(st.integers(0, 6), max_size=3),
    st.lists(st.integers(0, 20), max_size=3),
)
@settings(deadline=None)
def test_redelivery_makes_one_user_and_one_mail(
    events: list[dict[str, Any]], prefixes: list[int], invite_prefixes: list[int]
) -> None:
    """However often the topics are read again: as many users and mails as people, and nothing is left to plan."""
    flow = Flow()
    deliver(flow, [as_record(event, at) for at, event in enumerate(events)], prefixes, invite=False)
    deliver(flow, flow.invitations, invite_prefixes, invite=True)

    people = {event["subject"] for event in events}
    users = {user["attributes"]["userId"][0]: user for user in flow.keycloak.users()}
    assert people == set(users)
    assert len(people) == len(flow.keycloak.users()) == len(flow.keycloak.mails)
    assert [] == flow.letters
    last = {event["subject"]: event for event in events}
    for person, event in last.items():
        assert [event["data"]["department"]] == users[person]["attributes"]["department"]
        known = event_identity(event["id"], event["source"], event["type"], person)
        assert [known] == users[person]["attributes"]["bridgeEventId"]
        assert () == operations(flow, event)


def operations(flow: Flow, event: dict[str, Any]) -> tuple[object, ...]:
    """Return what would still be done for `event`."""
    read = interpretation().read(as_record(event, 0))
    assert isinstance(read, Prepared)
    assert isinstance(read.desired, DesiredUser)
    return flow.provisioner.plan(read.event, read.desired)[1].operations


texts = st.text(max_size=12)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
PROPERTIES = st.sampled_from(
    [
        "userId",
        "email",
        "givenName",
        "familyName",
        "username",
        "locale",
        "tenantId",
        "department",
        "phoneNumber",
        "active",
        "roles",
        "groups",
        "attributes",
        "unknown",
    ]
)
ATTRIBUTES = st.sampled_from(
    ["id", "type", "source", "subject", "time", "dataschema", "specversion", "data", "else"]
)


@st.composite
def odd_values(draw: st.DrawFn) -> bytes:
    """Draw the bytes of an event that is nearly right, or of anything."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=60))
    event = event_of(data=draw(st.dictionaries(PROPERTIES, anything, max_size=3)))
    event |= draw(st.dictionaries(ATTRIBUTES, anything, max_size=2))
    return json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("content-type", "ce_id", "ce_type", "ce_specversion"),
                *("kb-dlq-attempts", "kb-replay-of", "kb-replay-invite"),
            ]
        ),
        st.none()
        | st.binary(max_size=20)
        | st.sampled_from([b"1.0", b"user.created", b"9" * 5000]),
    ),
    max_size=4,
).map(tuple)


RECORDS = st.builds(
    Record,
    topic=st.just(EVENTS),
    partition=st.just(0),
    offset=st.integers(0, 9),
    timestamp_ms=st.integers(-1, 2**40),
    key=st.none() | st.binary(max_size=8) | st.just(b"u-1"),
    value=st.none() | odd_values(),
    headers=st.just(STRUCTURED) | HEADERS,
)


@given(RECORDS)
@settings(deadline=None, max_examples=300)
def test_no_record_can_stop_the_flow(record: Record) -> None:
    """Whatever its bytes are, it has an ordering key, and each stage finishes it with one result."""
    for stage in ("provision", "invite"):
        flow = Flow()
        handler = getattr(flow, stage)

        assert isinstance(handler.ordering_key(record), bytes)
        flow.settle(handler.handle(record))
        assert 1 == len(flow.results)
        assert len(flow.letters) == sum(one["outcome"] == "rejected" for one in flow.results)


@given(RECORDS, st.sampled_from(["provision", "invite"]))
@settings(deadline=None)
def test_every_record_can_be_given_up(record: Record, stage: str) -> None:
    """One that keeps failing becomes exactly one dead letter, as it was, whatever it is."""
    flow = Flow()
    error = KeycloakUnavailableError("Keycloak failed", status=500)

    flow.settle(getattr(flow, stage).give_up(record, error))

    ((letter, reason),) = flow.letters
    assert "given-up" == reason["code"]
    kept = b"" if record.key is None and record.value is None else record.value
    assert (record.key, kept) == (letter.key, letter.value)
    assert ["rejected"] == [result["outcome"] for result in flow.results]


@given(PROPERTIES.filter(lambda name: name not in ("userId", "active")), st.booleans())
@settings(deadline=None)
def test_no_value_of_an_event_is_published(name: str, taken: bool) -> None:
    """A planted value ends in no header, no result and no invitation, wherever it stood (names of attributes may be)."""
    planted = "Zz-planted-Zz"
    values: list[Any] = [planted, [planted], [f"/{planted}"], {"x": planted}]
    for value in values:
        flow = Flow()
        if taken:
            flow.keycloak.add_user({"username": f"{planted}@x.example", "enabled": True})
        flow.handle(event_of(data={"email": f"{planted}@x.example", name: value}))

        assert planted.lower() not in flow.published().decode().lower()
