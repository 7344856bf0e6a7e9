from typing import Any

import pytest
from cli_harness import Bench, smallest_mapping
from stage_harness import event_of

from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.domain.errors import KeycloakUnavailableError, MailDeliveryError


def steps(output: str) -> list[str]:
    """Return the first word of every indented line."""
    return [line.split()[0] for line in output.splitlines() if line.startswith("  ")]


def test_a_change_names_its_targets(bench: Bench) -> None:
    """An update says which fields it writes."""
    created = bench.run("apply", bench.file(event_of()))
    later = event_of(
        event_id="event-2",
        time="2026-11-02T08:00:00Z",
        data={"department": "Sales", "roles": ["viewer"], "groups": ["/staff"]},
    )

    result = bench.run("apply", bench.file(later))

    assert "invite actions: UPDATE_PASSWORD, VERIFY_EMAIL" in created.stdout
    assert "update attributes.department" in result.stdout
    assert all(
        part in result.stdout for part in ("join groups: /staff", "grant realmRoles: viewer")
    )
    assert "by attributes.userId" in result.stdout


@pytest.mark.parametrize(
    ("setting", "event", "shown"),
    [
        ("mapping.file=mapping.toml", event_of(), ("out of scope: data.active == `true`", "skipped out-of-scope")),
        ("events.ignore_types=order.placed", event_of(type="order.placed", data={"email": ...}), ("ignored: its type is in events.ignore_types",)),
    ],
    ids=["out of scope", "ignored type"],
)  # fmt: skip
def test_an_event_of_which_nothing_comes_says_why(
    bench: Bench, setting: str, event: dict[str, Any], shown: tuple[str, ...]
) -> None:
    """The `when` of the mapping is shown; an ignored type is not even validated. Keycloak is not asked."""
    (bench.folder / "mapping.toml").write_text(smallest_mapping('when = "data.active == `true`"'))

    result = bench.run("--set", setting, "apply", bench.file(event))

    assert (0, []) == (result.exit_code, bench.keycloak.calls)
    assert [] == [words for words in shown if words not in result.stdout]
    assert ("validated" in steps(result.stdout)) is ("mapping" in setting)


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


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("apply",), True),
        (("reconcile", "--apply"), True),
        (("reconcile",), False),
        (("plan",), False),
    ],
)
def test_what_writes_checks_the_realm_first(
    bench: Bench, words: tuple[str, ...], refused: bool
) -> None:
    """A command that writes refuses a realm that `run` would refuse; one that only looks does not ask."""
    bench.realm_problems = [Problem("attribute-user-editable", "users edit it", "let admins only")]

    result = bench.run(*words, bench.file(event_of()))

    assert refused is (2 == result.exit_code)
    assert refused is ("users edit it (let admins only)" in result.stderr)
    assert [] == bench.calls("create")


TWO_USERS = [
    event_of(user_id, f"event-{user_id}", data={"email": f"{user_id}@acme.example"})
    for user_id in ("u-1", "u-2")
]


def test_the_pace_of_mails_is_kept_and_printed(bench: Bench) -> None:
    """An operator who applies many users sees why it takes its time."""
    result = bench.run("--set", "invite.pace=0.1/s", "apply", bench.file(*TWO_USERS))

    assert (0, 2, 10.0) == (result.exit_code, len(bench.keycloak.mails), bench.clock.monotonic())
    assert 1 == steps(result.stdout).count("waiting")
    assert "10.0 s: the pace of invitations is kept" in result.stdout


def test_a_mail_that_may_be_on_its_way_is_waited_for(bench: Bench) -> None:
    """An apply that died while it sent leaves a mark; the next one asks Keycloak once the mail has settled."""
    lost = KeycloakUnavailableError("the answer got lost", status=504)
    bench.keycloak.fail("execute_actions_email", lost, after_effect=True)
    file = bench.file(event_of())
    bench.run("apply", file)

    result = bench.run("--set", "invite.settle=5 minutes", "apply", file)

    assert 0 == result.exit_code
    assert "300.0 s: a mail that got no answer may still be on its way" in result.stdout
    assert (1, 300.0) == (len(bench.keycloak.mails), bench.clock.monotonic())


def test_an_unknown_user_is_not_waited_for(bench: Bench) -> None:
    """At the terminal the event is refused at once, whatever the bridge would do."""
    file = bench.file(event_of(type="user.disabled"))

    result = bench.run("--set", "lifecycle.unknown_user=wait", "apply", file)

    assert (1, True) == (result.exit_code, "unknown-user: " in result.stdout)
