"""What can be proven about deploy/ without Helm, Kustomize and a cluster; `make test-deploy` has those, and runs the Pod."""

import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import deploy_files
import pytest
import yaml
from jsonschema import Draft7Validator

from keycloak_bridge import __version__
from keycloak_bridge.app.stopping import CLOSING_S
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS, read_settings
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.schema import settings_by_name

CHART = deploy_files.CHART
KUSTOMIZE = deploy_files.KUSTOMIZE
VALUES = sorted((CHART / "ci").glob("*.yaml"))
MANIFESTS = sorted(
    path
    for path in KUSTOMIZE.rglob("*.yaml")
    if path.name not in {"kustomization.yaml", "keycloak.yaml"}
)
BRIDGE_FILES = sorted(KUSTOMIZE.rglob("bridge.toml"))
SECRETS = "/run/secrets/keycloak-bridge"


def named(path: Path) -> str:
    return str(path.relative_to(deploy_files.ROOT / "deploy"))


def chart(name: str = "values.yaml") -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / name).read_text("utf-8"))
    return values


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the values as Helm merges them: maps by key, everything else as a whole."""
    result = copy.deepcopy(below)
    for key, value in above.items():
        known = result.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        result[key] = merged(known or {}, value) if both else value
    return result


def complaints(values: dict[str, Any]) -> list[str]:
    """Return where the schema refuses values."""
    validator = Draft7Validator(json.loads(deploy_files.VALUES_SCHEMA.read_text("utf-8")))
    return sorted(error.json_path for error in validator.iter_errors(values))


def resources() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield path, document


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the specification of every Pod, and of what is added to Keycloak's, by the kind of its layout."""
    for _, document in resources():
        if template := document.get("spec", {}).get("template"):
            yield document["kind"], template["spec"]


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod.get("containers", []) + pod.get("initContainers", [])
    return dict(container)


def test_generated_parts_are_in_step() -> None:
    schema = json.loads(deploy_files.VALUES_SCHEMA.read_text("utf-8"))

    assert deploy_files.values_schema() == schema, "run `make docs`"
    assert deploy_files.RULE.read_text("utf-8") == deploy_files.prometheus_rule(), "run `make docs`"


def test_alerts_are_those_of_monitoring() -> None:
    alerts = yaml.safe_load(deploy_files.ALERTS.read_text("utf-8"))
    rule = yaml.safe_load(deploy_files.RULE.read_text("utf-8"))
    of_chart = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))

    assert {"groups": alerts["groups"]} == rule["spec"]
    assert alerts == of_chart


@pytest.mark.parametrize("path", VALUES, ids=named)
def test_schema_takes_the_values_that_are_tried(path: Path) -> None:
    assert [] == complaints(merged(chart(), chart(f"ci/{path.name}")))


def test_the_values_that_are_tried_are_all_values() -> None:
    tried = set().union(*(chart(f"ci/{path.name}") for path in VALUES))

    assert set(chart()) == tried


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"replica": 2}, "$"),
        ({"image": {"tags": "1"}}, "$.image"),
        ({"layout": "daemon"}, "$.layout"),
        ({"config": {"kafka": {"group": "x"}}}, "$.config.kafka"),
        ({"config": {"kafka": {"sasl_password": "x"}}}, "$.config.kafka"),
        ({"config": {"keycloak": {"client_secret": "x"}}}, "$.config.keycloak"),
        ({"config": {"topics": {"partitions": "eight"}}}, "$.config.topics.partitions"),
        ({"config": {"keycloak": {"url": "keycloak:8080"}}}, "$.config.keycloak.url"),
        ({"secrets": {"keycloak": {"client_secret": "x"}}}, "$.secrets.keycloak"),
        (
            {"secrets": {"keycloak": {"tls_key_file": {"configMap": "x", "key": "x"}}}},
            "$.secrets.keycloak.tls_key_file",
        ),
        ({"environment": {"KEYCLOAK_BRIDGE_KAFKA_SASL_PASSWORD": "x"}}, "$.environment"),
        ({"files": {"bridge.toml": "x"}}, "$.files"),
        ({"files": {"../x": "x"}}, "$.files"),
        ({"keda": {"minReplicas": 0}}, "$.keda.minReplicas"),
        ({"job": {"args": "doctor"}}, "$.job.args"),
        ({"networkPolicy": {"smtp": {"ports": ["smtp"]}}}, "$.networkPolicy.smtp.ports[0]"),
        ({"networkPolicy": {"otlp": {"port": 4318}}}, "$.networkPolicy.otlp"),
        ({"runAsUser": 0}, "$.runAsUser"),
    ],
)
def test_schema_refuses(change: dict[str, Any], refused: str) -> None:
    values = merged(merged(chart(), chart("ci/job-values.yaml")), change)

    assert [refused] == complaints(values)


def test_schema_needs_to_know_where_kafka_and_the_realm_are() -> None:
    assert ["$.config", "$.config"] == complaints(chart())


def test_versions_and_defaults_are_those_of_the_bridge() -> None:
    values, settings = chart(), Settings()

    assert __version__ == chart("Chart.yaml")["appVersion"]
    assert __version__ == chart("Chart.yaml")["version"]
    assert {f"keycloak-bridge:{__version__}"} == {container_of(pod)["image"] for _, pod in pods()}
    assert settings.topics.partitions == values["keda"]["maxReplicas"]
    assert values["terminationGracePeriodSeconds"] > settings.delivery.drain + CLOSING_S
    assert settings.health.port == values["config"]["health"]["port"]


@pytest.mark.parametrize("path", BRIDGE_FILES, ids=named)
def test_settings_of_kustomize_are_right_and_hold_no_secret(path: Path, tmp_path: Path) -> None:
    given = tomllib.loads(path.read_text("utf-8"))
    text = path.read_text("utf-8").replace(SECRETS, str(tmp_path))
    copied = tmp_path / "bridge.toml"
    copied.write_text(text, "utf-8")
    (tmp_path / "keycloak").mkdir()
    for name in given["keycloak"]:
        (tmp_path / "keycloak" / name).write_text("x", "utf-8")
    loaded = read_settings(copied, environ={}, require=KEYCLOAK_ACCESS)

    assert () == tuple(loaded.problems)
    assert "0.0.0.0" == loaded.settings.health.host  # noqa: S104 # an address of a Pod
    for section, keys in given.items():
        assert not [key for key in keys if settings_by_name()[f"{section}.{key}"].kind.secret]


def test_every_layout_is_there() -> None:
    assert ["Deployment", "Job", "StatefulSet"] == sorted(kind for kind, _ in pods())


def test_pods_keep_the_restricted_standard() -> None:
    for kind, pod in pods():
        container = container_of(pod)
        security = container["securityContext"]

        assert security == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["limits"].keys()
        assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["requests"].keys()
        if kind != "StatefulSet":
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True


def test_no_secret_is_a_variable() -> None:
    for _, pod in pods():
        container = container_of(pod)

        assert "envFrom" not in container
        assert {"KEYCLOAK_BRIDGE_CONFIG", "KEYCLOAK_BRIDGE_HEALTH_PORT"} == {
            one["name"] for one in container["env"]
        }
        assert all("valueFrom" not in one for one in container["env"])


def test_what_is_mounted_is_what_the_settings_name() -> None:
    for kind, pod in pods():
        folder = "components/sidecar" if kind == "StatefulSet" else "base"
        given = tomllib.loads((KUSTOMIZE / folder / "bridge.toml").read_text("utf-8"))
        (volume,) = (one for one in pod["volumes"] if "projected" in one)
        (source,) = volume["projected"]["sources"]
        (item,) = source["secret"]["items"]
        (mount,) = (
            one for one in container_of(pod)["volumeMounts"] if one["name"] == volume["name"]
        )

        assert given["keycloak"]["client_secret_file"] == f"{mount['mountPath']}/{item['path']}"


def test_only_a_deployment_of_its_own_has_readiness() -> None:
    probes = {
        kind: {
            name.removesuffix("Probe"): probe["httpGet"]["path"]
            for name, probe in container_of(pod).items()
            if name.endswith("Probe")
        }
        for kind, pod in pods()
    }

    assert probes == {
        "Deployment": {"startup": "/live", "liveness": "/live", "readiness": "/ready"},
        "Job": {"startup": "/live", "liveness": "/live"},
        "StatefulSet": {"startup": "/live", "liveness": "/live"},
    }
    ((sidecar, main),) = (
        (pod["initContainers"], pod.get("containers"))
        for kind, pod in pods()
        if kind == "StatefulSet"
    )
    assert ("Always", None) == (sidecar[0]["restartPolicy"], main)


def test_the_policy_lets_the_bridge_through_to_all_that_it_asks() -> None:
    """Of what the defaults make it ask; the ports of the mail server are those that RFC 5321, 6409 and 8314 name."""
    (policy,) = (one for _, one in resources() if one["kind"] == "NetworkPolicy")
    given = tomllib.loads((KUSTOMIZE / "base" / "bridge.toml").read_text("utf-8"))
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    mail = chart()["networkPolicy"]["smtp"]["ports"]

    assert ports == {
        53,
        int(given["kafka"]["bootstrap_servers"][0].rpartition(":")[2]),
        urlsplit(given["keycloak"]["url"]).port,
        *mail,
    }
    assert {25, 465, 587} == set(mail)


def test_the_scaler_watches_both_groups() -> None:
    kafka, topics = Settings().kafka, Settings().topics
    (scaled,) = (one for _, one in resources() if one["kind"] == "ScaledObject")

    assert [
        (kafka.group_id, topics.events),
        (kafka.invite_group_id, topics.invitations),
    ] == [
        (one["metadata"]["consumerGroup"], one["metadata"]["topic"])
        for one in scaled["spec"]["triggers"]
    ]
    assert (1, topics.partitions) == (
        scaled["spec"]["minReplicaCount"],
        scaled["spec"]["maxReplicaCount"],
    )
