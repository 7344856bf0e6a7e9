"""`keycloak-bridge topics`: check or create the Kafka topics that the bridge needs."""

from contextlib import closing

import click

from keycloak_bridge.app.wiring import topic_specs
from keycloak_bridge.cli.common import Invocation, bridge_command
from keycloak_bridge.cli.console import Console
from keycloak_bridge.kafka.topics import KafkaAdmin, ensure_topics

MISSING_EXIT_CODE = 2


@click.group()
def topics() -> None:
    """Check or create the Kafka topics of the settings.

    Names, partitions, replicas and retention come from the section [topics].
    """


@bridge_command("keycloak-bridge --config bridge.toml topics check", group=topics)
def check(invocation: Invocation) -> int:
    """Show which topics exist; exit 2 when one is missing."""
    settings = invocation.settings()
    with closing(KafkaAdmin(settings.kafka)) as admin:
        states = admin.states(topic_specs(settings))
    Console().table(
        ("PURPOSE", "TOPIC", "STATE"),
        [
            (
                one.spec.purpose,
                one.spec.name,
                "missing" if one.partitions is None else f"{one.partitions} partitions",
            )
            for one in states
        ],
    )
    missing = [state.spec for state in states if state.partitions is None]
    if not missing:
        return 0
    click.echo(
        "\nCreate what is missing by `keycloak-bridge topics create`, or with Kafka's own tool:"
    )
    for spec in missing:
        click.echo(f"  {spec.create_command()}")
    return MISSING_EXIT_CODE


@bridge_command("keycloak-bridge --config bridge.toml topics create", group=topics)
def create(invocation: Invocation) -> None:
    """Create the topics that are missing; existing ones are left as they are."""
    settings = invocation.settings()
    specs = topic_specs(settings)
    with closing(KafkaAdmin(settings.kafka)) as admin:
        created = ensure_topics(admin, specs, create=True)
    for spec in specs:
        word = "created" if spec.name in created else "exists"
        click.echo(f"{word}  {spec.name} ({spec.purpose})")
