"""Create the sandbox's lock file again: `python -m tests.support.artifact_lock [--keycloak V] [--kafka V]`."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import requests

from keycloak_bridge.sandbox import distribution
from keycloak_bridge.sandbox.distribution import LOCK_FILE, Artifact, locked, sha256_of
from keycloak_bridge.sandbox.options import SandboxError

CENTRAL = "https://repo.maven.apache.org/maven2"
# Kafka's own jars bring the logging interface without anything behind it: without this one a
# broker that cannot start says nothing at all.
LOGGING = ("org.slf4j", "slf4j-simple", "1.7.36")


def keycloak_artifacts(version: str, scratch: Path) -> list[Artifact]:
    """Return the distribution of Keycloak with its checksum."""
    return [_pin("org.keycloak", "keycloak-quarkus-dist", version, "zip", scratch)]


def kafka_artifacts(version: str, scratch: Path) -> list[Artifact]:
    """Return Kafka's broker and everything it runs on, resolved from the published POMs."""
    from jgo.maven import MavenContext  # noqa: PLC0415  (only with the sandbox extra)

    context = MavenContext(repo_cache=scratch, timeout=60)
    roots = [("org.apache.kafka", "kafka_2.13", version), LOGGING]
    dependencies = [context.create_dependency(":".join(root)) for root in roots]
    inputs, transitive = context.resolver.resolve(dependencies)
    found = {(item.groupId, item.artifactId, item.version) for item in [*inputs, *transitive]}
    ordered = [roots[0], *sorted(found - {roots[0]})]
    return [_pin(group, name, release, "jar", scratch) for group, name, release in ordered]


def _pin(group: str, name: str, version: str, packaging: str, scratch: Path) -> Artifact:
    from jgo.maven import MavenContext  # noqa: PLC0415  (only with the sandbox extra)

    component = MavenContext(repo_cache=scratch, timeout=60).project(group, name)
    path = Path(component.at_version(version).artifact(packaging=packaging).resolve())
    artifact = Artifact(group, name, version, packaging, sha256_of(path), path.stat().st_size)
    _compare_with_central(artifact, path)
    return artifact


def _compare_with_central(artifact: Artifact, path: Path) -> None:
    """Refuse to pin a file that differs from the checksum that Maven Central publishes."""
    answer = requests.get(f"{CENTRAL}/{artifact.path.as_posix()}.sha1", timeout=60)
    answer.raise_for_status()
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha1").hexdigest()
    if answer.text.split()[0] != found:
        raise SandboxError(f"{artifact.file_name} is not the file that Maven Central published.")


def _written(artifact: Artifact) -> dict[str, object]:
    """Return what the lock file says of an artifact; few have a classifier."""
    return {name: value for name, value in asdict(artifact).items() if value != ""}


def render(programs: Iterable[tuple[str, str, Sequence[Artifact]]]) -> str:
    """Return the text of the lock file."""
    entries = {
        program: {"version": version, "artifacts": [_written(item) for item in artifacts]}
        for program, version, artifacts in programs
    }
    return json.dumps(entries, indent=2) + "\n"


@click.command()
@click.option("--keycloak", default=None, help="Version of Keycloak (default: as locked).")
@click.option("--kafka", default=None, help="Version of Kafka (default: as locked).")
def main(keycloak: str | None, kafka: str | None) -> None:
    """Resolve, download and pin Keycloak and Kafka again."""
    keycloak = keycloak or locked("keycloak").version
    kafka = kafka or locked("kafka").version
    with tempfile.TemporaryDirectory(prefix="keycloak-bridge-lock-") as folder:
        scratch = Path(folder)
        text = render(
            [
                ("kafka", kafka, kafka_artifacts(kafka, scratch)),
                ("keycloak", keycloak, keycloak_artifacts(keycloak, scratch)),
            ]
        )
    target = Path(distribution.__file__).with_name(LOCK_FILE)
    target.write_text(text, encoding="utf-8")
    click.echo(f"wrote {target.name}: Keycloak {keycloak}, Kafka {kafka}")


if __name__ == "__main__":
    main()
