"""How large a run of the benchmark is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Sizes:
    """What can be chosen by `BENCH_…` in the environment."""

    rounds: int = 3
    """Times that every contender is measured."""
    events: int = 12_000
    """Users of each contender in each round."""
    warm: int = 12_000
    """Users that are created one by one, at least, before anything is measured; then each contender creates `trial`."""
    warm_most: int = 60_000
    """The same at most, if Keycloak's CPU for a user is not steady before."""
    trial: int = 2_000
    """Users of a run of each contender that does not count."""
    latency: int = 300
    """Single events whose way is timed."""
    backlog: int = 200_000
    """Records that wait while the memory is looked at; 0 leaves out start, rest and memory."""
    idle_s: int = 20
    """How long the idle bridge is watched."""
    backlog_s: int = 30
    """How long the bridge works on the large backlog."""
    sidecar_events: int = 4_000
    """Events for each of one and three sidecars; 0 leaves them out."""
    profile: int = 6_000
    """Users that the bridge brings in once more with py-spy beside it; 0 leaves that out."""
    layouts: int = 1
    """Whether the bridge is also measured where the external id is the username."""
    postgres: int = 1
    """Whether all of it is done on PostgreSQL too, where that is installed."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, check: bool) -> Self:
        """Return the sizes that the environment asks for; those of a check are small by default."""
        usual = cls(**_CHECK) if check else cls()
        given = {
            name: int(environment[variable])
            for name in cls.__slots__
            if environment.get(variable := f"BENCH_{name.upper()}")
        }
        return cls(**({name: getattr(usual, name) for name in cls.__slots__} | given))


_CHECK = {
    "rounds": 2,
    "events": 3_000,
    "warm": 6_000,
    "warm_most": 6_000,
    "trial": 1_000,
    "latency": 0,
    "backlog": 0,
    "sidecar_events": 0,
    "profile": 0,
    "layouts": 0,
    "postgres": 0,
}
