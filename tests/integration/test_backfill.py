"""Files into the real Keycloak: killed and continued, fixed and fed again, compressed and by a pipe."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from bridge_harness import RUN_TIMEOUT_S, Bench, an_event, wait_until

from keycloak_bridge.backfill.journal import read_journal

pytestmark = pytest.mark.integration

USERS = 420
FED_AT_FIRST, FED = 200, 400
"""Lines that the first run gets before its journal records progress, and in all; it handles 200 at a time."""

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
    operations: Counter[str] = Counter()
    for (operation, path), count in bench.written().items():
        if path.startswith("users/"):
            operations[operation] += count
    return operations


def test_a_run_that_is_killed_goes_on_and_repeats_nothing(bench: Bench) -> None:
    """Every user is created once, whatever a SIGKILL left behind; each bad line is once among the rejects.

    The run reads from a pipe that holds a part of the lines only, so it cannot end before the kill. The kill comes when the
    journal has recorded progress and Keycloak has users of lines that were fed after that.
    """
    bad = {number for number in range(USERS) if number % 20 == 7}
    lines = [
        json.dumps(data_of(n, email="nobody" if n in bad else f"b-{n}@acme.example")) + "\n"
        for n in range(USERS)
    ]
    journal = bench.folder / "stdin.backfill.json"
    at_first: int = bench.admin("GET", "/users/count")
    log = bench.folder / "killed.log"

    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "keycloak_bridge", "backfill", "--as-of", AS_OF, "-"],
            env=bench.environment,
            cwd=bench.folder,
            stdin=subprocess.PIPE,
            stderr=stream,
        )

    def feed(first: int, end: int) -> None:
        assert process.stdin is not None
        process.stdin.write("".join(lines[first:end]).encode())
        process.stdin.flush()

    def journal_has_progress() -> bool:
        assert process.poll() is None, log.read_text()
        recorded = read_journal(journal)
        return recorded is not None and recorded[1].commit.offset > 0

    def has_created(users: int) -> bool:
        assert process.poll() is None, log.read_text()
        count: int = bench.admin("GET", "/users/count")
        return count - at_first >= users

    try:
        feed(0, FED_AT_FIRST)
        wait_until(journal_has_progress)
        feed(FED_AT_FIRST, FED)
        wait_until(lambda: has_created(FED_AT_FIRST))
    finally:
        process.kill()
        process.communicate()

    done = backfill(bench, "--as-of", AS_OF, "-", stdin="".join(lines).encode())

    summary = summary_of(done.stdout.decode())
    assert (1, True, USERS) == (done.returncode, summary["complete"], summary["done"]), done.stderr
    assert 0 < summary["doneEarlier"] <= FED
    people = [user for user in bench.users() if user.get("attributes", {}).get("userId")]
    assert USERS - len(bad) == len(people)
    assert USERS - len(bad) == len({user["attributes"]["userId"][0] for user in people})
    operations = writes(bench)
    assert 0 == operations["UPDATE"] + operations["DELETE"] + operations["ACTION"]
    created = [count for (what, _), count in bench.written().items() if what == "CREATE"]
    assert {1} == set(created)
    rejects = bench.folder / "stdin.rejects.ndjson"
    kept = rejects.read_text().splitlines(keepends=True)
    assert sorted(lines[number] for number in bad) == sorted(kept)

    fixed = [{**json.loads(line), "email": f"m-{n}@acme.example"} for n, line in enumerate(kept)]
    rejects.write_text("".join(f"{json.dumps(line)}\n" for line in fixed), "utf-8")
    again = backfill(bench, "--as-of", AS_OF, rejects.name)

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
