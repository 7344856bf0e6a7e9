"""`dead-letters replay`: which, in which order, once, and what would become of them."""

from pathlib import Path
from typing import Any

import pytest
from dead_letter_bench import DeadLetterBench
from dead_letter_cases import NOON, letter_of, letter_record
from stage_harness import DEAD_LETTERS, EVENTS, INVITATIONS, STRUCTURED, event_of

from keycloak_bridge.domain.events import Invitation, Record
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.messages.dead_letters import replay_message
from keycloak_bridge.messages.invitations import invitation_message

REPLAY = ("dead-letters", "replay")
OPEN = (*REPLAY, "--all-open", "--yes")
DRY = (*REPLAY, "--all-open", "--dry-run")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetterBench:
    """An empty dead-letter topic and an empty realm."""
    return DeadLetterBench(tmp_path, monkeypatch)


def invitation_letter(place: tuple[int, int]) -> Record:
    """Return the letter of an invitation."""
    terms = InvitationTerms(("UPDATE_PASSWORD",), 3600)
    due = Invitation("i-1", "event-1", "u-1", "kc-1", terms, NOON)
    message = invitation_message(due, topic=INVITATIONS)
    assert message.value is not None
    return letter_record(
        place, event=message.value, topic=INVITATIONS, step="invite", code="not-found",
        headers=message.headers,
    )  # fmt: skip


def test_records_go_back_to_where_they_came_from(bench: DeadLetterBench) -> None:
    """The same partition, key, value and headers, with a mark each in the same transaction."""
    first, second = letter_record((1, 5), origin=(3, 7)), letter_record((0, 9), origin=(3, 8))
    bench.letters(second, first)

    result = bench.run(*OPEN)

    assert (0, "replayed 2 dead letters\n") == (result.exit_code, result.stdout)
    assert [("1/5", 3), ("0/9", 3)] == bench.replayed()
    ((record, mark, *_),) = bench.transactions
    sent = record.message
    assert (EVENTS, first.key, first.value) == (sent.topic, sent.key, sent.value)
    assert STRUCTURED == sent.headers[:1]
    assert (DEAD_LETTERS, 1) == (mark.message.topic, mark.partition)
    assert [b"1/5", b"0/9"] == [dict(one.headers)["kb-dlq-replayed"] for one in bench.marks()]
    assert "keycloak-bridge-replay" == bench.transactional_id
    assert 0 == bench.open_readers


def test_nothing_is_replayed_twice_by_accident(bench: DeadLetterBench) -> None:
    """A second run says how many were replayed before; --again does it nevertheless."""
    bench.letters(letter_record((0, 0)), letter_record((0, 1)))
    bench.run(*OPEN)

    second = bench.run(*OPEN)
    named = bench.run(*REPLAY, "--yes", "0/1")
    again = bench.run(*REPLAY, "--yes", "--again", "0/1")

    assert (0, "nothing to replay") == (second.exit_code, second.stdout.splitlines()[-1])
    assert "2 dead letters were replayed before; --again" in second.stdout
    assert "1 dead letter was replayed before" in named.stdout
    assert "replayed 1 dead letter\n" == again.stdout
    assert ["0/0", "0/1", "0/1"] == [letter for letter, _ in bench.replayed()]


def test_what_another_operator_replayed_meanwhile_is_left_out(bench: DeadLetterBench) -> None:
    """Between the question and the first transaction somebody else may have been at work."""
    bench.letters(letter_record((0, 0)), letter_record((0, 1)))
    bench.run(*REPLAY, "--yes", "0/0")
    bench.meanwhile = bench.marks()
    bench.log[DEAD_LETTERS] = [letter_record((0, 0)), letter_record((0, 1))]
    bench.transactions.clear()

    result = bench.run(*OPEN)

    assert [("0/1", 3)] == bench.replayed()
    assert "1 dead letter replayed by another operator meanwhile" in result.stderr


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ((), "--all-open"),
        (("--yes",), "--all-open"),
        (("--all-open", "--yes", "0/0"), "goes with neither"),
        (("--all-open", "--yes", "--again"), "goes with neither"),
        (("--all-open",), "--yes"),
        (("0/0", "--max-attempts", "0"), "max-attempts"),
        (("0.0",), "PARTITION/OFFSET"),
        (("--yes", "0/0", "0/1", "7/7"), "has no dead letter 0/1, 7/7"),
    ],
)
def test_wrong_usage_is_refused(
    bench: DeadLetterBench, words: tuple[str, ...], remedy: str
) -> None:
    """Exit 2 before anything is published; in a script, --yes is needed."""
    bench.letters(letter_record((0, 0)))

    result = bench.run(*REPLAY, *words)

    assert (2, "", []) == (result.exit_code, result.stdout, bench.transactions)
    assert remedy in result.stderr


@pytest.mark.parametrize(("answer", "count"), [("y\n", 2), ("n\n", 0)])
def test_an_operator_at_a_terminal_is_asked(
    bench: DeadLetterBench, answer: str, count: int
) -> None:
    """With the number; no is no error."""
    bench.letters(letter_record((0, 0)), letter_record((0, 1)))
    bench.at_a_terminal()

    result = bench.run(*REPLAY, "--all-open", stdin=answer)

    assert 0 == result.exit_code
    assert "Replay 2 dead letters?" in result.stderr
    assert count == len(bench.replayed())


def test_a_record_too_large_is_left_out(bench: DeadLetterBench) -> None:
    """The others of its batch go out, in order; exit 1."""
    large = letter_record((0, 1), event=b"x" * 500, origin=(3, 2))
    bench.letters(letter_record((0, 0), event=b"1", origin=(3, 1)), large, letter_record((0, 2), event=b"3", origin=(3, 3)))  # fmt: skip
    bench.largest = 400

    result = bench.run(*OPEN)

    assert 1 == result.exit_code
    assert [("0/0", 3), ("0/2", 3)] == bench.replayed()
    assert "raise its max.message.bytes" in result.stderr
    assert 2 == len(bench.marks())


def test_a_replay_that_breaks_off_says_how_far_it_came(
    bench: DeadLetterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on with the others; a batch is a transaction, whose values alone are in memory."""
    monkeypatch.setattr("keycloak_bridge.kafka.dead_letter_replay.BATCH", 2)
    bench.letters(*(letter_record((0, n), origin=(0, n)) for n in range(5)))
    bench.fails_at = 1

    broken = bench.run(*OPEN)
    bench.fails_at = None
    rest = bench.run(*OPEN)

    assert (3, 0) == (broken.exit_code, rest.exit_code)
    assert "replayed 2 of 5 dead letters before this" in broken.stderr
    assert "another replay has begun" in broken.stderr
    assert [4, 4, 2] == [len(batch) for batch in bench.transactions]
    assert [2, 2, 2, 1] == bench.fetches
    assert [f"0/{n}" for n in range(5)] == [letter for letter, _ in bench.replayed()]
    assert 0 == bench.open_readers


def test_a_letter_that_went_meanwhile_is_told(bench: DeadLetterBench) -> None:
    """Retention may take one between the question and the replay; exit 1."""
    bench.letters(letter_record((0, 0)), letter_record((0, 1)))
    bench.vanishing = {(0, 0)}

    replayed, dry = bench.run(*OPEN), bench.run(*DRY)

    assert (1, 1) == (replayed.exit_code, dry.exit_code)
    assert "0/0  schema-violation (user-events/3@4711): cannot be replayed, is gone" in replayed.stderr  # fmt: skip
    assert [("0/1", 3)] == bench.replayed()


def test_no_invite_is_a_header_and_leaves_invitations_out(bench: DeadLetterBench) -> None:
    """A mail that was asked for is not asked for again by a replay that wants none."""
    bench.letters(letter_record((0, 0)), invitation_letter((0, 1)))

    result = bench.run(*OPEN, "--no-invite")

    assert [("0/0", 3)] == bench.replayed()
    assert ("kb-replay-invite", b"none") in bench.transactions[0][0].message.headers
    assert "0/1  not-found: passed over, is an invitation (--no-invite)" in result.stdout


def test_a_dry_run_says_what_would_be_now(bench: DeadLetterBench) -> None:
    """Created, updated, left, skipped or refused, by the present schemas, mapping and realm; nothing is published."""
    bench.run("apply", "--no-invite", bench.file(event_of("u-2", "event-2")))
    known = event_of("u-2", "event-2")
    newer = event_of("u-2", "event-3", time="2026-11-03T08:00:00Z", data={"department": "R&D"})
    older = event_of("u-2", "event-1", time="2026-10-01T08:00:00Z", data={"department": "X"})
    new = event_of("u-9", "event-9", data={"email": "new@acme.example"})
    bad = event_of("u-8", data={"email": "nobody"})
    events: list[dict[str, Any] | bytes] = [new, known, newer, older, bad, b"\xff"]
    for number, event in enumerate(events):
        bench.letters(letter_record((0, number), event=event, origin=(0, number)))
    bench.letters(invitation_letter((1, 0)))
    before = bench.keycloak.users()

    result = bench.run(*DRY)

    told = [line.partition(" → would be ")[2] for line in result.stdout.splitlines()[:-1]]
    assert 1 == result.exit_code
    assert [
        "created",
        "left as it is",
        "updated",
        "skipped: stale",
        "refused: schema-violation (/data/email must be an e-mail address)",
        "refused: wrong-encoding",
        "mailed: the mail would be asked for again",
    ] == told
    assert "0/0  schema-violation → would be created" == result.stdout.splitlines()[0]
    assert "1 would be created, 1 would be left as it is, 1 would be mailed, 2 would be refused, 1 would be skipped, 1 would be updated" == result.stdout.splitlines()[-1]  # fmt: skip
    assert (before, []) == (bench.keycloak.users(), bench.transactions)
    assert 0 == bench.open_readers


def test_a_dry_run_needs_no_realm(bench: DeadLetterBench) -> None:
    """Where the settings name none, schema and mapping say what they can."""
    bench.monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_REALM")
    bench.monkeypatch.delenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET")
    roles = event_of("u-2", data={"roles": ["realm-admin"]})
    bench.letters(letter_record((0, 0)), letter_record((0, 1), event=roles, origin=(3, 9999)))

    result = bench.run(*DRY)

    assert 1 == result.exit_code
    assert (
        "would be accepted: schema and mapping accept it; the realm was not asked" in result.stdout
    )
    assert "would be refused: role-not-allowed" in result.stdout
    assert [] == bench.keycloak.calls
    bench.log[DEAD_LETTERS].pop()
    assert 0 == bench.run(*DRY).exit_code


@pytest.mark.parametrize("value", [None, b""])
def test_a_letter_without_its_body_is_never_replayed(
    bench: DeadLetterBench, value: bytes | None
) -> None:
    """What came of it would be a tombstone, which may mean a deletion."""
    record = letter_record((0, 0))
    headers = (*record.headers, ("kb-dlq-omitted", b"value"))
    bench.letters(Record(record.topic, 0, 0, 0, b"u-1", value, headers), letter_record((0, 1)))

    result = bench.run("dead-letters", "replay", "--all-open", "--yes")

    assert 1 == result.exit_code
    assert "it holds no value; publish the event again" in result.stdout
    assert [("0/1", 3)] == bench.replayed()


@pytest.mark.parametrize(("tombstones", "outcome"), [("ignore", "skipped: tombstone"), ("dead-letter", "refused: tombstone")])  # fmt: skip
def test_a_dry_run_follows_the_settings(
    bench: DeadLetterBench, tombstones: str, outcome: str
) -> None:
    """As `run` would."""
    record = letter_record((0, 0))
    bench.letters(Record(record.topic, 0, 0, 0, b"u-1", None, record.headers))

    result = bench.run("--set", f"events.tombstones={tombstones}", *DRY)

    assert f"would be {outcome}\n" in result.stdout
    assert outcome.startswith("refused") == result.exit_code


def test_a_second_life_goes_out_in_the_order_of_the_first(bench: DeadLetterBench) -> None:
    """A record that failed again goes before what was behind it at first."""
    first = letter_record((0, 0), origin=(3, 10))
    headers = replay_message(letter_of(first), first, no_invite=False).headers
    bench.letters(letter_record((0, 1), origin=(3, 20)), letter_record((0, 7), headers=headers))
    bench.run(*OPEN)

    assert [("0/7", 3), ("0/1", 3)] == bench.replayed()


def test_what_cannot_go_back_to_its_place_goes_by_its_key(bench: DeadLetterBench) -> None:
    """Where its partition is gone."""
    bench.letters(letter_record((0, 0), origin=(9, 1)), letter_record((0, 2)))

    result = bench.run(*OPEN)

    assert (0, [("0/2", 3), ("0/0", None)]) == (result.exit_code, bench.replayed())


@pytest.mark.parametrize(
    ("letter", "sentence"),
    [
        ({"topic": DEAD_LETTERS}, "foreign-topic: topic user-events-dead-letters is neither"),
        ({"topic": "payments\x1b[2J"}, "foreign-topic: topic payments\\x1b[2J is neither"),
        ({"topic": "x" * 99_999}, "foreign-topic: topic xxx"),
        ({"topic": INVITATIONS}, "foreign-stage: the bridge writes no"),
        ({"step": "invite"}, "foreign-stage: the bridge writes no"),
    ],
)
def test_a_letter_goes_to_no_topic_but_those_of_the_settings(
    bench: DeadLetterBench, letter: dict[str, Any], sentence: str
) -> None:
    """Whatever its headers name; exit 1, and the others are replayed."""
    bench.letters(letter_record((0, 1), **letter), letter_record((0, 2)))

    result, dry = bench.run(*OPEN), bench.run(*DRY)

    assert (1, 1, [("0/2", 3)]) == (result.exit_code, dry.exit_code, bench.replayed())
    for one in (result, dry):
        assert f"0/1  schema-violation: cannot be replayed, {sentence}" in one.stdout
        assert 2000 > len(one.stdout)
