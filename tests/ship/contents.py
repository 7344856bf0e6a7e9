"""What is in an image that was saved as a Docker archive, and what must not be there."""

import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

ENVIRONMENT = "opt/keycloak-bridge"
SBOM = f"{ENVIRONMENT}/sbom/keycloak-bridge.cdx.json"

_PROGRAM = re.compile(
    r"^(?:usr/(?:local/)?s?bin|opt/keycloak-bridge/bin)/"
    r"(?:pip|cc|gcc|g\+\+|c\+\+|ld|as|make|cmake|cargo|rustc|go|git)[0-9.]*$"
)
_INSTALLER = re.compile(r"(?:site|dist)-packages/(?:pip|setuptools|wheel)(?:-[^/]+\.dist-info)?$")
_LEFT_BEHIND = re.compile(
    r"^(?:src|wheels|opt/build|root/\.cache)/|(?:^|/)(?:\.git|\.env|pip\.conf|\.netrc|\.pypirc)$"
)
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
_WHITEOUT = ".wh."


@dataclass(slots=True)
class Contents:
    """The files of an image as a container sees them, and the bytes of every layer that was built on the base."""

    config: Mapping[str, Any]
    files: dict[str, tarfile.TarInfo]
    own: dict[str, bytes] = field(default_factory=dict)
    """What the layers on the base have in each file, also of files that a later layer removes."""

    @classmethod
    def read(cls, archive: Path, base_layers: int) -> Self:
        """Read an archive whose first layers are the base image's."""
        with tarfile.open(archive) as saved:
            (manifest,) = json.loads(_bytes(saved, "manifest.json"))
            found = cls(json.loads(_bytes(saved, manifest["Config"])), {})
            for number, name in enumerate(manifest["Layers"]):
                with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                    found._add(layer, number, own=number >= base_layers)
        return found

    def _add(self, layer: tarfile.TarFile, number: int, *, own: bool) -> None:
        for member in layer:
            path = PurePosixPath(member.name)
            if path.name.startswith(_WHITEOUT):
                gone = str(path.with_name(path.name.removeprefix(_WHITEOUT)))
                for name in [
                    one for one in self.files if one == gone or one.startswith(f"{gone}/")
                ]:
                    del self.files[name]
                continue
            self.files[str(path)] = member
            if own and member.isfile():
                self.own[f"layer {number}: {path}"] = _bytes(layer, member)

    def tools(self) -> list[str]:
        """Return what could install or build something."""
        return sorted(one for one in self.files if _PROGRAM.search(one) or _INSTALLER.search(one))

    def left_behind(self) -> list[str]:
        """Return what the build should not have left in any layer."""
        return sorted(one for one in self.own if _LEFT_BEHIND.search(one.partition(": ")[2]))

    def privileged(self) -> list[str]:
        """Return files that run as another user, and files that every user may change."""
        found = [one for one in self.files.values() if one.isfile() and one.mode & 0o6002]
        return sorted(one.name for one in found)

    def secrets(self, known: Iterable[str]) -> list[str]:
        """Return where a private key or one of the known texts stands: in files of any layer, or in the configuration."""
        texts = self.own | {"configuration": json.dumps(self.config).encode()}
        needles = [one.encode() for one in known]
        return sorted(
            name
            for name, text in texts.items()
            if _KEY.search(text) or any(needle in text for needle in needles)
        )

    def text(self, path: str) -> str:
        """Return the last version of a file that was built on the base."""
        return next(
            text for name, text in reversed(self.own.items()) if name.endswith(f": {path}")
        ).decode()


def _bytes(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""
