"""A producer's own envelope, described by expressions instead of code."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.parser import ParsedResult

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError, TombstoneError, Violation
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.numbers import whole_number
from keycloak_bridge.events.cloudevents import (
    RawEnvelope,
    SizeLimits,
    envelope_error,
    parse_value,
    refused_members,
)
from keycloak_bridge.events.recognition import recognise
from keycloak_bridge.events.record_key import read_key
from keycloak_bridge.expressions.expression import (
    EVALUATION_ERRORS,
    ExpressionError,
    analyse,
    failure_reason,
    parse_expression,
    suggestion,
)
from keycloak_bridge.expressions.functions import MappingFunctions

ATTRIBUTES = ("id", "type", "subject", "time", "dataschema", "source", "data", "cleared")
REQUIRED = ("id", "type", "data")
HEAD = ("id", "type", "subject")
_SCOPE = ("key", "headers", "body")


@dataclass(frozen=True, slots=True)
class CustomEnvelope:
    """Compiled expressions, one for each attribute that the producer has."""

    expressions: Mapping[str, ParsedResult]
    of_value: frozenset[str] = frozenset()
    """The attributes whose expressions read the record's value."""

    def read_head(self, record: Record, limits: SizeLimits) -> Mapping[str, Any]:
        """Return id, type and subject as far as they can be read; nothing is checked, nothing raised."""
        readable, body = True, None
        try:
            body = parse_value(record, limits)
        except (TombstoneError, EventDecodeError):
            readable = False
        scope = _scope(record, body)
        found: dict[str, Any] = {}
        for name in HEAD:
            if name in self.expressions and (readable or name not in self.of_value):
                with suppress(EventDecodeError):
                    found[name] = _text(self._evaluate(name, scope))
        return found

    def read_refused_type(self, record: Record, limits: SizeLimits) -> str | None:
        """Return the type in a value that is JSON but refused, where the expression is a property of its top level.

        Any other expression could find another type in what can be read of such a value than in all of it.
        """
        name = _property_of_body(self.expressions["type"].parsed)
        return None if name is None else refused_members(record, limits, (name,)).get(name)

    def read(self, record: Record, limits: SizeLimits) -> RawEnvelope:
        """Return what the expressions find in `record`.

        An id that is a whole number becomes text; without an expression, `source` names the topic. Raises
        TombstoneError or EventDecodeError.
        """
        body = parse_value(record, limits)
        scope = _scope(record, body)
        found = {name: self._evaluate(name, scope) for name in self.expressions}
        data, cleared = found.pop("data", None), found.pop("cleared", None)
        absent = [name for name in ("id", "type") if found.get(name) is None]
        if absent and (instead := _instead(body)):
            raise envelope_error(
                *(Violation(f"/{name}", "required", f"is required; {instead}") for name in absent)
            )
        attributes = {name: _text(value) for name, value in found.items() if value is not None}
        attributes.setdefault("source", f"/kafka/{record.topic}")
        return RawEnvelope(attributes, data, cleared=cleared)

    def _evaluate(self, name: str, scope: Mapping[str, Any]) -> Any:
        try:
            return self.expressions[name].search(scope, options=_OPTIONS)
        except EVALUATION_ERRORS as error:
            reason = failure_reason(error)
        # Raised outside the handler: the library's error quotes the value and must not travel along.
        said = "; ".join(filter(None, (reason, _instead(scope["body"]))))
        reason = f"cannot be found by envelope.{name}: {said}"
        raise envelope_error(Violation(f"/{name}", "expression", reason))


_OPTIONS = jmespath.Options(custom_functions=MappingFunctions({}))


def compile_envelope(expressions: Mapping[str, str | None]) -> CustomEnvelope | None:
    """Return the envelope that `expressions` describe, by name of the attribute; None without any of them.

    They see `key` (as `read_key` reads it), `headers` (name to text) and `body` (the parsed value), and may call what a mapping
    may. Raises ConfigError naming `envelope.<attribute>`, with a line for every problem.
    """
    given = {name: text for name, text in expressions.items() if text is not None}
    if not given:
        return None
    problems: list[str] = []
    for name in given:
        if name not in ATTRIBUTES:
            hint = suggestion(name, ATTRIBUTES) or f"; known: {', '.join(ATTRIBUTES)}"
            problems.append(f"envelope.{name}: is no attribute of an event{hint}")
    problems += [
        f"envelope.{name}: is missing; an envelope of your own needs it"
        for name in REQUIRED
        if name not in given
    ]
    compiled: dict[str, ParsedResult] = {}
    of_value: set[str] = set()
    for name, text in given.items():
        try:
            compiled[name] = parse_expression(text)
        except ExpressionError as error:
            problems.append(f"envelope.{name}: is no JMESPath expression: {error}")
            continue
        findings = analyse(compiled[name].parsed, ())
        roots = {path[0] for path in findings.paths}
        problems += [f"envelope.{name}: {problem}" for problem in findings.problems]
        problems += [
            f"envelope.{name}: '{root}' is unknown; an expression sees {', '.join(_SCOPE)}, and a constant stands in single quotes inside it"
            for root in sorted(roots - set(_SCOPE))
        ]
        of_value |= {name} if "body" in roots else set()
    if problems:
        raise ConfigError("\n".join(problems), remedy="correct [envelope] in the settings file")
    return CustomEnvelope(compiled, frozenset(of_value))


def _property_of_body(parsed: Mapping[str, Any]) -> str | None:
    """Return `name` where the expression is `body.name`."""
    if parsed["type"] != "subexpression":
        return None
    parts = [one["value"] for one in parsed["children"] if one["type"] == "field"]
    return parts[1] if len(parts) == len(parsed["children"]) == 2 and parts[0] == "body" else None


def _scope(record: Record, body: Any) -> Mapping[str, Any]:
    headers = {name: _decoded(value) for name, value in record.headers}
    return {
        "key": _key(record.key),
        "headers": {name: text for name, text in headers.items() if text is not None},
        "body": body,
    }


def _key(key: bytes | None) -> Any:
    with suppress(EventDecodeError):
        return read_key(key)
    return None


def _decoded(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _instead(body: Any) -> str | None:
    """Return what the value is where it is no object, or is one inside another."""
    found = recognise(body)
    if isinstance(body, dict) and not found.is_wrapped:
        return None
    return f"the value is {found.what}" + (f": {found.remedy}" if found.remedy else "")


def _text(value: Any) -> Any:
    whole = whole_number(value)
    return value if whole is None else str(whole)
