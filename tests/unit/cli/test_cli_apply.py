from pathlib import Path

import pytest
from cli_harness import Bench, event_of

from keycloak_bridge.core.errors import KeycloakUnavailableError, MailDeliveryError


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty realm."""
    return Bench(tmp_path, monkeypatch)


def steps(output: str) -> list[str]:
    """Return the first word of every indented line."""
    return [line.split()[0] for line in output.splitlines() if line.startswith("  ")]


def test_every_step_is_said(bench: Bench) -> None:
    """From the bytes to the mail, a line each, in the order of the flow."""
    event = event_of(data={"roles": ["viewer"], "groups": ["/staff"]})

    result = bench.run("apply", bench.file(event))

    assert 0 == result.exit_code
    assert "events.ndjson:1" == result.stdout.splitlines()[0]
    assert [
        *("decoded", "validated", "mapped", "found", "planned"),
        *("done", "done", "mail", "done", "result"),
    ] == steps(result.stdout)
    assert (1, 1) == (len(bench.keycloak.users()), len(bench.keycloak.mails))


def test_no_value_of_the_event_is_said(bench: Bench) -> None:
    """Names of attributes only: the output may end up in a ticket."""
    result = bench.run("apply", bench.file(event_of()))

    assert "planted" not in result.output.lower()


def test_applying_again_writes_and_mails_nothing(bench: Bench) -> None:
    """The second time nothing is left to do."""
    file = bench.file(event_of())
    bench.run("apply", file)

    result = bench.run("apply", file)

    assert 0 == result.exit_code
    assert "nothing to do" in result.stdout
    assert "provisioned unchanged" in result.stdout
    assert (1, 1) == (len(bench.keycloak.users()), len(bench.keycloak.mails))


def test_no_invite_sends_no_mail(bench: Bench) -> None:
    """The user is made, and no mail is due, not even by a later run."""
    result = bench.run("apply", "--no-invite", bench.file(event_of()))
    bench.run("apply", bench.file(event_of()))

    assert 0 == result.exit_code
    assert (1, []) == (len(bench.keycloak.users()), bench.keycloak.mails)
    assert "mail" not in steps(result.stdout)


def test_a_change_names_its_targets(bench: Bench) -> None:
    """An update says which fields it writes."""
    bench.run("apply", bench.file(event_of()))
    later = event_of(
        event_id="event-2",
        time="2026-11-02T08:00:00Z",
        data={"department": "Sales", "roles": ["viewer"], "groups": ["/staff"]},
    )

    result = bench.run("apply", bench.file(later))

    assert "update attributes.department" in result.stdout
    assert all(part in result.stdout for part in ("join /staff", "grant viewer"))
    assert "by attributes.userId" in result.stdout


def test_a_refused_event_is_explained_and_the_next_one_applied(bench: Bench) -> None:
    """Exit 1; code, pointers and remedy; the rest goes on."""
    file = bench.file(event_of(data={"email": ...}), "{oops", event_of("u-2", "event-2"))

    result = bench.run("apply", file)

    assert 1 == result.exit_code
    assert ["u-2"] == [user["attributes"]["userId"][0] for user in bench.keycloak.users()]
    assert "schema-violation: " in result.stdout
    assert "/data/email: is required (required)" in result.stdout
    assert "not-json: " in result.stdout
    assert "fix: " in result.stdout


def test_an_event_out_of_scope_says_why(bench: Bench) -> None:
    """The `when` of the mapping is shown."""
    mapping = bench.folder / "mapping.toml"
    mapping.write_text(
        'matching = ["attributes.userId"]\nwhen = "data.active == `true`"\n'
        '[user]\nusername = "data.email"\n[user.attributes]\nuserId = "data.userId"\n'
    )

    result = bench.run("--set", f"mapping.file={mapping}", "apply", bench.file(event_of()))

    assert 0 == result.exit_code
    assert "out of scope: data.active == `true`" in result.stdout
    assert "skipped out-of-scope" in result.stdout
    assert () == bench.keycloak.users()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("find", KeycloakUnavailableError("Keycloak does not answer", remedy="start it")),
        ("execute_actions_email", MailDeliveryError("no mail went out", remedy="look at SMTP")),
    ],
)
def test_what_may_pass_ends_the_command(
    bench: Bench, call: str, error: KeycloakUnavailableError
) -> None:
    """Exit 3 with the remedy; applying again finishes what was begun."""
    bench.keycloak.fail(call, error)
    file = bench.file(event_of())

    result = bench.run("apply", file)
    again = bench.run("apply", file)

    assert 3 == result.exit_code
    assert all(part in result.stderr for part in (error.message, str(error.remedy)))
    assert (0, 1) == (again.exit_code, len(bench.keycloak.mails))


def test_help_teaches(bench: Bench) -> None:
    """The steps, that no Kafka is needed, and an example."""
    text = " ".join(bench.run("apply", "--help").stdout.split())

    assert all(part in text for part in ("say each step", "needs no Kafka", "Example:"))
