"""What a line of a backfill is to the provision stage: an event as it stands there, or the data of one."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from keycloak_bridge.backfill_lines import BROKEN_HEADER, PLACE_HEADER, RAW_HEADER, TOPIC, Line
from keycloak_bridge.cli.backfill_tables import Header
from keycloak_bridge.core.errors import BridgeError, ConfigError
from keycloak_bridge.core.events import peek
from keycloak_bridge.core.model import Record, UserEvent
from keycloak_bridge.core.timestamps import format_time
from keycloak_bridge.interpretation import Interpretation

_SOURCE = b"/keycloak-bridge/backfill"
_ID_LENGTH = 32

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class FileEvents:
    """Makes records of lines: the key is the user's id, so that events of a user keep their order.

    Data alone is an event of `event_type` and of the time of its file in `times`; its id is made of its content, so
    that the same line again is the same event. With `enveloped` every line is an event in the producer's envelope.

    `record` raises ConfigError for data whose file has no time.
    """

    interpretation: Interpretation
    event_type: str
    times: Sequence[datetime | None]
    headers: Sequence[Header | None]
    schema: Mapping[str, Any]
    enveloped: bool = False

    def record(self, line: Line, offset: int) -> Record:
        """Return the record of `line`; nothing of it is judged yet."""
        place: Headers = ((PLACE_HEADER, line.place),)
        if line.broken is not None:
            reason = line.broken.encode("ascii")
            return Record(TOPIC, 0, offset, 0, None, line.raw, (*place, (BROKEN_HEADER, reason)))
        if line.cells is not None:
            data = self._row(line)
            value = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return self._event_of(data, value, offset, line, (*place, (RAW_HEADER, line.raw)))
        record = Record(TOPIC, 0, offset, 0, None, line.raw, place)
        if self.enveloped:
            return replace(record, key=_bytes(peek(record, self.interpretation.rules).subject))
        try:
            content = json.loads(line.raw)
        except (ValueError, RecursionError):
            return record  # the stage says what it is
        if not isinstance(content, dict):
            return record
        if "specversion" in content:
            return replace(record, key=_bytes(self._subject(content)))
        return self._event_of(content, line.raw, offset, line, place)

    def _row(self, line: Line) -> dict[str, Any]:
        header = self.headers[line.file]
        if header is None or line.cells is None:
            raise AssertionError("a row belongs to a table")
        return header.data(line.cells, self.schema)

    def _event_of(
        self, data: Any, value: bytes, offset: int, line: Line, headers: Headers
    ) -> Record:
        """Return the event whose data is `value`, as a CloudEvent in binary mode: the value stays as it is."""
        user_id = _bytes(self._user_of(self.event_type, data))
        kind = self.event_type.encode()
        digest = hashlib.sha256(kind + b"\n" + value).hexdigest()[:_ID_LENGTH]
        time = self.times[line.file]
        if time is None:
            raise ConfigError(
                "standard input does not say of when its users are",
                remedy="say with --as-of when the export was taken, so that nothing newer is overwritten",
            )
        attributes = {
            "specversion": b"1.0",
            "id": f"backfill-{digest}".encode("ascii"),
            "source": _SOURCE,
            "type": kind,
            "subject": user_id,
            "time": format_time(time).encode("ascii"),
        }
        envelope = tuple((f"ce_{name}", text) for name, text in attributes.items() if text)
        return Record(TOPIC, 0, offset, 0, user_id, value, (*headers, *envelope))

    def _subject(self, content: Mapping[str, Any]) -> str | None:
        subject, kind = content.get("subject"), content.get("type")
        if isinstance(subject, str) and subject:
            return subject
        return self._user_of(kind, content.get("data")) if isinstance(kind, str) else None

    def _user_of(self, kind: str, data: Any) -> str | None:
        """Return the id in user management that the mapping finds in `data`, which no schema has seen yet."""
        if not isinstance(data, dict):
            return None
        known = self.interpretation
        event_type = known.rules.types.get(kind, kind)
        try:
            schema_id = known.catalog.schema_id(event_type)
            event = UserEvent("", "", event_type, None, None, schema_id, data)
            return known.mapping.serving(event).identify(event).value
        except BridgeError:
            return None


def _bytes(text: str | None) -> bytes | None:
    return text.encode("utf-8", "surrogatepass") if text else None
