"""What each kind of event costs Keycloak as a realm grows: `python -m bench.scale`, or `make bench-scale`.

For each size there is a Keycloak on a PostgreSQL of its own, with a realm that is filled by SQL (`bench.filling`), and for
the smallest size a second one. All of them run side by side, and the bridge, in this process, handles a few events in each in
turn, one after the other or in batches, of users that were not touched before: what else the machine does befalls all alike.
What is told is the time of an event, the CPU of Keycloak and of PostgreSQL for it, and how each compares with the smallest
realm. Events that take long, since Keycloak reads every user for them, are fewer. `--write` renews the table of
docs/scaling.md.
"""

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import click

from bench.filling import email, fill, index, user_id
from bench.inprocess import InProcessBridge, settle
from bench.machine import busy_cores, family_cpu_s, machine, usage
from bench.postgres import PostgresServer, installed, sandbox_on_postgres, services_on_postgres
from bench.publish import ROOT, renew, say
from bench.services import Services
from keycloak_bridge.app.connections import keycloak_admin
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.sandbox import SandboxError
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import (
    BurstSettings,
    KeycloakSettings,
    LifecycleSettings,
    LimitsSettings,
    MappingSettings,
    Settings,
    VerifySettings,
)
from keycloak_bridge.testing.realm_tools import AdminRealmTools, FreshRealm, create_realm

PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- scale:begin -->\n", "<!-- scale:end -->\n"
GOAL = 1.3
JAVA_OPTIONS = ("-Xmx1g",)
_SIZES = (10_000, 100_000, 1_000_000)
_WARM_USERS = 20_000
_WARM_CREATED = 15_000
"""New users after which the server's code is compiled for good."""

_WRITERS = 16
_DELETE_S = 600
_LISTED = 150_000
"""The largest realm that is listed for batches, which takes minutes; where the id is the username, none is."""

_LEAST = 3
"""Events of a kind that are measured however long they take."""

_TURN = 10
"""Events, or batches, after which it is the next realm's turn."""

_BATCHED = 10
"""How many times as many events are handled in batches, in which each takes little."""

_STEP = 7919
"""Coprime to every size: the users that are picked lie all over the realm, and none is picked twice."""

INDEXED = "attribute, with the index"
USERNAME = "username"
LAYOUTS = ("attribute", INDEXED, USERNAME)

_MAPPING = """
matching = {matching}

[user]
username = "data.userId"
email = "data.email"
firstName = "data.givenName"
lastName = "data.familyName"

[user.attributes]
tenantId = "data.tenantId"
department = "data.department"
{attribute}
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of event cost, in milliseconds; `again` is the second realm of the smallest size.

    CPU is the average. `wall_ms` is the lower quartile, since other programs of the machine can only add to it.
    """

    users: int
    again: bool
    layout: str
    kind: str
    events: int
    wall_ms: float
    keycloak_ms: float
    database_ms: float


@dataclass(slots=True)
class Numbers:
    """Numbers of users that were not used yet: those after `first` up to `last`, which the realm has, and new ones."""

    first: int
    last: int
    _used: Iterator[int] = field(default_factory=itertools.count)

    def there(self) -> int:
        """Return a user of the realm; raises IndexError after the last one."""
        at, size = next(self._used), self.last - self.first
        if at >= size:
            raise IndexError("the realm has too few users for so many events")
        return self.first + at * _STEP % size + 1

    def new(self) -> int:
        """Return a user that the realm has not."""
        return next(_new)


_new = itertools.count(50_000_000)
Event = tuple[bytes, bytes]
_occurrences = itertools.count(1)


def event(kind: str, number: int, **data: Any) -> Event:
    """Return key and value of an event about a user."""
    occurrence = next(_occurrences)
    body = {
        "specversion": "1.0",
        "id": f"scale-{occurrence}",
        "source": "/bench",
        "type": f"user.{kind}",
        "subject": user_id(number),
        "data": {"userId": user_id(number), **data},
    }
    return user_id(number).encode(), json.dumps(body).encode()


def created(number: int) -> Event:
    """Return the event that creates a user as `fill` does."""
    return event(
        "created",
        number,
        email=email(number),
        givenName=f"Given{number}",
        familyName=f"Family{number % 9973}",
        tenantId=f"tenant-{number % 50}",
        department=f"Department {number % 200}",
    )


Act = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """A realm of one size with a bridge for each way to write to it."""

    services: Services
    database: PostgresServer
    realm: FreshRealm
    numbers: Numbers
    again: bool = False

    def warm_up(self, events: int, limit_s: float) -> None:
        """Have the server do everything often enough to be as fast as it gets."""
        bridge = self._bridge(USERNAME)
        with ThreadPoolExecutor(_WRITERS) as pool:
            make_people = (created(self.numbers.new()) for _ in range(_WARM_CREATED))
            settle(list(pool.map(lambda one: bridge.begin(*one), make_people)))
        for layout in LAYOUTS:
            for one in self.measurements(layout, events, limit_s):
                while not one.is_done():
                    one.take_turn()

    def measurements(self, layout: str, events: int, limit_s: float) -> "Iterator[Measurement]":
        """Yield what is to be measured of a layout, each kind of event."""
        for kind, ready, each in self.acts(layout):
            most = events * (_BATCHED if each > 1 else 1)
            yield Measurement(self, layout, kind, ready, each, most, limit_s)

    def acts(self, layout: str) -> Iterator[tuple[str, Callable[[], Act], int]]:
        """Yield each kind of event: its name, what readies the next one (uncounted) and returns it, and how many it is."""
        single, deleting = self._bridge(layout), self._bridge(layout, deleted="delete")
        there, new = self.numbers.there, self.numbers.new

        def acting(bridge: InProcessBridge, *before: Event, then: Event) -> Act:
            for one in before:
                bridge.handle(*one)
            return lambda: bridge.handle(*then)

        def inviting() -> Act:
            request = event("invitation.requested", there())

            def act() -> None:
                single.handle(*request)
                single.invite()

            return act

        def redelivered() -> Act:
            known = created(there())
            return acting(single, known, then=known)

        def enabled() -> Act:
            number = there()
            return acting(single, event("disabled", number), then=event("enabled", number))

        yield "created", lambda: acting(single, then=created(new())), 1
        yield "created, redelivered", redelivered, 1
        yield (
            "updated",
            lambda: acting(single, then=event("updated", there(), department="Elsewhere")),
            1,
        )
        yield "disabled", lambda: acting(single, then=event("disabled", there())), 1
        yield "enabled", enabled, 1
        yield "deleted", lambda: acting(deleting, then=event("deleted", there())), 1
        yield "invited", inviting, 1
        if layout != USERNAME and self.numbers.last > _LISTED:
            return

        @cache
        def batches() -> InProcessBridge:
            bridge = self._bridge(layout, burst="auto")
            bridge.begin_backlog()
            time.sleep(0.01)
            bridge.handle(*created(new()))
            while bridge.is_listing():  # which goes on being of use as long as somebody asks for it
                time.sleep(1)
                bridge.handle(*created(new()))
            return bridge

        def batch() -> Act:
            make_people, bridge = [created(new()) for _ in range(50)], batches()
            return lambda: settle([bridge.begin(*one) for one in make_people])

        yield "created, in batches", batch, 50

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU that Keycloak and PostgreSQL have used so far."""
        return usage(self.services.keycloak_pid).cpu_s, family_cpu_s(self.database.pid or 0)

    def _bridge(self, layout: str, burst: str = "off", deleted: str = "disable") -> InProcessBridge:
        known = interpretation(deleted, is_username=layout == USERNAME)
        settings = replace(
            known.settings,
            keycloak=KeycloakSettings(
                url=self.services.keycloak_url,
                realm=self.realm.name,
                client_id=self.realm.client_id,
                client_secret=Secret(self.realm.client_secret),
            ),
            burst=BurstSettings(mode=burst, backlog=1, list_limit=_LISTED),  # type: ignore[arg-type]
        )
        clock = SystemClock()
        return InProcessBridge(settings, known, keycloak_admin(settings, clock), clock)


@dataclass(slots=True)
class Measurement:
    """Events of one kind in one realm, some in each turn: `most`, or as many as take `limit_s` altogether.

    Each act handles `each` events at once.
    """

    bench: Bench
    layout: str
    kind: str
    ready: Callable[[], Act]
    each: int
    most: int
    limit_s: float
    _took_s: list[float] = field(default_factory=list)
    _keycloak_s: float = 0.0
    _database_s: float = 0.0
    _spent_s: float = 0.0

    def is_done(self) -> bool:
        """Tell whether there were enough."""
        events = len(self._took_s) * self.each
        return len(self._took_s) >= _LEAST and (
            events >= self.most or self._spent_s >= self.limit_s
        )

    def take_turn(self) -> None:
        """Handle some: one at a time where they are slow, and where nothing is known of them."""
        begun = time.perf_counter()
        slow = not self._took_s or self._took_s[-1] > self.limit_s / self.most
        acts = [
            self.ready() for _ in range(1 if slow else min(_TURN, self.most // self.each // _LEAST))
        ]
        before = self.bench.cpu_s()
        for act in acts:
            at = time.perf_counter()
            act()
            self._took_s.append(time.perf_counter() - at)
        after = self.bench.cpu_s()
        self._keycloak_s += after[0] - before[0]
        self._database_s += after[1] - before[1]
        self._spent_s += time.perf_counter() - begun

    def measured(self) -> Measured:
        """Return what one event took."""
        count = len(self._took_s) * self.each
        return Measured(
            self.bench.numbers.last,
            self.bench.again,
            self.layout,
            self.kind,
            count,
            1000 * sorted(self._took_s)[len(self._took_s) // 4] / self.each,
            1000 * self._keycloak_s / count,
            1000 * self._database_s / count,
        )


def mapping_text(*, is_username: bool) -> str:
    """Return the mapping of a layout."""
    matching = '["username"]' if is_username else '["attributes.userId", "username", "email"]'
    attribute = "" if is_username else 'userId = "data.userId"'
    return _MAPPING.format(matching=matching, attribute=attribute)


@cache
def interpretation(deleted: str, *, is_username: bool) -> Interpretation:
    """Return schemas and mapping of a run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mapping.toml")
        file.write_text(mapping_text(is_username=is_username), encoding="utf-8")
        found = Interpretation(
            Settings(
                mapping=MappingSettings(file=file),
                lifecycle=LifecycleSettings(deleted=deleted),  # type: ignore[arg-type]
                limits=LimitsSettings(None, None, None, None, None),
                verify=VerifySettings(mode="off"),
            )
        )
        found.check()
    return found


@contextlib.contextmanager
def benches(sizes: Sequence[int], events: int, limit_s: float) -> Iterator[list[Bench]]:
    """Lend a realm of each size, and two of the smallest, each on a server of its own that is warm."""
    wanted = [(min(sizes), False), (min(sizes), True), *((one, False) for one in sizes[1:])]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(sandbox_on_postgres(JAVA_OPTIONS))
        others = [
            stack.enter_context(services_on_postgres(first[0].sandbox, JAVA_OPTIONS))
            for _ in wanted[1:]
        ]

        def bench(services: Services, database: PostgresServer, size: int, *, again: bool) -> Bench:
            warm = bridge_realm(services)
            fill(database, warm.name, 1, _WARM_USERS)
            Bench(services, database, warm, Numbers(0, _WARM_USERS)).warm_up(events, limit_s)
            services.administrator.delete(warm.name, _DELETE_S)  # its users would count in a search
            realm = bridge_realm(services)
            fill(database, realm.name, 1, size)
            return Bench(services, database, realm, Numbers(0, size), again=again)

        say("warming up and filling; some minutes")
        with ThreadPoolExecutor(len(wanted)) as pool:
            begun = [
                pool.submit(bench, *one, size, again=again)
                for one, (size, again) in zip([first, *others], wanted, strict=True)
            ]
        yield [one.result() for one in begun]


def run(realms: Sequence[Bench], events: int, limit_s: float) -> Iterator[Measured]:
    """Yield everything that is measured: each kind of event in all realms in turn."""
    for layout in LAYOUTS:
        kinds: dict[str, list[Measurement]] = {}
        for realm in realms:
            index(realm.database, wanted=layout == INDEXED)
            for one in realm.measurements(layout, events, limit_s):
                kinds.setdefault(one.kind, []).append(one)
        for measurements in kinds.values():
            order = list(measurements)
            while any(not one.is_done() for one in order):
                for one in order:
                    if not one.is_done():
                        one.take_turn()
                order.reverse()
            for one in measurements:
                found = one.measured()
                say(
                    f"{found.users:>9,} {layout:<26} {found.kind:<22} {found.wall_ms:8.1f} ms, Keycloak {found.keycloak_ms:6.1f} ms, "
                    f"PostgreSQL {found.database_ms:8.1f} ms ({found.events})"
                )
                yield found


def bridge_realm(services: Services) -> FreshRealm:
    """Create a realm like the shipped one whose bridge may write batches."""
    name = f"scale-{time.monotonic_ns()}"
    realm = create_realm(services.sandbox, services.administrator, name)
    AdminRealmTools(services.administrator, name).grant(realm.client_id, "manage-realm")
    return realm


def table(found: Sequence[Measured], about: Mapping[str, Any]) -> str:
    """Return the table: for each kind and layout the time in the smallest realm, and how the others compare."""
    sizes = sorted({(one.users, one.again) for one in found})
    heads = "".join(
        f" {'another of ' if again else ''}{size:,}: time | Keycloak's CPU |"
        for size, again in sizes[1:]
    )
    rows = [
        f"| event | layout | {sizes[0][0]:,} users: time | Keycloak's CPU |{heads}",
        "|---|---|---:|---:|" + "---:|---:|" * (len(sizes) - 1),
    ]
    at = {(one.kind, one.layout, (one.users, one.again)): one for one in found}
    for kind in dict.fromkeys(one.kind for one in found):
        for layout in dict.fromkeys(one.layout for one in found):
            least = at.get((kind, layout, sizes[0]))
            if least is None:
                continue
            cells = [f"{least.wall_ms:.1f} ms", f"{least.keycloak_ms:.1f} ms"]
            for size in sizes[1:]:
                one = at.get((kind, layout, size))
                cells += (
                    ["", ""]
                    if one is None
                    else [
                        _times(one.wall_ms, least.wall_ms),
                        _times(one.keycloak_ms, least.keycloak_ms),
                    ]
                )
            rows.append(f"| {kind} | {layout} | " + " | ".join(cells) + " |")
    note = (
        f"{about['cores']} cores ({about['cpu']}), of which other programs used {about['busy_cores']} at the start; Keycloak "
        f"{about['keycloak']} on PostgreSQL. The second realm of the smallest size shows how much of a ratio is chance; one in bold is above {GOAL}."
    )
    return "\n".join(rows) + f"\n\n{note}\n"


def _times(now: float, least: float) -> str:
    ratio = now / least if least else 0.0
    text = f"× {ratio:.2f}" if ratio < 10 else f"× {ratio:.0f}"
    return f"**{text}**" if ratio > GOAL else text


def main() -> int:
    """Measure, print the table, and write it where that is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the table of docs/scaling.md")
    parser.add_argument("--sizes", default=",".join(map(str, _SIZES)), help="users, in order")
    parser.add_argument("--events", type=int, default=200, help="events of each kind")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for each kind")
    chosen = parser.parse_args()
    if not installed():
        say("PostgreSQL's programs are not installed.")
        return 2
    sizes = sorted(map(int, chosen.sizes.split(",")))
    about = {**machine(), "busy_cores": busy_cores()}
    try:
        with benches(sizes, chosen.events, chosen.limit) as realms:
            found = list(run(realms, chosen.events, chosen.limit))
    except SandboxError as error:
        say(str(error))
        return 1
    click.echo(table(found, about))
    if chosen.write:
        renew(PAGE, BEGIN, END, table(found, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
