"""Every table of the command line, on terminals of 80 and 120 columns."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_harness import Bench, call, updated
from click.testing import _NamedTextIOWrapper
from dead_letter_cases import letter_record, stored
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from stage_harness import DEAD_LETTERS, RESULTS, event_of

from keycloak_bridge.cli import config as config_command
from keycloak_bridge.cli import tables
from keycloak_bridge.cli import topics as topics_command
from keycloak_bridge.cli.common import moment, shown_time
from keycloak_bridge.cli.tables import Table, facts, packed, short_forms, shortened
from keycloak_bridge.diagnostics.probes import Light, ProbeResult
from keycloak_bridge.domain.events import INVITATION_ATTRIBUTE, Outcome, Record, Result
from keycloak_bridge.kafka.topics import TopicSpec, TopicState
from keycloak_bridge.messages.results import result_message

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
USER = "28518867-3b1f-4b57-9d0b-5f3e8a1c2d40"
EVENT = "user.created-u1-2026-11-28T23:50:01.123456Z"
HOSTILE = "\x1b[2J\u202eab\r\n\tc…" + "東京" * 60 + "z" * 90
WIDE = "東京" * 60 + "…" + "z" * 90
WIDTHS = (80, 120)


@pytest.fixture(params=WIDTHS)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal without colours, so many columns wide."""
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    for name, value in {"COLUMNS": str(request.param), "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    return int(request.param)


def publish(
    bench: Bench, number: int, event_id: str, user_id: str, changed: tuple[str, ...] = ()
) -> None:
    """Publish a result."""
    result = Result(
        Outcome.PROVISIONED,
        action="updated",
        event_id=event_id,
        event_type="user.updated",
        user_id=user_id,
        schema_id="urn:keycloak-bridge:schema:user.updated:1.0",
        mapping="3f1c5b0e9a72",
        changed=changed,
    )
    origin = Record("user-events", 3, 4_711_000 + number, 0, b"", b"{}")
    message = result_message(
        result, topic=RESULTS, time=NOON + timedelta(seconds=number), origin=origin
    )
    bench.log[RESULTS].append(stored(message, (0, number)))


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A user with long ids, its results and dead letters, and those of a hostile one."""
    event = event_of(USER, EVENT)
    bench.run(
        "apply",
        bench.file({**event, "data": {**event["data"], "userId": USER, "department": "R&D " * 30}}),
    )
    ended = {INVITATION_ATTRIBUTE: ["sent-until:1000:" + EVENT], "userId": [USER]}
    keycloak_id = bench.keycloak.users()[0]["id"]
    bench.keycloak.update(
        keycloak_id,
        {
            **bench.keycloak.users()[0],
            "attributes": {**bench.keycloak.users()[0]["attributes"], **ended},
        },
    )
    targets = ("username", "email", "firstName", "lastName", "attributes.department", "groups")
    publish(bench, 1, EVENT, USER, changed=(*targets, "attributes.aVeryLongNameOfAnAttribute" * 3))
    publish(bench, 2, EVENT.replace("1.12", "2.12"), USER, changed=targets[1:3])
    publish(bench, 3, WIDE, WIDE)
    for number, user_id in enumerate((USER, HOSTILE)):
        letter = letter_record((3, number), event=event_of(user_id, EVENT), origin=(3, 4_711_000))
        bench.log[DEAD_LETTERS].append(letter)
    return bench


def check_topics(bench: Bench) -> str:
    """Return what `topics check` prints of topics with long names."""

    class Admin:
        def __init__(self, *_: object) -> None:
            """Connect to nothing."""

        def states(self, specs: Sequence[TopicSpec]) -> Sequence[TopicState]:
            return [TopicState(one, None if one.purpose == "events" else 12) for one in specs]

        def close(self) -> None:
            """Nothing to close."""

    bench.monkeypatch.setattr(topics_command, "KafkaAdmin", Admin)
    text = bench.run("topics", "check", "--set", f"topics.results={'r' * 200}").stdout
    return text.partition("\n\n")[0]


def run_doctor(bench: Bench) -> str:
    """Return what `doctor` prints of a finding of many words and lines."""
    message = f"the topics {'t' * 200} are\nmissing " * 9
    found = ProbeResult(Light.RED, message, "create them " * 9, probe="kafka-topics")
    bench.monkeypatch.setattr(config_command, "check_up", lambda *_, **__: [found])
    return bench.run("doctor").stdout


TABLES: dict[str, Callable[[Bench], str]] = {
    "explain": lambda bench: bench.run("explain", USER).stdout,
    "explain --show-values": lambda bench: bench.run("explain", USER, "--show-values").stdout,
    "log": lambda bench: bench.run("log").stdout,
    "dead-letters list": lambda bench: bench.run("dead-letters", "list").stdout,
    "dead-letters show": lambda bench: bench.run("dead-letters", "show", "3/1").stdout.partition("Key:")[0],
    "check-config": lambda bench: bench.run("check-config", "--set", f"kafka.client_id={'c' * 200}").stdout.partition("\n\n")[0],
    "schemas list": lambda _: call("schemas", "list").stdout,
    "plan": lambda bench: bench.run("plan", bench.file(updated(USER, EVENT + "2", department="x " * 90, givenName="y" * 200))).stdout,
    "topics check": check_topics,
    "apply": lambda bench: bench.run("apply", "--no-invite", bench.file(updated(USER, EVENT + "2", department="x " * 90, phoneNumber="+4915112345679"))).stdout,
    "doctor": run_doctor,
    "invitations list": lambda bench: bench.run("invitations", "list").stdout,
    "invitations resend": lambda bench: bench.run("invitations", "resend", "--user", USER, "--state", "expired", "--dry-run").stdout,
}  # fmt: skip


def test_every_table_is_tested() -> None:
    """A module that prints a table is named above, so that it is tried here on a terminal."""
    folder = Path(tables.__file__).parent
    prints = re.compile(r"\.(table|stream|facts|packed)\(")
    modules = {one.stem for one in folder.glob("*.py") if prints.search(one.read_text())}
    tried = {command.partition(" ")[0].replace("-", "_") for command in TABLES}

    assert modules - {"console", "sandbox"} <= tried | {"config"}


def test_no_line_is_wider_than_the_terminal(bench: Bench, columns: int) -> None:
    """No id is split over lines, and nothing that a record holds is left of what could move the cursor."""
    shown = {command: run(bench) for command, run in TABLES.items()}

    assert {} == {command: text for command, text in shown.items() if len(text.splitlines()) < 3}
    # a command to copy is left to the terminal
    lines = [
        (command, line)
        for command, text in shown.items()
        for line in text.splitlines()
        if not line.startswith("  keycloak-bridge ")
    ]
    assert [] == [one for one in lines if cell_len(one[1]) > columns]
    assert [] == [one for one in lines if not one[1].isprintable()]
    whole = re.compile(f"{re.escape(USER)}|{USER[:5]}[^ ]*…[^ ]*{USER[-5:]}")
    for command in ("explain", "log", "dead-letters list", "invitations list"):
        words = shown[command].split()
        assert any(map(whole.fullmatch, words)), command
        assert [] == [one for one in words if one in USER and len(one) > 4 and one != USER]


def test_explain_has_a_block_an_event(bench: Bench, columns: int) -> None:
    """The newest first, its targets below it, and each id on one line."""
    lines = bench.run("explain", USER, "--utc").stdout.splitlines()

    heads = [line for line in lines if line.startswith("set by ")]
    assert [
        f"set by user.updated {EVENT.replace('1.12', '2.12')}",
        f"set by user.updated {EVENT}",
        "set by no event that the results topic knows",
    ] == [re.sub(" at( 2026.*)?$", "", one) for one in heads]
    at = lines.index(heads[0])
    assert "    email, firstName" in lines[at : at + 5]


def test_a_wide_terminal_has_ids_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pipe has."""
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = bench.run("log", "--user", USER).stdout
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda _: False, raising=False)

    assert f"{USER}  {EVENT}" in shown
    assert f"{USER}  {EVENT}" in bench.run("log", "--user", USER).stdout


CELLS = st.text(st.sampled_from("ab-…東é\u0301 \x1b\u202e\n")) | st.text(max_size=40)


@given(
    st.integers(1, 5).flatmap(
        lambda count: st.lists(st.lists(CELLS, min_size=count, max_size=count), min_size=1)
    ),
    st.integers(30, 200),
)
def test_no_cell_breaks_a_table(rows: list[list[str]], width: int) -> None:
    """Whatever it holds, on a terminal of any width; the same in facts and packed lines."""
    headers = [f"column {number}" for number in range(len(rows[0]))]
    table = Table(headers, width)
    lines = [table.header(rows), *table.lines(rows)]
    named = [(one, one) for one in rows[0]]
    lines += packed(rows[0], width) + facts(named, width) + facts(named, width, whole=True)

    assert [] == [line for line in lines if cell_len(line) > width]
    assert "".join(lines).isprintable()


@given(st.sets(st.text(st.sampled_from("ab東"), max_size=60)), st.integers(20, 40))
def test_different_ids_stay_different(texts: set[str], width: int) -> None:
    """Also when they differ only in the middle; what fits is whole."""
    forms = short_forms(texts, width)

    assert len(texts) == len(set(forms.values()))
    assert all(forms[one] == one for one in texts if cell_len(one) <= width)
    assert all(cell_len(one) <= width for one in forms.values())


def test_facts_can_be_whole() -> None:
    """Nothing of a long word is left out, and it goes on in the next line."""
    assert ["  name", f"    {'x' * 36}", f"    {'x' * 14} and more"] == facts(
        [("name", "x" * 50 + " and more")], 40, whole=True
    )


def test_an_id_is_shortened_in_the_middle() -> None:
    """Wide characters count for what they are."""
    assert ["abcdef", "ab…ef", "東…c", "a"] == [
        shortened("abcdef", 6),
        shortened("abcdef", 5),
        shortened("東京都abc", 4),
        shortened("a", 0 + 1),
    ]


def test_times_are_those_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the zone of the machine to the second, or in UTC; with the offset, so that --since reads them."""
    first = datetime.min.replace(tzinfo=UTC)

    with in_zone(monkeypatch, "America/New_York"):
        shown = [shown_time(NOON, utc=True), shown_time(NOON, utc=False)]
        ends = [shown_time(first, utc=False), shown_time(None, utc=False)]

    assert ["2026-11-02 12:00:00Z", "2026-11-02 07:00:00-05:00"] == shown
    assert ["0001-01-01 00:00:00Z", "-"] == ends
    assert [NOON, NOON] == list(map(moment, shown))


@contextlib.contextmanager
def in_zone(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Have the machine in another time zone."""
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", name)
            time.tzset()
            yield
    finally:
        time.tzset()
