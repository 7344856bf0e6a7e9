"""Run the rendered Pod with `podman play kube`, and do what the kubelet does: ask /live and /ready, and stop it by SIGTERM.

Podman knows no probes of Kubernetes by a name of a port, no projected volumes and no native sidecars: probes are asked from
here, secrets are a folder of this machine, and the Pod is that of the Deployment.
"""

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import requests
import yaml

from keycloak_bridge import __version__
from keycloak_bridge.sandbox.distribution import cache_dir, exclusive

from . import engine, standins
from .checks import expect_equal
from .engine import Engine
from .machine import ShipError, require, require_root

ROOT = Path(__file__).parents[2]
IMAGE = f"keycloak-bridge:{__version__}"
_RUNTIME = Path("/run/keycloak-bridge-image")
_POD = "keycloak-bridge-ship"
_NETWORK = "podman-default-kube-network"
_ANSWER_S = 120.0


def play(documents: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Run the Pod of a Deployment among `documents`, and yield a sentence for each thing that it does as it should."""
    require_root("A Pod in podman")
    require({**engine.PROGRAMS, **standins.PROGRAMS})
    with exclusive(cache_dir(), "ship-image", Event()), tempfile.TemporaryDirectory() as folder:
        own = Engine(cache_dir() / "ship" / "image", _RUNTIME)
        own.clear()
        try:
            standins.build_bridge(own, IMAGE, ROOT)
            yield from _played(own, documents, Path(folder))
        finally:
            own.clear()


def _played(own: Engine, documents: Sequence[dict[str, Any]], folder: Path) -> Iterator[str]:
    manifest = folder / "pod.yaml"
    manifest.write_text(yaml.safe_dump_all(_for_podman(documents, folder)), "utf-8")
    own.run("play", "kube", str(manifest))
    name = f"{_POD}-keycloak-bridge"
    container = own.inspect(name)
    (infra,) = own.run("ps", "--filter=name=-infra", "--quiet").split()
    address = own.inspect(infra)["NetworkSettings"]["Networks"][_NETWORK]["IPAddress"]
    port = next(
        env.partition("=")[2]
        for env in container["Config"]["Env"]
        if env.startswith("KEYCLOAK_BRIDGE_HEALTH_PORT=")
    )
    base = f"http://{address}:{port}"
    live = _answer(f"{base}/live", lambda: own.logs(name))
    ready = _answer(f"{base}/ready", lambda: own.logs(name))
    expect_equal("/live and /ready, without Kafka and Keycloak", (200, 503), (live, ready))
    yield "the Pod runs: /live 200 and /ready 503 at its address, with Kafka and Keycloak away"
    user, group, capabilities, seccomp = (
        own.run("top", name, "user", "group", "capeff", "seccomp").splitlines()[1].split()[:4]
    )
    host = container["HostConfig"]
    writable = sorted(one["Destination"] for one in container["Mounts"] if one["RW"])
    expect_equal("its user and group", ("10001", "10001"), (user, group))
    expect_equal("its capabilities and seccomp", ("none", "filter"), (capabilities, seccomp))
    expect_equal("what it may write", (True, ["/tmp"]), (host["ReadonlyRootfs"], writable))  # noqa: S108 # the container's
    expect_equal("no-new-privileges", True, "no-new-privileges" in host["SecurityOpt"])
    expect_equal("its limit of memory", 512 * 1024 * 1024, host["Memory"])
    secret = own.run(
        "exec", name, "cat", "/run/secrets/keycloak-bridge/keycloak/client_secret_file"
    )
    expect_equal("the mounted secret", "s3cret", secret)
    yield "user 10001, no capability, seccomp, read-only root but /tmp, 512 MiB, the secret as a file"
    own.run("exec", name, "keycloak-bridge", "check-config")
    own.run("exec", name, "sh", "-c", "keycloak-bridge guard status; test $? = 1")
    yield "check-config and guard status work in it, without naming the settings' file"
    own.run("stop", "--time=45", name)
    expect_equal("its exit code after SIGTERM", 0, own.inspect(name)["State"]["ExitCode"])
    yield "SIGTERM ends it with 0"


def _for_podman(documents: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return the ConfigMap and the Pod of the Deployment, with what podman does not know made plain."""
    settings = copy.deepcopy(_one(documents, "ConfigMap"))
    template = copy.deepcopy(_one(documents, "Deployment")["spec"]["template"])
    (container,) = template["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del container[probe]
    container["image"] = IMAGE
    # asked at the Pod's own address: nothing is published on this machine
    del container["ports"]
    for volume in template["spec"]["volumes"]:
        if volume.pop("projected", None):
            volume["hostPath"] = {"path": str(_secrets(folder)), "type": "Directory"}
    del settings["metadata"]["namespace"]
    metadata = {"name": _POD, "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return [settings, pod]


def _secrets(folder: Path) -> Path:
    path = folder / "secrets"
    (path / "keycloak").mkdir(parents=True)
    (path / "keycloak" / "client_secret_file").write_text("s3cret", "utf-8")
    for one in (folder, path, path / "keycloak"):
        one.chmod(0o755)
    return path


def _one(documents: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (one for one in documents if one["kind"] == kind)
    return dict(found)


def _answer(url: str, log: Any) -> int:
    """Return the status of the first answer; none within the time is a failure with the bridge's last lines."""
    until = time.monotonic() + _ANSWER_S
    with requests.Session() as session:
        session.trust_env = False
        while True:
            try:
                return session.get(url, timeout=10).status_code
            except requests.RequestException as error:
                if time.monotonic() > until:
                    raise ShipError(f"{url} did not answer ({error}); {log()[-1500:]}") from None
                time.sleep(0.5)
