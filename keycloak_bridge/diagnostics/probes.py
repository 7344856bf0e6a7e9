"""Probes: each reports a light and a sentence, and none can stop the others. `examine` runs them one after the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.ops.logs import failure


class Light(StrEnum):
    """Green: all is well. Yellow: it works, with a risk. Red: it will not work. Gray: it could not be checked."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    GRAY = "gray"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: one row of the doctor's table.

    `subject` tells several results of one probe apart; `examine` fills in the name of the `probe`.
    """

    light: Light
    message: str
    remedy: str | None = None
    subject: str | None = None
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to check; it is skipped when one of `needs` was red or skipped itself."""

    name: str
    check: Callable[[], Iterable[ProbeResult]]
    needs: tuple[str, ...] = ()


def examine(probes: Sequence[Probe]) -> Iterator[ProbeResult]:
    """Yield the results of all probes in their order; an exception in a probe is a red result."""
    failed: dict[str, str] = {}
    for probe in probes:
        blocker = next((failed[name] for name in probe.needs if name in failed), None)
        if blocker is not None:
            failed[probe.name] = blocker
            yield ProbeResult(Light.GRAY, f"not checked: {blocker} is red", probe=probe.name)
            continue
        for result in _results(probe):
            if result.light is Light.RED:
                failed[probe.name] = probe.name
            yield replace(result, probe=probe.name)


def _results(probe: Probe) -> Iterator[ProbeResult]:
    """Yield what the probe finds; results from before a failure are kept."""
    try:
        yield from probe.check()
    except BridgeError as error:
        yield red(error.message, error.remedy or "look at the bridge's and the server's log")
    except Exception as error:  # noqa: BLE001 # one broken probe must not hide the others
        yield red(
            f"the probe itself failed: {failure(error)}", "report this as a bug of keycloak-bridge"
        )


def green(message: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that is well."""
    return ProbeResult(Light.GREEN, message, None, subject)


def yellow(message: str, remedy: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that works, with a risk."""
    return ProbeResult(Light.YELLOW, message, remedy, subject)


def red(message: str, remedy: str, subject: str | None = None) -> ProbeResult:
    """Return a result for something that keeps the bridge from working."""
    return ProbeResult(Light.RED, message, remedy, subject)


def gray(message: str, remedy: str | None = None, subject: str | None = None) -> ProbeResult:
    """Return a result for something that could not be checked, or is not used."""
    return ProbeResult(Light.GRAY, message, remedy, subject)


def counted(number: int, what: str) -> str:
    """Return number and noun in the right form."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
