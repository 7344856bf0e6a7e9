"""JMESPath expressions of a mapping: compiled, analysed and checked once, evaluated for every event.

Plain expressions (paths, `||`, constants and the functions of one text, which is nearly all that a mapping has) become
functions that return what JMESPath's interpreter would, without it.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jmespath
from jmespath.exceptions import EmptyExpressionError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.parser import ParsedResult

from keycloak_bridge.domain.errors import MappingError, Violation
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.expressions.functions import MappingFunctions

Evaluate = Callable[[Any], Any]
Node = Mapping[str, Any]
Path = tuple[str, ...]
Tables = Mapping[str, Mapping[str, Any]]

SCOPE_NAMES = ("data", "id", "type", "subject", "source", "time")
"""What an expression sees at its top: the event's data and the attributes of its envelope."""

_NOWHERE: frozenset[Path] = frozenset()
_TOP: frozenset[Path] = frozenset({()})
_CHAINS = ("subexpression", "index_expression", "pipe", "projection", "flatten")
_STEPS_INTO_LIST = ("index", "slice", "current", "identity")

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
    problems = findings.problems + _path_problems(findings.paths, has_property)
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


def analyse(node: Node, tables: Iterable[str]) -> "Analysis":
    """Return what a parsed expression reads and which of its calls cannot work, without evaluating it."""
    analysis = Analysis(frozenset(tables))
    analysis.visit(node, _TOP)
    return analysis


def _path_problems(paths: Iterable[Path], has_property: Callable[[Path], bool]) -> list[str]:
    problems: list[str] = []
    wrong: set[Path] = set()
    for path in sorted(paths):
        if any(path[:length] in wrong for length in range(1, len(path))):
            continue
        if problem := _path_problem(path, has_property):
            wrong.add(path)
            problems.append(problem)
    return problems


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean '…'?" with the nearest known name, or nothing."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def _path_problem(path: Path, has_property: Callable[[Path], bool]) -> str | None:
    name, *rest = path
    if name not in SCOPE_NAMES:
        hint = suggestion(name, SCOPE_NAMES) or f"; an expression sees {', '.join(SCOPE_NAMES)}"
        return f"'{name}' is a name that expressions do not know{hint}"
    if name != "data":
        return f"'{'.'.join(path)}': '{name}' is text and has no properties" if rest else None
    if not rest or has_property(tuple(rest)):
        return None
    return f"'{'.'.join(path)}' is not a property of the event's schema"


@dataclass(frozen=True, slots=True)
class Analysis:
    """Visits the nodes of an expression; a value is the set of paths that it may be, empty when it is computed.

    Collects the `paths` that are read from the scope, and the `problems` of function calls.
    """

    tables: frozenset[str]
    paths: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def visit(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        """Return what the node's value may be, where `context` is what it is evaluated on."""
        kind, children = node["type"], node["children"]
        if kind == "field":
            paths = frozenset((*path, node["value"]) for path in context)
            self.paths.update(paths)
            return paths
        if kind in _STEPS_INTO_LIST:
            return context
        if kind in _CHAINS:
            if kind == "subexpression" and children[0]["type"] == "not_expression":
                # the library negates `data` in `!data.active` and looks for `active` in the answer
                self.problems.append("'!' needs brackets before a path, as in !(data.active)")
            for child in children:
                context = self.visit(child, context)
            return context
        if kind == "filter_projection":
            base, right, condition = children
            element = self.visit(base, context)
            self.visit(condition, element)
            return self.visit(right, element)
        if kind == "or_expression":
            return self.visit(children[0], context) | self.visit(children[1], context)
        if kind == "value_projection":
            self.visit(children[0], context)
            return self.visit(children[1], _NOWHERE)
        if kind == "function_expression":
            self._check_call(node["value"], children)
        for child in children:
            # a reference (&x) is evaluated against elements that only the function knows
            self.visit(child, _NOWHERE if child["type"] == "expref" else context)
        return _NOWHERE

    def _check_call(self, name: str, arguments: list[Node]) -> None:
        known = MappingFunctions.FUNCTION_TABLE
        if name not in known:
            self.problems.append(f"there is no function {name}(){suggestion(name, known)}")
            return
        signature = known[name]["signature"]
        variadic = bool(signature) and bool(signature[-1].get("variadic"))
        expected, given = len(signature), len(arguments)
        if given < expected if variadic else given != expected:
            least = "at least " if variadic else ""
            self.problems.append(f"{name}() takes {least}{expected} argument(s), not {given}")
        elif name == "lookup":
            self._check_table(arguments[0])

    def _check_table(self, argument: Node) -> None:
        table = argument.get("value") if argument["type"] == "literal" else None
        if not isinstance(table, str):
            self.problems.append(
                "lookup() takes the name of its table as plain text, as in lookup('name', …)"
            )
        elif table not in self.tables:
            hint = suggestion(table, self.tables) or f"; add [tables.{table}]"
            self.problems.append(f"lookup() names an unknown table '{table}'{hint}")
