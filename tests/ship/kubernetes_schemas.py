"""Schemas of Kubernetes and of the CRDs that deploy/ uses, and the two programs that hold manifests to them.

`kubernetes-validate` brings the strict schemas of each Kubernetes version. The same, with all references inside, are what
`kubeconform` takes; the CRDs come from the Go modules of the Prometheus operator and of KEDA.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import yaml

from keycloak_bridge.sandbox.distribution import cache_dir, exclusive

from .machine import GoModule, GoProgram, ShipError
from .programs import run

VALIDATE = "kubernetes-validate==1.37.0"
OLDEST = (1, 29)
"""The oldest Kubernetes that the chart allows."""

KUBECONFORM = GoProgram(
    name="kubeconform",
    module="github.com/yannh/kubeconform",
    version="v0.8.0",
    checksum="h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=",
    package="./cmd/kubeconform",
)
CRDS: Mapping[GoModule, Sequence[str]] = {
    GoModule(
        module="github.com/prometheus-operator/prometheus-operator",
        version="v0.85.0",
        checksum="h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    ): (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    GoModule(
        module="github.com/kedacore/keda/v2",
        version="v2.21.0",
        checksum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    ): ("config/crd/bases/keda.sh_scaledobjects.yaml",),
}

_VALIDATOR = """
import json, sys, kubernetes_validate
for line in sys.stdin:
    name, version, document = json.loads(line)
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        print(f"{name}: Kubernetes {version}: {error.json_path}: {error.message[:300]}")
"""


@cache
def _environment() -> Path:
    """Return the folder of a virtual environment of its own with kubernetes-validate: its schemas are 100 MB."""
    folder = cache_dir() / "python" / VALIDATE.replace("==", "-")
    done = folder / ".installed"
    with exclusive(cache_dir(), "kubernetes-validate", Event()):
        if not done.exists():
            print(f"installing {VALIDATE} (once)", file=sys.stderr)
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, VALIDATE]):
                run(command)
            done.touch()
    return folder


@cache
def _schemas_folder() -> Path:
    (folder,) = _environment().glob(
        "lib/*/site-packages/kubernetes_validate/kubernetes-json-schema"
    )
    return folder


@cache
def versions() -> tuple[str, ...]:
    """Return the Kubernetes versions whose schemas there are, from the oldest that the chart allows."""
    found = {
        tuple(int(part) for part in path.name[1:].split("-")[0].split(".")[:2])
        for path in _schemas_folder().glob("v*-local-strict")
    }
    return tuple(f"{major}.{minor}" for major, minor in sorted(found) if (major, minor) >= OLDEST)


def is_custom(document: Mapping[str, Any]) -> bool:
    """Tell whether a manifest is of a CRD, which no schema of Kubernetes knows."""
    return document["kind"] in {"PodMonitor", "PrometheusRule", "ScaledObject"}


def validated(documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what kubernetes-validate finds wrong with manifests, by their names, in any version."""
    lines = [
        json.dumps([name, version, document])
        for version in versions()
        for name, document in documents.items()
        if not is_custom(document)
    ]
    done = subprocess.run(
        [_environment() / "bin" / "python", "-c", _VALIDATOR],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ShipError(f"kubernetes-validate failed: {done.stderr[-1000:]}")
    return done.stdout.splitlines()


def conformed(folder: Path, kinds: Iterable[tuple[str, str]], scratch: Path) -> list[str]:
    """Return what kubeconform finds wrong with the manifests of a folder, in any version.

    `kinds` are the API versions and kinds of these manifests; their schemas are written to `scratch`.
    """
    program = KUBECONFORM.build()
    _write_custom(scratch)
    kinds = tuple(kinds)
    problems = []
    for version in versions():
        _write_schemas(version, kinds, scratch)
        done = subprocess.run(
            [
                *(program, "-strict", "-output", "json", "-kubernetes-version", f"{version}.0"),
                *(
                    "-schema-location",
                    f"{scratch}/{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                ),
                *("-schema-location", f"{scratch}/{{{{.Group}}}}/{{{{.ResourceKind}}}}.json"),
                folder,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout:
            raise ShipError(f"kubeconform failed: {done.stderr[-1000:]}")
        problems += [
            f"{Path(one['filename']).name}: Kubernetes {version}: {one['msg'][:300]}"
            for one in json.loads(done.stdout)["resources"]
        ]
    return problems


def _write_schemas(version: str, kinds: Iterable[tuple[str, str]], scratch: Path) -> None:
    """Write the schema of each kind of this Kubernetes with everything it refers to."""
    folder = _schemas_folder() / f"v{version}.0-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text("utf-8"))["$defs"]
    target = scratch / version
    target.mkdir(exist_ok=True)
    for api_version, kind in kinds:
        group, _, number = api_version.rpartition("/")
        short = f"{group.split('.')[0]}-{number}" if group else number
        source = folder / f"{kind.lower()}-{short}.json"
        if source.exists():
            schema = json.loads(source.read_text("utf-8"))
            schema.pop("$id", None)
            schema["$defs"] = {
                name: _local(definitions[name]) for name in _needed(schema, definitions)
            }
            (target / source.name).write_text(json.dumps(_local(schema)), "utf-8")


def _needed(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Return the names of all definitions that a schema refers to, also by others."""
    found: set[str] = set()
    left = list(_references(schema))
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _references(definitions[name])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _local(node: Any) -> Any:
    """Return a schema whose references lead into itself."""
    if isinstance(node, dict):
        return {
            key: f"#/$defs/{value.rpartition('/')[2]}"
            if key == "$ref" and isinstance(value, str)
            else _local(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_local(value) for value in node]
    return node


def _write_custom(scratch: Path) -> None:
    """Write the schemas of the CRDs: an object that declares its properties takes no others, as the API server drops them."""
    for module, paths in CRDS.items():
        for path in paths:
            declared = yaml.safe_load((module.folder() / path).read_text("utf-8"))["spec"]
            schema = declared["versions"][0]["schema"]["openAPIV3Schema"]
            target = scratch / declared["group"]
            target.mkdir(exist_ok=True)
            strict = _closed(schema)
            strict["properties"]["metadata"] = {"type": "object"}
            name = f"{declared['names']['kind'].lower()}.json"
            (target / name).write_text(json.dumps(strict), "utf-8")


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(value) for value in node]
    if not isinstance(node, dict):
        return node
    result = {key: _closed(value) for key, value in node.items()}
    declares = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if declares and not node.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string") is True:
        result.pop("type", None)
    return result
