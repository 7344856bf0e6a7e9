"""What is published can be read back, and holds nothing that a person typed."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import EventValidationError, Violation
from keycloak_bridge.domain.events import (
    DEAD_LETTER,
    INVITATION_DUE,
    Invitation,
    Message,
    Purpose,
    Record,
)
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.messages.dead_letters import dead_letter_headers, dead_letter_message
from keycloak_bridge.messages.invitations import invitation_message, read_invitation

CATALOG = load_schemas(())
MOMENT = datetime(2026, 11, 2, 3, 4, 5, 678_901, tzinfo=UTC)

ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)
names = st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), min_size=1, max_size=40)
moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 # Hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
clients = st.none() | names
terms = st.builds(
    InvitationTerms,
    actions=st.lists(names, min_size=1, max_size=4).map(tuple),
    lifespan_s=st.integers(60, 2**31 - 1),
    client_id=clients,
) | st.builds(
    InvitationTerms,
    actions=st.just(("UPDATE_PASSWORD",)),
    lifespan_s=st.just(3600),
    client_id=names,
    redirect_uri=names.map("https://app.example/{}".format),
)
invitations = st.builds(
    Invitation,
    id=ids,
    event_id=ids,
    user_id=ids,
    keycloak_id=names,
    terms=terms,
    time=moments,
    confirm_only=st.booleans(),
    purpose=st.sampled_from(Purpose),
)
headers = st.lists(
    st.tuples(
        st.sampled_from(["trace", "ce_id", "kb-dlq-code", "kb-dlq-attempts", "kb-dlq-x"]),
        st.none() | st.binary(max_size=20) | st.sampled_from([b"1", b"41", b"-1", b"\xb2"]),
    ),
    max_size=6,
).map(tuple)
records = st.builds(
    Record,
    topic=st.sampled_from(["user-events", "user-events-dead-letters"]),
    partition=st.integers(0, 100),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**62),
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=200),
    headers=headers,
)
violations = st.lists(
    st.builds(
        Violation,
        pointer=st.text(st.characters(exclude_categories=["Cs"]), max_size=512),
        keyword=names,
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    ),
    max_size=60,
).map(tuple)


def consumed(message: Message) -> Record:
    return Record(message.topic, 0, 0, 0, message.key, message.value, message.headers)


def letter(record: Record, error: EventValidationError) -> Message:
    return dead_letter_message(
        record,
        error,
        topic="letters",
        stage="schema",
        group="keycloak-bridge",
        schema_id=None,
        event_id=None,
        time=MOMENT,
        bridge_version="0.1.0",
    )


@given(invitations)
def test_every_invitation_is_read_back_as_it_was(invitation: Invitation) -> None:
    """The invite stage does what the provision stage asked for, and the record keeps its schema."""
    message = invitation_message(invitation, topic="user-invitations")

    event = json.loads(message.value or b"")
    assert invitation == read_invitation(consumed(message), CATALOG)
    assert () == CATALOG.violations(INVITATION_DUE, event["data"], event["dataschema"])


@given(records, violations)
def test_a_dead_letter_is_the_record_and_a_reason(
    record: Record, broken: tuple[Violation, ...]
) -> None:
    """Whatever the record and the violations: bytes untouched, headers that keep their schema, at most 4 kB of errors."""
    message = letter(record, EventValidationError("sentence", violations=broken))

    reason = dead_letter_headers(consumed(message))
    own = tuple(one for one in record.headers if not one[0].startswith("kb-dlq-"))
    assert (record.key, record.value, own) == (
        message.key,
        message.value,
        message.headers[: len(own)],
    )
    assert () == CATALOG.violations(DEAD_LETTER, dict(reason))
    assert len(reason.get("kb-dlq-errors", "").encode()) <= 4096
    told = json.loads(reason.get("kb-dlq-errors", "[]"))
    assert [one.pointer for one in broken][: len(told)] == [one["pointer"] for one in told]


@given(records, st.integers(1, 5))
def test_every_further_life_counts_on(record: Record, lives: int) -> None:
    """Attempts grow by one each time, and no reason header stands twice."""
    first = letter(record, EventValidationError("sentence"))
    begun = int(dead_letter_headers(consumed(first))["kb-dlq-attempts"])
    message = first

    for _ in range(lives):
        message = letter(consumed(message), EventValidationError("sentence"))

    assert begun + lives == int(dead_letter_headers(consumed(message))["kb-dlq-attempts"])
    assert len(first.headers) == len(message.headers)
