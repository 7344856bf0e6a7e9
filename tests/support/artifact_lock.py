"""Pin more versions in the sandbox's lock file: `python -m tests.support.artifact_lock [--keycloak V] [--kafka V]`."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import requests

from keycloak_bridge.sandbox import distribution
from keycloak_bridge.sandbox.distribution import LOCK_FILE, Artifact, lock_file, locked, sha256_of
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


def render(content: Mapping[str, Mapping[str, Sequence[Artifact]]]) -> str:
    """Return the text of the lock file: each program's versions, oldest first, and the newest as its default."""
    programs = []
    for program, pinned in content.items():
        ordered = sorted(pinned, key=_numbers)
        versions = ",\n".join(
            f"      {json.dumps(version)}: [\n{_lines(pinned[version])}\n      ]"
            for version in ordered
        )
        programs.append(
            f'  {json.dumps(program)}: {{\n    "default": {json.dumps(ordered[-1])},\n'
            f'    "versions": {{\n{versions}\n    }}\n  }}'
        )
    return "{\n" + ",\n".join(programs) + "\n}\n"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _lines(artifacts: Sequence[Artifact]) -> str:
    return ",\n".join(f"        {json.dumps(_written(artifact))}" for artifact in artifacts)


def pinned_versions(program: str) -> dict[str, Sequence[Artifact]]:
    """Return what the lock file has of a program."""
    return {
        version: locked(program, version).artifacts for version in lock_file()[program]["versions"]
    }


@click.command()
@click.option("--keycloak", multiple=True, help="A version of Keycloak to pin as well.")
@click.option("--kafka", multiple=True, help="A version of Kafka to pin as well.")
def main(keycloak: Sequence[str], kafka: Sequence[str]) -> None:
    """Resolve, download and pin more versions; the newest is the default. To drop one, delete its lines."""
    content = {program: pinned_versions(program) for program in ("kafka", "keycloak")}
    with tempfile.TemporaryDirectory(prefix="keycloak-bridge-lock-") as folder:
        for version in kafka:
            content["kafka"][version] = kafka_artifacts(version, Path(folder))
        for version in keycloak:
            content["keycloak"][version] = keycloak_artifacts(version, Path(folder))
    target = Path(distribution.__file__).with_name(LOCK_FILE)
    target.write_text(render(content), encoding="utf-8")
    for program, versions in content.items():
        click.echo(f"{target.name}: {program} {', '.join(sorted(versions, key=_numbers))}")


if __name__ == "__main__":
    main()
