"""One line for each thing that happened, and nothing in it that must not be read."""

import io
import json
import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from select import PIPE_BUF
from typing import Any

import pytest
from bridge_harness import wait_until
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import ConfigError, KeycloakUnavailableError
from keycloak_bridge.ops import logs, redaction
from keycloak_bridge.ops.logs import (
    FIELDS,
    LogFormat,
    bare_traceback,
    configure_logging,
    failure,
    gather_lines,
    log_event,
    write_gathered,
)

SECRET = "planted-s3cret"
ADDRESS = "ada.lovelace@acme.example"
NAME = "Lovelace"

logger = logging.getLogger("keycloak_bridge.testing")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Pieces(io.StringIO):
    """Counts how often something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, text: str) -> int:
        self.written += bool(text)
        return super().write(text)

    def actions(self) -> list[str]:
        """Return the actions of all lines so far."""
        return [json.loads(line)["action"] for line in self.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _secret() -> None:
    redaction.shared.add(SECRET)


def written(
    log: Callable[[], object],
    *,
    level: str = "INFO",
    log_format: LogFormat = "json",
    stream: io.StringIO | None = None,
) -> str:
    """Return what `log` makes the process write."""
    stream = stream or io.StringIO()
    configure_logging(level=level, log_format=log_format, stream=stream)
    log()
    return stream.getvalue()


def line(log: Callable[[], object], level: str = "INFO") -> dict[str, Any]:
    """Return the only JSON line."""
    (text,) = written(log, level=level).splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return `error` with a traceback."""
    try:
        raise error from cause
    except type(error):
        return error


def test_json_line() -> None:
    """Time in UTC, level, logger, action, message, then the fields that have a value."""
    found = line(
        lambda: log_event(
            logger,
            "provisioned",
            topic="user-events",
            partition=0,
            offset=17,
            user_id="u-1",
            reason=None,
        )
    )
    time = found.pop("time")

    assert [
        ("level", "INFO"),
        ("logger", "keycloak_bridge.testing"),
        ("action", "provisioned"),
        ("message", "provisioned"),
        ("topic", "user-events"),
        ("partition", 0),
        ("offset", 17),
        ("user_id", "u-1"),
    ] == list(found.items())
    assert time.endswith("Z")
    assert len("2026-11-23T13:35:56.123Z") == len(time)


def test_text_line() -> None:
    """The same for people: time, level, action, message, fields."""
    text = written(
        lambda: log_event(
            logger, "waiting", level=logging.WARNING, message="Kafka is away", attempt=2
        ),
        log_format="text",
    )

    assert "WARNING waiting Kafka is away attempt=2\n" == text.partition(" ")[2]


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
)
def test_format(log_format: LogFormat, stream: io.StringIO, is_json: bool) -> None:
    """Left to itself it is text on a terminal and JSON elsewhere."""
    text = written(lambda: log_event(logger, "ready"), log_format=log_format, stream=stream)

    assert is_json == text.startswith("{")


def test_text_stays_on_its_line() -> None:
    """A message cannot forge a line or paint the terminal."""
    text = written(lambda: logging.getLogger("x").warning("a\nb\x1b[31m\x85"), log_format="text")

    assert text.endswith("x a\\nb\\x1b[31m\\x85\n")
    assert 1 == text.count("\n")


HOSTILE = "a\u2028b\u2029\u202ec\u2066\x85\x7f\ud800\U000e0041ä東\U0001f600"


def test_text_shows_every_character_that_moves_others() -> None:
    """A mark of direction or an end of line, wherever it stands, is escaped; letters are not."""
    text = written(
        lambda: log_event(logger, "ready", message=HOSTILE, event_id=HOSTILE), log_format="text"
    )
    shown = r"a\u2028b\u2029\u202ec\u2066\x85\x7f\ud800\U000e0041ä東😀"

    assert text.endswith(f" ready {shown} event_id={shown}\n")
    assert text[:-1].isprintable()


def test_json_keeps_such_characters_as_escapes() -> None:
    """The value is the same, and the line is one line to any reader."""
    text = written(lambda: log_event(logger, "ready", event_id=HOSTILE))

    assert text[:-1].isprintable()
    assert HOSTILE == json.loads(text)["event_id"]
    assert "ä東\U0001f600" in text


def test_unknown_fields_stay_out() -> None:
    """A field that is not on the list is not written, whatever it holds; nor is what a library passes as `extra`."""
    ours = line(lambda: log_event(logger, "x", email=ADDRESS, lastName=NAME, topic="t"))  # type: ignore[call-arg]
    library = line(lambda: logging.getLogger("lib").warning("hello", extra={"lastName": NAME}))

    always = {"time", "level", "logger", "action", "message"}
    assert (always | {"topic"}, always) == (set(ours), set(library))
    assert not {"email", "username", "firstName", "lastName", "phoneNumber"} & FIELDS


@pytest.mark.parametrize("name", ["kafka.conn", "urllib3.connectionpool", "requests"])
def test_libraries_are_quiet_and_in_form(name: str) -> None:
    """Even at DEBUG they speak from WARNING on, in the same form and redacted."""

    def log() -> None:
        logging.getLogger(name).info("GET /users?email=%s", ADDRESS)
        logging.getLogger(name).warning(
            "broken: /users?email=%s client_secret=abc", "ada%40acme.example"
        )

    assert "broken: [redacted] client_secret=[redacted]" == line(log, level="DEBUG")["message"]


@pytest.mark.parametrize("name", ["kafka.cluster", "urllib3.connectionpool"])
def test_libraries_that_shout_are_silent(name: str) -> None:
    """An outage is said once, by the bridge; at DEBUG the libraries speak again."""

    def log() -> None:
        logging.getLogger(name).error("no broker")

    assert "" == written(log, level="INFO")
    assert "no broker" in written(log, level="DEBUG")


def test_bridge_errors_have_no_traceback() -> None:
    """Their sentence is enough, at DEBUG too."""
    error = raised(KeycloakUnavailableError("Keycloak is away"), ValueError(NAME))
    found = line(
        lambda: log_event(logger, "stopped", level=logging.ERROR, error=error), level="DEBUG"
    )

    assert "Keycloak is away" == found["error"]
    assert "traceback" not in found


@pytest.mark.parametrize(("level", "has_traceback"), [("INFO", False), ("DEBUG", True)])
def test_unexpected_errors_keep_their_text_to_themselves(level: str, has_traceback: bool) -> None:
    """Type and place, at DEBUG the traceback; never the text, which may repeat any value."""
    error = raised(KeyError(NAME), ValueError(NAME))
    text = written(lambda: logger.error("failed", exc_info=error), level=level)
    found = json.loads(text)

    assert found["error"].startswith("KeyError at test_logs.py:")
    assert has_traceback == ("traceback" in found)
    assert NAME not in text
    assert has_traceback == ("ValueError" in text)


def test_a_traceback_shows_its_causes() -> None:
    """The cause comes first; an exception without traceback and a circle end it."""
    first, second = ValueError("a"), KeyError("b")
    second.__cause__, first.__cause__ = first, second

    assert "builtins.ValueError\nwhich led to\nbuiltins.KeyError" == bare_traceback(second)
    assert "KeyError" == failure(second)


def test_threads_die_with_a_line() -> None:
    """An exception that ends a thread is logged in form, without its text."""

    def log() -> None:
        def fail() -> None:
            raise KeyError(NAME)

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    found = line(log)

    assert "thread-died" == found["action"]
    assert found["error"].startswith("KeyError at test_logs.py:")


def test_warnings_are_lines() -> None:
    """Python's warnings come in the same form."""

    def log() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn(f"about {ADDRESS}", stacklevel=1)

    found = line(log)

    assert "py.warnings" == found["logger"]
    assert "[redacted]" in found["message"]


def test_a_line_that_cannot_be_formatted() -> None:
    """Wrong arguments of a library neither fail nor show up."""
    found = line(lambda: logging.getLogger("lib").warning("%d", ADDRESS))

    assert "a log message that cannot be formatted" == found["message"]


def test_a_stream_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that cannot be written is dropped; nothing of it is printed elsewhere."""
    stream = io.StringIO()
    configure_logging(level="INFO", log_format="json", stream=stream)
    stream.close()
    log_event(logger, "x", message=NAME)

    assert ("", "") == tuple(capsys.readouterr())


class TestGatheredLines:
    """Each line is written once, in its place, whether others wait for it or not."""

    @pytest.fixture
    def stream(self) -> Iterator[Pieces]:
        stream = Pieces()
        configure_logging(stream=stream)
        gather_lines()
        yield stream
        configure_logging()

    @pytest.fixture
    def unhurried(self, stream: Pieces, monkeypatch: pytest.MonkeyPatch) -> Pieces:
        """Nothing is written because time has passed, however slow the machine."""
        monkeypatch.setattr(logs, "_GATHER_S", 3600)
        return stream

    def test_lines_are_written_together_soon(self, stream: Pieces) -> None:
        for number in range(100):
            log_event(logger, f"a{number}")
        wait_until(lambda: len(stream.actions()) == 100)

        assert [f"a{number}" for number in range(100)] == stream.actions()
        assert stream.written < 10

    def test_a_warning_writes_all_at_once(self, unhurried: Pieces) -> None:
        log_event(logger, "before")
        log_event(logger, "bad", level=logging.WARNING)

        assert ["before", "bad"] == unhurried.actions()

    def test_the_end_writes_what_waits(self, unhurried: Pieces) -> None:
        log_event(logger, "last")
        write_gathered()

        assert ["last"] == unhurried.actions()

    def test_many_that_wait_are_written_by_whoever_comes(
        self, unhurried: Pieces, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that a stream which takes nothing holds up the bridge, not its memory."""
        monkeypatch.setattr(logs, "_MOST_GATHERED", 3)
        for number in range(3):
            log_event(logger, f"a{number}")

        assert ["a0", "a1", "a2"] == unhurried.actions()

    def test_threads_lose_no_line(self, stream: Pieces) -> None:
        def write(name: int) -> None:
            for number in range(200):
                log_event(logger, f"{name}-{number}")

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(stream.actions()) == 1600)

        assert len(set(stream.actions())) == 1600

    def test_pieces_are_whole_lines_that_a_pipe_takes_at_once(
        self, stream: Pieces, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So no other process that writes to the same pipe gets between two halves of a line."""
        pieces: list[str] = []
        monkeypatch.setattr(stream, "write", pieces.append)
        for number in range(100):
            log_event(logger, f"a{number}", user_id="é" * number)
        write_gathered()

        whole = [piece for piece in pieces if piece]
        assert all(piece.endswith("\n") for piece in whole)
        assert all(len(piece.encode()) <= PIPE_BUF for piece in whole)
        assert "".join(whole).count("\n") == 100

    def test_a_stream_that_fails_holds_nobody_up(self, stream: Pieces) -> None:
        """Neither who logs nor the thread that writes gets its error."""
        failed = threading.Semaphore(0)

        def fail(text: str) -> int:
            failed.release()
            raise RuntimeError(text)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "write", fail)
            log_event(logger, "lost", level=logging.WARNING)
            log_event(logger, "lost too")
            assert failed.acquire(timeout=30)
            assert failed.acquire(timeout=30)
        log_event(logger, "again")
        wait_until(lambda: "again" in stream.actions())

        assert "lost" not in stream.actions()

    def test_a_line_within_a_line(self, unhurried: Pieces) -> None:
        """A finalizer may log a warning while this thread writes; each line is written once."""

        class Interrupted(deque[str]):
            calm = True

            def popleft(self) -> str:
                line = super().popleft()
                if self.calm and len(self) == 2:
                    self.calm = False
                    log_event(logger, "within", level=logging.WARNING)
                return line

        for handler in logging.getLogger().handlers:
            if hasattr(handler, "_gathered"):
                handler._gathered = Interrupted()
        for number in range(4):
            log_event(logger, f"a{number}")
        write_gathered()

        assert ["a0", "a1", "a2", "a3", "within"] == sorted(unhurried.actions())

    def test_a_stream_that_is_gone(
        self, stream: Pieces, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stream.close()
        log_event(logger, "x", level=logging.WARNING)

        assert ("", "") == tuple(capsys.readouterr())


def test_configuring_again_replaces() -> None:
    """Two calls do not double the lines, and lines below the level are not written."""
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(level="WARNING", stream=second)
    log_event(logger, "x", level=logging.WARNING)
    log_event(logger, "x")

    assert ("", 1) == (first.getvalue(), second.getvalue().count("\n"))


WAYS: tuple[Callable[[str], object], ...] = (
    logger.warning,
    lambda text: logger.warning("got %s", text),
    lambda text: logger.warning("got %r", {"email": text}),
    lambda text: logger.warning(text.replace("%", "%%"), extra={"detail": text}),
    lambda text: logger.warning("x", exc_info=raised(ValueError(text))),
    lambda text: logger.warning("x", exc_info=raised(ConfigError(f"about {text}"))),
    lambda text: logger.warning("x", exc_info=raised(RuntimeError("y"), ValueError(text))),
    lambda text: log_event(logger, "x", level=logging.ERROR, message=f"about {text}", user_id=text),
    lambda text: log_event(logger, "x", level=logging.ERROR, path=f"/users?q={text}", email=text),  # type: ignore[call-arg]
    lambda text: logging.getLogger("requests.client").error("bad %s", [text]),
    lambda text: logging.getLogger("requests").warning("Retrying: /users?email=%s", text),
)


@given(
    planted=st.one_of(st.just(SECRET), st.just(ADDRESS), st.emails()),
    way=st.sampled_from(WAYS),
    level=st.sampled_from(("INFO", "DEBUG")),
    log_format=st.sampled_from(("json", "text")),
)
def test_what_is_planted_never_appears(
    planted: str, way: Callable[[str], object], level: str, log_format: LogFormat
) -> None:
    """A secret and an e-mail address, in messages, arguments, extras, exceptions, of anybody's logger."""
    output = written(lambda: way(planted), level=level, log_format=log_format)

    assert output
    assert planted not in output
    assert json.dumps(planted)[1:-1] not in output
