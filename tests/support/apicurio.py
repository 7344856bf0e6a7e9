"""A real Apicurio Registry on a loopback port, from the distribution that Maven Central has."""

import itertools
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any

import requests

from keycloak_bridge.sandbox.distribution import Artifact, cache_dir, exclusive, fetch, status_of
from keycloak_bridge.sandbox.processes import (
    LOOPBACK,
    child_environment,
    find_java,
    loopback_port,
)
from keycloak_bridge.sandbox.services import Service

DISTRIBUTION = Artifact(
    group="io.apicurio",
    name="apicurio-registry-app",
    version="3.3.3",
    packaging="tar.gz",
    sha256="8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    size=158_577_952,
    classifier="all",
)
_JVM = ("-Xms64m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_START_TIMEOUT_S = 300.0
_CALL_TIMEOUT_S = 60


class Apicurio(Service):
    """A registry that keeps its schemas in memory: those of a stopped one are gone, and ids begin at 1 again."""

    def __init__(self, log_path: Path) -> None:
        super().__init__("Apicurio Registry", log_path, _START_TIMEOUT_S, Event())
        self.port = loopback_port(0, self.name)
        self.root = f"http://{LOOPBACK}:{self.port}/apis"
        self.url = f"{self.root}/ccompat/v7"
        self._subjects = itertools.count(1)

    def is_ready(self) -> bool:
        """Say whether its API answers."""
        return status_of(f"{self.url}/schemas/types") == HTTPStatus.OK

    def register(
        self,
        content: object,
        kind: str = "JSON",
        *,
        subject: str | None = None,
        references: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Return the id of a schema, as a producer's serializer registers it; without `subject`, under a new one."""
        text = content if isinstance(content, str) else json.dumps(content)
        subject = subject or f"subject-{next(self._subjects)}"
        given = {"schemaType": kind, "schema": text, "references": list(references)}
        found: int = self._post(f"{self.url}/subjects/{subject}/versions", given)["id"]
        return found

    def register_artifact(self, content: object, artifact_id: str) -> int:
        """Return the global id of a schema that is registered by Apicurio's own API."""
        of_content = {"content": json.dumps(content), "contentType": "application/json"}
        given = {
            "artifactId": artifact_id,
            "artifactType": "JSON",
            "firstVersion": {"content": of_content},
        }
        answer = self._post(f"{self.root}/registry/v3/groups/default/artifacts", given)
        found: int = answer["version"]["globalId"]
        return found

    def global_id(self, subject: str) -> int:
        """Return the global id of the first schema under `subject`."""
        url = f"{self.root}/registry/v3/groups/default/artifacts/{subject}/versions/1"
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=_CALL_TIMEOUT_S)
        assert answer.ok, f"{answer.status_code} {answer.text}"
        found: int = answer.json()["globalId"]
        return found

    def _post(self, url: str, given: object) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(url, json=given, timeout=_CALL_TIMEOUT_S)
        assert answer.ok, f"{answer.status_code} {answer.text}"
        return answer.json()

    def _launch(self) -> None:
        options = (f"-Dquarkus.http.host={LOOPBACK}", f"-Dquarkus.http.port={self.port}")
        jar = str(_unpacked() / "quarkus-run.jar")
        command = [find_java().executable, *_JVM, *options, "-jar", jar]
        self.spawn(command, child_environment())


def _unpacked() -> Path:
    """Return the folder of the distribution, fetched, verified and unpacked once."""
    cache, never = cache_dir(), Event()
    target = cache / f"apicurio-{DISTRIBUTION.version}-{DISTRIBUTION.sha256[:12]}"
    with exclusive(cache, "apicurio", never):
        if not target.exists():
            (archive,) = fetch([DISTRIBUTION], cache, lambda _done, _total: None, never)
            with tempfile.TemporaryDirectory(prefix=".preparing-", dir=cache) as scratch:
                staging = Path(scratch) / "apicurio"
                with tarfile.open(archive) as content:
                    content.extractall(staging, filter="data")
                staging.rename(target)
    return target
