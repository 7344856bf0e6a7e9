"""The trace of an event, from its producer to the mail, as a collector gets it."""

import pytest
from bridge_harness import Bench, an_event
from otlp_collector import PARENT, TRACE, TRACEPARENT, collector

pytestmark = pytest.mark.integration


def test_an_event_its_calls_and_its_mail_are_one_trace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call to Keycloak is below the record that it is made for; nothing of the user is in any of it."""
    user_id = f"zoe-{bench.suffix}"
    event = an_event(user_id, email=f"planted-{user_id}@acme.example", givenName="Plantedname")
    bench.publish({**event, "traceparent": TRACEPARENT})
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        bench.settings["KEYCLOAK_BRIDGE_TRACING_ENABLED"] = "true"
        bench.settings["KEYCLOAK_BRIDGE_TRACING_PRODUCER"] = "parent"
        log = bench.catch_up()

    spans = {one.span_id: one for one in taken.spans}
    assert {TRACE} == {one.trace_id for one in taken.spans}
    by_name = {one.name: one for one in taken.spans}
    users = f"/admin/realms/{bench.realm.name}/users"
    events, invitations = bench.topic("events"), bench.topic("invitations")
    assert {
        f"process {events}": PARENT,
        f"POST {users}": by_name[f"process {events}"].span_id,
        f"send {invitations}": by_name[f"process {events}"].span_id,
        f"process {invitations}": by_name[f"send {invitations}"].span_id,
        f"PUT {users}/{{id}}/execute-actions-email": by_name[f"process {invitations}"].span_id,
    }.items() <= {name: one.parent_id for name, one in by_name.items()}.items()
    assert {one.parent_id for one in taken.spans} <= {PARENT, *spans}
    created = by_name[f"POST {users}"].attributes
    assert (201, "POST") == (
        created["http.response.status_code"],
        created["http.request.method"],
    )
    processed = [one for name, one in by_name.items() if name.startswith("process ")]
    assert ["invited", "provisioned"] == sorted(
        one.attributes["keycloak_bridge.outcome"] for one in processed
    )
    told = f"{taken.spans} {taken.resources}"
    assert not [word for word in ("planted", "Planted", "Lovelace") if word in told]
    assert 2 == log.count(TRACE)
