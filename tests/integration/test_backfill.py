"""Files into the real Keycloak: killed in the middle, gone on with, mended and fed again, packed and piped."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from bridge_harness import RUN_TIMEOUT_S, Bench, an_event, wait_until

pytestmark = pytest.mark.integration

USERS = 240
KILLED_BEHIND = 60
AS_OF = "2026-11-10T08:00:00Z"


def data_of(number: int, **changes: Any) -> dict[str, Any]:
    """Return the data of a user of its own."""
    data: dict[str, Any] = an_event(f"backfill-{number}", **changes)["data"]
    return data


def summary_of(output: str) -> dict[str, Any]:
    """Return the summary of a run with --format json."""
    summary: dict[str, Any] = json.loads(output.splitlines()[-1])
    return summary


def backfill(bench: Bench, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "keycloak_bridge", "backfill", "--format", "json", *words],
        env=bench.environment,
        cwd=bench.folder,
        input=stdin,
        capture_output=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )


def writes(bench: Bench) -> Counter[str]:
    """Return how often each operation was done on users, from Keycloak's own admin events."""
    told: Counter[str] = Counter()
    for (operation, path), count in bench.written().items():
        if path.startswith("users/"):
            told[operation] += count
    return told


def test_a_run_that_is_killed_goes_on_and_repeats_nothing(bench: Bench) -> None:
    """Every user is created once, whatever a SIGKILL left behind; each bad line stands once among the rejects."""
    bad = {number for number in range(USERS) if number % 20 == 7}
    lines = [
        data_of(n, email="nobody" if n in bad else f"b-{n}@acme.example") for n in range(USERS)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (bench.folder / "users.ndjson").write_text(text, "utf-8")
    command = [sys.executable, "-m", "keycloak_bridge", "backfill", "--as-of", AS_OF]
    at_first: int = bench.admin("GET", "/users/count")

    def count_users() -> int:
        now: int = bench.admin("GET", "/users/count")
        return now - at_first

    with (bench.folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "users.ndjson"], env=bench.environment, cwd=bench.folder, stderr=log
        )
        try:
            wait_until(
                lambda: process.poll() is not None or count_users() > KILLED_BEHIND, timeout_s=300
            )
        finally:
            process.kill()
            process.wait()
    killed_at = count_users()

    done = backfill(bench, "--as-of", AS_OF, "users.ndjson")

    summary = summary_of(done.stdout.decode())
    assert KILLED_BEHIND < killed_at < USERS - len(bad), (bench.folder / "killed.log").read_text()
    assert (1, True, USERS) == (done.returncode, summary["complete"], summary["done"]), done.stderr
    assert summary["doneEarlier"] > 0
    people = [user for user in bench.users() if user.get("attributes", {}).get("userId")]
    assert USERS - len(bad) == len(people)
    assert USERS - len(bad) == len({user["attributes"]["userId"][0] for user in people})
    told = writes(bench)
    assert 0 == told["UPDATE"] + told["DELETE"] + told["ACTION"]
    created = [count for (what, _), count in bench.written().items() if what == "CREATE"]
    assert {1} == set(created)
    kept = (bench.folder / "users.ndjson.rejects.ndjson").read_text().splitlines()
    assert sorted(json.dumps(lines[number]) for number in bad) == sorted(kept)

    mended = [{**json.loads(line), "email": f"m-{n}@acme.example"} for n, line in enumerate(kept)]
    (bench.folder / "users.ndjson.rejects.ndjson").write_text(
        "".join(f"{json.dumps(line)}\n" for line in mended), "utf-8"
    )
    again = backfill(bench, "--as-of", AS_OF, "users.ndjson.rejects.ndjson")

    assert (0, {"created": len(bad)}) == (
        again.returncode,
        summary_of(again.stdout.decode())["counts"],
    ), again.stderr


def test_a_packed_table_by_a_pipe(bench: Bench) -> None:
    """Users with groups and roles, no mail; the second time nothing is written, and a dry run says so before."""
    header = "userId,email,givenName,familyName,tenantId,groups,roles,attributes.floor\n"
    rows = "".join(f"p-{n},p-{n}@acme.example,Ada,L,t-1,/staff,viewer,{n}\n" for n in range(20))
    packed = gzip.compress((header + rows).encode())

    dry = backfill(bench, "--dry-run", "--as-of", AS_OF, "-", stdin=packed)
    before = writes(bench)
    first = backfill(bench, "--as-of", AS_OF, "-", stdin=packed)
    between = writes(bench)
    second = backfill(bench, "--restart", "--as-of", AS_OF, "-", stdin=packed)

    runs = (dry, first, second)
    assert [0, 0, 0] == [one.returncode for one in runs], [one.stderr for one in runs]
    assert {"would be created": 20} == summary_of(dry.stdout.decode())["counts"]
    assert Counter() == before
    assert {"created": 20} == summary_of(first.stdout.decode())["counts"]
    assert {"unchanged": 20} == summary_of(second.stdout.decode())["counts"]
    assert between == writes(bench)
    user = bench.user("p-3")
    assert {"/staff"} == bench.groups_of(user["id"])
    assert "viewer" in bench.realm_roles_of(user["id"])
    assert () == bench.mails_to("p-3@acme.example")
