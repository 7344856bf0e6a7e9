"""JMESPath expressions of a mapping: compiled and checked once, evaluated for every event.

Plain expressions (paths, `||`, constants and the functions of one text, which is nearly all that a mapping has) become
functions that return what JMESPath's interpreter would, without it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.exceptions import EmptyExpressionError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.parser import ParsedResult

from keycloak_bridge.domain.errors import MappingError, Violation
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.expressions.analysis import Path, analyse, path_problems
from keycloak_bridge.expressions.functions import MappingFunctions

Evaluate = Callable[[Any], Any]
Node = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Any]]

_OF_ONE_TEXT = frozenset({"lower", "upper", "trim", "normalize_diacritics"})
_PLAIN = frozenset({"field", "literal", "subexpression", "or_expression", "function_expression"})


class NotPlainError(Exception):
    """Says that only the interpreter knows the answer: a value is of a type that a function does not take."""


class ExpressionError(ValueError):
    """An expression that can never work; `problems` holds a sentence for each reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `data_paths` are the properties of the event's data that it reads."""

    text: str
    data_paths: frozenset[Path]
    _parsed: ParsedResult
    _options: jmespath.Options
    _plain: Evaluate | None = None

    def evaluate(self, scope: Mapping[str, Any], pointer: str) -> Any:
        """Return what the expression makes of `scope`.

        Raises MappingError naming `pointer`, the target in the mapping, and the reason, never a value.
        """
        if self._plain is not None:
            try:
                return self._plain(scope)
            except NotPlainError:
                pass
        try:
            return self._parsed.search(scope, options=self._options)
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
            reason = _reason(error)
        # Raised outside the handler: the library's error quotes the value and must not travel along.
        raise MappingError(
            f"the expression of {pointer} cannot be evaluated for this event: {reason}",
            remedy="correct the expression in the mapping file, or the event",
            violations=(Violation(pointer, "expression", reason),),
        )

    def is_true(self, scope: Mapping[str, Any], pointer: str) -> bool:
        """Say whether the result counts as true in JMESPath; raises as `evaluate`."""
        return _is_true(self.evaluate(scope, pointer))


def compile_expression(
    text: str, *, tables: Tables, has_property: Callable[[Path], bool]
) -> Expression:
    """Return `text` compiled, checked against the functions, the tables and the event's schema.

    Raises ExpressionError holding every problem.
    """
    try:
        parsed = jmespath.compile(text)
    except (JMESPathError, IndexError) as error:
        raise ExpressionError([_syntax_problem(error, text)]) from error
    findings = analyse(parsed.parsed, tables)
    problems = findings.problems + path_problems(findings.paths, has_property)
    if problems:
        raise ExpressionError(problems)
    functions = MappingFunctions(tables)
    return Expression(
        text=text,
        data_paths=frozenset(path[1:] for path in findings.paths if path[0] == "data" and path[1:]),
        _parsed=parsed,
        _options=jmespath.Options(custom_functions=functions),
        _plain=plain(parsed.parsed, functions),
    )


def event_scope(event: UserEvent) -> Mapping[str, Any]:
    """Return what expressions see of `event`."""
    return {
        "data": dict(event.data),
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "source": event.source,
        "time": None if event.time is None else format_time(event.time),
    }


def _syntax_problem(error: Exception, text: str) -> str:
    """Return where the syntax breaks, in one line."""
    if isinstance(error, EmptyExpressionError):
        return "the expression is empty"
    if not isinstance(error, ParseError) or error.lex_position >= len(text):
        return "the expression ends too early; a name, a bracket or a quote is missing"
    return f"the expression breaks off at column {error.lex_position + 1}: {text[error.lex_position :]!r}"


def _reason(error: Exception) -> str:
    """Return why an evaluation failed, in types and names only."""
    if isinstance(error, JMESPathTypeError):
        expected = " or ".join(error.expected_types)
        return f"{error.function_name}() takes {expected}, not {error.actual_type}"
    return "a comparison or function does not work with values of these types"


def plain(node: Node, functions: MappingFunctions) -> Evaluate | None:
    """Return what evaluates the parsed expression, None for one that is not plain; it may raise NotPlainError."""
    kind, value = node["type"], node.get("value")
    if kind not in _PLAIN or (kind == "function_expression" and value not in _OF_ONE_TEXT):
        return None
    parts = [plain(child, functions) for child in node["children"]]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if kind == "field":
        return lambda scope: scope.get(value) if isinstance(scope, dict) else None
    if kind == "literal":
        return lambda _: value
    if kind == "subexpression":
        return _path(known)
    if kind == "or_expression":
        return _either(*known)
    return _of_text(getattr(functions, f"_func_{value}"), known[0])


def _path(steps: list[Evaluate]) -> Evaluate:
    if len(steps) == 2:  # data.email
        outer, inner = steps
        return lambda value: inner(outer(value))

    def evaluate(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return evaluate


def _either(first: Evaluate, second: Evaluate) -> Evaluate:
    def evaluate(value: Any) -> Any:
        found = first(value)
        return found if _is_true(found) else second(value)

    return evaluate


def _of_text(call: Callable[[str], Any], argument: Evaluate) -> Evaluate:
    def evaluate(value: Any) -> Any:
        text = argument(value)
        if text is None:
            return None
        if type(text) is not str:  # the interpreter goes by the exact type as well
            raise NotPlainError
        return call(text)

    return evaluate


def _is_true(value: Any) -> bool:
    """Say whether a value counts as true in JMESPath, where 0 does and "" and [] do not."""
    return value is not None and value is not False and value not in ("", [], {})
