"""What the checks of shipping need on this machine: programs of Debian's packages, and Go programs built from source."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import cache_dir, exclusive


class ShipError(Exception):
    """Something that a person has to act on; the message says what, where and the remedy."""


def require(programs: Mapping[str, str]) -> None:
    """Make sure that the programs are there: Debian's package of each (by program) is installed where this user may."""
    missing = {name: package for name, package in programs.items() if not installed(name)}
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = sorted(set(missing.values()))
        print(f"installing {', '.join(packages)}", file=sys.stderr)
        _apt_get("update", "-q")
        _apt_get("install", "-y", "-q", "--no-install-recommends", *packages)
        missing = {name: package for name, package in missing.items() if not installed(name)}
    if missing:
        packages = sorted(set(missing.values()))
        raise ShipError(
            f"{', '.join(missing)} not found on this machine: "
            f"sudo apt-get install {' '.join(packages)} (or the equivalent of your system)."
        )


def require_root(purpose: str) -> None:
    """Refuse to go on as another user than root."""
    if os.geteuid() != 0:
        raise ShipError(f"{purpose} needs root on Linux: run it with sudo or in a virtual machine.")


def installed(program: str) -> bool:
    """Tell whether a program is on the path, or a file with that absolute name is there."""
    return shutil.which(program) is not None


def _apt_get(*arguments: str) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
    subprocess.run(["apt-get", *arguments], stdout=subprocess.DEVNULL, env=quiet, check=False)


@dataclass(frozen=True, slots=True)
class GoModule:
    """A Go module, pinned by its checksum as go.sum has it."""

    module: str
    version: str
    checksum: str

    def folder(self) -> Path:
        """Return the folder with the module's files, which are fetched once."""
        coordinates = f"{self.module}@{self.version}"
        if shutil.which("go") is None:
            raise ShipError(
                f"No Go on this machine to fetch {coordinates}: see https://go.dev/doc/install."
            )
        found = json.loads(_go(("mod", "download", "-json", coordinates), "/"))
        if found["Sum"] != self.checksum:
            raise ShipError(
                f"{coordinates} has the checksum {found['Sum']} "
                f"where {self.checksum} is pinned: it was not used."
            )
        return Path(found["Dir"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProgram(GoModule):
    """A program of a Go module."""

    name: str
    package: str = "."
    flags: tuple[str, ...] = ()

    def build(self) -> Path:
        """Return the program, which is compiled into the cache once; that takes some minutes."""
        target = cache_dir() / "go" / f"{self.name}-{self.version}"
        if not target.exists():
            with exclusive(cache_dir(), f"go-{self.name}", Event()):
                if not target.exists():
                    print(
                        f"building {self.name} {self.version} (once, some minutes)", file=sys.stderr
                    )
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._compile(target)
        return target

    def _compile(self, target: Path) -> None:
        folder = str(self.folder())
        with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
            # As the main module: `go install module@version` refuses modules that exclude or replace others.
            built = Path(scratch, self.name)
            arguments = ("build", "-mod=readonly", "-trimpath", *self.flags)
            _go((*arguments, "-o", str(built), self.package), folder)
            built.replace(target)


def _go(arguments: Sequence[str], folder: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ShipError(f"go {' '.join(arguments)} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout
