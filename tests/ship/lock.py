"""Lock what the image is made of: `make lock` renews both files in compose/ from the ranges of setup.cfg and pyproject.toml.

Each version is the newest that the ranges and wheels for the image's Python allow, with the hashes of all its files, so that
one lock serves every architecture.
"""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
RUNTIME_LOCK = COMPOSE / "requirements.lock"
BUILD_LOCK = COMPOSE / "build-requirements.lock"
EXTRAS = ("jwt", "otel")
"""What the image has beyond the required: nobody can install an extra into it later."""
PYTHON = "3.13"
"""The image's Python."""
SBOM_TOOL = "cyclonedx-bom >= 7, < 8"


def runtime_requirements() -> list[str]:
    """Return what the image must have at run time, as setup.cfg says it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][name] for name in EXTRAS]
    return [line for text in texts for line in text.split("\n") if line]


def build_requirements() -> list[str]:
    """Return what the build stage needs: pyproject.toml's build system, and what writes the SBOM."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [*project["build-system"]["requires"], SBOM_TOOL]


LOCKS = {RUNTIME_LOCK: runtime_requirements, BUILD_LOCK: build_requirements}


def locked(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the version and the hashes of each package of a lock, by its normalised name."""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in re.split(r"\n(?=\w)", lock.read_text("utf-8")):
        if named := re.match(r"([\w.-]+)==(\S+)", entry):
            found[named[1]] = (named[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def renew(lock: Path) -> None:
    """Resolve a lock again, to the newest versions that its ranges allow."""
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade"),
            *("--generate-hashes", "--only-binary=:all:", "--no-python-downloads"),
            *("--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28"),
            *("--custom-compile-command", "make lock", "--output-file", str(lock), "-"),
        ],
        input="\n".join(LOCKS[lock]()),
        text=True,
        stdout=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    for path in LOCKS:
        renew(path)
        print(f"renewed {path.relative_to(ROOT)}", file=sys.stderr)
