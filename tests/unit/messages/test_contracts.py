"""What the bridge publishes keeps its own schemas, and is read back as it was."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import envelope, record

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import (
    BridgeError,
    EventDecodeError,
    EventError,
    EventValidationError,
    KeycloakRejectedError,
    KeyMismatchError,
    Violation,
)
from keycloak_bridge.domain.events import (
    DEAD_LETTER,
    INVITATION_DUE,
    RESULT,
    CloudEvent,
    Invitation,
    Message,
    Outcome,
    Purpose,
    Record,
    Result,
)
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.messages.dead_letters import dead_letter_headers, dead_letter_message
from keycloak_bridge.messages.invitations import invitation_message, read_invitation
from keycloak_bridge.messages.results import result_message

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CATALOG = load_schemas()
TERMS = InvitationTerms(("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 259_200)
INVITATION = Invitation("event-1/invitation", "event-1", "u-1", "kc-1", TERMS, NOON)
VIOLATION = Violation("/data/email", "format", "must be an e-mail address")
IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)


def consumed(message: Message) -> Record:
    """Return `message` as a consumer reads it."""
    return Record(message.topic, 0, 7, 0, message.key, message.value, message.headers)


def decoded(message: Message) -> CloudEvent:
    """Return the CloudEvent that `message` holds."""
    return decode(consumed(message), EnvelopeRules())


def dead_letter(
    a_record: Record, error: BridgeError, *, event_id: str | None = "event-1"
) -> Message:
    """Return the dead letter of `a_record`."""
    return dead_letter_message(
        a_record,
        error,
        topic="dead",
        stage="decode",
        group="keycloak-bridge",
        schema_id=None,
        event_id=event_id,
        time=NOON,
        bridge_version="0.1.0",
    )


def reason_of(message: Message) -> Mapping[str, str]:
    """Return the reason headers without their prefix."""
    headers = dead_letter_headers(consumed(message))
    return {name.removeprefix("kb-dlq-"): text for name, text in headers.items()}


def test_result_is_a_cloudevent() -> None:
    """Key and subject are the user's id, the schema is named, nothing unknown is sent as null."""
    result = Result(Outcome.PROVISIONED, action="created", event_id="event-1", user_id="u-1")

    message = result_message(result, topic="results", time=NOON)

    assert (message.topic, message.key) == ("results", b"u-1")
    assert decoded(message) == CloudEvent(
        id="event-1/provisioned",
        source="/keycloak-bridge",
        type=RESULT,
        subject="u-1",
        time=NOON,
        dataschema="urn:keycloak-bridge:schema:user.provisioning.result:1.1",
        data={
            "outcome": "provisioned",
            "action": "created",
            "eventId": "event-1",
            "userId": "u-1",
        },
    )


def test_repeated_result_has_the_same_id() -> None:
    """Consumers recognise a repetition by the id, whatever the second run found to do."""
    first = Result(Outcome.PROVISIONED, action="created", event_id="event-1", user_id="u-1")
    second = replace(first, action="unchanged")

    ids = {decoded(result_message(one, topic="t", time=NOON)).id for one in (first, second)}

    assert ids == {"event-1/provisioned"}


def test_result_of_an_unreadable_record_is_named_by_its_position() -> None:
    """Two unreadable records are not taken for one."""
    rejected = Result(Outcome.REJECTED, reason="not-json")

    message = result_message(rejected, topic="t", time=NOON, position="user-events/3/42")

    assert decoded(message).id == "user-events/3/42/rejected"
    assert message.key is None


def test_result_tells_what_was_written_and_where_the_event_stands() -> None:
    """Names of targets, the mapping and the place of the record, which also names an unreadable one."""
    updated = Result(
        Outcome.PROVISIONED,
        action="updated",
        event_id="event-1",
        changed=("email", "realmRoles"),
        mapping="3f1c5b0e9a72",
    )
    unreadable = Result(Outcome.REJECTED, reason="not-json")

    of_update = decoded(result_message(updated, topic="t", time=NOON, origin=record(b"x")))
    of_unreadable = decoded(result_message(unreadable, topic="t", time=NOON, origin=record(b"x")))

    source = {"topic": "user-events", "partition": 3, "offset": 42}
    assert of_update.data == {
        "outcome": "provisioned",
        "action": "updated",
        "eventId": "event-1",
        "changed": ["email", "realmRoles"],
        "mapping": "3f1c5b0e9a72",
        "source": source,
    }
    assert of_unreadable.data == {"outcome": "rejected", "reason": "not-json", "source": source}
    assert of_unreadable.id == "user-events/3/42/rejected"


@given(
    st.builds(
        Result,
        outcome=st.sampled_from(Outcome),
        action=st.sampled_from([None, "created", "updated", "deleted", "unchanged"]),
        reason=st.sampled_from([None, "stale", "schema-violation"]),
        message=st.none() | IDS,
        event_id=st.none() | IDS,
        event_type=st.none() | IDS,
        user_id=st.none() | IDS,
        keycloak_id=st.none() | IDS,
        schema_id=st.none() | IDS,
        violations=st.lists(st.just(VIOLATION), max_size=3).map(tuple),
        changed=st.lists(st.sampled_from(["email", "groups"]), max_size=2).map(tuple),
        mapping=st.none() | st.just("3f1c5b0e9a72"),
    ),
    st.none() | st.just(record(b"x")),
)
def test_every_result_keeps_its_schema(result: Result, origin: Record | None) -> None:
    """Whatever became of an event can be told."""
    event = decoded(result_message(result, topic="t", time=NOON, origin=origin))

    assert CATALOG.validate(event).type == RESULT


@pytest.mark.parametrize(
    "invitation",
    [
        INVITATION,
        replace(INVITATION, confirm_only=True),
        replace(INVITATION, purpose=Purpose.RESEND),
        replace(INVITATION, purpose=Purpose.VERIFY_EMAIL, confirm_only=True),
        replace(
            INVITATION,
            user_id="ü-1",
            terms=replace(TERMS, client_id="demo-app", redirect_uri="https://app.example/hello"),
        ),
    ],
)
def test_invitation_is_read_back(invitation: Invitation) -> None:
    """What the provision stage asks for is what the invite stage does."""
    message = invitation_message(invitation, topic="invitations")

    assert message.key == invitation.user_id.encode()
    assert read_invitation(consumed(message), CATALOG) == invitation


@pytest.mark.parametrize(
    ("purpose", "version", "told"),
    [
        (Purpose.INVITE, "1.0", None),
        (Purpose.RESEND, "1.1", "resend"),
        (Purpose.VERIFY_EMAIL, "1.1", "verify-email"),
    ],
)
def test_invitation_names_the_oldest_schema_that_describes_it(
    purpose: Purpose, version: str, told: str | None
) -> None:
    """An invite stage of the previous release reads first invitations, which are most of them."""
    event = decoded(invitation_message(replace(INVITATION, purpose=purpose), topic="t"))

    assert event.dataschema == f"urn:keycloak-bridge:schema:{INVITATION_DUE}:{version}"
    assert event.data.get("purpose") == told
    assert CATALOG.violations(INVITATION_DUE, event.data, event.dataschema) == ()


@pytest.mark.parametrize("purpose", ["welcome", 3, None, ["resend"]])
def test_unknown_purpose_of_an_old_record_is_a_first_invitation(purpose: object) -> None:
    """Version 1.0 allowed any property by that name, and gave it no meaning."""
    assert read_invitation(changed_invitation(purpose=purpose), CATALOG) == INVITATION


def changed_invitation(**changes: Any) -> Record:
    """Return an invitation with other data."""
    message = invitation_message(INVITATION, topic="invitations")
    event = json.loads(message.value or b"")
    event["data"] |= changes
    return replace(consumed(message), value=json.dumps(event).encode())


@pytest.mark.parametrize(
    ("a_record", "error"),
    [
        (record(envelope()), EventDecodeError),
        (record(b"x"), EventDecodeError),
        (changed_invitation(lifespan="3 days"), EventValidationError),
        (changed_invitation(actions=[]), EventValidationError),
        (changed_invitation(redirectUri="https://app.example"), EventValidationError),
        (
            replace(consumed(invitation_message(INVITATION, topic="t")), key=b"u-2"),
            KeyMismatchError,
        ),
    ],
)
def test_what_is_no_invitation_is_refused(a_record: Record, error: type[BridgeError]) -> None:
    """Nobody else's record makes Keycloak send a mail."""
    with pytest.raises(error):
        read_invitation(a_record, CATALOG)


def test_dead_letter_holds_the_untouched_record() -> None:
    """Key, value and headers, in their order, and then the reason."""
    headers = (("trace", b"\xff\x00"), ("empty", None), ("trace", b"2"))
    original = record(b"\xff broken", key=b"\xfe", headers=headers)
    error = EventDecodeError("the value is not UTF-8", code="wrong-encoding", remedy="mend it")

    message = dead_letter(original, error, event_id=None)

    assert (message.topic, message.key, message.value) == ("dead", b"\xfe", b"\xff broken")
    assert message.headers[:3] == headers
    assert reason_of(message) == {
        "topic": "user-events",
        "partition": "3",
        "offset": "42",
        "timestamp": "1793577600000",
        "group": "keycloak-bridge",
        "stage": "decode",
        "code": "wrong-encoding",
        "message": "the value is not UTF-8",
        "action": "mend it",
        "attempts": "1",
        "bridge-version": "0.1.0",
        "time": "2026-11-01T12:00:00.000000Z",
    }


@pytest.mark.parametrize(
    "error",
    [
        EventError("no"),
        EventDecodeError("no", code="not-json"),
        EventValidationError("no", violations=[VIOLATION] * 3),
        KeycloakRejectedError("no", status=400, method="POST", path="/users"),
    ],
)
def test_dead_letter_keeps_its_schema(error: BridgeError) -> None:
    """The headers are a contract like any other."""
    headers = dead_letter_headers(consumed(dead_letter(record(b"x"), error)))

    assert CATALOG.violations(DEAD_LETTER, dict(headers)) == ()


def test_dead_letter_tells_status_advice_and_event() -> None:
    """What Keycloak answered, what to do about it, and which event it was."""
    error = KeycloakRejectedError("Keycloak refuses the user", status=400)

    reason = reason_of(dead_letter(record(b"x"), error))

    assert (reason["http-status"], reason["event-id"]) == ("400", "event-1")
    assert "user management" in reason["action"]


def test_dead_letter_lists_violations_within_its_limit() -> None:
    """The list stays JSON, however many rules are broken."""
    error = EventValidationError("no", violations=[VIOLATION] * 500)

    listed = reason_of(dead_letter(record(b"x"), error))["errors"]

    assert 3000 < len(listed.encode()) <= 4096
    assert json.loads(listed)[0] == {
        "pointer": "/data/email",
        "keyword": "format",
        "message": "must be an e-mail address",
    }


@pytest.mark.parametrize(
    ("before", "after"), [(b"4", "5"), (b"", "1"), ("٣".encode(), "1"), (b"9" * 5000, "1")]
)
def test_second_life_as_a_dead_letter_replaces_the_first(before: bytes, after: str) -> None:
    """A replayed record that fails again counts on and keeps no old reason."""
    headers = (("kb-dlq-code", b"old"), ("kb-dlq-attempts", before), ("trace", b"1"))

    message = dead_letter(record(b"x", headers=headers), EventDecodeError("no"))

    assert [name for name, _ in message.headers].count("kb-dlq-code") == 1
    assert message.headers[0] == ("trace", b"1")
    assert reason_of(message)["code"] == "not-a-cloudevent"
    assert reason_of(message)["attempts"] == after


def test_tombstone_stays_a_tombstone() -> None:
    """A record without a value is dead-lettered without one."""
    assert dead_letter(record(None, key=b"u-1"), EventError("no")).value is None
