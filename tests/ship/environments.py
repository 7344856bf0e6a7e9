"""Virtual environments of a Python version with the oldest or the newest dependencies that setup.cfg allows.

`python -m tests.ship.environments [oldest|newest]` runs the unit tests in them, on the Python that runs it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import cache_dir, exclusive

from .machine import ShipError
from .programs import run

ROOT = Path(__file__).parents[2]
DEPENDENCIES = {"oldest": "lowest-direct", "newest": "highest"}
"""Which of the versions that setup.cfg allows, and uv's name for it."""
_MEMORY = 8 << 30
EXTRAS = ("jwt", "otel", "sandbox")


def python_environment(version: str, dependencies: str, pythons: Sequence[Path] = ()) -> Path:
    """Return the Python of an environment with the bridge's dependencies and its test tools; made once in the cache."""
    interpreter = find_python(version, pythons)
    recipe = (ROOT / "setup.cfg").read_bytes() + f"{interpreter}\n{ROOT}".encode()
    digest = hashlib.sha256(recipe).hexdigest()[:12]
    folder = cache_dir() / "environments" / f"{version}-{dependencies}-{digest}"
    python = folder / "bin" / "python"
    with exclusive(cache_dir(), "environments", Event()):
        if not (folder / "complete").exists():
            print(
                f"installing the {dependencies} dependencies for Python {version}", file=sys.stderr
            )
            shutil.rmtree(folder, ignore_errors=True)
            _install(interpreter, folder, dependencies)
            (folder / "complete").touch()
    return python


def find_python(version: str, pythons: Iterable[Path] = ()) -> Path:
    """Return an interpreter of this version: one of `pythons`, this one, one on the path or one of pyenv's."""
    named = shutil.which(f"python{version}")
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    built = sorted((root / "versions").glob(f"{version}.*/bin/python"))
    found = [*pythons, Path(sys.executable), *([Path(named)] if named else []), *reversed(built)]
    for candidate in found:
        if version_of(candidate) == version:
            return candidate
    raise ShipError(
        f"No Python {version} is here: install it, or name its interpreter with --python."
    )


def version_of(interpreter: Path) -> str | None:
    """Return what an interpreter says of itself (3.12), or None when it does not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [interpreter, "-c", question], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _install(interpreter: Path, folder: Path, dependencies: str) -> None:
    _uv("venv", "-q", "--python", str(interpreter), str(folder))
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch, "pins.txt")
        extras = [option for extra in EXTRAS for option in ("--extra", extra)]
        resolution = ("--resolution", DEPENDENCIES[dependencies])
        python = ("--python", str(folder / "bin" / "python"))
        _uv("pip", "compile", "-q", *python, *resolution, *extras, "-o", str(pins), "setup.cfg")
        _uv("pip", "install", "-q", *python, "-c", str(pins), "-e", ".[dev]")


def test(dependencies: str) -> int:
    """Run the unit tests with the oldest or the newest dependencies; return pytest's exit code."""
    version = "{}.{}".format(*sys.version_info)
    python = python_environment(version, dependencies)
    print(f"unit tests with the {dependencies} dependencies, Python {version}", flush=True)
    # an old dependency that takes all the memory ends here, and not what else runs on this machine
    bounded = ["prlimit", f"--as={_MEMORY}"] if shutil.which("prlimit") else []
    pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not full"]
    environment = {"HYPOTHESIS_PROFILE": "ci", **os.environ, "PYTHONPATH": str(ROOT)}
    command = [*bounded, *pytest, "-n", "2", "--dist", "loadfile", "tests/unit"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _uv(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run([sys.executable, "-m", "uv", *arguments], cwd=ROOT, environ=environment)


if __name__ == "__main__":
    try:
        codes = [test(dependencies) for dependencies in sys.argv[1:] or DEPENDENCIES]
    except ShipError as error:
        sys.exit(str(error))
    sys.exit(int(any(codes)))
