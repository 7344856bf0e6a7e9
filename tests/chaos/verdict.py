"""Compare Keycloak's users, the caught mails and the topics with what was published."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge_harness import plain_mark
from population import FinalState
from report import Figures
from scene import BURST, Scene

from keycloak_bridge.domain.events import event_id_in

Position = tuple[str, int, int]
"""Topic, partition and offset of a record that must become a dead letter."""

_FIELDS = ("username", "email", "firstName", "lastName", "enabled")
_SHOWN = 8


def judge(
    scene: Scene,
    *,
    bad: Mapping[Position, str] | None = None,
    unmailed: Sequence[str] = (),
    keycloak_died: bool = False,
) -> Figures:
    """Return the figures of a scenario, or fail with everything that is not as it must be.

    `bad` holds the code of the dead letter of every bad record, `unmailed` the addresses that no mail can reach. Where
    `keycloak_died`, a second mail is forgiven if Keycloak had no time to record the first one.
    """
    letters = _letters(scene)
    repeated_letters = sum(len(codes) - 1 for codes in letters.values())
    unrecorded = scene.bench.unrecorded(scene.mails()) if keycloak_died else Counter[str]()
    print(f"\nchaos: mails that Keycloak did not live to record: {unrecorded.total()}")
    problems = [
        *_users(scene, unmailed),
        *_mails(scene, unmailed, unrecorded),
        *_dead_letters(letters, bad or {}),
        *_results(scene),
        *_commits(scene),
    ]
    if scene.way == BURST and not scene.batches():
        problems.append("no batch was written")
    if repeated_letters:
        problems.append(f"{repeated_letters} dead letters stand twice")
    figures = _figures(scene, letters, repeated_letters)
    assert [] == problems, "\n".join([f"seed {scene.seed}, {figures}", *problems])
    return figures


def _users(scene: Scene, unmailed: Sequence[str]) -> Iterator[str]:
    """Every user exactly once, in the right final state with its groups and roles, and nobody else."""
    users = [
        ((user.get("attributes", {}).get("userId") or [""])[0], user)
        for user in scene.bench.users_with_memberships()
    ]
    expected = {
        user_id: state.unmailed() if state.fields["email"] in unmailed else state
        for user_id, state in scene.population.final.items()
    }
    yield from _differences("users", Counter(expected.keys()), Counter(one for one, _ in users))
    wrong = [
        f"{user_id}: {differences}"
        for user_id, user in users
        if user_id in expected and (differences := _wrong(expected[user_id], user))
    ]
    if wrong:
        yield f"{len(wrong)} users in a wrong state: {wrong[:_SHOWN]}"


def _wrong(expected: FinalState, user: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {**expected.fields, "groups": set(expected.groups), "roles": set(expected.roles)}
    seen = {**{name: user.get(name) for name in _FIELDS}, **user["attributes"]}
    seen |= {"groups": user["groups"], "roles": user["roles"] - {"default"}}
    seen["bridgeInvitation"] = [plain_mark(mark) for mark in seen.get("bridgeInvitation", [])]
    seen["bridgeEventId"] = [event_id_in(one) for one in seen.get("bridgeEventId", [])]
    # without what it says of the access
    seen["bridgeEventTime"] = [one.partition(" ")[0] for one in seen.get("bridgeEventTime", [])]
    return {
        name: (wanted.get(name), seen.get(name))
        for name in sorted(seen.keys() | wanted.keys())
        if wanted.get(name) != seen.get(name)
    }


def _mails(scene: Scene, unmailed: Sequence[str], forgiven: Counter[str]) -> Iterator[str]:
    """Every invited user exactly one mail, nobody else any."""
    wanted = Counter(scene.population.invited.keys() - set(unmailed))
    yield from _differences("mails", wanted, scene.mails() - forgiven)


def _letters(scene: Scene) -> dict[Position, list[str]]:
    letters: dict[Position, list[str]] = {}
    for _, headers in scene.bench.dead_letters():
        topic, partition, offset = (
            headers[f"kb-dlq-{name}"] for name in ("topic", "partition", "offset")
        )
        position = topic, int(partition), int(offset)
        letters.setdefault(position, []).append(headers["kb-dlq-code"])
    return letters


def _dead_letters(
    letters: Mapping[Position, Sequence[str]], bad: Mapping[Position, str]
) -> Iterator[str]:
    """Every bad record in the dead letters, for the right reason, and no good one."""
    lost = bad.keys() - letters.keys()
    if lost:
        yield f"{len(lost)} bad records without a dead letter: {_some(lost, bad)}"
    good = letters.keys() - bad.keys()
    if good:
        yield f"{len(good)} good records in the dead letters: {_some(good, letters)}"
    wrong = {
        at: (bad[at], set(codes))
        for at, codes in letters.items()
        if at in bad and {bad[at]} != set(codes)
    }
    if wrong:
        yield f"{len(wrong)} dead letters with a wrong code: {_some(wrong, wrong)}"


def _some(positions: Any, said: Mapping[Position, Any]) -> list[Any]:
    return [(*at, said[at]) for at in sorted(positions)[:_SHOWN]]


def _results(scene: Scene) -> Iterator[str]:
    """User management hears of every event at least once."""
    wanted = Counter(event["id"] for event in scene.population.events)
    told = [one for one in scene.results.seen() if not one.is_of_a_mail]
    seen = Counter(one.data.get("eventId") for one in told)
    silent = [one for one, count in wanted.items() if seen[one] < count]
    if silent:
        yield f"{len(silent)} events without a result: {silent[:_SHOWN]}"
    rejected = [
        one.data.get("eventId")
        for one in told
        if one.outcome == "rejected" and one.data.get("eventId") in wanted
    ]
    if rejected:
        yield f"{len(rejected)} good events rejected: {rejected[:_SHOWN]}"


def _commits(scene: Scene) -> Iterator[str]:
    """The group has committed both topics to their ends."""
    if behind := scene.behind():
        yield f"not committed to the end: {behind}"


def _differences(what: str, wanted: Counter[str], seen: Counter[str]) -> Iterator[str]:
    if missing := wanted - seen:
        yield f"{missing.total()} {what} missing: {sorted(missing)[:_SHOWN]}"
    if extra := seen - wanted:
        yield f"{extra.total()} {what} too many: {sorted(extra.items())[:_SHOWN]}"


def _figures(scene: Scene, letters: Mapping[Position, Sequence[str]], repeated: int) -> Figures:
    told = scene.results.seen()
    repeats = sum(Counter(one.id for one in told).values()) - len({one.id for one in told})
    return Figures(
        seed=scene.seed,
        way=scene.way,
        batches=scene.batches(),
        users=len(scene.population.final),
        events=sum(scene.bench.end_offsets("events").values()),
        writes=scene.bench.written().total(),
        repeats=repeats,
        mails=scene.mails().total(),
        dead_letters=sum(map(len, letters.values())),
        repeated_letters=repeated,
        recoveries_s=scene.recoveries_s(),
    )
