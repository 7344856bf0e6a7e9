"""The sandbox itself: real services that start, crash, freeze, come back and leave nothing."""

import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import requests
from bridge_harness import processes_under, wait_until
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaTimeoutError

from keycloak_bridge.sandbox import Sandbox, SandboxError, SandboxOptions
from keycloak_bridge.sandbox.detached import STATE_VARIABLE
from keycloak_bridge.sandbox.distribution import locked
from keycloak_bridge.testing.realm_tools import RealmAdministrator, temporary_realm

pytestmark = pytest.mark.integration

CLI = "from keycloak_bridge.cli.sandbox import sandbox; sandbox(prog_name='sandbox')"


def token(sandbox: Sandbox, realm: str, secret: str) -> requests.Response:
    """Ask for a token as the bridge does."""
    return requests.post(
        f"{sandbox.keycloak_url}/realms/{realm}/protocol/openid-connect/token",
        data={
            "grant_type": "client_credentials",
            "client_id": sandbox.client_id,
            "client_secret": secret,
        },
        timeout=20,
    )


def topics(sandbox: Sandbox, create: str | None = None) -> set[str]:
    """Return the topics there are, after creating one."""
    client = KafkaAdminClient(bootstrap_servers=sandbox.bootstrap_servers)
    try:
        if create:
            client.create_topics([NewTopic(name=create, num_partitions=1, replication_factor=1)])
        return set(client.list_topics())
    finally:
        client.close()


def refused(url: str) -> bool:
    """Tell whether a call gets no answer in time."""
    try:
        requests.get(url, timeout=1)
    except (requests.ConnectionError, requests.Timeout):
        return True
    return False


def invite(sandbox: Sandbox, realm: str, email: str) -> requests.Response:
    """Create a user and have Keycloak send the mail, all through the internal address."""
    users = f"{sandbox.keycloak_url}/admin/realms/{realm}/users"
    secret = sandbox.client_secret
    access = token(sandbox, realm, secret).json()["access_token"]
    headers = {"Authorization": f"Bearer {access}"}
    user = {"username": email, "email": email, "enabled": True}
    created = requests.post(users, json=user, headers=headers, timeout=20)
    created.raise_for_status()
    user_id = created.headers["Location"].rpartition("/")[2]
    return requests.put(
        f"{users}/{user_id}/execute-actions-email",
        json=["UPDATE_PASSWORD"],
        headers=headers,
        timeout=20,
    )


def test_the_bridges_client_can_log_in(sandbox: Sandbox) -> None:
    """The imported realm knows the client with the generated secret."""
    assert token(sandbox, sandbox.realm, sandbox.client_secret).status_code == 200
    assert token(sandbox, sandbox.realm, "wrong").status_code == 401


def test_the_chosen_versions_run(sandbox: Sandbox) -> None:
    """Keycloak says its version itself; Kafka's stands in the name of the jar that its process runs."""
    answer = requests.get(
        f"{sandbox.keycloak_url}/admin/serverinfo",
        headers={"Authorization": f"Bearer {RealmAdministrator.of(sandbox).token()}"},
        timeout=20,
    )
    assert answer.json()["systemInfo"]["version"] == locked("keycloak").version

    command = Path(f"/proc/{sandbox.kafka.pid}/cmdline").read_text()
    assert f"/kafka_2.13-{locked('kafka').version}.jar" in command


def test_environment_names_everything(sandbox: Sandbox) -> None:
    """A bridge finds both services by the variables alone."""
    environment = sandbox.environment()

    assert {
        "KAFKA_BOOTSTRAP_SERVERS": sandbox.bootstrap_servers,
        "KEYCLOAK_URL": sandbox.keycloak_url,
        "KEYCLOAK_REALM": sandbox.realm,
        "KEYCLOAK_CLIENT_ID": sandbox.client_id,
        "KEYCLOAK_CLIENT_SECRET": sandbox.client_secret,
    } == {
        name.removeprefix("KEYCLOAK_BRIDGE_"): value
        for name, value in environment.items()
        if name.startswith("KEYCLOAK_BRIDGE_")
    }
    assert Path(environment["SANDBOX_MAIL_DIR"]).is_dir()


def test_mailed_link_carries_the_public_host(sandbox: Sandbox) -> None:
    """A mail asked for through 127.0.0.1 sends the user to localhost."""
    assert invite(sandbox, sandbox.realm, "host@example.com").status_code == 204

    mail = sandbox.mail.wait_for("host@example.com")

    assert mail.links
    assert all(link.startswith(f"{sandbox.keycloak_public_url}/") for link in mail.links)


def test_refused_mail_fails_the_call(sandbox: Sandbox) -> None:
    """While the catcher refuses, Keycloak reports an error and nothing is kept."""
    sandbox.mail.refusing = True
    try:
        answer = invite(sandbox, sandbox.realm, "refused@example.com")
    finally:
        sandbox.mail.refusing = False

    assert answer.status_code == 500
    assert sandbox.mail.sent_to("refused@example.com") == ()


def test_mail_catcher_comes_back_on_its_port(sandbox: Sandbox) -> None:
    """A catcher that was stopped refuses connections, and goes on when started."""
    sandbox.mail.stop()
    with pytest.raises(OSError, match="refused"):
        smtplib.SMTP(sandbox.mail.host, sandbox.mail.port)
    sandbox.mail.start()

    message = EmailMessage()
    message["To"], message["From"] = "back@example.com", "x@example.com"
    with smtplib.SMTP(sandbox.mail.host, sandbox.mail.port) as client:
        client.send_message(message)

    assert sandbox.mail.wait_for("back@example.com").recipients == ("back@example.com",)


def test_fresh_realm_is_like_the_imported_one_and_goes_again(sandbox: Sandbox) -> None:
    """The realm of a test has the same client and mail settings, and is deleted after it."""
    with temporary_realm(sandbox) as realm:
        assert realm.name != sandbox.realm
        assert token(sandbox, realm.name, realm.client_secret).status_code == 200
        assert invite(sandbox, realm.name, "fresh@example.com").status_code == 204
        assert sandbox.mail.wait_for("fresh@example.com").links

    gone = requests.get(f"{sandbox.keycloak_url}/realms/{realm.name}", timeout=20)
    assert gone.status_code == 404


def test_topics_are_not_created_by_themselves(sandbox: Sandbox) -> None:
    """A misspelt topic stays missing, whoever asks for it."""
    producer = KafkaProducer(bootstrap_servers=sandbox.bootstrap_servers, max_block_ms=1000)
    try:
        with pytest.raises(KafkaTimeoutError):
            producer.partitions_for("user-evnets")
    finally:
        producer.close()

    assert "user-evnets" not in topics(sandbox)


@pytest.fixture
def mended(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Lend the shared sandbox for a test that breaks it, and see that it is whole afterwards."""
    yield sandbox
    for service in (sandbox.kafka, sandbox.keycloak):
        service.resume()
        if not service.alive:
            service.start()


def test_crashed_kafka_comes_back_with_its_data(mended: Sandbox) -> None:
    """After a kill the same address serves the same topics."""
    topics(mended, create="kept")
    before = mended.bootstrap_servers

    mended.kafka.kill()
    assert not mended.kafka.is_ready()
    mended.kafka.start()

    assert mended.bootstrap_servers == before
    assert "kept" in topics(mended)


def test_crashed_keycloak_comes_back_with_its_data(mended: Sandbox) -> None:
    """After a kill the same address serves what was acknowledged, to the last write."""
    before = mended.keycloak_url
    with temporary_realm(mended) as realm:
        mended.keycloak.kill()
        assert refused(f"{before}/realms/{realm.name}")
        mended.keycloak.start()

        assert mended.keycloak_url == before
        assert token(mended, realm.name, realm.client_secret).status_code == 200


def test_frozen_services_answer_after_the_pause(mended: Sandbox) -> None:
    """A pause is no crash: nothing answers during it, everything does afterwards."""
    services = (mended.keycloak, mended.kafka)
    for service in services:
        service.pause()
    assert refused(f"{mended.keycloak_url}/realms/{mended.realm}")
    assert not mended.kafka.is_ready()

    for service in services:
        service.resume()

    wait_until(mended.keycloak.is_ready)
    wait_until(mended.kafka.is_ready)


def test_wrong_realm_is_explained(sandbox: Sandbox) -> None:
    """A Keycloak that is up without the realm says what to look at."""
    server = sandbox.keycloak
    server.realm = "other"
    try:
        with pytest.raises(SandboxError, match="has no realm 'other'"):
            server.is_ready()
    finally:
        server.realm = sandbox.realm


@pytest.mark.full
def test_broken_realm_file_is_an_error_that_keeps_its_log(tmp_path: Path) -> None:
    """A Keycloak that dies early shows why, and its log stays; nothing else does."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "acme-realm.json").write_text('{"realm": "acme", "nonsense": 1}')
    options = SandboxOptions(config_dir=config, run_dir=tmp_path / "run")

    with pytest.raises(SandboxError, match="Keycloak ended before it answered") as caught:
        Sandbox(options).start()

    assert "nonsense" in str(caught.value)
    assert (tmp_path / "run" / "keycloak" / "keycloak.log").exists()
    assert processes_under(tmp_path / "run") == []


@pytest.mark.full
def test_detached_sandbox_serves_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up --detach`, `status`, `env`, `mail` and `down` work together, and nothing remains."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    started = command("up", "--detach", "--realm", "other")
    assert started.returncode == 0, started.stderr
    try:
        assert command("status").returncode == 0
        lines = command("env").stdout.splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        url = f"{environment['KEYCLOAK_BRIDGE_KEYCLOAK_URL']}/realms/other"
        assert requests.get(url, timeout=20).status_code == 200
        message = EmailMessage()
        message["To"], message["From"] = "ada@example.com", "x@example.com"
        with smtplib.SMTP("127.0.0.1", int(environment["SANDBOX_SMTP_PORT"])) as client:
            client.send_message(message)
        assert "ada@example.com" in command("mail").stdout
    finally:
        stopped = command("down")

    assert stopped.returncode == 0, stopped.stderr
    assert command("status").returncode == 3
    assert processes_under(Path(environment["SANDBOX_RUN_DIR"])) == []
    assert not Path(environment["SANDBOX_RUN_DIR"]).exists()


@pytest.mark.full
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_start_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM and even SIGKILL in the middle of a start end everything."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", CLI, "up"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as up:
        wait_until(lambda: len(processes_under(tmp_path)) >= 2)
        up.send_signal(number)

    wait_until(lambda: processes_under(tmp_path) == [])
    if number != signal.SIGKILL:
        assert up.returncode == 0
        assert list(tmp_path.glob("keycloak-bridge-sandbox-*")) == []


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a sandbox command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", CLI, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
