"""Scenario 3: Keycloak stands still, dies, refuses, breaks connections, crawls, and takes rights away."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_proxy import PASS, Fault, Rule, always
from report import record
from scene import Scene, Size
from verdict import judge

from keycloak_bridge.testing.realm_tools import FreshRealm

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_SLOW_S = 2.0
_BEFORE = 20


def _run(
    scene: Scene,
    fault: Callable[[], Iterator[None]],
    scenario: str,
    *,
    keycloak_died: bool = False,
) -> None:
    """Publish before, while and after the fault; all must be done once in the end."""
    portions = scene.population.portions(3)
    scene.bridges.start()
    first = next(portions)
    scene.publish(first)
    scene.wait_for_done(min(_BEFORE, len(first) // 2))
    with scene.fault(), contextmanager(fault)():
        scene.publish(next(portions))
    scene.publish(next(portions))
    scene.wait_for_everything()
    scene.bridges.all_leave()
    record(scenario, judge(scene, keycloak_died=keycloak_died))


@pytest.mark.full
@pytest.mark.both_ways
def test_keycloak_stands_still(open_scene: Callable[..., Scene], size: Size) -> None:
    """SIGSTOP for longer than a call may take: what Keycloak does with old calls afterwards doubles nothing."""
    scene = open_scene(KEYCLOAK_READ_TIMEOUT="5 s")
    keycloak = scene.bench.sandbox.keycloak

    def frozen() -> Iterator[None]:
        keycloak.pause()
        try:
            yield
            time.sleep(size.outage_s)
        finally:
            keycloak.resume()

    _run(scene, frozen, f"3 Keycloak SIGSTOPped {size.outage_s:g} s")


@pytest.mark.full
@pytest.mark.both_ways
def test_keycloak_is_killed_and_restarted(scene: Scene) -> None:
    """SIGKILL in the middle of writes and mails, and a new start; only a mail that it could not record may go twice."""
    keycloak = scene.bench.sandbox.keycloak

    def killed() -> Iterator[None]:
        keycloak.kill()
        try:
            yield
        finally:
            keycloak.start()

    _run(scene, killed, "3 Keycloak killed and restarted", keycloak_died=True)


@pytest.mark.parametrize("name", ["503", pytest.param("slow", marks=pytest.mark.full)])
def test_keycloak_answers_badly(proxied: Scene, size: Size, name: str) -> None:
    """A gateway that refuses, a server that crawls."""
    rules = {
        "503": always(Fault(status=503, retry_after_s=1)),
        "slow": always(Fault(delay_s=_SLOW_S)),
    }
    _run_failing(proxied, size, name, rules[name])


@pytest.mark.full
@pytest.mark.both_ways
@pytest.mark.parametrize("name", ["500", "connections reset"])
def test_keycloak_fails_now_and_then(proxied: Scene, size: Size, name: str) -> None:
    """A server that fails calls, a network that breaks before or after them."""
    rules = {"500": failing_at_times(proxied.seed), "connections reset": resetting(proxied.seed)}
    _run_failing(proxied, size, name, rules[name])


def _run_failing(scene: Scene, size: Size, name: str, rule: Rule) -> None:
    def failing() -> Iterator[None]:
        with scene.proxy.failing(rule):
            yield
            time.sleep(size.outage_s)

    _run(scene, failing, f"3 Keycloak: {name} for {size.outage_s:g} s")


def failing_at_times(seed: int) -> Rule:
    """Return a rule that answers a third of all calls by a bare 500, as Keycloak does for one bad user of a batch."""
    chance, lock = random.Random(seed), threading.Lock()  # noqa: S311 # no secret

    def rule(method: str, path: str) -> Fault:
        with lock:
            return Fault(status=500) if chance.random() < 1 / 3 else PASS

    return rule


def resetting(seed: int) -> Rule:
    """Return a rule that resets a third of all connections, half of them only after Keycloak has done its work."""
    chance, lock = random.Random(seed), threading.Lock()  # noqa: S311 # no secret

    def rule(method: str, path: str) -> Fault:
        with lock:
            drawn = chance.random()
        if drawn < 1 / 6:
            return Fault(reset_before=True)
        return Fault(reset_after=True) if drawn < 1 / 3 else PASS

    return rule


@pytest.mark.full
def test_the_secret_is_rotated(
    open_scene: Callable[..., Scene], fresh_realm: FreshRealm, tmp_path: Path, size: Size
) -> None:
    """Keycloak has a new secret and takes no old token; the bridge goes on when its file has it too."""
    file = tmp_path / "secret"
    file.write_text(fresh_realm.client_secret)
    scene = open_scene(KEYCLOAK_CLIENT_SECRET="", KEYCLOAK_CLIENT_SECRET_FILE=str(file))
    path = f"/clients/{_client(scene)['id']}"

    def rotated() -> Iterator[None]:
        new = scene.bench.admin("POST", f"{path}/client-secret")["value"]
        _end_tokens(scene)
        yield
        time.sleep(size.outage_s)
        file.write_text(new)

    _run(scene, rotated, "3 the client's secret rotated")


@pytest.mark.full
def test_the_role_is_taken_away(scene: Scene, size: Size) -> None:
    """Without manage-users everything waits; with it again the work goes on, old token or not."""
    client, role = _manage_users(scene)

    def taken_away() -> Iterator[None]:
        scene.bench.admin("DELETE", client, json=[role])
        yield
        time.sleep(size.outage_s)
        scene.bench.admin("POST", client, json=[role])

    _run(scene, taken_away, "3 the role manage-users taken away")


def _client(scene: Scene) -> dict[str, object]:
    (client,) = scene.bench.admin(
        "GET", "/clients", params={"clientId": scene.bench.realm.client_id}
    )
    found: dict[str, object] = client
    return found


def _end_tokens(scene: Scene) -> None:
    """Have Keycloak refuse the tokens of the bridge's client that are out."""
    client = _client(scene)
    body = {**client, "notBefore": int(time.time()) + 1}
    scene.bench.admin("PUT", f"/clients/{client['id']}", json=body)


def _manage_users(scene: Scene) -> tuple[str, dict[str, object]]:
    """Return the path of the bridge's roles, and the one that lets it write."""
    account = scene.bench.admin("GET", f"/clients/{_client(scene)['id']}/service-account-user")
    (management,) = scene.bench.admin("GET", "/clients", params={"clientId": "realm-management"})
    role = scene.bench.admin("GET", f"/clients/{management['id']}/roles/manage-users")
    return f"/users/{account['id']}/role-mappings/clients/{management['id']}", role
