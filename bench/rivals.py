"""The two programs in Go that the bridge is compared with, where Go is installed (`bench/go`).

`ceil` is a bare client of `POST /users`. Redpanda Connect is used as a library: topic, JSON Schema, mapping, `POST /users`.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from bench.services import Ground
from bench.users import Person
from bench.wire import Posted, WireError, post_all, prepared_post
from keycloak_bridge.domain.events import USER_CREATED
from keycloak_bridge.sandbox.distribution import cache_dir
from keycloak_bridge.sandbox.processes import ManagedProcess, loopback_port

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).with_name("go")
CEIL, REDPANDA = "ceil", "redpanda-connect"
_BUILD_S = 900
_POST_S = 900
_ASK_S = 5


@dataclass(frozen=True, slots=True)
class Rivals:
    """The programs that could be built, by name; `problem` says why one is missing."""

    programs: Mapping[str, Path]
    problem: str | None = None

    @property
    def bare_client(self) -> str:
        """Return the language of the bare client."""
        return "Go" if CEIL in self.programs else "Python"


def built(names: Sequence[str] = (CEIL, REDPANDA)) -> Rivals:
    """Build these where that is possible, in the cache folder; the first build of Redpanda Connect takes a few minutes."""
    go = shutil.which("go")
    if go is None:
        return Rivals({}, "Go is not installed")
    folder = cache_dir() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    programs: dict[str, Path] = {}
    problem = None
    for name in names:
        command = [go, "build", "-o", str(folder / name), "."]
        done = subprocess.run(  # noqa: S603
            command,
            cwd=SOURCES / name,
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            problem = f"go build of {name} failed: {last}"
        else:
            programs[name] = folder / name
    return Rivals(programs, problem)


def post(rivals: Rivals, ground: Ground, people: Sequence[Person]) -> Posted:
    """Let the bare client create all of `people`: the one in Go, or the one in Python where there is none.

    Raises WireError if Keycloak answers one of the calls with anything but 201.
    """
    token = ground.token()
    if CEIL not in rivals.programs:
        return post_all(
            ground.users_url,
            [prepared_post(ground.users_url, token, person.body) for person in people],
        )
    bodies = ground.services.sandbox.run_dir / f"bodies-{ground.suffix}.ndjson"
    bodies.write_bytes(b"\n".join(person.body for person in people))
    command = [str(rivals.programs[CEIL]), "-url", ground.users_url, "-bodies", str(bodies)]
    done = subprocess.run(  # noqa: S603
        command,
        env=os.environ | {"BENCH_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=_POST_S,
        check=False,
    )
    if done.returncode:
        raise WireError(done.stderr.strip() or "the bare client failed")
    told = json.loads(done.stdout)
    return Posted(sorted(told["at_s"]), told["cpu_s"])


@contextlib.contextmanager
def connecting(rivals: Rivals, ground: Ground) -> Iterator[tuple[int, Callable[[], int]]]:
    """Run Redpanda Connect meanwhile; lend its process id, and a call that tells how many users it created."""
    run_dir = ground.services.sandbox.run_dir
    schema = run_dir / "redpanda-connect.schema.json"
    schema.write_text(json.dumps(event_schema()), encoding="utf-8")
    port = loopback_port(0, "Redpanda Connect")
    process = ManagedProcess("Redpanda Connect", run_dir / f"connect-{ground.suffix}.log")
    chosen = {
        "BENCH_BOOTSTRAP": ground.services.bootstrap_servers,
        "BENCH_TOPIC": ground.topic("events"),
        "BENCH_GROUP": f"bench-{ground.suffix}",
        "BENCH_SCHEMA": str(schema),
        "BENCH_USERS_URL": ground.users_url,
        "BENCH_TOKEN_URL": ground.token_url,
        "BENCH_CLIENT_ID": ground.realm.client_id,
        "BENCH_CLIENT_SECRET": ground.realm.client_secret,
        "BENCH_PORT": str(port),
    }
    pipeline = str(SOURCES / REDPANDA / "pipeline.yaml")
    process.spawn([str(rivals.programs[REDPANDA]), "run", pipeline], os.environ | chosen)
    with requests.Session() as session:
        session.trust_env = False

        def sent() -> int:
            try:
                answer = session.get(f"http://127.0.0.1:{port}/metrics", timeout=_ASK_S)
            except requests.ConnectionError:
                if not process.alive:
                    raise process.failure("ended while it was measured") from None
                return 0  # it has not opened its port yet
            return _sent(answer.json())

        try:
            yield process.pid or 0, sent
        finally:
            process.stop(grace_s=30)


def event_schema() -> dict[str, Any]:
    """Return a schema of whole events, with the newest shipped one for their data: one file, as Redpanda Connect wants it."""
    newest = max((ROOT / "schemas" / USER_CREATED).glob("1.*.json"), key=_minor)
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": {"const": USER_CREATED},
            "data": json.loads(newest.read_text(encoding="utf-8")),
        },
    }


def _minor(path: Path) -> int:
    return int(path.stem.partition(".")[2])


def _sent(metrics: Mapping[str, Any]) -> int:
    return sum(
        int(value) for name, value in metrics.items() if name.partition("{")[0] == "output_sent"
    )
