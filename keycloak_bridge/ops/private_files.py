"""Files that hold what only their owner may read: one way to write them, for every command.

A new file has mode 0600, so it is never more readable than what it was made of. A name that is a symbolic link, no regular
file, or a file of another user is refused: whoever can write to the folder could have put it there, to have personal data
written where they can read it or another file overwritten.
"""

import errno
import os
import secrets
import stat
import tempfile
from pathlib import Path

from keycloak_bridge.domain.errors import ConfigError

PRIVATE = 0o600
PUBLIC = 0o666
"""As readable as the user's umask wants files."""

_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def append_private(file: Path, content: bytes | bytearray) -> None:
    """Add `content` to the end of `file`, which is made where there is none, and sync it.

    Raises OSError, or ConfigError (code `unsafe-file`) for what is not a file of this user alone.
    """
    with os.fdopen(_opened(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "wb") as stream:
        os.fchmod(stream.fileno(), PRIVATE)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def check_appendable(file: Path) -> None:
    """Find out whether `append_private` could write to `file`, and change nothing; raises as it does."""
    try:
        os.close(_opened(file, os.O_WRONLY | os.O_APPEND))
    except FileNotFoundError:
        with tempfile.TemporaryFile(dir=file.parent):
            pass


def read_private(file: Path) -> bytes | None:
    """Return what is in `file`, None where there is none; raises as `append_private`."""
    try:
        descriptor = _opened(file, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def truncate_private(file: Path, size: int) -> None:
    """Cut `file` where it is longer than `size`; harmless where there is none. Raises as `append_private`."""
    try:
        descriptor = _opened(file, os.O_WRONLY)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "wb") as stream:
        os.ftruncate(stream.fileno(), size)


def replace_file(file: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Put `content` in the place of `file`, as a whole or not at all, and sync it.

    `mode` is for what need not be private. No other file is touched; a crash may leave a hidden one beside it. Raises as
    `append_private`, but for a file of another user: the new one is this user's.
    """
    refuse_unsafe(file, owned=False)
    beside = file.with_name(f".keycloak-bridge-{secrets.token_hex(8)}.tmp")
    # outside the `try`: a name that is taken is somebody else's file, which stays
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(file)


def refuse_unsafe(file: Path, *, owned: bool = True) -> None:
    """Raise ConfigError (code `unsafe-file`) where `file` is there and not a regular file, if `owned` of this user alone."""
    try:
        _check(file, file.lstat(), owned=owned)
    except FileNotFoundError:
        return


def sync_folder(file: Path) -> None:
    """Have the name of `file` on disk; raises OSError."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _opened(file: Path, flags: int) -> int:
    try:
        descriptor = os.open(file, flags | _SAFELY, PRIVATE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            refuse_unsafe(file)
        raise
    try:
        _check(file, os.fstat(descriptor), owned=True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(file: Path, status: os.stat_result, *, owned: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _unsafe(file, "is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(file, "is no regular file")
    if owned and status.st_uid != os.geteuid():
        raise _unsafe(file, "belongs to another user")
    if owned and status.st_nlink > 1:
        raise _unsafe(file, "has another name too (a hard link)")


def _unsafe(file: Path, what: str) -> ConfigError:
    return ConfigError(
        f"{file}: {what}, and is not written to",
        code="unsafe-file",
        remedy="remove it, or name another file, in a folder that only you can write to",
    )
