"""What can pass is waited for: nothing lost, nothing twice, nothing in the dead letters."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from bridge_harness import Bench, an_event, free_port, wait_until

from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = pytest.mark.integration

_HOST = "127.0.0.1"


@pytest.fixture
def bench(sandbox: Sandbox, module_realm: FreshRealm, tmp_path: Path) -> Bench:
    """Fresh topics, and health endpoints on a port that the test knows."""
    return Bench.open(sandbox, module_realm, tmp_path).but(HEALTH_PORT=str(free_port()))


def probe(bench: Bench, path: str) -> tuple[int, str]:
    """Return status and reasons of a health endpoint; 0 while nobody answers."""
    port = bench.settings["KEYCLOAK_BRIDGE_HEALTH_PORT"]
    try:
        answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=10)
    except requests.RequestException:
        return 0, ""
    return answer.status_code, " ".join(answer.json()["problems"])


def publish(bench: Bench, count: int, name: str = "u") -> list[str]:
    """Publish events and return the ids of their users, which begin with `name`."""
    ids = [f"{name}{number}-{bench.suffix}" for number in range(count)]
    bench.publish(*(an_event(user_id) for user_id in ids))
    return ids


def provisioned(bench: Bench) -> int:
    """Return how many events a running bridge has done so far, by its log."""
    return bench.log().count('"action": "provisioned"')


def users_of(bench: Bench) -> list[str]:
    """Return the external ids of the users of this test, sorted."""
    users = (user["attributes"]["userId"][0] for user in bench.users())
    return sorted(user_id for user_id in users if user_id.endswith(bench.suffix))


def mails_of(bench: Bench) -> Counter[str]:
    """Return how many mails went to each user of this test."""
    return Counter(
        mail.recipients[0].removesuffix("@acme.example")
        for mail in bench.sandbox.mail.messages
        if bench.suffix in mail.recipients[0]
    )


def unrecorded(bench: Bench) -> Counter[str]:
    """Return the mails to each user of this test that Keycloak did not live to record."""
    addressed = Counter({f"{one}@acme.example": count for one, count in mails_of(bench).items()})
    lost = bench.unrecorded(addressed)
    print(f"{lost.total()} mails that Keycloak did not live to record")
    return Counter({one.removesuffix("@acme.example"): count for one, count in lost.items()})


def all_mailed(bench: Bench, ids: Sequence[str]) -> bool:
    """Say whether each of these users has a mail."""
    return set(ids) <= mails_of(bench).keys()


def waiting_lines(bench: Bench) -> list[dict[str, Any]]:
    """Return the lines in which a running bridge said that it waits."""
    lines = [json.loads(line) for line in bench.log().splitlines()]
    return [line for line in lines if line["action"] == "waiting"]


def test_it_starts_before_kafka_and_keycloak(bench: Bench) -> None:
    """Alive and not ready while it waits, naming for what; at work as soon as both are there."""
    ids = publish(bench, 1)
    kafka_port, keycloak_port = bench.sandbox.kafka.port, bench.sandbox.keycloak.port
    with gate(kafka_port) as kafka, gate(keycloak_port) as keycloak:
        early = bench.but(
            KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{kafka.port}",
            KEYCLOAK_URL=f"http://127.0.0.1:{keycloak.port}",
        )
        with early.running() as process:
            wait_until(lambda: "Kafka" in probe(early, "/ready")[1])
            assert (503, 200) == (probe(early, "/ready")[0], probe(early, "/live")[0])
            kafka.open()
            wait_until(lambda: "Keycloak" in probe(early, "/ready")[1])
            assert (503, 200) == (probe(early, "/ready")[0], probe(early, "/live")[0])
            keycloak.open()
            wait_until(lambda: all_mailed(bench, ids))
            wait_until(lambda: probe(early, "/ready") == (200, ""))
            process.terminate()
            assert 0 == process.wait(timeout=120)


def test_keycloak_goes_away_and_comes_back(bench: Bench) -> None:
    """In the middle of 200 events: every user once, every mail once, no dead letter, and ready says why.

    A second mail is forgiven where Keycloak ended between the SMTP server's yes and its own record of the first.
    """
    ids = publish(bench, 100)
    keycloak = bench.sandbox.keycloak
    with bench.running() as process:
        wait_until(lambda: provisioned(bench) >= 40)
        keycloak.stop()
        try:
            ids += publish(bench, 100, "later")
            wait_until(lambda: probe(bench, "/ready")[0] == 503)
            assert "Keycloak" in probe(bench, "/ready")[1]
            assert 200 == probe(bench, "/live")[0]
        finally:
            keycloak.start()
        wait_until(lambda: all_mailed(bench, ids))
        wait_until(lambda: probe(bench, "/ready") == (200, ""))
        process.terminate()
        assert 0 == process.wait(timeout=120)

    assert sorted(ids) == users_of(bench)
    assert Counter(ids) == mails_of(bench) - unrecorded(bench)
    assert [] == bench.dead_letters()
    # one line when it begins, not one for each attempt
    assert len(waiting_lines(bench)) <= 8


def test_kafka_goes_away_and_comes_back(bench: Bench) -> None:
    """In the middle of the work, and again while idle: all is done, once, and the bridge is ready again."""
    ids = publish(bench, 60)
    with bench.running() as process:
        for moment in (lambda: provisioned(bench) >= 20, lambda: all_mailed(bench, ids)):
            wait_until(moment)
            with kafka_down(bench):
                # longer than any delivery time-out of the producer
                wait_until(lambda: "Kafka" in probe(bench, "/ready")[1])
                assert (503, 200) == (probe(bench, "/ready")[0], probe(bench, "/live")[0])
            wait_until(lambda: probe(bench, "/ready") == (200, ""))
        late = an_event(f"late-{bench.suffix}")
        bench.publish(late)
        wait_until(lambda: all_mailed(bench, [late["subject"]]))
        process.terminate()
        assert 0 == process.wait(timeout=120)

    assert sorted([*ids, late["subject"]]) == users_of(bench)
    assert {1} == set(mails_of(bench).values())
    assert [] == bench.dead_letters()


def test_the_bridge_can_be_stopped_while_kafka_is_away(bench: Bench) -> None:
    """SIGTERM in an outage ends with 0 and without a word too many; the next run does the rest."""
    ids = publish(bench, 40)
    with bench.running() as process:
        wait_until(lambda: provisioned(bench) >= 10)
        with kafka_down(bench):
            process.terminate()
            assert 0 == process.wait(timeout=120)

    assert "Traceback" not in bench.log()
    assert "error:" not in bench.log()
    bench.catch_up()
    assert sorted(ids) == users_of(bench)
    assert {1} == set(mails_of(bench).values())


@contextlib.contextmanager
def kafka_down(bench: Bench) -> Iterator[None]:
    """Stop Kafka meanwhile."""
    bench.sandbox.kafka.stop()
    try:
        yield
    finally:
        bench.sandbox.kafka.start()


def test_an_smtp_outage_delays_mails_and_no_user(bench: Bench) -> None:
    """Users are created meanwhile; the mails follow when the server takes them again, once each."""
    mail = bench.sandbox.mail
    with bench.running():
        wait_until(lambda: probe(bench, "/ready") == (200, ""))
        mail.refusing = True
        try:
            ids = publish(bench, 20)
            wait_until(lambda: provisioned(bench) == len(ids))
            wait_until(lambda: "SMTP" in probe(bench, "/ready")[1])
            assert (503, 200) == (probe(bench, "/ready")[0], probe(bench, "/live")[0])
            assert 0 == mails_of(bench).total()
        finally:
            mail.refusing = False
        wait_until(lambda: all_mailed(bench, ids))
        wait_until(lambda: probe(bench, "/ready") == (200, ""))

    assert {1} == set(mails_of(bench).values())
    assert [] == bench.dead_letters()
    assert {"mail-not-sent"} == {line["reason"] for line in waiting_lines(bench)}


def test_a_killed_bridge_loses_nothing(bench: Bench) -> None:
    """SIGKILL in the middle of 200 events, then a run to the end: each user once, none without its mail."""
    ids = publish(bench, 200)
    with bench.running() as process:
        wait_until(lambda: provisioned(bench) >= 60 and mails_of(bench).total() >= 10)
        process.kill()
        process.wait()

    bench.catch_up()

    assert sorted(ids) == users_of(bench)
    assert [] == bench.dead_letters()
    mails = mails_of(bench)
    assert set(ids) == mails.keys()
    # the one window: killed between a mail and its mark
    print(f"{mails.total() - len(ids)} mails twice")
    assert mails.total() - len(ids) <= 1


def test_a_rotated_secret_is_waited_for(bench: Bench) -> None:
    """A wrong secret, then no file at all, then the right one: the bridge goes on without a restart."""
    secret = bench.folder / "secret"
    secret.write_text(bench.realm.client_secret)
    filed = bench.but(KEYCLOAK_CLIENT_SECRET="", KEYCLOAK_CLIENT_SECRET_FILE=str(secret))
    path = "/clients"
    (client,) = bench.admin("GET", path, params={"clientId": bench.realm.client_id})
    sessions = f"{path}/{client['id']}"
    with gate(bench.sandbox.keycloak.port) as keycloak:
        keycloak.open()
        url = f"http://127.0.0.1:{keycloak.port}"
        with filed.but(KEYCLOAK_URL=url).running() as process:
            wait_until(lambda: probe(filed, "/ready") == (200, ""))
            secret.write_text("wrong")
            # Keycloak takes no token from before this moment any more
            bench.admin("PUT", sessions, json={**client, "notBefore": int(time.time()) + 1})
            time.sleep(2)
            ids = publish(bench, 1)
            wait_until(lambda: "client credentials" in probe(filed, "/ready")[1])
            secret.unlink()
            wait_until(lambda: "secret file" in probe(filed, "/ready")[1])
            assert process.poll() is None
            secret.write_text(bench.realm.client_secret)
            wait_until(lambda: all_mailed(bench, ids))

    assert ids == users_of(bench)
    assert [] == bench.dead_letters()


def test_a_network_that_keeps_breaking_loses_and_doubles_no_user(bench: Bench) -> None:
    """Answers are lost again and again: each user once, none without a mail, no dead letter."""
    ids = publish(bench, 60)
    with gate(bench.sandbox.keycloak.port) as keycloak:
        keycloak.open()
        shaky = bench.but(KEYCLOAK_URL=f"http://127.0.0.1:{keycloak.port}")
        with shaky.running():
            wait_until(lambda: provisioned(bench) > 0)
            for _ in range(20):
                keycloak.cut()
                time.sleep(0.2)
            wait_until(lambda: all_mailed(bench, ids))

    assert sorted(ids) == users_of(bench)
    assert [] == bench.dead_letters()
    # an answer that is lost after the mail went out has it sent again
    print(f"{mails_of(bench).total() - len(ids)} mails twice")


class TcpGate:
    """Forwards a port of its own to another one while it is open; nobody listens while it is closed."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._passing: set[socket.socket] = set()

    def open(self) -> None:
        """Listen and forward."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, self.port))
        listener.listen()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and cut every connection, whatever is on its way."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> int:
        """Cut every connection and go on listening; return how many halves there were."""
        with self._lock:
            passing, self._passing = self._passing, set()
        for one in passing:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(passing)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection((_HOST, self._target_port), timeout=5)
            except OSError:
                inside.close()
                continue
            outside.settimeout(None)
            with self._lock:
                self._passing |= {inside, outside}
            for source, target in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65_536):
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._passing.discard(source)
        source.close()


@contextlib.contextmanager
def gate(target_port: int) -> Iterator[TcpGate]:
    """Lend a gate that is closed at first."""
    lent = TcpGate(target_port)
    try:
        yield lent
    finally:
        lent.close()
