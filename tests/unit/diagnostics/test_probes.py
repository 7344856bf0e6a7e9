"""The doctor: probes run one after the other, and all of them come from the settings."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from keycloak_script import scripted_admin
from otlp_collector import KeptSpans
from registry_stub import URL, Given, StubRegistry
from stub_adapter import StubAdapter

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.diagnostics import doctor as module
from keycloak_bridge.diagnostics.doctor import (
    check_up,
    content_probes,
    realm_setup,
    registry_probe,
    tracing_probe,
)
from keycloak_bridge.diagnostics.keycloak_probes import RealmSetup
from keycloak_bridge.diagnostics.probes import (
    Light,
    Probe,
    ProbeResult,
    examine,
    green,
    red,
    yellow,
)
from keycloak_bridge.domain.errors import (
    BrokerUnavailableError,
    KeycloakUnavailableError,
    RegistryUnavailableError,
)
from keycloak_bridge.registry.client import basic
from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.settings.model import Settings, TracingSettings

WELL = green("well")
MAPPING = """
matching = ["attributes.userId"]
[user]
username = "data.userId"
[user.attributes]
userId = "data.userId"
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finding(*results: ProbeResult) -> Callable[[], Iterable[ProbeResult]]:
    """Return a check with these results."""
    return lambda: results


def setup_of(*overrides: str) -> RealmSetup:
    """Return the realm of these settings, over a Keycloak that answers nothing."""
    settings = read_settings(None, environ={}, overrides=overrides).settings
    return realm_setup(Interpretation(settings), scripted_admin(StubAdapter()))


def lights(*overrides: str) -> dict[str, list[Light]]:
    """Return the lights of each probe that needs no network under these settings."""
    loaded = read_settings(None, environ={}, overrides=overrides)
    found: dict[str, list[Light]] = {}
    for result in examine(content_probes(loaded, Interpretation(loaded.settings))):
        found.setdefault(result.probe, []).append(result.light)
    return found


def test_a_probe_that_needs_something_red_is_skipped() -> None:
    """So is one that needs a skipped one; both name the first cause. Yellow skips nothing."""
    results = list(
        examine(
            [
                Probe("a", finding(red("x", "y"))),
                Probe("b", finding(WELL), needs=("a",)),
                Probe("c", finding(WELL), needs=("b",)),
                Probe("d", finding(yellow("x", "y"))),
                Probe("e", finding(WELL), needs=("d", "unknown")),
            ]
        )
    )

    assert ["not checked: a is red"] * 2 == [one.message for one in results[1:3]]
    assert [Light.GRAY, Light.GRAY, Light.YELLOW, Light.GREEN] == [one.light for one in results[1:]]


def test_a_probe_that_fails_is_red() -> None:
    """A BridgeError shows its message, a bug its type and never its text; earlier results are kept."""

    def unavailable() -> Iterator[ProbeResult]:
        yield WELL
        raise KeycloakUnavailableError("no answer", remedy="wait")

    def broken() -> Iterator[ProbeResult]:
        yield WELL
        raise RuntimeError("planted-secret")

    probes = [Probe("a", unavailable), Probe("b", broken), Probe("c", finding(WELL))]
    seen = [replace(one, probe="") for one in examine(probes)]

    assert [WELL, red("no answer", "wait"), WELL] == seen[:3]
    assert (Light.RED, True, False) == (
        seen[3].light,
        "RuntimeError" in seen[3].message,
        "planted-secret" in seen[3].message,
    )
    assert WELL == seen[4]


def test_without_settings_the_rest_is_still_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing realm is red with its remedy, and Kafka is still probed."""

    def unreachable(_: object) -> object:
        raise BrokerUnavailableError("no broker", remedy="start one")

    monkeypatch.setattr(module, "KafkaAdmin", unreachable)
    found = {one.probe: one for one in check_up(read_settings(None, environ={}))}
    kafka, keycloak = found["kafka.connection"], found["keycloak.connection"]

    assert Light.GREEN is found["mapping"].light
    assert (Light.RED, "start one") == (kafka.light, kafka.remedy)
    assert (Light.RED, "keycloak.realm is not set") == (keycloak.light, keycloak.message)


def test_the_realm_of_the_settings() -> None:
    """What the probes need comes from settings and mapping; nobody asks for events where no mail is sent."""
    setup = setup_of("keycloak.realm=acme", "invite.mode=none", "burst.mode=off")

    assert ("acme", False) == (setup.name, setup.invites)
    assert "userId" in setup.attributes()
    assert "http" in setup.url
    assert {"manage-users", "view-realm"} == setup.used_roles()
    assert () == setup.watched_events


@pytest.mark.parametrize(
    ("types", "light", "message"),
    [
        ((200, ["JSON", "AVRO"]), Light.GREEN, f"{URL}: JSON, AVRO"),
        ((200, ["AVRO"]), Light.RED, "has no JSON Schema"),
        ((401, ""), Light.RED, "refuses the bridge (GET /schemas/types: 401)"),
        ((200, "<html>"), Light.RED, "is not a schema registry's"),
    ],
)
def test_a_registry(types: Given, light: Light, message: str) -> None:
    """Reached with the credentials of the settings, which nothing prints."""
    Path("token").write_text("s3cret\n")
    overrides = (f"registry.url={URL}", "registry.token_file=token")
    known = Interpretation(read_settings(None, environ={}, overrides=overrides).settings)
    stub = StubRegistry({"/schemas/types": types})
    assert known.registry is not None
    known.registry._session.mount("http://", stub)

    (found,) = examine(registry_probe(known))

    assert light is found.light
    assert message in found.message
    assert ["Bearer s3cret"] == stub.authorizations
    assert "s3cret" not in f"{found}"


def test_without_a_registry_there_is_nothing_to_check() -> None:
    """Most have none."""
    assert not registry_probe(Interpretation(read_settings(None, environ={}).settings))


@pytest.mark.parametrize(("answers", "light"), [(True, Light.GREEN), (False, Light.YELLOW)])
def test_a_collector(monkeypatch: pytest.MonkeyPatch, answers: bool, light: Light) -> None:
    """Traces that nobody takes are no reason to stop; without tracing there is nothing to check."""
    spans = KeptSpans()
    monkeypatch.setattr(spans.tracer, "reaches_collector", lambda: answers)
    monkeypatch.setattr(module, "open_tracer", lambda: spans.tracer)

    (found,) = examine(tracing_probe(Settings(tracing=TracingSettings(enabled=True))))

    assert light is found.light
    assert not tracing_probe(Settings())


def test_tracing_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "keycloak_bridge.ops.otel", None)
    (found,) = examine(tracing_probe(Settings(tracing=TracingSettings(enabled=True))))
    assert (Light.RED, True) == (found.light, "keycloak-bridge[otel]" in str(found.remedy))


def test_a_registry_is_asked_with_user_and_password() -> None:
    """The password is read at each request."""
    Path("password").write_text("first")
    overrides = (f"registry.url={URL}", "registry.username=ada", "registry.password_file=password")
    known = Interpretation(read_settings(None, environ={}, overrides=overrides).settings)
    stub = StubRegistry()
    assert known.registry is not None
    known.registry._session.mount("http://", stub)
    known.registry.types()
    Path("password").write_text("second")
    known.registry.types()
    Path("password").unlink()

    assert [basic("ada", "first"), basic("ada", "second")] == stub.authorizations
    with pytest.raises(RegistryUnavailableError, match="cannot be read"):
        known.registry.types()


def test_broken_schemas() -> None:
    """The mapping cannot be checked without them."""
    Path("own/x").mkdir(parents=True)
    Path("own/x/1.0.json").write_text("{")
    found = lights("schemas.folders=own")

    assert ([Light.RED], [Light.GRAY]) == (found["schemas"], found["mapping"])


@pytest.mark.parametrize(
    "rules",
    [
        '[user.groups]\nfrom = "data.groups"\n',
        '[user.clientRoles.realm-management]\nfrom = "data.roles"\nallow = ["realm-admin"]\n',
    ],
)
def test_a_mapping_that_gives_too_much(rules: str) -> None:
    """Every group, or the role of an administrator: it works, with a risk."""
    Path("m.toml").write_text(MAPPING + rules)

    assert [Light.GREEN, Light.YELLOW] == lights("mapping.file=m.toml")["mapping"]
