"""Damaged records by the hundred thousand, from their bytes to the user in Keycloak.

`FUZZ_SEED` and the number of a case bring it back: both are in the message of a failure.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzing import fuzzed_record, seed_of
from records import own_envelope
from stage_harness import Flow

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.backfill.files import LineDecoder
from keycloak_bridge.delivery.guards import Brake
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.event_files.csv_rows import Line
from keycloak_bridge.event_files.file_records import FileInterpreter
from keycloak_bridge.messages.dead_letters import read_dead_letter, replay_message
from keycloak_bridge.messages.results import read_outcome
from keycloak_bridge.pipeline.preview import preview
from keycloak_bridge.settings.model import (
    EnvelopeSettings,
    EventsSettings,
    LifecycleSettings,
    MappingSettings,
    Settings,
)
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

SLOWEST_S = 1.0
"""CPU seconds that one record may take, in the long run."""

RECORDS_OF_A_FLOW = 100
OPEN = """matching = ["attributes.userId", "username", "email"]
when = "data.department != 'Sales'"
[user]
username = "replace(lower(data.username || data.email), ' ', '.')"
email = "lower(data.email)"
firstName = "normalize_diacritics(data.givenName)"
lastName = "trim(data.familyName)"
enabled = { from = "data.active", default = true }
[user.attributes]
userId = "data.userId"
department = { from = "upper(data.department)", removal = "managed" }
costs = "data.attributes.costCenter"
all = "split(join(',', data.roles || `[]`), ',')"
[user.groups]
from = "data.groups"
missing = "create"
[user.realmRoles]
from = "data.roles"
allow = ["viewer", "editor"]
otherwise = "ignore"
removal = "managed"
[user.federatedIdentities.corporate]
userId = "data.federatedIdentities[?provider == 'corporate'].userId | [0]"
"""
OWN = own_envelope(type="body.type || headers.kind", subject="body.subject || key")


def bridges(folder: Path) -> list[Interpretation]:
    """Return bridges of different settings."""
    mapping = folder / "open.toml"
    mapping.write_text(OPEN)
    everything = LifecycleSettings(deleted="delete", unknown_user="create")
    careful = LifecycleSettings(deleted="anonymise", email_change="verify")
    found = [
        Interpretation(Settings()),
        Interpretation(
            Settings(
                lifecycle=everything,
                events=EventsSettings(
                    tombstones="delete",
                    match_key=False,
                    match_subject=False,
                    ignore_types=("order.placed",),
                ),
                mapping=MappingSettings(file=mapping),
            )
        ),
        Interpretation(
            Settings(
                envelope=OWN,
                lifecycle=careful,
                events=EventsSettings(tombstones="dead-letter", ignore_types=("order.placed",)),
            )
        ),
        Interpretation(
            Settings(
                envelope=EnvelopeSettings(key="key.id || key"),
                events=EventsSettings(tombstones="delete"),
                mapping=MappingSettings(file=mapping),
            )
        ),
    ]
    for one in found:
        one.check()
    return found


def flow_of(known: Interpretation, after_dead_letter: str) -> Flow:
    """Return a bridge over a realm of its own, whose brake never engages."""
    events = known.settings.events
    return Flow(
        known=known,
        ignored_types=events.ignore_types,
        tombstones=events.tombstones,
        after_dead_letter=after_dead_letter,
        keycloak=InMemoryKeycloak(
            groups=["/staff", "/staff/engineering", "/customers"], realm_roles=["viewer", "editor"]
        ),
        brake=Brake(0, 0, 200),
    )


def read_elsewhere(flow: Flow, known: Interpretation, record: Record) -> None:
    """Have the record read by all others that read records: anybody may publish to any topic, and files hold anything."""
    letter = read_dead_letter(record, known.rules)
    if letter is not None:
        replay_message(letter, record, no_invite=True)
    read_outcome(record)
    flow.settle(flow.invite.handle(record))
    decoder = LineDecoder(known, "user.created", [datetime(2026, 11, 6, tzinfo=UTC)], [None], {})
    line = decoder.record(Line(0, 1, record.value or b""), record.offset)
    preview(partial(FileInterpreter.of(known.interpreter).interpret, line), flow.provisioner)


def outcome_of(flow: Flow, known: Interpretation, record: Record) -> str:
    """Take a record all the way; return what became of it."""
    flow.provision.ordering_key(record)
    try:
        seen = preview(partial(known.interpreter.interpret, record), flow.provisioner)
        flow.settle(flow.provision.handle(record))
        read_elsewhere(flow, known, record)
    except BridgeError as error:
        return f"raised {error.code}"
    return seen.outcome.value if seen.error is None else seen.error.code


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(100_000, marks=pytest.mark.full)], ids=["some", "all"]
)
def test_no_record_stops_the_bridge(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every record has an outcome, and none takes long; nothing but a BridgeError is ever raised."""
    everything = count > 1_000
    seed = seed_of(everything=everything)
    known = bridges(tmp_path)
    flows: dict[int, Flow] = {}
    outcomes: Counter[str] = Counter()
    slowest: tuple[float, int] = (0.0, -1)
    failed: list[Any] = []
    for index in range(count):
        random = Random(f"{seed}/{index}")  # noqa: S311
        which = random.randrange(len(known))
        if index % RECORDS_OF_A_FLOW < len(known):
            way = random.choice(("park", "continue"))
            flows[index % RECORDS_OF_A_FLOW] = flow_of(known[index % RECORDS_OF_A_FLOW], way)
            which = index % RECORDS_OF_A_FLOW
        record = fuzzed_record(random, index)
        began = time.thread_time()
        try:
            outcomes[outcome_of(flows[which], known[which], record)] += 1
        except Exception as error:  # noqa: BLE001 # all of them are wanted
            failed.append((index, which, repr(error)[:300], record))
        slowest = max(slowest, (time.thread_time() - began, index))
    if everything:
        with capsys.disabled():
            print(f"\nFUZZ_SEED={seed}: slowest {slowest}, {dict(outcomes)}")

    assert [] == failed[:5], f"FUZZ_SEED={seed}, {len(failed)} of {count}"
    assert {"create", "update", "ignored", "not-json", "schema-violation"} <= outcomes.keys()
    if everything:
        assert slowest[0] < SLOWEST_S, f"FUZZ_SEED={seed}, record {slowest[1]}"
