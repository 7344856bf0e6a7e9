"""Logs: one JSON line (or line of text) for each thing that happened, without personal data or secrets.

`log_event` takes only the fields of `EventFields`, and every text that is written, also by libraries, goes through
`redaction`. The text of an unexpected exception is not written at all, because it may repeat any value.
"""

import contextlib
import json
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from select import PIPE_BUF
from time import sleep
from typing import Any, Literal, TextIO, TypedDict, Unpack

from pythonjsonlogger.json import JsonFormatter

from keycloak_bridge.domain.errors import BridgeError, InternalError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.unicode_text import printable, printable_json
from keycloak_bridge.ops import redaction, tracing

LogFormat = Literal["auto", "json", "text"]

_CHATTY = ("requests", "charset_normalizer", "asyncio")
"""Libraries whose lines below WARNING repeat requests and records."""

_SILENT = ("kafka", "urllib3")
"""Libraries that report an outage, a hundred times a second or with whole URLs, which the bridge reports once itself."""

_LONGEST = 4000
_GATHER_S = 0.05
_MOST_GATHERED = 10_000
_FIELDS_ATTRIBUTE = "bridge_fields"
_PLACE = "keycloak_bridge"
_PLAIN = (str, int, float)


class EventFields(TypedDict, total=False):
    """All fields of a log line besides its message: ids and codes, never what a person typed."""

    stage: str | None
    group: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    event_id: str | None
    event_type: str | None
    schema_id: str | None
    user_id: str | None
    keycloak_id: str | None
    outcome: str | None
    operation: str | None
    reason: str | None
    attempt: int | None
    count: int | None
    duration_ms: float | None
    status: int | None
    method: str | None
    path: str | None
    realm: str | None
    port: int | None
    version: str | None
    trace_id: str | None


FIELDS = frozenset(EventFields.__annotations__)
"""The names that `log_event` lets through."""


def log_event(
    logger: logging.Logger,
    action: str,
    *,
    level: int = logging.INFO,
    message: str | None = None,
    error: BaseException | None = None,
    **fields: Unpack[EventFields],
) -> None:
    """Write one line; `action` is a stable word to filter by, `message` a sentence for people.

    Fields that are None are left out, and so is every field that is not in `EventFields`. The id of the current trace is
    added.
    """
    if not logger.isEnabledFor(level):
        return
    known = {name: value for name, value in fields.items() if value is not None and name in FIELDS}
    trace_id = tracing.current().trace_id
    if trace_id is not None:
        known["trace_id"] = trace_id
    # as Logger.log does, without its walk up the stack for a place that no line of the bridge shows
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, level, _PLACE, 0, "%s", (message or action,), exc_info, action, None
    )
    setattr(record, _FIELDS_ATTRIBUTE, {"action": action, **known})
    logger.handle(record)


def internal_error(
    logger: logging.Logger, error: BaseException, record: Record | None, stage: str | None = None
) -> InternalError:
    """Log an exception that the bridge did not foresee, and return the error that the record gets for it."""
    log_event(
        logger,
        "internal-error",
        level=logging.ERROR,
        error=error,
        stage=stage,
        topic=None if record is None else record.topic,
        partition=None if record is None else record.partition,
        offset=None if record is None else record.offset,
    )
    return InternalError(
        f"the bridge failed on this record ({type(error).__name__})",
        remedy="report it with the log line `internal-error`; then replay the dead letter",
    )


def configure_logging(
    *, level: str = "INFO", log_format: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Send every log line of the process to `stream` (standard error) instead of what was set up before."""
    # each would be looked up for every line, and no line names any
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    target = stream or sys.stderr
    debugging = level == "DEBUG"
    as_text = log_format == "text" or (log_format == "auto" and target.isatty())
    handler = _Handler(target)
    handler.setFormatter(_Formatter(as_text=as_text, debugging=debugging))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.WARNING if debugging else logging.CRITICAL + 1)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread_failure


def gather_lines() -> None:
    """Write lines below WARNING up to 50 ms late from now on, together; anything worse writes all at once, as does the end.

    Each write lets another thread go first, which costs a busy bridge a tenth of its CPU.
    """
    for handler in _handlers():
        handler.gather()


def write_gathered() -> None:
    """Write what waits. To be called before the end, and before anything else is written to the same stream."""
    for handler in _handlers():
        handler.flush()


def _handlers() -> Sequence["_Handler"]:
    return [one for one in logging.getLogger().handlers if isinstance(one, _Handler)]


def failure(error: BaseException) -> str:
    """Return what may be said about `error`: a BridgeError's sentence, else its type and place, never its text."""
    if isinstance(error, BridgeError):
        return redaction.shared.redact(error.message)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "keycloak_bridge" in frame.filename] or frames
    place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{place}"


def bare_traceback(error: BaseException) -> str:
    """Return the traceback of `error` and its causes: types and code, without the texts of exceptions."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        lines.insert(0, f"{frames}{type(current).__module__}.{type(current).__qualname__}")
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return redaction.shared.redact("\nwhich led to\n".join(lines))


class _Formatter(JsonFormatter):
    """Writes a record as one JSON object, or as a line of text for people at a terminal."""

    def __init__(self, *, as_text: bool, debugging: bool) -> None:
        super().__init__(json_serializer=_json, json_ensure_ascii=False)
        self._as_text = as_text
        self._debugging = debugging

    def format(self, record: logging.LogRecord) -> str:
        fields = self._fields(record)
        return _text(fields) if self._as_text else self.serialize_log_record(fields)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        own = getattr(record, _FIELDS_ATTRIBUTE, {})
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": f"{time[:-6]}Z",
            "level": record.levelname,
            "logger": record.name,
            "action": "log",
            "message": _message(record),
            **own,
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields["error"] = failure(error)
            if self._debugging and not isinstance(error, BridgeError):
                fields["traceback"] = bare_traceback(error)
        return _safe(fields)


def _text(fields: dict[str, Any]) -> str:
    """Return the fields as one line of text; a traceback follows on lines of its own."""
    time, level, name = fields.pop("time"), fields.pop("level"), fields.pop("logger")
    action, message = fields.pop("action"), fields.pop("message")
    stack = fields.pop("traceback", None)
    texts = [name if action == "log" else action, *([] if message == action else [message])]
    words = [*texts, *(f"{key}={value}" for key, value in fields.items())]
    line = f"{time} {level:<7} {printable(' '.join(words))}"
    return line if stack is None else f"{line}\n{stack}"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; a line that cannot be written is dropped without repeating it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._gathered: deque[str] = deque()
        self._gathers: threading.Event | None = None

    def gather(self) -> None:
        """Write lines below WARNING with those that follow at once; see `gather_lines`."""
        if self._gathers is None:
            self._gathers = threading.Event()
            threading.Thread(
                target=self._write_late, args=(self._gathers,), name="log", daemon=True
            ).start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record, or keep its line for a moment."""
        if self._gathers is None:
            return super().handle(record)
        try:
            self._gathered.append(f"{self.format(record)}{self.terminator}")
        except Exception:  # noqa: BLE001 # as the standard library does
            self.handleError(record)
        if record.levelno >= logging.WARNING or len(self._gathered) >= _MOST_GATHERED:
            self.flush()
        elif not self._gathers.is_set():
            self._gathers.set()
        return True

    def flush(self) -> None:
        """Write what was kept."""
        self.acquire()
        try:
            for lines in self._pieces():
                with contextlib.suppress(Exception):  # as the standard library does
                    self.stream.write(lines)
                    self.stream.flush()
        finally:
            self.release()

    def _pieces(self) -> Iterator[str]:
        """Yield what was kept, once, in whole lines: a pipe takes so many bytes all or none, whoever else writes to it."""
        piece, size = "", 0
        # none is left where a line of this very thread, from a finalizer, has written the rest meanwhile
        with contextlib.suppress(IndexError):
            for _ in range(len(self._gathered)):
                line = self._gathered.popleft()
                length = len(line.encode(errors="surrogatepass"))
                if piece and size + length > PIPE_BUF:
                    yield piece
                    piece, size = "", 0
                piece, size = piece + line, size + length
        yield piece  # also where it is empty, so that the stream is flushed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 # the name of the standard library
        """Stay quiet: the standard answer prints the record with all its values."""

    def _write_late(self, gathers: threading.Event) -> None:
        while True:
            gathers.wait()
            sleep(_GATHER_S)
            gathers.clear()
            self.flush()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 # whatever a library's arguments do, the line must not fail
        return "a log message that cannot be formatted"


def _safe(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with every text redacted; all are searched at once, since a match is rare."""
    plain = {
        name: value if value is None or isinstance(value, _PLAIN) else str(value)
        for name, value in fields.items()
    }
    whole = "\n".join(map(str, plain.values()))
    if len(whole) <= _LONGEST and not redaction.shared.may_mask(whole):
        return plain
    redact = redaction.shared.redact
    return {
        name: redact(value)[:_LONGEST] if isinstance(value, str) else value
        for name, value in plain.items()
    }


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _json(fields: dict[str, Any], **_: Any) -> str:
    """Return the line; after `_safe` it has only texts, numbers and flags, for which the plain encoder is enough.

    What is not printable is escaped, such as U+2028, at which some readers end a line: the values stay the same.
    """
    return printable_json(_encode(fields))


def _log_thread_failure(args: threading.ExceptHookArgs) -> None:
    """Report an exception that ended a thread, in place of the standard traceback with its values."""
    if args.exc_value is not None:
        log_event(
            logging.getLogger(__name__), "thread-died", level=logging.ERROR, error=args.exc_value
        )
