"""Run probes one after the other: a light and a sentence for each, and none can stop the others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.ops.logs import failure


class Light(StrEnum):
    """Green: all is well. Yellow: it works, with a risk. Red: it will not work. Gray: it could not be looked at."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    GRAY = "gray"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a probe saw; `subject` tells several sightings of one probe apart."""

    light: Light
    message: str
    remedy: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to look at; it is passed over when one of `needs` was red or passed over itself."""

    name: str
    look: Callable[[], Iterable[Sighting]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the doctor's table."""

    probe: str
    sighting: Sighting


def examine(probes: Sequence[Probe]) -> Iterator[Verdict]:
    """Yield what every probe sees, in their order; whatever a probe raises is a red sighting."""
    failed: dict[str, str] = {}
    for probe in probes:
        blocker = next((failed[name] for name in probe.needs if name in failed), None)
        if blocker is not None:
            failed[probe.name] = blocker
            yield Verdict(probe.name, Sighting(Light.GRAY, f"not looked at: {blocker} is red"))
            continue
        for sighting in _seen(probe):
            if sighting.light is Light.RED:
                failed[probe.name] = probe.name
            yield Verdict(probe.name, sighting)


def green(message: str, subject: str | None = None) -> Sighting:
    """Return a sighting of something that is well."""
    return Sighting(Light.GREEN, message, None, subject)


def yellow(message: str, remedy: str, subject: str | None = None) -> Sighting:
    """Return a sighting of something that works, with a risk."""
    return Sighting(Light.YELLOW, message, remedy, subject)


def red(message: str, remedy: str, subject: str | None = None) -> Sighting:
    """Return a sighting of something that keeps the bridge from its work."""
    return Sighting(Light.RED, message, remedy, subject)


def gray(message: str, remedy: str | None = None, subject: str | None = None) -> Sighting:
    """Return a sighting of something that could not be looked at, or is not used."""
    return Sighting(Light.GRAY, message, remedy, subject)


def _seen(probe: Probe) -> Iterator[Sighting]:
    """Yield what the probe sees; what it saw before it failed stays."""
    try:
        yield from probe.look()
    except BridgeError as error:
        yield red(error.message, error.remedy or "look at the bridge's and the server's log")
    except Exception as error:  # noqa: BLE001 # one broken probe must not hide the others
        yield red(
            f"the probe itself failed: {failure(error)}", "report this as a bug of keycloak-bridge"
        )
