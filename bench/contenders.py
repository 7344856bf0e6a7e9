"""The contenders: each brings the same users into a fresh realm, and says how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from subprocess import TimeoutExpired

from kafka.errors import KafkaError

from bench import proof, rivals
from bench.machine import usage
from bench.profile import Sampler
from bench.rivals import REDPANDA as CONNECT
from bench.rivals import Rivals, connecting
from bench.samples import Samples, StandstillError, cpu_ms_per_user, follow, steady_rate
from bench.services import Ground, Services
from bench.sidecar import mode, running
from bench.users import USERNAME_MAPPING, Person
from bench.wire import WireError
from keycloak_bridge.sandbox import SandboxError

BARE, REDPANDA, TRICKLE, BURST = "bare", "redpanda", "trickle", "burst"
BY_USERNAME = "by-username"
"""The bridge, by single writes, where the external id is the username."""
_POINTS = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One contender in one round; with a `problem` its figures count for nothing."""

    contender: str
    round: int
    users: int
    problem: str | None = None
    rate: float = 0.0
    """Users a second, steady."""
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """CPU for each user: of the `contender` itself, and of `keycloak` and `kafka`."""
    peak_mb: float = 0.0
    """Largest memory of the contender; 0 where it was not looked at."""
    curve: list[tuple[float, int]] = field(default_factory=list)
    """Users over time, thinned out."""

    def to_json(self) -> dict[str, object]:
        """Return the run as JSON."""
        return asdict(self)


def contenders(built: Rivals, *, layouts: bool) -> list[str]:
    """Return all that can be measured here; with `layouts` also the bridge where the external id is the username."""
    connect = [REDPANDA] if CONNECT in built.programs else []
    return [BARE, *connect, TRICKLE, *([BY_USERNAME] if layouts else []), BURST]


def settings_of(contender: str) -> dict[str, str]:
    """Return the settings of a bridge; all others have their defaults."""
    layout = {"MAPPING_FILE": str(USERNAME_MAPPING)} if contender == BY_USERNAME else {}
    return {"INVITE_MODE": "none", **mode("auto" if contender == BURST else "off"), **layout}


def compete(
    services: Services, contender: str, people: Sequence[Person], number: int, built: Rivals
) -> Run:
    """Bring all of `people` in by one contender, and look whether they are there.

    They must be mapped as the contender maps them.
    """
    try:
        with services.ground(burst=contender == BURST) as ground:
            samples, extra = _brought(ground, contender, people, built)
            wrong = proof.problem(ground, people)
    except (WireError, StandstillError, SandboxError, KafkaError, OSError, TimeoutExpired) as error:
        # a process that is gone, or a service that does not answer, fails this run and not those after it
        words = str(error).splitlines() or [type(error).__name__]
        return Run(contender, number, len(people), words[0])
    return _run(contender, number, len(people), samples, extra, wrong)


def _brought(
    ground: Ground, contender: str, people: Sequence[Person], built: Rivals
) -> tuple[Samples, dict[str, float]]:
    if contender == BARE:
        return _bare(ground, people, built)
    ground.publish([(person.key, person.value) for person in people])
    if contender == REDPANDA:
        with connecting(built, ground) as (pid, sent):
            return follow(sent, len(people), _pids(ground.services) | {"contender": pid}), {}
    return _bridge(ground, people, settings_of(contender)), {}


def _bare(
    ground: Ground, people: Sequence[Person], built: Rivals
) -> tuple[Samples, dict[str, float]]:
    pids = _pids(ground.services)
    before = {name: usage(pid).cpu_s for name, pid in pids.items()}
    posted = rivals.post(built, ground, people)
    # no look at other processes while it runs, so that the yardstick is not slowed down by being measured
    used = {name: 1000 * (usage(pid).cpu_s - before[name]) for name, pid in pids.items()}
    samples = Samples(list(posted.at_s), list(range(1, len(people) + 1)))
    cpu_ms = used | {"contender": 1000 * posted.cpu_s}
    return samples, {name: value / len(people) for name, value in cpu_ms.items()}


def _bridge(ground: Ground, people: Sequence[Person], settings: Mapping[str, str]) -> Samples:
    with ground.tally("results") as results, running(ground, settings) as pid:
        return follow(results, len(people), _pids(ground.services) | {"contender": pid})


def profiled(services: Services, contender: str, people: Sequence[Person]) -> dict[str, float]:
    """Return the shares of the packages in the bridge's CPU while it brings all of `people` in.

    Raises SandboxError if py-spy cannot look.
    """
    with services.ground(burst=contender == BURST) as ground:
        ground.publish([(person.key, person.value) for person in people])
        sampler = Sampler(ground, contender)
        with (
            ground.tally("results") as results,
            running(ground, settings_of(contender)) as pid,
        ):
            follow(lambda: min(1, results()), 1, {})
            sampler.start(pid)
            follow(results, len(people), {})
        return sampler.shares()


def _pids(services: Services) -> dict[str, int]:
    return {"keycloak": services.keycloak_pid, "kafka": services.kafka_pid}


def _run(
    contender: str,
    number: int,
    total: int,
    samples: Samples,
    cpu_ms: dict[str, float],
    wrong: str | None,
) -> Run:
    at_s, users = samples.at_s, samples.users
    sampled = {
        name: cpu_ms_per_user(at_s, users, cpu_s, total) for name, cpu_s in samples.cpu_s.items()
    }
    return Run(
        contender,
        number,
        total,
        wrong,
        rate=round(steady_rate(at_s, users, total), 1),
        cpu_ms={name: round(value, 4) for name, value in (sampled | cpu_ms).items()},
        peak_mb=round(samples.peak_mb, 1),
        curve=_thinned(samples),
    )


def _thinned(samples: Samples) -> list[tuple[float, int]]:
    step = max(1, len(samples.at_s) // _POINTS)
    chosen = [*range(0, len(samples.at_s), step), len(samples.at_s) - 1]
    return [(round(samples.at_s[at], 3), samples.users[at]) for at in dict.fromkeys(chosen)]
