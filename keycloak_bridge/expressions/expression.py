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
from jmespath.functions import TYPES_MAP
from jmespath.parser import ParsedResult

from keycloak_bridge.domain.errors import MappingError, Violation
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.expressions.functions import (
    MappingFunctions,
    UnusableArgumentError,
    constant_problem,
)

Evaluate = Callable[[Any], Any]
Node = Mapping[str, Any]
Path = tuple[str, ...]
Tables = Mapping[str, Mapping[str, Any]]
TypesOf = Callable[[Path], frozenset[str] | None]
"""Gives the JMESPath types that a schema leaves the property at a path, None where it leaves all."""

SCOPE_NAMES = ("data", "id", "type", "subject", "source", "time")
"""What an expression sees at its top: the event's data and the attributes of its envelope."""

_NOWHERE: frozenset[Path] = frozenset()
_TOP: frozenset[Path] = frozenset({()})
_CHAINS = ("subexpression", "index_expression", "pipe", "projection", "flatten")
_STEPS_INTO_LIST = ("index", "slice", "current", "identity")

_TEXT = frozenset({"string", "null"})
_LIST = frozenset({"array", "null"})
_RESULTS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("lower", "upper", "trim", "replace", "normalize_diacritics", "text", "timestamp"), _TEXT
    ),
    **dict.fromkeys(("from_base64", "join", "type", "to_string"), _TEXT),
    **dict.fromkeys(("split", "keys", "values", "map", "sort", "sort_by", "to_array"), _LIST),
    **dict.fromkeys(
        ("abs", "avg", "ceil", "floor", "length", "sum", "to_number"), frozenset({"number", "null"})
    ),
    **dict.fromkeys(("contains", "ends_with", "starts_with"), frozenset({"boolean"})),
    "find": frozenset({"object", "null"}),
    "merge": frozenset({"object"}),
    "reverse": frozenset({"array", "string"}),
    "multi_select_list": _LIST,
    "multi_select_dict": frozenset({"object", "null"}),
    "not_expression": frozenset({"boolean"}),
    "comparator": frozenset({"boolean", "null"}),
    "expref": frozenset({"expref"}),
    **dict.fromkeys(
        ("projection", "filter_projection", "value_projection", "flatten", "slice"), _LIST
    ),
}
"""The types that the result of a function or of another node may have; those of all others are not known before."""

_ORDERING = frozenset({"lt", "lte", "gt", "gte"})
_CONSTANTS = frozenset({"true", "false", "null"})
_OF_ONE_TEXT = frozenset({"lower", "upper", "trim", "normalize_diacritics"})
_PLAIN = frozenset({"field", "literal", "subexpression", "or_expression", "function_expression"})


_MOST_LEVELS = 100
"""Of brackets, functions and operators inside one another: each takes some of the interpreter's stack."""

_TOO_DEEP = f"the expression nests too deeply: more than {_MOST_LEVELS} levels"

EVALUATION_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What a JMESPath expression that compiles, or a function in it, raises for values that it cannot take."""


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
        except EVALUATION_ERRORS as error:
            reason = failure_reason(error)
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
    text: str,
    *,
    tables: Tables,
    has_property: Callable[[Path], bool],
    types_of: TypesOf | None = None,
) -> Expression:
    """Return `text` compiled, checked against the functions, the tables and the event's schema.

    With `types_of`, functions are also checked against the types of the properties that they are called with. Raises ExpressionError holding every problem.
    """
    parsed = parse_expression(text)
    findings = analyse(parsed.parsed, tables, types_of)
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


def parse_expression(text: str) -> ParsedResult:
    """Return `text` parsed; raises ExpressionError for what is no JMESPath, or can never be evaluated."""
    try:
        parsed = jmespath.compile(text)
    except RecursionError:
        raise ExpressionError([_TOO_DEEP]) from None
    except (JMESPathError, IndexError) as error:
        raise ExpressionError([_syntax_problem(error, text)]) from error
    except ValueError:  # of `int`
        raise ExpressionError(["a number in the expression has too many digits"]) from None
    nodes: list[Any] = [parsed.parsed]
    levels = 0
    while nodes:
        nodes = [one for node in nodes for one in node["children"] if isinstance(one, dict)]
        levels += 1
        if levels > _MOST_LEVELS:
            raise ExpressionError([_TOO_DEEP])
        if any(one["type"] == "slice" and one["children"][2] == 0 for one in nodes):
            raise ExpressionError(["a slice has a step other than 0"])
    return parsed


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
    rest = text[error.lex_position :]
    hint = "; a number stands in backticks, as in `1`" if rest[:1].isdigit() else ""
    return f"the expression breaks off at column {error.lex_position + 1}: {rest!r}{hint}"


def failure_reason(error: Exception) -> str:
    """Return why an evaluation failed, in types and names only."""
    if isinstance(error, UnusableArgumentError):
        return error.reason
    if isinstance(error, JMESPathTypeError):
        expected = " or ".join(error.expected_types)
        actual = TYPES_MAP.get(error.actual_type, error.actual_type)
        return f"{error.function_name}() takes {expected}, not {actual}"
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


def analyse(node: Node, tables: Iterable[str], types_of: TypesOf | None = None) -> "Analysis":
    """Return what a parsed expression reads and which of its calls cannot work, without evaluating it."""
    analysis = Analysis(frozenset(tables), types_of)
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
        hint = suggestion(name, SCOPE_NAMES) or (
            f"; an expression sees {', '.join(SCOPE_NAMES)}, and a constant stands in single quotes inside it"
        )
        return f"'{name}' is a name that expressions do not know{hint}"
    if name != "data":
        return f"'{'.'.join(path)}': '{name}' is text and has no properties" if rest else None
    if not rest or has_property(tuple(rest)):
        return None
    hint = ""
    if set(rest) & set(SCOPE_NAMES):
        hint = "; a filter sees the element alone: use find(list, 'key', value)"
    return f"'{'.'.join(path)}' is not a property of the event's schema{hint}"


@dataclass(frozen=True, slots=True)
class Analysis:
    """Visits the nodes of an expression; a value is the set of paths that it may be, empty when it is computed.

    Collects the `paths` that are read from the scope, and the `problems` of function calls.
    """

    tables: frozenset[str]
    types_of: TypesOf | None = None
    paths: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def visit(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        """Return what the node's value may be, where `context` is what it is evaluated on."""
        kind, children = node["type"], node["children"]
        if kind == "field":
            return self._field(node["value"], context)
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
        if kind == "comparator" and node["value"] in _ORDERING:
            self._check_order(children, context)
        if kind == "function_expression":
            self._check_call(node["value"], children, context)
        # a reference (&x) is evaluated against elements that only the function knows
        values = [
            self.visit(child, _NOWHERE if child["type"] == "expref" else context)
            for child in children
        ]
        if kind == "function_expression" and node["value"] == "find" and len(children) == 3:
            return self._found(values[0], children[1])
        return _NOWHERE

    def _field(self, name: str, context: frozenset[Path]) -> frozenset[Path]:
        if name in _CONSTANTS:
            self.problems.append(f"'{name}' is read as a name; the constant is `{name}`")
        paths = frozenset((*path, name) for path in context)
        self.paths.update(paths)
        return paths

    def _found(self, elements: frozenset[Path], key: Node) -> frozenset[Path]:
        """Return what `find` gives: an element, of which it read one property."""
        if isinstance(key.get("value"), str):
            self.paths.update((*path, key["value"]) for path in elements)
        return elements

    def _types(self, node: Node, context: frozenset[Path]) -> frozenset[str] | None:
        """Return the types that the node's value may have, None where only an event can tell."""
        path = _plain_path(node) if context == _TOP else ()
        if self.types_of is None or not path:
            return _static_types(node)
        if path[0] != "data":
            return _TEXT if path[0] in SCOPE_NAMES else None
        return self.types_of(path[1:]) if path[1:] else frozenset({"object"})

    def _check_call(self, name: str, arguments: list[Node], context: frozenset[Path]) -> None:
        known = MappingFunctions.FUNCTION_TABLE
        if name not in known:
            self.problems.append(f"there is no function {name}(){suggestion(name, known)}")
            return
        signature = known[name]["signature"]
        variadic = bool(signature) and bool(signature[-1].get("variadic"))
        expected, given = len(signature), len(arguments)
        constants = [constant(argument) for argument in arguments]
        if problem := constant_problem(name, constants):
            self.problems.append(problem)
        elif given < expected if variadic else given != expected:
            least = "at least " if variadic else ""
            plural = "" if expected == 1 else "s"
            self.problems.append(f"{name}() takes {least}{expected} argument{plural}, not {given}")
        elif name == "lookup":
            self._check_table(arguments[0])
        else:
            types = [self._types(argument, context) for argument in arguments]
            problem = _types_problem(name, signature, arguments, types) or _failure(name, constants)
            if problem:
                self.problems.append(problem)

    def _check_order(self, sides: list[Node], context: frozenset[Path]) -> None:
        for side in sides:
            types = self._types(side, context)
            if types is not None and not types & {"number", "string"}:
                self.problems.append(
                    f"<, <=, > and >= compare numbers or texts, never {_named(types)}"
                )

    def _check_table(self, argument: Node) -> None:
        table = argument.get("value") if argument["type"] == "literal" else None
        if not isinstance(table, str):
            self.problems.append(
                "lookup() takes the name of its table as plain text, as in lookup('name', …)"
            )
        elif table not in self.tables:
            hint = suggestion(table, self.tables) or f"; add [tables.{table}]"
            self.problems.append(f"lookup() names an unknown table '{table}'{hint}")


def constant(node: Node) -> tuple[bool, Any]:
    """Return whether a parsed expression is a constant, and which."""
    is_literal = node["type"] == "literal"
    return is_literal, node.get("value") if is_literal else None


def _types_problem(
    name: str,
    signature: Iterable[Mapping[str, Any]],
    arguments: list[Node],
    types: list[frozenset[str] | None],
) -> str | None:
    """Return why no event can give the function arguments of the types that it takes, None where one may."""
    parameters = [*signature]
    parameters += parameters[-1:] * (len(arguments) - len(parameters))  # of a variadic one
    for parameter, argument, given in zip(parameters, arguments, types, strict=True):
        accepted = parameter["types"]
        possible = {one.partition("-")[0] for one in accepted}
        if possible == {"expref"} and argument["type"] != "expref":
            return f"{name}() takes a reference (&…), as in &name"
        if not accepted or given is None:
            continue
        # what works for null alone never does anything
        if not (given - {"null"} or given) & possible:
            return (
                f"{name}() takes {' or '.join(accepted)}, never {_named(given - {'null'} or given)}"
            )
    return None


def _plain_path(node: Node) -> Path:
    """Return the path of a parsed expression that is nothing but names, an empty one for any other."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return ()
    steps = [_plain_path(child) for child in node["children"]]
    return tuple(name for step in steps for name in step) if all(steps) else ()


def _named(types: Iterable[str]) -> str:
    return " or ".join(sorted(types)).replace("expref", "a reference (&…)")


def _static_types(node: Node) -> frozenset[str] | None:
    """Return the types that the value of a parsed expression may have, None where only an event can tell."""
    kind = node["type"]
    known, value = constant(node)
    if known:
        return frozenset({TYPES_MAP[type(value).__name__]})
    if kind == "function_expression":
        return _RESULTS.get(node["value"])
    return _RESULTS.get(kind)


def _failure(name: str, constants: list[tuple[bool, Any]]) -> str | None:
    """Return why the call fails with what is constant in it, whatever an event has; None where it may work."""
    if not constants or not any(known for known, _ in constants):
        return None
    signature = MappingFunctions.FUNCTION_TABLE[name]["signature"]
    sample = [
        value if known else _sample(signature[min(index, len(signature) - 1)]["types"])
        for index, (known, value) in enumerate(constants)
    ]
    if _UNKNOWN in sample:
        return None
    try:
        MappingFunctions({}).call_function(name, sample)
    except EVALUATION_ERRORS as error:
        reason = failure_reason(error)
        return reason if reason.startswith(f"{name}(") else f"{name}() never works: {reason}"
    return None


_UNKNOWN = object()


def _sample(types: Iterable[str]) -> Any:
    """Return a value with which a call works if it can work at all, `_UNKNOWN` where there is no such value."""
    return None if "null" in types else _UNKNOWN
