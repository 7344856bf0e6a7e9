"""What Kafka and Keycloak have in common as local services."""

from abc import ABC, abstractmethod
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.processes import ManagedProcess


class Service(ABC):
    """A server that can be started, stopped, killed, frozen and started again where it was."""

    def __init__(self, name: str, log_path: Path, timeout_s: float, cancelled: Event) -> None:
        self.process = ManagedProcess(name, log_path)
        self._timeout_s = timeout_s
        self._cancelled = cancelled

    def start(self) -> None:
        """Start on the same ports and data as before, and return once it answers."""
        self._launch()
        self.process.wait(self.is_ready, self._cancelled, self._timeout_s, "it answered")

    def stop(self) -> None:
        """End it in order."""
        self.process.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """Let it go on after a pause."""
        self.process.resume()

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell, by asking over its own protocol, whether it serves."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the process."""
