"""Which user a record key names: as text, as a JSON text, or where an expression finds the id."""

from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.parser import ParsedResult

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError, Violation
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.domain.numbers import whole_number
from keycloak_bridge.events.cloudevents import LONGEST_ID, text_problem
from keycloak_bridge.events.frames import unsupported_key, without_key_frame
from keycloak_bridge.expressions.expression import (
    EVALUATION_ERRORS,
    ExpressionError,
    analyse,
    parse_expression,
)
from keycloak_bridge.expressions.functions import MappingFunctions

_OPTIONS = jmespath.Options(custom_functions=MappingFunctions({}))


@dataclass(frozen=True, slots=True)
class RecordKeys:
    """How to read record keys; without an expression, the text of a key is the user's id."""

    expression: ParsedResult | None = None

    def user(self, record: Record) -> str | None:
        """Return the id of the user that the record's key names; None without a key, and an empty one is none.

        Raises EventDecodeError (`unreadable-key`) for a key that names nobody.
        """
        try:
            value = read_key(record.key)
        except EventDecodeError as error:
            raise _unreadable(error.message) from None
        if value is None:
            return None
        if self.expression is not None:
            try:
                value = self.expression.search({"key": value}, options=_OPTIONS)
            except EVALUATION_ERRORS:
                value = None
        if (whole := whole_number(value)) is not None:
            value = str(whole)
        if text_problem(value, LONGEST_ID) is not None:
            what = _what(value)
            raise _unreadable(
                f"the record key {what}names no user by a text of up to {LONGEST_ID} characters"
            )
        return str(value)


def _what(value: Any) -> str:
    """Return what a key is that is no user's id."""
    if isinstance(value, dict | list):
        return f"is a JSON {'object' if isinstance(value, dict) else 'array'}: it "
    if isinstance(value, str) and "\0" in value:
        return "is a binary value: it "
    return ""


def _unreadable(message: str) -> EventDecodeError:
    return EventDecodeError(
        message,
        code="unreadable-key",
        remedy="publish with the user's id as key, or say in envelope.key where in the key it is",
        violations=(Violation("/key", "expression", "must name the user"),),
    )


def read_key(key: bytes | None) -> Any:
    """Return what a record key says: the value of a JSON text, object or array, else its text; None without a key.

    A serializer of JSON puts a text in quotes, and Confluent's frames it. What only begins like JSON is text, but not in a
    frame. Raises EventDecodeError where different readers would read different things, and for a key in binary.
    """
    if not key:
        return None
    bare = without_key_frame(key)
    is_framed = bare is not key
    if is_framed or bare[:1] in (b'"', b"{", b"["):
        code = ""
        try:
            value = parse_json(bare, max_bytes=len(bare))
        except EventDecodeError as error:
            code = error.code
        if not code:
            return None if value == "" else value
        if is_framed and code in ("not-json", "wrong-encoding"):
            raise unsupported_key(key)
        if code != "not-json":
            raise EventDecodeError(f"the record key is JSON that cannot be read: {code}", code=code)
    try:
        return bare.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise EventDecodeError("the record key is not UTF-8", code="wrong-encoding")


def compile_keys(key: str | None, subject: str | None) -> RecordKeys:
    """Return how `envelope.key` finds the user in a record key; without it `envelope.subject`, if that reads only the key.

    Raises ConfigError naming `envelope.key`.
    """
    if key is None:
        if subject is None or _compiled(subject)[1] != {"key"}:
            return RecordKeys()
        return RecordKeys(_compiled(subject)[0])
    try:
        compiled, roots = _compiled(key)
    except ExpressionError as error:
        raise _wrong(f"is no JMESPath expression: {error}") from error
    problems = analyse(compiled.parsed, ()).problems
    if problems:
        raise _wrong("; ".join(problems))
    if roots != {"key"}:
        raise _wrong("must read `key` and nothing else, such as key.id")
    return RecordKeys(compiled)


def _compiled(text: str) -> tuple[ParsedResult, set[str]]:
    compiled = parse_expression(text)
    return compiled, {path[0] for path in analyse(compiled.parsed, ()).paths}


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"envelope.key: {reason}", remedy="correct [envelope] in the settings file")
