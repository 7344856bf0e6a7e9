"""Loopback ports."""

import socket
from typing import Any, Self

import pytest

from keycloak_bridge.sandbox.java import loopback_port
from keycloak_bridge.sandbox.options import SandboxError


def test_taken_port_says_for_what_it_was_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names port, purpose and remedy."""

    class PendingWrite:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def setsockopt(self, *_: Any) -> None: ...

        def bind(self, address: tuple[str, int]) -> None:
            raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket, "socket", PendingWrite)

    with pytest.raises(SandboxError, match=r"Port 8080 .*for Keycloak, is taken.*another port"):
        loopback_port(8080, "Keycloak")
