"""A secret shows its value only when revealed."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops import redaction
from keycloak_bridge.settings.fields import Secret
from keycloak_bridge.settings.model import KeycloakSettings, Settings

PLANTED = Secret("s3cr3t-planted-in-settings")


@pytest.mark.parametrize(
    "printed",
    [
        repr(PLANTED),
        str(PLANTED),
        f"{PLANTED}",
        f"{PLANTED!r:>40}",
        "%s %r" % (PLANTED, PLANTED),  # noqa: UP031 # this way of printing too
        repr(Settings(keycloak=KeycloakSettings(client_secret=PLANTED))),
        str(dataclasses.asdict(KeycloakSettings(client_secret=PLANTED))),
        repr(copy.deepcopy(PLANTED)),
        json.dumps({"secret": PLANTED}, default=str),
    ],
)
def test_never_prints(printed: str) -> None:
    """No way of printing shows the value, which logs mask from the beginning."""
    assert "s3cr3t-planted-in-settings" == PLANTED.reveal()
    assert "s3cr3t" not in printed + redaction.shared.redact(f"got {PLANTED.reveal()}")
    assert "*" in printed


def test_reads_its_file_each_time(tmp_path: Path) -> None:
    """A renewed file counts at once, without its line end, and is masked in logs."""
    path = tmp_path / "secret"
    path.write_text("first-value\n")
    secret = Secret(path=path)
    before = secret.reveal()
    path.write_text("second-value")

    assert ("first-value", "second-value") == (before, secret.reveal())
    assert "[redacted]" == redaction.shared.redact("second-value")


@pytest.mark.parametrize(
    ("content", "reported"),
    [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")],
)
def test_names_a_useless_file(tmp_path: Path, content: bytes | None, reported: str) -> None:
    """A missing, empty or binary file is an error that names it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        Secret(path=path).reveal()

    assert f"the secret file {path} {reported}" == caught.value.message


def test_a_mark_of_the_byte_order_is_no_part_of_a_secret(tmp_path: Path) -> None:
    """Editors of Windows write one."""
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfplanted-secret\r\n")

    assert "planted-secret" == Secret(path=path).reveal()


def test_compares_what_it_was_made_of(tmp_path: Path) -> None:
    """Nothing else equals it; neither a value nor a path, or both, is a mistake of the caller."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret(path=tmp_path)}) == 2
    assert (True, False, True) == (bool(Secret("a")), bool(Secret("")), bool(Secret(path=tmp_path)))
    for value, path in ((None, None), ("x", tmp_path)):
        with pytest.raises(ValueError, match="either"):
            Secret(value, path=path)
