"""A page with a day's life on it, served as the bridge serves it, for a real browser: no Kafka and no Keycloak behind it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from page_harness import PageHarness

from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.ops.health import HealthServer
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.ops.stage_reports import StageReport
from keycloak_bridge.outcome_log.log import EVERYTHING
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.ui.access import PageAccess
from keycloak_bridge.ui.page import UserView

NOW = datetime(2026, 11, 27, 16, 20, tzinfo=UTC)
_CODES = ("schema-violation", "schema-violation", "parked", "role-not-allowed")


class _Clock(FakeClock):
    """Stands still in the afternoon, while monotonic seconds pass."""

    def monotonic(self) -> float:
        return time.monotonic()


class Scene(PageHarness):
    """Two stages that work, a morning's burst of users, mails behind it, a few dead letters."""

    def __init__(self, token: str | None = None) -> None:
        super().__init__()
        self.clock = _Clock(NOW)
        read: Callable[[], str] | None = None if token is None else (lambda: token)
        self.page = replace(self.page, title="acme", clock=self.clock, access=PageAccess(read))
        self._stages_at_work()
        for number in range(400):
            self._life_of(number)
        for number, code in enumerate(_CODES):
            time = NOW - timedelta(hours=3, minutes=number)
            self.letters._open[bytes([number])] = (code, time, f"u-{number * 25:05}")
        self.users["u-00042"] = self._timeline()

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Serve the page on a free port of the loopback address; provide its address."""
        server = HealthServer(
            self.status,
            self.clock,
            host="127.0.0.1",
            port=0,
            metrics=Metrics(),
            release=list,
            routes=self.page.routes(),
        )
        server.start()
        try:
            yield f"http://127.0.0.1:{server.port}/"
        finally:
            server.close()

    def _stages_at_work(self) -> None:
        mails = Limits(Brake(20, 50, 200), {LimitedAction.MAIL: Limit(2000, 3600.0)})
        self.stages.append(("invite", mails))
        now_s = time.monotonic()
        for number in range(1400):
            mails.admit((LimitedAction.MAIL,), f"u-{number}", now_s)
        for number in range(3):
            self.limits.admit((LimitedAction.DISABLE,), f"u-{number}", now_s)
        for name, done, lag in (("provision", 2600, 0), ("invite", 830, 412)):
            for second in range(61):
                report = StageReport(
                    in_hand=lag and 100,
                    running=lag and 4,
                    paused=False,
                    oldest_s=31.0 if lag else 0.0,
                    breaker="closed",
                    brake=None,
                    done=done * second // 60,
                    lag={0: lag, 1: 0},
                )
                self.status.reports.put(name, report, now_s - 60 + second)

    def _life_of(self, number: int) -> None:
        """Add what became of one user: written, invited a while later, or refused."""
        written = NOW - timedelta(minutes=15 + (number * number) % 640)
        one = PastOutcome(
            written,
            "provisioned",
            "created",
            event_id=f"evt-{number:05}",
            event_type="user.created",
            schema_id="urn:keycloak-bridge:schema:user.created:1.1",
            user_id=f"u-{number:05}",
            changed=("username", "email", "attributes.locale"),
            mapping="3f1c5b0e9a72",
            origin=f"user-events/{number % 8}@{number}",
            id=f"evt-{number:05}/provisioned",
        )
        if number % 25 == 0:
            code = _CODES[number // 25 % len(_CODES)]
            self.outcomes.add(
                replace(
                    one, outcome="rejected", action=None, reason=code, changed=(), id=f"{number}"
                )
            )
            return
        self.outcomes.add(one)
        mailed = written + timedelta(minutes=number % 30)
        if mailed < NOW:
            invited = replace(one, time=mailed, outcome="invited", action=None, changed=())
            self.outcomes.add(replace(invited, id=f"evt-{number:05}/invited"))
            if number % 3 == 0:
                later = replace(invited, time=min(NOW, mailed + timedelta(minutes=9)))
                self.outcomes.add(replace(later, outcome="activated", id=f"{number}/activated"))

    def _timeline(self) -> UserView:
        every = self.outcomes.find(EVERYTHING, 10_000).outcomes
        mine = [one for one in every if one.user_id == "u-00042"]
        return UserView(
            (
                ("User id", "u-00042"),
                ("Keycloak id", "0a7b2c3d-1111-4222-8333-444455556666"),
                ("Enabled", "yes"),
                ("Last event", "evt-00042 of 2026-11-27 08:00:59 UTC"),
                ("Invitation", "the mail was handed to Keycloak, caused by evt-00042"),
                ("Credentials", "yes"),
                ("Required actions", "none"),
                ("Open dead letters", "0"),
            ),
            mine,
            dict.fromkeys(("username", "email", "attributes.locale"), mine[-1]),
        )
