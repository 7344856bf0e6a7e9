"""An invitation is read back as it was written, and nothing else is read as one."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letter_cases import NOON, stored
from records import envelope, record

from keycloak_bridge.app.interpretation import load_schemas
from keycloak_bridge.domain.errors import (
    BridgeError,
    EventDecodeError,
    EventValidationError,
    KeyMismatchError,
)
from keycloak_bridge.domain.events import INVITATION_DUE, Invitation, Purpose, Record
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.messages.invitations import invitation_message, read_invitation

CATALOG = load_schemas()
TERMS = InvitationTerms(("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 259_200)
INVITATION = Invitation("event-1/invitation", "event-1", "u-1", "kc-1", TERMS, NOON)

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


@given(invitations)
def test_every_invitation_is_read_back_as_it_was(invitation: Invitation) -> None:
    """The invite stage does what the provision stage asked for, and the record keeps its schema."""
    message = invitation_message(invitation, topic="user-invitations")

    event = json.loads(message.value or b"")
    assert message.key == invitation.user_id.encode()
    assert invitation == read_invitation(stored(message), CATALOG)
    assert () == CATALOG.violations(INVITATION_DUE, event["data"], event["dataschema"])


@pytest.mark.parametrize(
    ("purpose", "version", "written"),
    [
        (Purpose.INVITE, "1.0", None),
        (Purpose.RESEND, "1.1", "resend"),
        (Purpose.VERIFY_EMAIL, "1.1", "verify-email"),
    ],
)
def test_invitation_names_the_oldest_schema_that_describes_it(
    purpose: Purpose, version: str, written: str | None
) -> None:
    """An invite stage of the previous release reads first invitations, which are most of them."""
    message = invitation_message(replace(INVITATION, purpose=purpose), topic="t")
    event = json.loads(message.value or b"")

    assert event["dataschema"] == f"urn:keycloak-bridge:schema:{INVITATION_DUE}:{version}"
    assert event["data"].get("purpose") == written


def changed_invitation(**changes: Any) -> Record:
    """Return an invitation with other data."""
    message = invitation_message(INVITATION, topic="invitations")
    event = json.loads(message.value or b"")
    event["data"] |= changes
    return replace(stored(message), value=json.dumps(event).encode())


@pytest.mark.parametrize("purpose", ["welcome", 3, None, ["resend"]])
def test_unknown_purpose_of_an_old_record_is_a_first_invitation(purpose: object) -> None:
    """Version 1.0 allowed any property by that name, and gave it no meaning."""
    assert read_invitation(changed_invitation(purpose=purpose), CATALOG) == INVITATION


@pytest.mark.parametrize(
    ("a_record", "error"),
    [
        (record(envelope()), EventDecodeError),
        (record(b"x"), EventDecodeError),
        (changed_invitation(lifespan="3 days"), EventValidationError),
        (changed_invitation(actions=[]), EventValidationError),
        (changed_invitation(redirectUri="https://app.example"), EventValidationError),
        (
            replace(stored(invitation_message(INVITATION, topic="t")), key=b"u-2"),
            KeyMismatchError,
        ),
    ],
)
def test_what_is_no_invitation_is_refused(a_record: Record, error: type[BridgeError]) -> None:
    """A record of another client makes Keycloak send no mail."""
    with pytest.raises(error):
        read_invitation(a_record, CATALOG)
