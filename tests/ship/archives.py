"""Archives of a release: written so that equal content is equal bytes, listed, and compared."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

Known = dict[str, object]
"""What is known of a member: its content's hash (None for a folder), time, mode, owner."""

_EXECUTABLE = 0o100


def normalised(sdist: bytes, epoch_s: int) -> bytes:
    """Return a .tar.gz with the same files, sorted, of nobody, and of one time; setuptools writes the present ones."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as source,
        gzip.GzipFile("", "wb", 9, packed, mtime=epoch_s) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda one: one.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, epoch_s
            executable = member.isdir() or member.mode & _EXECUTABLE
            plain.mode = 0o755 if executable else 0o644
            target.addfile(plain, source.extractfile(member))
    return packed.getvalue()


def differences(one: Path, other: Path) -> list[str]:
    """Say in which members two archives differ and how; empty when their bytes are equal."""
    if one.read_bytes() == other.read_bytes():
        return []
    first, second = members(one), members(other)
    found = [f"{name} is in one of them" for name in sorted(first.keys() ^ second.keys())]
    found += [
        f"{name}: {what} differs"
        for name in sorted(first.keys() & second.keys())
        for what in first[name]
        if first[name][what] != second[name][what]
    ]
    return found or ["the order or the compression differs"]


def members(archive: Path) -> dict[str, Known]:
    """Return what is known of each file and folder of a .whl or .tar.gz, by its name."""
    return dict(_of_wheel(archive) if archive.suffix == ".whl" else _of_sdist(archive))


def _of_wheel(archive: Path) -> Iterator[tuple[str, Known]]:
    with zipfile.ZipFile(archive) as wheel:
        for one in wheel.infolist():
            known = {"time": one.date_time, "mode": one.external_attr >> 16}
            yield one.filename, {"content": _hash(wheel.read(one)), **known}


def _of_sdist(archive: Path) -> Iterator[tuple[str, Known]]:
    with tarfile.open(archive) as sdist:
        for one in sdist.getmembers():
            file = sdist.extractfile(one)
            known = {"time": one.mtime, "mode": one.mode, "owner": (one.uid, one.uname)}
            yield one.name, {"content": file and _hash(file.read()), **known}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
