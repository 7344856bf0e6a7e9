"""`plan`, `apply` and `run --no-invite` against a real realm."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from bridge_harness import Bench, an_event, plain_mark, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(module_bench: Bench) -> Bench:
    """The bench of the module."""
    return module_bench


def ndjson(*events: Mapping[str, Any]) -> str:
    """Return events a line each."""
    return "\n".join(json.dumps(event) for event in events)


def newer(event: dict[str, Any], **data: Any) -> dict[str, Any]:
    """Return the next event about the same user."""
    changed = {**event, "id": f"{event['id']}-2", "time": "2026-11-03T08:00:00Z"}
    return {**changed, "data": {**event["data"], **data}}


def test_plan_shows_each_change_and_writes_nothing(bench: Bench) -> None:
    """Create, update, unchanged and refused, in text and JSON; exit 1 for a refused one."""
    known, changed = (an_event(f"{name}-{bench.suffix}", roles=["viewer"]) for name in ("a", "b"))
    bench.run_command("apply", "--no-invite", "-", stdin=ndjson(known, changed), check=True)
    events = (
        an_event(f"new-{bench.suffix}", groups=["/staff"]),
        newer(changed, department="Legal", roles=["viewer", "auditor"]),
        known,
        an_event(f"bad-{bench.suffix}", email="nobody"),
    )
    before = bench.users()

    as_json = bench.run_command("plan", "--format", "json", "-", stdin=ndjson(*events))
    as_text = bench.run_command("plan", "-", stdin=ndjson(*events))
    fine = bench.run_command("plan", "-", stdin=ndjson(*events[:3]))

    assert before == bench.users()
    assert (1, 1, 0) == (as_json.returncode, as_text.returncode, fine.returncode)
    told = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert ["create", "update", "unchanged", "refused"] == [one["outcome"] for one in told]
    assert [
        {"operation": "update", "target": "attributes.department", "before": ["R&D"], "after": ["Legal"]},
        {"operation": "grant", "target": "realmRoles", "before": None, "after": "auditor"},
    ] == told[1]["changes"]  # fmt: skip
    assert ("schema-violation", "/data/email") == (told[3]["reason"], told[3]["violations"][0]["pointer"])  # fmt: skip
    created = {change["target"]: change["after"] for change in told[0]["changes"]}
    assert (f"new-{bench.suffix}@acme.example", ["/staff"]) == (created["email"], created["groups"])
    assert [] == [word for word in ("stdin:1: create", "stdin:2: update", "R&D", "Legal", "stdin:3: unchanged", "stdin:4: refused") if word not in as_text.stdout]  # fmt: skip
    assert "1 create, 1 refused, 1 unchanged, 1 update" in as_text.stdout
    assert [] == [user for user in bench.users() if user["email"].startswith("new-")]


def test_apply_says_each_step_and_mails_once(bench: Bench) -> None:
    """Decoded, validated, mapped, found, planned, done; a second time there is nothing to do."""
    user_id = f"hand-{bench.suffix}"
    event = ndjson(an_event(user_id, roles=["viewer"]))

    first = bench.run_command("apply", "-", stdin=event, check=True).stdout
    second = bench.run_command("apply", "-", stdin=event, check=True).stdout

    steps = [line.split()[0] for line in first.splitlines()[1:]]
    assert ["decoded", "validated", "mapped", "found", "planned"] == steps[:5]
    assert {"done", "mail", "result"} == set(steps[5:])
    assert "provisioned created" in first
    assert "nothing to do" in second
    assert "provisioned unchanged" in second
    assert 1 == len(bench.mails_to(f"{user_id}@acme.example"))
    (mark,) = bench.user(user_id)["attributes"]["bridgeInvitation"]
    assert f"sent:event-{user_id}" == plain_mark(mark)


def test_apply_refuses_with_the_reason_and_goes_on(bench: Bench) -> None:
    """One refused event among good ones: exit 1, its code and pointer are told, the others are applied."""
    good, late = (an_event(f"{name}-{bench.suffix}") for name in ("before", "after"))
    bad = an_event(f"refused-{bench.suffix}", givenName="<")

    done = bench.run_command("apply", "--no-invite", "-", stdin=ndjson(good, bad, late))

    assert 1 == done.returncode
    assert "keycloak-rejected" in done.stdout
    assert "/user/firstName" in done.stdout
    for event in (good, late):
        assert bench.user(event["subject"])
        assert () == bench.mails_to(event["data"]["email"])


def test_a_run_without_invitations_leaves_none_behind(bench: Bench) -> None:
    """Users of `run --no-invite` get no mail from a later run either, not even when their event comes again."""
    quiet = [an_event(f"quiet{number}-{bench.suffix}") for number in range(3)]
    bench.publish(*quiet)
    bench.run_command("run", "--until-caught-up", "--no-invite", check=True)
    loud = an_event(f"loud-{bench.suffix}")
    bench.publish(quiet[0], loud)

    bench.catch_up()

    mails = [len(bench.mails_to(event["data"]["email"])) for event in (*quiet, loud)]
    assert [0, 0, 0, 1] == mails
    assert all("bridgeInvitation" not in bench.user(e["subject"])["attributes"] for e in quiet)
    told = [(r["userId"], r["outcome"], r.get("action")) for r in bench.results()]
    assert sorted(
        [(event["subject"], "provisioned", "created") for event in (*quiet, loud)]
        + [(quiet[0]["subject"], "provisioned", "unchanged"), (loud["subject"], "invited", None)],
        key=str,
    ) == sorted(told, key=str)


def test_an_expired_invitation_is_listed_and_sent_again(bench: Bench) -> None:
    """By the mark and the credentials that Keycloak shows; the log has both mails, and another call mails nobody."""
    user_id = f"late-{bench.suffix}"
    bench.publish(an_event(user_id))
    bench.catch_up()
    user = bench.user(user_id)
    user["attributes"]["bridgeInvitation"] = [f"sent-until:1000000000:event-{user_id}"]
    bench.admin("PUT", f"/users/{user['id']}", json=user)

    def command(*words: str) -> list[dict[str, Any]]:
        lines = bench.run_command(*words, "--format", "json", check=True).stdout.splitlines()
        return [json.loads(one) for one in lines]

    listed = command("invitations", "list", "--state", "expired")
    followed = bench.folder / "log.txt"
    words = ("log", "--follow", "--limit", "1", "--user", user_id)
    process = bench.start(*words, log=followed)
    try:
        wait_until(lambda: "invited" in followed.read_text())
        for _ in range(2):
            bench.run_command("invitations", "resend", "--state", "expired", "--yes", check=True)
        bench.catch_up()
        wait_until(lambda: followed.read_text().count("invited") == 2)
    finally:
        process.kill()
        process.wait()

    assert [(user_id, user["id"], "2001-09-09T01:46:40.000000Z")] == [
        (one["userId"], one["keycloakId"], one["linkEnds"])
        for one in listed
        if one["userId"] == user_id
    ]
    assert 2 == len(bench.mails_to(f"{user_id}@acme.example"))
    assert ["sent"] == [one["state"] for one in command("invitations", "list", "--user", user_id)]
    assert ["provisioned", "invited", "invited"] == [
        one["outcome"] for one in command("log", "--user", user_id)
    ]
