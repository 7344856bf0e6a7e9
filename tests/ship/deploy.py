"""`make test-deploy`: the chart and the Kustomize manifests of deploy/ are rendered in every combination, checked and run.

No cluster is needed. Each check is shown a broken manifest too, and must refuse it. The last step runs the rendered Pod with
podman, for which the script has to be root.
"""

import copy
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml

from . import kubernetes_schemas, played_pod
from .checks import Failed, say
from .kubernetes_schemas import is_custom, versions
from .machine import GoProgram, ShipError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "keycloak-bridge"
KUSTOMIZE = ROOT / "deploy" / "kustomize"
SECRETS = "/run/secrets/keycloak-bridge"
NAMESPACES = {"sidecar": "keycloak"}

HELM = GoProgram(
    name="helm",
    module="helm.sh/helm/v3",
    version="v3.22.0",
    checksum="h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=",
    package="./cmd/helm",
    flags=("-ldflags=-s -w",),
)
KUSTOMIZE_PROGRAM = GoProgram(
    name="kustomize",
    module="sigs.k8s.io/kustomize/kustomize/v5",
    version="v5.7.1",
    checksum="h1:sYJsarwy/SDJfjjLMUqwFDGPwzUtMOQ1i1Ed49+XSbw=",
)
KUBE_SCORE = GoProgram(
    name="kube-score",
    module="github.com/zegl/kube-score",
    version="v1.20.0",
    checksum="h1:J1VqK86SunV4Gg8emPTmwUVxe0rmXnAs5K9ZUbGMKR8=",
    package="./cmd/kube-score",
)

LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "deployment": {"layout": "deployment"},
    "sidecar": {"layout": "sidecar"},
    "job": {"layout": "job"},
    "cronjob": {"layout": "job", "job": {"schedule": "0 3 * * *"}},
}
OPTIONS = ("networkPolicy", "podDisruptionBudget", "podMonitor", "prometheusRule", "keda")
REFUSED = {
    "deployment": set(),
    "sidecar": {"networkPolicy", "podDisruptionBudget", "keda"},
    "job": {"podDisruptionBudget", "podMonitor", "prometheusRule", "keda"},
    "cronjob": {"podDisruptionBudget", "podMonitor", "prometheusRule", "keda"},
}
WAYS_IN: Sequence[Mapping[str, Any]] = (
    {"client_secret_file": {"secret": "keycloak-bridge", "key": "client-secret"}},
    {"client_assertion_file": {"serviceAccountToken": {"audience": "https://id.example.com"}}},
)
NOT_SCORED = (
    # a sidecar that is pulled at each start would tie Keycloak's restart to the registry
    "container-image-pull-policy",
)
SIDECAR_FORMS = {
    "workload.yaml": ("spec", "template"),
    "operator.yaml": ("spec", "unsupported", "podTemplate"),
}

Documents = list[dict[str, Any]]


@click.command(help=__doc__)
@click.option("--no-run", is_flag=True, help="Leave out what needs podman.")
def main(no_run: bool) -> None:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _check(Path(scratch))
            if no_run:
                click.echo("  --  the Pod was not run")
            else:
                deployment = _rendered("deployment-values.yaml", Path(scratch))
                for said in played_pod.play(deployment):
                    say(said)
    except (ShipError, Failed) as error:
        sys.exit(f"\n{error}")


def _check(scratch: Path) -> None:
    with _step("programs are there"):
        for program in (HELM, KUSTOMIZE_PROGRAM, KUBE_SCORE, kubernetes_schemas.KUBECONFORM):
            program.build()
    values = sorted((CHART / "ci").glob("*.yaml"))
    with _step(f"helm lint takes {len(values)} files of values, and refuses a misspelt setting"):
        for path in values:
            _helm("lint", "--strict", str(CHART), "--values", str(path))
        wrong = _values({"config": {"kafka": {"group": "x"}}}, scratch)
        _must_fail("additional properties", "lint", str(CHART), "--values", wrong)
    rendered = _in_every_combination(scratch)
    for path in values:
        rendered[path.name] = _rendered(path.name, scratch)
    built = {path.name: _built(path) for path in sorted((KUSTOMIZE / "overlays").iterdir())}
    documents = _distinct({**rendered, **{f"kustomize {k}": v for k, v in built.items()}})
    documents |= _sidecars(rendered)
    _hold_to_schemas(documents, scratch)
    _score(rendered, built, scratch)
    _compare(rendered, built)
    _hold_alerts(rendered["deployment-values.yaml"])
    _check_settings(rendered, scratch)


def _in_every_combination(scratch: Path) -> dict[str, Documents]:
    """Render each layout with each set of options and each way to log in; what a layout cannot have must be refused."""
    cases = [
        (layout, chosen, way)
        for layout in LAYOUTS
        for count in range(len(OPTIONS) + 1)
        for chosen in itertools.combinations(OPTIONS, count)
        for way in (0, 1)
    ]
    names = [f"{layout} {' '.join(chosen)} {way}" for layout, chosen, way in cases]
    with _step(f"helm template renders or refuses {len(cases)} combinations") as notes:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda case: _render_case(case, scratch), cases))
        rendered = {
            name: documents for name, documents in zip(names, found, strict=True) if documents
        }
        notes.append(f"{len(rendered)} rendered, {len(cases) - len(rendered)} refused")
    return rendered


def _render_case(case: tuple[str, Sequence[str], int], scratch: Path) -> Documents | None:
    layout, chosen, way = case
    values = {
        **LAYOUTS[layout],
        **{option: {"enabled": True} for option in chosen},
        "serviceAccount": {"create": not way},
        "secrets": {"keycloak": WAYS_IN[way]},
    }
    file = _values(values, scratch)
    never = sorted(REFUSED[layout] & set(chosen))
    if never:
        _must_fail("cannot have", *_template(file))
        return None
    documents = _loaded(_helm(*_template(file)))
    kinds = {one["kind"] for one in documents}
    expected = {
        {"keda": "ScaledObject"}.get(option, option[0].upper() + option[1:]) for option in chosen
    }
    if missing := expected - kinds:
        raise ShipError(f"{layout} with {', '.join(chosen)} has no {', '.join(missing)}")
    return documents


def _hold_to_schemas(documents: Mapping[str, dict[str, Any]], scratch: Path) -> None:
    broken = _misspelt(documents)
    own = {name: one for name, one in documents.items() if not is_custom(one)}
    with _step(f"kubernetes-validate takes {len(own)} manifests") as notes:
        _none(kubernetes_schemas.validated(documents))
        _each(kubernetes_schemas.validated(broken), broken, "kubernetes-validate", custom=False)
        notes.append(f"Kubernetes {versions()[0]} to {versions()[-1]}; and refuses each misspelt")
    with _step(f"kubeconform takes {len(documents)} manifests, and refuses each misspelt"):
        for title, found in (("right", documents), ("wrong", broken)):
            folder = scratch / title
            folder.mkdir()
            for name, one in found.items():
                (folder / f"{name}.yaml").write_text(yaml.safe_dump(one), "utf-8")
            schemas = scratch / f"schemas-{title}"
            schemas.mkdir()
            kinds = {(one["apiVersion"], one["kind"]) for one in found.values()}
            problems = kubernetes_schemas.conformed(folder, kinds, schemas)
            if title == "right":
                _none(problems)
            else:
                _each(problems, broken, "kubeconform", custom=True)


def _score(
    rendered: Mapping[str, Documents], built: Mapping[str, Documents], scratch: Path
) -> None:
    files = {
        name: documents
        for name, documents in rendered.items()
        # OpenShift chooses the ids that are asked for here
        if name.endswith("values.yaml") and not name.startswith("openshift")
    }
    files |= {f"kustomize-{name}": documents for name, documents in built.items()}
    with _step(f"kube-score finds nothing critical in {len(files)} outputs") as notes:
        for name, documents in files.items():
            _none(f"{name}: {one}" for one in _critical(_guarded(documents, rendered), scratch))
        worse = copy.deepcopy(files["job-values.yaml"])
        del _pod_of(worse)["containers"][0]["securityContext"]
        if not _critical(_guarded(worse, rendered), scratch):
            raise ShipError("kube-score takes a container without a security context")
        notes.append("and does in a Pod without a security context")


def _guarded(documents: Documents, rendered: Mapping[str, Documents]) -> Documents:
    """Return manifests with a NetworkPolicy for their Pods, which kube-score expects of everything that is whole."""
    templates = list(_templates(documents))
    if not templates or any(one["kind"] == "NetworkPolicy" for one in documents):
        return documents
    (policy,) = (
        one for one in rendered["deployment-values.yaml"] if one["kind"] == "NetworkPolicy"
    )
    guard = copy.deepcopy(policy)
    guard["spec"]["podSelector"]["matchLabels"] = templates[0]["metadata"]["labels"]
    guard["metadata"]["namespace"] = documents[0]["metadata"].get("namespace")
    return [*documents, guard]


def _critical(documents: Documents, scratch: Path) -> list[str]:
    file = scratch / "scored.yaml"
    file.write_text(yaml.safe_dump_all(documents), "utf-8")
    ignored = [part for test in NOT_SCORED for part in ("--ignore-test", test)]
    done = _run([KUBE_SCORE.build(), "score", "--output-format", "json", *ignored, str(file)])
    if not done.stdout.startswith(("[", "null")):
        raise ShipError(f"kube-score failed: {done.stderr[-1000:]}")
    return [
        f"{scored['object_name']}: {check['check']['name']}: {comment['summary']}"
        for scored in json.loads(done.stdout) or []
        for check in scored["checks"]
        if check["grade"] == 1 and not check["skipped"]
        for comment in check["comments"] or [{"summary": "", "path": ""}]
        # what Keycloak's own container may do is not the bridge's to say
        if comment["path"] != "keycloak"
    ]


def _compare(rendered: Mapping[str, Documents], built: Mapping[str, Documents]) -> None:
    """Each overlay is the same as what the chart makes of the values of that name."""
    with _step(f"Kustomize builds {len(built)} overlays to what the chart makes"):
        for name, documents in built.items():
            of_chart = _plain(rendered[f"{name}-values.yaml"])
            of_kustomize = _plain(documents)
            if name == "sidecar":
                _compare_sidecar(rendered, documents)
                of_chart.pop("ConfigMap keycloak-bridge-sidecar")
                of_kustomize.pop("StatefulSet keycloak")
                of_kustomize.pop("Service keycloak")
            _none(_differences(of_chart, of_kustomize, name))
        changed = copy.deepcopy(of_kustomize)
        next(iter(changed.values()))["metadata"]["labels"]["more"] = "x"
        if not _differences(of_chart, changed, "changed"):
            raise ShipError("the comparison takes another label for the same")


def _compare_sidecar(rendered: Mapping[str, Documents], documents: Documents) -> None:
    """Keycloak's Pod of the overlay has what the chart would add to it, in each of its forms."""
    (keycloak,) = (one for one in documents if one["kind"] == "StatefulSet")
    pod = _unhashed(keycloak["spec"]["template"]["spec"])
    expected = (pod["initContainers"], pod["volumes"])
    for form, found in _sidecar_parts(rendered["sidecar-values.yaml"]).items():
        if found != expected:
            raise ShipError(f"{form} of the chart differs from the overlay: {found} != {expected}")


def _sidecar_parts(documents: Documents) -> dict[str, tuple[Any, Any]]:
    """Return init containers and volumes of each form in which the chart hands them out."""
    (data,) = (
        one["data"]
        for one in documents
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-sidecar")
    )
    parts = {}
    for form, path in SIDECAR_FORMS.items():
        node = yaml.safe_load(data[form])
        for key in path:
            node = node[key]
        parts[form] = (node["spec"]["initContainers"], node["spec"]["volumes"])
    texts = yaml.safe_load(data["keycloakx.yaml"])
    parts["keycloakx.yaml"] = (
        yaml.safe_load(texts["extraInitContainers"]),
        yaml.safe_load(texts["extraVolumes"]),
    )
    lists = yaml.safe_load(data["bitnami.yaml"])
    parts["bitnami.yaml"] = (lists["initContainers"], lists["extraVolumes"])
    return parts


def _sidecars(rendered: Mapping[str, Documents]) -> dict[str, dict[str, Any]]:
    """Return a Pod with what each sidecar layout hands out, so that the schemas see it."""
    pods = {}
    for number, (name, documents) in enumerate(rendered.items()):
        if name.startswith("sidecar"):
            containers, volumes = _sidecar_parts(documents)["workload.yaml"]
            pods[f"sidecar-{number}"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "keycloak"},
                "spec": {
                    "initContainers": containers,
                    "containers": [{"name": "keycloak", "image": "keycloak:1.0"}],
                    "volumes": volumes,
                },
            }
    return _distinct({"": list(pods.values())}, "sidecar")


def _hold_alerts(documents: Documents) -> None:
    with _step("the PrometheusRule is monitoring/alerts.yaml"):
        alerts = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text("utf-8"))
        (rule,) = (one for one in documents if one["kind"] == "PrometheusRule")
        if rule["spec"] != alerts:
            raise ShipError("the chart's PrometheusRule differs from monitoring/alerts.yaml")


def _check_settings(rendered: Mapping[str, Documents], scratch: Path) -> None:
    """`keycloak-bridge check-config` reads each bridge.toml that the chart writes, with the files that are mounted."""
    configs = {
        json.dumps(one["data"], sort_keys=True)
        for documents in rendered.values()
        for one in documents
        if one["kind"] == "ConfigMap" and "bridge.toml" in one["data"]
    }
    with _step(f"check-config takes the {len(configs)} bridge.toml of the chart") as notes:
        for number, config in enumerate(sorted(configs)):
            if complaint := _complaint(json.loads(config), scratch / f"settings-{number}"):
                raise ShipError(f"check-config refuses what the chart writes: {complaint}")
        data = dict(json.loads(min(configs)))
        data["bridge.toml"] = data["bridge.toml"].replace("bootstrap_servers", "bootstrap_server")
        if not _complaint(data, scratch / "settings-wrong"):
            raise ShipError("check-config takes a misspelt key")
        notes.append("and refuses a misspelt key")


def _complaint(data: Mapping[str, str], folder: Path) -> str:
    """Return what check-config says against a ConfigMap's files, or nothing."""
    for name, text in data.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(SECRETS, str(folder / "secrets")), "utf-8")
    for section, keys in tomllib.loads(data["bridge.toml"]).items():
        for value in keys.values():
            if isinstance(value, str) and value.startswith(SECRETS):
                path = folder / "secrets" / section / Path(value).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x", "utf-8")
    program = [sys.executable, "-m", "keycloak_bridge"]
    done = _run([*program, "--config", str(folder / "bridge.toml"), "check-config"], cwd=ROOT)
    return (done.stderr or done.stdout) if done.returncode else ""


def _plain(documents: Documents) -> dict[str, Any]:
    """Return manifests by kind and name, without what only one of both tools writes: its own marks, and hashes in names."""
    plain = {}
    for document in documents:
        one = _unhashed(copy.deepcopy(document))
        for metadata in (
            one["metadata"],
            one.get("spec", {}).get("template", {}).get("metadata", {}),
        ):
            for mark in (
                "helm.sh/chart",
                "app.kubernetes.io/managed-by",
                "app.kubernetes.io/version",
            ):
                metadata.get("labels", {}).pop(mark, None)
            metadata.get("annotations", {}).pop("checksum/config", None)
            if not metadata.get("annotations", True):
                del metadata["annotations"]
        # the number of the release: a Job cannot be changed
        one["metadata"]["name"] = one["metadata"]["name"].removesuffix("-1")
        if "bridge.toml" in one.get("data", {}):
            one["data"]["bridge.toml"] = tomllib.loads(one["data"]["bridge.toml"])
        plain[f"{one['kind']} {one['metadata']['name']}"] = one
    return plain


def _unhashed(node: Any) -> Any:
    """Return a manifest without the hash that Kustomize adds to a ConfigMap's name."""
    return json.loads(
        re.sub(r"\bkeycloak-bridge-[a-z0-9]{10}\b", "keycloak-bridge", json.dumps(node))
    )


def _differences(left: Any, right: Any, where: str) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        return [
            one
            for key in sorted(left.keys() | right.keys())
            for one in _differences(left.get(key), right.get(key), f"{where}/{key}")
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            one
            for number, pair in enumerate(zip(left, right, strict=True))
            for one in _differences(*pair, f"{where}/{number}")
        ]
    return [] if left == right else [f"{where}: the chart has {left}, Kustomize {right}"]


def _misspelt(documents: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return one manifest of each kind with a key that does not exist, in its specification where it has one."""
    broken = {}
    for one in documents.values():
        worse = copy.deepcopy(one)
        worse.get("spec", worse)["mispelt"] = "x"
        broken[f"broken-{one['kind'].lower()}"] = worse
    return broken


def _each(
    problems: Sequence[str], broken: Mapping[str, dict[str, Any]], program: str, *, custom: bool
) -> None:
    """Fail unless a problem was found in each broken manifest."""
    for name, one in broken.items():
        if (custom or not is_custom(one)) and not any(name in problem for problem in problems):
            raise ShipError(f"{program} takes a {one['kind']} with a key that does not exist")


def _none(problems: Any) -> None:
    found = list(problems)
    if found:
        raise ShipError("\n".join(found[:10]))


def _distinct(rendered: Mapping[str, Documents], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return every manifest once, by a name for people."""
    found: dict[str, dict[str, Any]] = {}
    for documents in rendered.values():
        for one in documents:
            found.setdefault(json.dumps(one, sort_keys=True), one)
    return {
        f"{prefix}{one['kind'].lower()}-{number}": one for number, one in enumerate(found.values())
    }


def _templates(documents: Documents) -> Iterator[dict[str, Any]]:
    for one in documents:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]


def _pod_of(documents: Documents) -> dict[str, Any]:
    (template,) = _templates(documents)
    return dict(template["spec"])


def _rendered(values: str, scratch: Path) -> Documents:
    file = CHART / "ci" / values
    name = values.removesuffix("-values.yaml")
    return _loaded(_helm(*_template(str(file), NAMESPACES.get(name, "keycloak-bridge"))))


def _built(overlay: Path) -> Documents:
    done = _run([KUSTOMIZE_PROGRAM.build(), "build", str(overlay)])
    if done.returncode or done.stderr:
        raise ShipError(f"kustomize build {overlay.name}: {done.stderr[-1000:]}")
    return _loaded(done.stdout)


def _loaded(text: str) -> Documents:
    return [one for one in yaml.safe_load_all(text) if one]


def _values(values: Mapping[str, Any], scratch: Path) -> str:
    """Write values with what every release needs; return the file."""
    needed = yaml.safe_load((CHART / "ci" / "job-values.yaml").read_text("utf-8"))
    config = {
        section: {**needed["config"].get(section, {}), **values.get("config", {}).get(section, {})}
        for section in needed["config"].keys() | values.get("config", {}).keys()
    }
    with tempfile.NamedTemporaryFile("w", dir=scratch, suffix=".yaml", delete=False) as file:
        yaml.safe_dump({**needed, **values, "config": config}, file)
    return file.name


def _template(values: str, namespace: str = "keycloak-bridge") -> list[str]:
    release = ["template", "keycloak-bridge", str(CHART), "--namespace", namespace]
    return [*release, "--kube-version", f"{versions()[0]}.0", "--values", values]


def _helm(*arguments: str) -> str:
    done = _run([HELM.build(), *arguments])
    if done.returncode:
        raise ShipError(f"helm {' '.join(arguments)}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _must_fail(sentence: str, *arguments: str) -> None:
    done = _run([HELM.build(), *arguments])
    said = done.stdout + done.stderr
    if not done.returncode or sentence not in said:
        raise ShipError(f"helm {' '.join(arguments)} was to fail with '{sentence}': {said[-1000:]}")


def _run(
    command: Sequence[str | Path], cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )


@contextmanager
def _step(title: str) -> Iterator[list[str]]:
    began = time.monotonic()
    notes: list[str] = []
    try:
        yield notes
    except ShipError as error:
        raise ShipError(f"{title}: {error}") from error
    say(f"{'; '.join((title, *notes))} ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
