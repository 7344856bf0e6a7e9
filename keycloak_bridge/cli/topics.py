"""`keycloak-bridge topics`: what Kafka must hold before the sidecar can run."""

from contextlib import closing

import click

from keycloak_bridge.app.bridge import topic_specs
from keycloak_bridge.cli.common import Invocation, pass_invocation, settings_options
from keycloak_bridge.kafka.topics import KafkaAdmin, TopicSpec, ensure_topics
from keycloak_bridge.settings import Settings

MISSING_EXIT_CODE = 2


@click.group()
def topics() -> None:
    """Check or create the Kafka topics of the settings.

    Names, partitions, replicas and retention come from the section [topics].
    """


@topics.command(epilog="Example: keycloak-bridge --config bridge.toml topics check")
@settings_options
@pass_invocation
def check(invocation: Invocation) -> int:
    """Say which topics exist; exit 2 when one is missing."""
    settings = invocation.settings()

    with closing(KafkaAdmin(settings.kafka)) as admin:
        states = admin.states(_specs(settings))
    for state in states:
        found = "missing" if state.partitions is None else f"{state.partitions} partitions"
        click.echo(f"{state.spec.purpose:<13} {state.spec.name:<32} {found}")
    missing = [state.spec for state in states if state.partitions is None]
    if not missing:
        return 0
    click.echo(
        "\nCreate what is missing by `keycloak-bridge topics create`, or with Kafka's own tool:"
    )
    for spec in missing:
        click.echo(f"  {spec.create_command()}")
    return MISSING_EXIT_CODE


@topics.command(epilog="Example: keycloak-bridge --config bridge.toml topics create")
@settings_options
@pass_invocation
def create(invocation: Invocation) -> None:
    """Create the topics that are missing; existing ones are left as they are."""
    settings = invocation.settings()

    specs = _specs(settings)
    with closing(KafkaAdmin(settings.kafka)) as admin:
        created = ensure_topics(admin, specs, create=True)
    for spec in specs:
        click.echo(
            f"{'created' if spec.name in created else 'exists'}  {spec.name} ({spec.purpose})"
        )


def _specs(settings: Settings) -> tuple[TopicSpec, ...]:

    return topic_specs(settings)
