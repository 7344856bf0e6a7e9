"""Records and events for the tests of decoding."""

import json
from typing import Any

from keycloak_bridge.domain.events import Record
from keycloak_bridge.settings.model import EnvelopeSettings

USER: dict[str, Any] = {
    "userId": "u-1",
    "email": "ada@acme.example",
    "givenName": "Ada",
    "familyName": "Lovelace",
}


def envelope(**changes: Any) -> dict[str, Any]:
    """Return a structured CloudEvent; a change to `...` takes the attribute away."""
    event = {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/user-management",
        "type": "user.created",
        "subject": "u-1",
        "time": "2026-11-01T09:30:00Z",
        "data": USER,
        **changes,
    }
    return {name: value for name, value in event.items() if value is not ...}


def own_envelope(**changes: Any) -> EnvelopeSettings:
    """Return the settings for an envelope of one's own: an object with the names of CloudEvents, and one type renamed."""
    names = ("id", "type", "subject", "time", "source", "data")
    settings: dict[str, Any] = {name: f"body.{name}" for name in names}
    return EnvelopeSettings(**{**settings, "types": {"user.renamed": "user.updated"}, **changes})


def record(
    value: Any = None,
    *,
    key: bytes | None = None,
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Record:
    """Return a record; a value that is not bytes is written as JSON."""
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Record("user-events", 3, 42, 1_793_577_600_000, key, raw, headers)


def binary(
    data: Any = USER, *, content_type: str | None = "application/json", **changes: str | None
) -> Record:
    """Return a binary CloudEvent; a change to None takes the header away."""
    attributes = {"specversion": "1.0", "id": "event-1", "source": "/u", "type": "user.created"}
    headers = {**attributes, **changes}
    sent = tuple(
        (f"ce_{name}", text.encode()) for name, text in headers.items() if text is not None
    )
    if content_type is not None:
        sent += (("content-type", content_type.encode()),)
    return record(data, headers=sent)
