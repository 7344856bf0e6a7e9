"""Scenario 5: the SMTP server is away, silent, or refuses some of the addresses."""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from bridge_harness import free_port
from population import Event
from report import record
from scene import Scene, Size
from verdict import Position, judge

from keycloak_bridge.domain.events import event_id_in
from keycloak_bridge.sandbox.mail import smtp_server

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.full]

_HOST = "127.0.0.1"
_LATER = "451 4.7.1 Greylisted, try again later"
_NEVER = "550 5.1.1 No such user here"
_GREYLISTED_SHARE = 0.4
_REFUSALS_AT_FIRST = 2
_KNOWN_PER_UNKNOWN = 30
_EARLY_PART = 4


Answer = Callable[[str], str | None]
"""What the server says to a recipient, None where it takes the mail."""


@pytest.mark.parametrize("name", ["refused", "black hole"])
def test_smtp_is_away(scene: Scene, size: Size, name: str) -> None:
    """No user waits for a mail, and every mail goes out once when the server is back."""
    away = {"refused": _stopped, "black hole": black_hole}[name]
    half, rest = scene.population.portions(2)
    scene.bridges.start()
    scene.publish(half)
    scene.wait_until(lambda: scene.mails().total() >= len(half) // 8, "some mails")
    with scene.fault(outcome="invited"), away(scene):
        mailed = scene.mails().total()
        scene.publish(rest)
        scene.wait_for_done(len(scene.population.events))
        time.sleep(size.outage_s / 2)
        print(f"\nchaos: {scene.mails().total() - mailed} mails in the outage")
    scene.wait_for_everything()
    scene.bridges.all_leave()

    record(f"5 SMTP {name}", judge(scene))


@contextmanager
def _stopped(scene: Scene) -> Iterator[None]:
    scene.bench.sandbox.mail.stop()
    try:
        yield
    finally:
        scene.bench.sandbox.mail.start()


def test_smtp_refuses_some_addresses(open_scene: Callable[..., Scene]) -> None:
    """Greylisted addresses get their one mail, unknown ones end in the dead letters, and nobody else waits."""
    scene = open_scene(RETRY_MAX="1 s", DELIVERY_MAX_ATTEMPTS="5")
    chance = random.Random(scene.seed)  # noqa: S311 # no secret
    # only of a user with one event it is certain that there is one invitation
    count = Counter(event["data"]["email"].lower() for event in scene.population.events)
    invited_early = _invited_by(scene, _early_and_late(scene.population.events)[0])
    unknown = [address for address in invited_early if count[address] == 1]
    unknown = chance.sample(unknown, len(unknown) // _KNOWN_PER_UNKNOWN + 1)
    known = sorted(set(invited_early) - set(unknown))
    greylisted = set(chance.sample(known, int(len(known) * _GREYLISTED_SHARE)))
    asked: Counter[str] = Counter()

    def answer(address: str) -> str | None:
        asked[address] += 1
        if address in greylisted and asked[address] <= _REFUSALS_AT_FIRST:
            return _LATER
        return _NEVER if address in unknown else None

    early, late = _early_and_late(scene.population.events)
    mailed = len(_invited_by(scene, early)) - len(unknown)
    scene.bridges.start()
    with mail_front(scene, answer):
        scene.publish(early)
        scene.wait_until(lambda: len(scene.mails()) >= mailed, "the mails of the early users")
        # others pass while the unknown addresses fail; after them nothing but the growing pauses leads to an end
        scene.publish(late)
        scene.wait_until(lambda: len(scene.bench.dead_letters()) >= len(unknown), "dead letters")
        scene.wait_for_everything(unmailed=len(unknown))
    scene.bridges.all_leave()

    bad = _invitations_of(scene, unknown)
    figures = judge(scene, bad=bad, unmailed=unknown)
    scenario = (
        f"5 SMTP: 451 at first for {len(greylisted)} addresses, 550 for ever for {len(unknown)}"
    )
    record(scenario, figures, within_s=None)


def _early_and_late(events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]]:
    """Return the first events, whose users' addresses may be refused, and all others."""
    return events[: len(events) // _EARLY_PART], events[len(events) // _EARLY_PART :]


def _invited_by(scene: Scene, events: Sequence[Event]) -> list[str]:
    """Return the addresses of the users that these events invite."""
    ids = {event["id"] for event in events}
    return sorted(one for one, event_id in scene.population.invited.items() if event_id in ids)


def _invitations_of(scene: Scene, addresses: Sequence[str]) -> dict[Position, str]:
    """Return where the invitations of these addresses stand, and the code of their dead letters."""
    events = {scene.population.invited[address] for address in addresses}
    return {
        (record.topic, record.partition, record.offset): "given-up"
        for record in scene.bench.read("invitations")
        if event_id_in(json.loads(record.value)["data"]["eventId"]) in events
    }


@contextmanager
def mail_front(scene: Scene, answer: Answer) -> Iterator[None]:
    """Have the realm send its mails by a server that answers so, and keeps in the catcher what it takes."""
    front = smtp_server(_Handler(scene, answer), free_port())
    front.start()
    try:
        with _sending_by(scene, front.port):
            yield
    finally:
        front.stop()


@contextmanager
def black_hole(scene: Scene) -> Iterator[None]:
    """Have the realm send its mails by a server that takes connections and never says a word."""
    held: list[socket.socket] = []
    with socket.create_server((_HOST, 0)) as listener:

        def swallow() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=swallow, daemon=True).start()
        try:
            with _sending_by(scene, listener.getsockname()[1]):
                yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


@contextmanager
def _sending_by(scene: Scene, port: int) -> Iterator[None]:
    """Let the realm know another server meanwhile, with time-outs of two seconds."""
    usual = scene.bench.admin("GET", "")["smtpServer"]
    timeouts = dict.fromkeys(("timeout", "connectionTimeout", "writeTimeout"), "2000")
    scene.bench.admin("PUT", "", json={"smtpServer": {**usual, **timeouts, "port": str(port)}})
    try:
        yield
    finally:
        scene.bench.admin("PUT", "", json={"smtpServer": usual})


class _Handler:
    """What aiosmtpd calls."""

    def __init__(self, scene: Scene, answer: Answer) -> None:
        self._catcher = scene.bench.sandbox.mail
        self._answer = answer

    async def handle_RCPT(  # noqa: N802 # aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take or refuse a recipient."""
        refusal = self._answer(address.lower())
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail."""
        self._catcher.keep(list(envelope.rcpt_tos), bytes(envelope.content))
        return "250 OK"
