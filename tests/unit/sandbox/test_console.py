"""How a start looks."""

from io import StringIO

from rich.console import Console

from keycloak_bridge.sandbox.console import SandboxConsole


def shown(terminal: bool) -> str:
    """Return what is printed for a start with a download."""
    stream = StringIO()
    with SandboxConsole(Console(file=stream, force_terminal=terminal, width=100)) as console:
        for done in (0, 10, 30, 60, 61, 100):
            console.downloads("keycloak", done * 1_000_000, 100_000_000)
        console.progress("keycloak", "preparing", "building [once]")
        console.progress("keycloak", "ready", "http://localhost:8080")
        console.progress("kafka", "starting", "")
    return stream.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    """One line a step, a download in quarters, no control characters."""
    assert shown(terminal=False).splitlines() == [
        "Keycloak: fetching: 0 % of 100 MB",
        "Keycloak: fetching: 25 % of 100 MB",
        "Keycloak: fetching: 50 % of 100 MB",
        "Keycloak: fetching: 100 % of 100 MB",
        "Keycloak: preparing: building [once]",
        "Keycloak: ready: http://localhost:8080",
        "Kafka: starting",
    ]


def test_live_rows_on_a_terminal() -> None:
    """Each component has a row that ends with its tick and its address."""
    rows = [line for line in shown(terminal=True).splitlines() if line.strip()]
    keycloak = [line for line in rows if "Keycloak" in line][-1]
    kafka = [line for line in rows if "Kafka" in line][-1]

    assert "✓" in keycloak
    assert "http://localhost:8080" in keycloak
    assert "✓" not in kafka
    assert "starting" in kafka
