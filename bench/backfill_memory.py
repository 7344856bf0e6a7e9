"""`python -m bench.backfill_memory`: the largest memory of a backfill of 200,000 users, against the stub of Keycloak.

Prints one line of JSON. `--users` takes another number, `--table` a CSV file instead of NDJSON, `--burst` lets the
bridge write in batches.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.users import MAPPING, events

ROOT = Path(__file__).parents[1]
_PART = 10_000
_COLUMNS = ("userId", "email", "givenName", "familyName", "tenantId", "department")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the backfill."""
    parser = argparse.ArgumentParser(description="Measure the memory of a backfill.")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="how long a call takes")
    parser.add_argument("--table", action="store_true", help="a CSV file instead of NDJSON")
    parser.add_argument("--burst", action="store_true", help="write in batches")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("users.csv" if options.table else "users.ndjson")
        (_write_table if options.table else _write_lines)(file, options.users)
        stub = [sys.executable, "-m", "bench.stub_keycloak", f"--delay-ms={options.delay_ms}"]
        stub += ["--burst"] if options.burst else []
        with subprocess.Popen(stub, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:  # noqa: S603
            try:
                told = json.loads(server.stdout.readline()) if server.stdout else {}
                return _measure(file, str(told["url"]), options.users, burst=options.burst)
            finally:
                server.terminate()


def _measure(file: Path, url: str, users: int, *, burst: bool) -> int:
    environment = {
        **os.environ,
        "KEYCLOAK_BRIDGE_KEYCLOAK_URL": url,
        "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": "acme",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_ID": "bridge",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "secret",
        "KEYCLOAK_BRIDGE_MAPPING_FILE": str(MAPPING),
        "KEYCLOAK_BRIDGE_BURST_MODE": "auto" if burst else "off",
        # the stub finds nobody whom it did not see lately
        "KEYCLOAK_BRIDGE_VERIFY_MODE": "off",
    }
    command = [sys.executable, "-m", "keycloak_bridge", "backfill", "--format", "json", str(file)]
    begin_s = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: S603
    output = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    figures = {
        "users": users,
        "peak_rss_mb": round(used.ru_maxrss * 1024 / 1e6, 1),
        "cpu_ms_per_user": round(1000 * (used.ru_utime + used.ru_stime) / users, 3),
        "seconds": round(time.monotonic() - begin_s, 1),
        "summary": json.loads(output or b"{}"),
    }
    print(json.dumps(figures))
    return process.returncode


def _each(users: int) -> Iterator[bytes]:
    for begin in range(0, users, _PART):
        for _, value in events(f"part{begin}", min(_PART, users - begin)):
            yield value


def _write_lines(file: Path, users: int) -> None:
    with file.open("wb") as stream:
        stream.writelines(value + b"\n" for value in _each(users))


def _write_table(file: Path, users: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(_COLUMNS)
        for value in _each(users):
            data = json.loads(value)["data"]
            rows.writerow(data.get(name, "") for name in _COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
