import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from bridge_harness import processes_under, wait_until

from keycloak_bridge.sandbox.detached import start_time

pytestmark = pytest.mark.integration

DEMO = (sys.executable, "-m", "keycloak_bridge", "demo")
TIMEOUT_S = 600


def environment(tmp_path: Path) -> dict[str, str]:
    """Keep run folders and state of this demo apart from every other sandbox."""
    return {**os.environ, "TMPDIR": str(tmp_path), "SANDBOX_STATE_DIR": str(tmp_path / "state")}


def test_the_demo_ends_by_itself_and_tells_every_story(tmp_path: Path) -> None:
    """Four users with mails, one refusal with its pointers, exit code 0, nothing left running."""
    done = subprocess.run(
        DEMO,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "5 events: 4 users created, 4 mails sent, 1 refused" in done.stdout
    assert "schema-violation" in done.stdout
    assert "/data/familyName" in done.stdout
    assert 4 == done.stdout.count("link in the mail: http://localhost:")
    assert [] == processes_under(tmp_path)


@pytest.mark.full
@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while the services start ends with 130, and no process survives."""
    with (tmp_path / "out").open("w+") as out:
        demo = subprocess.Popen(DEMO, env=environment(tmp_path), stdout=out, stderr=out)
        wait_until(lambda: processes_under(tmp_path))
        demo.send_signal(signal.SIGINT)
        code = demo.wait(timeout=TIMEOUT_S)

    assert 130 == code, (tmp_path / "out").read_text()
    assert [] == processes_under(tmp_path)


@pytest.mark.full
def test_a_kept_demo_is_up_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """KEEP=1 returns with Kafka, Keycloak and the bridge up, whose page it names; `sandbox down` ends all three."""
    keycloak_bridge = (sys.executable, "-m", "keycloak_bridge", "sandbox")
    kept = subprocess.run(
        [*DEMO, "--keep"],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    try:
        (address,) = re.findall(r"(http://localhost:\d+/) +the bridge's page", kept.stdout) or [""]
        shown = requests.get(address, timeout=60).text if address else kept.stdout
        status = subprocess.run(
            [*keycloak_bridge, "status"],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run([*keycloak_bridge, "down"], env=environment(tmp_path), check=True)

    assert 0 == kept.returncode, kept.stderr
    assert "sandbox down" in kept.stdout
    assert "<h2" in shown
    assert [0, True, True, True] == [
        status.returncode,
        *(f"{name}: up" in status.stdout for name in ("Kafka", "Keycloak", "bridge")),
    ]
    assert [] == processes_under(tmp_path)
    (bridge,) = re.findall(r"bridge: up \(process (\d+)\)", status.stdout)
    assert start_time(int(bridge)) is None
