"""`make test-compose`: the composition of compose/ comes up, brings the demo's users from Kafka to their log-in, and goes down.

Docker Compose, built from its Go module, reads the files as they are. It talks to podman, and the images are those of
`tests.ship.standins` under the names that the files give. Everything runs in an engine of its own and on free ports, so
nothing of this machine's own containers is touched, and afterwards no container, volume or network is left.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import click
import requests

from keycloak_bridge.sandbox.demo import (
    Story,
    problems,
    publish,
    read_topic,
    sample_events,
    stories_of,
    summary,
)
from keycloak_bridge.sandbox.distribution import cache_dir, exclusive
from keycloak_bridge.sandbox.mail import Mail, decode
from keycloak_bridge.sandbox.processes import loopback_port

from . import engine, standins
from .checks import Failed, expect, expect_equal, say, verdict, wait
from .engine import Engine
from .machine import GoProgram, require, require_root
from .mailed_link import log_in, set_password_by

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
DOCKER_COMPOSE = GoProgram(
    name="docker-compose",
    module="github.com/docker/compose/v2",
    version="v2.40.3",
    checksum="h1:XeYkQu1svDtyfZPv5nTwFryQ25ZJMkIlc4pz9HalMPI=",
    package="./cmd",
    flags=("-ldflags=-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3",),
)
_RUNTIME = Path("/run/keycloak-bridge-ship")
_UP_S, _DOWN_S = 1200.0, 300.0
STATES = {
    **dict.fromkeys(("postgres", "mailpit", "keycloak", "kafka", "bridge"), "healthy"),
    **dict.fromkeys(("index", "topics"), "exited with 0"),
}
"""What each service is once all is up."""
SECRET_FILES = {
    "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "BRIDGE_CLIENT_SECRET_FILE",
    "KEYCLOAK_BRIDGE_UI_TOKEN": "BRIDGE_UI_TOKEN_FILE",
}
"""The bridge's secrets, and what names the file of each for compose.secrets.yaml."""
CONFINED = {
    "user": "10001:10001",
    "read-only root": True,
    "capabilities": [],
    "no new privileges": True,
}
"""The rights of the bridge's container."""
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG")


@click.command(help=__doc__)
@click.option(
    "--file",
    "more",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A further compose file, which changes what is in compose.yaml.",
)
def main(more: Sequence[Path]) -> None:
    """Run the check; the exit code is that of `verdict`."""
    with verdict("the composition works"):
        require_root("A composition in podman")
        require({**engine.PROGRAMS, **standins.PROGRAMS})
        program = DOCKER_COMPOSE.build()
        with exclusive(cache_dir(), "ship", Event()):
            _try(Composition(program, more))


class Composition:
    """The files of compose/ in an engine of its own, with ports that are free here."""

    def __init__(self, program: Path, more: Sequence[Path]) -> None:
        self.engine = Engine(cache_dir() / "ship" / "engine", _RUNTIME)
        self._program = program
        self._files = (COMPOSE / "compose.yaml", *more)
        ports = {
            name: str(loopback_port(0, name))
            for name in ("KEYCLOAK_PORT", "KAFKA_PORT", "MAILPIT_PORT", "BRIDGE_HEALTH_PORT")
        }
        self._environment = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            **ports,
            "KEYCLOAK_PUBLIC_URL": f"http://localhost:{ports['KEYCLOAK_PORT']}",
            "DOCKER_HOST": self.engine.address,
        }
        self._services: dict[str, Any] = json.loads(self.run("config", "--format=json"))["services"]

    @property
    def images(self) -> set[str]:
        """Return the images of the services that are not built from this repository."""
        return {one["image"] for one in self._services.values() if "build" not in one}

    @property
    def bridge_image(self) -> str:
        """Return the name of the bridge's image."""
        return str(self._services["bridge"]["image"])

    def environment_of(self, service: str) -> dict[str, str]:
        """Return a service's variables, as Compose fills them in."""
        return dict(self._services[service]["environment"])

    def address_of(self, service: str) -> str:
        """Return where a service's published port is."""
        (port,) = self._services[service]["ports"]
        return f"localhost:{port['published']}"

    def run(
        self,
        *arguments: str,
        also: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        timeout_s: float = _DOWN_S,
    ) -> str:
        """Run a command of Docker Compose and return what it prints."""
        files = [f"--file={path}" for path in (*self._files, *also)]
        try:
            done = subprocess.run(
                [self._program, "--progress=plain", *files, *arguments],
                env={**self._environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"compose {arguments[0]} did not end in {timeout_s:g} s") from error
        if done.returncode:
            last = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
            raise Failed(f"compose {arguments[0]} ended with {done.returncode}:\n{last}")
        return done.stdout

    def up(
        self,
        *services: str,
        also: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the services (all, where none is named) and wait until they are healthy, as `up --wait` does."""
        arguments = ("up", "--wait", "--no-build", "--pull=never", *services)
        try:
            self.run(*arguments, also=also, environment=environment, timeout_s=_UP_S)
        except Failed as failure:
            raise Failed(f"{failure}\nthe services are: {self.states()}") from failure

    def states(self) -> dict[str, str]:
        """Return the state of each service that there is (see `states_of`)."""
        return states_of(self.run("ps", "--all", "--format=json"))

    def down(self) -> None:
        """Stop and remove everything."""
        self.run("down", "--volumes", "--remove-orphans")

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        return self.engine.inspect(self.run("ps", "--all", "--quiet", service).strip())

    def logs(self) -> str:
        """Return the last lines of each service."""
        with contextlib.suppress(Failed):
            return self.run("logs", "--no-color", "--tail=25")
        return ""


def _try(composition: Composition) -> None:
    own = composition.engine
    own.clear()  # what an interrupted run left
    own.prune()
    try:
        standins.build(own, composition.images)
        standins.build_bridge(own, composition.bridge_image, ROOT)
        with own.serving():
            try:
                _use(composition)
            except BaseException:
                click.echo(composition.logs(), err=True)
                raise
            finally:
                composition.down()
        left = own.leftovers()
    finally:
        own.clear()
    if left:
        raise Failed(f"after `down` there is still {', '.join(left)}")
    say("down: no container, volume or network is left")


def _use(composition: Composition) -> None:
    composition.up()
    say(f"up: {_states(composition)}")
    confined = confinement(composition.container("bridge"))
    expect_equal("the bridge's container", CONFINED, confined)
    say("the bridge runs as 10001 without capabilities on a read-only root")
    _has_index(composition)
    say("the database has the index of the users' attributes")
    _answers(composition)
    say("/ready answers 200, and the page asks for its password")
    story = _play(composition)
    say("each event has its outcome, mail and dead letter")
    _sign_in(composition, story)
    say("the mailed link sets the password, and the token has the attributes")
    _take_secret_from_file(composition, story)
    say("a new Kafka has what the volume has, and a new bridge goes on with its secret in a file")
    composition.run("stop", "bridge")
    code = composition.container("bridge")["State"]["ExitCode"]
    expect_equal("the bridge's exit code after SIGTERM", 0, code)
    say("after SIGTERM the bridge ends with 0")


def _states(composition: Composition) -> str:
    """Check that what runs is healthy and that what was to end has ended well; return it as one line."""
    states = composition.states()
    expect_equal("the services", STATES, states)
    return ", ".join(f"{name} {state}" for name, state in sorted(states.items()))


def states_of(listed: str) -> dict[str, str]:
    """Return the health of each service, or how it ended, from what `ps --all --format=json` lists."""
    found = [json.loads(line) for line in listed.splitlines()]
    return {
        one["Service"]: one["Health"] or f"{one['State']} with {one['ExitCode']}" for one in found
    }


def confinement(container: Mapping[str, Any]) -> dict[str, object]:
    """Return what the engine's description of a container says of its rights."""
    host = container["HostConfig"]
    return {
        "user": container["Config"]["User"],
        "read-only root": host["ReadonlyRootfs"],
        "capabilities": container["EffectiveCaps"] or [],
        "no new privileges": any("no-new-privileges" in one for one in host["SecurityOpt"]),
    }


def _has_index(composition: Composition) -> None:
    ask = "SELECT indexdef FROM pg_indexes WHERE indexname = 'user_attribute_lower_value'"
    psql = ("psql", "--username=keycloak", "--dbname=keycloak", "-At", f"--command={ask}")
    found = composition.run("exec", "-T", "postgres", *psql)
    expect("lower" in found, f"the index of the users' attributes is {found!r}")


def _play(composition: Composition) -> Story:
    """Publish the demo's events, wait for what becomes of them, and return the first."""
    now = datetime.now(UTC).isoformat()
    events = [{**event, "time": now} for event in sample_events()]
    servers = composition.address_of("kafka")
    settings = composition.environment_of("bridge") | {
        "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": servers,
        "KEYCLOAK_BRIDGE_KEYCLOAK_URL": f"http://{composition.address_of('keycloak')}",
    }
    publish(events, servers)
    stories: list[Story] = []

    def wrong() -> list[str]:
        stories[:] = stories_of(events, settings, _mails(composition))
        return problems(stories)

    wait(wrong)
    say(summary(stories))
    return stories[0]


def _mails(composition: Composition) -> list[Mail]:
    """Return what Mailpit has caught."""
    api = f"http://{composition.address_of('mailpit')}/api/v1"
    found = _get(f"{api}/messages").json()["messages"]
    return [decode(_get(f"{api}/message/{one['ID']}/raw").content) for one in found]


def _sign_in(composition: Composition, story: Story) -> None:
    """Follow the link in the mail, set a password, and find the attributes of the event in the token."""
    public_url = composition.environment_of("keycloak")["KC_HOSTNAME"]
    realm = composition.environment_of("keycloak")["KEYCLOAK_REALM"]
    app_url = composition.environment_of("keycloak")["DEMO_APP_URL"]
    data = story.event["data"]
    link = (
        next((one for one in story.mail.links if "action-token" in one), "") if story.mail else ""
    )
    expect(link.startswith(public_url), f"the link in the mail is {link[:60]!r}")
    try:
        set_password_by(link)
        claims = log_in(f"{public_url}/realms/{realm}", "demo-app", app_url, data["email"])
    except (AssertionError, OSError) as error:
        raise Failed(f"the mailed link leads to no log-in: {str(error)[-500:]}") from error
    for problem in token_problems(claims, data):
        raise Failed(problem)


def token_problems(claims: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Return where an access token differs from the event of its user."""
    wanted = {
        "user_id": data["userId"],
        "tenant_id": data["tenantId"],
        "department": data["department"],
        "locale": data["locale"],
        "email": data["email"],
        "email_verified": True,
        "given_name": data["givenName"],
        "family_name": data["familyName"],
        "groups": data["groups"],
    }
    differing = [
        f"the token's {name} is {claims.get(name)!r} where it should be {value!r}"
        for name, value in wanted.items()
        if claims.get(name) != value
    ]
    absent = sorted(set(data["roles"]) - set(claims.get("roles", ())))
    return [*differing, *(f"the token has no role {role}" for role in absent)]


def _answers(composition: Composition) -> None:
    _wait_until_ready(composition)
    base = f"http://{composition.address_of('bridge')}"
    password = composition.environment_of("bridge")["KEYCLOAK_BRIDGE_UI_TOKEN"]
    found = [
        _get(f"{base}/", check=False).status_code,
        _get(f"{base}/", check=False, auth=("anyone", password)).status_code,
    ]
    expect_equal("the page without and with its password", [401, 200], found)


def _take_secret_from_file(composition: Composition, story: Story) -> None:
    """Make Kafka's container anew, and the bridge's as docs/compose.md describes it; an event more has its result."""
    environment = composition.environment_of("bridge")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        files = {}
        for variable, of_file in SECRET_FILES.items():
            file = Path(folder, variable)
            file.write_text(environment[variable], "utf-8")
            file.chmod(0o444)
            files[of_file] = str(file)
        # Without --no-deps Compose starts all services anew: podman names networks where Docker has their ids.
        composition.up(
            *("--no-deps", "--force-recreate", "kafka", "bridge"),
            also=[COMPOSE / "compose.secrets.yaml"],
            environment=files,
        )
        container = composition.container("bridge")
        told = [
            name
            for name in SECRET_FILES
            if f"{name}={environment[name]}" in container["Config"]["Env"]
        ]
        expect(not told, f"still among the bridge's variables: {', '.join(told)}")
        _wait_until_ready(composition)
        servers = composition.address_of("kafka")
        again = str(uuid.uuid4())
        publish([{**story.event, "id": again, "time": datetime.now(UTC).isoformat()}], servers)

        def wrong() -> list[str]:
            results = [json.loads(one.value)["data"] for one in read_topic("user-results", servers)]
            absent = {story.event["id"], again} - {one.get("eventId") for one in results}
            return [f"event {one} has no result in the new containers" for one in absent]

        wait(wrong)


def _wait_until_ready(composition: Composition) -> None:
    address = f"http://{composition.address_of('bridge')}/ready"

    def wrong() -> list[str]:
        answer = _get(address, check=False)
        return [] if answer.ok else [f"/ready answers {answer.status_code}: {answer.text[:500]}"]

    wait(wrong)


def _get(url: str, *, check: bool = True, auth: tuple[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # no proxy between this machine and its own loopback address
        answer = session.get(url, auth=auth, timeout=30)
    if check:
        answer.raise_for_status()
    return answer


if __name__ == "__main__":
    main()
