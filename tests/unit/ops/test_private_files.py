"""What a command writes is its user's alone, and never goes where somebody else's link leads."""

import ast
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source_calls import source_calls

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops.private_files import (
    PUBLIC,
    append_private,
    read_private,
    refuse_unsafe,
    replace_file,
    truncate_private,
)

PACKAGE = Path(__file__).parents[3] / "keycloak_bridge"

USES: dict[str, Callable[[Path], object]] = {
    "append": lambda file: append_private(file, b"more"),
    "replace": lambda file: replace_file(file, b"new"),
    "read": read_private,
    "truncate": lambda file: truncate_private(file, 0),
    "check": refuse_unsafe,
}


def mode_of(file: Path) -> int:
    """Return who may read and write `file`."""
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture(autouse=True)
def _nothing_masked() -> Iterator[None]:
    """Hide nothing of what a command asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_only_the_owner_can_read_what_is_written(tmp_path: Path) -> None:
    """Also where others could read it before."""
    added, replaced = tmp_path / "rejects", tmp_path / "journal"
    for file in (added, replaced):
        file.write_bytes(b"old ")
        file.chmod(0o644)
    append_private(added, b"more")
    append_private(tmp_path / "new", b"more")
    replace_file(replaced, b"new")

    assert (b"old more", b"new", b"more") == tuple(
        read_private(file) for file in (added, replaced, tmp_path / "new")
    )
    assert {0o600} == {mode_of(file) for file in tmp_path.iterdir()}
    assert 3 == len(list(tmp_path.iterdir()))
    truncate_private(added, 3)
    assert b"old" == read_private(added)


def test_what_need_not_be_private_is_as_the_user_wants_files(tmp_path: Path) -> None:
    """A mapping, a list of schemas."""
    replace_file(tmp_path / "mapping.toml", b"", mode=PUBLIC)

    assert 0o666 == mode_of(tmp_path / "mapping.toml")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "pipe", "folder", "hard link", "other's"]
)
def test_what_somebody_else_put_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, use: str
) -> None:
    """And what a link leads to is left alone; a file that is replaced may be another user's before."""
    file, target = tmp_path / "users.rejects.csv", tmp_path / "target"
    if kind != "dangling link":
        target.write_bytes(b"untouched")
    if kind in ("link", "dangling link"):
        file.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "hard link":
        file.hardlink_to(target)
    else:
        file.write_bytes(b"another's")
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    before = sorted(tmp_path.iterdir())

    if use == "replace" and kind in ("hard link", "other's"):
        USES[use](file)
        assert b"new" == file.read_bytes()
    else:
        with pytest.raises((ConfigError, IsADirectoryError)) as caught:
            USES[use](file)
        if isinstance(caught.value, ConfigError):
            assert "unsafe-file" == caught.value.code
            assert str(file) in caught.value.message
            assert caught.value.remedy
    assert before == sorted(tmp_path.iterdir())
    assert target.read_bytes() == b"untouched" if target.exists() else kind == "dangling link"


@pytest.mark.parametrize("fails", [False, True])
def test_no_other_file_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A file is written beside the old one first, under a name that neither its user nor anybody else has given."""
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    for name in ("journal.new", ".journal.new", "journal.tmp", "journal~"):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "journal.bak").write_bytes(b"mine")
    before = {one.name for one in tmp_path.iterdir()}
    if fails:

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(tmp_path / "journal", b"new")
    else:
        replace_file(tmp_path / "journal", b"new")

    assert (b"mine", b"mine") == (target.read_bytes(), (tmp_path / "journal.bak").read_bytes())
    assert before | (set() if fails else {"journal"}) == {one.name for one in tmp_path.iterdir()}


def test_a_name_that_is_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the random one: what this process did not create it does not remove."""
    drawn = iter(["taken", "taken", "free"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(drawn))
    (tmp_path / ".keycloak-bridge-taken.tmp").write_bytes(b"mine")

    for _ in range(2):
        with pytest.raises(FileExistsError):
            replace_file(tmp_path / "journal", b"new")
    replace_file(tmp_path / "journal", b"new")

    assert b"mine" == (tmp_path / ".keycloak-bridge-taken.tmp").read_bytes()
    assert 2 == len(list(tmp_path.iterdir()))


def test_a_file_with_the_longest_name_is_replaced(tmp_path: Path) -> None:
    """The name beside it is no longer than that of any file."""
    replace_file(tmp_path / ("n" * 255), b"new")

    assert ["n" * 255] == [one.name for one in tmp_path.iterdir()]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """The old file is as it was."""
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "missing" / "journal", b"new")
    assert None is read_private(tmp_path / "journal")
    truncate_private(tmp_path / "journal", 0)
    refuse_unsafe(tmp_path / "journal")
    assert [] == list(tmp_path.iterdir())


WRITING = frozenset({"write_text", "write_bytes", "touch", "truncate"})


def test_no_other_module_writes_files() -> None:
    """Commands write by these functions alone; the sandbox has a folder of its own that only its user can enter."""
    found = set()
    for place, call in source_calls("sandbox/", "testing/", "ops/private_files.py"):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        words = [one.value for one in call.args if isinstance(one, ast.Constant)]
        opens = called in ("open", "fdopen") or (
            isinstance(call.func, ast.Name) and call.func.id == "open"
        )
        writes = any(isinstance(one, str) and set(one) & set("wax+") for one in words)
        if called in WRITING or (opens and writes):
            found.add((place, call.lineno))

    assert set() == found
