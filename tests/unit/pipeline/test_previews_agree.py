"""A preview and `run` agree about every record: the same outcome, the same error, the same operations."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from records import own_envelope
from stage_harness import Flow, event_of, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.events import USER_EVENTS, Record
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.messages.dead_letters import NO_INVITE, REPLAY_INVITE, REPLAY_OF, is_replay
from keycloak_bridge.messages.results import action_of
from keycloak_bridge.pipeline.preview import Preview, PreviewOutcome, preview
from keycloak_bridge.settings.model import (
    EventsSettings,
    LifecycleSettings,
    MappingSettings,
    Settings,
)

SCOPED = "scope.toml"
"""A mapping that is not for everyone."""

BRIDGES = {
    "shipped": Settings(),
    "deletes": Settings(
        lifecycle=LifecycleSettings(deleted="delete", unknown_user="create"),
        events=EventsSettings(tombstones="delete"),
    ),
    "anonymises": Settings(
        lifecycle=LifecycleSettings(deleted="anonymise", email_change="verify"),
        events=EventsSettings(tombstones="dead-letter"),
    ),
    "ignores types": Settings(events=EventsSettings(ignore_types=("user.updated", "order.placed"))),
    "takes any key and subject": Settings(
        events=EventsSettings(match_key=False, match_subject=False, tombstones="delete")
    ),
    "scoped": Settings(mapping=MappingSettings(file=Path(SCOPED))),
    "custom envelope": Settings(envelope=own_envelope()),
}

TAKEN: UserRepresentation = {
    "username": "planted.mail@acme.example",
    "email": "planted.mail@acme.example",
    "enabled": True,
}
REALMS = ("empty", "has the user", "has the user switched off", "username taken")

DATA: dict[str, Any] = {
    "nothing": {},
    "complete": {"complete": True},
    "another department": {"department": "Sales"},
    "another address": {"email": "new.mail@acme.example"},
    "a phone number cleared": {"phoneNumber": None},
    "a role": {"roles": ["viewer"]},
    "a role that is not allowed": {"roles": ["root"]},
    "a group": {"groups": ["/staff"]},
    "a group that the realm lacks": {"groups": ["/customers"]},
    "switched off": {"active": False},
    "no address": {"email": "nowhere"},
    "no user": {"userId": ...},
}
HEADERS: dict[str, tuple[tuple[str, bytes | None], ...]] = {
    "none": (),
    "replayed without invitation": ((REPLAY_OF, b"0/7"), (REPLAY_INVITE, NO_INVITE)),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A bridge, what its realm holds, and the record that arrives."""

    bridge: str
    realm: str
    record: Record


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw an event of any type, with any data, or a record that is no event."""
    changes = draw(st.lists(st.sampled_from(sorted(DATA)), max_size=2, unique=True))
    event = event_of(
        event_id=draw(st.sampled_from(["event-1", "event-2"])),
        type=draw(st.sampled_from([*USER_EVENTS, "user.renamed", "order.placed"])),
        subject=draw(st.sampled_from(["u-1", "u-2", ...])),
        time=draw(st.sampled_from(["2026-10-01T08:00:00Z", "2026-11-02T08:00:00Z", ...])),
        data={name: value for change in changes for name, value in DATA[change].items()},
    )
    tombstone_or_no_json = st.sampled_from([None, b"{oops", b"[1]"])
    value = draw(st.just(event) | st.just(event) | st.just(event) | tombstone_or_no_json)
    key = draw(st.sampled_from([None, None, b"u-1", b'"u-1"', b"u-2", b"\xff", b""]))
    record = record_of(value, key=key, headers=HEADERS[draw(st.sampled_from(sorted(HEADERS)))])
    return Scene(draw(st.sampled_from(sorted(BRIDGES))), draw(st.sampled_from(REALMS)), record)


@pytest.fixture(scope="module")
def bridges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Interpretation]:
    """Every bridge with its schemas, envelope and mapping read once."""
    scoped = tmp_path_factory.mktemp("mappings") / SCOPED
    shipped = (Path(__file__).parents[3] / "keycloak_bridge" / "default_mapping.toml").read_text()
    scoped.write_text("when = \"data.department != 'Sales'\"\n" + shipped)
    return {
        name: Interpretation(replace(one, mapping=replace(one.mapping, file=scoped)))
        if one.mapping.file
        else Interpretation(one)
        for name, one in BRIDGES.items()
    }


def flow_of(scene: Scene, known: Interpretation, applied: list[object]) -> Flow:
    """Return the flow of this bridge over this realm; what is written from then on goes to `applied`."""
    flow = Flow(
        known=known,
        ignored_types=known.settings.events.ignore_types,
        tombstones=known.settings.events.tombstones,
        trace=lambda step, detail: applied.append(detail) if step == "done" else None,
    )
    if scene.realm == "username taken":
        flow.keycloak.add_user(TAKEN)
    elif scene.realm != "empty":
        flow.handle(event_of())
    if scene.realm == "has the user switched off":
        flow.handle(event_of(event_id="event-0", type="user.disabled"))
    if is_replay(scene.record):
        flow.confirm(scene.record)
    applied.clear()
    return flow


UNKNOWN_UPDATE = record_of(event_of(type="user.updated"))
MISSING_GROUP = record_of(event_of(data={"groups": ["/customers"]}))


@example(scene=Scene("shipped", "username taken", UNKNOWN_UPDATE))
@example(scene=Scene("shipped", "username taken", MISSING_GROUP))
@given(scene=scenes())
@settings(deadline=None, max_examples=400)
def test_a_preview_and_run_agree(bridges: dict[str, Interpretation], scene: Scene) -> None:
    """What is previewed is what `run` then does; and the preview itself writes nothing."""
    known = bridges[scene.bridge]
    applied: list[object] = []
    flow = flow_of(scene, known, applied)
    before = (flow.keycloak.users(), len(flow.results), len(flow.letters), len(flow.invitations))

    seen = preview(partial(known.interpreter.interpret, scene.record), flow.provisioner)

    after = (flow.keycloak.users(), len(flow.results), len(flow.letters), len(flow.invitations))
    assert before == after

    with flow.keycloak.usernames_editable():
        flow.settle(flow.provision.handle(scene.record))

    results = flow.results[before[1] :]
    assert expected_result(seen) == [
        {name: one[name] for name in ("outcome", "action", "reason") if name in one}
        for one in results
    ]
    assert ([] if seen.error is None else [seen.error.code]) == [
        reason["code"] for _, reason in flow.letters[before[2] :]
    ]
    assert list(seen.plan.operations if seen.plan else ()) == applied
    if seen.found is not None:
        assert seen.found.user_id == results[0]["keycloakId"]


def expected_result(seen: Preview) -> list[dict[str, Any]]:
    """Return the result that `run` publishes for what was previewed; an ignored type has none."""
    if seen.outcome is PreviewOutcome.IGNORED and seen.reason == "events.ignore_types":
        return []
    if seen.outcome is PreviewOutcome.REFUSED:
        return [{"outcome": "rejected", "reason": seen.reason}]
    if seen.outcome in (PreviewOutcome.IGNORED, PreviewOutcome.SKIP):
        return [{"outcome": "skipped", "reason": seen.reason}]
    assert seen.plan is not None
    return [{"outcome": "provisioned", "action": action_of(seen.plan)}]


def test_without_keycloak_an_event_is_accepted() -> None:
    """A preview that may not ask stops after the mapping."""
    known = Interpretation(Settings())

    seen = preview(partial(known.interpreter.interpret, record_of(json.dumps(event_of()).encode())))

    assert (PreviewOutcome.ACCEPTED, None, None) == (seen.outcome, seen.plan, seen.error)
