"""How a check of shipping says what it finds."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click
import requests
from kafka.errors import KafkaError

from keycloak_bridge.sandbox import SandboxError

from .machine import ShipError

_WAIT_S, _LOOK_S = 600.0, 1.0


class Failed(Exception):  # noqa: N818  (what is shipped did)
    """What is shipped does otherwise than it should."""


@contextlib.contextmanager
def verdict(works: str) -> Iterator[None]:
    """Say how a check ends: `works`, or why not; the exit code is 1 where it fails, and 2 where it cannot be tried.

    What it started must be gone by its end: SIGTERM and Ctrl-C leave it as any exception does.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except (ShipError, SandboxError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (Failed, requests.RequestException, KafkaError) as failure:
        click.echo(f"FAILED: {failure}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted; everything was removed", err=True)
        sys.exit(130)
    click.echo(f"{works} ({time.monotonic() - began:.0f} s)")


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
