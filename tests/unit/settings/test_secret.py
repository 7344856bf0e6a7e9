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

PLANTED = "s3cr3t-planted-in-settings"


@pytest.mark.parametrize(
    "printed",
    [
        repr(Secret(PLANTED)),
        str(Secret(PLANTED)),
        f"{Secret(PLANTED)}",
        f"{Secret(PLANTED)!r:>40}",
        "%s %r" % (Secret(PLANTED), Secret(PLANTED)),  # noqa: UP031 # this way of printing too
        repr(Settings(keycloak=KeycloakSettings(client_secret=Secret(PLANTED)))),
        str(dataclasses.asdict(KeycloakSettings(client_secret=Secret(PLANTED)))),
        repr(copy.deepcopy(Secret(PLANTED))),
        json.dumps({"secret": Secret(PLANTED)}, default=str),
    ],
)
def test_never_prints(printed: str) -> None:
    """No way of printing shows the value."""
    assert PLANTED not in printed
    assert "*" in printed


def test_reveals_its_value() -> None:
    """The value is there when asked for, and masked in logs from the beginning."""
    secret = Secret("one-that-is-long-enough")

    assert "one-that-is-long-enough" == secret.reveal()
    assert "one-that" not in redaction.shared.redact("got one-that-is-long-enough")


def test_reads_its_file_each_time(tmp_path: Path) -> None:
    """A renewed file counts at once, without its line end, and is masked in logs."""
    path = tmp_path / "secret"
    path.write_text("first-value\n")
    secret = Secret(path=path)
    before = secret.reveal()
    path.write_text("second-value")

    assert ("first-value", "second-value") == (before, secret.reveal())
    assert "[redacted]" == redaction.shared.redact("second-value")


@pytest.mark.parametrize(("content", "reported"), [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "cannot be read")])  # fmt: skip
def test_names_a_useless_file(tmp_path: Path, content: bytes | None, reported: str) -> None:
    """A missing, empty or binary file is an error that names it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        Secret(path=path).reveal()

    assert f"the secret file {path} {reported}" == caught.value.message


@pytest.mark.parametrize("arguments", [{}, {"value": "x", "path": Path("y")}])
def test_has_one_source(arguments: dict[str, object]) -> None:
    """Neither or both is a mistake of the caller."""
    with pytest.raises(ValueError, match="either"):
        Secret(**arguments)  # type: ignore[arg-type]


def test_compares_without_revealing(tmp_path: Path) -> None:
    """Secrets are equal by what they were made of; nothing else equals them."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret(path=tmp_path)}) == 2
    assert (True, False, True) == (bool(Secret("a")), bool(Secret("")), bool(Secret(path=tmp_path)))
