"""Commands about many users look up several at a time, each user once, and print the rows in their order."""

import threading
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench
from dead_letter_bench import DeadLetterBench
from dead_letter_cases import letter_record
from stage_harness import event_of

from keycloak_bridge.population import snapshot

USERS = 4


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetterBench:
    """An empty realm and some dead letters."""
    return DeadLetterBench(tmp_path, monkeypatch)


def user(number: int) -> dict[str, Any]:
    """Return an event of a user with names of its own."""
    return event_of(f"u-{number}", f"event-{number}", data={"email": f"u-{number}@acme.example"})


def meet(bench: Bench, among: tuple[str, ...] = ("u-0", "u-1")) -> None:
    """Let the first searches for these two wait for each other."""
    both, find = threading.Barrier(2), bench.keycloak.find
    missing = set(among)

    def meeting(criteria: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = criteria[0].value if criteria else None
        if wanted in missing:
            missing.discard(wanted)
            both.wait(60)
        return find(criteria, *args, **kwargs)

    bench.keycloak.find = meeting  # type: ignore[method-assign]


@pytest.mark.parametrize("command", [("plan",), ("plan", "--fold"), ("reconcile",)])
def test_rows_keep_their_order(bench: DeadLetterBench, command: tuple[str, ...]) -> None:
    """One search waits for another, which could not begin if it were not made meanwhile."""
    meet(bench)

    lines = bench.lines(*command, bench.file(*map(user, range(USERS))))

    assert [f"u-{number}" for number in range(USERS)] == [line["user"] for line in lines[:USERS]]


def test_dead_letters_keep_their_order(bench: DeadLetterBench) -> None:
    """As in the list of them."""
    bench.letters(*(letter_record((0, number), event=user(number)) for number in range(USERS)))
    meet(bench)

    result = bench.run("dead-letters", "replay", "--all-open", "--dry-run")

    assert [f"0/{number}" for number in range(USERS)] == [
        line.split()[0] for line in result.stdout.splitlines()[:USERS]
    ]


def test_orphans_are_looked_up_together(bench: DeadLetterBench) -> None:
    """A realm can have as many of them as users."""
    bench.run("apply", "--no-invite", bench.file(*map(user, range(USERS))))
    meet(bench, among=("u-2", "u-3"))

    lines = bench.lines("reconcile", "--orphans", "disable", bench.file(user(0), user(1)))

    assert ["u-2", "u-3"] == [line["user"] for line in lines if line.get("outcome") == "orphaned"]


@pytest.mark.parametrize(("there", "searches"), [(True, 1), (False, 3)])
def test_a_user_is_searched_for_once(bench: DeadLetterBench, there: bool, searches: int) -> None:
    """Only for one that is not there, username and address are searched too: they may be taken."""
    file = bench.file(user(1))
    if there:
        bench.run("apply", "--no-invite", file)
    bench.keycloak.calls.clear()

    bench.run("reconcile", file)

    assert searches == bench.keycloak.calls.count("find")


@pytest.mark.parametrize("command", [("plan", "--fold"), ("reconcile",)])
def test_a_listed_realm_changes_no_row(
    bench: DeadLetterBench, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """One user is there, one differs, one is missing, and the address of one is taken."""
    changed = event_of(
        "u-1", "later", time="2026-11-02T08:00:00Z", data={"email": "x@acme.example"}
    )
    bench.run("apply", "--no-invite", bench.file(user(0), user(1)))
    taken = event_of("u-3", "event-3", data={"email": "u-0@acme.example"})
    file = bench.file(user(0), changed, user(2), taken)

    searched = bench.lines(*command, file)
    monkeypatch.setattr(snapshot, "FEW", 1)
    bench.keycloak.calls.clear()
    listed = bench.lines(*command, file)

    assert searched == listed
    # a sample of the four, and one asks whose the address is
    assert 4 + 1 == bench.keycloak.calls.count("find")
