"""Batches: who is created, who must be written by itself, and what a failure means for each user."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_collector import KeptSpans

from keycloak_bridge.delivery.concurrency_limit import ConcurrencyLimit
from keycloak_bridge.delivery.tracing import StageTracer
from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakError,
    KeycloakUnavailableError,
    PartitionRevokedError,
)
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.future import Future
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.tracing import active, current
from keycloak_bridge.provisioning.batches import BatchWriter

BY_ITSELF = None
WAIT_S = 30.0


def unavailable(status: int | None = 500) -> KeycloakUnavailableError:
    """Return the error of a bare 500, or of another status."""
    return KeycloakUnavailableError("Keycloak cannot answer now", status=status)


class Importer:
    """Creates all users of a batch, unless one is bad; those who exist are skipped."""

    def __init__(
        self,
        bad: Sequence[str] = (),
        existing: Sequence[str] = (),
        error: Callable[[], KeycloakError] = unavailable,
    ) -> None:
        self.bad, self.existing, self.error = frozenset(bad), frozenset(existing), error
        self.batches: list[list[str]] = []
        self.created: list[str] = []
        self._lock = threading.Lock()

    def available(self) -> bool:
        """Say yes."""
        return True

    def import_body(self, representation: UserRepresentation) -> UserRepresentation | None:
        """Not called by a writer of batches."""
        raise NotImplementedError

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Do it, all or none."""
        names = [user["username"] for user in users]
        with self._lock:
            self.batches.append(names)
            if self.bad.intersection(names):
                raise self.error()
            self.created += [name for name in names if name not in self.existing]
        return [None if name in self.existing else f"id-{name}" for name in names]


class Held(Importer):
    """Writes nothing before it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()

    def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
        """Do it then."""
        self.going.wait(WAIT_S)
        return super().import_users(users)


Outcome = str | BaseException | None


def outcome_of(created: Future[str | None]) -> Outcome:
    """Wait for what becomes of a user."""
    ended = threading.Event()
    created.add_done_callback(lambda _: ended.set())
    assert ended.wait(WAIT_S)
    return created.exception() or created.result()


def writer_to(importer: Importer, size: int, threads: int) -> BatchWriter:
    """Return a writer of batches of so many users at most."""
    clock = SystemClock()
    limit = ConcurrencyLimit(clock, most=4 * size, start=4 * size, batch=(1, size))
    return BatchWriter(importer, limit, clock, Metrics(), threads)


def write(
    importer: Importer,
    names: Sequence[str],
    *,
    size: int = 10,
    threads: int = 2,
    may_write: Callable[[str], bool] = lambda _: True,
    email: Callable[[str], str] = lambda name: f"{name}@acme.example",
) -> dict[str, Outcome]:
    """Have users of these names written, and return what became of each."""
    writer = writer_to(importer, size, threads)
    created = {
        name: writer.submit(
            UserRepresentation(username=name, email=email(name)), partial(may_write, name)
        )
        for name in names
    }
    results = {name: outcome_of(one) for name, one in created.items()}
    writer.close()
    return results


def many(count: int) -> list[str]:
    """Return that many names."""
    return [f"u{number}" for number in range(count)]


def test_a_user_that_exists_is_written_by_itself() -> None:
    """Written by itself, it is found out whose user it is."""
    assert write(Importer(existing=["u1"]), many(3)) == {
        "u0": "id-u0",
        "u1": BY_ITSELF,
        "u2": "id-u2",
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_bad_user_takes_no_other_with_it(count: int, data: st.DataObject) -> None:
    """All others are created once in batches of the size at most, and the bad ones are written by themselves."""
    names = many(count)
    bad = data.draw(st.sets(st.sampled_from(names), max_size=2))
    importer = Importer(bad=sorted(bad))
    results = write(importer, names, threads=1)

    assert results == {name: BY_ITSELF if name in bad else f"id-{name}" for name in names}
    assert sorted(importer.created) == sorted(set(names) - bad)
    assert max(map(len, importer.batches)) <= 10


def test_a_batch_full_of_bad_users_is_given_up_soon() -> None:
    """Rather than one call for each half of each half."""
    importer = Importer(bad=many(64))
    results = write(importer, many(64), size=64, threads=1)

    assert set(results.values()) == {BY_ITSELF}
    assert len(importer.batches) < 40


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (unavailable(503), KeycloakUnavailableError),
        (unavailable(429), KeycloakUnavailableError),
        (unavailable(None), KeycloakUnavailableError),
        (KeycloakAuthError("401", status=401), KeycloakAuthError),
        # written by itself, a user needs no additional role
        (KeycloakAuthError("403", status=403), type(None)),
    ],
)
def test_what_is_no_users_fault_happens_to_all(error: KeycloakError, outcome: type) -> None:
    """No halving finds anything then; each is tried again later."""
    importer = Importer(bad=["u1"], error=lambda: error)
    results = write(importer, many(3), size=3, threads=1)

    assert {type(one) for one in results.values()} == {outcome}
    assert importer.batches == [many(3)]


def test_a_record_of_another_member_is_not_written() -> None:
    """Another member may have it by now."""
    importer = Importer()
    results = write(importer, many(3), may_write=lambda name: name != "u1")

    assert type(results.pop("u1")) is PartitionRevokedError
    assert results == {"u0": "id-u0", "u2": "id-u2"}
    assert "u1" not in importer.created


def test_two_who_share_an_address_are_in_two_batches() -> None:
    """Keycloak looks who exists before it creates the first, and the second would fail the batch."""
    importer = Importer()
    write(importer, many(6), email=lambda name: f"{int(name[1:]) // 2}@acme.example", threads=1)

    assert [[int(name[1:]) // 2 for name in batch] for batch in importer.batches] == [
        sorted({int(name[1:]) // 2 for name in batch}) for batch in importer.batches
    ]


def test_a_closed_writer_writes_nothing() -> None:
    """The outcome says so."""
    importer = Importer()
    writer = writer_to(importer, 9, 1)
    writer.close()
    created = writer.submit(UserRepresentation(username="u0"), lambda: True)

    assert (type(outcome_of(created)), importer.batches) == (PartitionRevokedError, [])


def test_what_hangs_on_a_user_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Neither of its batch nor of a later one; the fault is logged."""
    importer = Held()
    writer = writer_to(importer, 3, 1)

    def failing(_: Future[str | None]) -> None:
        raise RuntimeError

    created = [
        writer.submit(UserRepresentation(username=name), partial(name.__ne__, "u4"))
        for name in many(6)
    ]
    for one in created:
        one.add_done_callback(failing)
    importer.going.set()
    outcomes = [outcome_of(one) for one in created]
    writer.close()

    assert ["id-u0", "id-u1", "id-u2", "id-u3", "id-u5"] == [*outcomes[:4], outcomes[5]]
    assert type(outcomes[4]) is PartitionRevokedError
    assert {logging.ERROR} == {one.levelno for one in caplog.records}


def test_without_its_threads_every_user_is_written_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that ends one of them must not leave users that wait for a batch for ever."""
    writer = writer_to(Importer(), 2, 1)
    monkeypatch.setattr(writer, "_take", lambda _: 1 / 0)
    created = [writer.submit(UserRepresentation(username=name), lambda: True) for name in many(9)]

    assert [BY_ITSELF] * 9 == [outcome_of(one) for one in created]
    assert [logging.ERROR] == [one.levelno for one in caplog.records]
    writer.close()
    later = writer.submit(UserRepresentation(username="later"), lambda: True)
    assert type(outcome_of(later)) is PartitionRevokedError


def test_no_more_users_wait_for_a_batch_than_fill_two() -> None:
    """Whoever submits another one waits, until there is room or the writer is closed."""
    size, threads = 5, 1
    waiting: list[int] = []

    class Watched(Held):
        def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
            self.going.wait(WAIT_S)
            waiting.append(len(submitted) - len(self.created))
            return super().import_users(users)

    importer = Watched()
    writer = writer_to(importer, size, threads)
    submitted: list[Future[str | None]] = []

    def submit() -> None:
        for name in many(60):
            one = writer.submit(UserRepresentation(username=name), lambda: True)
            submitted.append(one)  # the importer looks at it meanwhile
        writer.close()

    submitting = threading.Thread(target=submit)
    submitting.start()
    importer.going.set()
    submitting.join(WAIT_S)
    outcomes = [outcome_of(one) for one in submitted]

    assert len(outcomes) == 60
    assert max(waiting) <= (threads + 2) * size
    assert {type(one) for one in outcomes[-2 * size :]} <= {str, PartitionRevokedError}


def test_everybody_who_waits_for_room_gets_it() -> None:
    """Although only some are told when a batch leaves, and those may have nothing more to submit."""
    importer = Held()
    writer = writer_to(importer, 2, 1)
    with ThreadPoolExecutor(30) as threads:
        submitted = [
            threads.submit(writer.submit, UserRepresentation(username=name), lambda: True)
            for name in many(30)
        ]
        importer.going.set()
        try:
            outcomes = [outcome_of(one.result(WAIT_S)) for one in submitted]
        finally:
            writer.close()

    assert sorted(f"id-{name}" for name in many(30)) == sorted(map(str, outcomes))


def test_who_waits_for_room_ends_with_the_writer() -> None:
    """Nothing is written any more."""
    importer = Held()
    writer = writer_to(importer, 5, 1)
    submitted = []
    full = threading.Event()

    def submit() -> None:
        for name in many(40):
            submitted.append(writer.submit(UserRepresentation(username=name), lambda: True))
            if len(submitted) == 15:
                full.set()

    submitting = threading.Thread(target=submit)
    submitting.start()
    full.wait(WAIT_S)
    writer.close()
    submitting.join(WAIT_S)
    importer.going.set()

    assert len(submitted) == 40
    assert type(outcome_of(submitted[-1])) is PartitionRevokedError


def test_the_span_of_a_batch_is_linked_to_those_of_its_records() -> None:
    """What is called within the batch is below its span, and is one call for all of them."""
    spans = KeptSpans()
    tracer = StageTracer(spans.tracer)
    below: list[str | None] = []

    class Calling(Importer):
        def import_users(self, users: Sequence[UserRepresentation]) -> Sequence[str | None]:
            below.append(current().trace_id)
            return super().import_users(users)

    importer = Calling(bad=["bob"])
    limit = ConcurrencyLimit(SystemClock(), most=8, start=8, batch=(1, 2))
    writer = BatchWriter(importer, limit, SystemClock(), Metrics(), 1, tracer)
    created = []
    for name in ("ada", "bob"):
        with active(tracer.process(Record("user-events", 0, 0, 0, None, name.encode()))):
            user = UserRepresentation(username=name)
            created.append(writer.submit(user, lambda: True))
            current().end()
    for one in created:
        outcome_of(one)
    writer.close()

    ended = spans.ended()
    records = [one for one in ended if one.name == "process user-events"]
    batches = [one for one in ended if one.name == "write batch"]
    ids = [one.context.span_id for one in records]
    assert [ids, ids[:1], ids[1:]] == [
        [link.context.span_id for link in one.links] for one in batches
    ]
    assert [True, False, True] == [not one.status.is_unset for one in batches]
    assert [f"{one.context.trace_id:032x}" for one in batches] == below


@pytest.mark.parametrize(("allowed", "outcome"), [(0, [None, "id-u0"]), (1, ["id-u0", "id-u0"])])
def test_threads_that_cannot_begin_keep_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    allowed: int,
    outcome: list[Outcome],
) -> None:
    """Without any, users are written by themselves until the system lets one begin; one alone writes them all."""
    writer, begun = writer_to(Importer(), 10, threads=3), [0]
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if begun[0] >= allowed:
            raise RuntimeError("can't start new thread")
        begun[0] += 1
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    first = outcome_of(writer.submit(UserRepresentation(username="u0"), lambda: True))
    monkeypatch.undo()
    second = outcome_of(writer.submit(UserRepresentation(username="u0"), lambda: True))
    writer.close()

    assert outcome == [first, second]
    (warning,) = caplog.records
    assert f"the system lets {allowed} begin" in warning.getMessage()
