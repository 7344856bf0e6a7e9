"""The main job, from nothing: real Kafka, real Keycloak, real mails, and what became of each sample event.

`keycloak-bridge demo` shows it, and so does `make demo`. It publishes events as user management would, runs the bridge
over them, and prints one panel an event.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import requests
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from keycloak_bridge.sandbox import Mail, Sandbox, SandboxError, SandboxOptions, read_mails
from keycloak_bridge.sandbox.console import SandboxConsole
from keycloak_bridge.sandbox.detached import (
    Identity,
    read_state,
    start_detached,
    stop_detached,
    terminable,
    write_state,
)
from keycloak_bridge.sandbox.distribution import status_of
from keycloak_bridge.sandbox.processes import loopback_port

EVENTS = "events/demo.ndjson"
TOPIC = "user-events"
_TIMEOUT_S = 10
_PAGE_S, _LOOK_S = 60.0, 0.2
_BRIDGE = (sys.executable, "-m", "keycloak_bridge")
_BOOKKEEPING = "bridge"


def demo(*, keep: bool) -> None:
    """Show the whole flow on a real Kafka and a real Keycloak; with `keep`, leave them and the bridge up.

    Raises SandboxError, also when an event had another outcome than it should.
    """
    console = Console()
    with terminable():
        if keep:
            _demo_that_stays(console)
        else:
            _demo_that_ends(console)


def _demo_that_ends(console: Console) -> None:
    with SandboxConsole() as progress:
        sandbox = Sandbox(SandboxOptions(), progress.progress, progress.downloads)
        sandbox.start()
    try:
        _play(sandbox.environment(), console)
    finally:
        sandbox.stop()
    console.print(f"Everything was stopped. [bold]{program()} demo --keep[/] leaves it up.")


def _demo_that_stays(console: Console) -> None:
    with SandboxConsole() as progress:
        state = start_detached(SandboxOptions(), progress.progress, progress.downloads)
    try:
        environment = dict(state.environment)
        _play(environment, console)
        page = _leave_bridge_running(environment)
    except BaseException:
        stop_detached()
        raise
    _explain(environment, page, console)
    if sys.stdout.isatty() and has_desktop(os.environ):
        webbrowser.open(page)


def _play(environment: Mapping[str, str], console: Console) -> None:
    """Publish the events, run the bridge over them, and show what became of each."""
    log = Path(environment["SANDBOX_RUN_DIR"]) / "bridge.log"
    events = sample_events()
    console.print(f"publishing {len(events)} events to Kafka, one of them invalid")
    _run_bridge(["topics", "create"], environment, log)
    publish(events, environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"])
    console.print("running the bridge until it has caught up")
    _run_bridge(["run", "--until-caught-up"], environment, log)
    mails = read_mails(Path(environment["SANDBOX_MAIL_DIR"]))
    stories = stories_of(events, environment, mails)
    show(stories, console)
    console.print(f"[bold]{summary(stories)}[/]")
    if found := problems(stories):
        raise SandboxError(f"the demo did not go as it should: {'; '.join(found)}")


def _run_bridge(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run the bridge's command line as a user would; its output goes to `log`."""
    with log.open("ab") as output:
        done = subprocess.run(
            [*_BRIDGE, *arguments],
            env=_environment(environment),
            cwd=log.parent,  # where no bridge.toml of somebody's own is read
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        command = " ".join(arguments)
        raise SandboxError(f"keycloak-bridge {command} ended with {done.returncode}:\n{tail}")


def _leave_bridge_running(environment: Mapping[str, str]) -> str:
    """Start the sidecar for good and return the address of its page; `sandbox down` ends it together with the rest."""
    log = Path(environment["SANDBOX_RUN_DIR"]) / "bridge.log"
    port = loopback_port(0, "the page")
    page = {"KEYCLOAK_BRIDGE_HEALTH_PORT": str(port), "KEYCLOAK_BRIDGE_UI_ENABLED": "true"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_BRIDGE, "run"],
            env=_environment(environment) | page,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    state = read_state()
    if state is not None:
        companion = Identity.of("bridge", process.pid)
        write_state(replace(state, services=(*state.services, companion)))
    address = f"http://localhost:{port}/"
    deadline_s = time.monotonic() + _PAGE_S
    while status_of(address) is None and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
    if status_of(address) is None:
        raise SandboxError(f"the bridge does not serve its page; its log is {log}")
    return address


def has_desktop(environ: Mapping[str, str]) -> bool:
    """Say whether a browser with a window can be opened here."""
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & environ.keys())


def program() -> str:
    """Return the words that run this very program from here: its name, or its path where PATH has another or none."""
    if not os.access(sys.argv[0], os.X_OK):
        return f"{sys.executable} -m keycloak_bridge"
    ran, name = Path(sys.argv[0]).absolute(), Path(sys.argv[0]).name
    if shutil.which(name) == str(ran):
        return name
    return str(ran.relative_to(Path.cwd()) if ran.is_relative_to(Path.cwd()) else ran)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a bridge that sees the sandbox's settings and no others of this shell."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("KEYCLOAK_BRIDGE_")}
    ours = {k: v for k, v in environment.items() if k.startswith("KEYCLOAK_BRIDGE_")}
    # the events of the demo do not become too old
    return {
        **outside,
        **ours,
        "KEYCLOAK_BRIDGE_HEALTH_PORT": "0",
        "KEYCLOAK_BRIDGE_INVITE_MAX_AGE": "none",
    }


def _explain(environment: Mapping[str, str], page: str, console: Console) -> None:
    url, realm = (
        environment["SANDBOX_KEYCLOAK_PUBLIC_URL"],
        environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"],
    )
    lines = (
        (page, "the bridge's page: state, outcomes, the dead letter, each user's timeline"),
        ("a link from a mail above", "open it and set a password"),
        (f"{url}/admin/{realm}/console", "Keycloak's console"),
        ("  user", environment["SANDBOX_ADMIN_USERNAME"]),
        ("  password", environment["SANDBOX_ADMIN_PASSWORD"]),
        ("Kafka", environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]),
        (f"{program()} sandbox mail", "the mails that were caught"),
        (f"{program()} sandbox env", "settings for a bridge of your own"),
        (f"{program()} sandbox down", "stops everything"),
    )
    console.print("\nIt is all still up, the bridge included:")
    width = max(len(what) for what, _ in lines)
    for what, why in lines:
        console.print(f"  {what:<{width}}  {why}", highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Story:
    """What became of one event."""

    event: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    user: Mapping[str, Any] | None
    mail: Mail | None
    dead_letter: Mapping[str, str] | None


def sample_events() -> list[dict[str, Any]]:
    """Return the events of the demo, one of them invalid."""
    text = files("keycloak_bridge.sandbox").joinpath(EVENTS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def publish(events: Sequence[Mapping[str, Any]], bootstrap_servers: str) -> None:
    """Publish the events as user management would: keyed by user, acknowledged."""
    producer: Any = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    try:
        futures = [
            producer.send(
                TOPIC,
                key=event["subject"].encode(),
                value=json.dumps(event, ensure_ascii=False).encode(),
                headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
            )
            for event in events
        ]
        for future in futures:
            future.get(timeout=_TIMEOUT_S)
    finally:
        producer.close()


def stories_of(
    events: Sequence[Mapping[str, Any]], environment: Mapping[str, str], mails: Sequence[Mail]
) -> list[Story]:
    """Return what became of each event: in Kafka and Keycloak, which the settings name, and in the mails."""
    servers = environment["KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]
    results = [json.loads(record.value)["data"] for record in read_topic("user-results", servers)]
    letters = read_topic("user-events-dead-letters", servers)
    users = _stored_users(environment)
    stories = []
    for event in events:
        user = users.get(event["subject"])
        address = str(user["email"]).lower() if user else None
        headers = [one.headers for one in letters if one.key == event["subject"].encode()]
        stories.append(
            Story(
                event=event,
                results=[result for result in results if result.get("eventId") == event["id"]],
                user=user,
                mail=next((m for m in mails if address in [r.lower() for r in m.recipients]), None),
                dead_letter={name: value.decode() for name, value in headers[0]}
                if headers
                else None,
            )
        )
    return stories


def _stored_users(environment: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """Return the users of the realm by the id that user management gave them."""
    base = environment["KEYCLOAK_BRIDGE_KEYCLOAK_URL"]
    realm = environment["KEYCLOAK_BRIDGE_KEYCLOAK_REALM"]
    answer = requests.post(
        f"{base}/realms/{realm}/protocol/openid-connect/token",
        data={
            "grant_type": "client_credentials",
            "client_id": environment["KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_ID"],
            "client_secret": environment["KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET"],
        },
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
    users = requests.get(
        f"{base}/admin/realms/{realm}/users",
        params={"briefRepresentation": "false"},
        headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
        timeout=_TIMEOUT_S,
    )
    users.raise_for_status()
    return {user["attributes"]["userId"][0]: user for user in users.json() if "attributes" in user}


def read_topic(topic: str, bootstrap_servers: str, **options: Any) -> list[Any]:
    """Return every record that `topic` holds now; `options` are those of a KafkaConsumer."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        metrics_enabled=False,
        **options,
    )
    try:
        numbers = consumer.partitions_for_topic(topic) or set()
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        while any(consumer.position(at) < ends[at] for at in partitions):
            for batch in consumer.poll(timeout_ms=500).values():
                records += batch
    finally:
        consumer.close()
    return records


def show(stories: Sequence[Story], console: Console) -> None:
    """Print one panel for each event."""
    for number, story in enumerate(stories, 1):
        data = story.event["data"]
        title = f"event {number} of {len(stories)}: {story.event['type']} for {data['email']}"
        good = story.user is not None
        console.print(
            Panel(
                _created(story) if good else _refused(story),
                title=Text(title),
                title_align="left",
                border_style="green" if good else "red",
            )
        )
        if link := _link(story):
            # outside the frame and on one line, so that it can be opened or copied
            console.print(f"  link in the mail: {link}", markup=False, soft_wrap=True)


def summary(stories: Sequence[Story]) -> str:
    """Return one sentence with the totals."""
    users = sum(story.user is not None for story in stories)
    mails = sum(story.mail is not None for story in stories)
    letters = sum(story.dead_letter is not None for story in stories)
    return f"{len(stories)} events: {users} users created, {mails} mails sent, {letters} refused with its reason"


def problems(stories: Sequence[Story]) -> list[str]:
    """Return what went wrong; empty when each event had its outcome."""
    found = []
    for story in stories:
        name = story.event["id"]
        if story.user is None and story.dead_letter is None:
            found.append(f"event {name} led to nothing")
        if story.user is not None and story.mail is None:
            found.append(f"the user of event {name} got no mail")
    if not any(story.dead_letter for story in stories):
        found.append("the invalid event was not refused")
    return found


def _created(story: Story) -> Group:
    user = story.user or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("user", Text(f"{user['username']}  ({user['firstName']} {user['lastName']})"))
    table.add_row("Keycloak id", Text(str(user["id"])))
    for name, values in sorted(user["attributes"].items()):
        if not name.startswith(_BOOKKEEPING):
            table.add_row(Text(f"  {name}"), Text(", ".join(values)))
    if story.mail is not None:
        table.add_row("mail", Text(story.mail.subject))
    outcomes = ", ".join(
        " ".join(filter(None, (result["outcome"], result.get("action"))))
        for result in story.results
    )
    table.add_row("results topic", Text(outcomes))
    return Group(table)


def _refused(story: Story) -> Group:
    letter = story.dead_letter or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "refused", Text(f"{letter.get('kb-dlq-code', '?')}: {letter.get('kb-dlq-message', '')}")
    )
    for violation in json.loads(letter.get("kb-dlq-errors", "[]")):
        table.add_row(Text(f"  {violation['pointer']}"), Text(violation["message"]))
    table.add_row("what to do", Text(letter.get("kb-dlq-action", "")))
    table.add_row("dead letter", Text("on topic user-events-dead-letters, record untouched"))
    return Group(table)


def _link(story: Story) -> str:
    links = story.mail.links if story.mail else ()
    return next((link for link in links if "action-token" in link), "")
