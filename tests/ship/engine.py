"""A container engine of its own: podman with images, volumes and networks that nothing else on this machine uses.

Its API is what Docker Compose talks to. Podman leaves the timing of health checks to systemd, which neither containers nor
CI have: here a thread runs each check at its interval, as Docker does.
"""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .machine import ShipError

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}
"""What the engine needs, and the package that has it in Debian."""

_START_S = 60.0
_SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
# locks in files: the usual shared memory is one for all engines of this machine
lock_type = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
default_subnet_pools = [{"base" = "10.213.0.0/16", "size" = 24}]
"""


class Engine:
    """Podman on its own storage, which stays, and its own run-time folder, which is gone after a boot."""

    def __init__(self, storage: Path, runtime: Path) -> None:
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = runtime / "containers.conf"
        settings.write_text(_SETTINGS, "utf-8")
        self._socket = runtime / "podman.sock"
        self._log = runtime / "podman.log"
        self._command = (
            "podman",
            *("--root", str(storage / "images")),
            *("--runroot", str(runtime / "run")),
            *("--tmpdir", str(runtime / "tmp")),
            *("--network-config-dir", str(storage / "networks")),
        )
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(settings),
            "DISABLE_HC_SYSTEMD": "true",
        }

    @property
    def address(self) -> str:
        """Return the API's address, as DOCKER_HOST takes it."""
        return f"unix://{self._socket}"

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Run a podman command and return what it prints; a failure is an error with its last lines."""
        done = self._podman(arguments, timeout_s)
        if done.returncode:
            raise ShipError(f"podman {arguments[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
        return done.stdout

    def succeeds(self, *arguments: str) -> bool:
        """Tell whether a podman command ends with 0."""
        return self._podman(arguments, None).returncode == 0

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine knows of one container."""
        (found,) = json.loads(self.run("container", "inspect", container))
        return dict(found)

    def logs(self, container: str) -> str:
        """Return what a container has written to both of its streams."""
        done = self._podman(("logs", container), None)
        return done.stdout + done.stderr

    def build(self, tag: str, folder: Path, dockerfile: Path, options: Sequence[str] = ()) -> None:
        """Build an image from a Dockerfile, without pulling anything."""
        self.run(
            *("build", "--isolation=chroot", "--network=host", "--pull=never", "--format=docker"),
            *("--cap-add=all", "--tag", tag, "--file", str(dockerfile), *options, str(folder)),
        )

    def label(self, image: str, name: str) -> str | None:
        """Return a label of an image, or None where there is no such image."""
        done = self._podman(("image", "inspect", image), None)
        if done.returncode:
            return None
        (found,) = json.loads(done.stdout)
        return (found.get("Labels") or {}).get(name)

    def leftovers(self) -> list[str]:
        """Return the containers, volumes and networks that there are, but for the engine's own network."""
        kinds = {
            "container": ("ps", "--all", "--format={{.Names}}"),
            "volume": ("volume", "ls", "--format={{.Name}}"),
            "network": ("network", "ls", "--format={{.Name}}"),
        }
        return [
            f"{kind} {name}"
            for kind, command in kinds.items()
            for name in self.run(*command).split()
            if name != "podman"
        ]

    def clear(self) -> None:
        """Remove every container, volume and network; images stay."""
        self.run("rm", "--all", "--force", "--volumes", "--time=1")
        self.run("volume", "rm", "--all", "--force")
        networks = self.run("network", "ls", "--format={{.Name}}").split()
        for name in networks:
            if name != "podman":
                self.run("network", "rm", "--force", name)

    def prune(self) -> None:
        """Remove layers that a later build replaced; those of today make the next build short."""
        self.run("image", "prune", "--force", "--filter=until=24h")

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the API, and run the health checks of every container."""
        self._socket.unlink(missing_ok=True)
        stop = threading.Event()
        with self._log.open("wb") as log:
            service = subprocess.Popen(
                [*self._command, "system", "service", "--time=0", self.address],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the check, which still needs the API to remove what runs
            )
            checks = threading.Thread(target=self._check_health, args=(stop,), name="health")
            try:
                self._wait_for_socket(service)
                checks.start()
                yield
            finally:
                stop.set()
                if checks.is_alive():
                    checks.join()
                service.terminate()
                service.wait()

    def _wait_for_socket(self, service: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + _START_S
        while not self._socket.exists():
            if service.poll() is not None or time.monotonic() > until:
                raise ShipError(f"podman's API did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _check_health(self, stop: threading.Event) -> None:
        due: dict[str, float] = {}
        while not stop.wait(0.5):
            for container in self._podman(("ps", "--quiet", "--no-trunc"), None).stdout.split():
                if due.get(container, 0) > time.monotonic() or stop.is_set():
                    continue
                interval_s = self._interval_s(container)
                if interval_s is not None:
                    self._podman(("healthcheck", "run", container), None)
                due[container] = time.monotonic() + (interval_s or 3600)

    def _interval_s(self, container: str) -> float | None:
        done = self._podman(("container", "inspect", container), None)
        if done.returncode:
            return None
        check: Mapping[str, Any] = json.loads(done.stdout)[0]["Config"].get("Healthcheck") or {}
        if check.get("Test", ["NONE"])[0] == "NONE":
            return None
        return float(check.get("Interval") or 30e9) / 1e9

    def _podman(
        self, arguments: Sequence[str], timeout_s: float | None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
