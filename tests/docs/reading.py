"""Count the modules that an event, an invitation and a batch enter: `python -m tests.docs.reading` (needs the services).

Runs the bridge in this process on the real services and notes every module of the package in which a function is called
by the threads of each stage, from the poll to the commit. Renews that table of docs/architecture.md.
"""

import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
# as pytest finds them
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "docs")]

import generate  # noqa: E402
from bridge_harness import Bench, wait_until  # noqa: E402

from keycloak_bridge.app.bridge import Bridge  # noqa: E402
from keycloak_bridge.sandbox import Sandbox  # noqa: E402
from keycloak_bridge.settings.loading import read_settings  # noqa: E402
from keycloak_bridge.testing.realm_tools import temporary_realm  # noqa: E402

PACKAGE = ROOT / "keycloak_bridge"

_THREADS = {
    "provision": ("provision", "batch-", "known-users", "users_"),
    "invite": ("invite",),
}
"""How the names of each stage's threads begin: the poll thread, the workers, and who writes batches or lists the realm."""


def stage_of(thread: str) -> str | None:
    """Return the stage that the thread with this name works for, None where it is another part of the bridge's."""
    stages = (stage for stage, names in _THREADS.items() if thread.startswith(names))
    return next(stages, None)


class Entered:
    """The modules whose functions were called, by the stage of the thread, while `noting`."""

    def __init__(self) -> None:
        self.noting = False
        self.modules: dict[str, set[str]] = {stage: set() for stage in _THREADS}

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """Note one call; `threading.setprofile` takes it."""
        if not self.noting or event != "call":
            return
        file = frame.f_code.co_filename
        if file.startswith(str(PACKAGE)) and frame.f_code.co_name != "<module>":
            stage = stage_of(threading.current_thread().name)
            if stage is not None:
                self.modules[stage].add(str(Path(file).relative_to(PACKAGE)))


def event(user_id: str) -> dict[str, Any]:
    """Return a new user."""
    return {
        "specversion": "1.0",
        "id": f"event-{user_id}",
        "source": "/user-management",
        "type": "user.created",
        "subject": user_id,
        "time": "2026-11-02T01:01:07Z",
        "data": {
            "userId": user_id,
            "email": f"{user_id}@acme.example",
            "givenName": "Ada",
            "familyName": "Lovelace",
            "roles": ["viewer"],
            "groups": ["/staff"],
        },
    }


def enter(sandbox: Sandbox, *roles: str, users: int = 1) -> dict[str, set[str]]:
    """Return the modules that `users` events and their invitations enter."""
    entered, stop = Entered(), threading.Event()
    with temporary_realm(sandbox, *roles) as realm, tempfile.TemporaryDirectory() as folder:
        bench = Bench.open(sandbox, realm, Path(folder), uuid.uuid4().hex[:8])
        loaded = read_settings(environ=bench.settings_in_environment)
        threading.setprofile(entered.profile)
        bridge = threading.Thread(target=Bridge(loaded.settings, stop).run, name="bridge")
        bridge.start()
        try:
            wait_until(lambda: bench.group_members() is not None and bench.group_members())
            entered.noting = True
            bench.publish(*(event(f"u-{number}") for number in range(users)))
            wait_until(lambda: len(bench.results()) >= 2 * users)
        finally:
            entered.noting = False
            stop.set()
            bridge.join(60)
            threading.setprofile(None)
    return entered.modules


def tables() -> str:
    """Return how much there is to read, and the modules of each package."""
    with Sandbox() as sandbox:
        one = enter(sandbox)
        many = enter(sandbox, "manage-realm", users=400)
    journeys = {
        "an event": one["provision"],
        "an invitation": one["invite"],
        "a batch": many["provision"],
    }
    return told(journeys)


def told(journeys: Mapping[str, set[str]]) -> str:
    """Return a table of how many modules and lines each journey enters, and one of their names by package."""
    rows = ["| to follow | modules entered | lines |", "|---|---:|---:|"]
    for name, modules in journeys.items():
        lines = sum(len((PACKAGE / one).read_text("utf-8").splitlines()) for one in modules)
        rows.append(f"| {name} | {len(modules)} | {lines:,} |")
    entered = set.union(*journeys.values())
    in_all = set.intersection(*journeys.values())
    heads = ("package", "each of them enters", *(f"besides, {name}" for name in journeys))
    rows += ["", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for package in sorted({one.partition("/")[0] for one in entered}):
        cells = [in_all, *(modules - in_all for modules in journeys.values())]
        named = [_named(one for one in cell if one.startswith(f"{package}/")) for cell in cells]
        rows.append(f"| `{package}/` |{'|'.join(f' {one} ' if one else ' ' for one in named)}|")
    return "\n".join(rows)


def _named(modules: Iterable[str]) -> str:
    return ", ".join(f"`{Path(one).stem}`" for one in sorted(modules))


if __name__ == "__main__":
    page = generate.ARCHITECTURE.read_text(encoding="utf-8")
    generate.ARCHITECTURE.write_text(generate.between(page, "reading", tables()), encoding="utf-8")
