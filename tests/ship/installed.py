"""The wheel in environments of its own, outside the checkout: what works without extras, and the demo with them."""

import json
import os
import venv
from pathlib import Path

from keycloak_bridge import __version__
from keycloak_bridge.sandbox.demo import sample_events

from .machine import ShipError
from .programs import run

_DEMO_ENDS = "5 events: 4 users created, 4 mails sent, 1 refused"
_KEYCLOAK = {
    "KEYCLOAK_BRIDGE_KEYCLOAK_URL": "http://127.0.0.1:9",
    "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": "acme",
    "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "KEYCLOAK_BRIDGE_HEALTH_PORT": "0",
}
"""Where nothing answers."""


def new_environment(folder: Path, *requirements: str | Path) -> Path:
    """Return the Python of a new virtual environment with `requirements`, which are words of `pip install`."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", *requirements], cwd=folder, environ=_outside())
    return python


def try_without_extras(wheel: Path, folder: Path) -> None:
    """Install the wheel alone, and run what needs no extra; what needs one has to name it."""
    new_environment(folder, wheel)
    program = folder / "bin" / "keycloak-bridge"

    def call(*words: str, expected: int = 0, **environ: str) -> str:
        return run([program, *words], cwd=folder, environ=_outside() | environ, expected=expected)

    good, *_, bad = sorted(sample_events(), key=lambda event: len(event["data"]), reverse=True)
    for name, event in (("good", good), ("bad", bad)):
        (folder / f"{name}.json").write_text(json.dumps(event))
    (folder / "client.key").write_text("no key")
    _said(call("--version"), f"keycloak-bridge {__version__}")
    _said(_completed(program, folder), "validate", "invitations")
    _said((folder / "share/man/man1/keycloak-bridge.1").read_text("utf-8"), __version__)
    _said(call("--help"), "Run the sidecar", "completion")
    _said(call("validate", "--show-mapped", "good.json"), good["data"]["email"].lower())
    _said(call("validate", "bad.json", expected=1), "/data/")
    _said(call("run", expected=2), "keycloak.realm: is needed")
    _said(
        call(
            *("run", "--set", "tracing.enabled=true"),
            expected=2,
            KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET="secret",
            **_KEYCLOAK,
        ),
        "pip install 'keycloak-bridge[otel]'",
    )
    _said(
        call("run", expected=2, KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_KEY_FILE="client.key", **_KEYCLOAK),
        "pip install 'keycloak-bridge[jwt]'",
    )
    for words in (("demo",), ("sandbox", "up")):
        _said(call(*words, expected=2), "pip install 'keycloak-bridge[sandbox]'")
    print(
        "without extras: --help, completion, man page, validate and run work; what needs an extra names it"
    )


def demonstrate(wheel: Path, folder: Path) -> None:
    """Install the wheel with its extra, and run the demo on a real Kafka and Keycloak."""
    new_environment(folder, f"{wheel}[sandbox]")
    print("running the demo from the wheel; the first time, Kafka and Keycloak are downloaded")
    output = run([folder / "bin" / "keycloak-bridge", "demo"], cwd=folder, environ=_outside())
    _said(output, _DEMO_ENDS)
    print(f"keycloak-bridge demo, from the wheel alone: {_DEMO_ENDS}")


def _completed(program: Path, folder: Path) -> str:
    """Return what bash offers for the first word, with the script that the program prints."""
    script = f"""
        eval "$({program} completion bash)"
        COMP_WORDS=(keycloak-bridge "") COMP_CWORD=1
        _keycloak_bridge_completion keycloak-bridge
        printf "%s\\n" "${{COMPREPLY[@]}}"
    """
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return run(["bash", "-c", script], cwd=folder, environ=_outside() | {"PATH": path})


def _outside() -> dict[str, str]:
    """Return an environment without anything of the checkout, its virtual environment or its settings."""
    kept = {"KEYCLOAK_BRIDGE_CACHE"}
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("KEYCLOAK_BRIDGE_", "PYTHON", "VIRTUAL_ENV"))
    }


def _said(output: str, *expected: str) -> None:
    for text in expected:
        if text not in output:
            raise ShipError(f"this was to say {text!r}:\n{output}")
