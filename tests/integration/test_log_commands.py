"""`plan --from-topic`, `reconcile` and `explain` on a real log and a real realm."""

import json
import subprocess
from typing import Any

import pytest
from bridge_harness import Bench, about, an_event

from keycloak_bridge.population import snapshot

pytestmark = pytest.mark.integration

HEADER = "userId,email,givenName,familyName,locale,tenantId,department\n"


@pytest.fixture(scope="module")
def bench(module_bench: Bench) -> Bench:
    """A realm and topics with a history: two users provisioned, one of them moved, one refused."""
    suffix = module_bench.suffix
    first, second = (an_event(f"{name}-{suffix}") for name in ("first", "second"))
    module_bench.publish(first, second, an_event(f"bad-{suffix}", email="nobody"))
    module_bench.publish(about(f"first-{suffix}", "user.updated", 48, department="Legal"))
    module_bench.catch_up()
    return module_bench


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """Return the objects that a command printed."""
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_plan_over_the_topic_writes_and_commits_nothing(bench: Bench) -> None:
    """All is as the log says; a later event is a change, an age leaves everything out, and only reading was done."""
    watcher = bench.but(KAFKA_GROUP_ID=f"watcher-{bench.suffix}")
    before = bench.written()

    done = watcher.run_command("plan", "--from-topic", "--format", "json", "--exit-code")
    late = watcher.run_command(
        "plan", "--from-topic", "--until", "2 hours", "--format", "json", check=True
    )
    soon = watcher.run_command("plan", "--from-topic", "--since", "2 hours", "--summary-only")

    *rows, totals = lines(done)
    assert 1 == done.returncode
    assert {"totals": {"refused": 1, "unchanged": 2}} == totals
    assert {(f"first-{bench.suffix}", 2), (f"second-{bench.suffix}", 1)} == {
        (row["user"], row["events"]) for row in rows if "events" in row
    }
    assert [{"totals": {}}] == lines(late)
    assert "1 refused, 2 unchanged\n" == soon.stdout
    assert before == bench.written()
    with bench.kafka_admin() as admin:
        offsets = admin.list_group_offsets(f"watcher-{bench.suffix}")
    assert not offsets.get(f"watcher-{bench.suffix}")


def test_a_population_is_reconciled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with one user changed, one missing and one left out: listed, then repaired, then nothing is left.

    All but the first command list the realm, as they do for many users.
    """
    first, second = f"first-{bench.suffix}", f"second-{bench.suffix}"
    new = f"new-{bench.suffix}"
    rows = [
        f"{user},{user}@acme.example,Ada,Lovelace,en,tenant-1,{department}\n"
        for user, department in ((first, "Sales"), (new, "R&D"))
    ]
    (bench.folder / "users.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    words = ("reconcile", "--orphans", "disable", "--format", "json", "users.csv")

    dry = lines(bench.run_command(*words, check=True))
    monkeypatch.setattr(snapshot, "FEW", 1)
    assert dry == lines(bench.run_command(*words, check=True))
    untouched = len(bench.users())
    repaired = lines(bench.run_command(*words, "--apply", check=True))
    again = lines(bench.run_command(*words, "--apply", "--exit-code", check=True))

    found = {(first, "differing"), (new, "missing"), (second, "orphaned")}
    assert found == {(row["user"], row["outcome"]) for row in dry[:-1]}
    assert found == {(row["user"], row["outcome"]) for row in repaired[:-1]}
    assert 2 == untouched
    assert {"created": 1, "updated": 2} == repaired[-1]["written"]
    assert [{"totals": {"agrees": 3}, "written": {}}] == again
    assert ["Sales"] == bench.user(first)["attributes"]["department"]
    assert (True, False) == (bench.user(new)["enabled"], bench.user(second)["enabled"])
    assert () == bench.mails_to(f"{new}@acme.example")


def test_a_user_is_explained(bench: Bench) -> None:
    """Which event set what, from the results that the bridge published, and no value of it."""
    user_id = f"first-{bench.suffix}"

    told = json.loads(
        bench.run_command(
            "explain", f"{user_id}@acme.example", "--format", "json", check=True
        ).stdout
    )
    text = bench.run_command("explain", user_id, check=True).stdout
    refused = bench.run_command("explain", f"bad-{bench.suffix}", "--format", "json", check=True)

    department, email = (told["targets"][name] for name in ("attributes.department", "email"))
    assert (f"user.updated-48-{user_id}", f"event-{user_id}") == (
        department["event"],
        email["event"],
    )
    assert email["record"].startswith(f"{bench.topic('events')}/")
    assert all(email[name] for name in ("time", "schema", "mapping"))
    assert {"provisioned", "invited"} <= {one["outcome"] for one in told["outcomes"]}, told
    assert ("sent", False) == (told["invitation"]["state"], told["credentials"])
    assert [False, False] == [word in text for word in ("Lovelace", "Legal")]
    assert {"open": 1, "total": 1} == json.loads(refused.stdout)["deadLetters"]
