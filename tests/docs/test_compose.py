"""What can be proven about compose/ without starting it; `make test-compose` starts it."""

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from one_answer import answering

from keycloak_bridge import __version__
from keycloak_bridge.diagnostics.exposure import exposure_probes
from keycloak_bridge.diagnostics.keycloak_probes import INDEX_STATEMENT
from keycloak_bridge.diagnostics.probes import Light, examine
from keycloak_bridge.settings.loading import CONFIG_VARIABLE, read_settings
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.schema import settings_by_name

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
REALM = (ROOT / "keycloak-config" / "acme-realm.json").read_text("utf-8")
SCHEMA = json.loads(
    files("check_jsonschema")
    .joinpath("builtin_schemas/vendor/compose-spec.json")
    .read_text("utf-8")
)
PINNED = re.compile(r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$")
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::\?[^}]*)?\}")
SECRETS = (
    "POSTGRES_PASSWORD",
    "KC_BOOTSTRAP_ADMIN_PASSWORD",
    "KEYCLOAK_BRIDGE_CLIENT_SECRET",
    "BRIDGE_UI_TOKEN",
)


def composition(name: str = "compose.yaml") -> dict[str, Any]:
    """Return one of the files as data."""
    document: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text("utf-8"))
    return document


SERVICES: dict[str, Any] = composition()["services"]


def dot_env() -> dict[str, str]:
    """Return what .env says."""
    lines = (COMPOSE / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment(service: str) -> dict[str, str]:
    """Return a service's environment as Compose fills it from .env alone."""
    values = dot_env()
    given = SERVICES[service]["environment"]
    return {key: VARIABLE.sub(lambda m: values[m[1]], text) for key, text in given.items()}


@pytest.mark.parametrize("name", ["compose.yaml", "compose.secrets.yaml"])
def test_follows_the_compose_specification(name: str) -> None:
    """The specification's JSON Schema finds nothing wrong; a misspelt key would be."""
    errors = [
        error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(composition(name))
    ]

    document = composition(name)
    document["services"]["bridge"]["healthchek"] = {}

    assert [] == errors
    assert not Draft202012Validator(SCHEMA).is_valid(document)


def test_keycloak_gets_exactly_what_the_realm_reads() -> None:
    """Every placeholder of the realm export is set, and nothing else beside Keycloak's options."""
    read = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)[:}]", REALM))
    given = {name for name in environment("keycloak") if not name.startswith("KC_")}

    assert read == given


def test_the_demonstration_is_closed_to_others() -> None:
    """Known secrets are marked, no port is published to others, and .env has the variables that are used."""
    published = dot_env()
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert set(published) == set(VARIABLE.findall((COMPOSE / "compose.yaml").read_text("utf-8")))
    assert all(published[name].startswith("demo-only-") for name in SECRETS)
    assert all(port.startswith("127.0.0.1:") for port in ports)
    # mails lead to the published port, by whatever name the bridge calls
    keycloak = environment("keycloak")
    assert f"http://localhost:{published['KEYCLOAK_PORT']}" == keycloak["KC_HOSTNAME"]
    assert "true" == keycloak["KC_HOSTNAME_BACKCHANNEL_DYNAMIC"]


def test_services_call_each_other_by_their_names_and_secrets() -> None:
    """No address is of a service that was renamed, and both sides of a connection have one secret."""
    postgres, keycloak, index, kafka, bridge = (
        environment(name) for name in ("postgres", "keycloak", "index", "kafka", "bridge")
    )
    addresses = {
        keycloak["KC_DB_URL_HOST"]: "postgres",
        keycloak["SMTP_HOST"]: "mailpit",
        index["PGHOST"]: "postgres",
        kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"].partition("@")[2]: "kafka:29093",
        kafka["KAFKA_ADVERTISED_LISTENERS"].partition(",")[0]: "INTERNAL://kafka:19092",
        bridge["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]: "kafka:19092",
        bridge["KEYCLOAK_BRIDGE_KEYCLOAK_URL"]: "http://keycloak:8080",
    }

    assert {"postgres", "mailpit", "kafka", "keycloak"} <= set(SERVICES)
    assert [] == [pair for pair in addresses.items() if pair[0] != pair[1]]
    assert postgres["POSTGRES_PASSWORD"] == keycloak["KC_DB_PASSWORD"] == index["PGPASSWORD"]
    assert (
        bridge["KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET"]
        == keycloak["KEYCLOAK_BRIDGE_CLIENT_SECRET"]
    )


@pytest.mark.parametrize("service", ["topics", "bridge"])
def test_the_settings_of_the_bridge_exist(service: str) -> None:
    """Every KEYCLOAK_BRIDGE_ name is a setting, but the one of the file that is mounted."""
    override = composition("compose.secrets.yaml")["services"]["bridge"]["environment"]
    names = {*environment(service), *override} - {CONFIG_VARIABLE}

    assert (
        f"./bridge.toml:{environment(service)[CONFIG_VARIABLE]}:ro" in SERVICES[service]["volumes"]
    )
    assert set() == names - {one.environment_name for one in settings_by_name().values()}


def test_the_settings_are_valid_together() -> None:
    """The settings file, the image's and the composition's environment make settings that load."""
    environ = environment("bridge")
    required = ("keycloak.realm", "keycloak.client_secret")
    loaded = read_settings(COMPOSE / "bridge.toml", environ=environ, require=required)
    settings = loaded.settings

    assert () == loaded.problems
    assert "http://keycloak:8080" == settings.keycloak.url
    assert ("kafka:19092",) == settings.kafka.bootstrap_servers
    assert f"{dot_env()['DEMO_APP_URL']}/" == settings.invite.redirect_uri


def test_the_secrets_may_be_files(tmp_path: Path) -> None:
    """compose.secrets.yaml takes each secret out of the environment and names a mounted one, so that the doctor finds none as text."""
    override = composition("compose.secrets.yaml")
    service = override["services"]["bridge"]
    environ = environment("bridge") | service["environment"]
    mounted = [Path(path) for name, path in environ.items() if name.endswith("_FILE")]
    for name, path in environ.items():
        if name.endswith("_FILE"):
            file = tmp_path / Path(path).name
            file.touch(mode=0o400)
            file.write_text("from-a-file-of-its-own\n", "utf-8")
            environ[name] = str(file)
    loaded = read_settings(COMPOSE / "bridge.toml", environ=environ)
    secrets = [loaded.settings.keycloak.client_secret, loaded.settings.ui.token]
    (probe,) = (one for one in exposure_probes(loaded) if one.name == "secrets")

    assert () == loaded.problems
    assert {Path("/run/secrets")} == {path.parent for path in mounted}
    assert [path.name for path in mounted] == service["secrets"] == list(override["secrets"])
    assert ["from-a-file-of-its-own"] * 2 == [one.reveal() for one in secrets if one is not None]
    assert {Light.GREEN} == {result.light for result in examine([probe])}


def test_the_first_event_is_one_that_the_page_names() -> None:
    """The command of docs/compose.md publishes a file with one event a line, by a listener and to a topic that there are."""
    page = (ROOT / "docs" / "compose.md").read_text("utf-8")
    (command,) = re.findall(r"kafka-console-producer\.sh.*?(?=\n```)", page, re.DOTALL)
    words = command.replace("\\\n", " ").split()
    lines = (ROOT / words[-1]).read_text("utf-8").splitlines()

    assert "<" == words[-2]
    assert environment("bridge")["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"] in words
    assert Settings().topics.events in words
    assert {"user.created"} == {json.loads(line)["type"] for line in lines}


def test_images_are_pinned() -> None:
    """No image follows a moving tag."""
    named = [service["image"] for service in SERVICES.values()]

    assert [] == [image for image in named if not PINNED.match(image)]
    assert f"keycloak-bridge:{__version__}" == SERVICES["bridge"]["image"]


def test_each_service_waits_for_what_it_needs() -> None:
    """Order is gated by health, and whatever is waited for says how it is."""
    awaited = [
        (other, how["condition"])
        for service in SERVICES.values()
        for other, how in service.get("depends_on", {}).items()
    ]
    healthy = {other for other, condition in awaited if condition == "service_healthy"}

    assert {"postgres", "mailpit", "kafka", "keycloak"} == healthy
    assert all("test" in SERVICES[name]["healthcheck"] for name in healthy)
    assert {"topics", "index"} == {
        other for other, condition in awaited if condition == "service_completed_successfully"
    }


@pytest.mark.parametrize("service", ["topics", "bridge"])
def test_the_bridge_may_do_nothing_but_its_work(service: str) -> None:
    """No root, no capabilities, nothing to write to but /tmp."""
    found = SERVICES[service]

    assert found["read_only"] is True
    assert ["ALL"] == found["cap_drop"]
    assert ["no-new-privileges:true"] == found["security_opt"]
    assert ["/tmp"] == found["tmpfs"]  # noqa: S108  (a mount point)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_of_keycloak_works(status: int, healthy: bool) -> None:
    """Plain bash, without curl, tells ready from not ready."""
    line = SERVICES["keycloak"]["healthcheck"]["test"]
    with answering(status) as port:
        script = line.replace("$$", "$").replace("/9000", f"/{port}")
        done = subprocess.run(["sh", "-c", script], timeout=10, check=False)

    assert healthy == (done.returncode == 0)


def test_the_health_check_of_kafka_asks_a_listener_that_it_has() -> None:
    """Plain bash finds a port open, or closed."""
    line = SERVICES["kafka"]["healthcheck"]["test"]
    with answering(200) as port:
        checks = [line.replace("/19092", f"/{other}") for other in (port, 1)]
        codes = [
            subprocess.run(["sh", "-c", check], timeout=10, check=False).returncode
            for check in checks
        ]

    assert "INTERNAL://:19092" in environment("kafka")["KAFKA_LISTENERS"].split(",")
    assert [True, False] == [code == 0 for code in codes]


def test_podman_reads_the_health_checks_as_docker_does() -> None:
    """Podman's API splits the arguments of a list at spaces; a line of shell stays as it is."""
    tests = [service.get("healthcheck", {}).get("test", []) for service in SERVICES.values()]

    assert [] == [
        test for test in tests if not isinstance(test, str) and re.search(r"\s", "".join(test))
    ]


def test_the_index_is_the_one_of_the_documentation_and_of_the_doctor() -> None:
    """Once Keycloak has made its tables, and harmless to run again."""
    service = SERVICES["index"]
    statement = service["command"][-1].removeprefix("--command=")

    assert {"keycloak": {"condition": "service_healthy"}} == service["depends_on"]
    assert f"{statement};" in (ROOT / "docs/keycloak.md").read_text("utf-8")
    assert INDEX_STATEMENT == statement.replace("IF NOT EXISTS ", "")
