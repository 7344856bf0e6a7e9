"""JMESPath expressions of a mapping: compiled and checked once, evaluated for every event."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jmespath
from jmespath.exceptions import EmptyExpressionError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.parser import ParsedResult

from keycloak_bridge.core.errors import MappingError, Violation
from keycloak_bridge.core.expression_analysis import Path, analyse, path_problems
from keycloak_bridge.core.functions import MappingFunctions
from keycloak_bridge.core.model import UserEvent
from keycloak_bridge.core.plain_expressions import Evaluate, NotPlainError, plain
from keycloak_bridge.core.timestamps import format_time

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
