"""JMESPath expressions of a mapping: compiled and checked once, evaluated for every event.

Expressions of plain shape as functions, which give what JMESPath's interpreter would, without it.

Plain are paths, `||`, constants, and the functions of one text: nearly all that a mapping holds.
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

_OF_ONE_TEXT = frozenset({"lower", "upper", "trim", "normalize_diacritics"})


class NotPlainError(Exception):
    """Says that only the interpreter knows the answer: a value is of a type that a function does not take."""


def plain(node: Node, functions: MappingFunctions) -> Evaluate | None:
    """Return what evaluates the parsed expression, None for one that is not plain; it may raise NotPlainError."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        return _field(node["value"])
    if kind == "literal":
        return _constant(node["value"])
    make = _MAKERS.get(kind)
    if make is not None:
        parts = [plain(child, functions) for child in children]
        known = [part for part in parts if part is not None]
        return make(known) if len(known) == len(parts) else None
    if kind == "function_expression" and node["value"] in _OF_ONE_TEXT and len(children) == 1:
        argument = plain(children[0], functions)
        call = getattr(functions, f"_func_{node['value']}")
        return None if argument is None else _of_text(call, argument)
    return None


def _field(name: str) -> Evaluate:
    def evaluate(value: Any) -> Any:
        try:
            return value.get(name)
        except AttributeError:  # what is no object has no properties
            return None

    return evaluate


def _constant(constant: Any) -> Evaluate:
    return lambda _: constant


def _path(steps: list[Evaluate]) -> Evaluate:
    if len(steps) == 2:  # data.email
        outer, inner = steps
        return lambda value: inner(outer(value))

    def evaluate(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return evaluate


def _either(choices: list[Evaluate]) -> Evaluate:
    first, second = choices

    def evaluate(value: Any) -> Any:
        found = first(value)
        false = found is None or found is False or found in ("", [], {})
        return second(value) if false else found

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


_MAKERS: Mapping[str, Callable[[list[Evaluate]], Evaluate]] = {
    "subexpression": _path,
    "or_expression": _either,
}


Tables = Mapping[str, Mapping[str, Any]]


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
        """Say whether the result counts as true in JMESPath, where 0 does and "" and [] do not."""
        result = self.evaluate(scope, pointer)
        return result is not None and result is not False and result not in ("", [], {})


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
