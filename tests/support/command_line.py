"""Call the command line in this process, with an environment and a folder of its own."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from keycloak_bridge.cli.main import app


def call(*words: str, stdin: str | bytes | None = None, **environ: str) -> Result:
    """Return what `keycloak-bridge <words>` prints and its exit code."""
    return CliRunner().invoke(app, words, input=stdin, env=environ, prog_name="keycloak-bridge")


def an_event(**data: Any) -> dict[str, Any]:
    """Return a valid event; `data` overrides its data, None removes a property."""
    merged = {
        "userId": "u-1",
        "email": "Ada@acme.example",
        "givenName": "Ada",
        "familyName": "Lovelace",
        "tenantId": "tenant-1",
        **data,
    }
    return {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/user-management",
        "type": "user.created",
        "subject": merged["userId"],
        "data": {key: value for key, value in merged.items() if value is not None},
    }


def write(path: Path, *events: dict[str, Any]) -> str:
    """Write events one a line, and return the path."""
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    return str(path)
