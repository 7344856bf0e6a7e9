"""Which calls to Keycloak each kind of event costs, counted below `requests`; docs/scaling.md has the table."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from http_realm import HttpRealm
from stage_harness import event_of

from bench.inprocess import InProcessBridge, settle
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.settings.model import (
    BurstSettings,
    LifecycleSettings,
    MappingSettings,
    Settings,
    VerifySettings,
)
from keycloak_bridge.testing.fake_clock import FakeClock

LAYOUTS = {
    "attribute": ('matching = ["attributes.userId", "username", "email"]', "lower(data.email)"),
    "username": ('matching = ["username", "email"]', "data.userId"),
}
"""The name of each layout, its `matching`, and where the username comes from."""

_MAPPING = """
{matching}

[user]
username = "{username}"
email = "lower(data.email)"
firstName = "data.givenName"
lastName = "data.familyName"
enabled = {{ from = "data.active", default = true }}

[user.attributes]
userId = "data.userId"
tenantId = "data.tenantId"

[user.groups]
from = "data.groups"
allow = ["/staff"]

[user.realmRoles]
from = "data.roles"
allow = ["viewer", "editor"]

[user.clientRoles.demo-app]
from = 'data.clientRoles."demo-app"'
allow = ["reader"]

[user.organizations]
from = "data.organizations"
allow = ["acme", "globex"]
"""

Event = dict[str, Any]


class Case(NamedTuple):
    """What is counted: what the calls of `events` are, `later_s` seconds after `before` are done."""

    what: str
    events: Sequence[Event]
    before: Sequence[Event] = ()
    in_backlog: bool = False
    burst: str = "off"
    deleted: str = "disable"
    verify: str = "off"
    on_record: bool = True
    later_s: float = 0.0


class CountedBridge:
    """A bridge over a realm that counts."""

    def __init__(self, layout: str, case: Case) -> None:
        known = _interpretation(layout, case.deleted)
        settings = replace(
            known.settings,
            burst=BurstSettings(mode=case.burst, backlog=1),  # type: ignore[arg-type]
            verify=VerifySettings(mode=case.verify),  # type: ignore[arg-type]
        )
        self.realm = HttpRealm()
        self.clock = FakeClock(datetime(2026, 11, 2, tzinfo=UTC))
        admin = self.realm.admin(self.clock)
        self._bridge = InProcessBridge(settings, known, admin, self.clock)
        self.invite = self._bridge.invite

    def begin_backlog(self) -> None:
        """Let many events wait, and the bridge list the realm and know all that it asks once."""
        self._bridge.begin_backlog()
        self.clock.advance(1.0)
        for number in range(
            2
        ):  # the first has the realm listed, the second reads the terms of imports
            self.handle([event_of(f"first-{number}", f"first-{number}", data=_data(1000 + number))])
            while self._bridge.is_listing():
                time.sleep(0.001)

    def handle(self, events: Sequence[Event]) -> None:
        """Provision these events to their last acknowledgement, those of one batch together."""
        begun = [
            self._bridge.begin(event["subject"].encode(), json.dumps(event).encode())
            for event in events
        ]
        self.clock.advance(0.1)  # a batch that is not full does not wait for more
        settle(begun)


@cache
def _interpretation(layout: str, deleted: str) -> Interpretation:
    matching, username = LAYOUTS[layout]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mapping.toml")
        file.write_text(_MAPPING.format(matching=matching, username=username), encoding="utf-8")
        settings = Settings(
            mapping=MappingSettings(file=file),
            lifecycle=LifecycleSettings(deleted=deleted),  # type: ignore[arg-type]
        )
        built = Interpretation(settings)
        built.check()
    return built


def _data(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"email": f"user-{number}@acme.example", **more}


def _created(number: int = 1, **more: Any) -> Event:
    return event_of(f"u-{number}", f"created-{number}", data=_data(number, **more))


def _later(kind: str, **data: Any) -> Event:
    own = {"userId": "u-1", **data}
    return {
        **event_of("u-1", f"later-{kind}", type=kind, time="2026-11-01T09:00:00Z"),
        "data": own,
    }


_EVERYTHING: dict[str, Any] = {
    "groups": ["/staff"],
    "roles": ["viewer", "editor"],
    "clientRoles": {"demo-app": ["reader"]},
    "organizations": ["acme", "globex"],
}
_INVITE = "invited"
_LATER = "invited, more than a moment after the creation"
_UNRECORDED = "invited, mails not on record"
_MEMBER = _created(**_EVERYTHING)
_SOMEBODY = _created()

CASES = (
    Case("created", [_created()]),
    Case("created, known to be new", [_created()], in_backlog=True),
    Case("… with groups", [_created(groups=["/staff"])], in_backlog=True),
    Case("… with realm roles", [_created(roles=["viewer", "editor"])], in_backlog=True),
    Case(
        "… with roles of a client",
        [_created(clientRoles={"demo-app": ["reader"]})],
        in_backlog=True,
    ),
    Case(
        "… with two organizations",
        [_created(organizations=["acme", "globex"])],
        in_backlog=True,
    ),
    Case("created, and read back (`verify`)", [_created()], verify="always"),
    Case(
        "50 created, in batches",
        [_created(number) for number in range(50)],
        in_backlog=True,
        burst="auto",
    ),
    Case("created, redelivered", [_SOMEBODY], [_SOMEBODY]),
    Case("… with groups, realm roles, roles of a client and organizations", [_MEMBER], [_MEMBER]),
    Case("updated", [_later("user.updated", givenName="Eve")], [_SOMEBODY]),
    Case("updated, to what it is (marks alone)", [_later("user.updated")], [_SOMEBODY]),
    Case("disabled", [_later("user.disabled")], [_SOMEBODY]),
    Case("enabled", [_later("user.enabled")], [_SOMEBODY, _later("user.disabled")]),
    Case("deleted (disables)", [_later("user.deleted")], [_SOMEBODY]),
    Case("deleted (deletes)", [_later("user.deleted")], [_SOMEBODY], deleted="delete"),
    Case(_INVITE, [], [_SOMEBODY]),
    Case(_LATER, [], [_SOMEBODY], later_s=30.0),
    Case(_UNRECORDED, [], [_SOMEBODY], on_record=False),
)


def counted(layout: str, case: Case) -> list[str]:
    """Return the calls that the events of `case` cost, in their order, with everything that is asked once known."""
    bridge = CountedBridge(layout, case)
    bridge.realm.records_mails = case.on_record
    bridge.handle([event_of("warm", "warm", data=_data(0, **_EVERYTHING))])
    bridge.invite()
    if case.in_backlog:
        bridge.begin_backlog()
    bridge.handle(case.before[:1])
    invites = case.what in (_INVITE, _LATER, _UNRECORDED)
    if case.before and not invites:
        bridge.invite()  # while its mail is on its way, a user is looked at twice
        bridge.handle(case.before[1:])
    bridge.clock.advance(case.later_s)
    del bridge.realm.calls[:]
    if invites:
        bridge.invite()
    bridge.handle(case.events)
    return list(bridge.realm.calls)


def calls_table() -> str:
    """Return the table for docs/scaling.md."""
    rows = ["| event | layout | calls | which |", "|---|---|---:|---|"]
    for case in CASES:
        for layout in LAYOUTS:
            calls = counted(layout, case)
            times = Counter(calls)
            which = ", ".join(
                f"`{call}`" if times[call] == 1 else f"{times[call]} × `{call}`" for call in times
            )
            rows.append(f"| {case.what} | {layout} | {len(calls)} | {which} |")
    return "\n".join(rows)
