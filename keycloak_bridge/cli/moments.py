"""Points in time on the command line: as ISO 8601 writes them, or as an age."""

import contextlib
from datetime import UTC, datetime, timedelta

import click

from keycloak_bridge.core.durations import parse_duration


def now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    """Return the aware point in time that `text` is, or is as an age; raises click's error."""
    with contextlib.suppress(ValueError, OverflowError):
        return now() - timedelta(seconds=parse_duration(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            'write a time such as 2026-11-02T08:00:00Z or an age such as "2 hours"'
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
