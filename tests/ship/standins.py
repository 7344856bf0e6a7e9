"""Images that stand in for the public ones of compose/compose.yaml, under the same names.

Where no registry can be reached, nothing is pulled: PostgreSQL, Java and Python come from Debian's packages, Keycloak and
Kafka are those of the sandbox, and Mailpit is built from its Go module. Each folder in standins/ holds a Dockerfile that does
what the public image does as far as the composition relies on it: entry point, user, variables, volumes, health check.
"""

import ast
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import cache_dir, fetch, locked

from .dockerfile import default_base
from .engine import Engine
from .machine import GoProgram, ShipError

PROGRAMS = {"mmdebstrap": "mmdebstrap"}
MAILPIT = GoProgram(
    name="mailpit",
    module="github.com/axllent/mailpit",
    version="v1.33.1",
    checksum="h1:5cW1C4QrxRKh9qNiRYvSVaYw82BU1lGt/mYZtGUmi7A=",
    flags=("-ldflags=-s -w -X github.com/axllent/mailpit/config.Version=v1.33.1",),
)

_FOLDER = Path(__file__).parent / "standins"
_DEBIAN = "trixie"
_RECIPE = "keycloak-bridge.recipe"
_UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_NO_CLUSTER = (
    'mkdir -p "$1/etc/postgresql-common"'
    ' && echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"'
)

_OF_THE_NETWORK = ("index-url", "extra-index-url", "trusted-host", "cert", "proxy", "timeout")


@dataclass(frozen=True, slots=True)
class StandIn:
    """How one public image is replaced: what it is built from, and the tags that this stands for."""

    folder: str
    tag: Callable[[], str]
    """Return the beginning of the tags that this is."""
    packages: tuple[str, ...] = ()
    fill: Callable[[Path], None] = lambda _: None
    """Put what the Dockerfile copies into a folder."""


def _kafka(context: Path) -> None:
    libs = context / "libs"
    libs.mkdir()
    for jar in _fetched("kafka"):
        shutil.copy(jar, libs)


def _keycloak(context: Path) -> None:
    (archive,) = _fetched("keycloak")
    with zipfile.ZipFile(archive) as content:
        content.extractall(context)
    (unpacked,) = context.glob("keycloak-*")
    unpacked.rename(context / "keycloak")


def _mailpit(context: Path) -> None:
    shutil.copy(MAILPIT.build(), context / "mailpit")


def _fetched(program: str) -> list[Path]:
    def listener(done: int, total: int) -> None:
        pass

    return fetch(locked(program).artifacts, cache_dir(), listener, Event())


STAND_INS = {
    "postgres": StandIn("postgres", lambda: "17.", ("postgresql-17",)),
    "quay.io/keycloak/keycloak": StandIn(
        "keycloak", lambda: locked("keycloak").version, ("openjdk-21-jre-headless",), _keycloak
    ),
    "apache/kafka": StandIn(
        "kafka", lambda: locked("kafka").version, ("openjdk-21-jre-headless",), _kafka
    ),
    "axllent/mailpit": StandIn("mailpit", lambda: MAILPIT.version, (), _mailpit),
    "python": StandIn("python", lambda: "3.13.", ("python3", "python3-venv", "ca-certificates")),
}


def build(engine: Engine, images: Iterable[str]) -> None:
    """Build what stands in for the images (as the composition writes them), unless it is there from an earlier run."""
    for image in sorted(set(images)):
        stand_in = _standing_in(image)
        recipe = _recipe(stand_in)
        if engine.label(full_name(image), _RECIPE) != recipe:
            print(f"building what stands in for {image} (once)", file=sys.stderr)
            _build(engine, full_name(image), stand_in, recipe)


def build_bridge(engine: Engine, name: str, root: Path, options: Sequence[str] = ()) -> None:
    """Build the bridge's image from compose/Dockerfile as it is, on what stands in for its base image."""
    base = default_base()
    build(engine, (base,))
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "pip.conf")
        settings.write_text(pip_settings(), "utf-8")
        # mounts, not layers: nothing of this machine's configuration stays in the image
        mounts = {settings: "/etc/pip.conf", Path("/etc/ssl/certs"): "/etc/ssl/certs"}
        volumes = [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
        arguments = (*volumes, f"--build-arg=BASE_IMAGE={full_name(base)}", *options)
        engine.build(full_name(name), root, root / "compose/Dockerfile", arguments)


def pip_settings() -> str:
    """Return this machine's configuration of pip as one file, without what names local files."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    lines = {
        # a variable says again what a file says
        name.rpartition(".")[2]: ast.literal_eval(value)
        for name, _, value in (line.partition("=") for line in found.stdout.splitlines())
        if name.rpartition(".")[2] in _OF_THE_NETWORK
    }
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in lines.items()), ""])


def _standing_in(image: str) -> StandIn:
    repository, _, tag = image.partition(":")
    stand_in = STAND_INS.get(repository)
    if stand_in is None:
        raise ShipError(f"Nothing stands in for {repository}: add it to tests/ship/standins.py.")
    if not tag.startswith(stand_in.tag()):
        raise ShipError(
            f"{image} is to be started, but {stand_in.tag()} is what stands in for {repository}: "
            "let compose/, the sandbox and tests/ship/standins.py name the same version."
        )
    return stand_in


def _recipe(stand_in: StandIn) -> str:
    files = sorted(path for path in (_FOLDER / stand_in.folder).iterdir() if path.is_file())
    ingredients = [
        [(path.name, path.read_text("utf-8")) for path in files],
        [_DEBIAN, stand_in.packages, stand_in.tag()],
    ]
    return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()


def full_name(image: str) -> str:
    """Return the name as engines store it: with its registry."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if "." in first else f"docker.io/{image}"


def _build(engine: Engine, name: str, stand_in: StandIn, recipe: str) -> None:
    scratch = cache_dir() / "ship"
    with tempfile.TemporaryDirectory(prefix=".building-", dir=scratch) as folder:
        context = Path(folder)
        shutil.copytree(_FOLDER / stand_in.folder, context, dirs_exist_ok=True)
        if stand_in.packages:
            shutil.copy(_debian(stand_in.packages), context / "base.tar")
        stand_in.fill(context)
        engine.build(name, context, context / "Dockerfile", (f"--label={_RECIPE}={recipe}",))


def _debian(packages: tuple[str, ...]) -> Path:
    """Return the root file system of a small Debian with these packages, which is kept for all that stand on it."""
    options = [
        *("--variant=minbase", f"--include={','.join(packages)}", "--dpkgopt=force-unsafe-io"),
        *(f"--dpkgopt=path-exclude={path}" for path in _UNUSED),
        f"--essential-hook={_NO_CLUSTER}",
        _DEBIAN,
    ]
    digest = hashlib.sha256("\n".join(options).encode()).hexdigest()
    target = cache_dir() / "ship" / f"debian-{digest[:12]}.tar"
    if not target.exists():
        draft = target.with_suffix(".draft")
        done = subprocess.run(
            ["mmdebstrap", "--format=tar", *options, str(draft)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            draft.unlink(missing_ok=True)
            raise ShipError(f"mmdebstrap failed: {done.stderr[-2000:]}")
        draft.replace(target)
    return target
