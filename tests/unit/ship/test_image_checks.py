"""What `make test-image` finds wrong in an image and in a container, on samples of both."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from ship.contents import Contents
from ship.image import CONFINED, confinement, label_problems, sbom_problems

from keycloak_bridge import __version__

LOCK = {"kafka-python": ("3.0.12", ["0" * 64]), "attrs": ("26.1.0", ["0" * 64])}
STATUS = """\
Name:\tkeycloak-bridge
Uid:\t10001\t10001\t10001\t10001
Gid:\t10001\t10001\t10001\t10001
Groups:\t10001
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""


def tar(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """Return an archive of files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def image(folder: Path, *layers: bytes, config: str = "{}") -> Contents:
    """Return an image of a base with pip and of these layers."""
    base = tar({"usr/local/bin/pip": b"", "etc/passwd": b"root"})
    saved = {f"{number}.tar": layer for number, layer in enumerate((base, *layers))}
    manifest = [{"Config": "config.json", "Layers": list(saved)}]
    archive = folder / "image.tar"
    archive.write_bytes(
        tar(
            {"manifest.json": json.dumps(manifest).encode(), "config.json": config.encode()} | saved
        )
    )
    return Contents.read(archive, 1)


def test_an_image_without_faults_has_none(tmp_path: Path) -> None:
    """A base image's pip that a later layer removed is gone."""
    found = image(tmp_path, tar({"usr/local/bin/.wh.pip": b"", "opt/keycloak-bridge/a": b"text"}))

    assert [] == found.tools() + found.left_behind() + found.privileged()
    assert [] == found.secrets(["demo-only-password"])
    assert "text" == found.text("opt/keycloak-bridge/a")


def test_the_tools_of_the_base_are_found(tmp_path: Path) -> None:
    """Whatever can install or build something is a fault, in the base image too."""
    packages = "opt/keycloak-bridge/lib/python3.13/site-packages"
    found = image(
        tmp_path, tar({"usr/bin/gcc-14": b"", "usr/bin/gcc": b"", f"{packages}/pip": b""})
    )

    assert [f"{packages}/pip", "usr/bin/gcc", "usr/local/bin/pip"] == found.tools()


def test_what_a_later_layer_removes_is_still_left_behind(tmp_path: Path) -> None:
    """Who pulls the image has every layer."""
    key = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64
    found = image(
        tmp_path,
        tar({"etc/pip.conf": b"demo-only-password", "tmp/key": key}),
        tar({"etc/.wh.pip.conf": b"", "tmp/.wh.key": b""}),
        config='{"Env": ["PASSWORD=demo-only-password"]}',
    )

    assert ["layer 1: etc/pip.conf"] == found.left_behind()
    assert ["configuration", "layer 1: etc/pip.conf", "layer 1: tmp/key"] == found.secrets(
        ["demo-only-password"]
    )


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o666])
def test_files_with_the_rights_of_others_are_found(tmp_path: Path, mode: int) -> None:
    """Set-user-id, set-group-id, and files that all users may change."""
    assert ["usr/bin/su"] == image(tmp_path, tar({"usr/bin/su": b""}, mode)).privileged()


def test_labels_are_compared_with_the_package_and_the_commit() -> None:
    """Another version, another commit and a label without a value are faults."""
    prefix = "org.opencontainers.image."
    values = {
        "title": "keycloak-bridge",
        "description": "…",
        "licenses": "Apache-2.0 AND Unicode-3.0",
        "version": __version__,
        "revision": "abc",
        "base.name": "python",
    }
    labels = {prefix + name: value for name, value in values.items()}

    assert [] == label_problems(labels, "abc")
    assert ["revision is 'abc'"] == label_problems(labels, "def")
    assert ["version is '0'"] == label_problems({**labels, f"{prefix}version": "0"}, "abc")
    assert ["base.name is missing"] == label_problems({**labels, f"{prefix}base.name": ""}, "abc")


def test_an_sbom_is_compared_with_the_lock() -> None:
    """Names are compared as PyPI does; a package more, one less and another version are faults."""
    components = [
        {"name": "kafka_python", "version": "3.0.12"},
        {"name": "attrs", "version": "26.1.0"},
        {"name": "keycloak-bridge", "version": __version__},
    ]
    sbom = {"bomFormat": "CycloneDX", "components": components}
    other = {
        "bomFormat": "CycloneDX",
        "components": [*components[1:], {"name": "x", "version": "1"}],
    }

    assert [] == sbom_problems(sbom, LOCK)
    assert ["SBOM and lock differ in kafka-python 3.0.12", "SBOM and lock differ in x 1"] == (
        sbom_problems(other, LOCK)
    )
    assert "the SBOM is not CycloneDX" in sbom_problems({"components": components}, LOCK)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Uid:\t10001\t10001", "Uid:\t10001\t0"),
        ("Groups:\t10001", "Groups:\t10001 0"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000400"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ("Seccomp:\t2", "Seccomp:\t0"),
    ],
)
def test_each_right_that_a_process_has_too_much_is_seen(before: str, after: str) -> None:
    """The kernel's own words are judged, not what the container was asked for."""
    assert CONFINED == confinement(STATUS)
    assert CONFINED != confinement(STATUS.replace(before, after))
