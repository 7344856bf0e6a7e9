"""The bridge as processes that can be started, killed, frozen and asked to leave."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge_harness import Bench

_GRACE_S = 60


class Bridges:
    """Members of one group; what still runs in the end is ended."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._count = 0
        self.members: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def lent(self) -> Iterator["Bridges"]:
        """End every member afterwards, frozen ones too."""
        try:
            yield self
        finally:
            for member in self.members:
                if member.poll() is None:
                    member.kill()
                    member.wait()

    @property
    def logs(self) -> list[Path]:
        """The logs of all members that ever ran, oldest first."""
        return sorted(self._bench.folder.glob("bridge-*.log"))

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more member and return at once."""
        self._count += 1
        with (self._bench.folder / f"bridge-{self._count:03}.log").open("wb") as log:
            member = subprocess.Popen(
                [sys.executable, "-m", "keycloak_bridge", "run"],
                env=self._bench.environment,
                cwd=self._bench.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.members.append(member)
        return member

    def kill(self, member: subprocess.Popen[bytes]) -> None:
        """End it without any chance to tidy up."""
        member.kill()
        member.wait()
        self.members.remove(member)

    def freeze(self, member: subprocess.Popen[bytes]) -> None:
        """Stop it where it stands."""
        os.kill(member.pid, signal.SIGSTOP)

    def resume(self, member: subprocess.Popen[bytes]) -> None:
        """Let it go on."""
        os.kill(member.pid, signal.SIGCONT)

    def leave(self, member: subprocess.Popen[bytes]) -> None:
        """Ask it to end, and see that it does so in order."""
        member.terminate()
        code = member.wait(_GRACE_S)
        self.members.remove(member)
        assert 0 == code, f"a bridge ended with {code}; its log is one of {self._bench.folder}"

    def all_leave(self) -> None:
        """Ask every member to end."""
        for member in list(self.members):
            self.leave(member)
