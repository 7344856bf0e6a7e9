"""The contenders: each brings the same users into a fresh realm, and says how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from kafka.errors import KafkaError

from bench import proof, rates
from bench.crowd import Person
from bench.place import Ground, Place
from bench.processes import usage
from bench.sidecar import knows_burst, mode, running
from bench.watch import Course, StandstillError, follow
from bench.wire import WireError, post_all, prepared_post
from keycloak_bridge.sandbox import SandboxError

BARE, TRICKLE, BURST, MAILS = "bare", "trickle", "burst", "mails"
_POINTS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """One contender in one round; with a `problem` its figures count for nothing."""

    contender: str
    round: int
    users: int
    problem: str | None = None
    rate: float = 0.0
    """Users a second, steady; of `mails`: mails a second."""
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """CPU for each user, by process."""
    peak_mb: float = 0.0
    curve: list[tuple[float, int]] = field(default_factory=list)
    """Users over time, thinned out."""

    def to_json(self) -> dict[str, object]:
        """Return the run as JSON."""
        return asdict(self)


def contenders() -> list[str]:
    """Return all that this bridge can be measured in."""
    return [BARE, TRICKLE, *([BURST] if knows_burst() else []), MAILS]


def compete(place: Place, contender: str, people: Sequence[Person], number: int) -> Run:
    """Bring all of `people` in by one contender, and look whether they are there."""
    try:
        with place.ground(burst=contender == BURST) as ground:
            course, extra = _brought(ground, contender, people)
            wrong = proof.problem(ground, people, marked=contender == MAILS)
    except (WireError, StandstillError, SandboxError, KafkaError, OSError) as error:
        # a process that is gone, or a service that does not answer, fails this run and not those after it
        words = str(error).splitlines() or [type(error).__name__]
        return Run(contender, number, len(people), words[0])
    return _run(contender, number, len(people), course, extra, wrong)


def _brought(
    ground: Ground, contender: str, people: Sequence[Person]
) -> tuple[Course, dict[str, float]]:
    if contender == BARE:
        return _bare(ground, people)
    ground.publish([(person.key, person.value) for person in people])
    if contender == MAILS:
        return _mails(ground, people), {}
    return _bridge(ground, people, mode("auto" if contender == BURST else "off")), {}


def _bare(ground: Ground, people: Sequence[Person]) -> tuple[Course, dict[str, float]]:
    token = ground.token()
    requests = [prepared_post(ground.users_url, token, person.body) for person in people]
    pids = _services(ground.place)
    before = {name: usage(pid).cpu_s for name, pid in pids.items()}
    posted = post_all(ground.users_url, requests)
    # no look at other processes while it runs, so that the yardstick is not slowed down by being measured
    used = {name: 1000 * (usage(pid).cpu_s - before[name]) for name, pid in pids.items()}
    course = Course(list(posted.at_s), list(range(1, len(people) + 1)))
    cpu_ms = used | {"client": 1000 * posted.cpu_s}
    return course, {name: value / len(people) for name, value in cpu_ms.items()}


def _bridge(ground: Ground, people: Sequence[Person], chosen: Mapping[str, str]) -> Course:
    settings = {"INVITE_MODE": "none", **chosen}
    with ground.tally("results") as results, running(ground, settings) as pid:
        return follow(results, len(people), _services(ground.place) | {"bridge": pid})


def _mails(ground: Ground, people: Sequence[Person]) -> Course:
    catcher = ground.place.sandbox.mail
    before = len(catcher.messages)

    def sent() -> int:
        return len(catcher.messages) - before

    with ground.tally("results") as results, running(ground, mode("off")) as pid:
        course = follow(sent, len(people), _services(ground.place) | {"bridge": pid})
        follow(results, 2 * len(people), {})  # created, and invited
    mailed = {address for mail in catcher.messages[before:] for address in mail.recipients}
    if len(mailed) != len(people) or sent() != len(people):
        raise StandstillError(f"{sent()} mails to {len(mailed)} of {len(people)} users")
    return course


def _services(place: Place) -> dict[str, int]:
    return {"keycloak": place.keycloak_pid, "kafka": place.kafka_pid}


def _run(
    contender: str,
    number: int,
    total: int,
    course: Course,
    cpu_ms: dict[str, float],
    wrong: str | None,
) -> Run:
    at_s, users = course.at_s, course.users
    sampled = {
        name: rates.cpu_ms_per_user(at_s, users, cpu_s, total)
        for name, cpu_s in course.cpu_s.items()
    }
    return Run(
        contender,
        number,
        total,
        wrong,
        rate=round(rates.steady_rate(at_s, users, total), 1),
        cpu_ms={name: round(value, 4) for name, value in (sampled | cpu_ms).items()},
        peak_mb=round(course.peak_mb, 1),
        curve=_thinned(course),
    )


def _thinned(course: Course) -> list[tuple[float, int]]:
    step = max(1, len(course.at_s) // _POINTS)
    chosen = [*range(0, len(course.at_s), step), len(course.at_s) - 1]
    return [(round(course.at_s[at], 3), course.users[at]) for at in dict.fromkeys(chosen)]
