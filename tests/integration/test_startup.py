"""Whatever is wrong at the start is said in one clear sentence with its remedy, or waited for."""

import socket
import subprocess
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bridge_harness import Bench, an_event, free_port, wait_until
from kafka.admin import ConfigResource, ConfigResourceType

pytestmark = pytest.mark.integration

SERVICE_ACCOUNT = "service-account-keycloak-bridge"


@pytest.fixture
def bench(module_bench: Bench, tmp_path: Path) -> Bench:
    """The ready bench with a folder of its own."""
    return replace(module_bench, folder=tmp_path)


def one_sentence(done: subprocess.CompletedProcess[str], exit_code: int) -> tuple[str, str]:
    """Return what was said and its remedy, once it is sure that nothing else was said."""
    assert exit_code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert "" == done.stdout
    lines = done.stderr.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("error: "))
    said, told = lines[:first], lines[first:]
    waits = ('"level": "INFO"', '"action": "waiting"')
    assert [] == [line for line in said if not any(word in line for word in waits)]
    assert 1 == sum(line.startswith("error: ") for line in told)
    remedies = [line for line in told if line.startswith("fix: ")]
    assert len(remedies) <= 1
    return "\n".join(line for line in told if line not in remedies), "".join(remedies)


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong setting, and the words that its sentence must hold."""

    name: str
    settings: dict[str, str]
    words: tuple[str, ...]
    remedy: tuple[str, ...]


def files(folder: Path) -> None:
    """Write every broken file that a fault names."""
    default = (Path(__file__).parents[2] / "keycloak_bridge" / "default_mapping.toml").read_text()
    (folder / "target.toml").write_text(default.replace("firstName =", "fristName ="))
    (folder / "path.toml").write_text(default.replace("data.givenName", "data.givnName"))
    (folder / "syntax.toml").write_text(default.replace("data.givenName", "lower(data.givenName"))
    (folder / "toml.toml").write_text("[user\n")
    (folder / "extra.toml").write_text(
        default.replace('userId = "data.userId"', 'userId = "data.userId"\nshoeSize = "id"')
    )
    for name, text in (("not-json", "{"), ("no-schema", '{"$id": "x", "type": "strin"}')):
        (folder / name / "user.created").mkdir(parents=True)
        (folder / name / "user.created" / "3.0.json").write_text(text)
    (folder / "empty.secret").write_text("\n")


CONFIGURATION = (
    Fault("secret", {"KEYCLOAK_CLIENT_SECRET": "wrong-secret"}, ("client credentials",), ("client_secret",)),
    Fault("client", {"KEYCLOAK_CLIENT_ID": "nobody"}, ("client credentials",), ("client_id",)),
    Fault("realm", {"KEYCLOAK_REALM": "no-such-realm"}, ("no such realm",), ("[keycloak] realm",)),
    Fault("no-realm", {"KEYCLOAK_REALM": ""}, ("keycloak.realm",), ()),
    Fault("secret-file", {"KEYCLOAK_CLIENT_SECRET": "", "KEYCLOAK_CLIENT_SECRET_FILE": "gone.secret"},
          ("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET_FILE", "does not exist"), ("file",)),
    Fault("secret-empty", {"KEYCLOAK_CLIENT_SECRET": "", "KEYCLOAK_CLIENT_SECRET_FILE": "empty.secret"},
          ("empty.secret", "is empty"), ("file",)),
    Fault("url", {"KEYCLOAK_URL": "localhost:8080"}, ("KEYCLOAK_BRIDGE_KEYCLOAK_URL", "https://"), ()),
    Fault("unknown-key", {"KAFKA_BOOTSTRAP_SERVER": "x:1"},
          ("did you mean 'KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS'",), ()),
    Fault("duration", {"RETRY_MAX": "soon"}, ("KEYCLOAK_BRIDGE_RETRY_MAX", "5 s"), ()),
    Fault("topic", {"TOPICS_RESULTS": "no-such-topic"}, ("no-such-topic (results)",),
          ("`keycloak-bridge topics create`", "topics.create")),
    Fault("target", {"MAPPING_FILE": "target.toml"}, ("target.toml", "fristName", "firstName"), ()),
    Fault("path", {"MAPPING_FILE": "path.toml"}, ("path.toml", "user.firstName", "givnName"), ()),
    Fault("expression", {"MAPPING_FILE": "syntax.toml"}, ("syntax.toml", "user.firstName"), ()),
    Fault("toml", {"MAPPING_FILE": "toml.toml"}, ("toml.toml", "line 1"), ()),
    Fault("no-mapping", {"MAPPING_FILE": "gone.toml"}, ("gone.toml",), ()),
    Fault("schema-json", {"SCHEMAS_FOLDERS": "not-json"}, ("3.0.json", "JSON"), ()),
    Fault("schema", {"SCHEMAS_FOLDERS": "no-schema"}, ("3.0.json", "/type"), ()),
    Fault("attribute", {"MAPPING_FILE": "extra.toml"}, ("user profile", "shoeSize", "drop"), ()),
)  # fmt: skip


@pytest.mark.parametrize("fault", CONFIGURATION, ids=lambda fault: fault.name)
def test_a_wrong_setting_ends_with_one_sentence_and_its_remedy(bench: Bench, fault: Fault) -> None:
    """Exit code 2, what and where, how to mend it, no traceback; nothing was consumed."""
    files(bench.folder)

    words, remedy = one_sentence(bench.but(**fault.settings).run_command("run"), 2)

    assert [] == [word for word in fault.words if word not in words]
    assert [] == [word for word in fault.remedy if word not in words + remedy]
    if not fault.remedy:
        assert remedy or "(" in words or ";" in words or "mean" in words


def test_an_unknown_key_in_the_file_is_named_with_the_nearest_one(bench: Bench) -> None:
    """A slip of the keyboard is not silently ignored."""
    (bench.folder / "bridge.toml").write_text("[kafka]\ngruop_id = 'x'\n")

    words, _ = one_sentence(bench.run_command("run"), 2)

    assert [] == [word for word in ("bridge.toml", "gruop_id", "group_id") if word not in words]


def test_a_missing_role_is_named(bench: Bench) -> None:
    """Without manage-users not one user could be written, so the bridge does not start."""
    (account,) = bench.admin("GET", "/users", params={"username": SERVICE_ACCOUNT, "exact": "true"})
    (client,) = bench.admin("GET", "/clients", params={"clientId": "realm-management"})
    path = f"/users/{account['id']}/role-mappings/clients/{client['id']}"
    roles = [role for role in bench.admin("GET", path) if role["name"] == "manage-users"]
    bench.admin("DELETE", path, json=roles)
    try:
        words, _ = one_sentence(bench.run_command("run"), 2)
    finally:
        bench.admin("POST", path, json=roles)

    assert "manage-users" in words
    assert "service account" in words
    assert "`keycloak-bridge realm plan`" in words


def test_a_health_port_in_use_is_named(bench: Bench) -> None:
    """Two bridges on one machine: the second says which setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        words, remedy = one_sentence(bench.but(HEALTH_PORT=str(port)).run_command("run"), 2)

    assert f"127.0.0.1:{port}" in words
    assert "health.port" in remedy


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("KEYCLOAK_URL", "keycloak-unreachable"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka-unavailable"),
    ],
)
def test_what_cannot_be_reached_is_waited_for(bench: Bench, settings: str, reason: str) -> None:
    """One line says so, then silence; SIGTERM ends the waiting with 0."""
    port = free_port()
    nowhere = f"http://127.0.0.1:{port}" if settings == "KEYCLOAK_URL" else f"127.0.0.1:{port}"

    with bench.but(**{settings: nowhere}).running() as process:
        wait_until(lambda: reason in bench.log())
        assert process.poll() is None
        process.terminate()
        assert 0 == process.wait(timeout=120)

    assert 1 == bench.log().count(reason)
    assert "Traceback" not in bench.log()
    assert "error:" not in bench.log()


def test_topics_are_checked_and_created(bench: Bench) -> None:
    """`topics check` tells by exit code, `topics.create` lets `run` do it, and both agree afterwards."""
    bench = replace(bench, suffix=uuid.uuid4().hex[:8])
    missing = bench.run_command("topics", "check")
    refused = bench.run_command("run")
    bench.but(TOPICS_CREATE="true").run_command("run", "--until-caught-up", check=True)
    present = bench.run_command("topics", "check")

    assert (2, 2, 0) == (missing.returncode, refused.returncode, present.returncode)
    assert [] == [name for name in ("events", "results") if bench.topic(name) not in missing.stdout]
    assert "kafka-topics.sh --create" in missing.stdout
    assert 4 == present.stdout.count("4 partitions")
    again = bench.run_command("topics", "create", check=True)
    assert 4 == again.stdout.count("exists")


def test_dead_letters_take_whatever_the_events_take(bench: Bench) -> None:
    """The topic for dead letters is created a little roomier than the events topic that it finds."""
    bench = replace(bench, suffix=uuid.uuid4().hex[:8])
    bench.create_topic("events", max_message_bytes="5000000")
    bench.run_command("topics", "create", check=True)

    with bench.kafka_admin() as admin:
        topic = bench.topic("dead-letters")
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])

    assert "5065536" == described["topic"][topic]["max.message.bytes"]["value"]


def test_a_bench_that_was_spoilt_so_often_still_works(bench: Bench) -> None:
    """The faults above are faults of their settings alone."""
    bench.publish(an_event("after-all"))

    bench.catch_up()

    assert bench.user("after-all")
