"""Loopback ports."""

import socket

from keycloak_bridge.sandbox.errors import SandboxError

LOOPBACK = "127.0.0.1"


def loopback_port(wanted: int, purpose: str) -> int:
    """Return `wanted` if it is free, or any free port for 0."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, wanted))
        except OSError as error:
            raise SandboxError(
                f"Port {wanted} on {LOOPBACK}, wanted for {purpose}, is taken: "
                "stop what listens there or choose another port."
            ) from error
        port: int = listener.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.5):
            return True
    except OSError:
        return False
