"""`keycloak-bridge invitations`: list the invited users, and ask for another mail to them."""

import heapq
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import click

from keycloak_bridge.app.connections import all_users, count_users, user_directory
from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.wiring import direct_provisioner
from keycloak_bridge.cli import common
from keycloak_bridge.cli.common import (
    INVALID_EVENT,
    Invocation,
    bridge_command,
    format_option,
    shown_time,
    utc_option,
)
from keycloak_bridge.cli.console import (
    Console,
    in_batches,
    progress_bar,
    totals_line,
    with_progress,
)
from keycloak_bridge.domain.errors import BridgeError, ConfigError, UnknownSchemaError
from keycloak_bridge.domain.events import INVITATION_REQUESTED, Invitation
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.domain.ports import Acknowledgement
from keycloak_bridge.domain.times import format_duration, format_time
from keycloak_bridge.domain.unicode_text import printable
from keycloak_bridge.domain.users import ATTRIBUTE_PREFIX, MatchCriterion, UserRepresentation
from keycloak_bridge.kafka.producer import KafkaMessageProducer
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.population.invited_users import (
    InvitationState,
    InvitedUser,
    another_mail,
    invited_users,
)
from keycloak_bridge.population.side_by_side import side_by_side
from keycloak_bridge.settings.model import Settings

_HEADERS = ("state", "user", "link ends", "event", "Keycloak id", "obstacle")
_BATCH = 200
_DEFAULT_LIMIT = 1000
_NOT_RESENT = "not-requested"
_LAST = datetime.max.replace(tzinfo=UTC)


@click.group()
def invitations() -> None:
    """List the invited users, and ask for another mail to them."""


@bridge_command(
    "keycloak-bridge invitations list --state expired",
    "keycloak-bridge invitations list --user 28518867 --format json",
    name="list",
    group=invitations,
)
@click.option("--state", "states", multiple=True, type=click.Choice([one.value for one in InvitationState]), help="How far the invitation is; may be repeated.")  # fmt: skip
@click.option("--user", "users", multiple=True, help="The user's id in user management; may be repeated.")  # fmt: skip
@utc_option
@format_option("one object for each user")
def list_(
    invocation: Invocation, states: tuple[str, ...], users: tuple[str, ...], utc: bool, output: str
) -> None:
    """List the users of the realm that were invited: ids and codes, no personal data.

    due: the mail was not sent yet. sent: the link is in the user's mailbox. expired: it ended, and the user has no
    credentials. activated: the user has credentials. Keycloak is asked for the credentials of each user of the states that
    are listed, so name the states in a large realm.
    """
    interpretation = invocation.interpretation(keycloak=True)
    console = Console()
    wanted = [InvitationState(one) for one in states] or list(InvitationState)
    add = console.stream(_HEADERS)
    totals: Counter[str] = Counter()
    for batch in in_batches(_invited(interpretation, wanted, users), _BATCH):
        totals.update(one.state.value for one in batch)
        if output == "json":
            for one in batch:
                console.json(_as_object(one), indent=None)
        else:
            add([_row(one, utc=utc) for one in batch])
    if output == "text":
        console.line(totals_line(totals) or "no user of the realm is in such a state")


@bridge_command(
    "keycloak-bridge invitations resend --state expired --dry-run",
    "keycloak-bridge invitations resend --state expired --limit 100 --yes",
    "keycloak-bridge invitations resend --user 28518867",
    group=invitations,
)
@click.option("--state", "states", multiple=True, type=click.Choice(["due", "expired"]), help="Only users whose invitation is that far; may be repeated.")  # fmt: skip
@click.option("--user", "users", multiple=True, help="The user's id in user management; may be repeated.")  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Ask for so many mails at most, for those first whose link ended first; 1000 by default, or what limits.mails lets a bridge send.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Write and publish nothing; show who would get a mail.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@utc_option
def resend(
    invocation: Invocation,
    states: tuple[str, ...],
    users: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    yes: bool,
    utc: bool,
) -> int:
    """Ask for another mail to users whose link ended unused, or whose mail is still due.

    It is what `user.invitation.requested` does: the user is marked, the request goes to the invitations topic, and the
    running bridge sends the mail within its pace and limits, unless the user has set a password meanwhile. Exit code 1 when
    some user could not be asked for.
    """
    if not states and not users:
        raise click.UsageError("Name a state, such as --state expired, or users.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("Standard input is not a terminal, so this cannot be confirmed; add --yes.")  # fmt: skip
    interpretation = invocation.interpretation(keycloak=True)
    settings = interpretation.settings
    most = _most(settings, limit)
    console = Console()
    wanted = [InvitationState(one) for one in states or ("due", "expired")]
    passed: Counter[str] = Counter()
    found = _mailable(_invited(interpretation, wanted, users), passed)
    # the others stay for the next call, so that memory is bounded
    chosen = heapq.nsmallest(most, found, key=lambda one: one.link_ends or _LAST)
    left = passed.pop("", 0) - len(chosen)
    if passed:
        console.line(f"passed over: {totals_line(passed)}", "yellow")
    if dry_run and chosen:
        console.table(_HEADERS, [_row(one, utc=utc) for one in chosen])
    if left:
        console.line(f"{left} more are left for another call")
    if not chosen:
        console.line("nobody is to be mailed")
        return 0
    if dry_run:
        console.line(f"{counted(len(chosen), 'mail')} would be asked for")
        return 0
    if not yes and not click.confirm(f"Ask for {counted(len(chosen), 'mail')}?", err=True):
        console.line("nothing was asked for")
        return 0
    return _resend(console, interpretation, chosen)


def _most(settings: Settings, limit: int | None) -> int:
    """Return how many mails to ask for; raises ConfigError for more than a bridge with these settings sends."""
    if settings.invite.mode == "none":
        raise ConfigError(
            'invite.mode is "none": no bridge with these settings sends mails',
            remedy="use the settings of the bridge that does",
        )
    allowed = settings.limits.mails
    if allowed is None:
        return limit or _DEFAULT_LIMIT
    if limit is not None and limit > allowed.count:
        raise ConfigError(
            f"--limit {limit} is more than limits.mails lets a bridge send: {allowed.count} within "
            f"{format_duration(allowed.window_s)}",
            remedy=f"ask for {allowed.count} at a time: more would engage the brake",
        )
    return limit or min(_DEFAULT_LIMIT, allowed.count)


def _invited(
    interpretation: Interpretation, wanted: Collection[InvitationState], user_ids: Sequence[str]
) -> Iterator[InvitedUser]:
    """Yield the invited users in a `wanted` state, of the whole realm or those with these ids."""
    settings, name = interpretation.settings, interpretation.mapping.external_id
    directory = user_directory(settings)
    users: Iterable[UserRepresentation]
    if user_ids:
        criteria = [MatchCriterion(ATTRIBUTE_PREFIX + name, one) for one in dict.fromkeys(user_ids)]
        users = (user for one in criteria for user in directory.having(one))
    else:
        users = with_progress("listing the realm", all_users(settings), count_users(settings))
    return invited_users(
        users,
        name,
        directory,
        common.now(),
        wanted=wanted,
        grace_s=settings.activation.grace,
        workers=settings.delivery.workers,
    )


def _mailable(found: Iterable[InvitedUser], passed: Counter[str]) -> Iterator[InvitedUser]:
    """Yield those whom Keycloak would mail; count them, and the others by their obstacle."""
    for one in found:
        passed[one.obstacle or ""] += 1
        if one.obstacle is None:
            yield one


def _resend(console: Console, interpretation: Interpretation, chosen: Sequence[InvitedUser]) -> int:
    settings, mappings = interpretation.settings, interpretation.mapping
    try:
        schema_id = interpretation.catalog.schema_id(INVITATION_REQUESTED)
    except UnknownSchemaError:  # the folders of the settings may define no such event
        schema_id = INVITATION_REQUESTED
    outcomes: Counter[str] = Counter()
    with closing(KafkaMessageProducer(settings.kafka)) as producer:

        def publish(invitation: Invitation) -> Sequence[Acknowledgement]:
            message = invitation_message(invitation, topic=settings.topics.invitations)
            return (producer.publish(message),)

        provisioner = direct_provisioner(interpretation, request=publish, writes=True)

        def request(one: InvitedUser) -> tuple[InvitedUser, str]:
            event, desired = another_mail(one, mappings, schema_id)
            try:
                done = provisioner.provision(event, desired, one_partition=False)
            except BridgeError as error:
                if not error.is_final:
                    raise
                return one, error.code
            for acknowledgement in done.acknowledgements:
                _wait_for(acknowledgement)
            return one, "requested" if done.acknowledgements else done.result.reason or _NOT_RESENT

        try:
            with progress_bar("asking", len(chosen)) as advance:
                for one, outcome in side_by_side(request, chosen, settings.delivery.workers):
                    outcomes[outcome] += 1
                    advance(1)
                    if outcome != "requested":
                        click.echo(printable(f"{one.user_id}: not asked for ({outcome})"), err=True)
        except (BridgeError, KeyboardInterrupt):
            click.echo(f"asked for {counted(outcomes['requested'], 'mail')} before this; the same command continues with the others", err=True)  # fmt: skip
            raise
    console.line(f"asked for {counted(outcomes['requested'], 'mail')}: the running bridge sends them", "green")  # fmt: skip
    return INVALID_EVENT if len(outcomes) > ("requested" in outcomes) else 0


def _wait_for(acknowledgement: Acknowledgement) -> None:
    """Return once Kafka has the record; raises BrokerError."""
    done: Future[None] = Future()

    def end(error: BridgeError | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    acknowledgement.then(end)
    done.result()


def _row(one: InvitedUser, *, utc: bool) -> tuple[str, ...]:
    ends = shown_time(one.link_ends, utc=utc)
    return (one.state.value, one.user_id, ends, one.event_id, one.keycloak_id, one.obstacle or "-")


def _as_object(one: InvitedUser) -> dict[str, Any]:
    return {
        "state": one.state.value,
        "userId": one.user_id,
        "keycloakId": one.keycloak_id,
        "eventId": one.event_id,
        "linkEnds": None if one.link_ends is None else format_time(one.link_ends),
        "obstacle": one.obstacle,
    }
