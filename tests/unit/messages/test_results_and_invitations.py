"""Results and invitations keep their schema, and are read back as they were written."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from dead_letter_cases import NOON, stored
from hypothesis import given
from hypothesis import strategies as st
from records import envelope, record

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import (
    BridgeError,
    EventDecodeError,
    EventValidationError,
    KeyMismatchError,
    MappingError,
    Violation,
)
from keycloak_bridge.domain.events import (
    INVITATION_DUE,
    RESULT,
    USER_EVENTS,
    CloudEvent,
    Invitation,
    Message,
    Outcome,
    Purpose,
    Record,
    Result,
)
from keycloak_bridge.domain.operations import (
    Change,
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    RequestInvitation,
    UnlinkIdentity,
    UpdateUser,
)
from keycloak_bridge.domain.users import GROUPS, REALM_ROLES, IdentityLink, InvitationTerms
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.mapping.mapping import AttributeMapping
from keycloak_bridge.messages.invitations import invitation_message, read_invitation
from keycloak_bridge.messages.results import (
    PastOutcome,
    action_of,
    changed_by,
    outcomes_in_order,
    read_outcome,
    result_message,
    set_last_by,
)
from keycloak_bridge.settings.model import LifecycleSettings, Settings

CATALOG = load_schemas()
CREATED = Result(
    Outcome.PROVISIONED,
    action="created",
    event_id="event-1",
    user_id="u-1",
    identity="event-1~5",
)
UNREADABLE = Result(Outcome.REJECTED, reason="not-json")
VIOLATION = Violation("/data/email", "format", "must be an e-mail address")
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)


def published(result: Result, origin: Record | None = None) -> Message:
    return result_message(result, topic="results", time=NOON, origin=origin)


def decoded(message: Message) -> CloudEvent:
    return decode(stored(message), EnvelopeRules())


def test_result_is_a_cloudevent() -> None:
    """Key and subject are the user's id, its own id is the same for a repetition, nothing unknown is sent as null."""
    message = published(CREATED)
    repeated = published(replace(CREATED, action="unchanged"))

    assert decoded(repeated).id == decoded(message).id
    assert (message.topic, message.key) == ("results", b"u-1")
    assert decoded(message) == CloudEvent(
        id="event-1~5/provisioned",
        source="/keycloak-bridge",
        type=RESULT,
        subject="u-1",
        time=NOON,
        dataschema="urn:keycloak-bridge:schema:user.provisioning.result:1.2",
        data={
            "outcome": "provisioned",
            "action": "created",
            "eventId": "event-1",
            "userId": "u-1",
        },
    )


def test_result_names_what_was_written_and_the_place_of_the_record() -> None:
    """Targets, the mapping and the place, which also names an unreadable record."""
    updated = Result(
        Outcome.PROVISIONED,
        action="updated",
        event_id="event-1",
        changed=("email", "realmRoles"),
        mapping="3f1c5b0e9a72",
    )

    of_update = decoded(published(updated, record(b"x")))
    of_unreadable = decoded(published(UNREADABLE, record(b"x")))

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
    assert published(UNREADABLE, record(b"x")).key is None


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
    """Every outcome can be reported."""
    event = decoded(published(result, origin))

    assert CATALOG.validate(event).type == RESULT


CREATE = CreateUser(
    {
        "username": "ada",
        "groups": ["/staff"],
        "attributes": {"userId": ["u-1"], "bridgeEventId": ["event-1"]},
    }
)
UPDATE = UpdateUser(
    {}, (Change("email", None, "a@x"), Change("attributes.bridgeEventId", None, ["event-2"]))
)
INVITE = RequestInvitation(InvitationTerms((), 60))

DESCRIBED: dict[str, tuple[tuple[Operation, ...], str, tuple[str, ...]]] = {
    "nothing": ((), "unchanged", ()),
    "only the mail": ((INVITE,), "unchanged", ()),
    "created": (
        (CREATE, Join(REALM_ROLES, ("viewer",)), INVITE),
        "created",
        ("username", "groups", "attributes.userId", REALM_ROLES),
    ),
    "updated": ((UPDATE, EndSessions()), "updated", ("email",)),
    "logged out": ((EndSessions(),), "updated", ()),
    "moved": (
        (Join(GROUPS, ("/a",)), Leave(GROUPS, ("/b",))),
        "updated",
        (GROUPS,),
    ),
    "linked": (
        (LinkIdentity(IdentityLink("corp", "1")), UnlinkIdentity(IdentityLink("old", "2"))),
        "updated",
        ("identities.corp", "identities.old"),
    ),
    "deleted": ((DeleteUser(),), "deleted", ()),
}


@pytest.mark.parametrize(("operations", "action", "changed"), DESCRIBED.values(), ids=DESCRIBED)
def test_a_plan_is_described_by_action_and_targets(
    operations: tuple[Operation, ...], action: str, changed: tuple[str, ...]
) -> None:
    """One word for what happened to the user, and the targets without values; bookkeeping is left out."""
    plan = Plan("kc-1", operations)

    assert (action, changed) == (action_of(plan), changed_by(plan))


def an_outcome(event_id: str, *changed: str, day: int = 1, **facts: Any) -> PastOutcome:
    facts = {"outcome": "provisioned", "action": "updated", **facts}
    time = datetime(2026, 11, day, tzinfo=UTC)
    return PastOutcome(time, event_id=event_id, changed=changed, **facts)


def test_a_result_is_read_back_whole() -> None:
    """Everything that says which event set what, from the very message; one of an older bridge has less."""
    older = Result(Outcome.SKIPPED, reason="stale", event_id="event-1")
    assert read_outcome(stored(published(older))) == PastOutcome(
        NOON, "skipped", reason="stale", event_id="event-1", id="unreadable/skipped"
    )
    facts: dict[str, Any] = {
        "action": "updated",
        "event_id": "event-1",
        "event_type": "user.updated",
        "user_id": "u-1",
        "keycloak_id": "kc-1",
        "schema_id": "urn:x:1.0",
        "changed": ("email", "attributes.department"),
        "mapping": "abc",
    }
    message = published(Result(Outcome.PROVISIONED, **facts), record(b"{}"))

    assert read_outcome(stored(message)) == PastOutcome(
        NOON,
        "provisioned",
        **facts,
        origin="user-events/3@42",
        id="user-events/3/42/provisioned",
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{oops",
        b"[]",
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.created","data":{"outcome":"invited"}}',
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result","data":[]}',
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result","data":{"outcome":1}}',
    ],
)
def test_what_is_no_result_is_ignored(value: bytes | None) -> None:
    """Other clients may write to a topic."""
    assert read_outcome(Record("results", 0, 0, 0, b"u-1", value)) is None


def test_odd_parts_of_a_result_are_left_out() -> None:
    """Numbers where texts belong, and a place without an offset, are not believed."""
    value = (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"user.provisioning.result",'
        b'"data":{"outcome":"provisioned","eventId":7,"changed":["email",7],"source":{"topic":"t"}}}'
    )

    assert PastOutcome(None, "provisioned", changed=("email",), id="1") == read_outcome(
        Record("results", 0, 0, 0, None, value)
    )


def test_the_last_event_that_wrote_a_target_set_it() -> None:
    """Target by target; what was skipped or mailed wrote nothing."""
    created = an_outcome("event-1", "email", "attributes.department", action="created")
    moved = an_outcome("event-2", "attributes.department")
    stale = an_outcome("event-3", "email", outcome="skipped", action=None)

    assert {"email": created, "attributes.department": moved} == set_last_by(
        (created, moved, stale)
    )


def test_a_user_created_again_owes_nothing_to_earlier_events() -> None:
    """Deleting takes everything away; creating begins again."""
    first = an_outcome("event-1", "email", "attributes.department", action="created")
    gone = an_outcome("event-2", action="deleted")
    again = an_outcome("event-3", "email", action="created")

    assert {} == set_last_by((first, gone))
    assert {"email": again} == set_last_by((first, gone, again))
    assert {"email": again} == set_last_by((first, again))


def test_outcomes_are_put_in_order_of_time() -> None:
    """Results of one user from several partitions; one without a time comes first."""
    late, early = an_outcome("event-2", day=2), an_outcome("event-1", day=1)
    timeless = PastOutcome(None, "invited")

    assert (timeless, early, late) == outcomes_in_order((late, timeless, early))


VERIFYING = Settings(lifecycle=LifecycleSettings(email_change="verify"))
MAPPINGS = Interpretation(VERIFYING).mapping
INVITATION = Invitation(
    "event-1/invitation",
    "event-1",
    "u-1",
    "kc-1",
    MAPPINGS.invitation_terms(None, None, Purpose.INVITE),
    NOON,
)
FORGED = {
    "actions": ["UPDATE_PASSWORD", "CONFIGURE_TOTP", "delete_account"],
    "lifespan": 315_360_000,
    "clientId": "evil",
    "redirectUri": "https://evil.example/",
}

names = st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), min_size=1, max_size=40)
moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 # Hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
terms = st.builds(
    InvitationTerms,
    actions=st.lists(names, min_size=1, max_size=4).map(tuple),
    lifespan_s=st.integers(60, 2**31 - 1),
    client_id=st.none() | names,
)
invitations = st.builds(
    Invitation,
    id=IDS,
    event_id=IDS,
    user_id=IDS,
    keycloak_id=names,
    terms=terms,
    time=moments,
    confirm_only=st.booleans(),
    purpose=st.sampled_from(Purpose),
    event_type=st.none() | st.sampled_from(USER_EVENTS),
    schema_id=st.none() | names,
    event_time=st.none() | moments,
    waiting_since=st.none() | moments,
)


def test_the_key_of_an_invitation_is_the_users_id_as_it_is() -> None:
    """An id that could be read as JSON too; a key of another user is refused."""
    invitation = Invitation(
        "i", "e", '{"id": "u"}', "kc", InvitationTerms(("A",), 60), datetime(2026, 1, 1, tzinfo=UTC)
    )
    record = stored(invitation_message(invitation, topic="user-invitations"))

    assert '{"id": "u"}' == read_invitation(record, CATALOG, MAPPINGS).user_id
    with pytest.raises(KeyMismatchError):
        read_invitation(replace(record, key=b"u"), CATALOG, MAPPINGS)


@pytest.mark.parametrize(
    "value", [None, b"", b"yesterday", b"\xff", b"2026-11-02", b"2026-11-02T01:01:07"]
)
def test_a_wait_that_is_no_moment_is_none(value: bytes | None) -> None:
    """Any producer may write the header."""
    message = invitation_message(INVITATION, topic="user-invitations")
    headers = (*message.headers, ("kb-waiting-since", value))

    assert INVITATION == read_invitation(
        stored(replace(message, headers=headers)), CATALOG, MAPPINGS
    )


@given(invitations)
def test_every_invitation_is_read_back_as_it_was(invitation: Invitation) -> None:
    """All but the terms, which are those of the settings when it is read; and the record keeps its schema."""
    message = invitation_message(invitation, topic="user-invitations")
    terms = MAPPINGS.invitation_terms(
        invitation.event_type, invitation.schema_id, invitation.purpose
    )

    event = json.loads(message.value or b"")
    assert message.key == invitation.user_id.encode()
    assert replace(invitation, terms=terms) == read_invitation(stored(message), CATALOG, MAPPINGS)
    assert () == CATALOG.violations(INVITATION_DUE, event["data"], event["dataschema"])


def test_an_invitation_says_whom_and_why_and_on_no_terms() -> None:
    """Nobody signs the record."""
    event = json.loads(invitation_message(INVITATION, topic="t").value or b"")

    assert event["dataschema"] == f"urn:keycloak-bridge:schema:{INVITATION_DUE}:1.2"
    assert {
        "eventId": "event-1",
        "userId": "u-1",
        "keycloakId": "kc-1",
        "purpose": "invite",
    } == event["data"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_terms_of_a_record_are_ignored(version: str) -> None:
    """Records of earlier releases carry them, and forged ones may."""
    assert read_invitation(changed_invitation(version, **FORGED), CATALOG, MAPPINGS) == INVITATION


@pytest.mark.parametrize(
    ("event_type", "schema_id", "actions"),
    [
        (None, None, ("UPDATE_PASSWORD",)),
        ("user.created", None, ("CONFIGURE_TOTP",)),
        ("user.enabled", None, ("UPDATE_PASSWORD",)),
        ("user.created", "urn:created:2.0", ("UPDATE_PROFILE",)),
        ("user.enabled", "urn:created:2.0", ("UPDATE_PASSWORD",)),
        ("user.created", "urn:else", ("CONFIGURE_TOTP",)),
        ("user.moved", "urn:else", ("UPDATE_PASSWORD",)),
    ],
)
def test_the_mapping_that_serves_the_event_has_the_terms(
    event_type: str | None, schema_id: str | None, actions: tuple[str, ...]
) -> None:
    """A record chooses among what is configured, and can ask for nothing else."""

    def asking(*actions: str) -> AttributeMapping:
        return replace(MAPPINGS.default, invitation=InvitationTerms(actions, 3600))

    mappings = replace(
        MAPPINGS,
        default=asking("UPDATE_PASSWORD"),
        by_type={"user.created": asking("CONFIGURE_TOTP")},
        by_major={("user.created", 2): asking("UPDATE_PROFILE")},
        majors={"urn:created:2.0": 2},
    )
    record = changed_invitation(
        eventType=event_type or 1, eventSchema=schema_id or 1, version="1.1"
    )

    assert actions == read_invitation(record, CATALOG, mappings).terms.actions


def test_no_address_is_verified_where_the_settings_verify_none() -> None:
    """A record cannot turn an invitation into a verification."""
    record = stored(
        invitation_message(replace(INVITATION, purpose=Purpose.VERIFY_EMAIL), topic="t")
    )
    trusting = Interpretation(Settings()).mapping

    assert ("VERIFY_EMAIL",) == read_invitation(record, CATALOG, MAPPINGS).terms.actions
    with pytest.raises(MappingError) as caught:
        read_invitation(record, CATALOG, trusting)
    assert "not-an-invitation" == caught.value.code


def changed_invitation(version: str = "1.2", **changes: Any) -> Record:
    """Return a record with these data, as a release with that version of the schema wrote it."""
    message = invitation_message(INVITATION, topic="invitations")
    event = json.loads(message.value or b"")
    event["dataschema"] = f"urn:keycloak-bridge:schema:{INVITATION_DUE}:{version}"
    terms = {} if version == "1.2" else {"actions": ["UPDATE_PASSWORD"], "lifespan": 3600}
    event["data"] |= {**terms, **changes}
    return replace(stored(message), value=json.dumps(event).encode())


@pytest.mark.parametrize("purpose", ["welcome", 3, None, ["resend"]])
def test_unknown_purpose_of_an_old_record_is_a_first_invitation(purpose: object) -> None:
    """Version 1.0 allowed any property by that name, and gave it no meaning."""
    assert (
        read_invitation(changed_invitation("1.0", purpose=purpose), CATALOG, MAPPINGS) == INVITATION
    )


@pytest.mark.parametrize(
    ("a_record", "error"),
    [
        (record(envelope()), EventDecodeError),
        (record(b"x"), EventDecodeError),
        (changed_invitation(eventType=""), EventValidationError),
        (changed_invitation(eventTime="yesterday"), EventValidationError),
        (changed_invitation("1.0", lifespan="3 days"), EventValidationError),
        (changed_invitation("1.0", actions=[]), EventValidationError),
        (changed_invitation("1.0", redirectUri="https://app.example"), EventValidationError),
        (
            replace(stored(invitation_message(INVITATION, topic="t")), key=b"u-2"),
            KeyMismatchError,
        ),
    ],
)
def test_what_is_no_invitation_is_refused(a_record: Record, error: type[BridgeError]) -> None:
    """A record of another client makes Keycloak send no mail."""
    with pytest.raises(error):
        read_invitation(a_record, CATALOG, MAPPINGS)
