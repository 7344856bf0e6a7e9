"""Run the real bridge against the sandbox, and look at what came of it.

Commands that run to their end are called in this process, which saves a second of start-up each. Where signals, a kill
or the streams are the subject, the bridge is a process of its own.
"""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from process_state import process_state_restored

from keycloak_bridge.cli.main import app
from keycloak_bridge.domain.events import event_id_in
from keycloak_bridge.messages.dead_letters import is_replay_mark
from keycloak_bridge.sandbox import Mail, Sandbox
from keycloak_bridge.sandbox.demo import read_topic
from keycloak_bridge.sandbox.processes import loopback_port
from keycloak_bridge.testing.realm_tools import FreshRealm, RealmAdministrator

PARTITIONS = 4
RUN_TIMEOUT_S = 900
_ALL_ADMIN_EVENTS = 1_000_000
_CREATED_AT = datetime(2026, 11, 1, 8, tzinfo=UTC)
STRUCTURED = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def an_event(user_id: str, *, event_id: str | None = None, **data: Any) -> dict[str, Any]:
    """Return a valid user.created event; `data` overrides its data, None removes a property."""
    merged = {
        "userId": user_id,
        "email": f"{user_id}@acme.example",
        "givenName": "Ada",
        "familyName": "Lovelace",
        "locale": "en",
        "tenantId": "tenant-1",
        "department": "R&D",
        **data,
    }
    return {
        "specversion": "1.0",
        "id": event_id or f"event-{user_id}",
        "source": "/user-management",
        "type": "user.created",
        "subject": user_id,
        "time": _CREATED_AT.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {key: value for key, value in merged.items() if value is not None},
    }


def about(user_id: str, kind: str, hours: float, **data: Any) -> dict[str, Any]:
    """Return an event of this type about the user, so many hours after `an_event`."""
    return {
        **an_event(user_id),
        "id": f"{kind}-{hours}-{user_id}",
        "type": kind,
        "time": (_CREATED_AT + timedelta(hours=hours)).isoformat(),
        "data": {"userId": user_id, **data},
    }


def plain_mark(mark: str) -> str:
    """Return an invitation mark with the bare id of its event, without the moment at which its link ends, which no test can know."""
    return event_id_in(re.sub(r"^([a-z]+)-(?:until|perhaps):[0-9]+:", r"\1:", mark))


def wait_until(condition: Callable[[], Any], timeout_s: float = 240.0) -> None:
    """Return once `condition()` holds; fail after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def processes_under(folder: Path) -> list[int]:
    """Return the living processes whose command line names a folder."""
    listed = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, *rest in rows if str(folder) in "".join(rest)]


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    return loopback_port(0, "a test")


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    """Fail what takes longer than any command may."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"a command took longer than {RUN_TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(RUN_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


for _name in ("mail.log", "mail.debug"):
    # the sandbox's SMTP server would write into the captured logs of commands
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Bench:
    """The bridge, a realm and four topics that no other test uses."""

    sandbox: Sandbox
    realm: FreshRealm
    suffix: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, sandbox: Sandbox, realm: FreshRealm, folder: Path, suffix: str = "") -> Self:
        """Return a bench with topics that the bridge itself created."""
        bench = cls(sandbox, realm, suffix or uuid.uuid4().hex[:8], folder)
        bench.run_command("topics", "create", check=True)
        return bench

    def topic(self, name: str) -> str:
        """Return the full name of `events`, `invitations`, `results` or `dead-letters`."""
        return f"{name}-{self.suffix}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of the bridge."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith("KEYCLOAK_BRIDGE_")}
        return outside | self.settings_in_environment

    @property
    def settings_in_environment(self) -> dict[str, str]:
        """The bridge's settings, as its environment holds them."""
        return {
            "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS": self.sandbox.bootstrap_servers,
            "KEYCLOAK_BRIDGE_KAFKA_GROUP_ID": f"bridge-{self.suffix}",
            "KEYCLOAK_BRIDGE_KEYCLOAK_URL": self.sandbox.keycloak_url,
            "KEYCLOAK_BRIDGE_KEYCLOAK_REALM": self.realm.name,
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_ID": self.realm.client_id,
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": self.realm.client_secret,
            "KEYCLOAK_BRIDGE_TOPICS_EVENTS": self.topic("events"),
            "KEYCLOAK_BRIDGE_TOPICS_INVITATIONS": self.topic("invitations"),
            "KEYCLOAK_BRIDGE_TOPICS_RESULTS": self.topic("results"),
            "KEYCLOAK_BRIDGE_TOPICS_DEAD_LETTERS": self.topic("dead-letters"),
            "KEYCLOAK_BRIDGE_TOPICS_PARTITIONS": str(PARTITIONS),
            "KEYCLOAK_BRIDGE_HEALTH_PORT": "0",
            # the events of tests have fixed times
            "KEYCLOAK_BRIDGE_INVITE_MAX_AGE": "none",
            **self.settings,
        }

    def run_command(
        self, *arguments: str, check: bool = False, stdin: str | bytes = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `keycloak-bridge` with these arguments to its end, in this process."""
        others = dict.fromkeys(k for k in os.environ if k.startswith("KEYCLOAK_BRIDGE_"))
        with contextlib.chdir(self.folder), process_state_restored(), _deadline():
            result = CliRunner().invoke(
                app, arguments, input=stdin, env=others | self.settings_in_environment
            )
        done = subprocess.CompletedProcess(
            arguments, result.exit_code, result.stdout, result.stderr
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def start(self, *arguments: str, log: Path, **options: Any) -> subprocess.Popen[str]:
        """Start `keycloak-bridge` as a process of its own, whose output is appended to `log`."""
        with log.open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "keycloak_bridge", *arguments],
                env=self.environment,
                cwd=self.folder,
                text=True,
                **{
                    "stdin": subprocess.DEVNULL,
                    "stdout": output,
                    "stderr": subprocess.STDOUT,
                    **options,
                },
            )

    def run_process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `keycloak-bridge` as a process of its own to its end, where its streams or its start are the subject."""
        return subprocess.run(
            [sys.executable, "-m", "keycloak_bridge", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )

    def catch_up(self) -> str:
        """Run the sidecar until everything in the topics is done; return its log."""
        return self.run_command("run", "--until-caught-up", check=True).stderr

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run the sidecar as a process meanwhile; it is ended with SIGTERM, and killed if that takes too long."""
        process = self.start("run", *arguments, log=self.folder / "bridge.log")
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        """Return what a `running` sidecar has written."""
        return (self.folder / "bridge.log").read_text()

    def publish(self, *events: Mapping[str, Any]) -> None:
        """Publish events as user management does: structured, keyed by subject."""
        self.publish_raw(
            *(
                (str(e["subject"]).encode(), json.dumps(e, ensure_ascii=False).encode(), STRUCTURED)
                for e in events
            )
        )

    def publish_raw(
        self,
        *records: tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]],
        **producer: Any,
    ) -> list[Any]:
        """Publish records of key, value and headers as they are; return where each one landed."""
        with self.producer(**producer) as sender:
            futures = [
                sender.send(self.topic("events"), key=key, value=value, headers=list(headers))
                for key, value, headers in records
            ]
            return [future.get(timeout=30) for future in futures]

    @contextlib.contextmanager
    def producer(self, **options: Any) -> Iterator[Any]:
        """Lend a producer that takes records of any size."""
        sender = KafkaProducer(
            bootstrap_servers=self.sandbox.bootstrap_servers,
            acks="all",
            max_request_size=256 * 1024 * 1024,
            **options,
        )
        try:
            yield sender
        finally:
            sender.close()

    def create_topic(self, name: str, *, partitions: int = 1, **config: str) -> None:
        """Create one of the four topics by hand; `_` in a key of `config` stands for a dot."""
        with self.kafka_admin() as admin:
            admin.create_topics(
                {
                    self.topic(name): {
                        "num_partitions": partitions,
                        "replication_factor": 1,
                        "configs": {key.replace("_", "."): value for key, value in config.items()},
                    }
                },
                wait_for_metadata=True,
            )

    @contextlib.contextmanager
    def kafka_admin(self) -> Iterator[Any]:
        """Lend an admin client of the sandbox's Kafka."""
        admin: Any = KafkaAdminClient(bootstrap_servers=self.sandbox.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()

    def committed(self, group_suffix: str = "") -> dict[int, int]:
        """Return the offsets that the bridge's group has committed on the events topic, by partition."""
        topic = self.topic("invitations" if group_suffix else "events")
        group_id = f"bridge-{self.suffix}{group_suffix}"
        with self.kafka_admin() as admin:
            offsets = admin.list_group_offsets(group_id)[group_id]
        return {at.partition: one.offset for at, one in offsets.items() if at.topic == topic}

    def group_members(self) -> int | None:
        """Return how many members the bridge's group has, None while no coordinator can say so."""
        group_id = f"bridge-{self.suffix}"
        with self.kafka_admin() as admin:
            try:
                return len(admin.describe_groups([group_id])[group_id]["members"])
            except KafkaError:
                return None

    def end_offsets(self, name: str) -> dict[int, int]:
        """Return the end of every partition of one of the four topics."""
        topic = self.topic(name)
        consumer: Any = KafkaConsumer(bootstrap_servers=self.sandbox.bootstrap_servers)
        try:
            numbers = consumer.partitions_for_topic(topic)
            ends = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
        finally:
            consumer.close()
        return {at.partition: end for at, end in ends.items()}

    def but(self, **settings: str) -> Self:
        """Return the same bench with more settings in the environment (`KEYCLOAK_REALM` and so on)."""
        named = {f"KEYCLOAK_BRIDGE_{name}": value for name, value in settings.items()}
        return replace(self, settings={**self.settings, **named})

    def results(self) -> list[dict[str, Any]]:
        """Return the data of every result."""
        return [json.loads(record.value)["data"] for record in self.read("results")]

    def dead_letters(self) -> list[tuple[Any, dict[str, str]]]:
        """Return each dead letter with its `kb-dlq-` headers as text; marks of replays are left out."""
        return [
            (record, {n: v.decode() for n, v in record.headers if n.startswith("kb-dlq-")})
            for record in self.read("dead-letters")
            if not is_replay_mark(record)
        ]

    def dead_letter_codes(self, user_id: str) -> list[str]:
        """Return the codes of the dead letters whose record names the user."""
        return [
            headers["kb-dlq-code"]
            for record, headers in self.dead_letters()
            if user_id.encode() in (record.value or b"")
        ]

    def read(self, name: str, **options: Any) -> list[Any]:
        """Return every record of one of the four topics; `options` are those of a KafkaConsumer."""
        return read_topic(self.topic(name), self.sandbox.bootstrap_servers, **options)

    def mails_to(self, address: str) -> tuple[Mail, ...]:
        """Return the mails to one address; addresses are unique to a test by its user ids."""
        return self.sandbox.mail.sent_to(address)

    def admin(self, method: str, path: str, **options: Any) -> Any:
        """Call the Admin REST API of the test's realm as the administrator; return parsed JSON."""
        administrator = RealmAdministrator.of(self.sandbox)
        return administrator.call(method, f"/{self.realm.name}{path}", **options)

    def written(self) -> Counter[tuple[str, str]]:
        """Return what the bridge did to this realm: operations and paths of Keycloak's own admin events.

        They are asked for in one answer: Keycloak sorts them by the time alone, so events of one millisecond may stand on
        either of two pages, and be counted twice or never.
        """
        realm_id = self.admin("GET", "")["id"]
        events = self.admin("GET", "/admin-events", params={"max": _ALL_ADMIN_EVENTS})
        assert len(events) < _ALL_ADMIN_EVENTS
        return Counter(
            (one["operationType"], one["resourcePath"])
            for one in events
            # the administrator's own are of the realm master
            if one["authDetails"]["realmId"] == realm_id
        )

    def unrecorded(self, mails: Counter[str]) -> Counter[str]:
        """Return which of the mails to users, counted by address, Keycloak sent and did not live to record.

        It records a mail after the SMTP server took it; ended in between, neither it nor the bridge can know of it.
        """
        written = self.written()
        recorded = Counter(
            {
                user["email"]: written["ACTION", f"users/{user['id']}/execute-actions-email"]
                for user in self.users()
            }
        )
        missing = mails - recorded
        return Counter({one: count for one, count in missing.items() if recorded[one]})

    def users(self) -> list[dict[str, Any]]:
        """Return all users of the realm with their attributes."""
        params = {"briefRepresentation": "false", "max": "10000"}
        users: list[dict[str, Any]] = self.admin("GET", "/users", params=params)
        return users

    def users_with_memberships(self) -> list[dict[str, Any]]:
        """Return all users with sets of their `groups` and realm `roles`; the default role is named `default`."""
        users = {user["id"]: {**user, "groups": set(), "roles": set()} for user in self.users()}
        everyone = {"max": 10_000}
        for role in self.admin("GET", "/roles"):
            is_default = role["name"] == f"default-roles-{self.realm.name}"
            for user in self.admin("GET", f"/roles/{role['name']}/users", params=everyone):
                users[user["id"]]["roles"].add("default" if is_default else role["name"])
        for path in ("/staff", "/staff/engineering", "/customers"):
            group = self.admin("GET", f"/group-by-path{path}")
            for user in self.admin("GET", f"/groups/{group['id']}/members", params=everyone):
                users[user["id"]]["groups"].add(path)
        return list(users.values())

    def user(self, user_id: str) -> dict[str, Any]:
        """Return the one user with this external id."""
        found = [u for u in self.users() if u.get("attributes", {}).get("userId") == [user_id]]
        assert len(found) == 1, f"{len(found)} users with that id"
        return found[0]

    def groups_of(self, keycloak_id: str) -> set[str]:
        """Return the paths of the user's groups."""
        return {group["path"] for group in self.admin("GET", f"/users/{keycloak_id}/groups")}

    def realm_roles_of(self, keycloak_id: str) -> set[str]:
        """Return the names of the realm roles mapped to the user."""
        path = f"/users/{keycloak_id}/role-mappings/realm"
        return {role["name"] for role in self.admin("GET", path)}
