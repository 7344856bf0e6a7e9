"""`python -m bench.mail_calls`: the CPU that each call of an invitation costs Keycloak, and what that allows at best.

Where all cores are busy, CPU is what mails compete for: a bare client has the mail alone, the bridge its other calls too.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from bench.machine import machine, usage
from bench.mails import AT_ONCE, figure, mail_requests, mailing_services, set_up_mails, waiting
from bench.services import Ground, Services
from bench.smtp_sink import SmtpSink
from bench.users import make_people
from bench.wire import Line, post_all, prepared_get, prepared_put
from keycloak_bridge.domain.events import INVITATION_ATTRIBUTE

USER, CREDENTIALS, MARK, MAIL = "GET user", "GET credentials", "PUT user", "PUT mail"


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.mail_calls", description=__doc__)
    parser.add_argument("--users", type=int, default=600, help="in each round (default: 600)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--warm", type=int, default=3000, help="before that (default: 3000)")
    options = parser.parse_args(arguments)
    found: dict[str, list[float]] = {}
    with mailing_services() as (services, sink):
        for number in range(options.rounds + 1):  # the first warms Keycloak up, and does not count
            users = options.users if number else options.warm
            costs = _costs(services, sink, number, users)
            told = ", ".join(f"{call} {ms:.2f}" for call, ms in costs.items())
            print(f"round {number}: {told}", file=sys.stderr, flush=True)
            for call, ms in costs.items() if number else ():
                found.setdefault(call, []).append(ms)
    print(json.dumps(machine()))
    print(table(found))
    return 0


def _costs(services: Services, sink: SmtpSink, number: int, users: int) -> dict[str, float]:
    with services.ground() as ground:
        set_up_mails(ground, sink)
        ids = list(waiting(ground, make_people(f"calls{number}n", users)).values())
        token, url = ground.token(), ground.users_url
        gets = [prepared_get(f"{url}/{user_id}", token) for user_id in ids]
        credentials = [prepared_get(f"{url}/{user_id}/credentials", token) for user_id in ids]
        calls = {
            USER: (gets, HTTPStatus.OK),
            CREDENTIALS: (credentials, HTTPStatus.OK),
            MARK: (_marks(ground, ids, gets, token), HTTPStatus.NO_CONTENT),
            MAIL: (mail_requests(ground, ids, token), HTTPStatus.NO_CONTENT),
        }
        costs = {}
        for call, (requests, expect) in calls.items():
            before = usage(services.keycloak_pid).cpu_s
            post_all(url, requests, connections=AT_ONCE, expect=expect)
            costs[call] = 1000 * (usage(services.keycloak_pid).cpu_s - before) / users
        return costs


def _marks(
    ground: Ground, ids: Sequence[str], gets: Sequence[bytes], token: str
) -> Sequence[bytes]:
    """Return the requests that mark each user as it is now."""
    line, marks = Line(ground.users_url), []
    for user_id, get in zip(ids, gets, strict=True):
        user = json.loads(line.ask(get)[1])
        user["attributes"][INVITATION_ATTRIBUTE] = [f"sent-perhaps:9999999999:{user_id}"]
        body = json.dumps(user).encode()
        marks.append(prepared_put(f"{ground.users_url}/{user_id}", token, body))
    line.close()
    return marks


def table(found: Mapping[str, Sequence[float]]) -> str:
    """Return the cost of each call, and the mail's share in that of all calls down to it."""
    lines = [
        "| call | CPU of Keycloak, ms | the mail ÷ all calls down to this one |",
        "|---|---:|---:|",
    ]
    order = (MAIL, MARK, USER, CREDENTIALS)
    for at, call in enumerate(order):
        shares = [
            mail / sum(found[each][number] for each in order[: at + 1])
            for number, mail in enumerate(found[MAIL])
        ]
        lines.append(f"| `{call}` | {figure(found[call], '.2f')} | {figure(shares, '.2f')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
