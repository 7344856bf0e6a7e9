"""`python -m bench.mails`: invitations by the bridge beside a bare client of execute-actions-email, in interleaved rounds.

Every run has a realm of its own, in which the same users wait for their mails: the bare client knows their ids, the bridge
finds their invitations in Kafka. Both have four mails under way at a time, and the mail server takes each at once.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from bench import samples
from bench.machine import machine, usage
from bench.samples import follow
from bench.services import Ground, Services
from bench.sidecar import running
from bench.smtp_sink import SmtpSink, smtp_sink
from bench.users import Person, make_people
from bench.wire import post_all, prepared_post, prepared_put
from keycloak_bridge.domain.events import INVITATION_ATTRIBUTE, Invitation
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.sandbox import Sandbox, SandboxOptions
from keycloak_bridge.sandbox.detached import terminable
from keycloak_bridge.testing.realm_tools import RealmAdministrator

BARE, BRIDGE, UNRECORDED = "bare client", "bridge", "bridge, no admin events"
AT_ONCE = 4
_ACTIONS, _LIFESPAN_S = ["UPDATE_PASSWORD"], 259_200
_PAGE = 500
_JAVA_OPTIONS = ("-Xmx1g",)
"""In place of the sandbox's own: both compilers, as in operation."""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code, which is 1 where a user did not get exactly one mail."""
    parser = argparse.ArgumentParser(prog="python -m bench.mails", description=__doc__)
    parser.add_argument("--mails", type=int, default=600, help="in each run (default: 600)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument(
        "--warm", type=int, default=2000, help="of each before that (default: 2000)"
    )
    parser.add_argument(
        "--smtp-ms", type=float, default=0.0, help="the mail server takes for a mail (default: 0)"
    )
    options = parser.parse_args(arguments)
    found: dict[str, list[dict[str, float]]] = {}
    with mailing_services(options.smtp_ms / 1000) as (services, sink):
        for number in range(options.rounds + 1):  # the first warms Keycloak up, and does not count
            names = [BARE, BRIDGE, UNRECORDED][:: 1 if number % 2 else -1]
            for name in names:
                mails = options.mails if number else options.warm
                run = _run(services, sink, name, make_people(f"mail{number}n", mails))
                print(f"round {number}, {name}: {_told(run)}", file=sys.stderr, flush=True)
                if run["twice"] or run["lost"]:
                    return 1
                if number:
                    found.setdefault(name, []).append(run)
    print(json.dumps(machine()))
    print(table(found))
    return 0


@contextlib.contextmanager
def mailing_services(takes_s: float = 0.0) -> Iterator[tuple[Services, SmtpSink]]:
    """Lend services, and a mail server that takes each mail after `takes_s`."""
    with (
        terminable(),
        Sandbox(SandboxOptions(keycloak_java_options=_JAVA_OPTIONS)) as sandbox,
        smtp_sink(takes_s) as sink,
    ):
        administrator = RealmAdministrator.of(sandbox)
        keycloak_pid = sandbox.keycloak.pid or 0
        yield Services(sandbox, sandbox.keycloak_url, keycloak_pid, administrator), sink


def set_up_mails(ground: Ground, sink: SmtpSink, *, recorded: bool = True) -> None:
    """Have the realm send its mails to `sink`, and record them or not."""
    server = {"host": "127.0.0.1", "port": str(sink.port), "from": "bench@acme.example"}
    settings = {"smtpServer": server, "adminEventsEnabled": recorded}
    ground.services.administrator.call("PUT", f"/{ground.realm.name}", json=settings)


def _run(
    services: Services, sink: SmtpSink, name: str, people: Sequence[Person]
) -> dict[str, float]:
    with services.ground() as ground:
        set_up_mails(ground, sink, recorded=name != UNRECORDED)
        ids = waiting(ground, people)
        sink.clear()
        pids = {"keycloak": services.keycloak_pid, "kafka": services.kafka_pid}
        before = {process: usage(pid).cpu_s for process, pid in pids.items()}
        own = _bare(ground, ids) if name == BARE else _bridge(ground, people, ids, sink.count)
        used = {process: usage(pid).cpu_s - before[process] for process, pid in pids.items()}
        at_s = list(sink.arrived_s)
        cpu_ms = {process: 1000 * used_s / len(people) for process, used_s in used.items()}
        return {
            "rate": samples.steady_rate(at_s, range(1, len(at_s) + 1), len(at_s)),
            "twice": sum(count - 1 for count in sink.recipients.values()),
            "lost": len(people) - len(sink.recipients),
            "client": 1000 * own / len(people),
            **cpu_ms,
        }


def waiting(ground: Ground, people: Sequence[Person]) -> dict[str, str]:
    """Create the users as the bridge does, their mails due; return their Keycloak ids by username."""
    token = ground.token()
    bodies = []
    for person in people:
        user: Any = person.representation
        attributes = user["attributes"] | {INVITATION_ATTRIBUTE: [f"due:{person.identity}"]}
        bodies.append(json.dumps(user | {"attributes": attributes}).encode())
    post_all(ground.users_url, [prepared_post(ground.users_url, token, body) for body in bodies])
    ids: dict[str, str] = {}
    while page := ground.services.administrator.call(
        "GET", f"/{ground.realm.name}/users?first={len(ids)}&max={_PAGE}"
    ):
        ids |= {user["username"]: user["id"] for user in page}
    return ids


def mail_requests(ground: Ground, ids: Sequence[str], token: str) -> Sequence[bytes]:
    """Return the requests for a mail to each user."""
    body, query = json.dumps(_ACTIONS).encode(), f"lifespan={_LIFESPAN_S}"
    urls = [f"{ground.users_url}/{one}/execute-actions-email?{query}" for one in ids]
    return [prepared_put(url, token, body) for url in urls]


def _bare(ground: Ground, ids: Mapping[str, str]) -> float:
    requests = mail_requests(ground, list(ids.values()), ground.token())
    return post_all(
        ground.users_url, requests, connections=AT_ONCE, expect=HTTPStatus.NO_CONTENT
    ).cpu_s


def _bridge(
    ground: Ground, people: Sequence[Person], ids: Mapping[str, str], count: Callable[[], int]
) -> float:
    with ground.producer() as producer:
        for person in people:
            user_id = person.key.decode()
            invitation = Invitation(
                id=f"{person.identity}/invitation",
                event_id=person.identity,
                user_id=user_id,
                keycloak_id=ids[person.representation["username"]],
                terms=InvitationTerms(tuple(_ACTIONS), _LIFESPAN_S),
                time=datetime.now(tz=UTC),
            )
            message = invitation_message(invitation, topic=ground.topic("invitations"))
            producer.send(
                message.topic, key=message.key, value=message.value, headers=list(message.headers)
            )
    settings = {"INVITE_WORKERS": str(AT_ONCE)}
    with ground.tally("results") as results, running(ground, settings) as pid:
        follow(count, 1, {})
        began_s = usage(pid).cpu_s
        follow(results, len(people), {})
        used_s = usage(pid).cpu_s - began_s
        time.sleep(1.0)  # a second mail would come now
    return used_s


def _told(run: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in run.items())


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return the medians of all rounds; the bare client's share is calculated within each round."""
    lines = [
        "| | mails/s | of the bare client | CPU ms a mail: client | Keycloak | Kafka |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, runs in found.items():
        shares = [run["rate"] / bare["rate"] for run, bare in zip(runs, found[BARE], strict=True)]
        columns = [
            figure([run["rate"] for run in runs], ".0f"),
            figure(shares, ".2f"),
            *(
                figure([run[each] for run in runs], ".1f")
                for each in ("client", "keycloak", "kafka")
            ),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def figure(values: Sequence[float], form: str) -> str:
    """Return the median, the least and the greatest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
