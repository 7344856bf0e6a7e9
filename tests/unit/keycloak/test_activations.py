"""Who set a password: what is asked of Keycloak, which version of it, and what is made of the answers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import KeycloakUnavailableError
from keycloak_bridge.keycloak import activations
from keycloak_bridge.keycloak.activations import KeycloakActivations

SINCE = datetime(2026, 11, 1, 0, 0, tzinfo=UTC)
SINCE_MS = 1_793_491_200_000
ON = {"eventsEnabled": True, "enabledEventTypes": [], "eventsExpiration": 0}


class Script(KeycloakScript):
    """With the subject on top."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = KeycloakActivations(self.admin, self.clock)

    def changed(self, since: datetime = SINCE) -> list[str] | None:
        """Return the ids of the changes, with a note where they are not complete."""
        found = self.activations.changes_since(since)
        if found is None:
            return None
        return [one.id for one in found.changes] + ([] if found.complete else ["incomplete"])


@pytest.fixture
def script() -> Script:
    return Script()


def event(number: int, at_ms: int = 0, **changes: Any) -> dict[str, Any]:
    """Return an event so many milliseconds after SINCE."""
    plain = {"id": f"e{number}", "type": "UPDATE_PASSWORD", "userId": f"u{number}"}
    return plain | {"time": SINCE_MS + at_ms} | changes


def test_events_are_asked_for_in_their_order_by_milliseconds(script: Script) -> None:
    script.answers(ON, [event(1), event(2, 5)])

    assert script.changed() == ["e1", "e2"]
    sent = script.stub.requests[1]
    assert sent.url.endswith(
        "/events?type=UPDATE_PASSWORD&type=UPDATE_CREDENTIAL"
        f"&dateFrom={SINCE_MS}&direction=asc&max=500"
    )


def test_the_next_page_begins_at_the_time_of_the_last_event(script: Script) -> None:
    first = [event(number, number) for number in range(500)]
    script.answers(ON, first, [event(499, 499), event(500, 499), event(501, 600)])

    assert script.changed() == [f"e{number}" for number in range(502)]
    assert script.stub.requests[2].params["dateFrom"] == str(SINCE_MS + 499)


def test_a_page_of_one_moment_grows(script: Script) -> None:
    same = [event(number) for number in range(700)]
    script.answers(ON, same[:500], same)

    assert script.changed() == [f"e{number}" for number in range(700)]
    assert script.stub.requests[2].params["max"] == "1000"


def test_a_gateway_that_repeats_itself_is_not_asked_for_ever(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every page full, and none of it new."""
    monkeypatch.setattr(activations, "_LARGEST_PAGE", 1000)
    monkeypatch.setattr(activations, "_MOST_PAGES", 20)
    page = [event(number) for number in range(500)] * 3
    script.answers(ON, *[page] * 20)

    found = script.changed()

    assert found is not None
    assert found[-1] == "incomplete"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"eventsEnabled": False},
        {"eventsEnabled": True, "enabledEventTypes": ["LOGIN"]},
        (403, {"error": "no"}),
        (404, {"error": "no"}),
    ],
)
def test_events_that_are_off_or_out_of_reach(script: Script, config: Any) -> None:
    """It is found out anew after a minute."""
    script.answers(config)
    assert script.changed() is None
    assert script.changed() is None
    assert script.sent() == ["GET /events/config"]

    script.clock.advance(61)
    script.answers(ON, [event(1)])
    assert script.changed() == ["e1"]


def test_a_role_that_was_taken_away(script: Script) -> None:
    script.answers(ON, (403, {"error": "no"}), (403, {"error": "no"}))

    assert script.changed() is None
    assert script.changed() is None


def test_an_outage_is_no_answer(script: Script) -> None:
    script.answers(ON, 503)

    with pytest.raises(KeycloakUnavailableError):
        script.changed()


def test_what_has_expired_is_missing(script: Script) -> None:
    kept_s = 3600
    script.answers({**ON, "eventsExpiration": kept_s}, [], [])
    now = script.clock.now()

    assert script.changed(now - timedelta(seconds=kept_s)) == []
    assert script.changed(now - timedelta(seconds=kept_s + 1)) == ["incomplete"]


def test_keycloak_before_26_2_is_asked_for_days(script: Script) -> None:
    """Its newest events come first, and have no ids."""
    newest = [event(2, 9, id=None), event(1, 5, id=None), event(0, -1, id=None)]
    script.answers(ON, (400, {"error": "no date"}), newest, newest)

    expected = [f"u2 UPDATE_PASSWORD {SINCE_MS + 9}", f"u1 UPDATE_PASSWORD {SINCE_MS + 5}"]
    assert script.changed() == expected
    assert script.changed() == expected
    assert [sent.params.get("dateFrom") for sent in script.stub.requests[2:]] == ["2026-10-31"] * 2


def test_a_long_day_is_asked_for_whole(script: Script) -> None:
    newest = [event(number, 1000 - number) for number in range(600)]
    script.answers(ON, 400, newest[:500], newest)

    assert script.changed() == [f"e{number}" for number in range(600)]


def test_a_keycloak_that_refuses_both(script: Script) -> None:
    script.answers(ON, 400, 400)

    assert script.changed() is None


@pytest.mark.parametrize(
    ("credentials", "expected_ms"),
    [
        ([], None),
        ([{"type": "password", "createdDate": -1}], None),
        ([{"type": "password", "createdDate": 1000}], 1000),
        ([{"type": "otp", "createdDate": 500}, {"type": "password", "createdDate": 1000}], 1000),
        ([{"type": "webauthn", "createdDate": 900}, {"type": "otp", "createdDate": 500}], 500),
    ],
)
def test_the_time_of_the_password(
    script: Script, credentials: list[dict[str, Any]], expected_ms: int | None
) -> None:
    script.answers(credentials)

    found = script.activations.activated_at("u1")

    assert (None if found is None else found.timestamp() * 1000) == expected_ms
