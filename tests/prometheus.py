"""Prometheus and promtool of the tests: found on the machine, or taken out of Debian's package without installing it.

`python -m tests.prometheus` makes sure that they are there; `make test` calls it first.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import cache_dir, exclusive

_PACKAGE = "prometheus"
_PROGRAMS = ("prometheus", "promtool")


def find(program: str) -> str:
    """Return the path of `prometheus` or `promtool`, which is unpacked into the cache first where it is missing."""
    found = shutil.which(program)
    if found is None:
        folder = cache_dir() / "prometheus"
        if not (folder / program).exists():
            _unpack(folder)
        found = str(folder / program)
    return found


def _unpack(folder: Path) -> None:
    """Fetch Debian's package and keep its two programs; its dependencies are for a web page that no test opens."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(
            f"no {' and '.join(_PROGRAMS)} on this machine: install Prometheus, or put both into {folder}"
        )
    with (
        exclusive(folder.parent, "prometheus", Event()),
        tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder.parent) as scratch,
    ):
        if (folder / _PROGRAMS[0]).exists():
            return
        print("fetching Prometheus for the tests of the alerts", file=sys.stderr)
        if _apt_get("download", _PACKAGE, into=scratch):
            _apt_get("update", "-q", into=scratch)
            if _apt_get("download", _PACKAGE, into=scratch):
                raise RuntimeError(f"apt-get download {_PACKAGE} failed: install Prometheus")
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
        (Path(scratch) / "usr" / "bin").rename(folder)


def _apt_get(*arguments: str, into: str) -> int:
    return subprocess.run(["apt-get", *arguments], cwd=into, capture_output=True).returncode  # noqa: PLW1510


if __name__ == "__main__":
    try:
        found = " and ".join(str(find(program)) for program in _PROGRAMS)
        print(f"the alerts are tested with {found}", file=sys.stderr)
    except RuntimeError as error:
        sys.exit(str(error))
