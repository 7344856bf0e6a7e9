"""Event files under tests/events: adding one adds a test, and its name says what it is about."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import BridgeError, EventValidationError
from keycloak_bridge.domain.events import USER_CREATED, USER_EVENTS, USER_UPDATED, Record, UserEvent
from keycloak_bridge.events.decode import EnvelopeRules, decode

EVENTS = Path(__file__).parents[2] / "events"
VALID = sorted(EVENTS.glob("*/*/valid/*.json"))
CREATED = [path for path in VALID if path.parts[-4] == USER_CREATED]
UPDATED = [path for path in VALID if path.parts[-4] == USER_UPDATED]
INVALID = sorted(p for p in EVENTS.glob("*/*/invalid/*.json") if ".expect" not in p.name)
CATALOG = load_schemas()
RULES = EnvelopeRules()


def name_of(path: Path) -> str:
    return "/".join((*path.parts[-4:-2], path.stem))


def validated(value: bytes) -> UserEvent:
    return CATALOG.validate(decode(Record("user-events", 0, 0, 0, None, value), RULES))


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_valid_event_is_accepted(path: Path) -> None:
    """Its folder says of which type and version it is."""
    kind, version = path.parts[-4:-2]

    actual = validated(path.read_bytes())

    assert actual.schema_id == f"urn:keycloak-bridge:schema:{kind}:{version}"


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_invalid_event_is_refused_for_its_reason(path: Path) -> None:
    """`<name>.expect.json` beside the event holds the code, and pointer and keyword of each violation."""
    expected = json.loads(path.with_suffix(".expect.json").read_text(encoding="utf-8"))

    with pytest.raises(BridgeError) as caught:
        validated(path.read_bytes())

    violations = [{"pointer": v.pointer, "keyword": v.keyword} for v in caught.value.violations]
    assert {"code": caught.value.code, "violations": violations} == expected


def test_every_type_of_event_has_samples() -> None:
    """Of what the bridge understands, and of what it refuses."""
    assert {path.parts[-4] for path in VALID} == set(USER_EVENTS)
    assert {path.parts[-4] for path in INVALID} == set(USER_EVENTS)


def test_the_two_thousand_events_are_valid() -> None:
    """Every one of them, and each arrives with all its data."""
    lines = (EVENTS / "user-created-2000.ndjson").read_bytes().splitlines()

    actual = [dict(validated(line).data) for line in lines]

    assert len(actual) == 2000
    assert actual == [json.loads(line)["data"] for line in lines]


STRINGS = ["userId", "email", "givenName", "familyName", "username", "locale", "tenantId"]
SECRET = "\u2603planted@\u2603"
CLEARABLE = sorted(CATALOG.document(USER_UPDATED)["properties"].keys() - {"userId", "complete"})
NOT_TEXT = st.none() | st.integers() | st.booleans() | st.just([SECRET]) | st.just({"a": SECRET})


@given(st.sampled_from(CREATED), st.sampled_from(STRINGS), NOT_TEXT)
def test_text_of_another_type_is_never_accepted(path: Path, name: str, value: object) -> None:
    """A valid event with one property of a wrong type breaks that property, and tells no value."""
    event = json.loads(path.read_bytes())
    event["data"][name] = value

    with pytest.raises(EventValidationError) as caught:
        validated(json.dumps(event).encode())

    assert [(v.pointer, v.keyword) for v in caught.value.violations] == [(f"/data/{name}", "type")]
    assert SECRET not in repr((caught.value.message, caught.value.violations))


@given(st.sampled_from(CREATED), st.sampled_from(["userId", "email", "givenName", "familyName"]))
def test_required_property_is_never_missed(path: Path, name: str) -> None:
    """Nothing else in an event makes up for it."""
    event = json.loads(path.read_bytes())
    del event["data"][name]

    with pytest.raises(EventValidationError) as caught:
        validated(json.dumps(event).encode())

    assert [v.pointer for v in caught.value.violations] == [f"/data/{name}"]


@given(st.sampled_from(UPDATED), st.sampled_from(CLEARABLE))
def test_every_property_of_an_update_may_be_left_out_or_be_null(path: Path, name: str) -> None:
    """Absent means unchanged, null means cleared; the id alone must be there."""
    event = json.loads(path.read_bytes())
    event["data"][name] = None
    cleared = dict(validated(json.dumps(event).encode()).data)
    del event["data"][name]
    absent = dict(validated(json.dumps(event).encode()).data)

    assert cleared == {**absent, name: None}


@given(st.sampled_from(CREATED))
def test_what_creates_a_user_can_update_it_too(path: Path) -> None:
    """A producer may send the same data as a complete update."""
    event = json.loads(path.read_bytes())
    event |= {"type": USER_UPDATED, "dataschema": None}
    event["data"]["complete"] = True

    assert validated(json.dumps(event).encode()).type == USER_UPDATED


@given(st.sampled_from(VALID), st.integers(min_value=0), st.integers(1, 255))
def test_a_flipped_byte_is_accepted_or_told(path: Path, position: int, flip: int) -> None:
    """Damage on the way is either harmless to the contract or a known error."""
    value = bytearray(path.read_bytes())
    value[position % len(value)] ^= flip
    try:
        event = validated(bytes(value))
    except BridgeError as error:
        assert error.disposition == "dead-letter"  # noqa: PT017
    else:
        assert CATALOG.violations(event.type, event.data, event.schema_id) == ()
