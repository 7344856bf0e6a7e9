"""What `make dist` checks is noticed: archives that differ, files that are missing or too many."""

import gzip
import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from ship.archives import differences, members, normalised
from ship.dist import IN_WHEEL, NAME, SDIST, TOOLS, check_contents, same
from ship.lock import BUILD_LOCK
from ship.machine import ShipError

EPOCH_S = 1_793_581_267


def sdist(path: Path, content: str = "x", *, mtime: int = 1, uid: int = 0) -> bytes:
    """Return a .tar.gz as setuptools makes one, with the time, the owner and the mode of the present."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(str(path), "wb", mtime=mtime, fileobj=packed) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name in ("a-1/b.py", "a-1/run") if uid else ("a-1/run", "a-1/b.py"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.uname = 1, mtime, uid, f"user-{uid}"
            member.mode = (0o775 if uid else 0o755) if name == "a-1/run" else 0o600 + uid
            tar.addfile(member, io.BytesIO(content.encode()))
    return packed.getvalue()


def wheel(path: Path, year: int, content: str) -> Path:
    """Write a wheel with one file."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zipfile.ZipInfo("a/b.py", (year, 1, 1, 0, 0, 0)), content)
    return path


def test_a_normalised_sdist_has_neither_the_time_nor_the_owner_nor_the_order(
    tmp_path: Path,
) -> None:
    """Two builds of the same files are equal bytes, which they are not as setuptools writes them."""
    builds = [sdist(tmp_path / "a", mtime=1), sdist(tmp_path / "b", mtime=2, uid=7)]
    written = []
    for number, build in enumerate((*builds, *(normalised(one, EPOCH_S) for one in builds))):
        file = tmp_path / f"{number}.tar.gz"
        file.write_bytes(build)
        written.append(file)

    assert differences(*written[:2])
    assert [] == differences(*written[2:])
    assert {"a-1/b.py": 0o644, "a-1/run": 0o755} == {
        name: known["mode"] for name, known in members(written[2]).items()
    }


@pytest.mark.parametrize(("year", "content", "what"), [(2001, "x", "time"), (2000, "y", "content")])
def test_a_wheel_that_differs_is_no_release(
    year: int, content: str, what: str, tmp_path: Path
) -> None:
    """The sentence names the file and what of it differs."""
    one, other = wheel(tmp_path / "1.whl", 2000, "x"), wheel(tmp_path / "2.whl", year, content)

    with pytest.raises(ShipError, match=f"a/b.py: {what} differs"):
        same(one, other)


FILE: dict[str, object] = {"content": "x"}
FOLDER: dict[str, object] = {"content": None}
TRACKED = ("Makefile", "tests/run.py")
PACKED = dict.fromkeys((*(f"{NAME}/{one}" for one in TRACKED), f"{NAME}/PKG-INFO"), FILE) | {
    NAME: FOLDER,
    f"{NAME}/tests": FOLDER,
}


@pytest.mark.parametrize(
    ("wheel_has", "sdist_has", "problem"),
    [
        (IN_WHEEL, PACKED, None),
        (IN_WHEEL[:-1], PACKED, f"the wheel lacks {IN_WHEEL[-1]}"),
        ((*IN_WHEEL, "tests/run.py"), PACKED, "the wheel has tests/run.py"),
        (IN_WHEEL, PACKED.keys() - {f"{NAME}/Makefile"}, "the sdist lacks Makefile"),
        (IN_WHEEL, PACKED.keys() | {f"{NAME}/.secret"}, "the sdist has .secret"),
    ],
)
def test_contents_are_checked(
    wheel_has: tuple[str, ...], sdist_has: set[str], problem: str | None
) -> None:
    """The wheel has the package with its licence, the sdist is the repository."""
    found = ""
    try:
        check_contents(
            dict.fromkeys(wheel_has, FILE),
            {name: PACKED.get(name, FILE) for name in sdist_has},
            TRACKED,
        )
    except ShipError as error:
        found = str(error)

    assert (problem or "") == found
    assert SDIST.startswith(NAME)


def test_image_and_release_are_built_by_one_setuptools() -> None:
    """The wheel inside the image has the bytes of the one that is published."""
    pinned = re.findall(r"^setuptools==([\d.]+)", TOOLS.read_text("utf-8"), re.MULTILINE)

    assert pinned
    assert pinned == re.findall(
        r"^setuptools==([\d.]+)", BUILD_LOCK.read_text("utf-8"), re.MULTILINE
    )
