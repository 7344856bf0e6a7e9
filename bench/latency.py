"""From an event to a user that can be read, through an idle bridge; and the same of a bare POST."""

import json
import random
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from bench import samples
from bench.samples import StandstillError, follow
from bench.services import Ground, Services
from bench.sidecar import mode, running
from bench.users import Person, make_people
from bench.wire import Line, prepared_get, prepared_post

_PAUSE_S = (0.02, 0.06)
_POLL_S = 0.001
_PATIENCE_S = 30.0
_TOKEN_GOOD_FOR = 200
_FIRST = 20
"""Events before the first that counts: the bridge gets its token and opens its connections."""


def latency(services: Services, count: int) -> dict[str, object]:
    """Return the times in milliseconds, both ways in turn, each until a GET that runs beside it finds the user."""
    people = make_people("latency", 2 * (count + _FIRST))
    bridged, bare = people[::2], people[1::2]
    settings = {"INVITE_MODE": "none", **mode("auto")}
    with (
        services.ground(burst=True) as ground,
        ground.producer() as producer,
        ground.tally("results") as results,
        running(ground, settings),
    ):
        reader, writer = Line(ground.users_url), Line(ground.users_url)
        ways = _Ways(ground, reader, writer)

        def publish(person: Person) -> None:
            ground.send(producer, person.key, person.value)
            producer.flush()

        times: dict[str, list[float]] = {"bridge": [], "bare": []}
        for number, (one, other) in enumerate(zip(bridged, bare, strict=True)):
            if number % _TOKEN_GOOD_FOR == 0:
                ways.renew()
            times["bridge"].append(ways.time(one, publish))
            times["bare"].append(ways.time(other, ways.post))
        follow(results, len(bridged), {})
        reader.close()
        writer.close()
    return summary({name: values[_FIRST:] for name, values in times.items()})


def summary(times: dict[str, list[float]]) -> dict[str, object]:
    """Return median and 99th percentile of both ways, and what the bridge adds."""
    figures: dict[str, object] = {}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        bridge, bare = (samples.percentile(times[way], share) for way in ("bridge", "bare"))
        figures[name] = {
            "bridge_ms": round(bridge, 2),
            "bare_ms": round(bare, 2),
            "added_ms": round(bridge - bare, 2),
        }
    return figures | {
        f"{way}_ms": [round(one, 2) for one in values] for way, values in times.items()
    }


class _Ways:
    """Starts a write and asks for the user until it is there."""

    def __init__(self, ground: Ground, reader: Line, writer: Line) -> None:
        self._ground = ground
        self._reader = reader
        self._writer = writer
        self._token = ""

    def renew(self) -> None:
        """Take a new token."""
        self._token = self._ground.token()

    def post(self, person: Person) -> None:
        """Create a user, and do not wait for the answer."""
        self._writer.send(prepared_post(self._ground.users_url, self._token, person.body))

    def time(self, person: Person, write: Callable[[Person], None]) -> float:
        """Return the milliseconds from the write to the answer that holds the user."""
        name = quote(person.representation["username"])
        url = f"{self._ground.users_url}?exact=true&username={name}"
        question = prepared_get(url, self._token)
        time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311
        begin = time.perf_counter()
        write(person)
        while not _holds_one(self._reader.ask(question)):
            if time.perf_counter() - begin > _PATIENCE_S:
                raise StandstillError("a single event led to no user")
            time.sleep(_POLL_S)
        took_ms = 1000 * (time.perf_counter() - begin)
        if write == self.post:
            self._answered()
        return took_ms

    def _answered(self) -> None:
        while self._writer.receive() is None:
            pass


def _holds_one(answer: tuple[int, bytes]) -> bool:
    found: Sequence[object] = json.loads(answer[1])
    return len(found) == 1
