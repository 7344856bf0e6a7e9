"""How a check of shipping says what it finds."""

import time
from collections.abc import Callable, Sequence

import click

_WAIT_S, _LOOK_S = 600.0, 1.0


class Failed(Exception):  # noqa: N818  (what is shipped did)
    """What is shipped does otherwise than it should."""


def say(what: str) -> None:
    """Report what was found to be right."""
    click.echo(f"  ok  {what}")


def expect(right: bool, otherwise: str) -> None:
    """Fail with the sentence unless it is right."""
    if not right:
        raise Failed(otherwise)


def expect_equal(what: str, wanted: object, found: object) -> None:
    """Fail with both unless they are equal."""
    expect(found == wanted, f"{what}: {found!r} where it should be {wanted!r}")


def wait(wrong: Callable[[], Sequence[str]]) -> None:
    """Look again until nothing is wrong; what is wrong at the end is the failure."""
    until = time.monotonic() + _WAIT_S
    while found := wrong():
        if time.monotonic() > until:
            raise Failed("; ".join(found))
        time.sleep(_LOOK_S)
