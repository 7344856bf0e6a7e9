"""What deploy/ takes from the rest of the repository: the version, the settings in the chart's values, the alerts as a rule."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml

from keycloak_bridge import __version__
from keycloak_bridge.settings.schema import settings_by_name, settings_schema

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "keycloak-bridge"
VALUES_SCHEMA = CHART / "values.schema.json"
KUSTOMIZE = ROOT / "deploy" / "kustomize"
RULE = KUSTOMIZE / "components" / "prometheus-rule" / "prometheus-rule.yaml"
ALERTS = ROOT / "monitoring" / "alerts.yaml"

_NEEDED = {"kafka": ["bootstrap_servers"], "keycloak": ["realm", "url"]}
_ASSERTIONS = tuple(name for name in settings_by_name() if name.endswith("assertion_file"))

_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_KEY = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
_COUNT = {"type": "integer", "minimum": 1}
_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ON = {"type": "boolean"}
_LIST = {"type": "array", "items": {"type": "object"}}
_ANY = {"type": "object"}


def values_schema() -> dict[str, Any]:
    """Return the JSON Schema of the chart's values, for every version of Helm 3: draft 7."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart keycloak-bridge",
        **_closed(
            {
                "global": _ANY,
                "layout": {"enum": ["deployment", "sidecar", "job"]},
                "image": _closed(
                    {
                        "repository": {"type": "string", "minLength": 1},
                        "tag": _TEXT,
                        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                    }
                ),
                "imagePullSecrets": _LIST,
                "nameOverride": _TEXT,
                "fullnameOverride": _TEXT,
                "replicas": {"type": "integer", "minimum": 0},
                "config": _config(),
                "secrets": _secrets(),
                "files": {
                    **_TEXTS,
                    "propertyNames": {
                        "pattern": "^[-_a-zA-Z0-9][-._a-zA-Z0-9]*(/[-_a-zA-Z0-9][-._a-zA-Z0-9]*)*$",
                        "not": {"const": "bridge.toml"},
                    },
                },
                "environment": {**_TEXTS, "propertyNames": {"pattern": "^OTEL_[A-Z0-9_]+$"}},
                "resources": _ANY,
                "runAsUser": {"type": ["integer", "null"], "minimum": 1},
                "runAsGroup": {"type": ["integer", "null"], "minimum": 1},
                "terminationGracePeriodSeconds": _COUNT,
                "podAnnotations": _TEXTS,
                "podLabels": _TEXTS,
                "nodeSelector": _TEXTS,
                "tolerations": _LIST,
                "affinity": _ANY,
                "topologySpreadConstraints": _LIST,
                "priorityClassName": _TEXT,
                "extraVolumes": _LIST,
                "extraVolumeMounts": _LIST,
                "serviceAccount": _closed({"create": _ON, "name": _TEXT, "annotations": _TEXTS}),
                "sidecar": _closed(
                    {"keycloakLabels": {**_TEXTS, "minProperties": 1}, "startupProbe": _ON}
                ),
                "job": _closed(
                    {
                        "args": {"type": "array", "items": {"type": "string"}},
                        "schedule": _TEXT,
                        "timeZone": _TEXT,
                        "backoffLimit": {"type": "integer", "minimum": 0},
                        "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0},
                    }
                ),
                "networkPolicy": _closed(
                    {
                        "enabled": _ON,
                        "monitoring": _LIST,
                        "kafka": _peers(),
                        "keycloak": _peers(),
                        "smtp": _peers(),
                        "otlp": _peers(),
                        "extraEgress": _LIST,
                    }
                ),
                "podDisruptionBudget": _closed(
                    {
                        "enabled": _ON,
                        "maxUnavailable": {
                            "type": ["integer", "string"],
                            "minimum": 1,
                            "pattern": "^[0-9]+%$",
                        },
                    }
                ),
                "podMonitor": _closed(
                    {
                        "enabled": _ON,
                        "interval": {"type": "string", "pattern": "^[0-9]+(s|m)$"},
                        "labels": _TEXTS,
                    }
                ),
                "prometheusRule": _closed(
                    {
                        "enabled": _ON,
                        "labels": _TEXTS,
                        "docs": {"type": "string", "pattern": "^\\S*/$"},
                    }
                ),
                "keda": _closed(
                    {
                        "enabled": _ON,
                        "minReplicas": _COUNT,
                        "maxReplicas": _COUNT,
                        "eventsLag": _COUNT,
                        "invitationsLag": _COUNT,
                        "pollingInterval": _COUNT,
                        "stabilizationSeconds": {"type": "integer", "minimum": 0},
                        "authenticationRef": _TEXT,
                    }
                ),
            },
            required=["config", "layout"],
        ),
    }


def prometheus_rule() -> str:
    """Return the alerts of monitoring/ as a PrometheusRule for Kustomize."""
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "keycloak-bridge",
            "labels": {
                "app.kubernetes.io/name": "keycloak-bridge",
                "app.kubernetes.io/instance": "keycloak-bridge",
            },
        },
    }
    lines = ALERTS.read_text("utf-8").splitlines()
    begin = lines.index("groups:")
    spec = "".join(f"  {line}\n" if line else "\n" for line in lines[begin:])
    return (
        "# Generated by `make docs` from monitoring/alerts.yaml.\n"
        f"{yaml.safe_dump(head, sort_keys=False)}spec:\n{spec}"
    )


def of_this_version(text: str) -> str:
    """Return a manifest, or the description of the chart, with the version of the bridge and of its image."""
    text = re.sub(
        r"^((?:appV|v)ersion: )[0-9]\S*$", rf"\g<1>{__version__}", text, flags=re.MULTILINE
    )
    return re.sub(r"(image: keycloak-bridge:)\S+", rf"\g<1>{__version__}", text)


def write() -> None:
    """Write all of it."""
    schema = json.dumps(values_schema(), indent=2, ensure_ascii=False)
    VALUES_SCHEMA.write_text(schema + "\n", encoding="utf-8")
    RULE.write_text(prometheus_rule(), encoding="utf-8")
    for path in (CHART / "Chart.yaml", *KUSTOMIZE.rglob("*.yaml")):
        path.write_text(of_this_version(path.read_text("utf-8")), encoding="utf-8")


def _config() -> dict[str, Any]:
    """Return the settings without the secrets themselves."""
    sections: dict[str, Any] = copy.deepcopy(settings_schema()["properties"])
    for one in settings_by_name().values():
        if one.kind.secret:
            del sections[one.section]["properties"][one.key]
            sections[one.section].pop("allOf", None)
    for name, required in _NEEDED.items():
        sections[name]["required"] = required
    return _closed(sections, required=list(_NEEDED))


def _secrets() -> dict[str, Any]:
    """Return which settings may come from a file of the cluster, and how."""
    held = _closed({"secret": _NAME, "key": _KEY}, required=["secret", "key"])
    public = _closed({"configMap": _NAME, "key": _KEY}, required=["configMap", "key"])
    token = _closed(
        {
            "serviceAccountToken": _closed(
                {
                    "audience": {"type": "string", "minLength": 1},
                    "expirationSeconds": {"type": "integer", "minimum": 600},
                },
                required=["audience"],
            )
        },
        required=["serviceAccountToken"],
    )
    sections: dict[str, Any] = {}
    for one in file_settings():
        ways = [held, token] if one in _ASSERTIONS else [held]
        if one.endswith(("ca_file", "cafile")):
            ways = [held, public]
        section, _, key = one.partition(".")
        sections.setdefault(section, {})[key] = {"oneOf": ways}
    return _closed({name: _closed(keys) for name, keys in sections.items()})


def file_settings() -> list[str]:
    """Return every setting that names one file which is not the bridge's own: secrets, keys and certificates."""
    secret = {one.in_file.name for one in settings_by_name().values() if one.kind.secret}
    paths = {
        one.name
        for one in settings_by_name().values()
        if one.kind.name == "path" and one.section in {"kafka", "keycloak", "registry"}
    }
    return [name for name in settings_by_name() if name in secret | paths]


def _peers() -> dict[str, Any]:
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    return _closed({"ports": {"type": "array", "items": port}, "peers": _LIST})


def _closed(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """Return the schema of an object with these properties and no others."""
    needed = {"required": required} if required else {}
    return {
        "type": "object",
        "additionalProperties": False,
        **needed,
        "properties": properties,
    }
