"""Points in time as the bridge writes them: RFC 3339 in UTC, always with microseconds."""

from datetime import UTC, datetime


def format_time(time: datetime) -> str:
    """Return an aware `time` such that equal points in time give equal text."""
    if time.tzinfo is UTC:  # as parse_timestamp gives it
        return f"{time.isoformat(timespec='microseconds')[:-6]}Z"
    try:
        utc = time.astimezone(UTC)
    except OverflowError:  # the last hours of year 9999 or the first of year 1, east or west of UTC
        utc = time.replace(tzinfo=UTC)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime | None:
    """Return the aware datetime in `text`, or None when it holds none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
