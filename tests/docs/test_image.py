"""What can be proven about the image without building it; `make test-image` builds and runs it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from one_answer import answering
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ship.dockerfile import instructions
from ship.lock import BUILD_LOCK, LOCKS, PYTHON, ROOT, RUNTIME_LOCK, locked

from keycloak_bridge import __version__
from keycloak_bridge.settings.schema import settings_by_name

INSTRUCTIONS = instructions()
LAST = dict(INSTRUCTIONS)
"""The argument of the last instruction of each kind."""

BUILD_STAGE = INSTRUCTIONS[: [word for word, _ in INSTRUCTIONS].index("FROM", 2)]
"""The instructions up to the second FROM."""

DEFAULTS = dict(
    argument.split("=", 1) for word, argument in INSTRUCTIONS if word == "ARG" and "=" in argument
)
MOVED = {"attrs": ("1.0", ["0" * 64])}
"""A lock that is behind the ranges."""


def unmet(requirements: Iterable[str], lock: dict[str, tuple[str, list[str]]]) -> list[str]:
    """Return the requirements that the lock does not meet on the image's Python."""
    environment = {"python_version": PYTHON, "sys_platform": "linux"}
    wanted = [Requirement(line) for line in requirements]
    return [
        str(one)
        for one in wanted
        if one.marker is None or one.marker.evaluate(environment)
        if not one.specifier.contains(lock.get(canonicalize_name(one.name), ("0.dev0", []))[0])
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_locks_meet_the_ranges(lock: Path) -> None:
    """After a range of setup.cfg or pyproject.toml moved away from its lock, `make lock` renews it."""
    found = locked(lock)

    assert [] == unmet(LOCKS[lock](), found)
    assert [] == [name for name, (_, hashes) in found.items() if not hashes]
    assert unmet(LOCKS[lock](), MOVED)


def test_every_package_is_installed_by_its_hash() -> None:
    """Each call of pip either checks the hashes of a lock or has no access to an index."""
    calls = [
        call
        for word, argument in BUILD_STAGE
        if word == "RUN"
        for call in argument.split("&&")
        if re.search(r"/pip\b.*\b(install|wheel|download)\b", call)
    ]
    files = {name for call in calls for name in re.findall(r"--requirement (\S+)", call)}

    assert len(calls) >= len(LOCKS)
    assert {str(lock.relative_to(ROOT)) for lock in (BUILD_LOCK, RUNTIME_LOCK)} == files
    assert [] == [one for one in calls if not re.search(r"--require-hashes|--no-index", one)]
    assert "PIP_ONLY_BINARY=:all:" in dict(BUILD_STAGE)["ENV"]


def test_the_base_is_pinned_by_digest() -> None:
    """Both stages start from the one image that a version and a digest name, with the Python of the locks."""
    bases = [argument.split(" ")[0] for word, argument in INSTRUCTIONS if word == "FROM"]

    assert ["${BASE_IMAGE}"] * 2 == bases
    assert re.fullmatch(
        rf"docker\.io/library/python:{re.escape(PYTHON)}\.\d+-slim-[a-z]+@sha256:[0-9a-f]{{64}}",
        DEFAULTS["BASE_IMAGE"],
    )


def test_the_image_has_the_version_of_the_package() -> None:
    """Whoever changes one changes the other."""
    assert __version__ == DEFAULTS["VERSION"]


def test_the_user_is_not_root_and_the_settings_exist() -> None:
    """The user is a number, which an orchestrator can judge; every KEYCLOAK_BRIDGE_ name is a setting."""
    names = set(re.findall(r"(KEYCLOAK_BRIDGE_[A-Z_]+)=", LAST["ENV"]))

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", LAST["USER"])
    assert names
    assert set() == names - {one.environment_name for one in settings_by_name().values()}


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    """.dockerignore lets through exactly the sources of the build stage."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    reopened = {line.rstrip("*") for line in lines if line.endswith("/*")}
    allowed = {
        line[1:].rstrip("/") for line in lines if line[:1] == "!" and line[1:] not in reopened
    }
    copied = {
        source.rstrip("/")
        for word, argument in BUILD_STAGE
        if word == "COPY"
        for source in argument.split(" ")[:-1]
    }

    assert allowed == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_works(status: int, healthy: bool) -> None:
    """It asks /live at the port of the settings."""
    _, command = re.split(r"\bCMD ", LAST["HEALTHCHECK"])
    _, *arguments = json.loads(command)
    with answering(status) as port:
        environ = os.environ | {"KEYCLOAK_BRIDGE_HEALTH_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, *arguments], env=environ, capture_output=True, timeout=20, check=False
        )

    assert healthy == (done.returncode == 0)
