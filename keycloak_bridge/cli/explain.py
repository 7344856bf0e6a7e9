"""`keycloak-bridge explain`: which event set what of a user, and where its invitation stands."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.errors import INVALID_EVENT
from keycloak_bridge.cli.examples import examples
from keycloak_bridge.cli.explain_view import as_object, print_explanation
from keycloak_bridge.cli.invocation import Invocation, pass_invocation, settings_options
from keycloak_bridge.cli.letter_options import letter_reader, take_inventory
from keycloak_bridge.cli.progress import progress_bar
from keycloak_bridge.core.letters import LetterFilter
from keycloak_bridge.core.provenance import PastOutcome, in_order, read_outcome

if TYPE_CHECKING:
    from keycloak_bridge.core.desired import UserRepresentation
    from keycloak_bridge.core.ports import UserDirectory
    from keycloak_bridge.interpretation import Interpretation
    from keycloak_bridge.kafka_reader import TopicReader
    from keycloak_bridge.settings import Settings


@click.command(
    epilog=examples(
        "keycloak-bridge explain 28518867",
        "keycloak-bridge explain ada@acme.example --last 3 --show-values",
    )
)
@click.argument("user")
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="How many of the last outcomes to show.")  # fmt: skip
@click.option("--show-values", is_flag=True, help="Show what the attributes hold: personal data.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@settings_options
@pass_invocation
def explain(invocation: Invocation, user: str, last: int, show_values: bool, output: str) -> int:
    """Say which event set what of a user, what became of its last events, and where its invitation stands.

    USER is the id in user management, the username, the e-mail address or the Keycloak id. What happened is read from
    the results topic, as far back as that goes; what the bridge did not write stands without an event. Exit code 1 when
    nothing is known of USER.
    """
    settings = invocation.settings(require=("keycloak.realm", "keycloak.client_secret"))

    from keycloak_bridge.connections import user_directory  # noqa: PLC0415
    from keycloak_bridge.interpretation import Interpretation  # noqa: PLC0415

    interpretation = Interpretation(settings)
    external_id = interpretation.mapping.external_id
    directory = user_directory(settings)
    found = find_user(directory, user, external_id)
    user_id = user if found is None else _external_id(found, external_id)
    outcomes = _outcomes(settings, user_id) if user_id is not None else ()
    letters = _letters(settings, interpretation, user_id) if user_id is not None else (0, 0)
    if found is None and not outcomes and not letters[1]:
        click.echo(
            "neither the realm nor the topics know such a user: give the id in user management, the username, the "
            "e-mail address or the Keycloak id",
            err=True,
        )
        return INVALID_EVENT
    explanation = as_object(
        found,
        user_id=user_id,
        credentials=None if found is None else directory.has_credentials(found["id"]),
        outcomes=outcomes,
        letters=letters,
        last=last,
        show_values=show_values,
    )
    if output == "json":
        Console().json(explanation)
    else:
        print_explanation(Console(), explanation)
    return 0


def find_user(
    directory: "UserDirectory", user: str, external_id: str
) -> "UserRepresentation | None":
    """Return the user that is meant, by the id in user management, username, e-mail or Keycloak id."""
    from keycloak_bridge.core.desired import MatchCriterion  # noqa: PLC0415

    targets = (f"attributes.{external_id}", "username", "email")
    found = directory.find([MatchCriterion(target, user) for target in targets])
    return directory.get(user) if found is None else found.representation


def _external_id(user: "UserRepresentation", name: str) -> str | None:
    values = (user.get("attributes") or {}).get(name) or []
    return values[0] if values else None


def _outcomes(settings: "Settings", user_id: str) -> Sequence[PastOutcome]:
    """Return what the results topic tells of the user: of the partition of its key, else of all."""
    key = user_id.encode()
    with _results(settings) as reader:
        reader.only_key(key)
        found = _read(reader, key)
    if not found:
        # the topic may have had another number of partitions
        with _results(settings) as reader:
            found = _read(reader, key)
    return in_order(found)


@contextlib.contextmanager
def _results(settings: "Settings") -> Any:
    from keycloak_bridge import kafka_reader  # noqa: PLC0415 # kafka takes its time

    reader = kafka_reader.TopicReader(
        settings.kafka, settings.topics.results, setting="topics.results"
    )
    with contextlib.closing(reader):
        yield reader


def _read(reader: "TopicReader", key: bytes) -> list[PastOutcome]:
    with progress_bar("reading results", reader.remaining()) as advance:
        told = [read_outcome(record) for record in _each(reader, advance) if record.key == key]
    return [one for one in told if one is not None]


def _each(reader: "TopicReader", advance: Callable[[int], None]) -> Any:
    for record in reader.read():
        advance(1)
        yield record


def _letters(
    settings: "Settings", interpretation: "Interpretation", user_id: str
) -> tuple[int, int]:
    """Return how many dead letters of the user are open, and how many there are."""
    with letter_reader(settings) as reader:
        chosen = LetterFilter(users=frozenset((user_id,)))
        inventory = take_inventory(reader, interpretation.rules, chosen)
    letters = inventory.letters(replayed=True)
    return sum(map(inventory.is_open, letters)), len(letters)
