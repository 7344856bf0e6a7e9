"""Which mails Keycloak's admin events hold: what is asked, what is believed, and for how long."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from keycloak_script import KeycloakScript

from keycloak_bridge.domain.errors import KeycloakAuthError, KeycloakUnavailableError
from keycloak_bridge.keycloak.users import USABLE_TTL_S, KeycloakUserDirectory

FORBIDDEN = {"error": "HTTP 403 Forbidden"}


class Bench(KeycloakScript):
    """A directory over a script and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = KeycloakUserDirectory(self.admin, self.clock)


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()


@pytest.mark.parametrize(
    ("status", "body", "text", "expected"),
    [
        (200, {"adminEventsEnabled": True}, "", True),
        (200, {"adminEventsEnabled": False}, "", False),
        (200, {}, "", False),
        (403, FORBIDDEN, "", False),
        (403, None, "<html>", False),
        (404, None, "<html>", False),
    ],
)
def test_the_ledger_is_usable_when_events_are_on_and_may_be_read(
    bench: Bench, status: int, body: object, text: str, expected: bool
) -> None:
    """Neither a missing role nor a gateway that lets no such call pass is an outage."""
    bench.stub.answer(status, body, text=text)

    assert expected == bench.directory.can_look_up_mails()
    assert ["/admin/realms/acme/events/config"] == [sent.path for sent in bench.stub.requests]


@pytest.mark.parametrize("first", [True, False])
def test_it_is_asked_again_after_a_minute(bench: Bench, first: bool) -> None:
    """The role may be given, or events switched off, while the bridge runs."""
    bench.stub.answer(200, {"adminEventsEnabled": first})
    bench.stub.answer(200, {"adminEventsEnabled": not first})
    seen = [bench.directory.can_look_up_mails()]
    bench.clock.advance(USABLE_TTL_S - 1)
    seen.append(bench.directory.can_look_up_mails())
    bench.clock.advance(1)
    seen.append(bench.directory.can_look_up_mails())

    assert [first, first, not first] == seen


@pytest.mark.parametrize(
    ("status", "error"), [(503, KeycloakUnavailableError), (401, KeycloakAuthError)]
)
def test_an_outage_is_no_answer(bench: Bench, status: int, error: type[Exception]) -> None:
    """It is asked again at once afterwards."""
    for _ in range(2):  # a 401 is tried again with a fresh token
        bench.stub.answer(status, {"error": "no"})
    with pytest.raises(error):
        bench.directory.can_look_up_mails()
    if status == 503:
        with pytest.raises(error):
            bench.directory.can_look_up_mails()
    bench.stub.answer(200, {"adminEventsEnabled": True})

    assert bench.directory.can_look_up_mails() is True


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], False),
        (["users/u_1/execute-actions-email"], True),
        (["users/uX1/execute-actions-email"], False),
        (["users/uX1/execute-actions-email", "users/u_1/execute-actions-email"], True),
    ],
)
def test_a_mail_is_found_by_its_path(bench: Bench, paths: list[str], expected: bool) -> None:
    """One look, compared again: Keycloak's comparison knows wildcards."""
    bench.stub.answer(200, [{"operationType": "ACTION", "resourcePath": path} for path in paths])

    assert expected == bench.directory.mail_recorded("u_1")
    (sent,) = bench.stub.requests
    assert "/admin/realms/acme/admin-events" == sent.path
    assert {
        "operationTypes": "ACTION",
        "resourceTypes": "USER",
        "resourcePath": "users/u_1/execute-actions-email",
        "max": "20",
    } == sent.params


@pytest.mark.parametrize(
    "since",
    [
        datetime(2026, 11, 2, 0, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 22, 30, tzinfo=timezone(timedelta(hours=-2))),
    ],
)
def test_since_is_asked_by_the_day_before(bench: Bench, since: datetime) -> None:
    """Keycloak takes a day in its own time zone, which nobody here knows."""
    bench.stub.answer(200, [])

    bench.directory.mail_recorded("u1", since)

    assert "2026-11-01" == bench.stub.requests[0].params["dateFrom"]


@pytest.mark.parametrize(
    ("older_s", "expected"), [(-5, True), (0, True), (60, True), (61, False), (7200, False)]
)
def test_an_older_mail_does_not_count(bench: Bench, older_s: int, expected: bool) -> None:
    """A user's second mail is not on record because of the first one; clocks may differ by a minute."""
    since = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    time_ms = int((since.timestamp() - older_s) * 1000)
    path = "users/u1/execute-actions-email"
    bench.stub.answer(200, [{"time": time_ms, "resourcePath": path}])

    assert expected == bench.directory.mail_recorded("u1", since)


def test_a_role_taken_away_is_noticed_at_once(bench: Bench) -> None:
    """The refusal itself says that the ledger cannot be used any more."""
    bench.stub.answer(200, {"adminEventsEnabled": True})
    bench.stub.answer(403, FORBIDDEN)
    before = bench.directory.can_look_up_mails()
    with pytest.raises(KeycloakAuthError) as caught:
        bench.directory.mail_recorded("u1")

    assert (True, 403, False) == (
        before,
        caught.value.status,
        bench.directory.can_look_up_mails(),
    )
    assert 2 == len(bench.stub.requests)


def test_an_outage_during_a_look_changes_no_belief(bench: Bench) -> None:
    """Only a refusal does."""
    bench.stub.answer(200, {"adminEventsEnabled": True})
    bench.stub.answer(503)
    bench.directory.can_look_up_mails()
    with pytest.raises(KeycloakUnavailableError):
        bench.directory.mail_recorded("u1")

    assert bench.directory.can_look_up_mails() is True
