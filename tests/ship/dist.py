"""Build the release and prove it: `python -m tests.ship.dist [--without-demo]`, as `make dist` does.

Builds the commit that is checked out twice, in two folders and two time zones: the bytes have to be equal, and a wheel out of the
sdist has to be the wheel out of the repository. Then it checks what is in both, installs the wheel in
new environments outside the checkout, and runs the demo from there. What passed is in dist/, with SHA256SUMS.
"""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from keycloak_bridge import __version__

from .archives import Known, differences, members, normalised
from .installed import demonstrate, new_environment, try_without_extras
from .machine import ShipError
from .programs import run

ROOT = Path(__file__).parents[2]
TOOLS = Path(__file__).with_name("dist-requirements.txt")
NAME = f"keycloak_bridge-{__version__}"
WHEEL, SDIST = f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"
OF_SETUPTOOLS = ("PKG-INFO", "keycloak_bridge.egg-info/")
MAN_PAGE = f"{NAME}.data/data/share/man/man1/keycloak-bridge.1"
IN_WHEEL = (
    "keycloak_bridge/py.typed",
    "keycloak_bridge/default_mapping.toml",
    "keycloak_bridge/sandbox/keycloak_config/acme-realm.json",
    "keycloak_bridge/schemas/user.created/1.0.json",
    "keycloak_bridge/ui/page.html",
    MAN_PAGE,
    f"{NAME}.dist-info/licenses/LICENSE",
    f"{NAME}.dist-info/licenses/NOTICE",
)

_UMASK = 0o022
"""The modes of files are bytes of a wheel too."""


def main(arguments: Sequence[str]) -> int:
    """Build, prove, and leave what was proven in dist/; return 0 when all of it passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.ship.dist", description=__doc__)
    parser.add_argument(
        "--without-demo", action="store_true", help="start no Kafka and no Keycloak"
    )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="keycloak-bridge-dist-") as scratch:
            _release(Path(scratch), demo=not options.without_demo)
    except ShipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _release(scratch: Path, *, demo: bool) -> None:
    commit, epoch_s = _git("log", "-1", "--format=%H %ct").split()
    if _git("status", "--porcelain"):
        print("note: what is not committed is not in the release")
    print(f"building {__version__} of {commit[:12]} twice")
    python = new_environment(scratch / "tools", "--requirement", TOOLS)
    builds = [
        _build(scratch / folder, commit, int(epoch_s), python, timezone)
        for folder, timezone in (("one", "UTC"), ("a/second/folder", "Asia/Tokyo"))
    ]
    for name in (WHEEL, SDIST):
        same(*(build / name for build in builds))
        print(f"{name}: {_sha256(builds[0] / name)} in both builds")
    built = builds[0]
    same(built / WHEEL, _wheel_of_sdist(built / SDIST, scratch / "sdist", int(epoch_s), python))
    print("the wheel out of the sdist is the same one")
    check_contents(
        members(built / WHEEL),
        members(built / SDIST),
        _git("ls-tree", "-r", "--name-only", commit).splitlines(),
    )
    run([python, "-m", "twine", "check", "--strict", built / WHEEL, built / SDIST])
    print(
        "both have what they are to have, and twine check --strict finds nothing in their metadata"
    )
    try_without_extras(built / WHEEL, scratch / "plain")
    if demo:
        demonstrate(built / WHEEL, scratch / "sandbox")
    _publish(built)


def same(one: Path, other: Path) -> None:
    """Raise ShipError, which names what differs, unless the bytes of two archives are equal."""
    if found := differences(one, other):
        raise ShipError(f"{one.name} is not reproducible: {'; '.join(found[:5])}")


def check_contents(
    wheel: Mapping[str, Known], sdist: Mapping[str, Known], tracked: Sequence[str]
) -> None:
    """Raise ShipError unless the wheel has what a user needs and the package alone, and the sdist is the repository."""
    problems = [f"the wheel lacks {name}" for name in IN_WHEEL if name not in wheel]
    problems += [
        f"the wheel has {name}"
        for name in wheel
        if name != MAN_PAGE and not name.startswith(("keycloak_bridge/", f"{NAME}.dist-info/"))
    ]
    packed = {name.removeprefix(f"{NAME}/") for name, known in sdist.items() if known["content"]}
    packed = {name for name in packed if not name.startswith(OF_SETUPTOOLS)}
    problems += [f"the sdist lacks {name}" for name in sorted({*tracked} - packed)]
    problems += [f"the sdist has {name}" for name in sorted(packed - {*tracked})]
    if problems:
        raise ShipError("; ".join(problems[:10]))


def _build(folder: Path, commit: str, epoch_s: int, python: Path, timezone: str) -> Path:
    """Build wheel and sdist of a commit in a folder of its own, and return the folder with both."""
    source, built = folder / "source", folder / "built"
    source.mkdir(parents=True)
    built.mkdir()
    export = subprocess.run(
        ["git", "-c", "tar.umask=0022", "archive", commit],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(export.stdout)) as tar:
        tar.extractall(source, filter="data")
    environ = _reproducibly(epoch_s) | {"TZ": timezone}
    run(
        [python, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", built, source],
        environ=environ,
        umask=_UMASK,
    )
    sdist = built / SDIST
    sdist.write_bytes(normalised(sdist.read_bytes(), epoch_s))
    return built


def _wheel_of_sdist(sdist: Path, folder: Path, epoch_s: int, python: Path) -> Path:
    """Return the wheel that pip would build from the sdist."""
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, filter="data")
    run(
        [python, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, folder / NAME],
        environ=_reproducibly(epoch_s),
        umask=_UMASK,
    )
    return folder / WHEEL


def _reproducibly(epoch_s: int) -> dict[str, str]:
    return {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s)}


def _publish(built: Path) -> None:
    """Put wheel and sdist with their hashes into dist/, in the place of what an earlier run left there."""
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in (WHEEL, SDIST):
        shutil.copy(built / name, folder)
    hashes = [f"{_sha256(folder / name)}  {name}\n" for name in (SDIST, WHEEL)]
    (folder / "SHA256SUMS").write_text("".join(hashes))
    print(f"dist/ has {WHEEL}, {SDIST} and SHA256SUMS")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git(*arguments: str) -> str:
    return run(["git", *arguments], cwd=ROOT).strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
